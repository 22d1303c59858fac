//! Copies of a stream: to standard output, to a file, to another stream.
//!
//! A [`RecordFilter`] says which records go on ([`Filter`]) and what a record becomes that cannot ([`OnPoison`]); a [`CopyFormat`]
//! says how records look outside of a stream. The stages:
//!
//! - [`PrintStage`], standard output, a [`OutputDevice`] or a file: each record at least once; what was written after the
//!   last checkpoint before a death is written again.
//! - [`RelayStage`], another stream: each record exactly once where the output checks origins.
//!
//! A copy alters nothing: it is not the place for personal data to be stripped.

mod device;
mod file;
mod filter;
mod format;
mod print;
mod printer;
mod record_filter;
mod relay;
mod tally;

pub use device::OutputDevice;
pub(crate) use file::FileText;
pub use filter::{Filter, ParseFilterError};
pub use format::{CopyFormat, PoisonReason, ShardLabel};
pub use print::PrintStage;
pub use printer::{Printer, TextOutput};
pub use record_filter::{OnPoison, RecordFilter};
pub use relay::RelayStage;
pub use tally::{CopyCounts, CopyTally};

/// The name of the stage in dead letters.
const STAGE: &str = "consumer";

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
