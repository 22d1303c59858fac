//! Which workers live: each holds the lock of a file of its own.
//!
//! A process that asks tries the lock *shared*, so that two of them do not mistake each other for the worker.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hydrant_core::disk::{Lock, LockKind, remove_if_there};
use hydrant_core::error::OrCannot;
use hydrant_core::lease::WorkerRegistration;
use hydrant_core::{Error, Result, clock};

use super::rows;
use crate::local::stream_dir::StreamDir;

/// How often the locks of other workers are tried while a change is waited for: a freed lock sends no signal.
const DEATH_CHECK: Duration = Duration::from_millis(250);
/// A worker's own lock is tried this often before its name counts as taken: others may be trying it.
const REGISTER_TRIES: u32 = 100;
const REGISTER_PAUSE: Duration = Duration::from_millis(10);

/// The workers of an app.
#[derive(Debug)]
pub(crate) struct WorkerLocks {
    stream_dir: Arc<StreamDir>,
    /// Where rows and what dead workers left of them are.
    rows: PathBuf,
    dir: PathBuf,
    /// The name that this process was registered by.
    me: Arc<OnceLock<String>>,
}

impl WorkerLocks {
    /// Those of the app whose rows are in this directory.
    pub(crate) fn new(
        stream_dir: &Arc<StreamDir>,
        rows: PathBuf,
        me: Arc<OnceLock<String>>,
    ) -> Self {
        WorkerLocks {
            stream_dir: Arc::clone(stream_dir),
            dir: rows.join("workers"),
            rows,
            me,
        }
    }

    fn path(&self, worker: &str) -> PathBuf {
        self.dir.join(format!("{worker}.lock"))
    }

    async fn try_lock(&self, worker: &str, kind: LockKind) -> Result<Option<Box<dyn Lock>>> {
        let path = self.path(worker);
        let taken = self.stream_dir.ctx.disk.try_lock(&path, kind).await;
        taken.map_err(|e| self.stream_dir.failed("lock", &path, e))
    }

    /// Whether the kernel says that a worker is dead.
    pub(crate) async fn is_gone(&self, worker: &str) -> Result<bool> {
        let path = self.path(worker);
        let stat = self.stream_dir.ctx.disk.stat(&path).await;
        if stat.or_cannot("look at", &path)?.is_none() {
            return Ok(true);
        }
        Ok(self.try_lock(worker, LockKind::Shared).await?.is_some())
    }

    /// Keeps workers from registering; `None` when one does so now.
    pub(crate) async fn keep_out(&self) -> Result<Option<Box<dyn Lock>>> {
        let path = self.rows.join("lock");
        let disk = &self.stream_dir.ctx.disk;
        let taken = disk.try_lock(&path, LockKind::Exclusive).await;
        taken.map_err(|e| self.stream_dir.failed("lock", &path, e))
    }

    /// A worker that lives.
    pub(crate) async fn living(&self) -> Result<Option<String>> {
        let dead = self.dead().await?;
        let mut all = self.names().await?.into_iter();
        Ok(all.find(|worker| !dead.contains(worker)))
    }

    /// Announces a worker, after it has cleared away what dead ones left.
    pub(crate) async fn register(&self, worker: &str) -> Result<Box<dyn WorkerRegistration>> {
        let path = self.rows.join("lock");
        let entry = self.stream_dir.ctx.disk.lock(&path, LockKind::Shared).await;
        let _entry = entry.map_err(|e| self.stream_dir.failed("lock", &path, e))?;
        self.clear_away().await?;
        let path = self.path(worker);
        for _ in 0..REGISTER_TRIES {
            if let Some(lock) = self.try_lock(worker, LockKind::Exclusive).await? {
                let stat = self.stream_dir.ctx.disk.stat(&path).await;
                let stat = stat.or_cannot("look at", &path)?;
                // A file without its name is that of a worker that was just cleared away.
                if stat.is_some_and(|stat| stat.identity == lock.identity()) {
                    // A process has one worker; should there be more, what they leave goes by the first one's name.
                    drop(self.me.set(worker.to_owned()));
                    return Ok(Box::new(lock));
                }
            }
            clock::sleep(REGISTER_PAUSE).await;
        }
        Err(Error::refused(format!(
            "a worker named `{worker}` is running: give each worker a name of its own"
        )))
    }

    async fn names(&self) -> Result<Vec<String>> {
        let names = self.stream_dir.ctx.disk.list(&self.dir).await;
        let names = names.map_err(|e| self.stream_dir.failed("list", &self.dir, e))?;
        let workers = names
            .iter()
            .filter_map(|listed| listed.name.strip_suffix(".lock"));
        Ok(workers.map(str::to_owned).collect())
    }

    /// Removes the locks of dead workers, and the rows that they left on their way.
    async fn clear_away(&self) -> Result<()> {
        let disk = &*self.stream_dir.ctx.disk;
        let mut left = Vec::new();
        let names = disk.list(&self.rows).await;
        for listed in names.map_err(|e| self.stream_dir.failed("list", &self.rows, e))? {
            if let Some(worker) = rows::worker_of(&listed.name)
                && self.is_gone(worker).await?
            {
                left.push(self.rows.join(&listed.name));
            }
        }
        let mut held = Vec::new();
        for worker in self.names().await? {
            // Held until its name is gone, so that no worker takes it meanwhile.
            if let Some(lock) = self.try_lock(&worker, LockKind::Exclusive).await? {
                held.push(lock);
                left.push(self.path(&worker));
            }
        }
        for path in left {
            // Another worker may have cleared it away.
            remove_if_there(disk, &path)
                .await
                .or_cannot("remove", &path)?;
        }
        Ok(())
    }

    async fn dead(&self) -> Result<BTreeSet<String>> {
        let mut dead = BTreeSet::new();
        for worker in self.names().await? {
            if self.try_lock(&worker, LockKind::Shared).await?.is_some() {
                dead.insert(worker);
            }
        }
        Ok(dead)
    }

    /// Resolves when a worker is dead that lived or was unknown at the first look.
    pub(crate) async fn one_dies(&self) -> Result<()> {
        let before = self.dead().await?;
        loop {
            clock::sleep(DEATH_CHECK).await;
            if !self.dead().await?.is_subset(&before) {
                return Ok(());
            }
        }
    }
}
