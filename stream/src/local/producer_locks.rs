//! Origins that end with their process ([`WriterId::is_run`]), and whether they have ended.
//!
//! ```text
//! HOME/_runs/<WRITER>.lock   held from before the first append of a run until its process has closed the stream or died
//! ```
//!
//! What a dead process has not appended is never appended, so that the marks of its runs serve no purpose. The
//! kernel says whether it is dead: one that merely stands still keeps its locks, and what it sends again when it continues
//! is known. A run of which the file is missing has ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hydrant_core::disk::{Disk, Lock, LockKind, remove_if_there};
use hydrant_core::error::OrCannot;
use hydrant_core::origin::WriterId;
use hydrant_core::{Error, Result};

/// The runs of a stream.
#[derive(Debug)]
pub(super) struct ProducerLocks {
    dir: PathBuf,
    /// Those of this process.
    held: Mutex<BTreeMap<WriterId, Box<dyn Lock>>>,
    /// Held while one is added.
    adding: tokio::sync::Mutex<()>,
}

impl ProducerLocks {
    /// Those whose locks are in this directory.
    pub(super) fn new(dir: PathBuf) -> Self {
        ProducerLocks {
            dir,
            held: Mutex::new(BTreeMap::new()),
            adding: tokio::sync::Mutex::new(()),
        }
    }

    fn path(&self, run: WriterId) -> PathBuf {
        self.dir.join(format!("{run}.lock"))
    }

    fn is_mine(&self, run: WriterId) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.contains_key(&run)
    }

    /// Says that this process lives, before it appends under `run`.
    pub(super) async fn enter(&self, disk: &dyn Disk, run: WriterId) -> Result<()> {
        if self.is_mine(run) {
            return Ok(());
        }
        let _adding = self.adding.lock().await;
        if self.is_mine(run) {
            return Ok(());
        }
        let path = self.path(run);
        // Its name need not be durable: a power cut ends the runs that it names.
        let made = disk.create_dir_all(&self.dir).await;
        made.or_cannot("create", &self.dir)?;
        let lock = disk.try_lock(&path, LockKind::Exclusive).await;
        let lock = lock.or_cannot("lock", &path)?;
        let lock = lock.ok_or_else(|| {
            Error::fatal(format!(
                "another process appends as `{run}`, which is drawn for one run only"
            ))
        })?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(run, lock);
        Ok(())
    }

    /// Whether nothing can be appended under `run` any more; its file goes then.
    pub(super) async fn is_over(&self, disk: &dyn Disk, run: WriterId) -> Result<bool> {
        if self.is_mine(run) {
            return Ok(false);
        }
        let path = self.path(run);
        if disk
            .stat(&path)
            .await
            .or_cannot("look at", &path)?
            .is_none()
        {
            return Ok(true);
        }
        let lock = disk.try_lock(&path, LockKind::Exclusive).await;
        if lock.or_cannot("lock", &path)?.is_none() {
            return Ok(false);
        }
        // Another shard's appender may have removed it.
        remove_if_there(disk, &path)
            .await
            .or_cannot("remove", &path)?;
        Ok(true)
    }
}
