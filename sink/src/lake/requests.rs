//! How many requests a process has under way at its lake.
//!
//! Owns their number. Promises that it is bounded, whatever number of shards publish whatever number of files. What the
//! files take in memory is not its matter: each interval holds a permit for all of its files.

use std::sync::Arc;

use hydrant_core::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many files are uploaded or revealed at a time. Each is one request after another, so this is also the number of
/// requests: enough to hide the latency of an object store, and few enough for its limits.
pub(crate) const REQUESTS_MAX: usize = 64;

/// The requests of one process at one lake; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    room: Arc<Semaphore>,
}

impl Default for Requests {
    fn default() -> Self {
        Requests {
            room: Arc::new(Semaphore::new(REQUESTS_MAX)),
        }
    }
}

impl Requests {
    /// Waits until one more may be under way. Who holds one waits for no other. Cancel-safe.
    pub(crate) async fn one(&self) -> Result<OwnedSemaphorePermit> {
        let one = Arc::clone(&self.room).acquire_owned().await;
        one.map_err(|_| Error::fatal("the lake takes no more requests"))
    }
}
