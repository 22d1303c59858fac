//! The operating system's disk.
//!
//! Blocking calls run on tokio's blocking threads. [`RealDisk::rename_new`](Disk::rename_new) uses
//! `renameat2(RENAME_NOREPLACE)` where the kernel and the file system have it; elsewhere it links and unlinks, which
//! replaces nothing either. A call whose waiter was dropped continues; locks outlive the calls that they guard
//! (`calls.rs`). Calls in a row need no change of threads between them (`real/at_once.rs`).

mod at_once;
mod list;
mod locks;
mod rights;
mod rooms;

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use notify::Watcher;
use rustix::buffer::spare_capacity;
use tokio::sync::watch;

pub use self::rights::FileMode;

use self::at_once::AtOnce;
use self::locks::{Flock, Locks};
use self::rights::Rights;
use self::rooms::{Room, Rooms};
use super::calls::Calls;
use super::{Disk, DiskFile, Listed, Lock, LockKind, Open, SharedDisk, Stat, Watch};

/// The operating system's disk; clones share one watcher and one queue of waiters for each lock.
#[derive(Clone, Debug)]
pub struct RealDisk {
    locks: Arc<Locks>,
    watches: Arc<Watches>,
    rooms: Arc<Rooms>,
    means: Means,
}

/// What every call needs.
#[derive(Clone, Debug)]
struct Means {
    calls: Arc<Calls<Flock>>,
    room: Arc<Room>,
    rights: Rights,
}

impl RealDisk {
    /// Creates a disk whose files only their owner may use.
    pub fn new() -> Self {
        RealDisk::with_mode(FileMode::OWNER)
    }

    /// Creates a disk whose files have this mode.
    pub fn with_mode(mode: FileMode) -> Self {
        RealDisk {
            locks: Arc::default(),
            watches: Arc::default(),
            rooms: Arc::default(),
            means: Means {
                calls: Arc::default(),
                room: Arc::default(),
                rights: Rights::Given(mode),
            },
        }
    }

    /// The places ([`Disk::apart`]) in which a call has been under way for at least this time, and for how long.
    pub fn hanging(&self, at_least: Duration) -> Vec<(PathBuf, Duration)> {
        self.rooms.hanging(at_least)
    }
}

impl Default for RealDisk {
    fn default() -> Self {
        RealDisk::new()
    }
}

impl Means {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one door to blocking file calls"
    )]
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if at_once::is_here() {
            // The work has room.
            let (under_way, _awaited) = self.calls.begin();
            let answer = call();
            drop(under_way);
            return answer;
        }
        let taken = Arc::clone(&self.room).enter().await;
        let (under_way, _awaited) = self.calls.begin();
        let answer = tokio::task::spawn_blocking(move || {
            let _ends = (under_way, taken);
            call()
        });
        let panicked = |_| io::Error::other(crate::Error::panicked("a file call"));
        answer.await.map_err(panicked)?
    }
}

impl RealDisk {
    /// Makes a call for one path.
    async fn at<T: Send + 'static>(
        &self,
        path: &Path,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let path = path.to_owned();
        self.means.blocking(move || call(&path)).await
    }

    /// Makes a call for two paths.
    async fn between(
        &self,
        from: &Path,
        to: &Path,
        call: impl FnOnce(&Path, &Path) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let to = to.to_owned();
        self.at(from, move |from| call(from, &to)).await
    }
}

#[derive(Debug)]
struct RealFile {
    file: Arc<File>,
    means: Means,
}

impl RealFile {
    async fn on<T: Send + 'static>(
        &self,
        call: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = Arc::clone(&self.file);
        self.means.blocking(move || call(&file)).await
    }
}

#[async_trait]
impl DiskFile for RealFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let read = move |file: &File| {
            // Not zeroed first: that would cost as much as reading.
            let mut buffer = Vec::with_capacity(len);
            while buffer.len() < len {
                let at = offset + buffer.len() as u64;
                let read = || rustix::io::pread(file, spare_capacity(&mut buffer), at);
                if rustix::io::retry_on_intr(read)? == 0 {
                    break;
                }
            }
            buffer.truncate(len);
            Ok(Bytes::from(buffer))
        };
        self.on(read).await
    }

    async fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> io::Result<()> {
        let write = move |file: &File| {
            let mut at = offset;
            for part in parts {
                file.write_all_at(&part, at)?;
                at += part.len() as u64;
            }
            Ok(())
        };
        self.on(write).await
    }

    async fn sync(&self) -> io::Result<()> {
        self.on(File::sync_data).await
    }

    async fn len(&self) -> io::Result<u64> {
        self.on(|file| Ok(file.metadata()?.len())).await
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        self.on(move |file| file.set_len(len)).await
    }
}

#[async_trait]
impl Disk for RealDisk {
    async fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let means = self.means.clone();
        let open = move |path: &Path| {
            let file = Arc::new(means.rights.open(path, how)?);
            let file: Arc<dyn DiskFile> = Arc::new(RealFile { file, means });
            Ok(file)
        };
        self.at(path, open).await
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let rights = self.means.rights;
        let create = move |path: &Path| {
            let mut missing = Vec::new();
            let mut current = path;
            while current != Path::new("") && !current.is_dir() {
                missing.push(current);
                match current.parent() {
                    Some(parent) => current = parent,
                    None => break,
                }
            }
            rights.create_dir_all(path)?;
            for made in missing {
                let above = File::open(super::parent(made))?;
                above.sync_all().map_err(super::failed_sync)?;
            }
            Ok(())
        };
        self.at(path, create).await
    }

    async fn make_dirs(&self, path: &Path) -> io::Result<()> {
        let rights = self.means.rights;
        self.at(path, move |path: &Path| rights.create_dir_all(path))
            .await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.at(path, list::all).await
    }

    async fn first(&self, path: &Path, after: &str, most: usize) -> io::Result<Vec<Listed>> {
        let after = after.to_owned();
        let first = move |path: &Path| list::first(path, after, most, Path::symlink_metadata);
        self.at(path, first).await
    }

    async fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let stat = |path: &Path| match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Stat {
                is_dir: metadata.is_dir(),
                len: metadata.len(),
                identity: metadata.ino(),
                device: metadata.dev(),
                modified: modified(&metadata),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        self.at(path, stat).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.at(path, |path| std::fs::remove_file(path)).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.at(path, |path| std::fs::remove_dir(path)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.between(from, to, |from, to| std::fs::rename(from, to))
            .await
    }

    async fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.between(from, to, rename_noreplace).await
    }

    async fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.between(from, to, |from, to| std::fs::hard_link(from, to))
            .await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.at(path, |path| File::open(path)?.sync_all()).await
    }

    async fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Box<dyn Lock>> {
        self.locks.wait(&self.means, path, kind).await
    }

    async fn try_lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>> {
        self.locks.attempt(&self.means, path, kind).await
    }

    async fn watch(&self, path: &Path) -> io::Result<Box<dyn Watch>> {
        let watches = Arc::clone(&self.watches);
        let subscribe = move |path: &Path| {
            let path = path.canonicalize()?;
            let changes = Watches::subscribe(&watches, &path)?;
            let watch: Box<dyn Watch> = Box::new(RealWatch {
                changes: Some(changes),
                path,
                watches,
            });
            Ok(watch)
        };
        self.at(path, subscribe).await
    }

    fn at_once(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        Box::pin(AtOnce::new(work, Arc::clone(&self.means.room)))
    }

    fn by_umask(&self) -> Option<SharedDisk> {
        let mut disk = self.clone();
        disk.means.rights = Rights::Umask;
        Some(Arc::new(disk))
    }

    fn apart(&self, place: &Path) -> Option<SharedDisk> {
        let mut disk = self.clone();
        disk.means.room = self.rooms.of(place);
        Some(Arc::new(disk))
    }
}

fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime() * 1_000_000 + metadata.mtime_nsec() / 1_000
}

#[cfg(target_os = "linux")]
fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_and_unlink(from, to),
        answer => answer.map_err(io::Error::from),
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    link_and_unlink(from, to)
}

fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// The only watcher of the disk: the operating system has few of them (128 per user by Linux' default).
///
/// The watcher's thread locks `paths` to report an event, and a call of the watcher waits for that thread: so no call
/// is made while `paths` is locked. `watcher` is locked first, and stays locked while both change.
#[derive(Debug, Default)]
struct Watches {
    watcher: Mutex<Option<notify::RecommendedWatcher>>,
    paths: Mutex<HashMap<PathBuf, watch::Sender<u64>>>,
}

impl Watches {
    fn watcher(&self) -> MutexGuard<'_, Option<notify::RecommendedWatcher>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paths(&self) -> MutexGuard<'_, HashMap<PathBuf, watch::Sender<u64>>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribe(shared: &Arc<Watches>, path: &Path) -> io::Result<watch::Receiver<u64>> {
        let mut slot = shared.watcher();
        let known = shared.paths().get(path).map(watch::Sender::subscribe);
        if let Some(known) = known {
            return Ok(known);
        }
        let watcher = match &mut *slot {
            Some(watcher) => watcher,
            None => {
                let weak = Arc::downgrade(shared);
                let watcher = notify::recommended_watcher(move |event| {
                    if let Some(shared) = weak.upgrade() {
                        shared.notify(event);
                    }
                });
                slot.insert(watcher.map_err(io::Error::other)?)
            }
        };
        let (sender, receiver) = watch::channel(0);
        shared.paths().insert(path.to_owned(), sender);
        let watched = watcher.watch(path, notify::RecursiveMode::NonRecursive);
        if let Err(error) = watched {
            shared.paths().remove(path);
            return Err(io::Error::other(error));
        }
        Ok(receiver)
    }

    fn unsubscribe(&self, path: &Path) {
        let mut watcher = self.watcher();
        let mut paths = self.paths();
        if paths.get(path).is_some_and(|s| s.receiver_count() == 0) {
            paths.remove(path);
            drop(paths);
            if let Some(watcher) = watcher.as_mut() {
                // If the path no longer exists, its watch has ended.
                drop(watcher.unwatch(path));
            }
        }
    }

    fn notify(&self, event: notify::Result<notify::Event>) {
        let mut paths = self.paths();
        let event = match event {
            Ok(event) if event.kind.is_access() => return,
            Ok(event) => event,
            // The queue overflowed: anything may have changed.
            Err(_) => notify::Event::default(),
        };
        if event.paths.is_empty() || event.need_rescan() {
            paths.values().for_each(bump);
            return;
        }
        for path in &event.paths {
            let parent = path.parent().and_then(|parent| paths.get(parent));
            paths.get(path).into_iter().chain(parent).for_each(bump);
            if event.kind.is_remove() {
                // The watch ended with its file; a new file of this name needs a new watch.
                paths.remove(path);
            }
        }
    }
}

fn bump(sender: &watch::Sender<u64>) {
    sender.send_modify(|count| *count += 1);
}

#[derive(Debug)]
struct RealWatch {
    changes: Option<watch::Receiver<u64>>,
    path: PathBuf,
    watches: Arc<Watches>,
}

#[async_trait]
impl Watch for RealWatch {
    async fn changed(&mut self) {
        let ended = match &mut self.changes {
            Some(changes) => changes.changed().await.is_err(),
            None => true,
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for RealWatch {
    fn drop(&mut self) {
        self.changes = None;
        self.watches.unsubscribe(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{read_file, replace_file};

    #[tokio::test]
    async fn names_are_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let path = dir.path().join("slot");
        let other = dir.path().join("other");
        for (path, body) in [(&path, "a"), (&other, "b")] {
            replace_file(&disk, path, Bytes::from(body), "1")
                .await
                .unwrap();
        }
        for taken in [
            disk.link_new(&other, &path).await,
            disk.rename_new(&other, &path).await,
        ] {
            assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(read_file(&disk, &path).await.unwrap().unwrap(), "a");
        assert_eq!(disk.list(dir.path()).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn locks_exclude_and_end_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let path = dir.path().join("lock");
        let held = disk.lock(&path, LockKind::Exclusive).await.unwrap();
        assert!(
            disk.try_lock(&path, LockKind::Shared)
                .await
                .unwrap()
                .is_none()
        );
        drop(held);
        let shared = disk
            .try_lock(&path, LockKind::Shared)
            .await
            .unwrap()
            .unwrap();
        assert!(
            disk.try_lock(&path, LockKind::Shared)
                .await
                .unwrap()
                .is_some()
        );
        assert!(
            disk.try_lock(&path, LockKind::Exclusive)
                .await
                .unwrap()
                .is_none()
        );
        drop(shared);
    }

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "a call that holds the only thread"
    )]
    fn a_lock_outlives_the_call_that_it_guards_although_its_waiter_was_dropped() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (lock_path, path) = (dir.path().join("lock"), dir.path().join("f"));
        runtime.block_on(async {
            let disk = RealDisk::new();
            let file = disk.open(&path, Open::Create).await.unwrap();
            let held = disk.lock(&lock_path, LockKind::Exclusive).await.unwrap();
            let (release, released) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || released.recv());
            let mut write = file.write_at(0, vec![Bytes::from_static(b"late")]);
            assert!(futures::poll!(&mut write).is_pending());
            drop(write);
            drop(held);
            let theirs = File::open(&lock_path).unwrap();
            assert!(theirs.try_lock().is_err(), "the write is still to come");
            assert_eq!(std::fs::read(&path).unwrap(), b"");
            release.send(()).unwrap();
            busy.await.unwrap().unwrap();
            drop(disk.stat(&path).await);
            assert_eq!(std::fs::read(&path).unwrap(), b"late");
            theirs.try_lock().unwrap();
        });
    }

    #[tokio::test]
    async fn watches_come_and_go_during_many_events() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let many_events = async {
            for n in 0..200u32 {
                let path = dir.path().join(format!("file-{}", n % 7));
                let file = disk.open(&path, Open::Create).await.unwrap();
                file.write_at(0, vec![Bytes::from_static(b"x")])
                    .await
                    .unwrap();
                drop(disk.watch(&path).await.unwrap());
                let mut kept = disk.watch(dir.path()).await.unwrap();
                disk.remove(&path).await.unwrap();
                kept.changed().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), many_events)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_watch_reports_a_write() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let path = dir.path().join("control");
        let file = disk.open(&path, Open::Create).await.unwrap();
        let mut watch = disk.watch(&path).await.unwrap();
        file.write_at(0, vec![Bytes::from_static(b"x")])
            .await
            .unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(10), watch.changed())
            .await
            .unwrap();
    }
}
