//! Integers as JSON numbers write them, also with a fraction of zeros or an exponent: some encoders
//! know only floating point and write `4.111111111111111E15`.

use std::str::FromStr;

use crate::text::windows::leading;

/// Most digits that are read.
const DIGITS_MAX: usize = 24;

/// An integer in decimal digits without leading zeros.
pub(super) struct Integer {
    digits: [u8; DIGITS_MAX],
    count: usize,
    pub(super) negative: bool,
}

impl Integer {
    /// Reads a JSON number; `None` if it has a fraction, or more than 24 digits.
    pub(super) fn read(number: &[u8]) -> Option<Self> {
        let (negative, rest) = match number {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let mark = rest.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (mantissa, exponent) = match mark {
            Some(mark) => (&rest[..mark], parsed::<i32>(&rest[mark + 1..])?),
            None => (rest, 0),
        };
        let whole = leading(mantissa, u8::is_ascii_digit);
        let fraction = mantissa.get(whole.len() + 1..).unwrap_or_default();
        // The place of the decimal point, counted in digits: all behind it have to be zeros.
        let point = whole.len() as i64 + i64::from(exponent);
        let point = usize::try_from(point).unwrap_or(0);
        let zeros = point.saturating_sub(whole.len() + fraction.len());
        let zeros = std::iter::repeat_n(&b'0', zeros.min(64));
        let mut integer = Self {
            digits: [b'0'; DIGITS_MAX],
            count: 0,
            negative,
        };
        for (index, &digit) in whole.iter().chain(fraction).chain(zeros).enumerate() {
            if index < point {
                integer.push(digit)?;
            } else if digit != b'0' {
                return None;
            }
        }
        Some(integer)
    }

    fn push(&mut self, digit: u8) -> Option<()> {
        if self.count > 0 || digit != b'0' {
            *self.digits.get_mut(self.count)? = digit;
            self.count += 1;
        }
        Some(())
    }

    /// The digits.
    pub(super) fn digits(&self) -> &[u8] {
        &self.digits[..self.count]
    }
}

/// The value of a few digits.
pub(super) fn value_of(digits: &[u8]) -> u32 {
    let more = |value, digit: &u8| value * 10 + u32::from(digit - b'0');
    digits.iter().fold(0, more)
}

/// The digits of an integer that is not written as them alone.
pub(crate) fn plain_integer(number: &[u8]) -> Option<Vec<u8>> {
    let written = number.strip_prefix(b"-").unwrap_or(number);
    if written.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Integer::read(number).map(|integer| integer.digits().to_vec())
}

/// What a text stands for, if all of it is such a thing.
pub(super) fn parsed<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_however_they_are_written() {
        for (number, digits) in [
            ("4111", Some("4111")),
            ("-4111", Some("4111")),
            ("4111.00", Some("4111")),
            ("4.111e3", Some("4111")),
            ("4.111E+3", Some("4111")),
            ("41110e-1", Some("4111")),
            ("4.1e5", Some("410000")),
            ("0.4111e4", Some("4111")),
            ("0", Some("")),
            ("4111.5", None),
            ("4111e-1", None),
            ("1e99", None),
            ("1e99999999999", None),
            ("1234567890123456789012345", None),
        ] {
            let read = Integer::read(number.as_bytes());
            let read = read.map(|integer| String::from_utf8(integer.digits().to_vec()).unwrap());
            assert_eq!(read.as_deref(), digits, "{number}");
        }
    }
}
