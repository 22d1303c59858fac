//! Reads numbers: their grammar, their digits and their exponent.

use crate::fault::{FaultKind, JsonFault};

/// A number as it is written. Its value is the mantissa times ten to the power, with its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonNumber {
    /// The offset behind the number.
    pub end: usize,
    /// Whether it begins with a minus sign.
    pub negative: bool,
    /// Whether it has neither a fraction nor an exponent.
    pub integer: bool,
    /// How many digits the mantissa has, zeros included.
    pub digits: usize,
    /// The digits without sign and point, modulo 2^64: exact up to [`JsonNumber::EXACT_DIGITS`] digits.
    pub mantissa: u64,
    /// The exponent less the digits of the fraction. An exponent beyond `2^40` counts as `2^40`:
    /// no input has as many digits, so that the value is zero or infinite either way.
    pub power: i64,
}

impl JsonNumber {
    /// Numbers of up to so many digits fit the mantissa exactly.
    pub const EXACT_DIGITS: usize = 19;
}

const EXPONENT_MAX: i64 = 1 << 40;

/// Reads the number that starts at `start`.
///
/// # Errors
/// The text there is not a number.
#[inline(always)]
pub fn number(input: &[u8], start: usize) -> Result<JsonNumber, JsonFault> {
    let negative = input.get(start) == Some(&b'-');
    let first = start + usize::from(negative);
    let (mut mantissa, mut at) = digits(input, first, 0);
    let mut digits_read = at - first;
    if digits_read == 0 {
        return Err(JsonFault::new(FaultKind::NO_DIGIT, at));
    }
    if digits_read > 1 && input[first] == b'0' {
        return Err(JsonFault::new(FaultKind::LEADING_ZERO, first));
    }
    let mut power = 0;
    let integer = !matches!(input.get(at), Some(b'.' | b'e' | b'E'));
    if !integer {
        if input[at] == b'.' {
            let fraction = at + 1;
            (mantissa, at) = digits(input, fraction, mantissa);
            let length = at - fraction;
            if length == 0 {
                return Err(JsonFault::new(FaultKind::NO_FRACTION, at));
            }
            digits_read += length;
            power = i64::try_from(length).map_or(-EXPONENT_MAX, |length| -length);
        }
        if let Some(b'e' | b'E') = input.get(at) {
            let (exponent, end) = exponent(input, at + 1)?;
            power += exponent;
            at = end;
        }
    }
    debug_assert!(start < at && at <= input.len(), "a number ends in its text");
    Ok(JsonNumber {
        end: at,
        negative,
        integer,
        digits: digits_read,
        mantissa,
        power,
    })
}

/// Reads digits from `at` on, behind those that `value` has; answers the value and their end.
#[inline(always)]
fn digits(input: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    while let Some(digit) = digit(input, at) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (value, at)
}

#[inline(always)]
fn exponent(input: &[u8], mut at: usize) -> Result<(i64, usize), JsonFault> {
    let negative = input.get(at) == Some(&b'-');
    at += usize::from(matches!(input.get(at), Some(b'+' | b'-')));
    let first = at;
    let mut exponent: i64 = 0;
    while let Some(digit) = digit(input, at) {
        exponent = (exponent * 10 + i64::from(digit)).min(EXPONENT_MAX);
        at += 1;
    }
    if at == first {
        return Err(JsonFault::new(FaultKind::NO_EXPONENT, at));
    }
    Ok((if negative { -exponent } else { exponent }, at))
}

#[inline(always)]
fn digit(input: &[u8], at: usize) -> Option<u8> {
    let digit = input.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_in_parts() {
        let parts = |text: &str| {
            let number = number(text.as_bytes(), 0).unwrap();
            assert_eq!(number.end, text.len());
            (
                number.negative,
                number.integer,
                number.digits,
                number.mantissa,
                number.power,
            )
        };
        assert_eq!(parts("0"), (false, true, 1, 0, 0));
        assert_eq!(parts("-120"), (true, true, 3, 120, 0));
        assert_eq!(parts("1.50"), (false, false, 3, 150, -2));
        assert_eq!(parts("-2.5e+3"), (true, false, 2, 25, 2));
        assert_eq!(parts("7E-2"), (false, false, 1, 7, -2));
    }

    #[test]
    fn an_exponent_beyond_all_bounds_neither_panics_nor_wraps() {
        for digits in [
            "9".repeat(30),
            format!("{}9", "0".repeat(5_000)),
            "9".repeat(100_000),
        ] {
            let power = |text: String| number(text.as_bytes(), 0).unwrap().power;
            let small = digits.trim_start_matches('0').parse::<i64>();
            let wanted = small.unwrap_or(EXPONENT_MAX);
            assert_eq!(power(format!("1e{digits}")), wanted);
            assert_eq!(power(format!("1.5e-{digits}")), -wanted - 1);
        }
    }
}
