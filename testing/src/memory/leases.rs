//! Leases in memory, with faults as data.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use hydrant_core::clock;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{
    Generations, Lease, LeaseStore, Pace, Reprocess, Swap, WorkerRegistration,
};
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;

/// What is wrong with a lease store, or slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseFaults {
    /// Writes of rows fail.
    pub writes_fail: bool,
    /// A write is done at once, and answered this much later.
    pub write_time: Duration,
    /// Nobody notices that a worker died or that a row changed, as in a table far away.
    pub changes_unseen: bool,
}

#[derive(Debug, Default)]
struct State {
    faults: LeaseFaults,
    /// Where it is another one than that of a local store.
    pace: Option<Pace>,
    /// How often all rows were read.
    lists: u64,
    /// How often a row was written.
    writes: u64,
    rows: BTreeMap<ShardId, Lease>,
    /// The errors with which the next write of a row fails.
    write_errors: BTreeMap<ShardId, Error>,
    /// How often each worker is registered now; 0 once it has left.
    workers: BTreeMap<String, u32>,
    generations: Generations,
    version: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changes: Notify,
}

/// Leases in memory; each clone is the store as one worker sees it.
#[derive(Debug)]
pub struct MemoryLeases {
    shared: Arc<Shared>,
    seen: Mutex<u64>,
}

impl Clone for MemoryLeases {
    fn clone(&self) -> Self {
        MemoryLeases::over(Arc::clone(&self.shared))
    }
}

impl Default for MemoryLeases {
    fn default() -> Self {
        MemoryLeases::over(Arc::default())
    }
}

impl MemoryLeases {
    /// No rows, no workers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all workers look gone that are at work now.
    pub fn disown_workers(&self) {
        let mut state = self.shared.lock();
        state.workers.values_mut().for_each(|count| *count = 0);
        drop(state);
        self.shared.changed();
    }

    /// Changes what is wrong with the store.
    pub fn change_faults(&self, change: impl FnOnce(&mut LeaseFaults)) {
        change(&mut self.shared.lock().faults);
    }

    /// Makes the next write of a shard's row fail.
    pub fn fail_write(&self, shard: &str, error: Error) {
        self.shared.lock().write_errors.insert(shard.into(), error);
    }

    /// From now on the store has this pace.
    pub fn set_pace(&self, pace: Pace) {
        self.shared.lock().pace = Some(pace);
    }

    /// How often all rows were read, and how often a row was written.
    pub fn traffic(&self) -> (u64, u64) {
        let state = self.shared.lock();
        (state.lists, state.writes)
    }

    /// The row of a shard.
    pub fn row(&self, shard: &str) -> Option<Lease> {
        self.shared.lock().rows.get(&shard.into()).cloned()
    }

    /// All rows.
    pub fn rows(&self) -> Vec<Lease> {
        self.shared.lock().rows.values().cloned().collect()
    }

    /// Up to where a shard is read, by its row.
    pub fn to(&self, shard: &str) -> Position {
        let progress = self.row(shard).and_then(|row| row.progress);
        progress.map_or(Position::Begin, |progress| progress.to)
    }

    /// How many rows each owner has, ended ones aside.
    pub fn loads(&self) -> BTreeMap<String, usize> {
        let mut loads = BTreeMap::new();
        let rows = self.rows().into_iter().filter(|row| !row.has_ended());
        for owner in rows.filter_map(|row| row.owner) {
            *loads.entry(owner).or_default() += 1;
        }
        loads
    }

    /// Writes a row, as another program that shares the table does.
    pub fn put(&self, row: Lease) {
        self.shared.lock().rows.insert(row.shard.clone(), row);
    }

    /// Removes a row, as another program that shares the table does.
    pub fn take_away(&self, shard: &str) {
        self.shared.lock().rows.remove(&shard.into());
    }

    fn over(shared: Arc<Shared>) -> Self {
        let seen = Mutex::new(shared.lock().version);
        MemoryLeases { shared, seen }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.lock().version += 1;
        self.changes.notify_waiters();
    }
}

#[derive(Debug)]
struct Presence {
    shared: Arc<Shared>,
    worker: String,
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(count) = self.shared.lock().workers.get_mut(&self.worker) {
            *count = count.saturating_sub(1);
        }
        self.shared.changed();
    }
}

#[async_trait]
impl LeaseStore for MemoryLeases {
    async fn register(&self, worker: &str) -> Result<Box<dyn WorkerRegistration>> {
        *self
            .shared
            .lock()
            .workers
            .entry(worker.to_owned())
            .or_default() += 1;
        Ok(Box::new(Presence {
            shared: Arc::clone(&self.shared),
            worker: worker.to_owned(),
        }))
    }

    async fn list(&self) -> Result<Vec<Lease>> {
        self.shared.lock().lists += 1;
        Ok(self.rows())
    }

    async fn swap(&self, seen: Option<&Lease>, next: &Lease) -> Result<Swap> {
        if seen.is_some_and(|seen| seen.shard != next.shard) {
            return Err(Error::fatal("a swap is of one shard's row"));
        }
        let (answer, faults) = {
            let mut state = self.shared.lock();
            let faults = state.faults;
            if faults.writes_fail {
                return Err(Error::Unavailable {
                    message: "the store is away".to_owned(),
                    after: Duration::from_millis(10),
                });
            }
            if let Some(error) = state.write_errors.remove(&next.shard) {
                return Err(error);
            }
            let there = state.rows.get(&next.shard);
            let version = |lease: &Lease| (lease.epoch, lease.counter);
            let answer = if there.map(version) == seen.map(version) {
                state.rows.insert(next.shard.clone(), next.clone());
                state.writes += 1;
                Swap::Swapped
            } else {
                Swap::Conflict(there.cloned())
            };
            (answer, faults)
        };
        if answer == Swap::Swapped {
            self.shared.changed();
        }
        if !faults.write_time.is_zero() {
            // The write is done; its answer is lost when the caller goes away.
            clock::sleep(faults.write_time).await;
        }
        Ok(answer)
    }

    async fn remove(&self, seen: &Lease) -> Result<Swap> {
        let mut state = self.shared.lock();
        let there = state.rows.get(&seen.shard);
        let version = |lease: &Lease| (lease.epoch, lease.counter);
        if there.map(version) != Some(version(seen)) {
            return Ok(Swap::Conflict(there.cloned()));
        }
        state.rows.remove(&seen.shard);
        drop(state);
        self.shared.changed();
        Ok(Swap::Swapped)
    }

    fn pace(&self) -> Pace {
        self.shared.lock().pace.unwrap_or(Pace::LOCAL)
    }

    async fn generations(&self) -> Result<Generations> {
        Ok(self.shared.lock().generations.clone())
    }

    async fn reprocess(&self, what: &Reprocess) -> Result<Generations> {
        let mut state = self.shared.lock();
        if let Some((worker, _)) = state.workers.iter().find(|(_, count)| **count > 0) {
            return Err(Error::refused(format!("worker `{worker}` is at work")));
        }
        let next = state.generations.after(what);
        state.generations = next.ok_or_else(|| Error::fatal("no generation is left"))?;
        Ok(state.generations.clone())
    }

    async fn is_gone(&self, worker: &str) -> Result<bool> {
        let state = self.shared.lock();
        Ok(!state.faults.changes_unseen && state.workers.get(worker) == Some(&0))
    }

    async fn changed(&self) {
        loop {
            let changed = self.shared.changes.notified();
            if !self.shared.lock().faults.changes_unseen {
                let version = self.shared.lock().version;
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                if *seen != version {
                    *seen = version;
                    return;
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance_lease;

    #[tokio::test(start_paused = true)]
    async fn they_conform_also_when_answers_are_late() {
        for write_time in [Duration::ZERO, Duration::from_secs(1)] {
            conforms(write_time).await;
        }
    }

    async fn conforms(write_time: Duration) {
        conformance_lease::conforms(async || {
            let leases = MemoryLeases::new();
            leases.change_faults(|faults| faults.write_time = write_time);
            let other: Arc<dyn LeaseStore> = Arc::new(leases.clone());
            (Arc::new(leases) as Arc<dyn LeaseStore>, other)
        })
        .await;
    }
}
