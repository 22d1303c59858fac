//! Runs a transform as a stage between two streams: a policy, or the filters of a copy.
//!
//! Owns the records of a claim between the reader and the delivery into the output. Promises: each unit of the input
//! shard is in the output once where the output or its readers check origins, whichever workers did how much of it,
//! because every record is routed by its input key and carries its origin; a position is answered as progress only when
//! everything up to it is stored. Refuses a claim whose unconfirmed output was made under other rules, because a record
//! that these dropped would be taken for one that the output already has: the runtime keeps their digest in the ledger
//! from before the first record until a clean stop.

use std::collections::VecDeque;
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

use crate::copy::{CopyCounts, CopyTally};

/// How often confirmations are gathered into progress and failed appends are sent again while nothing is read.
const GATHER_EVERY: Duration = Duration::from_millis(250);

/// Applies a transform to a stream's shards and sends what comes out into another stream.
#[derive(Clone, Debug)]
pub struct TransformStage {
    /// The name of the stage in dead letters.
    pub name: &'static str,
    /// The name of the app, which is part of every origin: another name writes everything once more.
    pub app: String,
    /// The stream that is read.
    pub input: StreamId,
    /// The rules.
    pub transform: Arc<dyn Transform>,
    /// Into the output.
    pub delivery: Arc<dyn Delivery>,
    /// Counts the records that are confirmed.
    pub tally: Arc<CopyTally>,
    /// Time, memory and computation.
    pub context: Context,
}

#[async_trait]
impl Stage for TransformStage {
    fn scope(&self) -> Scope {
        self.delivery.scope()
    }

    fn output(&self) -> Option<Output> {
        Some(self.delivery.output())
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        self.delivery.resume(shard).await
    }

    async fn published_to(&self, shard: &Shard) -> Result<Option<Position>> {
        self.delivery.published_to(shard).await
    }

    async fn open(&self, claim: Opened) -> Result<Box<dyn ShardStage>> {
        let digest = self.transform.digest();
        if let Some(pin) = claim.after.pin.as_ref().filter(|pin| pin.digest != digest) {
            return Err(Error::refused(format!(
                "shard `{}` has unconfirmed output under policy `{}`, but this worker runs under policy `{digest}`: \
                 start this worker with the former policy",
                claim.shard.id, pin.digest
            )));
        }
        let upstream = Upstream::of_claim(&self.app, &self.input, &claim, self.name);
        Ok(Box::new(ShardTransform {
            session: self.delivery.open(upstream).await?,
            shared: Arc::new(self.clone()),
            shard: claim.shard.id,
            pushed: claim.after.to,
            unconfirmed: VecDeque::new(),
            duplicates: 0,
            deadline: None,
            ended: false,
        }))
    }

    async fn publish_all(&self, why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        self.delivery.publish_all(why).await
    }
}

struct ShardTransform {
    shared: Arc<TransformStage>,
    shard: ShardId,
    session: Box<dyn Session>,
    /// Everything up to here was pushed.
    pushed: Position,
    /// The counts of the batches that end at these positions and are not confirmed.
    unconfirmed: VecDeque<(Position, CopyCounts)>,
    /// How many duplicates of the session are counted already.
    duplicates: u64,
    /// When to gather confirmations; `None` while no published progress lacks anything that was pushed.
    deadline: Option<Instant>,
    ended: bool,
}

/// Routes, applies and cuts on a worker thread.
async fn work(
    shared: Arc<TransformStage>,
    planner: Planner,
    shard: ShardId,
    batch: Batch,
) -> Result<(Plan, CopyCounts)> {
    let now = shared.context.clock.wall_micros();
    let workers = shared.context.workers.clone();
    let job = move || {
        let routes = planner.routes(&batch);
        let source = Source {
            stream: &shared.input,
            shard: &shard,
            now,
        };
        let transformed = shared.transform.apply(batch, source)?;
        let counts = CopyCounts {
            written: transformed.sources.len() as u64,
            filtered: transformed.dropped.len() as u64,
            dead_letters: transformed.dead_letters.len() as u64,
            duplicates: 0,
        };
        let plan = planner.plan(transformed, &routes, now)?;
        Ok((plan, counts))
    };
    workers.run(job).await?
}

impl ShardTransform {
    /// Counts everything that is confirmed up to `to`.
    fn count(&mut self, to: Position) {
        let confirmed = self.unconfirmed.iter().take_while(|(end, _)| *end <= to);
        let confirmed = confirmed.count();
        let sum = CopyCounts {
            duplicates: self.session.duplicates() - self.duplicates,
            ..CopyCounts::default()
        };
        self.duplicates = self.session.duplicates();
        let done = self.unconfirmed.drain(..confirmed);
        let sum = done.fold(sum, |sum, (_, counts)| sum.and(counts));
        self.shared.tally.add(sum);
    }
}

#[async_trait]
impl ShardStage for ShardTransform {
    async fn push(&mut self, read: Read) -> Result<()> {
        self.pushed = match &read {
            Read::Batch(batch) => batch.to,
            Read::Idle { through: to } | Read::Gap { to, .. } => *to,
            Read::End { .. } => Position::End,
        };
        match read {
            Read::Batch(batch) => {
                self.session.room(&batch).await?;
                let to = batch.to;
                let planner = self.session.planner();
                let shared = Arc::clone(&self.shared);
                let (plan, counts) = work(shared, planner, self.shard.clone(), batch).await?;
                self.unconfirmed.push_back((to, counts));
                self.session.send(plan).await?;
            }
            Read::Idle { through } => self.session.skip(through),
            // The runtime reports and counts it; the output has no place for records that never came.
            Read::Gap { to, .. } => self.session.skip(to),
            Read::End { .. } => {
                self.session.end().await?;
                self.ended = true;
            }
        }
        self.deadline.get_or_insert(clock::now() + GATHER_EVERY);
        Ok(())
    }

    fn due(&self, now: Instant) -> Option<Flush> {
        if self.ended {
            return Some(Flush::End);
        }
        self.deadline
            .filter(|deadline| *deadline <= now)
            .map(|_| Flush::Time)
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    async fn changed(&mut self) {
        self.session.tend().await;
    }

    async fn publish(&mut self, why: Flush) -> Result<Progress> {
        let to = match why {
            Flush::Revoke | Flush::Drain | Flush::End => self.session.drain().await?,
            Flush::Size | Flush::Time | Flush::Memory => self.session.progress().await?,
        };
        debug_assert!(to <= self.pushed, "only what was pushed is progress");
        self.count(to);
        let done = self.session.is_idle();
        self.deadline = (!done).then(|| clock::now() + GATHER_EVERY);
        let to = if self.ended && done {
            Position::End
        } else {
            to
        };
        Ok(Progress {
            to,
            ..Progress::default()
        })
    }

    fn outlives_a_failed_push(&self) -> bool {
        true
    }
}
