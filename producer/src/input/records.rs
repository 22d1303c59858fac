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

pub(crate) mod alike;
mod block;
mod decode;
mod digest;
mod document;
pub(crate) mod reader;
mod shape;
mod split;
#[cfg(test)]
mod tests;
pub(super) mod text;

pub use block::{LineBlock, RecordRange, RefusedLine};
pub use digest::{Digest, PrefixDigest};
pub use reader::{AtEnd, InputPosition, LineReader, ReadOptions};
pub use split::RecordFormat;

/// The longest line that is accepted by default, in bytes without its line end: 16 MiB.
pub const LINE_BYTES_MAX_DEFAULT: usize = 16 << 20;
