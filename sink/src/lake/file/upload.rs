//! A file of a lake in a directory, before it is visible.
//!
//! Owns its bytes and their checksum. Promises that a sealed file and its name survive a power cut, and that nothing is
//! left of a file that could not be written. Refuses any change after a failed sync.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::disk::{Disk, DiskFile, Open};
use hydrant_core::lake::{Sealed, Upload};
use hydrant_core::{Context, Error, Result};
use tokio::sync::OwnedSemaphorePermit;

/// The syncs of this process.
///
/// Those who wait for a sync of the same directory share the next one, so that many files of one directory cost few.
/// After a sync has failed the process changes nothing in the lake, for any shard: a later sync may succeed although
/// bytes and names were dropped.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    failed: AtomicBool,
    directories: Mutex<HashMap<PathBuf, Arc<DirSync>>>,
}

/// The syncs of one directory while somebody waits for one.
#[derive(Debug, Default)]
struct DirSync {
    /// How many were begun, one after another.
    begun: AtomicU64,
    /// The number of the last one that succeeded.
    done: tokio::sync::Mutex<u64>,
}

impl Syncs {
    /// Records a failed sync and returns the error for it. No sync has failed where another program removed the directory:
    /// nothing is left that could be lost.
    pub(super) fn failed(&self, path: &Path, error: &io::Error) -> Error {
        if error.kind() == ErrorKind::NotFound {
            return Error::io("sync", path, ErrorKind::NotFound.into());
        }
        self.failed.store(true, Ordering::SeqCst);
        Error::fatal(format!(
            "cannot sync `{}`: {error}; what the disk holds is unknown, so this process stops: check the disk, then \
             start again",
            path.display(),
        ))
    }

    /// Makes the names in a directory durable that exist by now.
    ///
    /// # Errors
    /// Not found, if another program removed the directory; fatal when the sync fails. Cancel-safe.
    pub(super) async fn sync_dir(&self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        let syncs = Arc::clone(self.directories().entry(dir.to_owned()).or_default());
        // A sync that began before now may have passed the names over.
        let before = syncs.begun.load(Ordering::SeqCst);
        let synced = self.sync_after(&syncs, before, disk, dir).await;
        drop(syncs);
        let mut directories = self.directories();
        if directories
            .get(dir)
            .is_some_and(|syncs| Arc::strong_count(syncs) == 1)
        {
            directories.remove(dir);
        }
        synced
    }

    async fn sync_after(
        &self,
        syncs: &DirSync,
        before: u64,
        disk: &dyn Disk,
        dir: &Path,
    ) -> Result<()> {
        let mut done = syncs.done.lock().await;
        if *done > before {
            return Ok(());
        }
        self.check()?;
        let number = syncs.begun.fetch_add(1, Ordering::SeqCst) + 1;
        disk.sync_dir(dir).await.map_err(|e| self.failed(dir, &e))?;
        *done = number;
        Ok(())
    }

    fn directories(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<DirSync>>> {
        self.directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that no sync has failed.
    ///
    /// # Errors
    /// Fatal once a sync has failed.
    pub(super) fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(Error::fatal(
                "an earlier sync failed: this process writes nothing more into the lake; check the disk, then start again",
            ));
        }
        Ok(())
    }
}

/// Whether an operation failed because something was removed.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

#[derive(Debug)]
pub(super) struct FileUpload {
    context: Context,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    syncs: Arc<Syncs>,
    sealed: Sealed,
    _open: OwnedSemaphorePermit,
}

impl FileUpload {
    /// Creates the file in an existing directory.
    pub(super) async fn create(
        context: &Context,
        syncs: &Arc<Syncs>,
        open: OwnedSemaphorePermit,
        path: PathBuf,
        key: &str,
        upload: String,
    ) -> Result<Self> {
        let opened = context.disk.open(&path, Open::CreateNew).await;
        let file = opened.map_err(|e| Error::io("create", &path, e))?;
        let sealed = Sealed {
            key: key.to_owned(),
            upload,
            parts: Vec::new(),
            size: 0,
            crc: 0,
        };
        Ok(FileUpload {
            context: context.clone(),
            path,
            file,
            syncs: Arc::clone(syncs),
            sealed,
            _open: open,
        })
    }

    /// Removes the file, which only takes room on a disk that may be full, and returns the error.
    async fn give_up(&self, error: Error) -> Error {
        drop(self.context.disk.remove(&self.path).await);
        error
    }
}

#[async_trait]
impl Upload for FileUpload {
    fn id(&self) -> &str {
        &self.sealed.upload
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let (len, crc) = (
            bytes.len() as u64,
            crc32c::crc32c_append(self.sealed.crc, &bytes),
        );
        if let Err(error) = self.file.write_at(self.sealed.size, vec![bytes]).await {
            return Err(self.give_up(Error::io("write", &self.path, error)).await);
        }
        self.sealed.size += len;
        self.sealed.crc = crc;
        Ok(())
    }

    async fn seal(self: Box<Self>) -> Result<Sealed> {
        let dir = parent(&self.path);
        let file = async {
            let synced = self.file.sync().await;
            synced.map_err(|e| self.syncs.failed(&self.path, &e))
        };
        let synced = futures::try_join!(file, self.syncs.sync_dir(&*self.context.disk, dir));
        match synced {
            Ok(_) => Ok(self.sealed),
            Err(error) if is_gone(&error) => Err(Error::Unavailable {
                message: format!("another program removed `{}`", dir.display()),
                after: Duration::ZERO,
            }),
            Err(failed) => Err(self.give_up(failed).await),
        }
    }
}
