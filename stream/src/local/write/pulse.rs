//! Telling a holder of a shard's lock that is slow from one that stands still.
//!
//! A sync may take longer than waiters wait for a stopped process. So a slow holder shows that it is alive: it takes
//! the lock of another file, lets it go, and takes it again. Who waits tries that lock at each look, *shared*, so that
//! two who try do not take each other for the holder. Only a change says something: a stopped process keeps this lock
//! as well, or leaves it free. Locks lie in memory, so that the slow disk is not asked but for the file, once; and
//! calls for it have room of their own, since what is slow may fill that of the stream.
//!
//! Without a pulse a holder is taken for one that stands still, which costs a shard and loses nothing.

use std::path::Path;
use std::time::Duration;

use hydrant_core::clock;
use hydrant_core::disk::{LockKind, SharedDisk};
use tokio::task::AbortHandle;

use crate::local::stream_dir::StreamDir;

/// How long the lock is held, and left free: waiters look at least twice meanwhile.
const BEAT: Duration = Duration::from_millis(600);

/// Shows that the holder of a shard's lock lives, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pulse(AbortHandle);

impl Pulse {
    /// Of the holder of the lock in a shard's directory.
    pub(crate) fn of(stream_dir: &StreamDir, dir: &Path) -> Self {
        let (disk, path) = (SharedDisk::clone(&stream_dir.pulse_disk), dir.join("pulse"));
        let beats = async move {
            loop {
                clock::sleep(BEAT).await;
                let Ok(_lock) = disk.lock(&path, LockKind::Exclusive).await else {
                    return;
                };
                clock::sleep(BEAT).await;
            }
        };
        Pulse(tokio::spawn(beats).abort_handle())
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether a holder has the lock of its pulse just now; where that cannot be seen, none has.
pub(crate) async fn is_up(stream_dir: &StreamDir, dir: &Path) -> bool {
    let path = dir.join("pulse");
    let tried = stream_dir
        .pulse_disk
        .try_lock(&path, LockKind::Shared)
        .await;
    tried.is_ok_and(|lock| lock.is_none())
}
