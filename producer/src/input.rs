//! Inputs: the simulator, files and standard input, from bytes to chunks of records.
//!
//! ```text
//! simulator ───────────────────────────────────> fleet ─┐
//! files, standard input ─> records ─> indexer ─> lines ─┴─> chunk_source ─> batcher
//! ```
//! [`records`] turns bytes into records, [`files`] decides which file is read when and from where on, `indexer` and
//! `limits` turn blocks into chunks, and `chunk_source` is the one face of all inputs.

pub mod files;
pub mod records;
pub mod stdin;

pub(crate) mod chunk_source;
mod error;
mod fleet;
pub(crate) mod indexer;
mod limits;
mod lines;
pub(crate) mod pace;

pub use error::{InputError, Truncated};
pub use records::{
    AtEnd, Digest, InputPosition, LINE_BYTES_MAX_DEFAULT, LineBlock, LineReader, PrefixDigest,
    ReadOptions, RecordFormat, RecordRange, RefusedLine,
};
