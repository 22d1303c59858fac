//! Times as people and programs write them.
//!
//! Owns the forms that are read beside RFC 3339: the other forms of ISO 8601, those of web servers, e-mail, C and Go, and
//! numbers since 1970. Promises that no form is guessed: a text that means different days in different places, such as
//! `01/02/2026` or `26-Nov-30`, or that may be an hour as well as a number since 1970, such as `2026113010`, is none of them.

use std::ops::RangeInclusive;
use std::str::FromStr;

use chrono::{Datelike as _, NaiveDate, Weekday};
use chrono_tz::Tz;
use hydrant_core::Error;

use super::zone::Zone;

/// How many years back the last 29 February lies at most.
const YEARS_BACK: i32 = 8;

const SECONDS_PER_DAY: i64 = 86_400;

/// A time as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrittenTime {
    pub(super) day: WrittenDay,
    /// Up to 86,400.
    pub(super) second_of_day: u32,
    pub(super) micros: u32,
    /// `None` without one.
    pub(super) zone: Option<Zone>,
    /// Whether a day alone is written.
    pub(super) is_day: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum WrittenDay {
    Date(NaiveDate),
    /// A month and a day without a year.
    OfYear(u32, u32),
}

impl WrittenTime {
    /// Microseconds since 1970. A time without a zone is one of `zone`; a day without a year is the last one up to
    /// `latest`.
    pub(super) fn since_1970(self, zone: Zone, latest: Option<i64>) -> Option<i64> {
        let at = |date: NaiveDate| {
            let local =
                i64::from(date.to_epoch_days()) * SECONDS_PER_DAY + i64::from(self.second_of_day);
            let seconds = self.zone.unwrap_or(zone).seconds(local)?;
            Some(seconds * 1_000_000 + i64::from(self.micros))
        };
        match self.day {
            WrittenDay::Date(date) => at(date),
            WrittenDay::OfYear(month, day) => {
                let latest = latest?;
                let latest_day = i32::try_from(latest.div_euclid(SECONDS_PER_DAY * 1_000_000)).ok();
                let year = NaiveDate::from_epoch_days(latest_day?)?.year() + 1;
                let dates = (0..=YEARS_BACK)
                    .filter_map(|back| NaiveDate::from_ymd_opt(year - back, month, day));
                dates.filter_map(at).find(|micros| *micros <= latest)
            }
        }
    }
}

/// Reads a time that is not a number.
pub(super) fn written_time(text: &[u8]) -> Option<WrittenTime> {
    let mut scanner = TimeScanner {
        rest: text.trim_ascii(),
    };
    let time = match scanner.run() {
        0 => scanner.name_first(),
        1 | 2 => scanner.day_first(false),
        4 => {
            let date = scanner.year_first()?;
            scanner.timed(date)
        }
        8 => {
            let date = scanner.basic_date()?;
            scanner.timed(date)
        }
        12 | 14 => {
            let date = scanner.basic_date()?;
            scanner.at_clock(WrittenDay::Date(date), false)
        }
        _ => None,
    }?;
    scanner.rest.is_empty().then_some(time)
}

impl FromStr for Zone {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "UTC" {
            return Ok(Zone::default());
        }
        if let Some(offset) = offset_of(text.as_bytes()) {
            return Ok(Zone::Fixed(offset));
        }
        text.parse().map(Zone::Named).map_err(|_| {
            Error::refused(format!(
                "`{text}` is not a time zone: write `UTC`, an offset such as `+02:00`, or a name such as `Europe/Berlin`"
            ))
        })
    }
}

/// An offset such as `+02:00`, in seconds.
fn offset_of(text: &[u8]) -> Option<i32> {
    let mut scanner = TimeScanner { rest: text };
    let offset = scanner.offset()?;
    scanner.rest.is_empty().then_some(offset)
}

/// Reads a number as microseconds since 1970. Its whole part decides the unit: below 1e11 seconds, below 1e14
/// milliseconds, below 1e17 microseconds, else nanoseconds. What lies below a microsecond is cut off.
pub(super) fn since_1970(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    let mut scanner = TimeScanner { rest: digits };
    let run = scanner.run();
    let whole: i64 = std::str::from_utf8(&digits[..run]).ok()?.parse().ok()?;
    scanner.rest = &digits[run..];
    let fraction = match scanner.eat(b'.') {
        true => &scanner.rest[..scanner.run()],
        false => b"",
    };
    if scanner.rest.len() != fraction.len() {
        return super::event_time::time_from_float(std::str::from_utf8(text).ok()?.parse().ok()?);
    }
    let decimals = match whole {
        0..100_000_000_000 => 6,
        100_000_000_000..100_000_000_000_000 => 3,
        _ => 0,
    };
    let part = (0..decimals).fold(0, |part, at| {
        part * 10 + fraction.get(at).map_or(0, |digit| i64::from(digit - b'0'))
    });
    let is_cut = fraction.iter().skip(decimals).any(|digit| *digit != b'0');
    let micros = super::event_time::time_from_integer(if negative { -whole } else { whole });
    Some(match negative {
        true => micros - part - i64::from(is_cut),
        false => micros + part,
    })
}

/// Reads a text as [`since_1970`] does, unless it is one that dates are written as: 8, 12 or 14 digits that begin with a
/// year, and 10 that are an hour of this century. From 2033 to 2036 seconds since 1970 look like the latter.
pub(super) fn text_since_1970(text: &[u8]) -> Option<i64> {
    let mut scanner = TimeScanner { rest: text };
    let begins_with = |centuries: &[&[u8]]| centuries.iter().any(|year| text.starts_with(year));
    let may_be_date = scanner.run() == text.len()
        && match text.len() {
            8 | 12 | 14 => begins_with(&[b"19", b"20"]),
            10 => {
                begins_with(&[b"20"])
                    && scanner.basic_date().is_some()
                    && scanner.exactly(2).is_some_and(|hour| hour < 24)
            }
            _ => false,
        };
    (!may_be_date).then(|| since_1970(text))?
}

struct TimeScanner<'a> {
    rest: &'a [u8],
}

impl<'a> TimeScanner<'a> {
    /// How many digits come next.
    fn run(&self) -> usize {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit());
        digits.count()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.eat_any(&[byte]).is_some()
    }

    fn eat_any(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        bytes.contains(first).then(|| {
            self.rest = rest;
            *first
        })
    }

    fn spaces(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_ascii_start();
        self.rest.len() < before
    }

    /// The next `len` digits.
    fn exactly(&mut self, len: usize) -> Option<u32> {
        let digits = self.take(len)?;
        digits.iter().try_fold(0, |value, byte| {
            byte.is_ascii_digit()
                .then(|| value * 10 + u32::from(byte - b'0'))
        })
    }

    /// All digits that come next, if they are so many.
    fn number(&mut self, lengths: RangeInclusive<usize>) -> Option<u32> {
        let run = self.run();
        lengths.contains(&run).then(|| self.exactly(run))?
    }

    fn word(&mut self) -> &'a [u8] {
        let letters = self
            .rest
            .iter()
            .take_while(|byte| byte.is_ascii_alphabetic());
        let len = letters.count();
        self.take(len).unwrap_or_default()
    }

    /// `20260131`.
    fn basic_date(&mut self) -> Option<NaiveDate> {
        let year = self.exactly(4)?.try_into().ok()?;
        NaiveDate::from_ymd_opt(year, self.exactly(2)?, self.exactly(2)?)
    }

    /// `2026-01-31` and its other separators, `2026-W05-6`, `2026W056`, `2026-031`.
    fn year_first(&mut self) -> Option<NaiveDate> {
        let year = self.exactly(4)?.try_into().ok()?;
        let separator = self.eat_any(b"-/.");
        if separator.is_none_or(|separator| separator == b'-') && self.eat(b'W') {
            let week = self.exactly(2)?;
            let day = match separator {
                Some(_) if self.rest.first() != Some(&b'-') => 1,
                None if self.run() == 0 => 1,
                _ => {
                    self.eat(b'-');
                    self.exactly(1)?
                }
            };
            let day = Weekday::try_from(u8::try_from(day).ok()?.checked_sub(1)?).ok()?;
            return NaiveDate::from_isoywd_opt(year, week, day);
        }
        let separator = separator?;
        if separator == b'-' && self.run() == 3 {
            return NaiveDate::from_yo_opt(year, self.exactly(3)?);
        }
        let month = match self.run() {
            0 => month(self.word())?,
            _ => self.number(1..=2)?,
        };
        let day = self.eat(separator).then(|| self.number(1..=2))?;
        NaiveDate::from_ymd_opt(year, month, day?)
    }

    /// A date, with the time of the day that may follow.
    fn timed(&mut self, date: NaiveDate) -> Option<WrittenTime> {
        let day = WrittenDay::Date(date);
        if self.rest.is_empty() {
            return Some(WrittenTime {
                day,
                second_of_day: 0,
                micros: 0,
                zone: None,
                is_day: true,
            });
        }
        if self.eat_any(b"Tt_").is_some() {
            return self.at_clock(day, true);
        }
        self.eat(b',');
        self.spaces().then(|| self.at_clock(day, false))?
    }

    /// `31/Jan/2026:10:00:00`, `31 Jan 2026 10:00:00`, and `31-Jan-26 10:00:00` behind a weekday or before a zone: without
    /// either, the first number may be the year.
    fn day_first(&mut self, is_behind_weekday: bool) -> Option<WrittenTime> {
        let day = self.number(1..=2)?;
        let separator = self.eat_any(b" -/")?;
        self.spaces();
        let month = month(self.word())?;
        self.eat(b',');
        if !self.eat(separator) {
            return None;
        }
        self.spaces();
        let digits = self.run();
        let year = match digits {
            // As e-mail has it (RFC 5322, section 4.3).
            2 => match self.exactly(2)? {
                year @ 0..50 => 2_000 + year,
                year => 1_900 + year,
            },
            _ => self.number(4..=4)?,
        };
        let date = NaiveDate::from_ymd_opt(year.try_into().ok()?, month, day)?;
        let time = match self.eat(b':') {
            true => self.at_clock(WrittenDay::Date(date), false),
            false => self.timed(date),
        }?;
        (digits == 4 || is_behind_weekday || time.zone.is_some()).then_some(time)
    }

    /// `Sat, 31 Jan 2026 ..`, `Sat Jan 31 10:00:00 2026`, `Jan 31 10:00:00`.
    fn name_first(&mut self) -> Option<WrittenTime> {
        let mut word = self.word();
        if is_weekday(word) {
            self.eat(b',');
            self.spaces();
            if self.run() > 0 {
                return self.day_first(true);
            }
            word = self.word();
        }
        let month = month(word)?;
        self.spaces();
        let day = self.number(1..=2)?;
        self.eat(b',');
        self.spaces();
        let mut year = (self.run() == 4).then(|| self.exactly(4)).flatten();
        if year.is_some() && self.rest.is_empty() {
            let date = NaiveDate::from_ymd_opt(year?.try_into().ok()?, month, day)?;
            return self.timed(date);
        }
        self.spaces();
        let mut time = self.at_clock(WrittenDay::OfYear(month, day), false)?;
        if year.is_none() && self.run() == 4 {
            year = self.exactly(4);
            time.zone = time.zone.or(self.zone()?);
        }
        if let Some(year) = year {
            time.day =
                WrittenDay::Date(NaiveDate::from_ymd_opt(year.try_into().ok()?, month, day)?);
        }
        Some(time)
    }

    /// `10:00:00.000`, `100000`, `10:00`, and `10` where it must be one; then the zone.
    fn at_clock(&mut self, day: WrittenDay, or_hour: bool) -> Option<WrittenTime> {
        let (hour, minute, second) = match self.run() {
            1 | 2 => {
                let hour = self.number(1..=2)?;
                match self.eat(b':') {
                    true => {
                        let minute = self.number(2..=2)?;
                        let second = self.eat(b':').then(|| self.number(2..=2));
                        (
                            hour,
                            minute,
                            second.map_or(Some(None), |second| second.map(Some))?,
                        )
                    }
                    false if or_hour => (hour, 0, None),
                    false => return None,
                }
            }
            4 => (self.exactly(2)?, self.exactly(2)?, None),
            6 => (self.exactly(2)?, self.exactly(2)?, Some(self.exactly(2)?)),
            _ => return None,
        };
        let micros = match second.and_then(|_| self.eat_any(b".,")) {
            Some(_) => self.fraction()?,
            None => 0,
        };
        let second = second.unwrap_or(0);
        let is_midnight = (hour, minute, second, micros) == (24, 0, 0, 0);
        if !(hour <= 23 && minute <= 59 && second <= 60 || is_midnight) {
            return None;
        }
        Some(WrittenTime {
            day,
            second_of_day: hour * 3_600 + minute * 60 + second,
            micros,
            zone: self.zone()?,
            is_day: false,
        })
    }

    /// A fraction of a second in microseconds; what lies below is cut off.
    fn fraction(&mut self) -> Option<u32> {
        let run = self.run();
        let digits = self.take(run).filter(|digits| !digits.is_empty())?;
        Some((0..6).fold(0, |micros, at| {
            micros * 10 + digits.get(at).map_or(0, |digit| u32::from(digit - b'0'))
        }))
    }

    /// The zone, if there is one, with the spaces around it. `None` for what is not a zone.
    #[expect(clippy::option_option, reason = "no zone is not a wrong zone")]
    fn zone(&mut self) -> Option<Option<Zone>> {
        self.spaces();
        let mut zone = match self.rest.first() {
            Some(b'+' | b'-') => Some(Zone::Fixed(self.offset()?)),
            Some(byte) if byte.is_ascii_alphabetic() => Some(self.named_zone()?),
            _ => None,
        };
        self.spaces();
        if self.eat(b'[') {
            let len = self.rest.iter().position(|byte| *byte == b']')?;
            let name = std::str::from_utf8(self.take(len)?).ok()?;
            let named: Zone = name.parse().ok()?;
            self.eat(b']');
            zone = zone.or(Some(named));
        } else if self.eat(b'(') {
            let len = self.rest.iter().position(|byte| *byte == b')')?;
            self.take(len + 1);
        }
        self.spaces();
        Some(zone)
    }

    fn named_zone(&mut self) -> Option<Zone> {
        let start = self.rest;
        let hours = match self.word() {
            b"Z" | b"z" => return Some(Zone::default()),
            b"UTC" | b"GMT" | b"UT" => {
                let offset = match self.rest.first() {
                    Some(b'+' | b'-') => self.offset()?,
                    _ => 0,
                };
                return Some(Zone::Fixed(offset));
            }
            // The names that e-mail defines; others mean several zones.
            b"EDT" => -4,
            b"EST" | b"CDT" => -5,
            b"CST" | b"MDT" => -6,
            b"MST" | b"PDT" => -7,
            b"PST" => -8,
            _ => {
                let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_/+-".contains(byte);
                let len = start.iter().take_while(is_name).count();
                self.rest = &start[len..];
                let name = std::str::from_utf8(&start[..len]).ok()?;
                let is_place = name.contains('/');
                return is_place.then(|| name.parse::<Tz>().ok().map(Zone::Named))?;
            }
        };
        Some(Zone::Fixed(hours * 3_600))
    }

    /// `+02:00`, `+0200`, `+02`, in seconds.
    fn offset(&mut self) -> Option<i32> {
        let sign = self.eat_any(b"+-")?;
        let (hours, minutes) = match self.run() {
            4 => (self.exactly(2)?, self.exactly(2)?),
            _ => {
                let hours = self.number(1..=2)?;
                let minutes = self.eat(b':').then(|| self.number(2..=2));
                (hours, minutes.unwrap_or(Some(0))?)
            }
        };
        let seconds = i32::try_from(hours * 3_600 + minutes * 60).ok()?;
        (hours <= 23 && minutes <= 59).then_some(if sign == b'-' { -seconds } else { seconds })
    }
}

/// The number of a month by its English name, whole or its first three letters.
fn month(word: &[u8]) -> Option<u32> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let at = MONTHS.iter().position(|name| is_short_of(word, name))?;
    u32::try_from(at + 1).ok()
}

fn is_weekday(word: &[u8]) -> bool {
    const DAYS: [&str; 7] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    DAYS.iter().any(|name| is_short_of(word, name))
}

fn is_short_of(word: &[u8], name: &str) -> bool {
    (word.len() == 3 || word.len() == name.len())
        && word.eq_ignore_ascii_case(&name.as_bytes()[..word.len()])
}
