//! Errors of the lexer: why a text is not JSON.

/// An error of the lexer: what it refuses, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonFault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The offset in the input, in bytes.
    pub at: usize,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// The input ends within a string.
    CutString,
    /// A control character stands in a string.
    ControlCharacter,
    /// A backslash stands before a character that it does not escape.
    UnknownEscape,
    /// Four hexadecimal digits do not follow `\u`.
    UnicodeEscape,
    /// An escape is half of a surrogate pair.
    LoneSurrogate,
    /// A number has no digit where it needs one.
    NoDigit,
    /// A number begins with a zero that another digit follows.
    LeadingZero,
    /// No digit follows the decimal point.
    NoFraction,
    /// No digit follows the `e`.
    NoExponent,
    /// A word is not `true`, `false` or `null`.
    UnknownWord,
    /// Something else stands where a token is due, or the input ends there.
    Unexpected,
    /// Containers nest deeper than [`crate::DEPTH_MAX`].
    TooDeep,
}

impl JsonFault {
    #[cold]
    pub(crate) fn new(kind: FaultKind, at: usize) -> Self {
        Self { kind, at }
    }
}

impl FaultKind {
    /// The fault in words, for messages.
    #[must_use]
    pub fn found(self) -> &'static str {
        match self {
            Self::CutString => "end within a string",
            Self::ControlCharacter => "control character in a string",
            Self::UnknownEscape => "unknown escape",
            Self::UnicodeEscape => "bad unicode escape",
            Self::LoneSurrogate => "lone surrogate",
            Self::NoDigit => "no digit where a number needs one",
            Self::LeadingZero => "number with a leading zero",
            Self::NoFraction => "no digit behind the point",
            Self::NoExponent => "no digit in the exponent",
            Self::UnknownWord => "unknown word",
            Self::Unexpected => "unexpected character",
            Self::TooDeep => "deeper nesting",
        }
    }
}
