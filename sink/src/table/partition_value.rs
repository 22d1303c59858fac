//! The value of a field as it names a partition.
//!
//! Promises one text for equal values: `1`, `1.0` and `1e0` are one partition, of whatever length the numbers are.

use hydrant_json::{JsonString, unescape};

use super::path_text::{DEFAULT_PARTITION, encode, is_plain_in_value, shortened};
use crate::schema::{PartitionColumn, PartitionKind};

/// Integers of so many digits are written out; longer ones have an exponent.
const INTEGER_DIGITS_MAX: i64 = 40;

/// A number with a larger exponent names no partition.
const EXPONENT_MAX: i64 = 1_000_000;

/// The value of a field that names a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartitionValue {
    form: ValueForm,
    /// The value as a text without escapes.
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum ValueForm {
    /// An integer of 64 bits.
    Integer,
    /// Any other number.
    Number,
    Boolean,
    Text,
    /// The start and a digest of what is too long. It was rescued when it was read.
    Shortened,
}

/// What a JSON value is to a partition.
pub(crate) struct ReadValue {
    /// `None` is the default partition.
    pub(crate) value: Option<PartitionValue>,
    /// Whether the value can be had back from the path, if the column has its type.
    pub(crate) is_whole: bool,
}

impl ReadValue {
    /// Reads a valid JSON value that is not null, for a path with room for `bytes_max` bytes.
    pub(crate) fn of(token: &[u8], bytes_max: usize) -> Self {
        let nothing = ReadValue {
            value: None,
            is_whole: false,
        };
        let Some((form, text)) = read(token) else {
            return nothing;
        };
        if text.is_empty() || text == DEFAULT_PARTITION {
            return nothing;
        }
        let encoded = encode_value(&text);
        match shortened(&text, &encoded, bytes_max, is_plain_in_value) {
            None => ReadValue {
                value: Some(PartitionValue { form, text }),
                is_whole: true,
            },
            Some(text) => ReadValue {
                value: Some(PartitionValue {
                    form: ValueForm::Shortened,
                    text,
                }),
                is_whole: false,
            },
        }
    }
}

/// Whether [`ReadValue::of`] surely has a whole value; it costs less.
pub(crate) fn is_surely_whole(token: &[u8], bytes_max: usize) -> bool {
    match token {
        [b'{' | b'[', ..] | [b'"', b'"'] => false,
        // One with an exponent may be written out longer.
        [b'-' | b'0'..=b'9', ..] if memchr::memchr2(b'e', b'E', token).is_some() => false,
        _ => {
            token.len() <= bytes_max / 3
                && !token.contains(&b'\\')
                && token.get(1..token.len() - 1) != Some(DEFAULT_PARTITION.as_bytes())
        }
    }
}

fn read(token: &[u8]) -> Option<(ValueForm, String)> {
    match token.first()? {
        b'"' => {
            let mut text = Vec::with_capacity(token.len());
            let inside = JsonString {
                start: 1,
                end: token.len() - 1,
                plain: false,
            };
            unescape(token, inside, &mut text).ok()?;
            Some((ValueForm::Text, String::from_utf8(text).ok()?))
        }
        b't' | b'f' => Some((
            ValueForm::Boolean,
            String::from_utf8_lossy(token).into_owned(),
        )),
        b'-' | b'0'..=b'9' => {
            let text = canonical_number(std::str::from_utf8(token).ok()?)?;
            let form = match text.parse::<i64>() {
                Ok(_) => ValueForm::Integer,
                Err(_) => ValueForm::Number,
            };
            Some((form, text))
        }
        _ => None,
    }
}

/// The one text of all ways to write a number; `None` when its exponent is beyond [`EXPONENT_MAX`]. Nothing is rounded.
fn canonical_number(text: &str) -> Option<String> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let exponent: i64 = exponent.parse().ok()?;
    if exponent.abs() > EXPONENT_MAX {
        return None;
    }
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX / 4);
    let power = exponent - length(fraction) + length(digits) - length(significant);
    let count = length(significant);
    if power >= 0 && count + power <= INTEGER_DIGITS_MAX {
        let zeros = usize::try_from(power).unwrap_or_default();
        return Some(format!("{sign}{significant}{}", "0".repeat(zeros)));
    }
    // Where the point lies, counted from the first digit.
    let point = count + power;
    if power < 0 && (-5..=INTEGER_DIGITS_MAX).contains(&point) {
        let (whole, fraction) = match usize::try_from(point) {
            Ok(point) if point > 0 => significant.split_at(point),
            _ => ("0", significant),
        };
        let zeros = usize::try_from(-point).unwrap_or_default();
        return Some(format!("{sign}{whole}.{}{fraction}", "0".repeat(zeros)));
    }
    let (first, rest) = significant.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    Some(format!("{sign}{first}{dot}{rest}e{}", point - 1))
}

/// A value as a part of a path. Some versions of DuckDB take `null` there for a null, whatever the type of its column
/// is, so its first letter has a percent sign.
fn encode_value(text: &str) -> String {
    let encoded = encode(text, is_plain_in_value);
    match text.eq_ignore_ascii_case("null") {
        true => format!("%{:02X}{}", encoded.as_bytes()[0], &encoded[1..]),
        false => encoded,
    }
}

impl PartitionValue {
    /// The value in the path of a column of this type; `None` is the default partition.
    pub(crate) fn in_path(&self, kind: PartitionKind) -> Option<String> {
        let is_readable = match kind {
            PartitionKind::Bigint => self.form == ValueForm::Integer,
            PartitionKind::Boolean => self.form == ValueForm::Boolean,
            _ => true,
        };
        is_readable.then(|| encode_value(&self.text))
    }

    /// The value as JSON, unless a column of this type gives it back, or it was rescued when it was read.
    pub(crate) fn lost_to(&self, column: &PartitionColumn) -> Option<Vec<u8>> {
        match (self.form, column.kind) {
            (_, PartitionKind::Varchar) if column.declared => None,
            (ValueForm::Shortened, _)
            | (ValueForm::Integer, PartitionKind::Bigint)
            | (ValueForm::Boolean, PartitionKind::Boolean)
            | (ValueForm::Text, PartitionKind::Varchar) => None,
            _ => self.json(),
        }
    }

    /// The value as JSON, unless it was too long, so that it was rescued.
    pub(crate) fn json(&self) -> Option<Vec<u8>> {
        match self.form {
            ValueForm::Shortened => None,
            ValueForm::Text => serde_json::to_vec(&self.text).ok(),
            _ => Some(self.text.clone().into_bytes()),
        }
    }

    /// What the value is, for people.
    pub(crate) fn word(&self) -> &'static str {
        match self.form {
            ValueForm::Integer | ValueForm::Number => "number",
            ValueForm::Boolean => "boolean",
            ValueForm::Text | ValueForm::Shortened => "string",
        }
    }

    /// The type of a column that has such values and none of another form.
    pub(crate) fn kind(&self) -> PartitionKind {
        match self.form {
            ValueForm::Integer => PartitionKind::Bigint,
            ValueForm::Boolean => PartitionKind::Boolean,
            _ => PartitionKind::Varchar,
        }
    }

    /// The bytes of its text.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_have_one_text() {
        for (text, written) in [
            ("0", &["-0", "0.0", "-0.000", "0e9", "0E-400"][..]),
            ("1", &["1.0", "1e0", "10e-1", "0.1e1", "1E+0", "0.001e3"]),
            ("-5", &["-5.00", "-50e-1"]),
            ("100", &["1e2", "1.00e2", "100.0"]),
            ("0.1", &["0.10", "1e-1", "10.0e-2"]),
            ("12.5", &["1.25e1", "125e-1", "12.500"]),
            ("0.00001", &["1e-5", "0.01e-3"]),
            ("1e-7", &["0.0000001", "10e-8"]),
            (
                "9007199254740993",
                &["9007199254740993.0", "900719925474099300e-2"],
            ),
            ("1e400", &["10e399", "0.1E401"]),
            ("1.5e-400", &["15e-401"]),
        ] {
            assert_eq!(canonical_number(text).as_deref(), Some(text));
            for written in written {
                assert_eq!(
                    canonical_number(written).as_deref(),
                    Some(text),
                    "{written}"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn a_canonical_number_is_the_number(mantissa in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?", exponent in -60_i32..60) {
            let text = format!("{mantissa}e{exponent}");
            let canonical = canonical_number(&text).unwrap();
            proptest::prop_assert_eq!(canonical.parse::<f64>().unwrap(), text.parse::<f64>().unwrap() + 0.0);
            proptest::prop_assert_eq!(canonical_number(&canonical), Some(canonical.clone()));
            proptest::prop_assert!(hydrant_json::number(canonical.as_bytes(), 0).is_ok());
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_surely_whole_is_whole(
            number in "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?",
            text in "[ -~]{0,20}",
            bytes_max in 31_usize..254,
        ) {
            let text = serde_json::to_string(&text).unwrap();
            for token in [number.as_bytes(), text.as_bytes()] {
                if is_surely_whole(token, bytes_max) {
                    proptest::prop_assert!(ReadValue::of(token, bytes_max).is_whole);
                }
            }
        }
    }

    #[test]
    fn a_number_beyond_any_exponent_is_in_no_path_and_not_whole() {
        for token in [
            "1e99999999999999999999",
            "1.5e-99999999999999999999",
            "1e9999999",
        ] {
            assert!(!is_surely_whole(token.as_bytes(), 90), "{token}");
            let read = ReadValue::of(token.as_bytes(), 90);
            assert!(read.value.is_none() && !read.is_whole, "{token}");
        }
        let grown = ReadValue::of(b"1e39", 31);
        assert!(!grown.is_whole && !is_surely_whole(b"1e39", 31));
        assert!(ReadValue::of(b"0e99999999999999999999", 90).is_whole);
    }

    /// Some versions of DuckDB take `null` in a path for a null, whatever the type of its column is.
    #[test]
    fn a_text_that_a_reader_may_take_for_null_is_written_apart() {
        for (text, path) in [
            ("null", "%6Eull"),
            ("NULL", "%4EULL"),
            ("Null", "%4Eull"),
            ("nulls", "nulls"),
        ] {
            let read = ReadValue::of(format!("\"{text}\"").as_bytes(), 31);
            let found = read.value.unwrap().in_path(PartitionKind::Varchar);
            assert_eq!((found.as_deref(), read.is_whole), (Some(path), true));
        }
    }

    #[test]
    fn what_a_path_cannot_give_back_is_told() {
        for (token, path, is_whole) in [
            ("\"eu\"", Some("eu"), true),
            ("\"a/b=c d\"", Some("a%2Fb%3Dc%20d"), true),
            ("\"M\u{fc}nchen\"", Some("M\u{fc}nchen"), true),
            ("\"..\"", Some("%2E."), true),
            ("\"\\u0065u\"", Some("eu"), true),
            ("\"\"", None, false),
            ("\"__HIVE_DEFAULT_PARTITION__\"", None, false),
            ("\"\\u005f_HIVE_DEFAULT_PARTITION__\"", None, false),
            ("{\"a\":1}", None, false),
            ("[]", None, false),
            ("true", Some("true"), true),
            ("1.50", Some("1.5"), true),
        ] {
            let read = ReadValue::of(token.as_bytes(), 90);
            let found = read
                .value
                .and_then(|value| value.in_path(PartitionKind::Varchar));
            assert_eq!(
                (found.as_deref(), read.is_whole),
                (path, is_whole),
                "{token}"
            );
            assert!(
                read.is_whole || !is_surely_whole(token.as_bytes(), 90),
                "{token}"
            );
        }
        let long = format!("\"{}/1\"", "\u{30b7}".repeat(40));
        let other = long.replace("/1", "/2");
        let read = |token: &str| ReadValue::of(token.as_bytes(), 90);
        let (one, two) = (read(&long), read(&other));
        assert!(!one.is_whole && one.value != two.value);
        let path = one.value.unwrap().in_path(PartitionKind::Varchar).unwrap();
        assert!(path.len() <= 90 && path.starts_with('\u{30b7}'), "{path}");
    }
}
