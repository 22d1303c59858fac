//! The partitions of a table.
//!
//! Owns the layout of a table's directories and how a partition is named. Promises that the name depends on the row and
//! the layout only. Refuses to drop or move a row: a row without a value for a part of the layout goes into the default
//! partition.

use std::fmt::Write as _;

use hydrant_core::{Error, Result};

use super::event_time::{MICROS_PER_DAY, MICROS_PER_HOUR, civil_date};
use crate::lake::percent_encode;
use crate::schema::{PartitionColumn, TableSchema, fold_name};

/// The directory value of rows without a value, as Hive, DuckDB, Polars and pyarrow write it.
pub const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// The longest encoded field value in a path; an object's key has 1,024 bytes in all.
const FIELD_VALUE_BYTES_MAX: usize = 200;

/// The time that the rows of a table are partitioned by.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    fields: Vec<String>,
    offset_minutes: i32,
}

impl PartitionSpec {
    /// A layout by `date` or `hour` and by fields, which all other names are. Days and hours are those of the zone
    /// `offset_minutes` east of UTC. Whatever the order given, time comes first in the path.
    ///
    /// # Errors
    /// Refused: parts that repeat, empty names, an offset beyond 18 hours.
    pub fn try_new(parts: &[impl AsRef<str>], offset_minutes: i32) -> Result<Self> {
        if offset_minutes.abs() > 18 * 60 {
            return Err(Error::refused(format!(
                "the zone's offset of {offset_minutes} minutes is beyond 18 hours"
            )));
        }
        let repeated = |part: &str| {
            Error::refused(format!(
                "partition `{part}`: name `date` or `hour` once, and every field once"
            ))
        };
        let mut spec = Self {
            time: None,
            fields: Vec::new(),
            offset_minutes,
        };
        for part in parts {
            match part.as_ref() {
                "date" | "hour" if spec.time.is_some() => {
                    return Err(repeated("date"));
                }
                "date" => spec.time = Some(PartitionBy::Date),
                "hour" => spec.time = Some(PartitionBy::Hour),
                name => {
                    let folded = fold_name(name);
                    if name.is_empty() || spec.fields.iter().any(|field| fold_name(field) == folded)
                    {
                        return Err(repeated(name));
                    }
                    spec.fields.push(name.to_owned());
                }
            }
        }
        Ok(spec)
    }

    /// The fields that the layout needs, in the order of a [`PartitionKey`]'s values.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The partition columns of a table with this schema.
    ///
    /// A column that the schema has already fixed stays. Otherwise a name that a record's column
    /// has (case does not count) gets a leading underscore, so that the record keeps its field and
    /// readers see both; a partition by a field is therefore always named `_field`.
    ///
    /// # Errors
    /// Refused when the table has another layout.
    pub fn columns_for(&self, schema: &TableSchema) -> Result<Vec<PartitionColumn>> {
        let sources = self.sources();
        let fixed = &schema.partition_columns;
        if !fixed.is_empty() {
            let stored: Vec<&str> = fixed.iter().map(|column| column.source.as_str()).collect();
            return if stored == sources {
                Ok(fixed.to_vec())
            } else {
                Err(Error::refused(format!(
                    "the table is partitioned by {}, not by {}: leave `partition` as it was, or write into another table",
                    stored.join(", "),
                    sources.join(", "),
                )))
            };
        }
        let mut taken: Vec<String> = schema
            .columns
            .iter()
            .map(|column| fold_name(&column.name))
            .collect();
        taken.extend(self.fields.iter().map(|field| fold_name(field)));
        let mut columns = Vec::with_capacity(sources.len());
        for source in sources {
            let plain = source.strip_prefix("field:").unwrap_or(&source);
            let plain = plain
                .split('@')
                .next()
                .filter(|_| !source.starts_with("field:"))
                .unwrap_or(plain);
            let mut name = plain.to_owned();
            while taken.contains(&fold_name(&name))
                || (schema.provenance && schema.is_reserved(&name))
            {
                name.insert(0, '_');
            }
            taken.push(fold_name(&name));
            columns.push(PartitionColumn { name, source });
        }
        Ok(columns)
    }

    /// What each partition column is computed from; a zone other than UTC is part of it.
    fn sources(&self) -> Vec<String> {
        let zone = match self.offset_minutes {
            0 => String::new(),
            minutes => format!("@{minutes}"),
        };
        let time: &[&str] = match self.time {
            Some(PartitionBy::Date) => &["date"],
            Some(PartitionBy::Hour) => &["date", "hour"],
            _ => &[],
        };
        let time = time.iter().map(|source| format!("{source}{zone}"));
        time.chain(self.fields.iter().map(|field| format!("field:{field}")))
            .collect()
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
}

/// One partition of a table: the values behind its path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey {
    /// Hours or days since 1970 in the layout's zone; `None` is the default partition.
    pub(crate) bucket: Option<i64>,
    /// The field values, percent-encoded; `None` is the default partition.
    pub(crate) values: Vec<Option<String>>,
}

impl PartitionKey {
    /// The bytes that the key takes.
    pub(crate) fn bytes(&self) -> usize {
        let values = self
            .values
            .iter()
            .map(|value| size_of::<Option<String>>() + value.as_ref().map_or(0, String::len));
        size_of::<Self>() + values.sum::<usize>()
    }

    /// The partition's path below the table, such as `date=2026-11-21/_region=eu`; empty for a
    /// table without partitions.
    pub fn path(&self, spec: &PartitionSpec, columns: &[PartitionColumn]) -> String {
        debug_assert_eq!(self.values.len(), spec.fields.len());
        let mut path = String::new();
        let mut names = columns
            .iter()
            .map(|column| percent_encode(&column.name, b""));
        let mut push = |value: &str| {
            let slash = if path.is_empty() { "" } else { "/" };
            let name = names.next().unwrap_or_default();
            write!(path, "{slash}{name}={value}").expect("writing to a string cannot fail");
        };
        let hourly = spec.time == Some(PartitionBy::Hour);
        if spec.time.is_some() {
            match self.bucket {
                None => push(DEFAULT_PARTITION),
                Some(bucket) => push(&civil_date(if hourly {
                    bucket.div_euclid(24)
                } else {
                    bucket
                })),
            }
        }
        if hourly {
            match self.bucket {
                None => push(DEFAULT_PARTITION),
                Some(bucket) => push(&format!("{:02}", bucket.rem_euclid(24))),
            }
        }
        for value in &self.values {
            push(value.as_deref().unwrap_or(DEFAULT_PARTITION));
        }
        path
    }
}

/// A field's value as a path segment, or `None` if it is empty or too long for one.
pub(crate) fn field_value(text: &str) -> Option<String> {
    let encoded = percent_encode(text, b"");
    (!encoded.is_empty() && encoded.len() <= FIELD_VALUE_BYTES_MAX).then_some(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::event_time::parse_rfc3339;

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
    fn layouts_that_repeat_are_refused() {
        for spec in ["date,date", "date,hour", "a,a", "a,A", "", "date,"] {
            let parts: Vec<&str> = spec.split(',').collect();
            assert!(PartitionSpec::try_new(&parts, 0).is_err(), "{spec}");
        }
        assert!(PartitionSpec::try_new(&["date"], 19 * 60).is_err());
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
