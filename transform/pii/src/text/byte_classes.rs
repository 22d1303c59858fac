//! The byte classes that decide which texts the detectors look at.
//!
//! Owns one 256-entry table. While the walker looks for the end of a string it joins the classes
//! of the bytes it passes, so that one look-up per byte yields both the end and the triggers of
//! every detector. A string whose classes trigger nothing is never read again. Refuses to decide
//! anything: a class only says that a detector has to look.

/// A set of byte classes.
pub(crate) type Classes = u16;

/// ASCII digits.
pub(crate) const DIGIT: Classes = 1;
/// `@`.
pub(crate) const AT: Classes = 1 << 1;
/// `:`.
pub(crate) const COLON: Classes = 1 << 2;
/// `.`.
pub(crate) const DOT: Classes = 1 << 3;
/// `-`.
pub(crate) const DASH: Classes = 1 << 4;
/// `A`, the first letter of every AWS access key.
pub(crate) const CAPITAL_A: Classes = 1 << 5;
/// `J`, the third letter of every JSON Web Token.
pub(crate) const CAPITAL_J: Classes = 1 << 6;
/// Bytes of characters outside ASCII: the text has to be folded.
pub(crate) const HIGH: Classes = 1 << 7;
/// The backslash: the text has to be decoded.
pub(crate) const ESCAPE: Classes = 1 << 8;
/// The quotation mark.
pub(crate) const QUOTE: Classes = 1 << 9;
/// Control characters, which a JSON string may not hold.
pub(crate) const CONTROL: Classes = 1 << 10;
/// Capital letters.
pub(crate) const CAPITAL: Classes = 1 << 11;
/// Letters of hexadecimal digits.
pub(crate) const HEX_LETTER: Classes = 1 << 12;
/// `%`, which may hide any other byte in an URL.
pub(crate) const PERCENT: Classes = 1 << 13;

/// `=`, which may stand between a name and its value.
pub(crate) const EQUALS: Classes = 1 << 14;

/// The classes at which the search for the end of a string stops.
pub(crate) const STOP: Classes = ESCAPE | QUOTE | CONTROL;

/// The classes of each byte.
pub(crate) static TABLE: [Classes; 256] = table();

const fn table() -> [Classes; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut class = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            b'@' => AT,
            b':' => COLON,
            b'.' => DOT,
            b'-' => DASH,
            b'A' => CAPITAL_A | CAPITAL,
            b'J' => CAPITAL_J | CAPITAL,
            b'B'..=b'Z' => CAPITAL,
            b'\\' => ESCAPE,
            b'"' => QUOTE,
            b'%' => PERCENT,
            b'=' => EQUALS,
            0..=0x1f => CONTROL,
            0x80..=0xff => HIGH,
            _ => 0,
        };
        if matches!(byte as u8, b'a'..=b'f' | b'A'..=b'F') {
            class |= HEX_LETTER;
        }
        table[byte] = class;
        byte += 1;
    }
    table
}

/// The joined classes of `text`.
pub(crate) fn of(text: &[u8]) -> Classes {
    text.iter()
        .fold(0, |joined, &byte| joined | TABLE[usize::from(byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_join_over_a_text() {
        assert_eq!(of(b"abc"), HEX_LETTER);
        assert_eq!(of(b"x@1"), AT | DIGIT);
        assert_eq!(of("é".as_bytes()), HIGH);
        assert_eq!(of(b"\x1f\"\\"), STOP);
        assert_eq!(of(b"A") & (CAPITAL | CAPITAL_A), CAPITAL | CAPITAL_A);
    }
}
