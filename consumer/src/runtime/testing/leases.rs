use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Enlisted, Generations, Lease, LeaseStore, Pace, Reprocess, Swap};
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;
use tokio::sync::Notify;

/// Leases in memory. `sees_deaths` says whether the store notices that a worker died, as a local one does.
#[derive(Debug, Default)]
pub(crate) struct ScriptedLeases {
    rows: Mutex<BTreeMap<ShardId, Lease>>,
    generations: Mutex<Generations>,
    alive: Arc<Mutex<BTreeSet<String>>>,
    changed: Arc<Notify>,
    sees_deaths: bool,
    /// Swaps fail while it is set.
    pub(crate) broken: AtomicBool,
    /// Each swap answers this much later, in milliseconds.
    pub(crate) slow_ms: AtomicU64,
    /// Where it is another one than that of a local store.
    pub(crate) pace: Mutex<Option<Pace>>,
    /// How often all rows were read.
    pub(crate) lists: AtomicU64,
    /// Successful swaps.
    pub(crate) writes: AtomicU64,
}

#[derive(Debug)]
struct ScriptedWorker {
    worker: String,
    alive: Arc<Mutex<BTreeSet<String>>>,
    changed: Arc<Notify>,
}

impl Enlisted for ScriptedWorker {}

impl Drop for ScriptedWorker {
    fn drop(&mut self) {
        self.alive.lock().unwrap().remove(&self.worker);
        self.changed.notify_waiters();
    }
}

impl ScriptedLeases {
    pub(crate) fn new(sees_deaths: bool) -> Arc<Self> {
        Arc::new(ScriptedLeases {
            sees_deaths,
            ..ScriptedLeases::default()
        })
    }

    pub(crate) fn row(&self, shard: &str) -> Option<Lease> {
        self.rows
            .lock()
            .unwrap()
            .get(&ShardId::from(shard))
            .cloned()
    }

    pub(crate) fn rows(&self) -> Vec<Lease> {
        self.rows.lock().unwrap().values().cloned().collect()
    }

    /// Writes a row, as another program that shares the table does.
    pub(crate) fn put(&self, row: Lease) {
        self.rows.lock().unwrap().insert(row.shard.clone(), row);
    }

    /// Removes a row, as another program that shares the table does.
    pub(crate) fn take_away(&self, shard: &str) {
        self.rows.lock().unwrap().remove(&ShardId::from(shard));
    }

    pub(crate) fn to(&self, shard: &str) -> Position {
        let progress = self.row(shard).and_then(|row| row.progress);
        progress.map_or(Position::Begin, |progress| progress.to)
    }

    /// How many rows each owner has, ended ones aside.
    pub(crate) fn loads(&self) -> BTreeMap<String, usize> {
        let mut loads = BTreeMap::new();
        for row in self.rows().into_iter().filter(|row| !row.has_ended()) {
            if let Some(owner) = row.owner {
                *loads.entry(owner).or_default() += 1;
            }
        }
        loads
    }
}

#[async_trait]
impl LeaseStore for ScriptedLeases {
    async fn enlist(&self, worker: &str) -> Result<Box<dyn Enlisted>> {
        self.alive.lock().unwrap().insert(worker.to_owned());
        Ok(Box::new(ScriptedWorker {
            worker: worker.to_owned(),
            alive: Arc::clone(&self.alive),
            changed: Arc::clone(&self.changed),
        }))
    }

    async fn list(&self) -> Result<Vec<Lease>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        Ok(self.rows())
    }

    async fn swap(&self, seen: Option<&Lease>, next: &Lease) -> Result<Swap> {
        let broken = || Error::Unavailable {
            message: "the store is away".to_owned(),
            after: Duration::from_millis(10),
        };
        if self.broken.load(Ordering::SeqCst) {
            return Err(broken());
        }
        let answer = {
            let mut rows = self.rows.lock().unwrap();
            let found = rows.get(&next.shard);
            let same = match (found, seen) {
                (None, None) => true,
                (Some(a), Some(b)) => (a.epoch, a.counter) == (b.epoch, b.counter),
                _ => false,
            };
            if same {
                rows.insert(next.shard.clone(), next.clone());
                self.writes.fetch_add(1, Ordering::SeqCst);
                Swap::Swapped
            } else {
                Swap::Beaten(found.cloned())
            }
        };
        if self.sees_deaths {
            self.changed.notify_waiters();
        }
        // The write is done; only its answer is late, and is lost when the caller goes away.
        let slow = self.slow_ms.load(Ordering::SeqCst);
        if slow > 0 {
            hydrant_core::clock::sleep(Duration::from_millis(slow)).await;
        }
        Ok(answer)
    }

    async fn remove(&self, seen: &Lease) -> Result<Swap> {
        let mut rows = self.rows.lock().unwrap();
        let found = rows.get(&seen.shard).cloned();
        if found.as_ref() != Some(seen) {
            return Ok(Swap::Beaten(found));
        }
        rows.remove(&seen.shard);
        Ok(Swap::Swapped)
    }

    fn pace(&self) -> Pace {
        self.pace.lock().unwrap().unwrap_or(Pace::LOCAL)
    }

    async fn generations(&self) -> Result<Generations> {
        Ok(self.generations.lock().unwrap().clone())
    }

    async fn reprocess(&self, what: &Reprocess) -> Result<Generations> {
        let mut generations = self.generations.lock().unwrap();
        *generations = generations.after(what).unwrap();
        Ok(generations.clone())
    }

    async fn is_gone(&self, worker: &str) -> Result<bool> {
        Ok(self.sees_deaths && !self.alive.lock().unwrap().contains(worker))
    }

    async fn changed(&self) {
        if self.sees_deaths {
            self.changed.notified().await;
        } else {
            std::future::pending::<()>().await;
        }
    }
}
