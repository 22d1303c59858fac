//! A write of the ledger that runs while records are pushed and published.

use std::sync::Arc;

use hydrant_core::error::{Error, Result};
use hydrant_core::lease::Progress;
use hydrant_core::subscription::Ledger;
use tokio::task::JoinSet;

/// At most one write of a claim's ledger. After a drop the write may be done or not; the next one finds out.
#[derive(Default)]
pub(crate) struct LedgerWrite {
    progress: Option<Progress>,
    task: JoinSet<Result<()>>,
}

impl LedgerWrite {
    /// Begins to write `progress`; no other write may be under way.
    pub(crate) fn begin(&mut self, ledger: &Arc<dyn Ledger>, progress: &Progress) {
        let (ledger, new) = (Arc::clone(ledger), progress.clone());
        self.progress = Some(progress.clone());
        self.task.spawn(async move { ledger.write(&new).await });
    }

    /// Whether a write is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.progress.is_some()
    }

    /// Resolves when the write is done, with what was written and whether it is stored. Pending without a write.
    /// Cancel-safe.
    pub(crate) async fn done(&mut self) -> (Progress, Result<()>) {
        if self.progress.is_none() {
            return std::future::pending().await;
        }
        let written = match self.task.join_next().await {
            Some(Ok(written)) => written,
            _ => Err(Error::fatal(
                "a write of the ledger panicked, which is a fault of hydrant",
            )),
        };
        (self.progress.take().unwrap_or_default(), written)
    }
}
