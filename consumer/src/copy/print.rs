//! A copy to standard output, or to a device that is written in the same way ([`super::Device`]).
//!
//! A thread of its own prints, because a reader that is slow or gone away blocks the call; its queue holds one text, so
//! a slow reader slows the stream. Printed is done: a checkpoint follows, and what was printed after the last checkpoint
//! before a death is printed again. When the reader goes away, nothing more counts as done.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{OutputId, Progress};
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId, StreamId};
use hydrant_core::stage::{Flush, Opened, Output, Scope, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;
use hydrant_core::transform::Source;
use hydrant_core::{Context, workers};
use hydrant_process::Stdout;
use tokio::sync::{mpsc, oneshot};

use super::format::Format;
use super::sieve::Sieve;
use super::{PUBLISH_AFTER, STAGE};

/// Texts that wait for the printing thread.
const TEXTS_WAITING: usize = 1;
/// How long a shard pauses when the output was closed.
const UNREAD_PAUSE: Duration = Duration::from_secs(1);

type Job = (Vec<u8>, oneshot::Sender<Result<bool>>);

/// Prints texts, one after another.
pub struct Printer {
    queue: mpsc::Sender<Job>,
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Printer")
    }
}

impl Printer {
    /// Prints to standard output.
    pub fn stdout(stdout: Stdout) -> Result<Self> {
        Printer::start(move |text| {
            stdout.bytes(text)?;
            Ok(!stdout.is_closed())
        })
    }

    /// Prints by `print`, which answers whether anybody still reads.
    pub fn start(mut print: impl FnMut(&[u8]) -> Result<bool> + Send + 'static) -> Result<Self> {
        let (queue, mut jobs) = mpsc::channel::<Job>(TEXTS_WAITING);
        workers::spawn_named("printer", move || {
            while let Some((text, answer)) = jobs.blocking_recv() {
                // The asker may have been ended meanwhile.
                answer.send(print(&text)).ok();
            }
        })?;
        Ok(Printer { queue })
    }

    /// Prints and answers whether anybody read it. Dropped half way, the text may still be printed.
    async fn print(&self, text: Vec<u8>) -> Result<bool> {
        let (answer, printed) = oneshot::channel();
        let gone = || Error::fatal("the thread that prints has ended");
        self.queue.send((text, answer)).await.map_err(|_| gone())?;
        printed.await.map_err(|_| gone())?
    }
}

/// Copies to what a [`Printer`] prints to.
#[derive(Clone, Debug)]
pub struct PrintStage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    output: OutputId,
    printer: Printer,
    sieve: Sieve,
    format: Format,
    stream: StreamId,
    context: Context,
}

impl PrintStage {
    /// Prints records of `stream` to `output`.
    pub fn new(
        output: OutputId,
        stream: StreamId,
        sieve: Sieve,
        format: Format,
        printer: Printer,
        context: Context,
    ) -> Self {
        PrintStage {
            shared: Arc::new(Shared {
                output,
                printer,
                sieve,
                format,
                stream,
                context,
            }),
        }
    }
}

#[async_trait]
impl Stage for PrintStage {
    fn scope(&self) -> Scope {
        Scope::Shard
    }

    fn output(&self) -> Option<Output> {
        Some(Output {
            id: self.shared.output.clone(),
            keeps_progress: false,
        })
    }

    async fn resume(&self, _shard: &Shard) -> Result<Option<Progress>> {
        Ok(None)
    }

    async fn open(&self, claim: Opened) -> Result<Box<dyn ShardStage>> {
        Ok(Box::new(ShardPrint {
            shared: Arc::clone(&self.shared),
            shard: claim.shard.id,
            to: claim.after.to,
            deadline: None,
        }))
    }

    async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        // Each shard is published by itself.
        Ok(Vec::new())
    }
}

struct ShardPrint {
    shared: Arc<Shared>,
    shard: ShardId,
    to: Position,
    deadline: Option<Instant>,
}

#[async_trait]
impl ShardStage for ShardPrint {
    async fn push(&mut self, read: Read) -> Result<()> {
        let to = match read {
            Read::Batch(batch) => {
                let (shared, shard) = (Arc::clone(&self.shared), self.shard.clone());
                let now = shared.context.clock.wall_micros();
                let workers = shared.context.workers.clone();
                let job = move || {
                    let source = Source {
                        stream: &shared.stream,
                        shard: &shard,
                        now,
                    };
                    let text = shared.sieve.text(&batch, shared.format, source);
                    text.map(|text| (text, batch.to, batch.permit))
                };
                // The permit goes back when the text is printed.
                let (text, to, _permit) = workers.run(job).await??;
                for letter in &text.letters {
                    let (stage, reason) = (STAGE, letter.reason.to_string());
                    metrics::counter!("hydrant_consumer_dead_letters_total", "stage" => stage, "reason" => reason)
                        .increment(1);
                    tracing::warn!(
                        shard = %letter.shard, sequence = %letter.sequence, sub = letter.sub, reason = %letter.reason,
                        "a record was not printed"
                    );
                }
                if !text.text.is_empty() && !self.shared.printer.print(text.text).await? {
                    // The process is about to drain; until then nothing counts as done.
                    return Err(Error::Unavailable {
                        message: format!("the reader of {} went away", self.shared.output.name),
                        after: UNREAD_PAUSE,
                    });
                }
                self.shared.sieve.tally.add(text.counts);
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
