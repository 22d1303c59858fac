//! What the shards of one stream into one table share.
//!
//! Owns the digests of the specs that are known to be in the lake. Promises that a spec is in the lake before its
//! digest is handed out.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use hydrant_core::lake::SharedLake;
use hydrant_core::retry::retry_forever;
use hydrant_core::{Context, Overdraft, Result, StreamId};

use super::column_values::ValueWarnings;
use super::flush_rules::FlushRules;
use super::pressure::Holders;
use super::totals::Totals;
use crate::lake::{Finisher, TableNames};
use crate::schema::TableSchema;
use crate::schema::registry::Registry;
use crate::table::spec::TableRules;

/// The most digests of stored specs that are remembered; a process uses a handful.
const SPECS_STORED_MAX: usize = 1024;

/// What all shards of a sink share.
#[derive(Debug)]
pub(crate) struct SinkContext {
    pub(crate) lake: SharedLake,
    pub(crate) context: Context,
    pub(crate) stream: StreamId,
    pub(crate) names: TableNames,
    pub(crate) rules: TableRules,
    pub(crate) flush: FlushRules,
    pub(crate) registry: Registry,
    pub(crate) finisher: Finisher,
    pub(crate) holders: Holders,
    /// The overdraft of the open intervals, which grow while they take a batch.
    pub(crate) overdraft: Overdraft,
    /// The overdraft of the intervals that are published, which wait for no open one.
    pub(crate) publishing_overdraft: Overdraft,
    /// The digests of the specs that are in the lake.
    pub(crate) specs: Mutex<HashSet<String>>,
    pub(crate) totals: Arc<Totals>,
    pub(crate) value_warnings: ValueWarnings,
}

impl SinkContext {
    /// Stores the rules of a sealed interval in the lake unless they are there, and returns their digest.
    pub(crate) async fn put_spec(&self, base: &TableSchema, schema: u64) -> Result<String> {
        let (digest, body) = self.rules.spec(base, schema).to_body();
        if !self.specs().contains(&digest) {
            let key = self.names.spec(&digest);
            let put = retry_forever("put a spec", &self.context.random, || {
                self.lake.put_new(&key, body.clone())
            });
            put.await?;
            let mut specs = self.specs();
            if specs.len() >= SPECS_STORED_MAX {
                specs.clear();
            }
            specs.insert(digest.clone());
        }
        Ok(digest)
    }

    fn specs(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.specs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
