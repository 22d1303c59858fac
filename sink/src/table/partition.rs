//! The partitions of a table.
//!
//! Owns the layout of a table's directories, and how a partition is named. The column of a partition lies in the path
//! and not in the file, as every Hive reader expects. Promises that the name depends on the row, the layout and the
//! types of the partition columns only, that equal values have one name, that no component of a path is longer than a
//! file system takes, and no key longer than an object store takes. Refuses to drop or move a row: a row without a value
//! for a part of the layout goes into the default partition.

use std::fmt::Write as _;

use chrono::{Datelike as _, NaiveDate};
use hydrant_core::{Error, Result};

use super::event_time::{MICROS_PER_DAY, MICROS_PER_HOUR, civil_date};
use super::layout_text::{check_part, otherwise_laid_out};
use super::partition_value::PartitionValue;
use super::path_text::{DEFAULT_PARTITION, encode, is_plain_in_name, shortened};
use crate::schema::{ColumnType, PartitionColumn, PartitionKind, TableSchema, fold_name};

/// The longest component of a path that file systems take, in bytes.
const COMPONENT_BYTES_MAX: usize = 255;

/// The longest path of a partition, in bytes: what an object store takes for a key (1,024), less the names of the table
/// (100) and of the file (about 200), and the place of the lake in its bucket.
const PATH_BYTES_MAX: usize = 544;

/// The bytes of the components for a time: `date=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__/`, with
/// longer names.
const TIME_BYTES_MAX: usize = 160;

/// The longest name of a column for a time, in bytes as encoded.
const TIME_NAME_BYTES_MAX: usize = 48;

/// The most fields of a layout.
const FIELDS_MAX: usize = 6;

/// The time that the rows of a table are partitioned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionBy {
    /// The day of the event time.
    Date,
    /// The hour of the event time, below its day.
    Hour,
}

/// The layout of a table's directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSpec {
    time: Option<PartitionBy>,
    /// The names that the configuration gives the columns for the day and the hour.
    names: [Option<String>; 2],
    fields: Vec<String>,
    /// The declared types of the fields.
    kinds: Vec<PartitionKind>,
    offset_minutes: i32,
}

impl PartitionSpec {
    /// A layout by `date` or `hour` and by fields, which all other names are. `date=NAME` and `hour=NAME` give the columns
    /// for a time other names. Days and hours are those of the zone `offset_minutes` east of UTC. Whatever the order given,
    /// time comes first in the path.
    ///
    /// # Errors
    /// Refused: parts that repeat, unusable names, too many fields, an offset beyond 18 hours.
    pub fn try_new(parts: &[impl AsRef<str>], offset_minutes: i32) -> Result<Self> {
        if offset_minutes.abs() > 18 * 60 {
            return Err(Error::refused(format!(
                "the zone's offset of {offset_minutes} minutes is beyond 18 hours"
            )));
        }
        let mut spec = Self {
            time: None,
            names: [None, None],
            fields: Vec::new(),
            kinds: Vec::new(),
            offset_minutes,
        };
        let mut times = Vec::new();
        for part in parts {
            let part = part.as_ref();
            check_part(part)?;
            let (source, name) = match part.split_once('=') {
                Some((source, name)) => (source, Some(name)),
                None => (part, None),
            };
            let (by, at) = match (source, name) {
                ("date", _) => (PartitionBy::Date, 0),
                ("hour", _) => (PartitionBy::Hour, 1),
                (_, Some(_)) => {
                    return Err(Error::refused(format!(
                        "partition `{part}`: only `date` and `hour` take another name; a field keeps its own"
                    )));
                }
                _ => {
                    spec.fields.push(part.to_owned());
                    continue;
                }
            };
            times.push(source);
            spec.names[at] = name.map(str::to_owned);
            if spec.time != Some(PartitionBy::Hour) {
                spec.time = Some(by);
            }
        }
        spec.kinds = vec![PartitionKind::Undecided; spec.fields.len()];
        if spec.fields.len() > FIELDS_MAX {
            return Err(Error::refused(format!(
                "{} fields are too many for the names of directories: partition by at most {FIELDS_MAX}",
                spec.fields.len()
            )));
        }
        let mut seen = Vec::new();
        for name in spec.columns().map(|column| fold_name(&column.name)) {
            if seen.contains(&name) || times.iter().filter(|time| **time == name).count() > 1 {
                return Err(Error::refused(format!(
                    "partition `{name}`: name `date`, `hour` and every field once"
                )));
            }
            if name.is_empty() || name.starts_with(['_', '.']) || name.contains(char::is_control) {
                return Err(Error::refused(format!(
                    "partition `{name}`: readers skip directories whose names begin with `_` or `.`, and a column needs a \
                     name: partition by another field, or give a time another name, such as `date=event_date`"
                )));
            }
            if !name.chars().all(is_plain_in_name) {
                return Err(Error::refused(format!(
                    "partition `{name}`: readers do not find a column whose name has one of `/ \\ = % : * ? \" #`: partition by \
                     another field"
                )));
            }
            seen.push(name);
        }
        let long = spec.names.iter().flatten();
        if let Some(name) = long
            .into_iter()
            .find(|name| encode(name, is_plain_in_name).len() > TIME_NAME_BYTES_MAX)
        {
            return Err(Error::refused(format!(
                "partition name `{name}` is too long"
            )));
        }
        Ok(spec)
    }

    /// The same layout, with the types that are declared for columns of these names.
    ///
    /// # Errors
    /// Refused: a field with a type that a path cannot hold.
    pub fn with_declared(mut self, declared: &[(String, ColumnType)]) -> Result<Self> {
        for (field, kind) in self.fields.iter().zip(&mut self.kinds) {
            let Some((_, declared)) = declared.iter().find(|(name, _)| name == field) else {
                continue;
            };
            *kind = match declared {
                ColumnType::Bigint => PartitionKind::Bigint,
                ColumnType::Boolean => PartitionKind::Boolean,
                ColumnType::Varchar => PartitionKind::Varchar,
                other => {
                    return Err(Error::refused(format!(
                        "column `{field}` names directories and is declared as {other}: declare it as BIGINT, BOOLEAN or \
                         VARCHAR"
                    )));
                }
            };
        }
        Ok(self)
    }

    /// The fields that the layout needs, in the order of a [`PartitionKey`]'s values.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The partition columns of a table with this schema. Those that a stored schema has stay.
    ///
    /// # Errors
    /// Refused when the table has another layout, or when a column of a new table has the name of a time.
    pub fn columns_for(&self, schema: &TableSchema) -> Result<Vec<PartitionColumn>> {
        let fixed = &schema.partition_columns;
        if schema.number > 0 || !fixed.is_empty() {
            return match self.contradiction(fixed) {
                None => Ok(fixed.clone()),
                Some(why) => Err(Error::refused(format!("the table {why}"))),
            };
        }
        let columns: Vec<PartitionColumn> = self.columns().collect();
        let is_taken = |column: &&PartitionColumn| {
            let folded = fold_name(&column.name);
            schema
                .columns
                .iter()
                .any(|taken| fold_name(&taken.name) == folded)
        };
        match columns.iter().find(is_taken) {
            None => Ok(columns),
            Some(PartitionColumn { name, source, .. }) => Err(Error::refused(format!(
                "column `{name}` is declared and names directories: give the directories another name, such as `{}=event_{}`",
                source.split('@').next().unwrap_or_default(),
                source.split('@').next().unwrap_or_default(),
            ))),
        }
    }

    /// How a table with these columns is laid out otherwise, if it is.
    pub(crate) fn contradiction(&self, fixed: &[PartitionColumn]) -> Option<String> {
        let ours: Vec<PartitionColumn> = self.columns().collect();
        let is_named_otherwise = |(ours, theirs): (&PartitionColumn, &PartitionColumn)| {
            ours.name != theirs.name && self.names.iter().flatten().any(|name| *name == ours.name)
        };
        let sources = |columns: &[PartitionColumn]| -> Vec<String> {
            columns.iter().map(|column| column.source.clone()).collect()
        };
        let mut pairs = ours.iter().zip(fixed);
        if sources(fixed) != sources(&ours) || pairs.clone().any(is_named_otherwise) {
            return Some(otherwise_laid_out(fixed, &ours));
        }
        let is_typed_otherwise = |(ours, theirs): &(&PartitionColumn, &PartitionColumn)| {
            ours.kind != PartitionKind::Undecided && ours.kind != theirs.kind
        };
        let (_, PartitionColumn { name, kind, .. }) = pairs.find(is_typed_otherwise)?;
        Some(format!(
            "has {kind} directories for column `{name}`: declare it so in [sink.columns], or leave its declaration out"
        ))
    }

    /// The partition columns of a new table.
    fn columns(&self) -> impl Iterator<Item = PartitionColumn> {
        // A zone other than UTC is part of what a time is computed from.
        let zone = match self.offset_minutes {
            0 => String::new(),
            minutes => format!("@{minutes}"),
        };
        let times = match self.time {
            Some(PartitionBy::Date) => 1,
            Some(PartitionBy::Hour) => 2,
            None => 0,
        };
        let kinds = [
            ("date", PartitionKind::Date),
            ("hour", PartitionKind::Varchar),
        ];
        let times = kinds.into_iter().zip(&self.names).take(times);
        let times = times.map(move |((source, kind), name)| PartitionColumn {
            name: name.clone().unwrap_or_else(|| source.to_owned()),
            source: format!("{source}{zone}"),
            kind,
            declared: false,
        });
        let fields = self.fields.iter().zip(&self.kinds);
        times.chain(fields.map(|(field, kind)| {
            PartitionColumn {
                name: shortened(
                    field,
                    &encode(field, is_plain_in_name),
                    self.field_bytes_max() / 2,
                    is_plain_in_name,
                )
                .unwrap_or_else(|| field.clone()),
                source: format!("field:{field}"),
                kind: *kind,
                declared: *kind != PartitionKind::Undecided,
            }
        }))
    }

    /// The most bytes of the component of a field.
    fn field_bytes_max(&self) -> usize {
        let time = self.time.map_or(0, |_| TIME_BYTES_MAX);
        let each = (PATH_BYTES_MAX - time) / self.fields.len().max(1);
        (each - 1).min(COMPONENT_BYTES_MAX)
    }

    /// The most bytes of the value of the field with this index, as encoded.
    pub(crate) fn value_bytes_max(&self, field: usize) -> usize {
        let max = self.field_bytes_max();
        let name = encode(&self.fields[field], is_plain_in_name).len();
        max - 1 - name.min(max / 2)
    }

    /// The bucket of an event time: its hour or day since 1970, or `None` when the layout has no
    /// time.
    pub(crate) fn bucket(&self, micros: i64) -> Option<i64> {
        let local = micros.saturating_add(i64::from(self.offset_minutes) * 60_000_000);
        match self.time {
            Some(PartitionBy::Date) => Some(local.div_euclid(MICROS_PER_DAY)),
            Some(PartitionBy::Hour) => Some(local.div_euclid(MICROS_PER_HOUR)),
            _ => None,
        }
    }

    /// The bucket for late rows of the month of an event time: its first day, or the first hour of that.
    pub(crate) fn month(&self, micros: i64) -> Option<i64> {
        let hours = match self.time? {
            PartitionBy::Date => 1,
            PartitionBy::Hour => 24,
        };
        let day = self.bucket(micros)?.div_euclid(hours);
        let date = NaiveDate::from_epoch_days(i32::try_from(day).ok()?)?;
        Some((day - i64::from(date.day0())) * hours)
    }

    /// The partition columns with the types that the values of the first interval have: BIGINT or BOOLEAN if all have it.
    pub(crate) fn decided(
        &self,
        mut columns: Vec<PartitionColumn>,
        keys: &[PartitionKey],
    ) -> Vec<PartitionColumn> {
        let fields = columns.len() - self.fields.len();
        for (slot, column) in columns[fields..].iter_mut().enumerate() {
            if column.kind == PartitionKind::Undecided {
                let values = keys.iter().filter_map(|key| key.values[slot].as_ref());
                let mut kinds = values.map(PartitionValue::kind);
                let first = kinds.next().unwrap_or(PartitionKind::Varchar);
                column.kind = match kinds.all(|kind| kind == first) {
                    true => first,
                    false => PartitionKind::Varchar,
                };
            }
        }
        columns
    }
}

/// One partition of a table: the values behind its path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey {
    /// Hours or days since 1970 in the layout's zone; `None` is the default partition.
    pub(crate) bucket: Option<i64>,
    /// The values of the fields; `None` is the default partition.
    pub(crate) values: Vec<Option<PartitionValue>>,
}

impl PartitionKey {
    /// The bytes that the key takes.
    pub(crate) fn bytes(&self) -> usize {
        let values = self.values.iter().map(|value| {
            size_of::<Option<PartitionValue>>() + value.as_ref().map_or(0, PartitionValue::bytes)
        });
        size_of::<Self>() + values.sum::<usize>()
    }

    /// The partition's path below the table, such as `date=2026-11-21/region=eu`; empty for a
    /// table without partitions.
    pub fn path(&self, spec: &PartitionSpec, columns: &[PartitionColumn]) -> String {
        debug_assert_eq!(self.values.len(), spec.fields.len());
        let mut path = String::new();
        let mut columns = columns.iter();
        let mut push = |value: &dyn Fn(PartitionKind) -> Option<String>| {
            let Some(column) = columns.next() else { return };
            let slash = if path.is_empty() { "" } else { "/" };
            let name = encode(&column.name, is_plain_in_name);
            let value = value(column.kind).unwrap_or_else(|| DEFAULT_PARTITION.to_owned());
            write!(path, "{slash}{name}={value}").expect("writing to a string cannot fail");
        };
        let hourly = spec.time == Some(PartitionBy::Hour);
        let hours = if hourly { 24 } else { 1 };
        if spec.time.is_some() {
            push(&|_| Some(civil_date(self.bucket?.div_euclid(hours))));
        }
        if hourly {
            push(&|_| Some(format!("{:02}", self.bucket?.rem_euclid(hours))));
        }
        for value in &self.values {
            push(&|kind| value.as_ref()?.in_path(kind));
        }
        debug_assert!(
            path.len() <= PATH_BYTES_MAX
                && path
                    .split('/')
                    .all(|part| part.len() <= COMPONENT_BYTES_MAX)
        );
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::event_time::parse_rfc3339;
    use crate::table::partition_value::ReadValue;

    #[test]
    fn a_zone_shifts_days_and_hours() {
        let micros = parse_rfc3339(b"2026-01-01T23:30:00Z").unwrap();
        for (minutes, path) in [
            (0, "date=2026-01-01/hour=23"),
            (60, "date=2026-01-02/hour=00"),
            (-1_440 + 360, "date=2026-01-01/hour=05"),
        ] {
            let spec = PartitionSpec::try_new(&["hour"], minutes).unwrap();
            let columns = spec.columns_for(&TableSchema::default()).unwrap();
            assert_eq!(columns[0].name, "date");
            let key = PartitionKey {
                bucket: spec.bucket(micros),
                values: vec![],
            };
            assert_eq!(key.path(&spec, &columns), path);
        }
    }

    #[test]
    fn layouts_that_repeat_or_that_readers_skip_are_refused() {
        for spec in [
            "date,date",
            "hour,hour",
            "a,a",
            "a,A",
            "",
            "date,",
            "_id",
            ".a",
            "a=b",
            "date=region,region",
            "date=_d",
            "date=",
            "hour,date=hour",
            "a,b,c,d,e,f,g",
            "date;region",
            "date=a=b",
            "date = d",
            "date, region",
            "meta.region",
            "day",
            "day=d",
            "date,none",
        ] {
            let parts: Vec<&str> = spec.split(',').collect();
            assert!(PartitionSpec::try_new(&parts, 0).is_err(), "{spec}");
        }
        assert!(PartitionSpec::try_new(&["date"], 19 * 60).is_err());
    }

    #[test]
    fn times_take_other_names_and_fields_keep_theirs() {
        let column = |name: &str| TableSchema {
            columns: vec![crate::schema::Column::new(name, ColumnType::Bigint)],
            ..TableSchema::default()
        };
        for (parts, names) in [
            (&["date=event_date"][..], &["event_date"][..]),
            (&["hour=h"], &["date", "h"]),
            (&["region", "hour=h", "date=d"], &["d", "h", "region"]),
        ] {
            let spec = PartitionSpec::try_new(parts, 0).unwrap();
            let columns = spec.columns_for(&column("x")).unwrap();
            let found: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
            assert_eq!(found, names);
            let refused = spec.columns_for(&column(&names[0].to_uppercase()));
            assert!(refused.is_err());
        }
    }

    #[test]
    fn a_stored_schema_decides_the_layout() {
        let stored = |parts: &[&str]| {
            let columns = PartitionSpec::try_new(parts, 0).unwrap();
            let columns = columns.columns_for(&TableSchema::default()).unwrap();
            TableSchema {
                number: 1,
                partition_columns: columns,
                ..TableSchema::default()
            }
        };
        for (had, asked, fits) in [
            (&["date"][..], &["date"][..], true),
            (&[], &[], true),
            (&[], &["date"], false),
            (&["date"], &[], false),
            (&["date"], &["hour"], false),
            (&["date=d"], &["date"], true),
            (&["date=d"], &["date=d"], true),
            (&["date"], &["date=d"], false),
            (&["a", "b"], &["b", "a"], false),
        ] {
            let spec = PartitionSpec::try_new(asked, 0).unwrap();
            let columns = spec.columns_for(&stored(had));
            assert_eq!(columns.is_ok(), fits, "{had:?} {asked:?}");
        }
        let mut bigint = stored(&["a"]);
        bigint.partition_columns[0].kind = PartitionKind::Bigint;
        for (kind, fits) in [(ColumnType::Bigint, true), (ColumnType::Varchar, false)] {
            let spec = PartitionSpec::try_new(&["a"], 0).unwrap();
            let spec = spec.with_declared(&[("a".to_owned(), kind)]).unwrap();
            assert_eq!(spec.columns_for(&bigint).is_ok(), fits);
        }
        let spec = PartitionSpec::try_new(&["a"], 0).unwrap();
        let declared = [("a".to_owned(), ColumnType::Double)];
        assert!(spec.with_declared(&declared).is_err());
    }

    #[test]
    fn no_path_is_too_long() {
        let names = |count: usize| {
            let names = (0..count).map(|n| format!("{n}{}", "\u{30b7}".repeat(80)));
            names.collect::<Vec<String>>()
        };
        for count in 1..=FIELDS_MAX {
            let mut parts = names(count);
            parts.push("hour".to_owned());
            let spec = PartitionSpec::try_new(&parts, 0).unwrap();
            let columns = spec.columns_for(&TableSchema::default()).unwrap();
            for value in ["\u{30b7}".repeat(900), "/".repeat(900), ".".repeat(900)] {
                let token = format!("\"{value}\"");
                let values = (0..count)
                    .map(|slot| ReadValue::of(token.as_bytes(), spec.value_bytes_max(slot)).value);
                let key = PartitionKey {
                    bucket: None,
                    values: values.collect(),
                };
                let path = key.path(&spec, &columns);
                assert!(path.len() <= PATH_BYTES_MAX, "{} bytes", path.len());
                assert!(
                    path.split('/')
                        .all(|part| part.len() <= COMPONENT_BYTES_MAX)
                );
                let distinct: std::collections::HashSet<&str> =
                    columns.iter().map(|column| &*column.name).collect();
                assert_eq!(distinct.len(), count + 2);
            }
        }
    }

    #[test]
    fn late_rows_lie_at_the_first_of_their_month() {
        let micros = parse_rfc3339(b"2026-03-31T23:30:00Z").unwrap();
        for (part, minutes, path) in [
            ("date", 0, "date=2026-03-01"),
            ("date", 60, "date=2026-04-01"),
            ("hour", 0, "date=2026-03-01/hour=00"),
        ] {
            let spec = PartitionSpec::try_new(&[part], minutes).unwrap();
            let key = PartitionKey {
                bucket: spec.month(micros),
                values: vec![],
            };
            let columns = spec.columns_for(&TableSchema::default()).unwrap();
            assert_eq!(key.path(&spec, &columns), path);
        }
        let spec = PartitionSpec::try_new(&["region"], 0).unwrap();
        assert_eq!(spec.month(micros), None);
    }

    #[test]
    fn a_layout_by_nothing_puts_every_row_at_the_table() {
        let spec = PartitionSpec::try_new(&[""; 0], 0).unwrap();
        let columns = spec.columns_for(&TableSchema::default()).unwrap();
        let key = PartitionKey {
            bucket: spec.bucket(0),
            values: vec![],
        };
        assert_eq!(key.path(&spec, &columns), "");
    }
}
