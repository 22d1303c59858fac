//! Copies of a stream: to standard output, to a file, to another stream.
//!
//! A [`Sieve`] says which records go on ([`Filter`]) and what a record becomes that cannot ([`OnPoison`]); a [`Format`]
//! says how records look outside of a stream. The stages:
//!
//! - [`PrintStage`], standard output or a [`Device`]: each record at least once; what was printed after the last
//!   checkpoint before a death is printed again.
//! - [`FileStage`], a file: each record exactly once, also across deaths, while one worker at a time writes the file.
//! - [`RelayStage`], another stream: each record exactly once where the output checks origins.
//!
//! A copy alters nothing: it is not the place for personal data to be stripped.

mod alone;
mod device;
mod file;
mod filter;
mod format;
mod print;
mod relay;
mod sieve;
mod tally;

pub use alone::Alone;
pub use device::Device;
pub use file::{FileOutput, FileStage};
pub use filter::{Filter, ParseFilterError};
pub use format::{Format, Place, Reason};
pub use print::{PrintStage, Printer};
pub use relay::RelayStage;
pub use sieve::{OnPoison, Sieve};
pub use tally::{Counts, Tally};

use std::time::Duration;

/// What was taken is published when it is this old.
const PUBLISH_AFTER: Duration = Duration::from_millis(200);
/// What was taken is published when it has this many bytes of text.
const PUBLISH_BYTES: usize = 1 << 20;
/// The name of the stage in dead letters.
const STAGE: &str = "consumer";

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
