//! The way into one output stream by lanes: appends with origins, confirmed shard by shard.
//!
//! Owns what all sessions of a process share: the writer, the map of the output, and what is known of where origins
//! began. [`LaneSession`] does the work for one upstream shard.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::hash::Routing;
use hydrant_core::lease::Progress;
use hydrant_core::stage::{Flush, Output, Scope};
use hydrant_core::stream::{KeyRule, SharedStream, StreamWriter};
use hydrant_core::subscription::ClaimId;
use hydrant_core::{Budget, Context, Overdraft, Random, Result, Shard};
use metrics::{Counter, counter};
use tokio::sync::Mutex;

use super::begun::Beginnings;
use super::output_limits::OutputLimits;
use super::route::{Keys, RouteRule, Table};
use super::session::LaneSession;
use super::upstream::Upstream;
use super::{Delivery, Session};

/// What one session may have on its way; more waits in [`LaneSession::send`].
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneLimits {
    /// Bytes of unconfirmed appends.
    pub(super) bytes: usize,
    /// Unconfirmed appends.
    pub(super) appends: usize,
}

impl Default for LaneLimits {
    fn default() -> Self {
        // Enough to keep a disk busy over one group commit; the budget of the process bounds the sum over all shards.
        LaneLimits {
            bytes: 16 << 20,
            appends: 256,
        }
    }
}

/// The way into one output stream; clones share it.
#[derive(Clone)]
pub(super) struct Lanes {
    output: Arc<LaneOutput>,
}

/// An output as all sessions of a process share it.
pub(super) struct LaneOutput {
    pub(super) stream: SharedStream,
    pub(super) writer: Arc<dyn StreamWriter>,
    routing: Routing,
    keys: Keys,
    pub(super) limits: LaneLimits,
    pub(super) random: Random,
    pub(super) budget: Budget,
    /// Of the batches that grew while they were changed and planned.
    pub(super) overdraft: Overdraft,
    table: Mutex<Arc<Table>>,
    pub(super) beginnings: Beginnings,
    pub(super) appends: Counter,
    pub(super) duplicates: Counter,
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lanes({})", self.output.stream.url())
    }
}

impl Lanes {
    /// Opens `stream` for writing and reads its map.
    pub(super) async fn open(
        stream: SharedStream,
        keys: Keys,
        limits: LaneLimits,
        context: &Context,
    ) -> Result<Self> {
        let writer = stream.writer().await?;
        let table = Table::new(stream.shards().await?, &writer.routing())?;
        let labels = [("stream", stream.id().name.to_string())];
        let output = LaneOutput {
            appends: counter!("hydrant_lanes_appends_total", &labels),
            duplicates: counter!("hydrant_lanes_duplicate_records_total", &labels),
            routing: writer.routing(),
            writer,
            keys,
            limits,
            random: context.random.clone(),
            budget: context.budget.clone(),
            overdraft: Overdraft::default(),
            table: Mutex::new(table),
            beginnings: Beginnings::default(),
            stream,
        };
        Ok(Lanes {
            output: Arc::new(output),
        })
    }

    /// The session of one upstream shard, from `upstream.after` on.
    pub(super) async fn session(&self, upstream: Upstream) -> LaneSession {
        let output = &self.output;
        let table = Arc::clone(&*output.table.lock().await);
        let rule = RouteRule::new(output.keys, &output.routing, upstream.shard.clone());
        let limits = OutputLimits::of(&*output.writer);
        LaneSession::new(Arc::clone(output), upstream, rule, limits, table)
    }
}

impl LaneOutput {
    /// A map that is newer than `seen`; sessions that ask at the same time share one reading.
    pub(super) async fn table_after(&self, seen: &Arc<Table>) -> Result<Arc<Table>> {
        let mut table = self.table.lock().await;
        if Arc::ptr_eq(&table, seen) {
            *table = Table::new(self.stream.shards().await?, &self.routing)?;
        }
        Ok(Arc::clone(&table))
    }
}

#[async_trait]
impl Delivery for Lanes {
    fn scope(&self) -> Scope {
        Scope::Shard
    }

    fn output(&self) -> Output {
        Output::stream(&*self.output.stream)
    }

    fn record_bytes_max(&self) -> usize {
        self.output.writer.record_bytes_max()
    }

    fn keys(&self) -> KeyRule {
        self.output.writer.keys()
    }

    async fn resume(&self, _shard: &Shard) -> Result<Option<Progress>> {
        // The output knows which records of an origin it has, but not how far the origin is done: a record may have
        // become nothing.
        Ok(None)
    }

    async fn knows(&self, _shard: &Shard) -> Result<bool> {
        Ok(false)
    }

    async fn open(&self, upstream: Upstream) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.session(upstream).await))
    }

    async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        // Each shard is published by itself.
        Ok(Vec::new())
    }
}
