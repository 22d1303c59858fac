//! Copies of a stream: to standard output, to a file, to another stream.
//!
//! A [`RecordFilter`] decides which records are copied ([`Filter`]) and what happens to a record that cannot be
//! ([`OnPoison`]). A [`CopyFormat`] decides how records look outside of a stream. The stages:
//!
//! - [`PrintStage`], standard output, a device or a file: each record comes at least once. What was
//!   written after the last checkpoint before a death is written again.
//! - [`TransformStage`](crate::TransformStage), another stream: each record comes once where the output checks origins.
//!   It keeps its key and its route.
//!
//! A copy changes nothing in a record: it is not the place to strip personal data.

mod device;
mod file;
mod filter;
mod format;
mod print;
mod printer;
mod record_filter;
mod tally;

pub(crate) use device::DeviceText;
pub(crate) use file::FileText;
pub use filter::Filter;
pub use format::{CopyFormat, PoisonReason};
pub use print::PrintStage;
pub use printer::{Printer, TextOutput};
pub use record_filter::{OnPoison, RecordFilter};
pub use tally::{CopyCounts, CopyTally};

/// The name of the stage in dead letters.
pub(crate) const STAGE: &str = "consumer";

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
