//! Device telemetry in: simulator, files and standard input into a stream.
//!
//! [`simulate`] generates records, [`input`] reads lines, [`key`] finds their partition keys; all three
//! are synchronous and know nothing of streams.

pub mod input;
pub mod key;
pub mod simulate;
