//! A transform and a stage in one process, with no stream between.
//!
//! [`FusedStage`] applies a transform to each batch and hands the result to another stage, such as the sink. What became
//! no record travels as an account at the batch's last position, so that the inner stage counts every unit that came in.
//! Commit, fence and progress are the inner stage's alone; how far it published is how far the input is done.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::batch::AccountOf;
use hydrant_core::clock::Instant;
use hydrant_core::lease::Progress;
use hydrant_core::origin::WriterId;
use hydrant_core::shard::Shard;
use hydrant_core::stage::{Flush, Opened, Scope, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;
use hydrant_core::transform::{Source, Transform};
use hydrant_core::{Context, Result, ShardId, StreamId};

/// A stage whose records go through a transform first.
pub struct FusedStage {
    shared: Arc<Shared>,
    inner: Arc<dyn Stage>,
}

struct Shared {
    transform: Arc<dyn Transform>,
    input: StreamId,
    app: String,
    context: Context,
}

impl fmt::Debug for FusedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FusedStage({:?}, {:?})",
            self.shared.transform, self.inner
        )
    }
}

impl FusedStage {
    /// From `input` by `transform` into `inner`.
    pub fn new(
        app: &str,
        input: StreamId,
        transform: Arc<dyn Transform>,
        inner: Arc<dyn Stage>,
        context: Context,
    ) -> Self {
        FusedStage {
            shared: Arc::new(Shared {
                transform,
                input,
                app: app.to_owned(),
                context,
            }),
            inner,
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Stage for FusedStage {
    fn scope(&self) -> Scope {
        self.inner.scope()
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        self.inner.resume(shard).await
    }

    async fn open(&self, claim: Opened) -> Result<Box<dyn ShardStage>> {
        let writer = WriterId::of_app(&self.shared.app, claim.generation, &self.shared.input);
        let shard = claim.shard.id.clone();
        Ok(Box::new(FusedShard {
            shared: Arc::clone(&self.shared),
            writer,
            shard,
            inner: self.inner.open(claim).await?,
        }))
    }

    async fn publish_all(&self, why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        self.inner.publish_all(why).await
    }
}

struct FusedShard {
    shared: Arc<Shared>,
    writer: WriterId,
    shard: ShardId,
    inner: Box<dyn ShardStage>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ShardStage for FusedShard {
    async fn push(&mut self, read: Read) -> Result<()> {
        let Read::Batch(batch) = read else {
            return self.inner.push(read).await;
        };
        let shared = Arc::clone(&self.shared);
        let of = AccountOf {
            writer: self.writer,
            shard: self.shard.clone(),
        };
        let now = shared.context.clock.wall_micros();
        let workers = shared.context.workers.clone();
        let job = move || {
            let source = Source {
                stream: &shared.input,
                shard: &of.shard,
                now,
            };
            let transformed = shared.transform.apply(batch, source);
            transformed.into_batch(of)
        };
        let batch = workers.run(job).await?;
        self.inner.push(Read::Batch(batch)).await
    }

    fn due(&self, now: Instant) -> Option<Flush> {
        self.inner.due(now)
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    async fn publish(&mut self, why: Flush) -> Result<Progress> {
        self.inner.publish(why).await
    }
}
