//! The readers of a shard that is held by a lease: the stream's own.

use async_trait::async_trait;
use hydrant_core::budget::Budget;
use hydrant_core::error::Result;
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{OpenAt, Readers, ShardReader, SharedStream};

/// Opens readers of one shard.
#[derive(Debug)]
pub(crate) struct LeasedReaders {
    pub(crate) stream: SharedStream,
    pub(crate) shard: ShardId,
    pub(crate) budget: Budget,
}

#[async_trait]
impl Readers for LeasedReaders {
    async fn open(&self, at: OpenAt) -> Result<Box<dyn ShardReader>> {
        self.stream.reader(&self.shard, at, &self.budget).await
    }
}
