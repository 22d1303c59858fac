//! A stream whose leases live in this process and end with it: for copies that keep no progress in the source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hydrant_core::budget::Budget;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Enlisted, Generations, Lease, LeaseStore, Reprocess, Swap};
use hydrant_core::position::Position;
use hydrant_core::shard::{ShardId, ShardMap, StreamId};
use hydrant_core::stream::{
    Assignment, ShardReader, ShardState, SharedStream, Start, Stream, StreamAdmin, StreamWriter,
};

/// A stream that one process reads alone, leaving nothing behind.
#[derive(Debug)]
pub struct Alone {
    stream: SharedStream,
}

impl Alone {
    /// Around `stream`.
    pub fn around(stream: SharedStream) -> SharedStream {
        Arc::new(Alone { stream })
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Stream for Alone {
    fn id(&self) -> &StreamId {
        self.stream.id()
    }

    fn url(&self) -> &str {
        self.stream.url()
    }

    async fn shards(&self) -> Result<ShardMap> {
        self.stream.shards().await
    }

    async fn shards_changed(&self) -> Result<()> {
        self.stream.shards_changed().await
    }

    async fn states(&self) -> Result<Vec<ShardState>> {
        self.stream.states().await
    }

    async fn state(&self, shard: &ShardId) -> Result<ShardState> {
        self.stream.state(shard).await
    }

    async fn start(&self, shard: &ShardId, start: Start) -> Result<Position> {
        self.stream.start(shard, start).await
    }

    async fn reader(&self, shard: &ShardId, budget: &Budget) -> Result<Box<dyn ShardReader>> {
        self.stream.reader(shard, budget).await
    }

    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        self.stream.writer().await
    }

    async fn assignment(&self, _app: &str) -> Result<Assignment> {
        Ok(Assignment::Leases(Arc::new(Rows::default())))
    }

    async fn apps(&self) -> Result<Vec<String>> {
        self.stream.apps().await
    }

    fn admin(&self) -> Option<Arc<dyn StreamAdmin>> {
        self.stream.admin()
    }
}

/// Lease rows in memory.
#[derive(Debug, Default)]
struct Rows {
    rows: Mutex<BTreeMap<ShardId, Lease>>,
}

#[derive(Debug)]
struct Present;

impl Enlisted for Present {}

#[async_trait]
impl LeaseStore for Rows {
    async fn enlist(&self, _worker: &str) -> Result<Box<dyn Enlisted>> {
        Ok(Box::new(Present))
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
            return Ok(Swap::Beaten(found.cloned()));
        }
        rows.insert(next.shard.clone(), next.clone());
        Ok(Swap::Swapped)
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
        // There is one worker, and it knows of its own writes.
        std::future::pending().await
    }
}
