//! The contents of a lake, for operators.

use std::collections::BTreeMap;

use hydrant_core::lake::SharedLake;
use hydrant_core::{Error, Result, StreamId};
use serde::Serialize;

use crate::lake::{ChainNames, SYSTEM, TableNames};
use crate::schema::{TableSchema, registry};

/// A table of a lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableSummary {
    /// The name of the table.
    pub table: String,
    /// The number of partitions.
    pub partitions: u64,
    /// The number of visible files.
    pub files: u64,
    /// The bytes of the files.
    pub bytes: u64,
}

/// A partition of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// The path below the table; empty for a table without partitions.
    pub path: String,
    /// The number of visible files.
    pub files: u64,
    /// The bytes of the files.
    pub bytes: u64,
}

/// The tables of a lake, by name.
///
/// # Errors
/// Those of the lake.
pub async fn tables(lake: &SharedLake) -> Result<Vec<TableSummary>> {
    let mut summaries = Vec::new();
    for names in published(lake).await? {
        let partitions = partitions_of(lake, &names).await?;
        summaries.push(TableSummary {
            table: names.table().to_owned(),
            partitions: partitions.len() as u64,
            files: partitions.iter().map(|partition| partition.files).sum(),
            bytes: partitions.iter().map(|partition| partition.bytes).sum(),
        });
    }
    Ok(summaries)
}

/// Whether the table holds records that were read from `stream`.
///
/// # Errors
/// Those of the lake.
pub async fn has_taken_from(
    lake: &SharedLake,
    names: &TableNames,
    stream: &StreamId,
) -> Result<bool> {
    let chains = names.commits_of(stream);
    for chain in lake.list_dirs(&chains).await? {
        let records = ChainNames::records_in(&format!("{chains}{chain}/"));
        if !lake.page(&records, "", 1).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The tables that have commit chains.
async fn published(lake: &SharedLake) -> Result<Vec<TableNames>> {
    let mut tables = Vec::new();
    for table in lake.list_dirs(&format!("{SYSTEM}/")).await? {
        // Other directories there, such as that of uploads, have no chains.
        let Ok(names) = TableNames::try_new(&table) else {
            continue;
        };
        if !lake.list_dirs(&names.commits()).await?.is_empty() {
            tables.push(names);
        }
    }
    Ok(tables)
}

/// The error for a table that does not exist; it names the tables that do.
pub(super) async fn missing(lake: &SharedLake, names: &TableNames) -> Result<Error> {
    let tables = published(lake).await?;
    let known: Vec<String> = tables
        .iter()
        .map(|names| format!("`{}`", names.table()))
        .collect();
    let known = match known.as_slice() {
        [] => {
            "it holds no table, so it is not a lake or nothing was published in it yet".to_owned()
        }
        known => format!("it has {}", known.join(", ")),
    };
    Ok(Error::NotFound {
        message: format!(
            "there is no table `{}` in `{}`: {known}",
            names.table(),
            lake.url()
        ),
    })
}

/// Refuses a table that does not exist.
///
/// # Errors
/// Those of the lake, and [`Error::NotFound`] with the tables that exist.
pub async fn check_table(lake: &SharedLake, names: &TableNames) -> Result<()> {
    match lake.list_dirs(&names.commits()).await?.is_empty() {
        true => Err(missing(lake, names).await?),
        false => Ok(()),
    }
}

/// The partitions of a table, by path.
///
/// # Errors
/// Those of the lake, and [`Error::NotFound`] when there is no such table.
pub async fn partitions(lake: &SharedLake, names: &TableNames) -> Result<Vec<Partition>> {
    check_table(lake, names).await?;
    partitions_of(lake, names).await
}

async fn partitions_of(lake: &SharedLake, names: &TableNames) -> Result<Vec<Partition>> {
    let prefix = names.data();
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for object in lake.list(&prefix).await? {
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
/// [`Error::NotFound`] when there is no such table, or it has no schema.
pub async fn schema(lake: &SharedLake, names: &TableNames) -> Result<TableSchema> {
    check_table(lake, names).await?;
    registry::newest(lake, names)
        .await?
        .ok_or_else(|| Error::NotFound {
            message: format!(
                "table `{}` in `{}` has no schema: no row was published yet",
                names.table(),
                lake.url(),
            ),
        })
}
