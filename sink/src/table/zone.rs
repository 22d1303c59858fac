//! The time zone of times that are written without one.

use std::fmt;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _};
use chrono_tz::Tz;
use hydrant_core::Error;
use serde::{Deserialize, Serialize};

/// A zone: an offset, or a place with its history. The history is that of the program, so that a file is made again as
/// it was made first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Zone {
    /// Seconds east of UTC.
    Fixed(i32),
    /// A zone of the IANA database.
    Named(Tz),
}

impl Default for Zone {
    fn default() -> Self {
        Zone::Fixed(0)
    }
}

impl Zone {
    /// The seconds since 1970 at which this zone's clocks show `local` seconds since 1970.
    ///
    /// A time that clocks show twice is the earlier one; a time that they skip is read with the offset from before the
    /// change, as calendars (RFC 5545) do.
    pub(super) fn seconds(self, local: i64) -> Option<i64> {
        match self {
            Zone::Fixed(offset) => Some(local - i64::from(offset)),
            Zone::Named(zone) => {
                let shown = DateTime::from_timestamp(local, 0)?.naive_utc();
                Some(local - offset_at(zone, shown))
            }
        }
    }
}

fn offset_at(zone: Tz, shown: NaiveDateTime) -> i64 {
    let before = |shown| match zone.offset_from_local_datetime(&shown) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => Some(offset),
        MappedLocalTime::None => None,
    };
    // No zone has skipped more than a day.
    let offset = before(shown).or_else(|| before(shown - TimeDelta::days(1)));
    offset.map_or(0, |offset| offset.fix().local_minus_utc().into())
}

impl TryFrom<String> for Zone {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Zone::Fixed(0) => f.write_str("UTC"),
            Zone::Fixed(seconds) => {
                let sign = if seconds < 0 { '-' } else { '+' };
                let minutes = seconds.abs() / 60;
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
            Zone::Named(zone) => f.write_str(zone.name()),
        }
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_give_their_texts_back_and_others_are_refused() {
        for text in [
            "UTC",
            "+02:00",
            "-03:30",
            "Europe/Berlin",
            "America/Argentina/Ushuaia",
        ] {
            let zone: Zone = text.parse().unwrap();
            assert_eq!(zone.to_string(), text);
            let stored = serde_json::to_string(&zone).unwrap();
            assert_eq!(serde_json::from_str::<Zone>(&stored).unwrap(), zone);
        }
        assert_eq!("+0000".parse::<Zone>().unwrap(), Zone::default());
        for text in ["", "CEST", "Mars/Base", "+25:00", "2", "+2h"] {
            let error = text.parse::<Zone>().unwrap_err().to_string();
            assert!(error.contains("Europe/Berlin"), "{error}");
        }
    }

    #[test]
    fn times_that_clocks_show_twice_or_never_are_decided() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let apia: Zone = "Pacific/Apia".parse().unwrap();
        for (zone, local, utc) in [
            (berlin, "2026-01-15T12:00:00Z", "2026-01-15T11:00:00Z"),
            (berlin, "2026-07-15T12:00:00Z", "2026-07-15T10:00:00Z"),
            // Shown twice: the earlier, in summer time.
            (berlin, "2026-10-25T02:30:00Z", "2026-10-25T00:30:00Z"),
            // Skipped: with the offset of winter time.
            (berlin, "2026-03-29T02:30:00Z", "2026-03-29T01:30:00Z"),
            (berlin, "2026-03-29T03:30:00Z", "2026-03-29T01:30:00Z"),
            // A whole day was skipped.
            (apia, "2011-12-30T12:00:00Z", "2011-12-30T22:00:00Z"),
        ] {
            let seconds = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp();
            assert_eq!(
                zone.seconds(seconds(local)),
                Some(seconds(utc)),
                "{zone} {local}"
            );
        }
    }
}
