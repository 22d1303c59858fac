//! A stream that knows neither its tips nor positions for times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::budget::Budget;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::Result;
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{
    Behind, OpenAt, Read, ShardReader, ShardState, SharedStream, Start, Stream,
};
use hydrant_testing::layer::{Layered, StreamLayer};

/// Answers for another stream whatever that stream knows, without its tips. The time is the one that comes after the
/// newest record of a shard.
#[derive(Debug)]
pub(crate) struct TiplessStream {
    stream: SharedStream,
    /// How often it was asked how far an app is behind.
    asked: AtomicU64,
    began: Instant,
}

impl TiplessStream {
    pub(crate) fn around(stream: SharedStream) -> Arc<Layered<Self>> {
        Arc::new(Layered(TiplessStream {
            stream,
            asked: AtomicU64::new(0),
            began: clock::now(),
        }))
    }

    /// How often it was asked how far an app is behind, and since when.
    pub(crate) fn asked(&self) -> (u64, Duration) {
        let asked = self.asked.load(Ordering::SeqCst);
        (asked, clock::now().duration_since(self.began))
    }

    fn without_tip(state: ShardState) -> ShardState {
        ShardState { tip: None, ..state }
    }

    async fn now(&self, shard: &ShardId) -> Result<i64> {
        let newest = self.stream.state(shard).await?.newest_arrival;
        Ok(newest.map_or(0, |newest| newest + 1))
    }

    /// Progress with the position that the other stream has for where it began.
    async fn found(&self, shard: &ShardId, progress: Progress) -> Result<Progress> {
        let Some(start) = progress.began.filter(|_| progress.to == Position::Begin) else {
            return Ok(progress);
        };
        let to = self.stream.start(shard, start).await?.to;
        Ok(Progress { to, ..progress })
    }
}

/// Names no position that it has not read.
#[derive(Debug)]
struct TiplessReader {
    reader: Box<dyn ShardReader>,
    after: Position,
}

#[async_trait]
impl ShardReader for TiplessReader {
    async fn next(&mut self) -> Result<Read> {
        let mut read = self.reader.next().await?;
        match &mut read {
            Read::Batch(batch) => self.after = batch.to,
            Read::Gap { to, .. } => self.after = *to,
            Read::Idle { through } => *through = self.after,
            Read::End { .. } => {}
        }
        Ok(read)
    }
}

#[async_trait]
impl StreamLayer for TiplessStream {
    fn below(&self) -> &dyn Stream {
        &*self.stream
    }

    async fn states(&self) -> Result<Vec<ShardState>> {
        let states = self.stream.states().await?.into_iter();
        Ok(states.map(Self::without_tip).collect())
    }

    async fn state(&self, shard: &ShardId) -> Result<ShardState> {
        Ok(Self::without_tip(self.stream.state(shard).await?))
    }

    fn states_every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    async fn behind(&self, shard: &ShardId, after: &Progress) -> Result<Behind> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let after = self.found(shard, after.clone()).await?;
        Ok(match self.stream.behind(shard, &after).await? {
            Behind::Records(records) => Behind::Time(Duration::from_secs(records)),
            other => other,
        })
    }

    async fn start(&self, shard: &ShardId, start: Start) -> Result<Progress> {
        Ok(Progress {
            began: match start {
                Start::Earliest => None,
                Start::Latest => Some(Start::At(self.now(shard).await?)),
                Start::At(_) => Some(start),
            },
            ..Progress::default()
        })
    }

    fn before(&self, _record: Position) -> Option<Position> {
        None
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        let (after, at) = match at {
            OpenAt::After { progress, parents } => {
                let after = progress.to;
                let progress = self.found(shard, progress).await?;
                (after, OpenAt::After { progress, parents })
            }
            // Its first read names a position.
            OpenAt::At(_) => (Position::Begin, at),
        };
        let reader = self.stream.reader(shard, at, budget).await?;
        Ok(Box::new(TiplessReader { reader, after }))
    }
}
