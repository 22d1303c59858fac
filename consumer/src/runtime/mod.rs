//! The runtime that carries every stage: claims, tasks, progress, the end.
//!
//! [`run`] drives a [`hydrant_core::stage::Stage`] over a [`hydrant_core::stream::Stream`]. Which shards come is the
//! subscription's word: a broker's, or the leases of [`leased`], which know parents from children and share the load.
//! Each claim has one task that owns its reader, its half of the stage and its ledger.
//!
//! Promises: a record is pushed after everything before it in its shard was, and its shard after its parents' ends were
//! published; progress is in the ledger only when the output is durable; a claim that was lost writes nothing more;
//! memory is bounded by the budget, and no shard waits for bytes that only itself could free.

mod balance;
mod begin;
mod drain;
mod end;
mod held;
mod keeper;
mod lag;
pub mod leased;
mod lineage;
mod prefetch;
mod publish;
mod renewals;
mod rows;
mod shard_task;
mod supervisor;
mod target;
mod transaction;
mod wait;
mod writing;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use lag::{ShardSummary, Summary};
pub use leased::LeaseSettings;
pub use supervisor::{CHECKPOINT, IDLE, RunSpec, run};
pub use wait::wait_for;
