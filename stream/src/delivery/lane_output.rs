//! What all sessions of a process share of one output: its writer, its map, and what is known of where origins began.

use std::sync::Arc;

use hydrant_core::hash::Routing;
use hydrant_core::stream::{SharedStream, StreamWriter};
use hydrant_core::{Budget, Overdraft, Random, Result};
use metrics::Counter;
use tokio::sync::Mutex;

use super::begun::Beginnings;
use super::route::{Keys, Table};

/// What one session may have on its way; more waits in [`LaneSession::send`].
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneLimits {
    /// Bytes of unconfirmed appends.
    pub(super) bytes: usize,
    /// Unconfirmed appends.
    pub(super) appends: usize,
}

impl Default for LaneLimits {
    fn default() -> Self {
        // Enough to keep a disk busy over one group commit; the budget of the process bounds the sum over all shards.
        LaneLimits {
            bytes: 16 << 20,
            appends: 256,
        }
    }
}

/// An output as all sessions of a process share it.
pub(super) struct LaneOutput {
    pub(super) stream: SharedStream,
    pub(super) writer: Arc<dyn StreamWriter>,
    pub(super) routing: Routing,
    pub(super) keys: Keys,
    pub(super) limits: LaneLimits,
    pub(super) random: Random,
    pub(super) budget: Budget,
    /// Of the batches that grew while they were changed and planned.
    pub(super) overdraft: Overdraft,
    pub(super) table: Mutex<Arc<Table>>,
    pub(super) beginnings: Beginnings,
    pub(super) appends: Counter,
    pub(super) duplicates: Counter,
}

impl LaneOutput {
    /// The map as the next session begins with it.
    pub(super) async fn table(&self) -> Arc<Table> {
        Arc::clone(&*self.table.lock().await)
    }

    /// A map that is newer than `seen`; sessions that ask at the same time share one reading.
    pub(super) async fn table_after(&self, seen: &Arc<Table>) -> Result<Arc<Table>> {
        let mut table = self.table.lock().await;
        if Arc::ptr_eq(&table, seen) {
            *table = Table::new(self.stream.shards().await?, &self.routing)?;
        }
        Ok(Arc::clone(&table))
    }
}
