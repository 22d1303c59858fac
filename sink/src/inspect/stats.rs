//! The figures of a table.

use std::collections::BTreeMap;

use hydrant_core::Result;
use hydrant_core::lake::{Object, SharedLake};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use serde::Serialize;

use super::damaged;
use crate::encode::{FOOTER_END_BYTES, count_values, footer};
use crate::lake::{Commit, RescuedCount, TableNames};

/// A file below this size costs readers more time to open than to read.
const SMALL_FILE_BYTES: u64 = 8 << 20;

/// The figures of a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TableStats {
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// The bytes of the files.
    pub bytes: u64,
    /// The size below which a file counts as small, in bytes.
    pub small_file_bytes: u64,
    /// Files below that size.
    pub small_files: u64,
    /// The partitions, by path.
    pub partitions: Vec<PartitionStats>,
    /// The columns, as the files have them.
    pub columns: Vec<ColumnStats>,
    /// The values that no column took, by path and reason, from the commit records.
    pub rescued: Vec<RescuedCount>,
}

/// The figures of a partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PartitionStats {
    /// The path below the table; empty for a table without partitions.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// The bytes of the files.
    pub bytes: u64,
    /// Files below the size that counts as small.
    pub small_files: u64,
}

/// The figures of a column, or of a field or an item within one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ColumnStats {
    /// The path, such as `a.b[].c`; `{}` stands for the values of a map.
    pub path: String,
    /// Values that are not null.
    pub values: u64,
    /// The share of rows without a value, from 0 to 1; none for items of lists and maps, of which a row has any number.
    pub null_share: Option<f64>,
    /// The compressed bytes of the column in all files.
    pub bytes: u64,
}

/// Reads the figures of a table from the footers of its files and from its commit records.
///
/// # Errors
/// Those of the lake; fatal when a file or a record is damaged.
pub async fn stats(lake: &SharedLake, names: &TableNames) -> Result<TableStats> {
    let mut stats = TableStats {
        small_file_bytes: SMALL_FILE_BYTES,
        ..TableStats::default()
    };
    let prefix = names.data();
    let mut files = Vec::new();
    let mut seen = |object: Object| {
        if object.key.ends_with(".parquet") {
            files.push(object);
        }
    };
    lake.visit(&prefix, &mut seen).await?;
    let mut partitions: BTreeMap<String, PartitionStats> = BTreeMap::new();
    let mut columns: BTreeMap<String, ColumnStats> = BTreeMap::new();
    for file in files {
        let Some(metadata) = footer_of(lake, names, &file).await? else {
            continue;
        };
        let path = &file.key[prefix.len()..];
        let path = path.rsplit_once('/').map_or("", |(path, _)| path);
        let partition = partitions.entry(path.to_owned()).or_default();
        path.clone_into(&mut partition.path);
        let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
        let small = u64::from(file.size < SMALL_FILE_BYTES);
        partition.rows += rows;
        partition.files += 1;
        partition.bytes += file.size;
        partition.small_files += small;
        stats.rows += rows;
        stats.files += 1;
        stats.bytes += file.size;
        stats.small_files += small;
        add_columns(lake, names, &file, &metadata, &mut columns).await?;
    }
    let rows = stats.rows;
    stats.partitions = partitions.into_values().collect();
    stats.columns = columns.into_values().collect();
    for column in &mut stats.columns {
        let is_repeated = column.path.contains("[]") || column.path.contains("{}");
        let share = 1.0 - column.values as f64 / rows.max(1) as f64;
        column.null_share = (!is_repeated).then_some(share);
    }
    stats.rescued = rescued(lake, names).await?;
    Ok(stats)
}

async fn footer_of(
    lake: &SharedLake,
    names: &TableNames,
    file: &Object,
) -> Result<Option<ParquetMetaData>> {
    let mut wanted = FOOTER_END_BYTES;
    loop {
        let from = file.size.saturating_sub(wanted);
        let Some(tail) = lake.get_range(&file.key, from..file.size).await? else {
            return Ok(None);
        };
        match footer(&tail, file.size).map_err(|error| damaged(lake, names, &file.key, &error))? {
            Ok(metadata) => return Ok(Some(metadata)),
            Err(bytes) if bytes > wanted => wanted = bytes,
            Err(_) => {
                let error = ParquetError::EOF("its end is missing".to_owned());
                return Err(damaged(lake, names, &file.key, &error.into()));
            }
        }
    }
}

/// Adds the columns of a file. A column without a count of nulls in the footer is read: that of rescued values has none.
async fn add_columns(
    lake: &SharedLake,
    names: &TableNames,
    file: &Object,
    metadata: &ParquetMetaData,
    columns: &mut BTreeMap<String, ColumnStats>,
) -> Result<()> {
    for group in metadata.row_groups() {
        for chunk in group.columns() {
            let Some(path) = path_of(chunk.column_path().parts()) else {
                continue;
            };
            let statistics = chunk.statistics();
            let values = match statistics.and_then(|statistics| statistics.null_count_opt()) {
                Some(nulls) => u64::try_from(chunk.num_values())
                    .unwrap_or(0)
                    .saturating_sub(nulls),
                None => {
                    let (from, length) = chunk.byte_range();
                    let range = from..from.saturating_add(length);
                    let Some(bytes) = lake.get_range(&file.key, range).await? else {
                        return Ok(());
                    };
                    let rows = usize::try_from(group.num_rows()).unwrap_or(0);
                    count_values(chunk, rows, bytes)
                        .map_err(|error| damaged(lake, names, &file.key, &error))?
                }
            };
            let column = columns.entry(path.clone()).or_default();
            column.path = path;
            column.values += values;
            column.bytes += u64::try_from(chunk.compressed_size()).unwrap_or(0);
        }
    }
    Ok(())
}

/// The path of a leaf as people write it; none for the keys of a map.
fn path_of(parts: &[String]) -> Option<String> {
    let mut path = String::new();
    let mut parts = parts.iter().map(String::as_str).peekable();
    while let Some(part) = parts.next() {
        match (part, parts.peek().copied()) {
            ("list", Some("element")) if !path.is_empty() => {
                parts.next();
                path.push_str("[]");
            }
            ("key_value", Some("key")) => return None,
            ("key_value", Some("value")) if !path.is_empty() => {
                parts.next();
                path.push_str("{}");
            }
            (name, _) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
        }
    }
    Some(path)
}

/// How many values no column took, by path and reason, from all commit records; the most frequent first.
///
/// # Errors
/// Those of the lake; fatal when a record is damaged.
pub async fn rescued(lake: &SharedLake, names: &TableNames) -> Result<Vec<RescuedCount>> {
    let mut keys = Vec::new();
    let mut seen = |object: Object| {
        let is_record = object
            .key
            .rsplit_once("/r/")
            .is_some_and(|(_, name)| name.ends_with(".json"));
        if is_record {
            keys.push(object.key);
        }
    };
    lake.visit(&names.commits(), &mut seen).await?;
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for key in keys {
        let Some(body) = lake.get(&key).await? else {
            continue;
        };
        for rescued in Commit::from_body(&key, &body)?.rescued {
            *counts.entry((rescued.path, rescued.reason)).or_default() += rescued.values;
        }
    }
    let counts = counts
        .into_iter()
        .map(|((path, reason), values)| RescuedCount {
            path,
            reason,
            values,
        });
    let mut counts: Vec<RescuedCount> = counts.collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.values));
    Ok(counts)
}
