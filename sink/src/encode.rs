//! The rows of one partition as a Parquet file, and back.
//!
//! Owns compression, encodings per column, row groups and footers. Promises that the same rows,
//! options and metadata give the same bytes with the same build of this program: nothing depends
//! on a clock, on randomness or on the order of a hash map. A file that was lost after its commit can
//! therefore be built again. Refuses nothing that a table's schema allows; memory is one row group.

mod choice;
mod error;
mod json;
mod options;
mod pages;
mod reader;
mod rows;
mod writer;

#[cfg(test)]
mod tests;

pub use choice::ParquetProfile;
pub use error::EncodeError;
pub use json::write_json_row;
pub(crate) use json::{write_json_text, write_json_value};
pub use options::{Compression, EncodeOptions};
#[cfg(test)]
pub(crate) use reader::head;
pub(crate) use reader::{FOOTER_END_BYTES, count_rows, count_values, each_row, footer};
pub(crate) use rows::Picked;
pub use rows::{FileRows, RowsColumn};
pub use writer::{FileEncoder, encode};
