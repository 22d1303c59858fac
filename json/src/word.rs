//! White space and the three words.

use crate::fault::{Fault, FaultKind};

/// A word of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

impl Word {
    /// The word as it is written.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Null => "null",
        }
    }
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
pub fn word(input: &[u8], at: usize) -> Result<(Word, usize), Fault> {
    let word = match input.get(at) {
        Some(b't') => Word::True,
        Some(b'f') => Word::False,
        Some(b'n') => Word::Null,
        _ => return Err(Fault::new(FaultKind::UnknownWord, at)),
    };
    if !input[at..].starts_with(word.text().as_bytes()) {
        return Err(Fault::new(FaultKind::UnknownWord, at));
    }
    Ok((word, at + word.text().len()))
}
