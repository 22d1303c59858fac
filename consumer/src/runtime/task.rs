//! The task of one claim, from its grant to its end; see [`shard_task`].

mod attempt;
mod control;
mod place;
mod prefetch;
mod progress_writer;
mod publish;
mod shard_task;
mod silent_ledger;
mod start_position;
mod unconfirmed;

pub(crate) use control::{TaskOrder, TaskOutcome};
pub(crate) use shard_task::ShardTask;
