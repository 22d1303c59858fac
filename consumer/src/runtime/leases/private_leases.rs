//! A lease store in memory, for a worker that reads alone: its leases end with the process, and nothing is stored.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{
    Generations, Lease, LeaseStore, Pace, Reprocess, Swap, WorkerRegistration,
};
use hydrant_core::shard::ShardId;

/// A lease store in memory for one worker.
#[derive(Debug, Default)]
pub(crate) struct PrivateLeases {
    rows: Mutex<BTreeMap<ShardId, Lease>>,
}

#[derive(Debug)]
struct PrivateWorker;

#[async_trait]
impl LeaseStore for PrivateLeases {
    async fn register(&self, _worker: &str) -> Result<Box<dyn WorkerRegistration>> {
        Ok(Box::new(PrivateWorker))
    }

    async fn list(&self) -> Result<Vec<Lease>> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.values().cloned().collect())
    }

    async fn swap(&self, seen: Option<&Lease>, next: &Lease) -> Result<Swap> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let found = rows.get(&next.shard);
        let version = |row: &Lease| (row.epoch, row.counter);
        if found.map(version) != seen.map(version) {
            return Ok(Swap::Conflict(found.cloned()));
        }
        rows.insert(next.shard.clone(), next.clone());
        Ok(Swap::Swapped)
    }

    async fn remove(&self, seen: &Lease) -> Result<Swap> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let found = rows.get(&seen.shard);
        let version = |row: &Lease| (row.epoch, row.counter);
        if found.map(version) != Some(version(seen)) {
            return Ok(Swap::Conflict(found.cloned()));
        }
        rows.remove(&seen.shard);
        Ok(Swap::Swapped)
    }

    fn pace(&self) -> Pace {
        Pace::LOCAL
    }

    async fn generations(&self) -> Result<Generations> {
        Ok(Generations::default())
    }

    async fn reprocess(&self, _what: &Reprocess) -> Result<Generations> {
        Err(Error::refused(
            "a copy that keeps no progress starts again each time",
        ))
    }

    async fn is_gone(&self, _worker: &str) -> Result<bool> {
        Ok(false)
    }

    async fn changed(&self) {
        // The only worker knows of its own writes.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hydrant_testing::conformance_lease;

    use super::*;

    #[tokio::test]
    async fn they_conform() {
        conformance_lease::conforms_in_one_process(async || {
            let store: Arc<dyn LeaseStore> = Arc::new(PrivateLeases::default());
            (Arc::clone(&store), store)
        })
        .await;
    }
}
