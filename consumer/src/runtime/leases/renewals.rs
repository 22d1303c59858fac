//! The renewal of a worker's leases, independent of what its coordinator waits for.
//!
//! A round of the coordinator takes as long as the store makes it. With hundreds of shards to take, or rows to
//! create, that is longer than a lease time. So a separate task renews all leases that are due at once. It looks at
//! the leases in memory only, and costs the store one swap for each lease and third of a lease time.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::StreamExt;
use hydrant_core::clock;
use tokio::task::JoinSet;

use super::held_lease::{HeldLease, LeaseState, SILENT};
use super::settings::{AT_ONCE, LeaseTimes};

/// The leases that are renewed. Dropping this stops the renewals at once.
pub(super) struct Renewals {
    held: Arc<Mutex<Vec<Weak<HeldLease>>>>,
    _task: JoinSet<()>,
}

impl Renewals {
    /// Starts the task, without any lease.
    pub(super) fn start(times: LeaseTimes) -> Self {
        let held = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(renew(Arc::clone(&held), times));
        Renewals { held, _task: task }
    }

    /// Renews a lease from now on, until it is given back or lost.
    pub(super) fn add(&self, held: &Arc<HeldLease>) {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::downgrade(held));
    }
}

async fn renew(held: Arc<Mutex<Vec<Weak<HeldLease>>>>, times: LeaseTimes) {
    loop {
        clock::sleep(times.observe() / 2).await;
        let due = due(&held, times);
        futures::stream::iter(due)
            .map(|held| renew_one(held, times))
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }
}

/// Returns the leases that are due, and forgets those that are no longer held.
fn due(held: &Mutex<Vec<Weak<HeldLease>>>, times: LeaseTimes) -> Vec<Arc<HeldLease>> {
    let mut all = held.lock().unwrap_or_else(PoisonError::into_inner);
    let mut due = Vec::new();
    let now = clock::now();
    all.retain(|held| {
        let held = held
            .upgrade()
            .filter(|held| held.state() == LeaseState::Held);
        let Some(held) = held else {
            return false;
        };
        if now.duration_since(held.renewed_at()) >= times.renew_after() {
            due.push(held);
        }
        true
    });
    // The leases whose renewal is longest ago come first, because there may not be time for all.
    due.sort_by_key(|held| held.renewed_at());
    due
}

/// Renews a lease, or marks it as lost when it could not be renewed for a lease time.
async fn renew_one(held: Arc<HeldLease>, times: LeaseTimes) {
    let renewed = tokio::time::timeout(times.patience(), held.update(|_| {})).await;
    let silent = clock::now().duration_since(held.renewed_at()) >= times.lease_time;
    if !matches!(renewed, Ok(Ok(_))) && silent {
        held.lose(SILENT);
    }
}
