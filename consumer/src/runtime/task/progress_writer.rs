//! The progress of a claim on its way into the ledger, which is written while records are pushed and published.
//!
//! At most one write is under way. Progress that is published meanwhile replaces progress that still waits.

use std::sync::Arc;

use hydrant_core::clock::Instant;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::Progress;
use hydrant_core::subscription::Ledger;
use tokio::task::JoinSet;

/// Published progress that the ledger lacks.
struct OwedProgress {
    progress: Progress,
    write_at: Instant,
}

/// Writes the progress of one claim. After a drop a write may be done or not; the next reader of the ledger finds out.
pub(crate) struct ProgressWriter {
    ledger: Arc<dyn Ledger>,
    owed: Option<OwedProgress>,
    /// Writes that failed since one succeeded.
    pub(crate) failures: u32,
    /// The write under way, with what it writes.
    task: JoinSet<(Progress, Result<()>)>,
}

impl ProgressWriter {
    /// Creates a writer for a ledger that holds everything.
    pub(crate) fn new(ledger: &Arc<dyn Ledger>) -> Self {
        ProgressWriter {
            ledger: Arc::clone(ledger),
            owed: None,
            failures: 0,
            task: JoinSet::new(),
        }
    }

    /// Whether the ledger holds everything that was published.
    pub(crate) fn is_written(&self) -> bool {
        self.owed.is_none()
    }

    /// Takes newer progress. It is written when older progress would have been, or else at `write_at`.
    pub(crate) fn owe(&mut self, progress: Progress, write_at: Instant) {
        let write_at = self.owed.as_ref().map_or(write_at, |owed| owed.write_at);
        self.owed = Some(OwedProgress { progress, write_at });
    }

    /// Writes what the ledger lacks no earlier than `write_at`.
    pub(crate) fn write_at(&mut self, at: Instant) {
        if let Some(owed) = &mut self.owed {
            owed.write_at = at;
        }
    }

    /// Returns when the next write is to begin; `None` while one is under way.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let owed = self.owed.as_ref().filter(|_| !self.is_writing());
        owed.map(|owed| owed.write_at)
    }

    /// Whether what the ledger lacks may be written at once: after a failure a write waits for its time.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.failures == 0 || self.wake_at().is_some_and(|at| at <= now)
    }

    /// Whether a write is under way.
    pub(crate) fn is_writing(&self) -> bool {
        !self.task.is_empty()
    }

    /// Begins to write what the ledger lacks. No write may be under way.
    pub(crate) fn begin(&mut self) {
        debug_assert!(!self.is_writing(), "one write at a time");
        let Some(OwedProgress { progress, .. }) = &self.owed else {
            return;
        };
        let (ledger, progress) = (Arc::clone(&self.ledger), progress.clone());
        self.task.spawn(async move {
            let written = ledger.write(&progress).await;
            (progress, written)
        });
    }

    /// Resolves when the write under way is done; what it stored the ledger no longer lacks. Pending without a write.
    /// Cancel-safe.
    pub(crate) async fn done(&mut self) -> Result<()> {
        let Some(joined) = self.task.join_next().await else {
            return std::future::pending().await;
        };
        let panicked = |_| Error::panicked("a write of the ledger");
        let (progress, written) = joined.map_err(panicked)?;
        if written.is_ok() {
            self.owed.take_if(|owed| owed.progress == progress);
        }
        written
    }
}
