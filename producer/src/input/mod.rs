//! Records out of byte sources: NDJSON, JSON arrays and JSON documents; plain, gzip or zstd; UTF-8, UTF-16 or UTF-32.
//!
//! ```text
//! source ─> decode (gzip, zstd) ─> text (UTF-8) ─> split (lines, documents) ─> blocks
//! ```
//! Promises: [`LineReader`] hands out every record once and in order, as ranges into shared blocks without an
//! allocation per record; it needs memory for one block, one longest record and the decompressor's window; records
//! before a damaged place are handed out before the error. A record keeps its bytes, except that one which spans
//! lines loses the white space between its tokens, since many outputs are lines.
//!
//! Refuses: looking into records, and other compressions and binary formats (by name, with the command that
//! converts). It waits for its source: call it on a thread for blocking work.

pub mod file;
pub mod glob;
pub mod stdin;

pub(crate) mod alike;
mod decode;
mod document;
pub(crate) mod reader;
mod shape;
mod split;
#[cfg(test)]
mod tests;
mod text;

use std::io;
use std::ops::Range;

use bytes::Bytes;

pub use reader::{AtEnd, LineReader, Place, Reading};
pub use split::Format;

/// The longest line that is accepted by default, in bytes without its line end: 16 MiB.
pub const LINE_BYTES_MAX_DEFAULT: usize = 16 << 20;

/// Why an input ends early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The input cannot be opened.
    #[error("cannot open `{name}`: {remedy}")]
    Open {
        /// The input's name.
        name: String,
        /// What to do about it.
        remedy: &'static str,
        /// The operating system's reason, where `remedy` does not say it.
        #[source]
        source: Option<io::Error>,
    },
    /// A pattern leads to what cannot be looked at, so that files of it may be missing.
    #[error("cannot look at `{name}`, to which the input `{input}` leads: {remedy}")]
    Search {
        /// What cannot be looked at.
        name: String,
        /// The input.
        input: String,
        /// What to do about it.
        remedy: &'static str,
        /// The operating system's reason, where `remedy` does not say it.
        #[source]
        source: Option<io::Error>,
    },
    /// The input begins like something that is neither text, gzip nor zstd.
    #[error("`{name}` looks like {format}, which is not read: {remedy}")]
    Format {
        /// The input's name.
        name: String,
        /// What it looks like.
        format: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Reading or decompressing failed; all records before were handed out.
    #[error("reading `{name}` failed in line {line}, the lines before it were taken")]
    Read {
        /// The input's name.
        name: String,
        /// The line that could not be read to its end, from 1.
        line: u64,
        /// What failed.
        #[source]
        source: io::Error,
    },
}

/// A record's place in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The record's bytes in [`LineBlock::bytes`], without the space around it.
    pub range: Range<usize>,
    /// The number of the line that it begins in, from 1.
    pub number: u64,
    /// Its index in the input, from 0; empty lines and refused records count.
    pub index: u64,
}

/// A record that was longer than allowed, or a document that is damaged, and that is not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedLine {
    /// The number of the line that it begins in, from 1.
    pub number: u64,
    /// Its index in the input, from 0.
    pub index: u64,
    /// Its length in bytes, without `\n` behind it.
    pub length: u64,
    /// Whether it is a document that is damaged.
    pub is_damaged: bool,
}

/// Some consecutive records, at least one of `lines` and `refused` being filled.
#[derive(Clone, Debug, Default)]
pub struct LineBlock {
    /// The shared bytes that `lines` points into.
    pub bytes: Bytes,
    /// The records, in order.
    pub lines: Vec<Line>,
    /// The records that were too long or damaged.
    pub refused: Vec<RefusedLine>,
    /// Which of `lines` hold line ends.
    spanning: Vec<usize>,
}

/// What a reader has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Records that were handed out.
    pub taken: u64,
    /// Lines without a record, skipped.
    pub empty: u64,
    /// Records that were too long or damaged, refused.
    pub refused: u64,
    /// Bytes after decompression, line ends included.
    pub bytes: u64,
}
