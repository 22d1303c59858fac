//! Which files of a table are to be taken away.
//!
//! Owns what a path says of the times and values in a file. Promises that a file is chosen only if all its rows are meant.
//! Refuses a column that is no partition: files hold rows with several of its values.

use std::collections::BTreeSet;

use chrono::{Datelike as _, Months, NaiveDate};
use hydrant_core::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::schema::{PartitionColumn, PartitionKind, TableSchema};
use crate::table::partition_path::columns_of;
use crate::table::path_text::{DEFAULT_PARTITION, is_short_for};

const MICROS_PER_MINUTE: i64 = 60_000_000;
const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;

/// What is to be taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhatExpires {
    /// Files of which all rows are older than this time, in microseconds since 1970; dead letters too, by the time of
    /// their commit record.
    Before(i64),
    /// Files in the partition with all of these values of its columns.
    Partition(Vec<(String, String)>),
}

/// A value of a partition column that no file has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AbsentValue {
    /// The column.
    pub column: String,
    /// The value.
    pub value: String,
    /// The values that the column has.
    pub there_are: BTreeSet<String>,
}

/// What a place says of the files in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaceVerdict {
    /// All of them go.
    Goes,
    /// All of them stay.
    Stays,
    /// That depends on their commit records.
    ByRecord,
    /// All of them stay, although their rows may be meant: they have no value of a column that is asked for.
    MayBeMeant,
}

impl WhatExpires {
    /// Checks it against the newest schema of a table.
    ///
    /// # Errors
    /// Refused for columns that are no partitions of the table, and for values that no partition of theirs can have.
    pub(crate) fn check(&self, table: &str, schema: Option<&TableSchema>) -> Result<()> {
        let WhatExpires::Partition(values) = self else {
            return Ok(());
        };
        let columns = schema.map_or(&[][..], |schema| &schema.partition_columns);
        for (name, value) in values {
            if let Some(column) = columns.iter().find(|column| column.name == *name) {
                check_value(column, value)?;
                continue;
            }
            let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let known = match known.is_empty() {
                true => "it has none".to_owned(),
                false => format!("it has `{}`", known.join("`, `")),
            };
            return Err(Error::refused(format!(
                "`{name}` is not a partition of table `{table}`: {known}. Files hold rows with several values of other \
                 columns, and single rows cannot be removed: partition a new table by `{name}`, or remove whole files by \
                 time with `--before`"
            )));
        }
        Ok(())
    }

    /// Whether dead letters are meant, which have no partition.
    pub(crate) fn means_dead_letters(&self) -> bool {
        matches!(self, WhatExpires::Before(_))
    }

    /// What the path of a partition below its table says.
    pub(crate) fn judge(&self, path: &str, columns: &[PartitionColumn]) -> PlaceVerdict {
        match self {
            WhatExpires::Before(before) => match ends_of(path, columns) {
                Some((_, last)) if last <= *before => PlaceVerdict::Goes,
                Some((first, _)) if first > *before => PlaceVerdict::Stays,
                _ => PlaceVerdict::ByRecord,
            },
            WhatExpires::Partition(values) => {
                let found = columns_of(path);
                let mut verdict = PlaceVerdict::Goes;
                for (name, value) in values {
                    match value_in(&found, name) {
                        Some(found) if is_value(found, value) => {}
                        Some(DEFAULT_PARTITION) => verdict = PlaceVerdict::MayBeMeant,
                        _ => return PlaceVerdict::Stays,
                    }
                }
                verdict
            }
        }
    }

    /// Whether rows of this time go.
    pub(crate) fn takes(&self, time: i64) -> bool {
        matches!(self, WhatExpires::Before(before) if time < *before)
    }

    /// The values that none of these paths of partitions has.
    pub(super) fn not_found(&self, paths: &BTreeSet<String>) -> Vec<AbsentValue> {
        let WhatExpires::Partition(values) = self else {
            return Vec::new();
        };
        let found: Vec<_> = paths.iter().map(|path| columns_of(path)).collect();
        let absent = values.iter().filter_map(|(column, value)| {
            let there_are = found.iter().filter_map(|found| value_in(found, column));
            let there_are: BTreeSet<String> = there_are.map(str::to_owned).collect();
            let is_there = there_are.iter().any(|found| is_value(found, value));
            (!is_there).then(|| AbsentValue {
                column: column.clone(),
                value: value.clone(),
                there_are,
            })
        });
        absent.collect()
    }

    /// In words.
    pub(crate) fn why(&self) -> String {
        match self {
            WhatExpires::Before(before) => {
                let time = chrono::DateTime::from_timestamp_micros(*before);
                let text =
                    time.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
                format!("before {}", text.unwrap_or_else(|| before.to_string()))
            }
            WhatExpires::Partition(values) => {
                let values = values.iter().map(|(name, value)| format!("{name}={value}"));
                format!("partition {}", values.collect::<Vec<_>>().join(" "))
            }
        }
    }
}

/// Refuses a value that no path of the column has.
fn check_value(column: &PartitionColumn, value: &str) -> Result<()> {
    let is_hour = column.source.split('@').next() == Some("hour");
    let write = match column.kind {
        _ if value == DEFAULT_PARTITION => return Ok(()),
        PartitionKind::Date => {
            let day = value.parse::<NaiveDate>();
            let is_valid = day.is_ok_and(|day| day.to_string() == value);
            (!is_valid).then_some("a day, such as `2026-11-30`")
        }
        PartitionKind::Bigint => {
            let number = value.parse::<i64>();
            let is_valid = number.is_ok_and(|number| number.to_string() == value);
            (!is_valid).then_some("a whole number without leading zeros, such as `7`")
        }
        PartitionKind::Boolean => {
            let is_valid = matches!(value, "true" | "false");
            (!is_valid).then_some("`true` or `false`")
        }
        PartitionKind::Varchar | PartitionKind::Undecided if is_hour => {
            let hour = value.parse::<u8>();
            let is_valid = hour.is_ok_and(|hour| hour < 24 && format!("{hour:02}") == value);
            (!is_valid).then_some("an hour from `00` to `23`")
        }
        PartitionKind::Varchar | PartitionKind::Undecided => {
            value.is_empty().then_some("a text, which is not empty")
        }
    };
    let Some(write) = write else {
        return Ok(());
    };
    let (name, kind) = (&column.name, column.kind);
    Err(Error::refused(format!(
        "`{value}` is no value of the partition `{name}`, a {kind}: write {write}, or `{DEFAULT_PARTITION}` for the rows \
         without a value"
    )))
}

/// The text of a column in a path; that of rows without a value for the default partition.
pub(super) fn value_in<'a>(found: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    let value = found.get(name)?;
    Some(value.as_str().unwrap_or(DEFAULT_PARTITION))
}

/// Whether a text in a path is this value, or stands for it because it is too long.
fn is_value(found: &str, value: &str) -> bool {
    found == value || is_short_for(found, value)
}

/// When the day or the hour of a path ends, in microseconds since 1970, at the earliest and at the latest: the first of a
/// month may hold late rows of all of it. `None` for a path without a time, such as that of the default partition.
fn ends_of(path: &str, columns: &[PartitionColumn]) -> Option<(i64, i64)> {
    let found = columns_of(path);
    let column = |wanted: &str| {
        columns.iter().find_map(|column| {
            let (source, zone) = match column.source.split_once('@') {
                Some((source, minutes)) => (source, minutes.parse().ok()?),
                None => (column.source.as_str(), 0_i64),
            };
            let value = found.get(&column.name)?.as_str()?;
            (source == wanted).then_some((value, zone))
        })
    };
    let (date, zone) = column("date")?;
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let hours = match column("hour") {
        Some((hour, _)) => hour.parse::<u8>().ok().filter(|hour| *hour < 24)? + 1,
        None => 24,
    };
    let moment = |date: NaiveDate, hours: u8| {
        let local = (i64::from(date.to_epoch_days()) * 24 + i64::from(hours)) * MICROS_PER_HOUR;
        local - zone * MICROS_PER_MINUTE
    };
    let end = moment(date, hours);
    let may_be_late = date.day() == 1 && matches!(hours, 1 | 24);
    let last = match date.checked_add_months(Months::new(1)) {
        Some(next) if may_be_late => moment(next, 0),
        _ => end,
    };
    Some((end, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::partition::PartitionSpec;

    const DAY: i64 = 24 * MICROS_PER_HOUR;

    #[test]
    fn a_place_by_time_goes_when_its_last_moment_is_past() {
        // 2026-11-21 is day 20,778.
        let day = 20_778 * DAY;
        for (parts, zone, path, end) in [
            ("date", 0, "date=2026-11-21", Some(day + DAY)),
            (
                "date",
                60,
                "date=2026-11-21",
                Some(day + DAY - MICROS_PER_HOUR),
            ),
            (
                "hour",
                0,
                "date=2026-11-21/hour=07",
                Some(day + 8 * MICROS_PER_HOUR),
            ),
            ("date", 0, "date=__HIVE_DEFAULT_PARTITION__", None),
            ("date", 0, "other=2026-11-21", None),
            ("date", 0, "", None),
            ("hour", 0, "date=2026-11-21/hour=24", None),
        ] {
            let spec = PartitionSpec::try_new(&[parts], zone).unwrap();
            let columns = spec.columns_for(&TableSchema::default()).unwrap();
            assert_eq!(ends_of(path, &columns), end.map(|end| (end, end)), "{path}");
            let judge = |before| WhatExpires::Before(before).judge(path, &columns);
            match end {
                Some(end) => {
                    assert_eq!(judge(end), PlaceVerdict::Goes, "{path}");
                    assert_eq!(judge(end - 1), PlaceVerdict::Stays, "{path}");
                }
                None => assert_eq!(judge(i64::MAX), PlaceVerdict::ByRecord, "{path}"),
            }
        }
    }

    #[test]
    fn a_value_that_no_path_can_have_is_refused() {
        let column = |kind, source: &str| PartitionColumn {
            name: "c".to_owned(),
            source: source.to_owned(),
            kind,
            declared: false,
        };
        for (kind, source, valid, invalid) in [
            (
                PartitionKind::Date,
                "date@0",
                "2026-11-30",
                &["2026-13-01", "30.11.2026", "2026-11-1", "null", ""][..],
            ),
            (
                PartitionKind::Bigint,
                "field:n",
                "-7",
                &["7.0", "007", "x", "null", ""],
            ),
            (
                PartitionKind::Boolean,
                "field:b",
                "false",
                &["False", "0", ""],
            ),
            (
                PartitionKind::Varchar,
                "hour@60",
                "07",
                &["7", "24", "007", ""],
            ),
            (PartitionKind::Varchar, "field:r", "null", &[""]),
        ] {
            let column = column(kind, source);
            assert!(check_value(&column, valid).is_ok(), "{valid}");
            assert!(check_value(&column, DEFAULT_PARTITION).is_ok());
            for value in invalid {
                let error = check_value(&column, value).unwrap_err().to_string();
                assert!(
                    error.contains("`__HIVE_DEFAULT_PARTITION__` for the rows without"),
                    "{error}"
                );
            }
        }
    }

    /// With `lateness-max`, late rows of a month lie at its first day.
    #[test]
    fn the_first_of_a_month_goes_when_the_month_is_past() {
        // 2026-11-01 is day 20,758, and November has 30 days.
        let day = 20_758 * DAY;
        for (parts, path, end) in [
            ("date", "date=2026-11-01", day + DAY),
            ("hour", "date=2026-11-01/hour=00", day + MICROS_PER_HOUR),
        ] {
            let spec = PartitionSpec::try_new(&[parts], 0).unwrap();
            let columns = spec.columns_for(&TableSchema::default()).unwrap();
            let judge = |before| WhatExpires::Before(before).judge(path, &columns);
            assert_eq!(judge(end - 1), PlaceVerdict::Stays);
            assert_eq!(judge(end), PlaceVerdict::ByRecord);
            assert_eq!(judge(day + 30 * DAY - 1), PlaceVerdict::ByRecord);
            assert_eq!(judge(day + 30 * DAY), PlaceVerdict::Goes);
        }
    }

    #[test]
    fn a_partition_is_named_by_its_columns_and_others_are_refused() {
        let schema = TableSchema {
            partition_columns: PartitionSpec::try_new(&["date", "region"], 0)
                .unwrap()
                .columns_for(&TableSchema::default())
                .unwrap(),
            ..TableSchema::default()
        };
        let region = &schema.partition_columns[1].name;
        let of = |values: &[(&str, &str)]| {
            let values = values.iter();
            let values = values.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            WhatExpires::Partition(values.collect())
        };
        let what = of(&[(region, "a b"), ("date", "2026-11-21")]);
        what.check("t", Some(&schema)).unwrap();
        for (path, verdict) in [
            (
                format!("date=2026-11-21/{region}=a%20b"),
                PlaceVerdict::Goes,
            ),
            (
                format!("date=2026-11-22/{region}=a%20b"),
                PlaceVerdict::Stays,
            ),
            (format!("date=2026-11-21/{region}=a"), PlaceVerdict::Stays),
            (
                format!("date=2026-11-21/{region}={DEFAULT_PARTITION}"),
                PlaceVerdict::MayBeMeant,
            ),
            (
                format!("date={DEFAULT_PARTITION}/{region}=a%20b"),
                PlaceVerdict::MayBeMeant,
            ),
            (
                format!("date={DEFAULT_PARTITION}/{region}=a"),
                PlaceVerdict::Stays,
            ),
            (String::new(), PlaceVerdict::Stays),
        ] {
            assert_eq!(
                what.judge(&path, &schema.partition_columns),
                verdict,
                "{path}"
            );
        }
        let error = of(&[("device", "7")])
            .check("t", Some(&schema))
            .unwrap_err();
        assert!(
            error.to_string().contains("`device` is not a partition"),
            "{error}"
        );
        assert!(of(&[("date", "7")]).check("t", None).is_err());
        WhatExpires::Before(0).check("t", None).unwrap();
    }
}
