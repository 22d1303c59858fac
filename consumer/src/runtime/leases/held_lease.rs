//! A lease that this worker holds. Every write of its row goes through here, one at a time.
//!
//! The row is changed by compare-and-swap on the version that was read or written last. Another version with the same
//! owner and epoch means that an answer was lost, that a write of this worker was dropped half way, or that another
//! worker asked for the shard: the change is made again on top of it. Another owner or epoch is final.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Lease, LeaseStore, Progress, Swap};
use hydrant_core::shard::ShardId;
use hydrant_core::subscription::Ledger;
use tokio::sync::Notify;

use super::settings::{LeaseTimes, limited};

/// The owner that an error names when this worker could not renew the lease in time.
pub(crate) const SILENT: &str = "another worker, because this one could not renew it in time";

/// The state of a lease that this worker took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    /// This worker holds it.
    Held,
    /// This worker gave it back.
    Released,
    /// Another worker has it; the text names the owner.
    Lost(String),
}

/// A lease of this worker, from the time it is taken until it is lost or given back.
#[derive(Debug)]
pub(crate) struct HeldLease {
    app: String,
    me: String,
    shard: ShardId,
    pub(super) epoch: u64,
    generation: u64,
    store: Arc<dyn LeaseStore>,
    times: LeaseTimes,
    nudge: Arc<Notify>,
    row: tokio::sync::Mutex<Lease>,
    status: Mutex<LeaseStatus>,
}

#[derive(Debug)]
struct LeaseStatus {
    state: LeaseState,
    renewed_at: Instant,
}

impl HeldLease {
    /// Creates the lease from the `row` that `me` wrote at the time `taken`.
    pub(crate) fn new(
        app: &str,
        me: &str,
        row: Lease,
        taken: Instant,
        store: Arc<dyn LeaseStore>,
        times: LeaseTimes,
        nudge: Arc<Notify>,
    ) -> Self {
        HeldLease {
            app: app.to_owned(),
            me: me.to_owned(),
            shard: row.shard.clone(),
            epoch: row.epoch,
            generation: row.generation,
            store,
            times,
            nudge,
            row: tokio::sync::Mutex::new(row),
            status: Mutex::new(LeaseStatus {
                state: LeaseState::Held,
                renewed_at: taken,
            }),
        }
    }

    fn status(&self) -> std::sync::MutexGuard<'_, LeaseStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state as far as this worker knows it.
    pub(crate) fn state(&self) -> LeaseState {
        self.status().state.clone()
    }

    /// Returns when the last successful write began. Other workers count the lease time from then or later.
    pub(crate) fn renewed_at(&self) -> Instant {
        self.status().renewed_at
    }

    /// Marks the lease as lost to `owner`, after which nothing more is written.
    pub(crate) fn lose(&self, owner: &str) {
        let mut status = self.status();
        if status.state == LeaseState::Held {
            status.state = LeaseState::Lost(owner.to_owned());
        }
    }

    /// Whether the lease was renewed within the lease time, so that no other worker can have taken it yet. A lease
    /// that was not is given up, because the process may have been frozen and be the last one to notice.
    fn is_fresh(&self) -> bool {
        let mut status = self.status();
        if status.state != LeaseState::Held {
            return false;
        }
        if clock::now().duration_since(status.renewed_at) < self.times.lease_time {
            return true;
        }
        status.state = LeaseState::Lost(SILENT.to_owned());
        drop(status);
        self.nudge.notify_one();
        false
    }

    fn fenced(&self, owner: &str) -> Error {
        Error::Fenced {
            app: self.app.clone(),
            shard: self.shard.clone(),
            owner: owner.to_owned(),
        }
    }

    fn check(&self) -> Result<()> {
        match self.state() {
            LeaseState::Held => Ok(()),
            LeaseState::Released => Err(self.fenced("no worker")),
            LeaseState::Lost(owner) => Err(self.fenced(&owner)),
        }
    }

    /// Changes the row, which also renews the lease. A write without an answer is dropped, since others wait for the
    /// row. Cancel-safe: the next update finds a change that was dropped half way.
    pub(crate) async fn update(&self, edit: impl Fn(&mut Lease) + Send + Sync) -> Result<Lease> {
        let mut row = self.row.lock().await;
        loop {
            self.check()?;
            let began = clock::now();
            let mut next = row.clone();
            next.counter += 1;
            edit(&mut next);
            debug_assert_eq!(next.epoch, self.epoch, "an update keeps the epoch");
            let swap = self.store.swap(Some(&row), &next);
            match limited("changing a row", self.times.patience(), swap).await? {
                Swap::Swapped => {
                    let mut status = self.status();
                    status.renewed_at = began;
                    if next.owner.is_none() && status.state == LeaseState::Held {
                        status.state = LeaseState::Released;
                    }
                    *row = next.clone();
                    return Ok(next);
                }
                Swap::Conflict(Some(other))
                    if other.owner.as_ref() == Some(&self.me) && other.epoch == row.epoch =>
                {
                    *row = other;
                }
                Swap::Conflict(other) => {
                    let owner = other
                        .and_then(|other| other.owner)
                        .unwrap_or_else(|| "no worker".to_owned());
                    self.lose(&owner);
                    self.nudge.notify_one();
                    return Err(self.fenced(&owner));
                }
            }
        }
    }

    /// Updates the row for the coordinator, which waits for the store no longer than that; its next round makes up for an
    /// update that failed.
    pub(super) async fn try_update(&self, edit: impl Fn(&mut Lease) + Send + Sync) {
        match limited("changing a row", self.times.patience(), self.update(edit)).await {
            Ok(_) | Err(Error::Fenced { .. }) => {}
            Err(error) => tracing::warn!("cannot update a lease row, retrying: {}", error.report()),
        }
    }
}

/// The ledger of a claim: the progress in the row of a held lease.
#[derive(Debug)]
pub(crate) struct LeaseLedger(pub(crate) Arc<HeldLease>);

#[async_trait]
impl Ledger for LeaseLedger {
    /// Renews the lease at the same time, so that an answer proves that the claim holds.
    async fn read(&self) -> Result<Option<Progress>> {
        Ok(self.0.update(|_| {}).await?.progress)
    }

    async fn write(&self, progress: &Progress) -> Result<()> {
        let ended = progress.to == hydrant_core::Position::End;
        self.0
            .update(|row| row.progress = Some(progress.clone()))
            .await?;
        if ended {
            self.0.nudge.notify_one();
        }
        Ok(())
    }

    /// Leaves the progress in the row. Does nothing when the lease is already gone.
    async fn release(&self) -> Result<()> {
        let freed = self.0.update(|row| row.owner = None).await;
        self.0.nudge.notify_one();
        match freed {
            Ok(_) | Err(Error::Fenced { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn is_held(&self) -> bool {
        self.0.is_fresh()
    }

    fn generation(&self) -> u64 {
        self.0.generation
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hydrant_core::lease::Pace;

    use super::*;
    use hydrant_testing::memory::MemoryLeases;

    async fn held(store: &MemoryLeases) -> HeldLease {
        let mut row = Lease::new("a".into());
        assert_eq!(store.swap(None, &row).await.unwrap(), Swap::Swapped);
        let free = row.clone();
        (row.owner, row.epoch, row.counter) = (Some("me".to_owned()), 1, 1);
        assert_eq!(store.swap(Some(&free), &row).await.unwrap(), Swap::Swapped);
        let store = Arc::new(store.clone());
        let times = LeaseTimes::at(Pace::LOCAL, Some(LEASE_TIME), LEASE_TIME);
        HeldLease::new("app", "me", row, clock::now(), store, times, Arc::default())
    }

    const LEASE_TIME: Duration = Duration::from_secs(10);

    async fn change(store: &MemoryLeases, edit: impl Fn(&mut Lease)) {
        let seen = store.row("a").unwrap();
        let mut next = seen.clone();
        next.counter += 1;
        edit(&mut next);
        assert_eq!(store.swap(Some(&seen), &next).await.unwrap(), Swap::Swapped);
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_keeps_the_request_of_another_worker() {
        let store = MemoryLeases::new();
        let held = held(&store).await;
        change(&store, |row| row.wanted = Some("other".to_owned())).await;
        let row = held.update(|row| row.generation = 9).await.unwrap();
        assert_eq!((row.wanted.as_deref(), row.generation), (Some("other"), 9));
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_finds_the_one_that_was_dropped_half_way() {
        let store = MemoryLeases::new();
        let held = held(&store).await;
        store.change_faults(|faults| faults.write_time = Duration::from_millis(1000));
        let cut = tokio::time::timeout(std::time::Duration::from_millis(1), held.update(|_| {}));
        assert!(cut.await.is_err());
        assert_eq!(store.row("a").unwrap().counter, 2);
        assert_eq!(held.update(|_| {}).await.unwrap().counter, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_counts_as_lost_when_another_worker_may_have_it() {
        let store = MemoryLeases::new();
        let held = Arc::new(held(&store).await);
        let ledger = LeaseLedger(Arc::clone(&held));
        clock::sleep(LEASE_TIME - Duration::from_millis(1)).await;
        assert!(ledger.is_held());
        held.update(|_| {}).await.unwrap();
        clock::sleep(LEASE_TIME - Duration::from_millis(1)).await;
        assert!(ledger.is_held());
        clock::sleep(Duration::from_millis(1)).await;
        assert!(!ledger.is_held());
        let late = ledger.write(&Progress::default()).await;
        assert!(matches!(late, Err(Error::Fenced { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn another_owner_or_a_later_epoch_is_final() {
        let takes: [fn(&mut Lease); 3] = [
            |row| (row.owner, row.epoch) = (Some("other".to_owned()), 2),
            // The same worker gave the lease up and took it again.
            |row| row.epoch = 2,
            |row| row.owner = None,
        ];
        for take in takes {
            let store = MemoryLeases::new();
            let held = Arc::new(held(&store).await);
            change(&store, take).await;
            let before = store.row("a");
            assert!(matches!(
                held.update(|_| {}).await,
                Err(Error::Fenced { .. })
            ));
            assert!(matches!(held.state(), LeaseState::Lost(_)));
            LeaseLedger(held).release().await.unwrap();
            assert_eq!(store.row("a"), before);
        }
    }
}
