//! What tests of every crate share: a disk that fails like disks do, a clock that jumps, and one conformance suite per
//! seam that runs unchanged on every implementation.
//!
//! Everything here is seeded: one seed gives one run, which [`trace::Trace`] proves by its hash. A simulation runs on
//! a single-threaded runtime with paused time (`#[tokio::test(start_paused = true)]`) and [`hydrant_core::Workers::Inline`].
//! The suites panic, because a test is what calls them.

pub mod clock;
pub mod conformance_disk;
pub mod conformance_lake;
pub mod conformance_lease;
pub mod conformance_stream;
pub mod disk;
pub mod layer;
pub mod memory;
#[cfg(test)]
mod mutants;
pub mod trace;

use hydrant_core::error::Result;

/// The value, or a panic that says what could not be done and why.
#[track_caller]
fn must<T>(result: Result<T>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("cannot {what}: {}", error.report()),
    }
}
