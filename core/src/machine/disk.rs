//! The injected disk: every file operation of Hydrant goes through a [`Disk`].
//!
//! The real one is [`real::RealDisk`]; `testing::disk` has one that loses unsynced writes, tears them, fails and fills
//! up. Every implementation promises, and the protocols rely on, the following:
//!
//! - Written bytes survive a power cut only after [`DiskFile::sync`], a new or renamed name only after
//!   [`Disk::sync_dir`] of its directory.
//! - [`Disk::link_new`] and [`Disk::rename_new`] never replace an existing name (`AlreadyExists`), atomically among all
//!   processes. [`Disk::rename`] replaces atomically.
//! - A [`Lock`] belongs to a process, not to a task: it ends when it is dropped, and at once when its process dies. It
//!   outlives the calls that began under it: a call whose waiter was dropped may take effect later, and until then the
//!   lock stays held.
//! - After a failed `sync`, the state of the bytes written since the last successful one is unknown.

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
    /// Reads a file that must exist.
    Read,
    /// Reads and writes a file that must exist.
    Write,
    /// Reads and writes a file, and creates it if it does not exist.
    Create,
    /// Creates, reads and writes a file that must not exist.
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

/// The metadata of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes, for a file.
    pub len: u64,
    /// Identifies the file itself within its file system: equal for two names of one file.
    pub identity: u64,
    /// Identifies the file system among those that are mounted; the next start of the machine may number them otherwise.
    pub device: u64,
    /// When it last changed, microseconds since 1970.
    pub modified: i64,
}

/// Whether a lock excludes all other holders or only exclusive ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// One holder.
    Exclusive,
    /// Many holders.
    Shared,
}

/// A held file lock; dropping it releases it.
pub trait Lock: Send + Sync + fmt::Debug {
    /// The locked file, as [`Stat::identity`]: its name may belong to another file by now.
    fn identity(&self) -> u64;
}

/// Reports changes to a path.
#[async_trait]
pub trait Watch: Send + fmt::Debug {
    /// Resolves when the watched file or directory may have changed since the last call. Changes between calls are not
    /// lost; several may be reported as one, and a spurious one may be reported. Cancel-safe.
    async fn changed(&mut self);
}

/// An open file.
#[allow(
    clippy::len_without_is_empty,
    reason = "a length costs a call: callers ask once"
)]
#[async_trait]
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Reads up to `len` bytes at `offset`; fewer only at the end of the file.
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;
    /// Writes all parts one after another at `offset`. On an error, any prefix may have been written.
    async fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> io::Result<()>;
    /// Makes the bytes written so far, and the length, survive a power cut.
    async fn sync(&self) -> io::Result<()>;
    /// The length in bytes.
    async fn len(&self) -> io::Result<u64>;
    /// Cuts or extends the file to `len` bytes.
    async fn truncate(&self, len: u64) -> io::Result<()>;
}

/// A disk, as one process sees it.
#[async_trait]
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    async fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a directory and its missing parents, and makes their names survive a power cut; succeeds if it exists.
    /// [`is_failed_sync`] recognises an error of the second part.
    async fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The same for a caller that syncs the directories above by itself: the names of the new ones are not durable.
    async fn make_dirs(&self, path: &Path) -> io::Result<()>;
    /// Lists the names in a directory, sorted.
    async fn list(&self, path: &Path) -> io::Result<Vec<Listed>>;
    /// Lists the first `most` names in a directory that sort after `after`, in order.
    async fn first(&self, path: &Path, after: &str, most: usize) -> io::Result<Vec<Listed>> {
        let mut listed = self.list(path).await?;
        listed.retain(|listed| *listed.name > *after);
        listed.truncate(most);
        Ok(listed)
    }
    /// The metadata of a path; `None` when it does not exist.
    async fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;
    /// Removes a file; `NotFound` when it does not exist.
    async fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    async fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, and replaces a file of the new name.
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file; `AlreadyExists` when the new name is taken.
    async fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; `AlreadyExists` when that is taken.
    async fn link_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory survive a power cut.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Waits for the lock of a file, which is created if it does not exist. The wait blocks no other call.
    async fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Box<dyn Lock>>;
    /// Takes the lock of a file if it is free now; the file is created if it does not exist.
    async fn try_lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>>;
    /// Watches a file or directory that exists.
    async fn watch(&self, path: &Path) -> io::Result<Box<dyn Watch>>;
    /// Runs work that calls this disk many times in a row, with few changes of threads between the calls. The work may
    /// wait for anything and should compute little. When the future is dropped, the work may continue up to its next
    /// wait.
    fn at_once(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        work
    }
    /// The same disk, with the modes of new files left to the umask of the process; `None` where the disk has no modes.
    fn by_umask(&self) -> Option<SharedDisk> {
        None
    }
    /// The same disk for files in `place`, such as the directory of a stream: calls that hang there leave threads for
    /// calls elsewhere. `None` where no call can block another.
    fn apart(&self, _place: &Path) -> Option<SharedDisk> {
        None
    }
}

/// A failed sync inside a larger call, such as [`Disk::create_dir_all`].
#[derive(Debug, thiserror::Error)]
#[error("a sync failed: {0}")]
struct FailedSync(io::Error);

/// Marks the error of a sync, which is worse than other errors: the bytes or names may be lost, and a second sync would
/// succeed without them.
pub fn failed_sync(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), FailedSync(error))
}

/// Whether a call failed because a sync in it failed.
#[must_use]
pub fn is_failed_sync(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|source| source.is::<FailedSync>())
}

/// A shared disk.
pub type SharedDisk = Arc<dyn Disk>;

/// Runs work as [`Disk::at_once`] does, and answers its result.
pub async fn at_once<T: Send + 'static>(
    disk: &dyn Disk,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let (answer, answered) = oneshot::channel();
    let answering = async move { drop(answer.send(work.await)) };
    disk.at_once(Box::pin(answering)).await;
    answered.await.expect("work that has ended has answered")
}

/// Makes the name of a directory durable, and the names above it as far as this process may open them: the process that
/// created them may have died before it synced them.
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

/// Removes a file that another process may have removed.
pub async fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
        drop(disk.remove(&temporary).await);
        return Err(error);
    }
    disk.sync_dir(parent(path)).await
}

/// Writes a file durably but for its name. What a failure left is removed: on a full disk it would take the space that the
/// next attempt needs.
pub async fn write_new(disk: &dyn Disk, path: &Path, body: Bytes) -> io::Result<()> {
    let file = disk.open(path, Open::Create).await?;
    let written = async {
        file.truncate(0).await?;
        file.write_at(0, vec![body]).await?;
        file.sync().await
    };
    let written = written.await;
    if written.is_err() {
        drop(disk.remove(path).await);
    }
    written
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
