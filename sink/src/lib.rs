//! Records to Arrow to Parquet to a lake, exactly once.
//!
//! [`decode`] turns JSON records into columns and routes rows to partitions, [`schema`] owns the types a table may have
//! and how they may grow, [`table`] owns event time and the layout's directory names, [`encode`] turns the rows of one
//! partition into a Parquet file and reads one back. These four are synchronous and pure but for the registry of
//! schemas: no clock, no I/O, no randomness in their output.
//!
//! [`lake`] owns the objects of the lake and the protocol that makes an interval visible exactly once, [`shard`] the
//! way of a shard's batches into it, [`table_sink`] the stage that the runtime drives, [`verify`] the proof that a
//! table holds what its commit records say.

pub mod config;
pub mod decode;
pub mod encode;
pub mod inspect;
pub mod lake;
pub mod schema;
pub mod shard;
pub mod table;
pub mod table_sink;
pub mod verify;
pub mod wire;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use lake::ObjectError;
pub use shard::flush_rules::FlushRules;
pub use shard::rebuild::SourceRebuild;
pub use table_sink::TableSink;
