//! What the values of an interval say of the settings: a name that no record has, a column that takes few of its values.
//!
//! Promises one warning for each setting of a sink at its first rows, and one for each path. Decides nothing: a field may
//! come later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use crate::decode::{PartitionRows, RejectReason};
use crate::lake::RescuedCount;
use crate::schema::{PartitionColumn, fold_name};
use crate::table::event_time::EVENT_TIME_FIELDS;
use crate::table::path_text::{DEFAULT_PARTITION, encode, is_plain_in_name};
use crate::table::spec::TableRules;

/// A share of a path's values, in parts of it, beyond which rescued ones are many..
const RESCUED_SHARE: u64 = 10;
/// ..and how many there are at least.
const RESCUED_MIN: u64 = 20;

/// The most paths that are warned of, and remembered.
const PATHS_MAX: usize = 1_000;

/// The most names that one warning lists.
const NAMES_MAX: usize = 5;

/// How many values the rows of an interval have under each path, such as `a.b[].c`.
#[derive(Debug, Default)]
pub(super) struct ColumnValues {
    values: BTreeMap<String, u64>,
    /// The values of the partition columns that a row has.
    directories: BTreeSet<String>,
    rows: u64,
}

impl ColumnValues {
    /// Counts the values of all rows.
    pub(super) fn of(partitions: &[PartitionRows]) -> Self {
        let mut counts = ColumnValues::default();
        for PartitionRows { path, rows, .. } in partitions {
            counts.rows += rows.num_rows() as u64;
            let named = path.split('/').filter_map(|part| part.split_once('='));
            let named = named.filter(|(_, value)| *value != DEFAULT_PARTITION);
            counts
                .directories
                .extend(named.map(|(name, _)| name.to_owned()));
            for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
                counts.add(field.name(), column.values());
            }
        }
        counts
    }

    fn add(&mut self, path: &str, array: &ArrayRef) {
        let values = array.len() - array.logical_null_count();
        if values == 0 {
            return;
        }
        *self.values.entry(path.to_owned()).or_default() += values as u64;
        match array.data_type() {
            DataType::Struct(fields) => {
                for (field, values) in fields.iter().zip(array.as_struct().columns()) {
                    self.add(&format!("{path}.{}", field.name()), values);
                }
            }
            DataType::List(_) => {
                self.add(&format!("{path}[]"), array.as_list::<i32>().values());
            }
            DataType::Map(..) => self.add(&format!("{path}{{}}"), array.as_map().values()),
            _ => {}
        }
    }

    /// The top-level name that differs from this one in case only.
    fn in_other_case(&self, name: &str) -> Option<&str> {
        let folded = fold_name(name);
        let mut names = self.values.keys().chain(&self.directories);
        let found = names.find(|other| *other != name && fold_name(other) == folded);
        found.map(String::as_str)
    }
}

/// What a sink has warned of.
#[derive(Debug, Default)]
pub(crate) struct ValueWarnings {
    warned: Mutex<Warned>,
}

#[derive(Debug, Default)]
struct Warned {
    /// The settings were held against the first rows.
    of_settings: bool,
    paths: BTreeSet<String>,
}

impl ValueWarnings {
    /// What is to be said of the rows of an interval, of which these values were rescued.
    pub(super) fn look(
        &self,
        rules: &TableRules,
        columns: &[PartitionColumn],
        partitions: &[PartitionRows],
        rescued: &[RescuedCount],
    ) -> Vec<String> {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let conflicts: Vec<&RescuedCount> = rescued
            .iter()
            .filter(|rescued| {
                rescued.reason == RejectReason::TYPE_CONFLICT.code()
                    && rescued.values >= RESCUED_MIN
                    && warned.paths.len() < PATHS_MAX
                    && !warned.paths.contains(&rescued.path)
            })
            .collect();
        let is_first = !warned.of_settings && !partitions.is_empty();
        if !is_first && conflicts.is_empty() {
            return Vec::new();
        }
        let counts = ColumnValues::of(partitions);
        let mut said = Vec::new();
        if is_first {
            warned.of_settings = true;
            said.extend(unknown_names(rules, columns, &counts, rescued));
        }
        for RescuedCount { path, values, .. } in conflicts {
            let all = values + counts.values.get(path).copied().unwrap_or(0);
            if values * RESCUED_SHARE > all {
                warned.paths.insert(path.clone());
                said.push(format!(
                    "column `{path}`: {values} of {all} values were rescued (type_conflict); declare it in [sink.columns], as \
                     VARCHAR or JSON if its values are of several kinds"
                ));
            }
        }
        said
    }
}

/// What is to be said of settings that name what no record has.
fn unknown_names(
    rules: &TableRules,
    columns: &[PartitionColumn],
    counts: &ColumnValues,
    rescued: &[RescuedCount],
) -> Vec<String> {
    let has = |path: &str| {
        let is_rescued = |rescued: &RescuedCount| {
            let rest = path.strip_prefix(&*rescued.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']))
        };
        let directory = encode(path, is_plain_in_name);
        counts.values.contains_key(path)
            || counts.directories.contains(&directory)
            || rescued.iter().any(is_rescued)
    };
    let records = match counts.rows {
        1 => "the one record of this interval does not have".to_owned(),
        rows => format!("none of the {rows} records of this interval has"),
    };
    let say = |names: Vec<&str>, setting: &str, remedy: &str| {
        let absent: Vec<&str> = names.into_iter().filter(|name| !has(name)).collect();
        let listed = absent.iter().take(NAMES_MAX).map(|name| {
            let other = counts.in_other_case(name);
            let other = other.map_or_else(String::new, |other| format!(" (but `{other}`)"));
            format!("`{name}`{other}")
        });
        let listed = listed.collect::<Vec<_>>().join(", ");
        let (noun, more) = match absent.len() {
            0 => return None,
            1 => ("the field", String::new()),
            len if len > NAMES_MAX => ("the fields", format!(" and {} more", len - NAMES_MAX)),
            _ => ("the fields", String::new()),
        };
        Some(format!(
            "{records} {noun} {listed}{more} of {setting}: {remedy}"
        ))
    };
    let by_time = columns
        .iter()
        .any(|column| !column.source.starts_with("field:"));
    let fields = columns
        .iter()
        .filter_map(|column| column.source.strip_prefix("field:"));
    let mut said = vec![say(
        fields.collect(),
        "`--partition`",
        "such rows lie in its default partition; a table keeps its layout, so for another one name another `--table`",
    )];
    let stamped = "their days are those at which the producer took them";
    match &rules.event_time {
        Some(field) => said.push(say(vec![field], "`--event-time`", stamped)),
        None if by_time && !EVENT_TIME_FIELDS.into_iter().any(has) => said.push(Some(format!(
            "{records} one of the fields `{}`: {stamped}; if another field holds the time, name it with `--event-time`",
            EVENT_TIME_FIELDS.join("`, `")
        ))),
        None => {}
    }
    let blooms = rules.encode.bloom_filters.iter().map(String::as_str);
    said.push(say(
        blooms.collect(),
        "`bloom-filters`",
        "write the name as the records have it",
    ));
    let declared: Vec<String> = rules
        .declared
        .iter()
        .map(|(path, _)| path.replace('"', ""))
        .collect();
    said.push(say(
        declared.iter().map(String::as_str).collect(),
        "[sink.columns]",
        "write the names as the records have them; a column that was declared stays",
    ));
    said.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch, StringArray, StructArray};
    use arrow_schema::Field;

    use super::*;
    use crate::schema::{ColumnType, TableSchema};
    use crate::table::partition::PartitionSpec;

    fn rows(path: &str, columns: Vec<(&str, ArrayRef)>) -> PartitionRows {
        let rows = RecordBatch::try_from_iter_with_nullable(
            columns
                .into_iter()
                .map(|(name, values)| (name, values, true)),
        );
        let rows = rows.unwrap();
        PartitionRows {
            path: path.to_owned(),
            records: (0..rows.num_rows() as u32).collect(),
            rows: rows.into(),
        }
    }

    fn rescued(path: &str, reason: &str, values: u64) -> RescuedCount {
        RescuedCount {
            path: path.to_owned(),
            reason: reason.to_owned(),
            values,
        }
    }

    fn layout(parts: &[&str]) -> Vec<PartitionColumn> {
        let spec = PartitionSpec::try_new(parts, 0).unwrap();
        spec.columns_for(&TableSchema::default()).unwrap()
    }

    fn records() -> PartitionRows {
        let n: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let s: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>, None]));
        let inner = Arc::new(Field::new("size", DataType::Int64, true));
        let meta: ArrayRef = Arc::new(StructArray::from(vec![(inner, Arc::clone(&n))]));
        let path = "date=2026-11-30/nope=__HIVE_DEFAULT_PARTITION__/Region=eu";
        rows(path, vec![("n", n), ("empty", s), ("meta", meta)])
    }

    #[test]
    fn a_name_that_no_record_has_is_told_once() {
        let mut rules = TableRules {
            event_time: Some("meta.tme".to_owned()),
            declared: ["n", "meta.size", "\"lost\"", "was.there", "empty"]
                .map(|path| (path.to_owned(), ColumnType::Bigint))
                .into(),
            ..TableRules::default()
        };
        rules.encode.bloom_filters = vec!["n".to_owned(), "N".to_owned()];
        let warnings = ValueWarnings::default();
        let columns = layout(&["date", "nope", "region"]);
        let lost = [rescued("was", "type_conflict", 2)];
        assert_eq!(warnings.look(&rules, &columns, &[], &[]), [""; 0]);
        let said = warnings.look(&rules, &columns, &[records()], &lost);
        let wanted = [
            "none of the 2 records of this interval has the fields `nope`, `region` (but `Region`) of `--partition`: ",
            "none of the 2 records of this interval has the field `meta.tme` of `--event-time`: ",
            "none of the 2 records of this interval has the field `N` (but `n`) of `bloom-filters`: ",
            "none of the 2 records of this interval has the fields `lost`, `empty` of [sink.columns]: ",
        ];
        assert_eq!(said.len(), wanted.len(), "{said:?}");
        for (said, wanted) in said.iter().zip(wanted) {
            assert!(said.starts_with(wanted), "{said}");
        }
        assert_eq!(
            warnings.look(&rules, &columns, &[records()], &lost),
            [""; 0]
        );
    }

    #[test]
    fn records_without_a_known_time_are_told_where_days_matter() {
        let ts: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let timed = rows("date=2026-11-30", vec![("ts", ts)]);
        for (partitions, parts, warns) in [
            (records(), &["date"][..], true),
            (records(), &["region"], false),
            (timed, &["date"], false),
        ] {
            let warnings = ValueWarnings::default();
            let rules = TableRules::default();
            let said = warnings.look(&rules, &layout(parts), &[partitions], &[]);
            let told = said.iter().any(|said| said.contains("`--event-time`"));
            assert_eq!(told, warns, "{said:?}");
        }
    }

    #[test]
    fn a_column_that_takes_few_of_its_values_is_told_once() {
        let n: ArrayRef = Arc::new(Int64Array::from(vec![Some(1); 300]));
        let partitions = [rows("", vec![("n", n)])];
        let rules = TableRules::default();
        for (path, reason, values, said) in [
            ("n", "type_conflict", 100, Some("100 of 400 values")),
            ("gone", "type_conflict", 20, Some("20 of 20 values")),
            ("n", "type_conflict", 33, None),
            ("gone", "type_conflict", 19, None),
            ("n", "unknown_column", 100, None),
        ] {
            let warnings = ValueWarnings::default();
            warnings.look(&rules, &[], &partitions, &[]);
            let counts = [rescued(path, reason, values)];
            let told = warnings.look(&rules, &[], &partitions, &counts);
            assert_eq!(told.len(), usize::from(said.is_some()), "{told:?}");
            if let (Some(said), [told]) = (said, told.as_slice()) {
                assert!(
                    told.starts_with(&format!("column `{path}`: {said}")),
                    "{told}"
                );
            }
            assert_eq!(warnings.look(&rules, &[], &partitions, &counts), [""; 0]);
        }
    }
}
