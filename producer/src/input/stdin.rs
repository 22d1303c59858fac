//! Opens standard input.

use std::io::Stdin;

use super::{LineReader, ReadOptions};

/// The name of standard input in errors.
pub const NAME: &str = "standard input";

/// Reads standard input.
#[must_use]
pub fn open(reading: ReadOptions) -> LineReader<Stdin> {
    LineReader::new(NAME, std::io::stdin(), reading)
}
