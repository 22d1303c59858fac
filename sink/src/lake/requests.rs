//! How many requests a process has under way at its lake.
//!
//! Promises a bound for any number of shards and files, and that no reveal waits for an upload: files that a record
//! names come before files that no record names yet. It does not account for memory: each interval has room for the files
//! that it encodes and uploads at a time.

use std::sync::Arc;

use hydrant_core::{Error, Result};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many files are uploaded at a time. Each is one request after another, so this is also the number of requests:
/// enough to hide the latency of an object store, and with [`REVEALS_MAX`] few enough for its limits.
pub(crate) const UPLOADS_MAX: usize = 48;

/// How many files are revealed at a time, beside the uploads.
pub(crate) const REVEALS_MAX: usize = 16;

/// The requests of one process at one lake; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) reveals: Arc<Semaphore>,
}

impl Default for Requests {
    fn default() -> Self {
        Requests {
            uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
            reveals: Arc::new(Semaphore::new(REVEALS_MAX)),
        }
    }
}

/// Waits for a permit; what holds one waits for no other. Cancel-safe.
pub(crate) async fn one_of(room: &Semaphore) -> Result<SemaphorePermit<'_>> {
    let one = room.acquire().await;
    one.map_err(|_| Error::fatal("the lake takes no more requests"))
}
