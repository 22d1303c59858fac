//! The event time of a record.
//!
//! Owns which of a record's fields is its event time and how that field is read. Promises that the result depends on
//! the record, the rules and the given `now` only: there is no clock here, so the rebuild of an interval passes the `now`
//! of its first build. Refuses to drop or move a row: an event time that cannot be read, or that lies outside
//! [2000-01-01, now + 1 day], puts the row into the default partition, where it is counted by [`UntimedReason`]. A clock
//! before [`CLOCK_UNSET_MICROS`] was never set and judges no time.

mod format;

use chrono::format::{Item, Parsed, parse};
use chrono::{NaiveDate, Timelike as _};
use hydrant_core::Error;
use serde::{Deserialize, Serialize};

use super::time_text::{WrittenDay, WrittenTime, since_1970, text_since_1970, written_time};
use super::zone::Zone;
use format::format_items;

/// The top-level fields that are tried for the event time, in this order.
pub const EVENT_TIME_FIELDS: [&str; 5] = ["event_time", "timestamp", "ts", "time", "@timestamp"];

/// The earliest event time that names a partition: 2000-01-01T00:00:00Z, in microseconds.
pub const EVENT_TIME_MIN_MICROS: i64 = 946_684_800_000_000;

/// A clock that shows an earlier time than 2026-01-01T00:00:00Z was never set: this program is younger.
pub const CLOCK_UNSET_MICROS: i64 = 1_767_225_600_000_000;

/// The latest event time that names a partition when the clock is not set: the last with a year of four digits in every
/// zone, which are at most 18 hours apart from UTC.
const EVENT_TIME_MAX_MICROS: i64 = 253_402_300_799_999_999 - 18 * MICROS_PER_HOUR;

/// The longest text that is read as a time.
const TEXT_BYTES_MAX: usize = 128;

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

/// Whether an event time lies more than `lateness_max` microseconds before the record arrived in its stream; never when the
/// clock there was not set. An outage of the sink makes no row late.
pub(crate) fn is_late(micros: i64, lateness_max: i64, arrival_micros: i64) -> bool {
    arrival_micros >= CLOCK_UNSET_MICROS && micros < arrival_micros.saturating_sub(lateness_max)
}

/// Why a row has no event time that names a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UntimedReason {
    /// The record has no field for it, and its stamp names no partition either.
    Missing,
    /// None of the fields holds a time.
    Unreadable,
    /// Before 2000.
    TooEarly,
    /// More than a day ahead.
    TooLate,
}

impl UntimedReason {
    /// The reason as metrics and reports name it.
    pub fn as_str(self) -> &'static str {
        match self {
            UntimedReason::Missing => "missing",
            UntimedReason::Unreadable => "unreadable",
            UntimedReason::TooEarly => "too_early",
            UntimedReason::TooLate => "too_late",
        }
    }
}

/// Reads the times of an interval's records.
#[derive(Clone, Debug)]
pub(crate) struct TimeReader {
    zone: Zone,
    /// The zone of the days of partitions.
    day_zone: Zone,
    formats: Vec<Vec<Item<'static>>>,
    /// `None` when the clock is not set.
    latest: Option<i64>,
}

impl TimeReader {
    /// A reader for an interval that was opened at `now_micros`. Times without a zone are of `zone`; `formats` (as of
    /// `strftime`) are tried before all forms but RFC 3339.
    ///
    /// # Errors
    /// Refused: a format with an unknown part, or without a day.
    pub(crate) fn try_new(zone: Zone, formats: &[String], now_micros: i64) -> Result<Self, Error> {
        let latest = now_micros.saturating_add(MICROS_PER_DAY);
        let formats = formats.iter().map(|format| format_items(format));
        Ok(TimeReader {
            zone,
            day_zone: Zone::default(),
            formats: formats.collect::<Result<_, _>>()?,
            latest: (now_micros >= CLOCK_UNSET_MICROS).then_some(latest),
        })
    }

    /// The same reader where the days of partitions are of another zone than UTC.
    pub(crate) fn with_days_of(mut self, offset_minutes: i32) -> Self {
        self.day_zone = Zone::Fixed(offset_minutes * 60);
        self
    }

    /// The event time if it names a partition: within [2000-01-01, now + 1 day].
    pub(crate) fn in_window(&self, micros: i64) -> Result<i64, UntimedReason> {
        match micros {
            ..EVENT_TIME_MIN_MICROS => Err(UntimedReason::TooEarly),
            _ if micros > self.latest.unwrap_or(EVENT_TIME_MAX_MICROS) => {
                Err(UntimedReason::TooLate)
            }
            _ => Ok(micros),
        }
    }

    /// Reads the text of a string as microseconds since 1970. A day without a year is the last one.
    pub(crate) fn text(&self, text: &[u8]) -> Option<i64> {
        self.text_in(text, self.zone)
    }

    /// Reads the text of an event time as microseconds since 1970. A day alone is the day of that name in the partitions,
    /// whatever the zone of other times is.
    pub(crate) fn event_time(&self, text: &[u8]) -> Option<i64> {
        self.text_in(text, self.day_zone)
    }

    fn text_in(&self, text: &[u8], day_zone: Zone) -> Option<i64> {
        if let Some(micros) = parse_rfc3339(text) {
            return Some(micros);
        }
        let text = text.trim_ascii();
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        self.formatted(text, day_zone)
            .or_else(|| self.micros(written_time(text)?, day_zone))
            .or_else(|| text_since_1970(text))
    }

    fn micros(&self, time: WrittenTime, day_zone: Zone) -> Option<i64> {
        let zone = if time.is_day { day_zone } else { self.zone };
        time.since_1970(zone, self.latest)
    }

    /// Reads the text of a JSON number as microseconds since 1970.
    pub(crate) fn number(&self, text: &[u8]) -> Option<i64> {
        self.formatted(text, self.zone).or_else(|| since_1970(text))
    }

    fn formatted(&self, text: &[u8], day_zone: Zone) -> Option<i64> {
        if self.formats.is_empty() {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let mut formats = self.formats.iter();
        formats.find_map(|format| self.by_format(text, format, day_zone))
    }

    fn by_format(&self, text: &str, format: &[Item<'static>], day_zone: Zone) -> Option<i64> {
        let mut parsed = Parsed::new();
        parse(&mut parsed, text, format.iter()).ok()?;
        if parsed.timestamp().is_some() {
            let time = parsed.to_naive_datetime_with_offset(0).ok()?;
            return Some(time.and_utc().timestamp_micros());
        }
        let day = match (parsed.to_naive_date(), parsed.month(), parsed.day()) {
            (Ok(date), ..) => WrittenDay::Date(date),
            (_, Some(month), Some(day))
                if parsed.year().is_none() && parsed.year_mod_100().is_none() =>
            {
                WrittenDay::OfYear(month, day)
            }
            _ => return None,
        };
        let is_half = parsed.hour_mod_12().or(parsed.minute()).or(parsed.second());
        if parsed.hour_div_12().is_none() && is_half.is_some() {
            return None;
        }
        if parsed.hour_div_12().is_some() && parsed.minute().is_none() {
            parsed.set_minute(0).ok()?;
        }
        let (second_of_day, nanos) = match parsed.hour_div_12() {
            Some(_) => {
                let time = parsed.to_naive_time().ok()?;
                (time.num_seconds_from_midnight(), time.nanosecond())
            }
            None => (0, 0),
        };
        let zone = parsed.offset().map(Zone::Fixed);
        let time = WrittenTime {
            day,
            second_of_day,
            micros: nanos / 1_000,
            zone,
            is_day: parsed.hour_div_12().is_none(),
        };
        self.micros(time, day_zone)
    }
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
    use chrono::DateTime;

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

    fn reader(zone: &str, formats: &[&str]) -> TimeReader {
        let formats: Vec<String> = formats.iter().map(|format| (*format).to_owned()).collect();
        TimeReader::try_new(zone.parse().unwrap(), &formats, NOW).unwrap()
    }

    /// 2026-11-21T00:00:00Z.
    const NOW: i64 = 1_795_219_200_000_000;

    fn read(reader: &TimeReader, text: &str) -> Option<String> {
        let time = DateTime::from_timestamp_micros(reader.text(text.as_bytes())?)?;
        Some(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let reader = reader("+02:00", &[]);
        for (text, time) in [
            ("2020-12-08T15:11:55.019-0300", "2020-12-08T18:11:55.019Z"),
            ("2023-01-10T22:55:31+0100", "2023-01-10T21:55:31Z"),
            ("2024-05-01T10:00:00+0000", "2024-05-01T10:00:00Z"),
            ("2024-01-06T11:34:06+00", "2024-01-06T11:34:06Z"),
            ("2024-01-06T11:34:06-03", "2024-01-06T14:34:06Z"),
            ("2024-05-01T10:00:00-00:00", "2024-05-01T10:00:00Z"),
            ("2024-05-01T10:00:00+05:30", "2024-05-01T04:30:00Z"),
            ("2024-05-01T10:00:00 +0530", "2024-05-01T04:30:00Z"),
            ("2024-05-01T10:00:00 Z", "2024-05-01T10:00:00Z"),
            ("2024-05-01T10:00:00.000UTC", "2024-05-01T10:00:00Z"),
            ("2024-05-01 10:00:00 UTC", "2024-05-01T10:00:00Z"),
            ("2024-05-01 10:00:00 GMT+2", "2024-05-01T08:00:00Z"),
            ("2024-05-01 10:00:00 PDT", "2024-05-01T17:00:00Z"),
            ("2024-05-01T10:00:00[Europe/Berlin]", "2024-05-01T08:00:00Z"),
            (
                "2024-05-01T10:00:00+01:00[Europe/Berlin]",
                "2024-05-01T09:00:00Z",
            ),
            ("2024-05-01T10:00Z[UTC]", "2024-05-01T10:00:00Z"),
            ("2024-05-01 10:00:00 Europe/Berlin", "2024-05-01T08:00:00Z"),
            // Without a zone: that of the configuration.
            ("2018-10-31T11:57:31", "2018-10-31T09:57:31Z"),
            ("2019-04-22 21:28:12", "2019-04-22T19:28:12Z"),
            ("2019-04-22 21:28:12.123", "2019-04-22T19:28:12.123Z"),
            ("2019-04-22T21:28", "2019-04-22T19:28:00Z"),
            ("2019-04-22T21", "2019-04-22T19:00:00Z"),
            ("2019-4-2 1:28:12", "2019-04-01T23:28:12Z"),
            ("2024-01-01", "2023-12-31T22:00:00Z"),
            ("2024/01/01", "2023-12-31T22:00:00Z"),
            ("2024.01.01 05:00:00", "2024-01-01T03:00:00Z"),
            ("2012/03/10 22:36:55 -0800", "2012-03-11T06:36:55Z"),
            (" 2024-05-01T10:00:00Z\n", "2024-05-01T10:00:00Z"),
            ("2024-05-01_10:00:00Z", "2024-05-01T10:00:00Z"),
            ("2024-05-01, 10:00:00 Z", "2024-05-01T10:00:00Z"),
            (
                "2024-07-16T03:15:36.273422656+00:00",
                "2024-07-16T03:15:36.273422Z",
            ),
            ("2024-01-01T00:00:00,123Z", "2024-01-01T00:00:00.123Z"),
            ("2024-05-01T24:00:00Z", "2024-05-02T00:00:00Z"),
            ("2024-05-01 23:59:60 Z", "2024-05-02T00:00:00Z"),
            // Basic forms.
            ("20240101T000000Z", "2024-01-01T00:00:00Z"),
            ("20240101T0000Z", "2024-01-01T00:00:00Z"),
            ("20240101T000000.250+0100", "2023-12-31T23:00:00.250Z"),
            ("20240102", "2024-01-01T22:00:00Z"),
            ("20240102030405", "2024-01-02T01:04:05Z"),
            ("20240102030405Z", "2024-01-02T03:04:05Z"),
            ("202401020304", "2024-01-02T01:04:00Z"),
            ("202401020304Z", "2024-01-02T03:04:00Z"),
            ("202401020304+0530", "2024-01-01T21:34:00Z"),
            // Weeks and days of the year.
            ("2024-W18-3", "2024-04-30T22:00:00Z"),
            ("2024-W18-3T10:00:00Z", "2024-05-01T10:00:00Z"),
            ("2024W183T100000Z", "2024-05-01T10:00:00Z"),
            ("2024-W18T10:00Z", "2024-04-29T10:00:00Z"),
            ("2024-122T10:00:00Z", "2024-05-01T10:00:00Z"),
            // Web servers, e-mail, C, Go, JavaScript.
            ("26/Jun/2023:14:24:53 +0800", "2023-06-26T06:24:53Z"),
            ("Wed, 01 May 2024 10:00:00 GMT", "2024-05-01T10:00:00Z"),
            ("Wed, 1 May 2024 10:00 -0700 (PDT)", "2024-05-01T17:00:00Z"),
            ("1 May 2024 10:00:00 EST", "2024-05-01T15:00:00Z"),
            ("01 May 24 10:00 UT", "2024-05-01T10:00:00Z"),
            ("Wednesday, 01-May-24 10:00:00 GMT", "2024-05-01T10:00:00Z"),
            ("Wed, 01 May 24 10:00:00", "2024-05-01T08:00:00Z"),
            ("01-May-99 10:00:00 +0000", "1999-05-01T10:00:00Z"),
            ("26-Nov-2030", "2030-11-25T22:00:00Z"),
            ("Wed May  1 10:00:00 2024", "2024-05-01T08:00:00Z"),
            ("Wed May  1 10:00:00 UTC 2024", "2024-05-01T10:00:00Z"),
            ("Wed May 01 10:00:00 -0700 2024", "2024-05-01T17:00:00Z"),
            ("Wed May 01 10:00:00 2024 -0700", "2024-05-01T17:00:00Z"),
            (
                "Wed May 01 2024 10:00:00 GMT+0200 (Central European Summer Time)",
                "2024-05-01T08:00:00Z",
            ),
            ("May 1, 2024", "2024-04-30T22:00:00Z"),
            ("2024-May-01 10:00:00Z", "2024-05-01T10:00:00Z"),
            // Without a year: the last one, up to a day ahead.
            ("Nov 21 10:00:00", "2026-11-21T08:00:00Z"),
            ("Nov 23 10:00:00.5", "2025-11-23T08:00:00.500Z"),
            ("May  1 10:00:00", "2026-05-01T08:00:00Z"),
            ("Feb 29 10:00:00", "2024-02-29T08:00:00Z"),
            // Since 1970.
            ("1643631507020", "2022-01-31T12:18:27.020Z"),
            ("1643631507", "2022-01-31T12:18:27Z"),
            ("1643631507.25", "2022-01-31T12:18:27.250Z"),
            ("1643631507.1234569", "2022-01-31T12:18:27.123456Z"),
            ("1643631507020.5", "2022-01-31T12:18:27.020500Z"),
            ("1643631507020123", "2022-01-31T12:18:27.020123Z"),
            ("1643631507020123456", "2022-01-31T12:18:27.020123Z"),
            ("1.643631507e9", "2022-01-31T12:18:27Z"),
            ("2024", "1970-01-01T00:33:44Z"),
            // Those that are no hour: the month or the day or the hour is none.
            ("1769853600", "2026-01-31T10:00:00Z"),
            ("2000000000", "2033-05-18T03:33:20Z"),
            ("2013010099", "2033-10-15T17:28:19Z"),
            ("2001023000", "2033-05-29T23:43:20Z"),
            ("2001010124", "2033-05-29T20:08:44Z"),
            ("1999123123", "2033-05-07T23:58:43Z"),
            ("2026113010.5", "2034-03-16T09:10:10.500Z"),
            ("999999999999", "2001-09-09T01:46:39.999Z"),
            ("-1.0000001", "1969-12-31T23:59:58.999999Z"),
        ] {
            assert_eq!(read(&reader, text).as_deref(), Some(time), "{text}");
        }
    }

    #[test]
    fn what_means_several_times_or_none_is_not_read() {
        let reader = reader("UTC", &[]);
        for text in [
            "",
            " ",
            "never",
            "30-04-2024 10:06:21",
            "01/02/2024",
            "1.2.2024",
            "10:00:00",
            "2024-13-01",
            "2024-02-30 10:00:00",
            "2023-366",
            "2024-W54-1",
            "2024-W18-8",
            // An hour of 2026, or seconds in 2034.
            "2026113010",
            "2001010100",
            "2099123123",
            // A day of a month that has none is no number since 1970.
            "20261330",
            "202613301000",
            "202611302401",
            "20261330100000",
            "199902290000",
            // Which of them is the year?
            "26-Nov-30",
            "26-Nov-30 10:00:00",
            "26 Nov 30",
            "26/Nov/30:10:00:00",
            "2024-05-01T25:00:00Z",
            "2024-05-01T24:00:01Z",
            "2024-05-01T10:60:00",
            "2024-05-01T10:00:61",
            "2024-05-01T10:00:00.",
            "2024-05-01T10:00:00+2400",
            "2024-05-01T10:00:00+",
            "2024-05-01T10:00:00 CEST",
            "2024-05-01T10:00:00[Mars/Base]",
            "2024-05-01T10:00:00[UTC",
            "2024-05-01T10:00:00Z later",
            "2024-05-01 10",
            "2024-05-01T",
            "2024-05/01",
            "May 32 10:00:00",
            "May 1 10:00:00 host",
            "Mayday 1 10:00:00",
            "99999999999999999999",
            "1e20",
            "0x10",
            "1_000",
            "\u{0661}\u{0662}",
        ] {
            assert_eq!(read(&reader, text), None, "{text}");
        }
        let long = format!("2024-05-01T10:00:00{}Z", " ".repeat(TEXT_BYTES_MAX));
        assert_eq!(read(&reader, &long), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_in_a_known_form_is_read_back(
            seconds in 0_i64..4_000_000_000,
            millis in 0_u32..1_000,
            zone in -720_i32..720,
        ) {
            let reader = reader("UTC", &[]);
            let zone = chrono::FixedOffset::east_opt(zone * 60).unwrap();
            let time = DateTime::from_timestamp(seconds, millis * 1_000_000).unwrap();
            let local = time.with_timezone(&zone);
            for (form, unit) in [
                ("%Y-%m-%dT%H:%M:%S%.3f%z", 1_000),
                ("%Y-%m-%d %H:%M:%S%.6f %:z", 1_000),
                ("%Y/%m/%d %H:%M:%S%.3f %z", 1_000),
                ("%Y%m%dT%H%M%S%.3f%z", 1_000),
                ("%Y%m%d%H%M%S%z", 1_000_000),
                ("%G-W%V-%uT%H:%M:%S,%3f%z", 1_000),
                ("%GW%V%uT%H%M%S%z", 1_000_000),
                ("%Y-%jT%H:%M:%S%.3f%z", 1_000),
                ("%d/%b/%Y:%H:%M:%S %z", 1_000_000),
                ("%a, %d %b %Y %H:%M:%S %z", 1_000_000),
                ("%A, %d-%b-%Y %H:%M:%S %z", 1_000_000),
                ("%a %b %e %H:%M:%S%.3f %z %Y", 1_000),
                ("%a %b %e %H:%M:%S %Y %z", 1_000_000),
                ("%B %e, %Y %H:%M %z", 60_000_000),
                ("%s", 1_000_000),
                ("%s%.3f", 1_000),
            ] {
                let text = local.format(form).to_string();
                let micros = time.timestamp_micros();
                proptest::prop_assert_eq!(
                    reader.text(text.as_bytes()),
                    Some(micros - micros.rem_euclid(unit)),
                    "{}", text
                );
            }
        }
    }

    #[test]
    fn a_format_reads_no_impossible_day_and_drops_no_hour() {
        for (format, text) in [
            ("%d.%m.%y", "29.02.26"),
            ("%a %d.%m.%y", "Mon 31.01.24"),
            ("%d.%m.%Y", "31.02.2026"),
        ] {
            assert_eq!(
                reader("UTC", &[format]).text(text.as_bytes()),
                None,
                "{text}"
            );
        }
        for format in ["%d.%m.%Y %I:%M:%S", "%d.%m.%Y %M", "%d.%m.%Y %S"] {
            let refused = TimeReader::try_new(Zone::default(), &[format.to_owned()], NOW);
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("%p"), "{refused}");
        }
        let read = reader("UTC", &["%d.%m.%Y %I:%M %p"]).text(b"30.11.2026 10:15 PM");
        assert_eq!(read, parse_rfc3339(b"2026-11-30T22:15:00Z"));
    }

    /// A clock that is not set believes every time whose day has a name in every zone.
    #[test]
    fn the_last_time_has_a_year_of_four_digits_in_every_zone() {
        let unset = TimeReader::try_new(Zone::default(), &[], 0).unwrap();
        let last = parse_rfc3339(b"9999-12-31T23:59:59Z").unwrap();
        assert_eq!(unset.in_window(last), Err(UntimedReason::TooLate));
        let day = parse_rfc3339(b"9999-12-31T05:59:59Z").unwrap();
        assert_eq!(unset.in_window(day), Ok(day));
        let eastmost = day + 18 * MICROS_PER_HOUR;
        assert_eq!(
            civil_date(eastmost.div_euclid(MICROS_PER_DAY)),
            "9999-12-31"
        );
    }

    #[test]
    fn formats_name_other_forms_and_go_first() {
        let forms = [
            "%d.%m.%Y %H:%M:%S",
            "%m/%d/%Y %I:%M %p %z",
            "%d/%m",
            "%Y%m%d%H",
            "%s!",
        ];
        let reader = reader("Europe/Berlin", &forms);
        for (text, time) in [
            ("30.04.2024 10:06:21", "2024-04-30T08:06:21Z"),
            ("05/06/2024 01:30 PM +0000", "2024-05-06T13:30:00Z"),
            ("05/06", "2026-06-04T22:00:00Z"),
            ("2024010203", "2024-01-02T02:00:00Z"),
            ("1643631507!", "2022-01-31T12:18:27Z"),
            ("2024-05-01 10:00:00", "2024-05-01T08:00:00Z"),
        ] {
            assert_eq!(read(&reader, text).as_deref(), Some(time), "{text}");
        }
        assert_eq!(reader.number(b"2024010203"), reader.text(b"2024010203"));
        for format in ["%H:%M", "%Q", "", "date", "%Y-%m"] {
            let formats = [format.to_owned()];
            let refused = TimeReader::try_new(Zone::default(), &formats, NOW).unwrap_err();
            assert!(refused.to_string().contains(&format!("`{format}`")));
        }
    }

    #[test]
    fn a_clock_that_was_never_set_judges_no_time() {
        let at = |now| TimeReader::try_new(Zone::default(), &[], now).unwrap();
        let time = parse_rfc3339(b"2027-01-01T00:00:00Z").unwrap();
        for (now, judged) in [
            (0, Ok(time)),
            (CLOCK_UNSET_MICROS - 1, Ok(time)),
            (CLOCK_UNSET_MICROS, Err(UntimedReason::TooLate)),
            (time - MICROS_PER_DAY, Ok(time)),
            (time - MICROS_PER_DAY - 1, Err(UntimedReason::TooLate)),
        ] {
            assert_eq!(at(now).in_window(time), judged, "{now}");
        }
        assert_eq!(at(0).in_window(i64::MAX), Err(UntimedReason::TooLate));
        assert_eq!(at(0).in_window(0), Err(UntimedReason::TooEarly));
        assert_eq!(at(0).text(b"May  1 10:00:00"), None);
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
