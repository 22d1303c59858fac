//! One shard on its way into the lake.
//!
//! Owns the open interval of each claimed shard (`buffer`), how it is sealed and becomes files (`interval`, `upload`),
//! and the rebuild of a file that vanished (`rebuild`).

pub(crate) mod buffer;
pub(crate) mod context;
pub(crate) mod culprits;
pub mod flush_rules;
pub(crate) mod interval;
mod latency;
pub(crate) mod pressure;
pub mod rebuild;
pub(crate) mod sink_shard;
pub mod totals;
pub(crate) mod upload;
