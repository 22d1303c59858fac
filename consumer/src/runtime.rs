//! The runtime that carries every stage: claims, tasks, progress, the end.
//!
//! [`run`] drives a [`hydrant_core::stage::Stage`] over a [`hydrant_core::stream::Stream`]. Which shards come is the
//! subscription's word: a broker's, or the leases of `leases`, which know parents from children and share the load.
//! Each claim has one task that owns its reader, its half of the stage and its ledger.
//!
//! Promises: a record is pushed after everything before it in its shard was, and its shard after its parents' ends were
//! published; progress is in the ledger only when the output is durable; a claim that was lost writes nothing more;
//! memory is bounded by the budget, and no shard waits for bytes that only itself could free.

mod end_of_stream;
mod late_reader;
mod leases;
mod output_identity;
mod progress_board;
mod run_context;
mod run_spec;
mod supervisor;
mod task;
mod transaction;
mod wait;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use leases::LeaseSettings;
pub use progress_board::{ShardSummary, Summary};
pub use run_spec::{CHECKPOINT, IDLE, RunSpec};
pub use supervisor::run;
pub use wait::wait_for;
