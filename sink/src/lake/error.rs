//! The error of an object in the lake.

use hydrant_core::Error;

/// Why an object of a table cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The bytes are not those that were written.
    #[error("`{key}` is damaged: {detail}")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with the bytes.
        detail: String,
    },
    /// A newer program wrote the object.
    #[error(
        "`{key}` has version {found}, but this program reads versions up to {known}: upgrade it"
    )]
    Newer {
        /// The object.
        key: String,
        /// The version of the object.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// The sums of the object do not add up.
    #[error("`{key}` does not balance: {sums}")]
    Unbalanced {
        /// The object, or the interval that was to become one.
        key: String,
        /// What does not add up.
        sums: String,
    },
}

impl ObjectError {
    pub(crate) fn damaged(key: &str, detail: impl ToString) -> Self {
        ObjectError::Damaged {
            key: key.to_owned(),
            detail: detail.to_string(),
        }
    }
}

impl From<ObjectError> for Error {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Newer { .. } => Error::refused(error.to_string()),
            other => Error::fatal(other.to_string()),
        }
    }
}
