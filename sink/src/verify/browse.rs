//! What lies in a lake, for people.

use std::collections::BTreeMap;

use hydrant_core::lake::SharedLake;
use hydrant_core::{Error, Result};
use serde::Serialize;

use crate::encode;
use crate::lake::{SYSTEM, TableNames};
use crate::schema::{TableSchema, registry};

/// A table of a lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableSummary {
    /// Its name.
    pub table: String,
    /// Its partitions.
    pub partitions: u64,
    /// Its visible files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A partition of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its path below the table; empty for a table without partitions.
    pub path: String,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The tables of a lake, by name.
///
/// # Errors
/// Those of the lake.
pub async fn tables(lake: &SharedLake) -> Result<Vec<TableSummary>> {
    let mut summaries = Vec::new();
    for table in lake.list_dirs(&format!("{SYSTEM}/")).await? {
        // What else lies there, such as stagings, has no chains.
        let Ok(names) = TableNames::try_new(&table) else {
            continue;
        };
        if lake.list_dirs(&names.commits()).await?.is_empty() {
            continue;
        }
        let partitions = partitions(lake, &names).await?;
        summaries.push(TableSummary {
            table,
            partitions: partitions.len() as u64,
            files: partitions.iter().map(|partition| partition.files).sum(),
            bytes: partitions.iter().map(|partition| partition.bytes).sum(),
        });
    }
    Ok(summaries)
}

/// The partitions of a table, by path.
///
/// # Errors
/// Those of the lake.
pub async fn partitions(lake: &SharedLake, names: &TableNames) -> Result<Vec<Partition>> {
    let prefix = names.data();
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for object in lake.list(&prefix, None).await? {
        let name = &object.key[prefix.len()..];
        let path = name.rsplit_once('/').map_or("", |(path, _)| path);
        let (files, bytes) = found.entry(path.to_owned()).or_default();
        *files += 1;
        *bytes += object.size;
    }
    let found = found.into_iter();
    Ok(found
        .map(|(path, (files, bytes))| Partition { path, files, bytes })
        .collect())
}

/// The newest schema of a table.
///
/// # Errors
/// [`Error::NotFound`] when the table has none.
pub async fn schema(lake: &SharedLake, names: &TableNames) -> Result<TableSchema> {
    registry::newest(lake, names)
        .await?
        .ok_or_else(|| Error::NotFound {
            message: format!(
                "table `{}` in `{}` has no schema: nothing was published yet",
                names.table(),
                lake.url(),
            ),
        })
}

/// Some rows of a table as lines of JSON, from its last partition on backwards.
///
/// # Errors
/// Those of the lake; fatal when a file is no Parquet.
pub async fn head(lake: &SharedLake, names: &TableNames, rows_max: usize) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for object in lake.list(&names.data(), None).await?.iter().rev() {
        if lines.len() >= rows_max {
            break;
        }
        let Some(body) = lake.get(&object.key).await? else {
            continue;
        };
        let rows = encode::head(body, rows_max - lines.len())
            .map_err(|error| Error::fatal(format!("`{}` cannot be read: {error}", object.key)))?;
        lines.extend(
            rows.into_iter()
                .map(|row| String::from_utf8_lossy(&row).into_owned()),
        );
    }
    Ok(lines)
}
