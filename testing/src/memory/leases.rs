//! Leases in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Enlisted, Generations, Lease, LeaseStore, Pace, Reprocess, Swap};
use hydrant_core::shard::ShardId;

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<ShardId, Lease>,
    /// How often each worker is enlisted now; 0 once it has left.
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

impl Enlisted for Presence {}

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
    async fn enlist(&self, worker: &str) -> Result<Box<dyn Enlisted>> {
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
        Ok(self.shared.lock().rows.values().cloned().collect())
    }

    async fn swap(&self, seen: Option<&Lease>, next: &Lease) -> Result<Swap> {
        if seen.is_some_and(|seen| seen.shard != next.shard) {
            return Err(Error::fatal("a swap is of one shard's row"));
        }
        let mut state = self.shared.lock();
        let there = state.rows.get(&next.shard);
        let version = |lease: &Lease| (lease.epoch, lease.counter);
        if there.map(version) != seen.map(version) {
            return Ok(Swap::Beaten(there.cloned()));
        }
        state.rows.insert(next.shard.clone(), next.clone());
        drop(state);
        self.shared.changed();
        Ok(Swap::Swapped)
    }

    async fn remove(&self, seen: &Lease) -> Result<Swap> {
        let mut state = self.shared.lock();
        let there = state.rows.get(&seen.shard);
        let version = |lease: &Lease| (lease.epoch, lease.counter);
        if there.map(version) != Some(version(seen)) {
            return Ok(Swap::Beaten(there.cloned()));
        }
        state.rows.remove(&seen.shard);
        drop(state);
        self.shared.changed();
        Ok(Swap::Swapped)
    }

    fn pace(&self) -> Pace {
        Pace::LOCAL
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
        Ok(self.shared.lock().workers.get(worker) == Some(&0))
    }

    async fn changed(&self) {
        loop {
            let changed = self.shared.changes.notified();
            {
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

    #[tokio::test]
    async fn they_conform() {
        conformance_lease::conforms(async || {
            let leases = MemoryLeases::new();
            let other: Arc<dyn LeaseStore> = Arc::new(leases.clone());
            (Arc::new(leases) as Arc<dyn LeaseStore>, other)
        })
        .await;
    }
}
