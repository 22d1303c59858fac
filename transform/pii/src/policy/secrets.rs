//! The keys for tokens, which print nothing but their ids.

use std::collections::BTreeMap;
use std::fmt;

use super::problems::PolicyProblem;
use crate::action::{TokenKey, is_key_id};

/// Fewest bytes of a secret: as many as the hash has.
pub const SECRET_BYTES_MIN: usize = 32;

/// Secrets by key id.
#[derive(Clone, Default)]
pub struct TokenKeys {
    by_id: BTreeMap<String, TokenKey>,
}

impl TokenKeys {
    /// No keys: enough for every policy without tokens.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds the secret with this id. All workers of a deployment need the same ones, and a new
    /// secret needs a new id.
    ///
    /// # Errors
    /// The id is not 1 to 16 small letters, digits and dashes, it exists already, or the secret has less
    /// than [`SECRET_BYTES_MIN`] bytes.
    pub fn insert(&mut self, id: &str, secret: &[u8]) -> Result<(), PolicyProblem> {
        let (problem, remedy) = if !is_key_id(id.as_bytes()) {
            ("the id is not valid", "use 1 to 16 of `a-z`, `0-9` and `-`")
        } else if secret.len() < SECRET_BYTES_MIN {
            (
                "the secret is shorter than 32 bytes",
                "make one with `openssl rand -hex 32`",
            )
        } else if self.by_id.contains_key(id) {
            ("the id exists already", "give every secret its own id")
        } else {
            self.by_id.insert(id.to_owned(), TokenKey::new(id, secret));
            return Ok(());
        };
        Err(PolicyProblem {
            place: format!("key `{id}`"),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        })
    }

    /// The ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(String::as_str)
    }

    pub(super) fn get(&self, id: &str) -> Option<&TokenKey> {
        self.by_id.get(id)
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.ids()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_secrets_and_bad_ids_are_refused_and_nothing_is_printed() {
        let mut keys = TokenKeys::none();
        assert!(keys.insert("a", &[1; 31]).is_err());
        assert!(keys.insert("A", &[1; 32]).is_err());
        assert!(keys.insert("", &[1; 32]).is_err());
        keys.insert("2026-11", &[77; 32]).unwrap();
        assert!(keys.insert("2026-11", &[1; 32]).is_err());
        assert_eq!(format!("{keys:?}"), r#"{"2026-11"}"#);
    }
}
