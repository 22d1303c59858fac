//! A view of a stream that continues past corrupt shards.
//!
//! A corrupt shard is logged once, with the place of the corruption, and from then on counts as read to its end, so
//! that the other shards are read completely. This is for commands that keep no progress: a reader that does must not
//! pass records that it has not read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::admin::Admin;
use hydrant_core::lease::{Lease, Progress};
use hydrant_core::stream::{
    Assignment, Behind, Join, OpenAt, Read, ShardReader, ShardState, SharedStream, Start, Stream,
    StreamWriter,
};
use hydrant_core::{Budget, Error, Position, Result, ShardId, ShardMap, StreamId};

/// The error of each corrupt shard.
type CorruptByShard = Mutex<BTreeMap<ShardId, Error>>;

/// The corrupt shards that readers have met; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct CorruptShards {
    found: Arc<CorruptByShard>,
}

impl CorruptShards {
    /// Wraps `stream` so that its readers skip corrupt shards, and notes those here.
    pub(super) fn passed_in(&self, stream: SharedStream) -> SharedStream {
        Arc::new(SkipCorruptShards {
            stream,
            corrupt: self.clone(),
        })
    }

    /// Fails with the error of the first corrupt shard.
    pub(super) fn into_result(self) -> Result<()> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match found.pop_first() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    fn holds(&self, shard: &ShardId) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.contains_key(shard)
    }

    /// Passes `answer` on; answers `None` and notes the shard when it is corrupt.
    fn note<T>(&self, shard: &ShardId, answer: Result<T>) -> Result<Option<T>> {
        match answer {
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%shard, "skipping the rest of the corrupt shard: {}", error.report());
                let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                found.entry(shard.clone()).or_insert(error);
                Ok(None)
            }
            answer => answer.map(Some),
        }
    }
}

#[derive(Debug)]
struct SkipCorruptShards {
    stream: SharedStream,
    corrupt: CorruptShards,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Stream for SkipCorruptShards {
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

    fn states_every(&self) -> Duration {
        self.stream.states_every()
    }

    async fn behind(&self, shard: &ShardId, after: &Progress) -> Result<Behind> {
        self.stream.behind(shard, after).await
    }

    async fn start(&self, shard: &ShardId, start: Start) -> Result<Progress> {
        let found = self.stream.start(shard, start).await;
        // The shard counts as ended, so the position does not matter.
        let found = self.corrupt.note(shard, found)?;
        Ok(found.unwrap_or_default())
    }

    fn before(&self, record: Position) -> Option<Position> {
        self.stream.before(record)
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        let reader = if self.corrupt.holds(shard) {
            None
        } else {
            let opened = self.stream.reader(shard, at, budget).await;
            self.corrupt.note(shard, opened)?
        };
        Ok(Box::new(SkipCorruptReader {
            reader,
            stream: Arc::clone(&self.stream),
            shard: shard.clone(),
            corrupt: self.corrupt.clone(),
        }))
    }

    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        self.stream.writer().await
    }

    async fn assignment(&self, join: &Join) -> Result<Assignment> {
        self.stream.assignment(join).await
    }

    async fn apps(&self) -> Result<Vec<String>> {
        self.stream.apps().await
    }

    async fn app_progress(&self, app: &str) -> Result<Vec<Lease>> {
        self.stream.app_progress(app).await
    }

    fn admin(&self) -> Admin {
        self.stream.admin()
    }
}

#[derive(Debug)]
struct SkipCorruptReader {
    /// `None` for a shard that was found corrupt before.
    reader: Option<Box<dyn ShardReader>>,
    stream: SharedStream,
    shard: ShardId,
    corrupt: CorruptShards,
}

#[async_trait]
impl ShardReader for SkipCorruptReader {
    async fn next(&mut self) -> Result<Read> {
        if let Some(reader) = self
            .reader
            .as_mut()
            .filter(|_| !self.corrupt.holds(&self.shard))
        {
            let read = reader.next().await;
            if let Some(read) = self.corrupt.note(&self.shard, read)? {
                return Ok(read);
            }
        }
        let map = self.stream.shards().await?;
        let children = map.children(&self.shard);
        Ok(Read::End {
            children: children.map(|child| child.id.clone()).collect(),
            marks: Vec::new(),
        })
    }
}
