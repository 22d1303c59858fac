//! Runs a transform as a stage between two streams.
//!
//! Owns the records of a claim between the reader and the delivery into the output. Promises: each unit of the input shard is
//! in the output once, whichever workers did how much of it, because every record is routed by its input key and carries
//! its origin; a position is answered as progress only when everything up to it is stored. Refuses a claim whose
//! unconfirmed output was made under another policy: the runtime keeps the digest in the ledger from before the first
//! record until a clean stop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::clock::{self, Instant};
use hydrant_core::lease::Progress;
use hydrant_core::shard::Shard;
use hydrant_core::stage::{Flush, Opened, Output, Scope, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;
use hydrant_core::transform::{Source, Transform};
use hydrant_core::{Batch, Context, Error, Position, Result, ShardId, StreamId};
use hydrant_stream::delivery::{Delivery, Plan, Planner, Session, Upstream};

/// The name of the stage in dead letters.
const STAGE: &str = "transform";

/// How often confirmations are gathered into progress and failed appends are sent again while nothing is read.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(250);

/// Applies a transform to a stream's shards and sends what comes out into another stream.
pub struct TransformStage {
    shared: Arc<TransformContext>,
}

struct TransformContext {
    transform: Arc<dyn Transform>,
    delivery: Arc<dyn Delivery>,
    input: StreamId,
    app: String,
    context: Context,
}

impl fmt::Debug for TransformStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransformStage({:?})", self.shared.delivery)
    }
}

impl TransformStage {
    /// From `input` by `transform` into the stream of `delivery`. The name of the app is part of every origin: another
    /// name writes everything once more.
    pub fn new(
        app: &str,
        input: StreamId,
        transform: Arc<dyn Transform>,
        delivery: Arc<dyn Delivery>,
        context: Context,
    ) -> Self {
        TransformStage {
            shared: Arc::new(TransformContext {
                transform,
                delivery,
                input,
                app: app.to_owned(),
                context,
            }),
        }
    }
}

#[async_trait]
impl Stage for TransformStage {
    fn scope(&self) -> Scope {
        self.shared.delivery.scope()
    }

    fn output(&self) -> Option<Output> {
        Some(self.shared.delivery.output())
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        self.shared.delivery.resume(shard).await
    }

    async fn knows(&self, shard: &Shard) -> Result<bool> {
        self.shared.delivery.knows(shard).await
    }

    async fn open(&self, claim: Opened) -> Result<Box<dyn ShardStage>> {
        let shared = Arc::clone(&self.shared);
        let digest = shared.transform.digest();
        if let Some(pin) = claim.after.pin.as_ref().filter(|pin| pin.digest != digest) {
            return Err(Error::refused(format!(
                "shard `{}` has unconfirmed output of policy `{}` and this worker has policy `{digest}`",
                claim.shard.id, pin.digest
            )));
        }
        let upstream = Upstream::of_claim(&shared.app, &shared.input, &claim, STAGE);
        let session = shared.delivery.open(upstream).await?;
        Ok(Box::new(ShardTransform {
            shared,
            shard: claim.shard.id,
            session,
            published_at: clock::now(),
            dirty: false,
            ended: false,
        }))
    }

    async fn publish_all(&self, why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        self.shared.delivery.publish_all(why).await
    }
}

struct ShardTransform {
    shared: Arc<TransformContext>,
    shard: ShardId,
    session: Box<dyn Session>,
    published_at: Instant,
    /// Whether something was pushed that no published progress covers.
    dirty: bool,
    ended: bool,
}

/// Routes, applies and cuts on a worker thread.
async fn work(
    shared: Arc<TransformContext>,
    planner: Planner,
    shard: ShardId,
    batch: Batch,
) -> Result<Plan> {
    let now = shared.context.clock.wall_micros();
    let workers = shared.context.workers.clone();
    let job = move || {
        let routes = planner.routes(&batch);
        let source = Source {
            stream: &shared.input,
            shard: &shard,
            now,
        };
        let transformed = shared.transform.apply(batch, source);
        planner.plan(transformed, &routes, now)
    };
    workers.run(job).await?
}

#[async_trait]
impl ShardStage for ShardTransform {
    async fn push(&mut self, read: Read) -> Result<()> {
        self.dirty = true;
        match read {
            Read::Batch(batch) => {
                self.session.room(&batch).await?;
                let planner = self.session.planner();
                let shared = Arc::clone(&self.shared);
                let plan = work(shared, planner, self.shard.clone(), batch).await?;
                self.session.send(plan).await?;
            }
            Read::Idle { through } => self.session.skip(through),
            // The runtime reports and counts it; the output has no place for records that never came.
            Read::Gap { to, .. } => self.session.skip(to),
            Read::End { .. } => self.ended = true,
        }
        Ok(())
    }

    fn due(&self, now: Instant) -> Option<Flush> {
        if self.ended {
            return Some(Flush::End);
        }
        let is_time = now >= self.published_at + CHECKPOINT_INTERVAL;
        (self.dirty && is_time).then_some(Flush::Time)
    }

    fn deadline(&self) -> Option<Instant> {
        self.dirty.then(|| self.published_at + CHECKPOINT_INTERVAL)
    }

    async fn changed(&mut self) {
        self.session.tend().await;
    }

    async fn publish(&mut self, why: Flush) -> Result<Progress> {
        let everything = matches!(why, Flush::Revoke | Flush::Drain | Flush::End);
        let to = if everything {
            self.session.drain().await?
        } else {
            self.session.progress().await?
        };
        self.published_at = clock::now();
        self.dirty = !self.session.is_idle() || (self.ended && !everything);
        let to = if self.ended && self.session.is_idle() {
            Position::End
        } else {
            to
        };
        Ok(Progress {
            to,
            ..Progress::default()
        })
    }
}
