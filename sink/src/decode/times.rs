//! Values of DATE and TIMESTAMP columns, and where the configured event time lies.
//!
//! Promises that whatever becomes a value is one that every reader takes: from the year 1 to the year 9999. An instant
//! is kept to the microsecond; a finer fraction is cut off, and the zone that the text named is not kept.

use chrono::{Datelike as _, NaiveDate};
use hydrant_json::{skip_space, string, unescape};

use super::number::ParsedNumber;
use crate::schema::EpochUnit;

/// The first and the last instant that readers take: 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z.
const INSTANTS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// Whether readers take an instant.
pub(super) fn is_readable(micros: &i64) -> bool {
    INSTANTS.contains(micros)
}

/// The days since 1970 of a text `YYYY-MM-DD`.
pub(crate) fn date_of(text: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| text.len() == 10)?;
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-');
    let date: NaiveDate = text.parse().ok().filter(|_| is_plain)?;
    (1..=9999)
        .contains(&date.year())
        .then(|| date.to_epoch_days())
}

/// The instant of a number in this unit, in microseconds, which a number of no certain unit counts.
pub(super) fn instant_of(number: ParsedNumber, unit: EpochUnit) -> Option<i64> {
    match (number, unit) {
        (ParsedNumber::MinusZero, _) => Some(0),
        (ParsedNumber::Integer(value) | ParsedNumber::Whole(value), unit) => match unit {
            EpochUnit::Seconds => value.checked_mul(1_000_000),
            EpochUnit::Millis => value.checked_mul(1_000),
            EpochUnit::Micros | EpochUnit::BySize => Some(value),
            EpochUnit::Nanos => Some(value.div_euclid(1_000)),
        },
        (ParsedNumber::Float(value) | ParsedNumber::Rounded(value), unit) => {
            let micros = match unit {
                EpochUnit::Seconds => value * 1e6,
                EpochUnit::Millis => value * 1e3,
                EpochUnit::Nanos => value / 1e3,
                _ => value,
            };
            #[expect(clippy::cast_possible_truncation, reason = "checked beside it")]
            (micros.abs() < 1e18).then_some(micros.floor() as i64)
        }
        _ => None,
    }
}

/// Where the value at the end of a path lies, from the value at `at` on, whatever columns take them. A null is nothing.
#[cold]
pub(super) fn time_within(json: &[u8], at: usize, path: &[String]) -> Option<(usize, usize)> {
    let Some((part, rest)) = path.split_first() else {
        let end = hydrant_json::value(json, at).ok()?;
        return (json[at] != b'n').then_some((at, end));
    };
    if json[at] != b'{' {
        return None;
    }
    let mut at = skip_space(json, at + 1);
    while json[at] == b'"' {
        let text = string(json, at).ok()?;
        let mut key = Vec::new();
        unescape(json, text, &mut key).ok()?;
        at = skip_space(json, text.end + 1);
        at = skip_space(json, at + 1);
        if key == part.as_bytes() {
            return time_within(json, at, rest);
        }
        at = skip_space(json, hydrant_json::value(json, at).ok()?);
        if json[at] == b',' {
            at = skip_space(json, at + 1);
        }
    }
    None
}
