//! Errors of the lexer: why a text is not JSON.

/// An error of the lexer: what it refuses, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonFault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The offset in the input, in bytes.
    pub at: usize,
}

/// What is wrong, in words for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultKind(&'static str);

impl FaultKind {
    /// The input ends within a string.
    pub const CUT_STRING: Self = Self("the end of the input inside a string");
    /// A control character stands in a string.
    pub const CONTROL_CHARACTER: Self = Self("control character in a string");
    /// A backslash stands before a character that it does not escape.
    pub const UNKNOWN_ESCAPE: Self = Self("unknown escape");
    /// Four hexadecimal digits do not follow `\u`.
    pub const UNICODE_ESCAPE: Self = Self("bad unicode escape");
    /// An escape is half of a surrogate pair.
    pub const LONE_SURROGATE: Self = Self("lone surrogate");
    /// A number has no digit where it needs one.
    pub const NO_DIGIT: Self = Self("no digit where a number needs one");
    /// A number begins with a zero that another digit follows.
    pub const LEADING_ZERO: Self = Self("number with a leading zero");
    /// No digit follows the decimal point.
    pub const NO_FRACTION: Self = Self("no digit after the decimal point");
    /// No digit follows the `e`.
    pub const NO_EXPONENT: Self = Self("no digit in the exponent");
    /// A word is not `true`, `false` or `null`.
    pub const UNKNOWN_WORD: Self = Self("unknown word");
    /// Something else stands where a token is due, or the input ends there.
    pub const UNEXPECTED: Self = Self("unexpected character");
    /// Containers nest deeper than [`crate::DEPTH_MAX`].
    pub const TOO_DEEP: Self = Self("deeper nesting");

    /// The words.
    pub fn found(self) -> &'static str {
        self.0
    }
}

impl JsonFault {
    #[cold]
    pub(crate) fn new(kind: FaultKind, at: usize) -> Self {
        Self { kind, at }
    }
}
