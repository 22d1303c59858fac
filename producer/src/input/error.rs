//! The errors of inputs, and which of them are refusals.
//!
//! An input that cannot be opened, or is of a format that is not read, is a refusal: nothing was done. One that fails
//! later has failed, and what came before the failure is stored.

use std::io;

use hydrant_core::Error;

/// Why an input ends early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The input cannot be opened, or its pattern leads to what cannot be looked at, so that files of it may be missing.
    #[error("cannot {attempt}: {remedy}")]
    Open {
        /// What was attempted.
        attempt: String,
        /// What to do about it.
        remedy: &'static str,
        /// The operating system's reason, where `remedy` does not say it.
        #[source]
        source: Option<io::Error>,
    },
    /// The input begins like something that is neither text, gzip nor zstd.
    #[error("`{name}` looks like {format}, which is not supported: {remedy}")]
    Format {
        /// The input's name.
        name: String,
        /// What it looks like.
        format: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Reading or decompressing failed; all records before were handed out.
    #[error("reading `{name}` failed in line {line}; the lines before it were accepted")]
    Read {
        /// The input's name.
        name: String,
        /// The line that could not be read to its end, from 1.
        line: u64,
        /// What failed.
        #[source]
        source: io::Error,
    },
}

/// A file that was truncated or rewritten while it was read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it was truncated or rewritten while it was read")]
pub struct Truncated;

impl From<InputError> for Error {
    fn from(error: InputError) -> Self {
        let refused = !matches!(error, InputError::Read { .. });
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        if refused {
            Error::refused(message)
        } else {
            Error::fatal(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use hydrant_core::Disposition;

    use super::*;

    #[test]
    fn an_input_that_fails_on_its_way_is_no_refusal() {
        let source = || io::Error::other("cable pulled");
        let name = || "in.ndjson".to_owned();
        let open = Error::from(InputError::Open {
            attempt: "open `in.ndjson`".to_owned(),
            remedy: "check the path",
            source: Some(source()),
        });
        assert_eq!(open.disposition(), Disposition::Refused);
        assert!(open.to_string().contains("cable pulled"));
        let absent = crate::input::files::file::check(std::path::Path::new("absent")).unwrap_err();
        assert_eq!(
            Error::from(absent).to_string(),
            "cannot open `absent`: there is no such file; check the path, or use `-` for standard input"
        );
        let read = Error::from(InputError::Read {
            name: name(),
            line: 7,
            source: source(),
        });
        assert_eq!(read.disposition(), Disposition::Fatal);
        let message = read.to_string();
        assert!(
            message.contains("line 7") && message.contains("cable pulled"),
            "{message}"
        );
    }
}
