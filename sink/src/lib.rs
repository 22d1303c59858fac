//! Records to Arrow to Parquet to a lake, exactly once.
//!
//! [`decode`] turns JSON records into columns and routes rows to partitions, [`schema`] owns the
//! types a table may have and how they may grow, [`partition`] owns event time and the layout's
//! directory names, [`encode`] turns the rows of one partition into a Parquet file and reads one
//! back. These four are synchronous and pure: no clock, no I/O, no randomness in their output.
//!
//! [`lake`] owns the objects of the lake and the protocol that makes an interval visible exactly once, [`stage`] the
//! way of a shard's batches into it.

mod buffer;
pub mod config;
mod culprits;
pub mod dead_letter;
pub mod decode;
pub mod encode;
mod error;
#[cfg(test)]
mod fault;
mod interval;
pub mod lake;
mod latency;
pub mod partition;
mod position_hash;
mod pressure;
pub mod published;
pub mod schema;
mod shard;
mod source;
pub mod spec;
pub mod stage;
pub mod verify;
pub mod wire;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use error::ObjectError;
pub use source::SourceRebuild;
pub use stage::{FlushRules, SinkStage};
