//! Sends device telemetry (simulated, from files, from standard input) into a stream.
//!
//! [`simulate`] generates records, [`input`] reads files and standard input, [`key`] finds partition keys.
//! [`batcher`] makes batches of what they bring, [`ledger`] remembers what is stored, and [`run()`] joins them to a stream.
//!
//! Promises: a record counts as stored only when the stream has it durably; records of a key keep their
//! order; with a name and a ledger each record is stored exactly once, whatever crashes when; memory is
//! bounded by the budget. Refuses to drop a record silently: what cannot be sent is counted by reason,
//! with its line.

pub mod batcher;
pub mod config;
pub mod input;
pub mod key;
pub mod ledger;
pub mod report;
pub mod simulate;
pub mod wire;

mod output;
mod run;

pub use config::Config;
pub use report::{Counters, RunReport};
pub use run::{run, run_into};
