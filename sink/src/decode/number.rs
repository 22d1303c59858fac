//! The exact values of JSON's numbers.
//!
//! Promises that rounding makes no number an integer: what is one is decided by the digits. A fraction of zeros and an
//! exponent of zero are none.

use hydrant_json::JsonNumber as Written;

use super::reject::{DecodeResult, Reject};

/// A number, as far as columns care.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ParsedNumber {
    /// An integer that fits 64 bits.
    Integer(i64),
    /// `-0`: an integer, but not the same DOUBLE as 0.
    MinusZero,
    /// An integer beyond 64 bits.
    Huge,
    /// A number with a fraction or an exponent. Up to 2^53 it is an integer if the double is.
    Float(f64),
    /// A number with a fraction that the double has not.
    Rounded(f64),
    /// An integer beyond 2^53 that fits 64 bits and has an exponent.
    Whole(i64),
    /// A number with a fraction or an exponent, beyond any double.
    Infinite,
    /// A number that is not zero, but closer to it than any double.
    Vanishing,
}

impl ParsedNumber {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Integer(_) | Self::MinusZero => "integer",
            Self::Huge => "integer beyond 64 bits",
            Self::Float(_) | Self::Rounded(_) | Self::Whole(_) => {
                "number with a fraction or exponent"
            }
            Self::Infinite => "number beyond any DOUBLE",
            Self::Vanishing => "number closer to zero than any DOUBLE",
        }
    }
}

/// How many digits an integer of 64 bits has at most.
const INTEGER_DIGITS: u8 = 19;

const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The largest double up to which all integers are exact.
const EXACT_MAX: f64 = (1_u64 << 53) as f64;

/// Doubles beyond that which may be integers of 64 bits.
const BEYOND_EXACT: std::ops::Range<f64> = EXACT_MAX.next_up()..1e19;

/// Reads the number that starts at `start`; returns the number and where it ends.
pub(super) fn read_number(input: &[u8], start: usize) -> DecodeResult<(ParsedNumber, usize)> {
    let written = hydrant_json::number(input, start)?;
    let text = &input[start..written.end];
    let number = if written.integer {
        integer(text, &written)
    } else {
        double(text, &written)
            .ok_or_else(|| Reject::malformed("number that cannot be read", start))?
    };
    Ok((number, written.end))
}

#[inline(always)]
fn double(text: &[u8], written: &Written) -> Option<ParsedNumber> {
    let value = if written.digits <= Written::EXACT_DIGITS
        && written.mantissa <= 1 << 53
        && let Some(scale) = POWERS_OF_TEN.get(written.power.unsigned_abs() as usize)
    {
        // Both operands are exact doubles, so the one operation rounds correctly.
        let magnitude = written.mantissa as f64;
        let value = if written.power < 0 {
            // At most 2^53 times smaller than the mantissa, so that what it rounds off is less than its last digit.
            magnitude / scale
        } else {
            let value = magnitude * scale;
            if BEYOND_EXACT.contains(&value) {
                return long_double(text);
            }
            value
        };
        if written.negative { -value } else { value }
    } else {
        return long_double(text);
    };
    Some(ParsedNumber::Float(value))
}

/// A number with a fraction or an exponent that has many digits, or is large.
#[inline(never)]
fn long_double(text: &[u8]) -> Option<ParsedNumber> {
    let written = std::str::from_utf8(text).ok()?;
    let value: f64 = written.parse().ok()?;
    if value.fract() != 0.0 && value.is_finite() {
        return Some(ParsedNumber::Float(value));
    }
    let (mantissa, exponent) = written.split_once(['e', 'E']).unwrap_or((written, ""));
    let double = || match value.is_finite() {
        _ if value == 0.0 && mantissa.contains(|digit| ('1'..='9').contains(&digit)) => {
            ParsedNumber::Vanishing
        }
        true => ParsedNumber::Float(value),
        false => ParsedNumber::Infinite,
    };
    let has_exponent = exponent.contains(|digit| ('1'..='9').contains(&digit));
    let whole = match read_decimal(text, INTEGER_DIGITS, 0) {
        Decimal::Unscaled(whole) => i64::try_from(whole).ok(),
        Decimal::TooLarge => None,
        Decimal::TooFine if value != 0.0 && value.abs() <= EXACT_MAX => {
            return Some(ParsedNumber::Rounded(value));
        }
        Decimal::TooFine => return Some(double()),
    };
    Some(match whole {
        Some(whole) if whole.unsigned_abs() <= 1 << 53 => ParsedNumber::Float(value),
        Some(whole) if has_exponent => ParsedNumber::Whole(whole),
        Some(whole) => ParsedNumber::Integer(whole),
        None if has_exponent => double(),
        None => ParsedNumber::Huge,
    })
}

#[inline(always)]
fn integer(text: &[u8], written: &Written) -> ParsedNumber {
    if written.mantissa == 0 && written.negative && written.digits == 1 {
        return ParsedNumber::MinusZero;
    }
    if written.digits < Written::EXACT_DIGITS {
        let value = written.mantissa.cast_signed();
        return ParsedNumber::Integer(if written.negative { -value } else { value });
    }
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.parse()
        .map_or(ParsedNumber::Huge, ParsedNumber::Integer)
}

/// What a number's text is as a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decimal {
    /// The value times ten to the scale.
    Unscaled(i128),
    /// More digits behind the point than the scale has.
    TooFine,
    /// More digits in all than the precision has.
    TooLarge,
}

/// Reads the text of a valid JSON number as a decimal. Zeros at the end of the fraction are free.
pub(super) fn read_decimal(text: &[u8], precision: u8, scale: u8) -> Decimal {
    let (negative, text) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    let power = hydrant_json::number(text, 0).map_or(0, |written| written.power);
    let exponent_at = memchr::memchr2(b'e', b'E', text);
    let mantissa = &text[..exponent_at.unwrap_or(text.len())];
    // How many of the written digits lie beyond the scale (positive), or are missing (negative).
    let beyond = -power - i64::from(scale);
    let digits = || {
        mantissa
            .iter()
            .filter(|byte| **byte != b'.')
            .map(|byte| byte - b'0')
    };
    let count = i64::try_from(digits().count()).unwrap_or(i64::MAX);
    let kept = usize::try_from(count.saturating_sub(beyond).clamp(0, count)).unwrap_or(0);
    if digits().skip(kept).any(|digit| digit != 0) {
        return Decimal::TooFine;
    }
    if digits().all(|digit| digit == 0) {
        return Decimal::Unscaled(0);
    }
    let limit = 10_i128.pow(u32::from(precision));
    let mut value: i128 = 0;
    let zeros = usize::try_from((-beyond).max(0)).unwrap_or(usize::MAX);
    for digit in digits().take(kept).chain(std::iter::repeat_n(0, zeros)) {
        value = match value
            .checked_mul(10)
            .and_then(|value| value.checked_add(digit.into()))
        {
            Some(value) if value < limit => value,
            _ => return Decimal::TooLarge,
        };
    }
    Decimal::Unscaled(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> ParsedNumber {
        let (number, end) = read_number(text.as_bytes(), 0).unwrap();
        assert_eq!(end, text.len(), "{text}");
        number
    }

    proptest! {
        #[test]
        fn doubles_are_read_as_the_standard_library_reads_them(
            value in prop::num::f64::ANY.prop_filter("finite", |value| value.is_finite()),
            digits in "-?(0|[1-9][0-9]{0,24})\\.[0-9]{1,24}([eE][+-]?[0-9]{1,3})?",
        ) {
            for text in [format!("{value:e}"), format!("{value:?}e0"), digits] {
                let text = if text.contains(['.', 'e', 'E']) { text } else { format!("{text}.0") };
                let Ok(wanted) = text.parse::<f64>() else { continue };
                match read(&text) {
                    ParsedNumber::Float(found) => prop_assert_eq!(found.to_bits(), wanted.to_bits()),
                    ParsedNumber::Infinite => prop_assert!(wanted.is_infinite()),
                    ParsedNumber::Vanishing => prop_assert!(wanted == 0.0),
                    ParsedNumber::Rounded(found) => {
                        prop_assert_eq!(found.to_bits(), wanted.to_bits());
                        prop_assert_eq!(decimal_of(&text, 38, 0), Decimal::TooFine, "{}", text);
                    }
                    ParsedNumber::Whole(found) => {
                        prop_assert_eq!(decimal_of(&text, 38, 0), Decimal::Unscaled(found.into()));
                    }
                    ParsedNumber::Integer(_) | ParsedNumber::Huge => {
                        prop_assert_ne!(plain(&text), text.as_str());
                    }
                    other => prop_assert!(false, "{} as {:?}", text, other),
                }
            }
        }

        #[test]
        fn numbers_with_any_exponent_are_read_as_the_standard_library_reads_them(
            text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?[eE][+-]?[0-9]{1,30}",
        ) {
            let wanted: f64 = text.parse().unwrap();
            match read(&text) {
                ParsedNumber::Float(found) | ParsedNumber::Rounded(found) => {
                    prop_assert_eq!(found.to_bits(), wanted.to_bits());
                }
                ParsedNumber::Whole(found) => {
                    prop_assert_eq!((found as f64).to_bits(), wanted.to_bits());
                }
                ParsedNumber::Infinite => prop_assert!(wanted.is_infinite()),
                ParsedNumber::Vanishing => prop_assert!(wanted == 0.0),
                other => prop_assert_ne!(plain(&text), text.as_str(), "{:?}", other),
            }
        }

        #[test]
        fn rounding_makes_no_number_an_integer(
            text in "-?(0|[1-9][0-9]{0,20})(\\.(0{0,20}|9{0,20}|[0-9]{1,20})[0-9])?([eE][+-]?(0|[0-9]{1,2}))?",
        ) {
            let integer = match decimal_of(&text, 38, 0) {
                Decimal::Unscaled(integer) => i64::try_from(integer).ok(),
                _ => None,
            };
            match read(&text) {
                ParsedNumber::Integer(found) | ParsedNumber::Whole(found) => {
                    prop_assert_eq!(Some(found), integer, "{}", text);
                }
                ParsedNumber::MinusZero => prop_assert_eq!(Some(0), integer),
                ParsedNumber::Float(found) if found.fract() == 0.0 && found.abs() <= EXACT_MAX => {
                    prop_assert_eq!(Some(found as i64), integer, "{}", text);
                }
                other => prop_assert_eq!(None, integer, "{} as {:?}", text, other),
            }
        }

        #[test]
        fn decimals_with_any_exponent_are_exact_or_refused_for_their_reason(
            sign in "-?",
            whole in "0|[1-9][0-9]{0,24}",
            fraction in "[0-9]{0,24}",
            exponent in "[+-]?[0-9]{1,30}",
            precision in 1_u8..39,
            scale in 0_u8..39,
        ) {
            let scale = scale.min(precision);
            let point = if fraction.is_empty() { "" } else { "." };
            let text = format!("{sign}{whole}{point}{fraction}e{exponent}");
            // Shifts the digits without a limit, which 30 digits of an exponent do not reach in 128 bits.
            let digits = format!("{whole}{fraction}");
            let digits = digits.trim_start_matches('0');
            let significant = digits.trim_end_matches('0');
            let power = exponent.parse::<i128>().unwrap() - fraction.len() as i128
                + (digits.len() - significant.len()) as i128
                + i128::from(scale);
            let wanted = if significant.is_empty() {
                Decimal::Unscaled(0)
            } else if power < 0 {
                Decimal::TooFine
            } else if significant.len() as i128 + power > i128::from(precision) {
                Decimal::TooLarge
            } else {
                let zeros = "0".repeat(power as usize);
                let value: i128 = format!("{significant}{zeros}").parse().unwrap();
                Decimal::Unscaled(if sign.is_empty() { value } else { -value })
            };
            prop_assert_eq!(read_decimal(text.as_bytes(), precision, scale), wanted, "{}", text);
        }

        #[test]
        fn integers_are_exact_or_told_to_be_huge(value in any::<i128>(), small in any::<i64>()) {
            for value in [value, value >> 60, i128::from(small)] {
                let wanted = match i64::try_from(value) {
                    Ok(value) => ParsedNumber::Integer(value),
                    Err(_) => ParsedNumber::Huge,
                };
                prop_assert_eq!(read(&value.to_string()), wanted);
            }
        }

        #[test]
        fn decimals_are_exact(unscaled in -(10_i128.pow(30))..10_i128.pow(30), scale in 0_u8..8) {
            let unit = 10_i128.pow(u32::from(scale));
            let sign = if unscaled < 0 { "-" } else { "" };
            let (whole, part) = (unscaled.abs() / unit, unscaled.abs() % unit);
            let width = usize::from(scale);
            let text = match scale {
                0 => format!("{sign}{whole}"),
                _ => format!("{sign}{whole}.{part:0width$}00"),
            };
            prop_assert_eq!(read_decimal(text.as_bytes(), 38, scale), Decimal::Unscaled(unscaled));
            let shifted = format!("{unscaled}e-{scale}");
            prop_assert_eq!(read_decimal(shifted.as_bytes(), 38, scale), Decimal::Unscaled(unscaled));
        }
    }

    #[test]
    fn a_decimal_keeps_to_its_digits() {
        for (text, wanted) in [
            ("99.99", Decimal::Unscaled(9_999)),
            ("99.990", Decimal::Unscaled(9_999)),
            ("100", Decimal::TooLarge),
            ("1e2", Decimal::TooLarge),
            ("1e99999999999999999999", Decimal::TooLarge),
            ("1e-99999999999999999999", Decimal::TooFine),
            ("1e9223372036854775807", Decimal::TooLarge),
            ("1.5e9223372036854775807", Decimal::TooLarge),
            ("1e-9223372036854775808", Decimal::TooFine),
            ("1.50e-9223372036854775808", Decimal::TooFine),
            ("0.0e9223372036854775807", Decimal::Unscaled(0)),
            ("0e-9223372036854775808", Decimal::Unscaled(0)),
            ("0e-99999999999999999999", Decimal::Unscaled(0)),
            ("99.999", Decimal::TooFine),
            ("0.005", Decimal::TooFine),
            ("1E-2", Decimal::Unscaled(1)),
            ("-0", Decimal::Unscaled(0)),
        ] {
            assert_eq!(read_decimal(text.as_bytes(), 4, 2), wanted, "{text}");
        }
        let most = "9".repeat(38);
        assert_eq!(
            read_decimal(most.as_bytes(), 38, 0),
            Decimal::Unscaled(most.parse().unwrap())
        );
        assert_eq!(
            read_decimal(format!("{most}0").as_bytes(), 38, 0),
            Decimal::TooLarge
        );
    }
    #[test]
    fn exponents_at_the_ends_of_64_bits_are_zero_or_infinite() {
        for mantissa in ["1", "1.5", "0.1", "123456789.123456789", "0", "0.0"] {
            for exponent in [
                "9223372036854775806",
                "9223372036854775807",
                "9223372036854775808",
                "9223372036854775829",
                "18446744073709551615",
                "18446744073709551616",
                "99999999999999999999",
                "340282366920938463463374607431768211456",
                "1099511627776",
                "1099511627777",
            ] {
                let is_zero = mantissa.starts_with('0') && mantissa != "0.1";
                let [large, small] = if is_zero {
                    [ParsedNumber::Float(0.0); 2]
                } else {
                    [ParsedNumber::Infinite, ParsedNumber::Vanishing]
                };
                assert_eq!(read(&format!("{mantissa}e{exponent}")), large);
                assert_eq!(read(&format!("{mantissa}E+{exponent}")), large);
                assert_eq!(read(&format!("{mantissa}e-{exponent}")), small);
            }
        }
    }

    /// The number without a fraction or an exponent of zeros.
    fn plain(text: &str) -> &str {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, ""));
        let mantissa_is_all = exponent.bytes().all(|byte| b"+-0".contains(&byte));
        let whole = mantissa
            .split_once('.')
            .filter(|(_, fraction)| fraction.bytes().all(|digit| digit == b'0'));
        match mantissa_is_all {
            true => whole.map_or(mantissa, |(whole, _)| whole),
            false => text,
        }
    }

    /// A decimal by arithmetic on its written digits.
    fn decimal_of(text: &str, precision: usize, scale: i64) -> Decimal {
        let (sign, text) = text
            .strip_prefix('-')
            .map_or(("", text), |rest| ("-", rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{whole}{fraction}");
        if digits.bytes().all(|digit| digit == b'0') {
            return Decimal::Unscaled(0);
        }
        let huge = if exponent.starts_with('-') {
            -1_000_000_000
        } else {
            1_000_000_000
        };
        let exponent: i64 = exponent
            .parse()
            .unwrap_or(huge)
            .clamp(-1_000_000_000, 1_000_000_000);
        let shift = exponent - fraction.len() as i64 + scale;
        for _ in shift..0 {
            match digits.pop() {
                Some('0') => {}
                Some(_) | None => return Decimal::TooFine,
            }
        }
        let digits = digits.trim_start_matches('0');
        let zeros = usize::try_from(shift.max(0)).unwrap();
        if digits.len() + zeros > precision {
            return Decimal::TooLarge;
        }
        Decimal::Unscaled(
            format!("{sign}{digits}{}", "0".repeat(zeros))
                .parse()
                .unwrap(),
        )
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        hydrant_fuzz::Target::new("sink-numbers")
            .tokens(&[
                "1.5e-99999999999999999999",
                "9223372036854775807",
                "e-",
                "E+",
                ".",
                "0000",
                "99999999999999999999",
            ])
            .bytes_max(2_000)
            .run(|input| {
                let (number, end) = match read_number(input, 0) {
                    Ok(read) => read,
                    Err(reject) => return reject.found,
                };
                let text = std::str::from_utf8(&input[..end]).unwrap();
                let whole = plain(text);
                match number {
                    ParsedNumber::Integer(value) => assert_eq!(whole.parse(), Ok(value)),
                    ParsedNumber::MinusZero => assert_eq!(text, "-0"),
                    ParsedNumber::Huge => assert!(whole.parse::<i64>().is_err()),
                    ParsedNumber::Vanishing => assert_eq!(text.parse::<f64>().unwrap().abs(), 0.0),
                    ParsedNumber::Float(value) | ParsedNumber::Rounded(value) => {
                        assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
                    }
                    ParsedNumber::Whole(value) => {
                        assert_eq!(decimal_of(text, 19, 0), Decimal::Unscaled(value.into()));
                    }
                    ParsedNumber::Infinite => assert!(text.parse::<f64>().unwrap().is_infinite()),
                }
                for (precision, scale) in [(38, 0), (38, 38), (18, 6), (4, 2), (1, 1)] {
                    let wanted = decimal_of(text, usize::from(precision), i64::from(scale));
                    assert_eq!(
                        read_decimal(&input[..end], precision, scale),
                        wanted,
                        "({precision},{scale})"
                    );
                }
                number.kind()
            });
    }
}
