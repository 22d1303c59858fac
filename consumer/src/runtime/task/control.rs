//! What the supervisor and a shard's task say to each other, and how long the task pauses after failures.

use std::time::Duration;

use hydrant_core::error::Error;
use hydrant_core::retry::Backoff;
use tokio::sync::watch;

/// What the supervisor wants of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TaskOrder {
    /// To go on.
    Run,
    /// To publish and give the claim back, for another worker.
    Revoke,
    /// To publish and give the claim back, because the process ends.
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
    /// It cannot go on.
    Failed(Error),
}

/// Delays between attempts; a shard is tried for as long as the claim holds.
pub(crate) const PACE: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_secs(5),
    attempts: None,
};

/// Resolves when the supervisor wants the claim back. Cancel-safe.
pub(crate) async fn wanted(control: &mut watch::Receiver<TaskOrder>) {
    // A supervisor that is gone wants nothing any more; its tasks are aborted with it.
    drop(control.wait_for(|control| *control != TaskOrder::Run).await);
}
