//! Lines of NDJSON out of byte sources: plain, gzip (also of several members) or zstd, told apart
//! by their first bytes.
//!
//! Promises: [`LineReader`] hands out every line once and in order, as ranges into shared blocks
//! without an allocation per line; it needs memory for one block, one longest line and the
//! decompressor's window (128 MiB at most); lines before a damaged place are handed out before the
//! error. A line end is `\n` or `\r\n`; the last line needs none; a UTF-8 byte order mark at the
//! start is skipped.
//!
//! Refuses: looking into lines, and other encodings and compressions (by name, with the command
//! that converts). It waits for its source: call it on a thread for blocking work.

pub mod file;
pub mod stdin;

mod decode;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use decode::Decoded;

/// The longest line that is accepted by default, in bytes without its line end: 16 MiB.
pub const LINE_BYTES_MAX_DEFAULT: usize = 16 << 20;

/// Size of the shared allocations that blocks are cut from.
const ALLOCATION_BYTES: usize = 1 << 20;

/// What one call of `read` is offered: a quarter of an allocation, since the offered part is zeroed
/// first.
const READ_BYTES: usize = 256 << 10;

/// Below this much free space a new allocation is made instead of reading into the rest.
const READ_BYTES_MIN: usize = 64 << 10;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

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
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// The input begins like something that is neither text, gzip nor zstd.
    #[error("`{name}` looks like {format}, not like NDJSON, gzip or zstd: {remedy}")]
    Format {
        /// The input's name.
        name: String,
        /// What it looks like.
        format: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Reading or decompressing failed; all lines before were handed out.
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

/// A line's place in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The line's bytes in [`LineBlock::bytes`], without the line end.
    pub range: Range<usize>,
    /// The line's number in the input, from 1; empty and refused lines count.
    pub number: u64,
}

/// A line that was longer than allowed and is not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedLine {
    /// The line's number in the input, from 1.
    pub number: u64,
    /// Its length in bytes, without `\n`.
    pub length: u64,
}

/// Some consecutive lines, at least one of `lines` and `refused` being filled.
#[derive(Clone, Debug, Default)]
pub struct LineBlock {
    /// The shared bytes that `lines` points into.
    pub bytes: Bytes,
    /// The lines, in order.
    pub lines: Vec<Line>,
    /// The lines that were too long.
    pub refused: Vec<RefusedLine>,
}

/// What a reader has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Lines that were handed out.
    pub taken: u64,
    /// Lines without a byte, skipped.
    pub empty: u64,
    /// Lines that were too long, refused.
    pub refused: u64,
    /// Bytes after decompression, line ends included.
    pub bytes: u64,
}

impl LineCounts {
    /// All lines whose end was seen.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.taken + self.empty + self.refused
    }
}

/// Splits a byte source into lines.
pub struct LineReader<R: Read> {
    name: String,
    source: Decoded<R>,
    line_bytes_max: usize,
    /// The unfinished line and, while reading, what follows it.
    buffer: BytesMut,
    /// Bytes of a too long line that were already thrown away; `None` outside such a line.
    discarded: Option<u64>,
    counts: LineCounts,
    ended: bool,
}

impl<R: Read> LineReader<R> {
    /// Reads lines of at most `line_bytes_max` bytes from `source`, called `name` in errors.
    #[must_use]
    pub fn new(name: impl Into<String>, source: R, line_bytes_max: usize) -> Self {
        Self {
            name: name.into(),
            source: Decoded::new(source),
            line_bytes_max,
            buffer: BytesMut::new(),
            discarded: None,
            counts: LineCounts::default(),
            ended: false,
        }
    }

    /// The input's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was seen so far.
    #[must_use]
    pub const fn counts(&self) -> LineCounts {
        self.counts
    }

    /// The next lines, `None` at the end. Returns as soon as one read brought a whole line, so that
    /// a slow pipe's lines do not wait for a full block.
    ///
    /// # Errors
    /// When the source cannot be read, decompressed or is of a format that is refused;
    /// after that the input has ended.
    pub fn next_block(&mut self) -> Result<Option<LineBlock>, InputError> {
        while !self.ended {
            let known = self.buffer.len();
            let read = self.read_more();
            let mut block = LineBlock::default();
            match read {
                Ok(0) => {
                    self.ended = true;
                    self.take_last_line(&mut block);
                }
                Ok(_) => self.take_lines(known, &mut block),
                Err(source) => {
                    self.ended = true;
                    return Err(self.failed(source));
                }
            }
            if !block.lines.is_empty() || !block.refused.is_empty() {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    fn failed(&self, failure: decode::Failure) -> InputError {
        let name = self.name.clone();
        match failure {
            decode::Failure::Format { format, remedy } => InputError::Format {
                name,
                format,
                remedy,
            },
            decode::Failure::Read(source) => InputError::Read {
                name,
                line: self.counts.lines() + 1,
                source,
            },
        }
    }

    /// Appends what one read brings; 0 at the end of the source.
    fn read_more(&mut self) -> Result<usize, decode::Failure> {
        let known = self.buffer.len();
        if self.buffer.capacity() - known < READ_BYTES_MIN {
            // Doubling keeps the copies of a long unfinished line linear in its length.
            self.buffer.reserve(ALLOCATION_BYTES.max(known));
        }
        let offered = READ_BYTES.min(self.buffer.capacity() - known);
        self.buffer.resize(known + offered, 0);
        let outcome = self.source.read(&mut self.buffer[known..]);
        self.buffer
            .truncate(known + *outcome.as_ref().unwrap_or(&0));
        if let Ok(read) = outcome {
            self.counts.bytes += read as u64;
        }
        outcome
    }

    /// Moves the finished lines into `block`; the first `known` bytes of the buffer hold no line
    /// end.
    fn take_lines(&mut self, known: usize, block: &mut LineBlock) {
        let mut start = 0;
        let arrived = self.buffer.split();
        for end in memchr::memchr_iter(b'\n', &arrived[known..]) {
            let end = known + end;
            self.take_line(&arrived, start..end, block);
            start = end + 1;
        }
        self.buffer = arrived;
        if start > 0 {
            block.bytes = self.buffer.split_to(start).freeze();
        }
        // One byte more than allowed may be a carriage return.
        let unfinished = self.buffer.len();
        if self.discarded.is_some() || unfinished > self.line_bytes_max.saturating_add(1) {
            *self.discarded.get_or_insert(0) += unfinished as u64;
            self.buffer.advance(unfinished);
        }
    }

    fn take_last_line(&mut self, block: &mut LineBlock) {
        let arrived = self.buffer.split();
        if !arrived.is_empty() || self.discarded.is_some() {
            self.take_line(&arrived, 0..arrived.len(), block);
        }
        block.bytes = arrived.freeze();
    }

    /// Takes, skips or refuses the line at `range`, whose end was seen.
    fn take_line(&mut self, bytes: &[u8], mut range: Range<usize>, block: &mut LineBlock) {
        let number = self.counts.lines() + 1;
        if let Some(discarded) = self.discarded.take() {
            self.counts.refused += 1;
            block.refused.push(RefusedLine {
                number,
                length: discarded + range.len() as u64,
            });
            return;
        }
        let whole = range.len() as u64;
        if bytes[range.clone()].ends_with(b"\r") {
            range.end -= 1;
        }
        if number == 1 && bytes[range.clone()].starts_with(BYTE_ORDER_MARK) {
            range.start += BYTE_ORDER_MARK.len();
        }
        if range.is_empty() {
            self.counts.empty += 1;
        } else if range.len() > self.line_bytes_max {
            self.counts.refused += 1;
            block.refused.push(RefusedLine {
                number,
                length: whole,
            });
        } else {
            self.counts.taken += 1;
            block.lines.push(Line { range, number });
        }
    }
}
