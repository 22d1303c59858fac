//! A copy into another stream, with origins: each record comes once where the output or its readers check origins.
//!
//! A record keeps its key and its route. The digest of the filters is pinned in the source's ledger: a record that
//! one filter dropped and another one sends later would be taken for a record that the output already has.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::Context;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::Result;
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId, StreamId};
use hydrant_core::stage::{Flush, Opened, Output, Scope, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;
use hydrant_stream::delivery::{Delivery, Session, Upstream};

use super::STAGE;
use super::record_filter::RecordFilter;
use super::tally::CopyCounts;

/// How often confirmations are collected.
const GATHER_EVERY: Duration = Duration::from_millis(250);

/// Copies records into another stream.
#[derive(Clone)]
pub struct RelayStage {
    shared: Arc<RelayContext>,
}

struct RelayContext {
    delivery: Arc<dyn Delivery>,
    filter: RecordFilter,
    app: String,
    input: StreamId,
    context: Context,
}

impl fmt::Debug for RelayStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayStage({:?})", self.shared.delivery)
    }
}

impl RelayStage {
    /// Creates a copy of records of `input` into the stream of `delivery`. The app is part of every origin: under
    /// another name everything is copied once more.
    pub fn new(
        app: &str,
        input: StreamId,
        filter: RecordFilter,
        delivery: Arc<dyn Delivery>,
        context: Context,
    ) -> Self {
        let app = app.to_owned();
        RelayStage {
            shared: Arc::new(RelayContext {
                delivery,
                filter,
                app,
                input,
                context,
            }),
        }
    }
}

#[async_trait]
impl Stage for RelayStage {
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
        let upstream = Upstream::of_claim(&shared.app, &shared.input, &claim, STAGE);
        let session = shared.delivery.open(upstream).await?;
        Ok(Box::new(ShardRelay {
            shared,
            shard: claim.shard.id,
            session,
            unconfirmed: VecDeque::new(),
            duplicates: 0,
            ended: false,
            deadline: None,
        }))
    }

    async fn publish_all(&self, why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        self.shared.delivery.publish_all(why).await
    }
}

struct ShardRelay {
    shared: Arc<RelayContext>,
    shard: ShardId,
    session: Box<dyn Session>,
    /// The counts of the batches that end at these positions and are not confirmed.
    unconfirmed: VecDeque<(Position, CopyCounts)>,
    /// How many duplicates of the session are counted already.
    duplicates: u64,
    ended: bool,
    deadline: Option<Instant>,
}

impl ShardRelay {
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
        self.shared.filter.tally.add(sum);
    }
}

#[async_trait]
impl ShardStage for ShardRelay {
    async fn push(&mut self, read: Read) -> Result<()> {
        match read {
            Read::Batch(batch) => {
                self.session.room(&batch).await?;
                let (shared, shard) = (Arc::clone(&self.shared), self.shard.clone());
                let planner = self.session.planner();
                let now = shared.context.clock.wall_micros();
                let workers = shared.context.workers.clone();
                let to = batch.to;
                let job = move || {
                    let routes = planner.routes(&batch);
                    let filtered = shared
                        .filter
                        .transformed(batch, &shared.input, &shard, now)?;
                    let counts = CopyCounts {
                        written: filtered.sources.len() as u64,
                        filtered: filtered.dropped.len() as u64,
                        dead_letters: filtered.letters.len() as u64,
                        duplicates: 0,
                    };
                    planner
                        .plan(filtered, &routes, now)
                        .map(|plan| (plan, counts))
                };
                let (plan, counts) = workers.run(job).await??;
                self.unconfirmed.push_back((to, counts));
                self.session.send(plan).await?;
            }
            Read::Idle { through } => self.session.skip(through),
            Read::Gap { to, .. } => self.session.skip(to),
            Read::End { .. } => self.ended = true,
        }
        self.deadline.get_or_insert(clock::now() + GATHER_EVERY);
        Ok(())
    }

    fn due(&self, now: Instant) -> Option<Flush> {
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
