//! File locks that are waited for without a thread.
//!
//! A thread that blocks in `flock` is lost to all other disk calls for as long as the holder likes, and enough of them
//! would keep the holder itself from finishing. So a lock is only ever *tried*. A waiter tries again when a holder in
//! this process lets go, and otherwise after pauses that grow with its wait, since no other process reports its
//! release. One waiter a path and process tries; the others stand in line behind it and take their turns in order.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Means;
use crate::clock;
use crate::disk::calls::Kept;
use crate::disk::{Lock, LockKind, Open};

/// The shortest pause: a timer is not finer.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest pause: hundreds of waiters for a process that stands still must not keep the machine busy.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// A lock is taken at most this part of the wait too late.
const PAUSE_SHARE: u32 = 4;

/// The locks that this process holds or waits for.
#[derive(Debug, Default)]
pub(super) struct Locks {
    lines: Mutex<HashMap<PathBuf, CountedLine>>,
}

/// A line, and how many stand in it.
#[derive(Debug, Default)]
struct CountedLine {
    line: Arc<WaitLine>,
    waiters: usize,
}

/// The waiters of this process for one path.
#[derive(Debug, Default)]
struct WaitLine {
    turn: tokio::sync::Mutex<()>,
    freed: Notify,
}

/// A place in a line; the line goes with the last one.
struct WaitLinePlace<'a> {
    locks: &'a Locks,
    path: &'a Path,
    line: Arc<WaitLine>,
}

impl Drop for WaitLinePlace<'_> {
    fn drop(&mut self) {
        let mut lines = self.locks.lines();
        if let Some(counted) = lines.get_mut(self.path) {
            counted.waiters -= 1;
            if counted.waiters == 0 {
                lines.remove(self.path);
            }
        }
    }
}

impl Locks {
    fn lines(&self) -> MutexGuard<'_, HashMap<PathBuf, CountedLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter<'a>(&'a self, path: &'a Path) -> WaitLinePlace<'a> {
        let mut lines = self.lines();
        let counted = lines.entry(path.to_owned()).or_default();
        counted.waiters += 1;
        let line = Arc::clone(&counted.line);
        WaitLinePlace {
            locks: self,
            path,
            line,
        }
    }

    /// Waits for a lock. Cancel-safe: a waiter that is dropped leaves nothing behind.
    pub(super) async fn wait(
        self: &Arc<Self>,
        means: &Means,
        path: &Path,
        kind: LockKind,
    ) -> io::Result<Box<dyn Lock>> {
        let waiting = self.enter(path);
        let _turn = waiting.line.turn.lock().await;
        let began = clock::now();
        loop {
            // Made before the try, so that a release after it is not missed.
            let freed = waiting.line.freed.notified();
            if let Some(lock) = self.attempt(means, path, kind).await? {
                return Ok(lock);
            }
            let pause = clock::now().duration_since(began) / PAUSE_SHARE;
            // Both arms only wait.
            tokio::select! {
                biased;
                () = freed => {}
                () = clock::sleep(pause.clamp(PAUSE_MIN, PAUSE_MAX)) => {}
            }
        }
    }

    /// Takes a lock if it is free now.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        means: &Means,
        path: &Path,
        kind: LockKind,
    ) -> io::Result<Option<Box<dyn Lock>>> {
        let (locks, path) = (Arc::clone(self), path.to_owned());
        let (keeper, rights) = (Arc::clone(&means.calls), means.rights);
        let attempt = move || {
            let file = rights.open(&path, Open::Create)?;
            let taken = match kind {
                LockKind::Exclusive => file.try_lock(),
                LockKind::Shared => file.try_lock_shared(),
            };
            match taken {
                Ok(()) => {
                    let identity = file.metadata()?.ino();
                    let file = Some(file);
                    let _kept = keeper.keep(Flock { file, path, locks });
                    let lock: Box<dyn Lock> = Box::new(RealLock { identity, _kept });
                    Ok(Some(lock))
                }
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        means.blocking(attempt).await
    }
}

/// A held lock.
#[derive(Debug)]
struct RealLock {
    identity: u64,
    _kept: Kept<Flock>,
}

impl Lock for RealLock {
    fn identity(&self) -> u64 {
        self.identity
    }
}

/// What holds a lock until it is dropped.
#[derive(Debug)]
pub(super) struct Flock {
    /// Held by being open.
    file: Option<File>,
    path: PathBuf,
    locks: Arc<Locks>,
}

impl Drop for Flock {
    fn drop(&mut self) {
        drop(self.file.take());
        if let Some(counted) = self.locks.lines().get(&self.path) {
            counted.line.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::disk::Disk;
    use crate::disk::real::RealDisk;

    use super::*;

    /// Many times as many waiters as there are threads for disk calls.
    const WAITERS: usize = 64;
    const PATIENCE: Duration = Duration::from_secs(60);

    fn with_two_blocking_threads<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.unwrap() })
    }

    #[test]
    fn locks_that_are_waited_for_leave_the_holder_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        with_two_blocking_threads(async {
            // As two processes see it, and as many in one.
            for other in [RealDisk::new(), RealDisk::new()] {
                let disk = RealDisk::new();
                let path = dir.path().join("lock");
                let held = disk.lock(&path, LockKind::Exclusive).await.unwrap();
                let mut waiters = tokio::task::JoinSet::new();
                for n in 0..WAITERS {
                    let disk = if n % 2 == 0 { &disk } else { &other }.clone();
                    let (lock, file) = (path.clone(), dir.path().join(format!("file-{n}")));
                    waiters.spawn(async move {
                        let _held = disk.lock(&lock, LockKind::Exclusive).await.unwrap();
                        disk.open(&file, Open::Create).await.unwrap();
                    });
                }
                // Each of them stands in line or has tried.
                while disk.locks.lines().is_empty() || other.locks.lines().is_empty() {
                    tokio::task::yield_now().await;
                }
                for _ in 0..20 {
                    let file = disk.open(&dir.path().join("log"), Open::Create).await;
                    let file = file.unwrap();
                    file.write_at(0, vec![Bytes::from_static(b"x")])
                        .await
                        .unwrap();
                    file.sync().await.unwrap();
                }
                drop(held);
                while let Some(done) = waiters.join_next().await {
                    done.unwrap();
                }
                assert!(disk.locks.lines().is_empty() && other.locks.lines().is_empty());
            }
        });
    }

    #[test]
    fn a_line_goes_with_the_last_of_those_who_leave_at_once() {
        let locks = Locks::default();
        let path = Path::new("lock");
        let (first, second) = (locks.enter(path), locks.enter(path));
        // Both are on their way out, and neither has let go of the line yet.
        let lines = [Arc::clone(&first.line), Arc::clone(&second.line)];
        drop(first);
        assert!(Arc::ptr_eq(&locks.enter(path).line, &lines[0]));
        drop(second);
        assert!(locks.lines().is_empty());
    }

    #[test]
    fn a_waiter_that_is_dropped_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        with_two_blocking_threads(async {
            let (disk, other) = (RealDisk::new(), RealDisk::new());
            let path = dir.path().join("lock");
            let held = disk.lock(&path, LockKind::Exclusive).await.unwrap();
            for disk in [&disk, &other] {
                let wait = disk.lock(&path, LockKind::Exclusive);
                let cut = tokio::time::timeout(Duration::from_millis(20), wait).await;
                assert!(cut.is_err());
            }
            drop(held);
            drop(other.lock(&path, LockKind::Exclusive).await.unwrap());
            assert!(disk.locks.lines().is_empty());
        });
    }
}
