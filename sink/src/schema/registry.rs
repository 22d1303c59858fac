//! The numbered schemas of a table in the lake, shared by all its sinks.
//!
//! Owns how a schema gets its number: it is put under the next number if that is free. Promises that all sinks of a
//! table agree on each number, whichever was faster: the slower one joins the schema that it found with the one that it
//! needs and takes the next number, or finds that its rows do not fit. Refuses a configuration that the stored schema
//! contradicts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use hydrant_core::lake::{Put, SharedLake};
use hydrant_core::retry::retry_forever;
use hydrant_core::{Error, Random, Result};

use super::TableSchema;
use super::stored::SCHEMA_VERSION;
use crate::lake::{ObjectError, TableNames, seal_body, unseal_body};
use crate::table::partition::PartitionSpec;

/// The schemas of one table.
#[derive(Debug)]
pub struct Registry {
    lake: SharedLake,
    names: TableNames,
    partition: PartitionSpec,
    columns_max: usize,
    /// What the configuration declares.
    declared: TableSchema,
    random: Random,
    newest: Mutex<Arc<TableSchema>>,
}

impl Registry {
    /// Reads the newest schema; `declared` is that of a new table.
    ///
    /// # Errors
    /// Refused when the stored schema contradicts the declared columns, the layout or the provenance columns.
    pub async fn open(
        lake: &SharedLake,
        names: &TableNames,
        declared: TableSchema,
        partition: &PartitionSpec,
        columns_max: usize,
        random: &Random,
    ) -> Result<Self> {
        let stored = newest(lake, names).await?;
        let newest = stored.unwrap_or_else(|| declared.clone());
        let registry = Registry {
            lake: SharedLake::clone(lake),
            names: names.clone(),
            partition: partition.clone(),
            columns_max,
            declared,
            random: random.clone(),
            newest: Mutex::new(Arc::new(newest)),
        };
        registry.check()?;
        registry.declare().await?;
        Ok(registry)
    }

    /// Makes what the configuration declares part of the table's schema, if the table has one.
    async fn declare(&self) -> Result<()> {
        let mut current = self.newest();
        while current.number > 0 {
            let declared = self.with_declared(&current)?;
            if declared.same_content(&current) {
                break;
            }
            current = self.put(declared.with_number(current.number + 1)).await?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let stored = self.newest();
        self.check_layout(&stored)?;
        let table = self.names.table();
        if stored.provenance != self.declared.provenance {
            let (has, set) = if stored.provenance {
                ("has", "true")
            } else {
                ("lacks", "false")
            };
            return Err(Error::refused(format!(
                "table `{table}` {has} provenance columns since its first schema: set `provenance = {set}`, or write \
                 to another table"
            )));
        }
        self.with_declared(&stored).map(drop)
    }

    fn check_layout(&self, stored: &TableSchema) -> Result<()> {
        let fixed = &stored.partition_columns;
        let why = match stored.number {
            0 => None,
            _ => self.partition.contradiction(fixed),
        };
        match why {
            None => Ok(()),
            Some(why) => Err(Error::refused(format!(
                "table `{}` {why}",
                self.names.table()
            ))),
        }
    }

    /// Looks again, where the table was new: another sink may have made it since with other settings.
    ///
    /// # Errors
    /// Those of the lake; refused as by [`Registry::open`].
    pub async fn check_again(&self) -> Result<()> {
        if self.newest().number == 0
            && let Some(stored) = newest(&self.lake, &self.names).await?
        {
            self.learn(stored);
            self.check()?;
        }
        Ok(())
    }

    /// A schema of the table with what the configuration declares.
    fn with_declared(&self, stored: &TableSchema) -> Result<TableSchema> {
        // Whatever the records brought, what is declared has room.
        let joined = stored.declare(&self.declared, usize::MAX);
        match joined.conflicts.first() {
            None => Ok(joined.schema),
            Some(conflict) => Err(Error::refused(format!(
                "column `{}` of table `{}` is {} in the lake but declared as {}: declare it as it is in the lake, or \
                 write to another table; files that are there keep their types, no command rewrites them yet",
                conflict.column,
                self.names.table(),
                conflict.wanted,
                conflict.found,
            ))),
        }
    }

    /// The newest schema that this sink knows; number 0 for a table without a schema.
    pub fn newest(&self) -> Arc<TableSchema> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn learn(&self, schema: TableSchema) -> Arc<TableSchema> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if schema.number > newest.number {
            *newest = Arc::new(schema);
        }
        Arc::clone(&newest)
    }

    /// Returns the stored schema for rows of the schema `wanted`, and stores a new one when the newest lacks something.
    /// Rows may still not fit it; conforming finds out.
    ///
    /// # Errors
    /// Those of the lake; refused when another sink has laid the table out differently, or stored a schema that contradicts
    /// what is declared.
    pub async fn ensure(&self, wanted: &TableSchema) -> Result<Arc<TableSchema>> {
        let mut current = self.newest();
        loop {
            self.check_layout(&current)?;
            // Another sink may have stored the first schema since this one started.
            let declared = self.with_declared(&current)?;
            let joined = declared.join(wanted, self.columns_max).schema;
            if current.number > 0 && joined.same_content(&current) {
                return Ok(current);
            }
            let number = current.number + 1;
            current = self.put(joined.with_number(number)).await?;
            debug_assert!(
                current.number >= number,
                "a schema that was learned is not forgotten"
            );
        }
    }

    /// Stores a schema under its number, and returns the one that is stored there.
    async fn put(&self, next: TableSchema) -> Result<Arc<TableSchema>> {
        let key = self.names.schema(next.number);
        let body = seal_body(&next);
        let put = retry_forever("put a schema", &self.random, || {
            self.lake.put_new(&key, body.clone())
        });
        Ok(match put.await? {
            Put::Created => {
                tracing::info!(
                    table = self.names.table(),
                    number = next.number,
                    "the schema grew"
                );
                metrics::counter!("hydrant_sink_schema_changes_total").increment(1);
                self.warn_of_mixed_numbers(&next);
                self.learn(next)
            }
            Put::Exists(found) => self.learn(parse(&key, next.number, &found)?),
        })
    }

    /// Warns of columns that were BIGINT before this schema, which some readers cannot read.
    fn warn_of_mixed_numbers(&self, next: &TableSchema) {
        let mut columns = BTreeSet::new();
        next.add_widened(&self.newest(), &mut columns);
        for column in columns {
            tracing::warn!(
                table = self.names.table(),
                column,
                "a column of integers got a fraction and is DOUBLE from now on: DuckDB, Polars and pyarrow read older files \
                 with it, Spark, Trino and Athena do not; declare such a column as DOUBLE in [sink.columns] before the table \
                 has files"
            );
        }
    }
}

/// The paths of the DOUBLE columns of the newest schema of a table that are BIGINT in files of older ones.
///
/// # Errors
/// As [`get`].
pub async fn widened(
    lake: &SharedLake,
    names: &TableNames,
    newest: &TableSchema,
) -> Result<BTreeSet<String>> {
    let mut columns = BTreeSet::new();
    for number in 1..newest.number {
        newest.add_widened(&get(lake, names, number).await?, &mut columns);
    }
    Ok(columns)
}

/// The schema of this number in a table.
///
/// # Errors
/// Fatal when it is missing or damaged.
pub async fn get(lake: &SharedLake, names: &TableNames, number: u64) -> Result<TableSchema> {
    let key = names.schema(number);
    match lake.get(&key).await? {
        Some(body) => parse(&key, number, &body),
        None => Err(Error::fatal(format!(
            "`{key}` is missing: schemas are never removed; restore it"
        ))),
    }
}

/// The newest schema of a table; `None` for a table without one.
///
/// # Errors
/// Fatal when it is damaged.
pub async fn newest(lake: &SharedLake, names: &TableNames) -> Result<Option<TableSchema>> {
    let objects = lake.list(&names.schemas()).await?;
    match objects
        .iter()
        .filter_map(|object| names.schema_number(&object.key))
        .max()
    {
        Some(number) => get(lake, names, number).await.map(Some),
        None => Ok(None),
    }
}

fn parse(key: &str, number: u64, body: &[u8]) -> Result<TableSchema> {
    // Without a seal it is read as it is; a sealed one has a key more.
    let schema: TableSchema = match serde_json::from_slice(body) {
        Ok(schema) => schema,
        Err(_) => unseal_body(key, body, SCHEMA_VERSION)?,
    };
    if schema.number == number {
        return Ok(schema);
    }
    let detail = format!("it says that its number is {}", schema.number);
    Err(ObjectError::damaged(key, detail).into())
}
