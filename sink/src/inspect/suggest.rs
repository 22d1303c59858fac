//! The declarations that the values of a table suggest.
//!
//! Owns the rules: texts and numbers that are times become TIMESTAMP, days DATE, and what did not fit its column often becomes a
//! column that takes it. Suggests, and decides nothing: a suggestion says what it saw. Promises that all suggestions of a table may
//! be declared together, and that each names the column that it was seen in.

use std::collections::BTreeMap;

use hydrant_core::Result;
use hydrant_core::lake::SharedLake;
use serde::Serialize;
use serde_json::Value;

use super::rows::rows;
use super::stats::stats;
use crate::decode::date_of;
use crate::lake::TableNames;
use crate::schema::declared::path_step;
use crate::schema::{Column, ColumnType, TableSchema};
use crate::table::event_time::TimeReader;
use crate::table::zone::Zone;

/// How many rows are looked at.
const ROWS_MAX: u64 = 10_000;

/// The share of values, in percent, that must not fit their column before another type is suggested.
const RESCUED_PERCENT: u64 = 1;

/// A declaration for `[sink.columns]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// The path of the column, as it is declared.
    pub path: String,
    /// The type, as it is declared.
    #[serde(rename = "type")]
    pub kind: String,
    /// What was seen.
    pub why: String,
}

/// What the values of a column were.
#[derive(Default)]
struct ValuesSeen {
    values: u64,
    times: u64,
    days: u64,
}

/// Reads the newest rows of a table, and what was rescued of all, and suggests types for columns that have others.
///
/// # Errors
/// Those of the lake; fatal when a file is not Parquet or a record is damaged.
pub async fn suggestions(
    lake: &SharedLake,
    names: &TableNames,
    schema: &TableSchema,
    wall_micros: i64,
) -> Result<Vec<Suggestion>> {
    let times = TimeReader::try_new(Zone::default(), &[], wall_micros)?;
    let mut leaves = Leaves::default();
    for column in &schema.columns {
        add_leaves(column, ("", ""), &mut leaves);
    }
    let mut seen: BTreeMap<String, ValuesSeen> = BTreeMap::new();
    let mut take = |row: &str| {
        if let Ok(row) = serde_json::from_str::<Value>(row) {
            look(&row, "", &leaves, &times, &mut seen);
        }
        Ok(())
    };
    rows(lake, names, None, ROWS_MAX, &mut take).await?;
    let mut found: BTreeMap<String, Suggestion> = BTreeMap::new();
    for (path, seen) in seen {
        let all = seen.values;
        let (kind, what) = if seen.days == all && all > 0 {
            ("DATE", "days")
        } else if seen.times == all && all > 0 {
            ("TIMESTAMP", "times")
        } else {
            continue;
        };
        found.insert(
            path.clone(),
            Suggestion {
                path,
                kind: kind.to_owned(),
                why: format!("all of the {all} values looked at are {what}"),
            },
        );
    }
    let stats = stats(lake, names).await?;
    for rescued in stats.rescued {
        let Some([path]) = leaves.by_counted_path.get(&rescued.path).map(Vec::as_slice) else {
            continue;
        };
        let column = leaves.by_path[path];
        let is_frequent = rescued.values * 100 >= stats.rows * RESCUED_PERCENT;
        let does_not_fit = ["type_conflict", "integer_overflow", "number_out_of_range"];
        if is_frequent && does_not_fit.contains(&rescued.reason.as_str()) {
            let kind = match &column.kind {
                ColumnType::Struct(_) | ColumnType::List(_) | ColumnType::Map(_) => "JSON",
                _ => "VARCHAR",
            };
            let (path, values) = (path.clone(), rescued.values);
            let why = format!(
                "{values} values did not fit {} ({})",
                column.kind.word(),
                rescued.reason
            );
            let kind = kind.to_owned();
            found.insert(path.clone(), Suggestion { path, kind, why });
        }
    }
    // What is declared as a whole has no columns below it.
    let wholes: Vec<String> = found.keys().cloned().collect();
    let is_below = |path: &str| {
        let mut rests = wholes
            .iter()
            .filter_map(|whole| path.strip_prefix(whole.as_str()));
        rests.any(|rest| rest.starts_with('.') || rest.starts_with("[]"))
    };
    found.retain(|path, _| !is_below(path));
    Ok(found.into_values().collect())
}

/// The columns that a declaration can name.
#[derive(Default)]
struct Leaves<'a> {
    /// By the path that a declaration writes.
    by_path: BTreeMap<String, &'a Column>,
    /// Those paths, by the one under which rescued values are counted: in that nothing tells a name with a dot from two.
    by_counted_path: BTreeMap<String, Vec<String>>,
}

fn add_leaves<'a>(column: &'a Column, parents: (&str, &str), leaves: &mut Leaves<'a>) {
    if column.declared {
        return;
    }
    let mut path = format!("{}{}", parents.0, path_step(&column.name));
    let mut counted_path = format!("{}{}", parents.1, column.name);
    let mut leaf = column;
    loop {
        leaves.by_path.insert(path.clone(), leaf);
        let paths = leaves.by_counted_path.entry(counted_path.clone());
        paths.or_default().push(path.clone());
        let ColumnType::List(item) = &leaf.kind else {
            break;
        };
        leaf = item;
        path.push_str("[]");
        counted_path.push_str("[]");
    }
    if let ColumnType::Struct(fields) = &leaf.kind {
        for field in fields {
            let parents = (&*format!("{path}."), &*format!("{counted_path}."));
            add_leaves(field, parents, leaves);
        }
    }
}

fn look(
    value: &Value,
    path: &str,
    leaves: &Leaves<'_>,
    times: &TimeReader,
    seen: &mut BTreeMap<String, ValuesSeen>,
) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (name, value) in fields {
                let path = format!("{path}{dot}{}", path_step(name));
                look(value, &path, leaves, times, seen);
            }
        }
        Value::Array(items) => {
            for item in items {
                look(item, &format!("{path}[]"), leaves, times, seen);
            }
        }
        scalar => {
            let Some(column) = leaves.by_path.get(path) else {
                return;
            };
            let counts = seen.entry(path.to_owned()).or_default();
            counts.values += 1;
            match (&column.kind, scalar) {
                (ColumnType::Varchar, Value::String(text)) => {
                    let bytes = text.as_bytes();
                    let is_day = date_of(bytes).is_some();
                    let has_digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count() >= 6;
                    // Serial numbers have no separators, and look like seconds since 1970.
                    let is_number = text.trim().parse::<f64>().is_ok();
                    let is_time = has_digits
                        && !is_number
                        && times
                            .text(bytes)
                            .is_some_and(|micros| times.in_window(micros).is_ok());
                    counts.days += u64::from(is_day);
                    counts.times += u64::from(is_time);
                }
                (ColumnType::Bigint | ColumnType::Double, Value::Number(number)) => {
                    let name = column.name.to_lowercase();
                    let is_named = ["time", "timestamp", "ts", "date", "_at", "epoch"];
                    let is_named = is_named
                        .iter()
                        .any(|word| name == *word || name.ends_with(word));
                    let text = number.to_string();
                    let micros = times.number(text.as_bytes());
                    let is_time = micros.is_some_and(|micros| times.in_window(micros).is_ok());
                    counts.times += u64::from(is_named && is_time);
                }
                _ => {}
            }
        }
    }
}
