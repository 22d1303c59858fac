//! The runtime that drives every stage: claims, tasks, progress, and the end of a run.
//!
//! [`run`] drives a [`hydrant_core::stage::Stage`] over a [`hydrant_core::stream::Stream`]. The subscription decides
//! which shards this worker reads: a broker's subscription, or the one of `leases`, which knows parents from children
//! and balances the load. Each claim has one task, which owns its reader, its half of the stage and its ledger.
//!
//! Promises: a record is pushed after everything before it in its shard, and a shard after the ends of its parents were
//! published. Progress is in the ledger only when the output is durable. After a claim is lost, its task writes nothing
//! more to the ledger. The budget bounds memory, and no shard waits for bytes that only that shard could free.

mod end_of_stream;
mod leases;
mod output_identity;
mod progress_board;
mod run_context;
mod run_spec;
mod supervisor;
mod task;
mod transaction;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use leases::LEASE_TIME_RANGE;
pub use progress_board::{ShardSummary, Summary};
pub use run_spec::{FinishOrder, IDLE, OnCorrupt, RunSpec};
pub use supervisor::run;
