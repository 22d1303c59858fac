//! The end of a run in good order, and its limit in time.

use std::time::Duration;

use hydrant_core::clock::{self, Instant};
use hydrant_core::error::Error;

/// A drain under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    until: Instant,
}

impl Drain {
    /// From now on, for `timeout`.
    pub(crate) fn new(timeout: Duration) -> Self {
        Drain {
            until: clock::now() + timeout,
        }
    }

    /// After this, tasks are cut off.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }
}

/// What a drain that took too long ends with.
pub(crate) fn timed_out(shards: usize) -> Error {
    Error::fatal(format!(
        "the drain took longer than --drain-timeout: {shards} shards were cut off; what they had not published is read \
         again at the next start"
    ))
}
