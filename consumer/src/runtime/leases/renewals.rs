//! The renewal of a worker's leases, independent of what its coordinator waits for, and of each other.
//!
//! Renews each held lease in a task of its own. A coordinator round lasts as long as its store calls; with hundreds of
//! shards to take or rows to create, that exceeds a lease time. So each lease has a task that renews it when it is due.
//! It looks at the lease in memory only, and costs the store one swap for each third of a lease time without another
//! write.

use std::sync::{Arc, Weak};

use hydrant_core::clock;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::held_lease::{HeldLease, LeaseState, SILENT};
use super::settings::{AT_ONCE, LeaseTimes};

/// The leases that are renewed. Dropping this stops the renewals at once.
pub(super) struct Renewals {
    times: LeaseTimes,
    /// Those that wait longest come first, because there may not be time for all.
    at_once: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Renewals {
    /// Begins without any lease.
    pub(super) fn new(times: LeaseTimes) -> Self {
        Renewals {
            times,
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: JoinSet::new(),
        }
    }

    /// Renews a lease from now on, until it is given back or lost.
    pub(super) fn add(&mut self, held: &Arc<HeldLease>) {
        while self.tasks.try_join_next().is_some() {}
        let (held, at_once) = (Arc::downgrade(held), Arc::clone(&self.at_once));
        self.tasks.spawn(renew(held, self.times, at_once));
    }
}

/// Renews a lease whenever it is due, and marks it as lost when it could not be renewed for a lease time.
async fn renew(lease: Weak<HeldLease>, times: LeaseTimes, at_once: Arc<Semaphore>) {
    let is_held = |held: &Arc<HeldLease>| held.state() == LeaseState::Held;
    while let Some(held) = lease.upgrade().filter(is_held) {
        let due = held.renewed_at() + times.renew_after();
        if clock::now() < due {
            drop(held);
            clock::sleep_until(Some(due)).await;
            continue;
        }
        let permit = at_once.acquire().await;
        let renewed = held.update(|_| {}).await;
        drop(permit);
        if renewed.is_err() {
            if clock::now().duration_since(held.renewed_at()) >= times.lease_time {
                held.lose(SILENT);
            }
            drop(held);
            clock::sleep(times.observe / 2).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hydrant_core::lease::{Lease, Pace};
    use hydrant_testing::memory::MemoryLeases;

    use super::*;

    /// One renewal gets no answer while another lease comes due.
    #[tokio::test(start_paused = true)]
    async fn a_renewal_waits_for_no_other_one() {
        let store = MemoryLeases::new();
        let times = LeaseTimes::at(Pace::LOCAL, None, Duration::from_secs(30));
        let mut renewals = Renewals::new(times);
        let mut held = Vec::new();
        for shard in ["a", "b"] {
            let mut row = Lease::new(shard.into());
            row.owner = Some("me".to_owned());
            store.put(row.clone());
            let (leases, nudge) = (Arc::new(store.clone()), Arc::default());
            let now = clock::now();
            let lease = HeldLease::new("app", "me", row, now, leases, times, nudge);
            held.push(Arc::new(lease));
            renewals.add(&held[held.len() - 1]);
            clock::sleep(times.lease_time / 10).await;
        }
        let renewed = |shard: &str| store.row(shard).unwrap().counter > 0;
        store.change_faults(|faults| faults.write_time = Duration::from_secs(3600));
        while !renewed("a") {
            clock::sleep(times.lease_time / 100).await;
        }
        store.change_faults(|faults| faults.write_time = Duration::ZERO);
        assert!(!renewed("b"));
        clock::sleep(times.lease_time / 5).await;
        assert!(renewed("b"));
    }
}
