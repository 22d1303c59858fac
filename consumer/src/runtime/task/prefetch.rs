//! Reads ahead of a shard's stage, in a separate task.
//!
//! One read waits in the channel and one in the task; the permits in them account for their bytes. When the stage
//! needs those bytes to take what was pushed, the reads are dropped, and the claim opens another reader after the last
//! place that was handed out, with its marks.

use std::sync::Arc;
use std::time::Duration;

use hydrant_core::budget::Budget;
use hydrant_core::clock;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{OpenAt, Read, Readers};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::place::Place;

/// Reads that wait for the stage: one, so that the next one is ready when a push returns.
const READS_AHEAD: usize = 1;

struct ReadAhead {
    reads: mpsc::Receiver<Result<Read>>,
    // Aborts the reading task when it is dropped.
    _task: JoinSet<()>,
}

/// The reads of one shard, in order.
pub(crate) struct Prefetch {
    readers: Arc<dyn Readers>,
    shard: ShardId,
    /// Where the app began, for a shard of which nothing was read.
    begun: Progress,
    parents: Vec<(ShardId, Progress)>,
    /// What was handed out.
    place: Place,
    running: Option<ReadAhead>,
}

impl Prefetch {
    /// Reads after `progress`, which continues that of the parents if nothing of the shard was read.
    pub(crate) fn after(
        readers: &Arc<dyn Readers>,
        shard: &ShardId,
        progress: &Progress,
        parents: Vec<(ShardId, Progress)>,
    ) -> Self {
        Prefetch {
            readers: Arc::clone(readers),
            shard: shard.clone(),
            begun: Progress {
                marks: Vec::new(),
                ..progress.clone()
            },
            parents,
            place: Place::of(progress),
            running: None,
        }
    }

    /// Where the next reader begins.
    fn open_at(&self) -> OpenAt {
        let progress = self.place.complete(self.begun.clone());
        let parents = match progress.to {
            Position::Begin => self.parents.clone(),
            _ => Vec::new(),
        };
        OpenAt::After { progress, parents }
    }

    fn run(&self) -> ReadAhead {
        let (sender, reads) = mpsc::channel(READS_AHEAD);
        let (readers, at) = (Arc::clone(&self.readers), self.open_at());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut reader = match readers.open(at).await {
                Ok(reader) => reader,
                Err(error) => {
                    drop(sender.send(Err(error)).await);
                    return;
                }
            };
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
        ReadAhead { reads, _task: task }
    }

    /// Returns the next read. After an error, reading starts again where it failed. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Read> {
        let running = self.running.take().unwrap_or_else(|| self.run());
        let running = self.running.insert(running);
        let read = match running.reads.recv().await {
            Some(read) => read,
            None => Err(Error::fatal(format!(
                "the reader of shard `{}` panicked",
                self.shard
            ))),
        };
        match &read {
            Ok(read) => self.place.follow(read),
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
