//! The way into one output stream by lanes: appends with origins, confirmed shard by shard.
//!
//! [`LaneSession`] does the work for one upstream shard; all sessions of a process share a [`LaneOutput`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::lease::Progress;
use hydrant_core::stage::{Output, Scope};
use hydrant_core::stream::{KeyRule, SharedStream};
use hydrant_core::{Context, Overdraft, Position, Result, Shard};
use metrics::counter;
use tokio::sync::Mutex;

use super::begun::Beginnings;
use super::lane_output::{LaneLimits, LaneOutput};
use super::output_limits::OutputLimits;
use super::route::{Keys, RouteRule, Table};
use super::session::LaneSession;
use super::upstream::Upstream;
use super::{Delivery, Session};

/// The way into one output stream; clones share it.
#[derive(Clone)]
pub(super) struct Lanes {
    output: Arc<LaneOutput>,
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
        let table = output.table().await;
        let rule = RouteRule::new(output.keys, &output.routing, upstream.shard.clone());
        let limits = OutputLimits::of(&*output.writer);
        LaneSession::new(Arc::clone(output), upstream, rule, limits, table)
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

    async fn published_to(&self, _shard: &Shard) -> Result<Option<Position>> {
        Ok(None)
    }

    async fn open(&self, upstream: Upstream) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.session(upstream).await))
    }
}
