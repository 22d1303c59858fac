//! One shard on its way into the lake.
//!
//! Owns the open interval of each claimed shard (`buffer`), how it is sealed (`sink_shard`), how it becomes files and
//! visible while the next one fills (`publishing`, `interval`, `upload`), and the rebuild of a file that vanished
//! (`rebuild`). Warns of small files (`small_files`), and of settings that the values contradict (`column_values`).

pub(crate) mod buffer;
pub(crate) mod column_values;
pub(crate) mod context;
pub(crate) mod culprits;
pub mod flush_rules;
pub(crate) mod interval;
mod latency;
pub(crate) mod pressure;
pub(crate) mod publishing;
pub mod rebuild;
pub(crate) mod sink_shard;
mod small_files;
pub mod totals;
pub(crate) mod upload;
