//! Appending to shards, and what keeps them in order: recovery, retention, the wait for a lock.

mod recovery;
mod stored_time;
mod turn;

pub(super) mod observe;
pub(super) mod origin_starts;
pub(super) mod pending_append;
pub(super) mod pulse;
pub(super) mod retention;
pub(super) mod shard_log;
pub(super) mod writer;
