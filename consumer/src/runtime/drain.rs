//! The end of a run in good order, and its limit in time.

use std::time::Duration;

use hydrant_core::clock::{self, Instant};
use hydrant_core::error::Error;

/// A drain under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    until: Option<Instant>,
}

impl Drain {
    /// From now on, for `timeout` at most.
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Drain {
            until: timeout.map(|timeout| clock::now() + timeout),
        }
    }

    /// After this, tasks are cut off.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// What a drain that took too long ends with.
pub(crate) fn timed_out(shards: usize) -> Error {
    Error::fatal(format!(
        "the drain took too long: {shards} shards were cut off; what they had not published is read \
         again at the next start"
    ))
}
