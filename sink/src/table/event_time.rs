//! The event time of a record.
//!
//! Owns which of a record's fields is its event time and how that field is read. Promises that the result depends on
//! the record and the given `now` only: there is no clock here, so the rebuild of an interval passes the `now` of its
//! first build. Refuses to drop or move a row: an event time that cannot be read, or that lies outside [2000-01-01, now
//! + 1 day], puts the row into the default partition, where it is counted.

use chrono::NaiveDate;

/// The top-level fields that are tried for the event time, in this order.
pub const EVENT_TIME_FIELDS: [&str; 5] = ["event_time", "timestamp", "ts", "time", "@timestamp"];

/// The earliest event time that names a partition: 2000-01-01T00:00:00Z, in microseconds.
pub const EVENT_TIME_MIN_MICROS: i64 = 946_684_800_000_000;

pub(super) const MICROS_PER_HOUR: i64 = 3_600_000_000;
pub(super) const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// Reads an RFC 3339 text as microseconds since 1970. A fraction below a microsecond is cut off; a
/// space or a lower-case letter may stand for `T`; second 60 is read as the next minute's first.
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(19)?;
    let separators = [date[4], date[7], date[13], date[16]] == *b"--::";
    if !separators || !matches!(date[10], b'T' | b't' | b' ') {
        return None;
    }
    let year = i32::try_from(digits(&date[..4])?).ok()?;
    let (month, day) = (digits(&date[5..7])?, digits(&date[8..10])?);
    let days = NaiveDate::from_ymd_opt(year, month, day)?.to_epoch_days();
    let (hour, minute, second) = (
        digits(&date[11..13])?,
        digits(&date[14..16])?,
        digits(&date[17..])?,
    );
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_micros, zone) = match rest.split_first() {
        Some((b'.', after)) => {
            let count = after
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            if count == 0 {
                return None;
            }
            let kept = &after[..count.min(6)];
            (
                digits(kept)? * 10_u32.pow(6 - u32::try_from(kept.len()).ok()?),
                &after[count..],
            )
        }
        _ => (0, rest),
    };
    let offset_minutes = match zone {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), hours @ .., b':', m1, m2] if hours.len() == 2 => {
            let (hours, minutes) = (digits(hours)?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let total = i64::from(hours * 60 + minutes);
            if *sign == b'-' { -total } else { total }
        }
        _ => return None,
    };
    let of_day = i64::from(hour * 3_600 + minute * 60 + second) - offset_minutes * 60;
    let seconds = i64::from(days) * 86_400 + of_day;
    Some(seconds * 1_000_000 + i64::from(fraction_micros))
}

/// Reads an integer as a time by its magnitude: below 1e11 seconds, below 1e14 milliseconds, below
/// 1e17 microseconds, else nanoseconds.
pub fn time_from_integer(value: i64) -> i64 {
    match value.unsigned_abs() {
        0..100_000_000_000 => value * 1_000_000,
        100_000_000_000..100_000_000_000_000 => value * 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => value,
        _ => value.div_euclid(1_000),
    }
}

/// Reads a number with a fraction or an exponent as a time, by the same magnitudes.
pub fn time_from_float(value: f64) -> Option<i64> {
    let micros = match value.abs() {
        below if below < 1e11 => value * 1e6,
        below if below < 1e14 => value * 1e3,
        below if below < 1e17 => value,
        below if below < 1e20 => value / 1e3,
        _ => return None,
    };
    // Below 1e17 after scaling, so the cast neither saturates nor loses whole microseconds.
    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    Some(micros.floor() as i64)
}

/// The event time if it names a partition: within [2000-01-01, now + 1 day].
pub fn in_window(micros: i64, now_micros: i64) -> Option<i64> {
    (EVENT_TIME_MIN_MICROS..=now_micros.saturating_add(MICROS_PER_DAY))
        .contains(&micros)
        .then_some(micros)
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + u32::from(byte - b'0'))
    })
}

/// The date of a day since 1970-01-01, as `YYYY-MM-DD`.
pub(super) fn civil_date(days: i64) -> String {
    let date = i32::try_from(days)
        .ok()
        .and_then(NaiveDate::from_epoch_days);
    date.unwrap_or(NaiveDate::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_is_read_and_nothing_else() {
        const NEW_YEAR: i64 = 1_767_225_600_000_000;
        for (text, micros) in [
            ("2026-01-01T00:00:00Z", Some(NEW_YEAR)),
            ("2026-01-01t00:00:00z", Some(NEW_YEAR)),
            ("2026-01-01 00:00:00Z", Some(NEW_YEAR)),
            ("2026-01-01T01:30:00+01:30", Some(NEW_YEAR)),
            ("2025-12-31T16:00:00-08:00", Some(NEW_YEAR)),
            ("2025-12-31T23:59:60Z", Some(NEW_YEAR)),
            ("2026-01-01T00:00:00.5Z", Some(NEW_YEAR + 500_000)),
            ("2026-01-01T00:00:00.123456789Z", Some(NEW_YEAR + 123_456)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59.999999Z", Some(-1)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000_000)),
            ("1900-02-29T00:00:00Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("2026-01-32T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T00:60:00Z", None),
            ("2026-01-01T00:00:61Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00+0100", None),
            ("2026-01-01T00:00:00+24:00", None),
            ("2026-01-01T00:00:00Z ", None),
            ("2026-01-01", None),
            ("+026-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), micros, "{text}");
        }
    }

    #[test]
    fn numbers_change_their_unit_at_the_magnitudes_named() {
        for (number, micros) in [
            (99_999_999_999, 99_999_999_999_000_000),
            (100_000_000_000, 100_000_000_000_000),
            (99_999_999_999_999, 99_999_999_999_999_000),
            (100_000_000_000_000, 100_000_000_000_000),
            (99_999_999_999_999_999, 99_999_999_999_999_999),
            (100_000_000_000_000_000, 100_000_000_000_000),
            (i64::MAX, 9_223_372_036_854_775),
            (i64::MIN, -9_223_372_036_854_776),
            (-1, -1_000_000),
        ] {
            assert_eq!(time_from_integer(number), micros, "{number}");
        }
        assert_eq!(time_from_float(1.5), Some(1_500_000));
        assert_eq!(time_from_float(-0.000_000_1), Some(-1));
        assert_eq!(time_from_float(1e20), None);
        assert_eq!(time_from_float(f64::MAX), None);
    }

    #[test]
    fn days_are_named_by_their_dates() {
        for (day, date) in [
            (-1, "1969-12-31"),
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (20_778, "2026-11-21"),
        ] {
            assert_eq!(civil_date(day), date);
        }
    }
}
