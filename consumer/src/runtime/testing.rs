//! Stages in memory, streams that behave like others do, and workers that a test starts and kills.

mod broker;
mod log_lines;
mod marked;
mod named;
mod seeking_client;
mod stages;
mod tipless;

pub(crate) use broker::BrokerStream;
pub(crate) use log_lines::LogLines;
pub(crate) use marked::MarkedStream;
pub(crate) use named::NamedStage;
pub(crate) use stages::{Exact, OutputLog, PlainStage, Together};
pub(crate) use tipless::TiplessStream;

use std::sync::Arc;

use hydrant_core::budget::Budget;
use hydrant_core::clock::SystemClock;
use hydrant_core::disk::real::RealDisk;
use hydrant_core::{Context, Random, Shutdown, Workers};
use hydrant_testing::memory::MemoryStream;

use super::{RunSpec, Summary};

/// A stream of shards `a`, `b`, ... that is read ten records at a time.
pub(crate) fn memory_stream(shards: u8) -> Arc<MemoryStream> {
    let stream = MemoryStream::lettered("memory", shards, Arc::new(SystemClock));
    stream.batch_appends(10);
    Arc::new(stream)
}

/// A context that computes in the calling task.
pub(crate) fn context(seed: u64, budget_bytes: u64) -> Context {
    Context {
        disk: Arc::new(RealDisk::new()),
        clock: Arc::new(SystemClock),
        random: Random::seeded(seed),
        workers: Workers::Inline,
        budget: Budget::new(budget_bytes),
    }
}

/// A run under way; dropping it is a death.
pub(crate) struct RunningWorker {
    pub(crate) shutdown: Shutdown,
    run: tokio::task::JoinHandle<hydrant_core::Result<Summary>>,
}

impl RunningWorker {
    /// Starts a run.
    pub(crate) fn start(spec: RunSpec) -> Self {
        RunningWorker {
            shutdown: spec.shutdown.clone(),
            run: tokio::spawn(super::run(spec)),
        }
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> hydrant_core::Result<Summary> {
        (&mut self.run).await.expect("the run does not panic")
    }

    /// Drains it.
    pub(crate) async fn drained(self) -> hydrant_core::Result<Summary> {
        self.shutdown
            .advance(hydrant_core::shutdown::Phase::Draining);
        self.ended().await
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.run.is_finished()
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.run.abort();
    }
}
