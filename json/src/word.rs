//! Reads white space and the words `true`, `false` and `null`.

use crate::fault::{FaultKind, JsonFault};

/// One of the three words of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

/// The place of the first byte that is not white space, from `at` on.
#[must_use]
#[inline(always)]
pub fn skip_space(input: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = input.get(at) {
        at += 1;
    }
    at
}

/// Reads the word that starts at `at`; answers it and the place behind it.
///
/// # Errors
/// Another word stands there, or none.
#[inline(always)]
pub fn word(input: &[u8], at: usize) -> Result<(Word, usize), JsonFault> {
    // Each word by itself, so that it is compared as one number and not as bytes of any length.
    let rest = input.get(at..).unwrap_or_default();
    if rest.starts_with(b"true") {
        Ok((Word::True, at + 4))
    } else if rest.starts_with(b"null") {
        Ok((Word::Null, at + 4))
    } else if rest.starts_with(b"false") {
        Ok((Word::False, at + 5))
    } else {
        Err(JsonFault::new(FaultKind::UNKNOWN_WORD, at))
    }
}
