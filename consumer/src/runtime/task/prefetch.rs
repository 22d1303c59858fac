//! Reads ahead of a shard's stage, in a separate task.
//!
//! One read waits in the channel and one in the task; the permits in them account for their bytes. When the stage
//! needs those bytes to take what was pushed, the reads are dropped, and the reader is opened again after the last
//! position that was handed out.

use std::sync::Arc;
use std::time::Duration;

use hydrant_core::budget::Budget;
use hydrant_core::clock;
use hydrant_core::error::{Error, Result};
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{Read, ShardReader, SharedStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::runtime::late_reader::LateReader;

/// Reads that wait for the stage: one, so that the next one is ready when a push returns.
const READS_AHEAD: usize = 1;

struct ReadAhead {
    reads: mpsc::Receiver<Result<Read>>,
    // Aborts the reading task when it is dropped.
    _task: JoinSet<()>,
}

/// The reads of one shard, in order.
pub(crate) struct Prefetch {
    stream: SharedStream,
    shard: ShardId,
    budget: Budget,
    after: Position,
    running: Option<ReadAhead>,
}

impl Prefetch {
    /// Reads after `after`, with `first` if it is given: the reader of the claim, not opened yet.
    pub(crate) fn start(
        stream: &SharedStream,
        shard: &ShardId,
        budget: &Budget,
        after: Position,
        first: Option<Box<dyn ShardReader>>,
    ) -> Self {
        let mut prefetch = Prefetch {
            stream: Arc::clone(stream),
            shard: shard.clone(),
            budget: budget.clone(),
            after,
            running: None,
        };
        if let Some(reader) = first {
            prefetch.run(reader);
        }
        prefetch
    }

    fn run(&mut self, mut reader: Box<dyn ShardReader>) {
        let (sender, reads) = mpsc::channel(READS_AHEAD);
        let after = self.after;
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(error) = reader.open(after).await {
                drop(sender.send(Err(error)).await);
                return;
            }
            loop {
                let read = reader.next().await;
                let last = !matches!(
                    read,
                    Ok(Read::Batch(_) | Read::Idle { .. } | Read::Gap { .. })
                );
                if sender.send(read).await.is_err() || last {
                    return;
                }
            }
        });
        self.running = Some(ReadAhead { reads, _task: task });
    }

    /// Returns the next read. After an error, reading starts again where it failed. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Read> {
        if self.running.is_none() {
            let reader = LateReader::new(&self.stream, &self.shard, &self.budget);
            self.run(Box::new(reader));
        }
        let Some(running) = &mut self.running else {
            return Err(Error::fatal("the reader that was just started is missing"));
        };
        let read = match running.reads.recv().await {
            Some(read) => read,
            None => Err(Error::fatal(format!(
                "the reader of shard `{}` panicked",
                self.shard
            ))),
        };
        match &read {
            Ok(Read::Batch(batch)) => {
                debug_assert!(self.after <= batch.to, "a reader does not go back");
                self.after = self.after.max(batch.to);
            }
            Ok(Read::Gap { from, to, .. }) => {
                debug_assert!(from <= to, "a gap goes forward");
                self.after = self.after.max(*to);
            }
            Ok(Read::Idle { through }) => self.after = self.after.max(*through),
            Ok(Read::End { .. }) => self.after = Position::End,
            Err(_) => self.running = None,
        }
        read
    }

    /// Whether reads may have been made ahead.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Drops the reads made ahead and gives their bytes back.
    pub(crate) fn shed(&mut self) {
        self.running = None;
    }
}

/// How long a push or a publish waits under pressure before the reads made ahead are dropped.
const SHED_AFTER: Duration = Duration::from_secs(1);

/// Awaits `work`, and drops the reads made ahead when memory is short for long, because `work` may be waiting for it.
pub(crate) async fn shedding<T>(
    prefetch: &mut Prefetch,
    budget: &Budget,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        // Both arms are polled to their end or kept: `work` is pinned outside of the loop.
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = pressed_for(budget, SHED_AFTER), if prefetch.is_running() => prefetch.shed(),
        }
    }
}

async fn pressed_for(budget: &Budget, duration: Duration) {
    loop {
        budget.pressure().await;
        clock::sleep(duration).await;
        if budget.is_pressed() {
            return;
        }
    }
}
