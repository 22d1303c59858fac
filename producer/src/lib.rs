//! Device telemetry in: simulator, files and standard input into a stream.

pub mod input;
pub mod key;
pub mod simulate;
