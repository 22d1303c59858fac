//! The disk, injected: every file operation of Hydrant goes through a [`Disk`].
//!
//! The real one is [`real::RealDisk`]; `testing::disk` has one that loses unsynced writes, tears them, fails and fills
//! up. What the protocols rely on, and what every implementation promises:
//!
//! - Written bytes survive a power cut only after [`DiskFile::sync`], a new or renamed name only after
//!   [`Disk::sync_dir`] of its directory.
//! - [`Disk::link_new`] and [`Disk::rename_new`] never replace an existing name (`AlreadyExists`), atomically among all
//!   processes. [`Disk::rename`] replaces atomically.
//! - A [`Lock`] is held by a process, not a task: it ends when dropped or when its process dies, at once. It outlives
//!   the calls that were begun under it: one whose waiter was dropped may have its effect later, and until then the lock
//!   stays taken.
//! - After a failed `sync` nothing is known about the bytes written since the last good one.

pub mod calls;
pub mod real;
mod special;

pub use special::is_special;

use std::fmt;
use std::io;
use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must exist; reading only.
    Read,
    /// It must exist; reading and writing.
    Write,
    /// It is made if absent; reading and writing.
    Create,
    /// It must not exist; reading and writing.
    CreateNew,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The last part of the path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes, for a file.
    pub len: u64,
    /// As [`Stat::identity`].
    pub identity: u64,
    /// As [`Stat::modified`].
    pub modified: i64,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes, for a file.
    pub len: u64,
    /// The file itself, whatever its names: equal for two names of one file.
    pub identity: u64,
    /// When it last changed, microseconds since 1970.
    pub modified: i64,
}

/// Whether a lock excludes everybody or only exclusive holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// One holder.
    Exclusive,
    /// Many holders.
    Shared,
}

/// A held file lock; dropping it releases it.
pub trait Lock: Send + Sync + fmt::Debug {
    /// The file that is locked, as [`Stat::identity`]: its name may lead to another one by now.
    fn identity(&self) -> u64;
}

/// Tells of changes to a path.
#[async_trait]
pub trait Watch: Send + fmt::Debug {
    /// Resolves when the watched file or directory may have changed since the last call; changes between calls are
    /// not lost, several may be reported as one, and a change that did not happen may be reported. Cancel-safe.
    async fn changed(&mut self);
}

/// An open file.
#[allow(
    clippy::len_without_is_empty,
    reason = "a length that costs a call is asked once"
)]
#[async_trait]
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Up to `len` bytes at `offset`; fewer only at the end of the file.
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;
    /// Writes all parts one after another at `offset`. On an error any prefix may have been written.
    async fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> io::Result<()>;
    /// Makes the bytes written so far, and the length, survive a power cut.
    async fn sync(&self) -> io::Result<()>;
    /// The length in bytes.
    async fn len(&self) -> io::Result<u64>;
    /// Cuts to `len` bytes.
    async fn truncate(&self, len: u64) -> io::Result<()>;
}

/// A disk, as one process sees it.
#[async_trait]
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    async fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a directory and its missing parents and makes their names survive a power cut; no error if it exists. An
    /// error of that second part is recognised by [`is_failed_sync`].
    async fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    async fn list(&self, path: &Path) -> io::Result<Vec<Listed>>;
    /// The names in a directory that sort after `after`, in order: the first `most` of them, or all if they are fewer.
    async fn first(&self, path: &Path, after: &str, most: usize) -> io::Result<Vec<Listed>> {
        let mut listed = self.list(path).await?;
        listed.retain(|listed| *listed.name > *after);
        listed.truncate(most);
        Ok(listed)
    }
    /// What is known of a path; `None` when nothing is there.
    async fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;
    /// Removes a file; `NotFound` when it is gone.
    async fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    async fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, replacing what has the new name.
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file; `AlreadyExists` when the new name is taken.
    async fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; `AlreadyExists` when that is taken.
    async fn link_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory survive a power cut.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Waits for the lock of a file, which is made if absent. The wait keeps no other call from being done.
    async fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Box<dyn Lock>>;
    /// Takes the lock of a file if it is free now; the file is made if absent.
    async fn try_lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>>;
    /// Watches a file or directory that exists.
    async fn watch(&self, path: &Path) -> io::Result<Box<dyn Watch>>;
    /// Carries out work whose calls of this disk follow one another, with few changes of threads between them. It may wait
    /// for anything; what it computes should be little. When it is dropped it may go on up to where it waits.
    fn at_once(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        work
    }
    /// The same disk, which leaves it to the process' umask who may use what it makes; `None` where the disk has no rights.
    fn by_umask(&self) -> Option<SharedDisk> {
        None
    }
    /// The same disk for what lies in `place`, such as the directory of a stream: calls that hang there leave those
    /// elsewhere what they need. `None` where no call can hang another.
    fn apart(&self, _place: &Path) -> Option<SharedDisk> {
        None
    }
}

/// A sync that failed inside of a call that does more, such as [`Disk::create_dir_all`].
#[derive(Debug, thiserror::Error)]
#[error("a sync failed: {0}")]
struct FailedSync(io::Error);

/// Marks the error of a sync, which is worse than others: what it was to make durable may be gone, and a second sync
/// would not say so.
pub fn failed_sync(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), FailedSync(error))
}

/// Whether a call failed because of a sync in it.
#[must_use]
pub fn is_failed_sync(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|source| source.is::<FailedSync>())
}

/// A shared disk.
pub type SharedDisk = Arc<dyn Disk>;

/// As [`Disk::at_once`], with what the work answers.
pub async fn at_once<T: Send + 'static>(
    disk: &dyn Disk,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let (tell, told) = oneshot::channel();
    let telling = async move { drop(tell.send(work.await)) };
    disk.at_once(Box::pin(telling)).await;
    told.await.expect("work that has ended has answered")
}

/// Makes the name of a directory durable, and those above it as far as this process may open them: a process that made
/// them may have died before it synced them.
pub async fn sync_above(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let mut at = dir;
    loop {
        let above = parent(at);
        match disk.sync_dir(above).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), PermissionDenied | Unsupported | InvalidInput) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        match at.parent() {
            Some(next) if next != Path::new("") && next.parent().is_some() => at = next,
            _ => return Ok(()),
        }
    }
}

/// Reads a whole file; `None` when it does not exist.
pub async fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Option<Bytes>> {
    let file = match disk.open(path, Open::Read).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(file.len().await?).map_err(io::Error::other)?;
    file.read_at(0, len).await.map(Some)
}

/// Replaces a file atomically and durably: temporary file, sync, rename, sync of the directory.
///
/// `nonce` keeps temporary names of concurrent writers apart.
pub async fn replace_file(
    disk: &dyn Disk,
    path: &Path,
    body: Bytes,
    nonce: &str,
) -> io::Result<()> {
    let temporary = temporary_name(path, nonce);
    write_new(disk, &temporary, body).await?;
    if let Err(error) = disk.rename(&temporary, path).await {
        clear_away(disk, &temporary).await;
        return Err(error);
    }
    disk.sync_dir(parent(path)).await
}

/// Makes a file atomically and durably unless its name is taken: temporary file, sync, link, sync of the directory.
///
/// Answers whether this call made it. Also when it did not, the directory is synced: an observer must not act on a
/// name that a power cut could take back.
pub async fn create_file(
    disk: &dyn Disk,
    path: &Path,
    body: Bytes,
    nonce: &str,
) -> io::Result<bool> {
    let temporary = temporary_name(path, nonce);
    write_new(disk, &temporary, body).await?;
    let linked = disk.link_new(&temporary, path).await;
    let made = match linked {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => {
            // The link may have been made although its answer was lost.
            let (ours, there) = (disk.stat(&temporary).await?, disk.stat(path).await?);
            match (ours, there) {
                (Some(ours), Some(there)) if ours.identity == there.identity => true,
                _ => return Err(error),
            }
        }
    };
    disk.sync_dir(parent(path)).await?;
    disk.remove(&temporary).await?;
    Ok(made)
}

async fn write_new(disk: &dyn Disk, path: &Path, body: Bytes) -> io::Result<()> {
    let file = disk.open(path, Open::Create).await?;
    let written = async {
        file.truncate(0).await?;
        file.write_at(0, vec![body]).await?;
        file.sync().await
    };
    let written = written.await;
    if written.is_err() {
        clear_away(disk, path).await;
    }
    written
}

/// Removes what a failed write left, which on a full disk would take the space that the next attempt needs. Nothing
/// refers to it, so that it may also stay.
async fn clear_away(disk: &dyn Disk, temporary: &Path) {
    drop(disk.remove(temporary).await);
}

fn temporary_name(path: &Path, nonce: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{nonce}.tmp"))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
