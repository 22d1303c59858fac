//! File locks whose waiters occupy no thread.
//!
//! A thread that blocks in `flock` is lost to all other disk calls until the holder releases the lock, and enough such
//! threads would keep the holder itself from finishing. So a lock is only ever *tried*. A waiter tries again when a
//! holder in this process releases the lock, and otherwise after pauses that grow with its wait, since other processes
//! do not report a release. One waiter per path and process tries; the others queue behind it.

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

/// The shortest pause, which is the resolution of timers.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest pause: hundreds of waiters for a stopped process must not keep the machine busy.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// A lock is taken late by at most this fraction (1/4) of the wait.
const PAUSE_SHARE: u32 = 4;

/// The locks that this process holds or waits for.
#[derive(Debug, Default)]
pub(super) struct Locks {
    queues: Mutex<HashMap<PathBuf, CountedQueue>>,
}

/// A queue, and the number of its waiters.
#[derive(Debug, Default)]
struct CountedQueue {
    queue: Arc<WaitQueue>,
    waiters: usize,
}

/// The waiters of this process for one path.
#[derive(Debug, Default)]
struct WaitQueue {
    turn: tokio::sync::Mutex<()>,
    freed: Notify,
}

/// A place in a queue; the last waiter removes the queue.
struct QueuePlace<'a> {
    locks: &'a Locks,
    path: &'a Path,
    queue: Arc<WaitQueue>,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        let mut queues = self.locks.queues();
        if let Some(counted) = queues.get_mut(self.path) {
            debug_assert!(counted.waiters > 0, "each place in a queue is counted");
            counted.waiters -= 1;
            if counted.waiters == 0 {
                queues.remove(self.path);
            }
        }
    }
}

impl Locks {
    fn queues(&self) -> MutexGuard<'_, HashMap<PathBuf, CountedQueue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter<'a>(&'a self, path: &'a Path) -> QueuePlace<'a> {
        let mut queues = self.queues();
        let counted = queues.entry(path.to_owned()).or_default();
        counted.waiters += 1;
        let queue = Arc::clone(&counted.queue);
        QueuePlace {
            locks: self,
            path,
            queue,
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
        let _turn = waiting.queue.turn.lock().await;
        let began = clock::now();
        loop {
            // Made before the try, so that a release after it is not missed.
            let freed = waiting.queue.freed.notified();
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

/// Holds a lock until it is dropped.
#[derive(Debug)]
pub(super) struct Flock {
    /// The open file holds the lock.
    file: Option<File>,
    path: PathBuf,
    locks: Arc<Locks>,
}

impl Drop for Flock {
    fn drop(&mut self) {
        drop(self.file.take());
        if let Some(counted) = self.locks.queues().get(&self.path) {
            counted.queue.freed.notify_waiters();
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
            // Once across two disks, as two processes see it, and once within one.
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
                // Each waiter is queued or has tried.
                while disk.locks.queues().is_empty() || other.locks.queues().is_empty() {
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
                assert!(disk.locks.queues().is_empty() && other.locks.queues().is_empty());
            }
        });
    }

    #[test]
    fn the_last_of_two_waiters_that_leave_at_once_removes_the_queue() {
        let locks = Locks::default();
        let path = Path::new("lock");
        let (first, second) = (locks.enter(path), locks.enter(path));
        // Both are about to leave, and neither has released the queue yet.
        let queues = [Arc::clone(&first.queue), Arc::clone(&second.queue)];
        drop(first);
        assert!(Arc::ptr_eq(&locks.enter(path).queue, &queues[0]));
        drop(second);
        assert!(locks.queues().is_empty());
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
            assert!(disk.locks.queues().is_empty());
        });
    }
}
