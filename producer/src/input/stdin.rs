//! Standard input as an input.

use std::io::Stdin;

use super::LineReader;

/// The name of standard input in errors.
pub const NAME: &str = "standard input";

/// Reads lines of at most `line_bytes_max` bytes from standard input.
#[must_use]
pub fn open(line_bytes_max: usize) -> LineReader<Stdin> {
    LineReader::new(NAME, std::io::stdin(), line_bytes_max)
}
