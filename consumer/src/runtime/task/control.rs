//! What supervisor and shard task exchange: orders one way, the outcome the other way. Also the delays after failures.

use std::time::Duration;

use hydrant_core::error::{Disposition, Error};
use hydrant_core::retry::Backoff;
use tokio::sync::watch;

/// What the supervisor wants a task to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TaskOrder {
    /// Continue.
    Run,
    /// Publish and give the claim back, for another worker.
    Revoke,
    /// Publish and give the claim back, because the process ends.
    Drain,
}

/// How a task ended.
#[derive(Debug)]
pub(crate) enum TaskOutcome {
    /// The shard has ended and its end is published.
    Ended,
    /// Everything is published and the claim given back.
    Released,
    /// The claim was lost.
    Lost,
    /// The task cannot continue.
    Failed(Error),
}

impl TaskOutcome {
    /// How a task ends with an error of its ledger that no retry can fix.
    pub(super) fn of(error: Error) -> Self {
        match error.disposition() {
            Disposition::Fenced => TaskOutcome::Lost,
            _ => TaskOutcome::Failed(error),
        }
    }
}

/// The delays between attempts; a shard is tried for as long as the claim holds.
pub(crate) const PACE: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_secs(5),
};

/// Resolves when the supervisor wants the claim back. Cancel-safe.
pub(crate) async fn wanted(control: &mut watch::Receiver<TaskOrder>) {
    // The tasks of a supervisor that is gone are aborted with it.
    drop(control.wait_for(|control| *control != TaskOrder::Run).await);
}
