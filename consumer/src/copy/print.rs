//! A copy as text to what a [`Printer`] writes to: standard output, a device or a file. Each record comes at least
//! once.
//!
//! Promises: a checkpoint is written only after everything before it was synced; after a crash, whatever was written
//! after the last checkpoint is written again. Once the reader has gone away, no further record counts as done.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::Context;
use hydrant_core::budget::Overdraft;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{OutputId, Progress};
use hydrant_core::origin::DeadLetter;
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId, StreamId};
use hydrant_core::stage::{Flush, LedgerUse, Opened, Output, Scope, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::transform::Source;

use super::STAGE;
use super::format::CopyFormat;
use super::printer::Printer;
use super::record_filter::RecordFilter;

/// The longest time between a write and its publish.
const PUBLISH_AFTER: Duration = Duration::from_millis(200);
/// How long a shard pauses when the reader of the output has gone away.
const UNREAD_PAUSE: Duration = Duration::from_secs(1);

/// Copies to what a [`Printer`] writes to.
#[derive(Clone, Debug)]
pub struct PrintStage {
    /// What the printer writes to.
    pub output: OutputId,
    /// The printer of the output.
    pub printer: Printer,
    /// The stream that is read.
    pub stream: StreamId,
    /// Which records are copied.
    pub filter: RecordFilter,
    /// How they look.
    pub format: CopyFormat,
    /// Time, memory and computation.
    pub context: Context,
    /// For the memory of texts that are longer than their records; one for all shards.
    pub overdraft: Arc<Overdraft>,
}

#[async_trait]
impl Stage for PrintStage {
    fn scope(&self) -> Scope {
        Scope::Shard
    }

    fn output(&self) -> Option<Output> {
        Some(Output {
            id: self.output.clone(),
            keeps_progress: false,
            ledger: LedgerUse::Written,
        })
    }

    async fn resume(&self, _shard: &Shard) -> Result<Option<Progress>> {
        Ok(None)
    }

    async fn published_to(&self, _shard: &Shard) -> Result<Option<Position>> {
        Ok(None)
    }

    async fn open(&self, claim: Opened) -> Result<Box<dyn ShardStage>> {
        Ok(Box::new(ShardPrint {
            stage: Arc::new(self.clone()),
            shard: claim.shard.id,
            to: claim.after.to,
            deadline: None,
        }))
    }
}

struct ShardPrint {
    stage: Arc<PrintStage>,
    shard: ShardId,
    to: Position,
    deadline: Option<Instant>,
}

#[async_trait]
impl ShardStage for ShardPrint {
    async fn push(&mut self, read: Read) -> Result<()> {
        let to = match read {
            Read::Batch(batch) => {
                let (stage, shard) = (Arc::clone(&self.stage), self.shard.clone());
                let Context { clock, workers, .. } = &self.stage.context;
                let now = clock.wall_micros();
                let job = move || {
                    let source = Source {
                        stream: &stage.stream,
                        shard: &shard,
                        now,
                    };
                    let text = stage.filter.text(&batch, stage.format, source);
                    text.map(|text| (text, batch.to, batch.permit))
                };
                let (text, to, mut permit) = workers.run(job).await??;
                // Dead letters are in memory a second time, as text, when they are written.
                let dead_letters: u64 =
                    text.dead_letters.iter().map(DeadLetter::memory_bytes).sum();
                let held = text.text.len() as u64 + dead_letters * 2;
                if permit.bytes() < held {
                    drop(permit);
                    let (budget, overdraft) = (&self.stage.context.budget, &self.stage.overdraft);
                    permit = budget.acquire_more(held, overdraft).await;
                }
                for letter in &text.dead_letters {
                    let (stage, reason) = (STAGE, letter.reason.to_string());
                    metrics::counter!("hydrant_consumer_dead_letters_total", "stage" => stage, "reason" => reason)
                        .increment(1);
                }
                if !self
                    .stage
                    .printer
                    .write(text.text, text.dead_letters)
                    .await?
                {
                    // The process is about to drain; until then nothing counts as done.
                    return Err(Error::Unavailable {
                        message: format!("the reader of {} went away", self.stage.output.name),
                        after: UNREAD_PAUSE,
                    });
                }
                drop(permit);
                self.stage.filter.tally.add(text.counts);
                to
            }
            Read::Idle { through } => through,
            Read::Gap { to, .. } => to,
            Read::End { .. } => Position::End,
        };
        self.to = self.to.max(to);
        self.deadline.get_or_insert(clock::now() + PUBLISH_AFTER);
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

    async fn publish(&mut self, _why: Flush) -> Result<Progress> {
        self.stage.printer.sync().await?;
        self.deadline = None;
        Ok(Progress {
            to: self.to,
            ..Progress::default()
        })
    }

    fn outlives_a_failed_push(&self) -> bool {
        true
    }
}
