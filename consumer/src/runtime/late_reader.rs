//! A reader that opens its stream as late as possible.

use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::budget::Budget;
use hydrant_core::error::{Error, Result};
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{Read, ShardReader, SharedStream};

/// A reader that asks the stream for its reader when it is opened, so that a slow stream does not delay the renewal
/// of leases.
#[derive(Debug)]
pub(crate) struct LateReader {
    stream: SharedStream,
    shard: ShardId,
    budget: Budget,
    reader: Option<Box<dyn ShardReader>>,
}

impl LateReader {
    /// Creates a reader of `shard`, not opened yet.
    pub(crate) fn new(stream: &SharedStream, shard: &ShardId, budget: &Budget) -> Self {
        LateReader {
            stream: Arc::clone(stream),
            shard: shard.clone(),
            budget: budget.clone(),
            reader: None,
        }
    }
}

#[async_trait]
impl ShardReader for LateReader {
    async fn open(&mut self, after: Position) -> Result<()> {
        let mut reader = self.stream.reader(&self.shard, &self.budget).await?;
        reader.open(after).await?;
        self.reader = Some(reader);
        Ok(())
    }

    async fn next(&mut self) -> Result<Read> {
        match &mut self.reader {
            Some(reader) => reader.next().await,
            None => Err(Error::fatal("a reader was asked before it was opened")),
        }
    }
}
