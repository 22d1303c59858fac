//! Bounds the calls that each place may have under way.
//!
//! A call on a hanging disk, such as a network file system that is gone, keeps its thread indefinitely. So each place,
//! the directory of a stream or of a table, has room for a fixed number of calls, and calls of other places, such as
//! the renewal of leases, find threads. A waiter that gives up before it gets room has made no call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{self, Instant};

/// The most calls that a place has under way at once: enough to keep a disk busy, without wasting threads.
const CALLS: usize = 32;

/// The rooms of a process, by place.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: Mutex<BTreeMap<PathBuf, Weak<Room>>>,
}

/// The room of one place.
#[derive(Debug)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    under_way: Mutex<RoomCalls>,
}

#[derive(Debug, Default)]
struct RoomCalls {
    begun: u64,
    since: BTreeMap<u64, Instant>,
}

/// The room of one call, until the call ends.
#[derive(Debug)]
pub(super) struct Taken {
    room: Arc<Room>,
    number: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Rooms {
    /// The room of a place; all callers share it.
    pub(super) fn of(&self, place: &Path) -> Arc<Room> {
        let mut rooms = self.rooms();
        rooms.retain(|_, room| room.strong_count() > 0);
        if let Some(room) = rooms.get(place).and_then(Weak::upgrade) {
            return room;
        }
        let room = Arc::new(Room::default());
        rooms.insert(place.to_owned(), Arc::downgrade(&room));
        room
    }

    /// The places that have had a call under way for at least this time, and for how long.
    pub(super) fn hanging(&self, at_least: Duration) -> Vec<(PathBuf, Duration)> {
        let now = clock::now();
        let rooms = self.rooms();
        let hanging = rooms.iter().filter_map(|(place, room)| {
            let room = room.upgrade()?;
            let oldest = *room.under_way().since.first_key_value()?.1;
            let age = now.duration_since(oldest);
            (age >= at_least).then(|| (place.clone(), age))
        });
        hanging.collect()
    }

    fn rooms(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Weak<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Room {
    fn default() -> Self {
        Room {
            free: Arc::new(Semaphore::new(CALLS)),
            under_way: Mutex::default(),
        }
    }
}

impl Room {
    /// Waits for room. Cancel-safe.
    pub(super) async fn enter(self: Arc<Self>) -> Taken {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        self.taken(permit)
    }

    /// Takes room if it is free now.
    pub(super) fn try_enter(self: &Arc<Self>) -> Option<Taken> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Arc::clone(self).taken(Some(permit)))
    }

    fn taken(self: Arc<Self>, permit: Option<OwnedSemaphorePermit>) -> Taken {
        let mut under_way = self.under_way();
        let number = under_way.begun;
        under_way.begun += 1;
        under_way.since.insert(number, clock::now());
        debug_assert!(under_way.since.len() <= CALLS, "each call holds a permit");
        drop(under_way);
        Taken {
            room: self,
            number,
            _permit: permit,
        }
    }

    fn under_way(&self) -> MutexGuard<'_, RoomCalls> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.under_way().since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::process::Command;

    use super::*;
    use crate::disk::real::RealDisk;
    use crate::disk::{Disk, Open, SharedDisk, at_once};

    /// A call on a named pipe without a writer hangs like a call on a disk that is gone.
    fn pipe(dir: &Path) -> PathBuf {
        let path = dir.join("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        path
    }

    #[test]
    fn calls_that_hang_in_one_place_leave_threads_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = pipe(dir.path());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(CALLS + 1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let disk = RealDisk::new();
            let lake = dir.path().join("lake");
            let mut hung = tokio::task::JoinSet::new();
            for n in 0..CALLS * 3 {
                let (there, pipe) = (disk.apart(&lake).unwrap(), pipe.clone());
                let calls = SharedDisk::clone(&there);
                let open = async move { calls.open(&pipe, Open::Read).await.map(drop) };
                // As a call, and as work of several calls.
                hung.spawn(async move {
                    match n % 2 {
                        0 => open.await,
                        _ => at_once(&*there, open).await,
                    }
                });
            }
            let room = disk.rooms.of(&lake);
            while room.free.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            // Leases and logs are elsewhere, and so is another lake.
            for other in [
                disk.apart(&dir.path().join("raw")),
                Some(Arc::new(disk.clone())),
            ] {
                let other = other.unwrap();
                let path = dir.path().join("file");
                let opened = other.open(&path, Open::Create);
                let opened = tokio::time::timeout(Duration::from_secs(60), opened).await;
                let file = opened.expect("a call elsewhere is done").unwrap();
                file.sync().await.unwrap();
            }
            let hanging = disk.hanging(Duration::ZERO);
            assert_eq!(hanging.len(), 1, "{hanging:?}");
            assert_eq!(hanging[0].0, lake);
            // Waiters that are dropped before they get room make no call.
            hung.abort_all();
            while hung.join_next().await.is_some() {}
            let writer = OpenOptions::new().write(true).open(&pipe).unwrap();
            while room.free.available_permits() < CALLS {
                tokio::task::yield_now().await;
            }
            drop(writer);
            assert!(disk.hanging(Duration::ZERO).is_empty());
        });
    }
}
