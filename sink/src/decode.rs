//! JSON records into columns, in one pass.
//!
//! Owns the way from payload bytes (one JSON object each) to Arrow arrays, the reasons why a record
//! is refused, and the routing of rows to partitions. Promises:
//!
//! - A bad record is data: [`Decoder::append`] returns a [`Reject`] and the rows before and
//!   after are what they would have been without it. Columns and types that only the bad record
//!   would have brought are forgotten.
//! - Values are unchanged: integers are exact or refused, doubles are correctly rounded, text is
//!   the decoded text. `-0` is the integer 0 in a BIGINT column and -0.0 in a DOUBLE column.
//! - Nothing is allocated per record beyond the growth of the columns, and
//!   [`Decoder::size`] says what the columns will take as Arrow arrays.
//! - Rows of a partition keep the order in which they were appended.
//! - The same records under the same schema and options, conformed to the same schema, give the
//!   same rows and the same rejects. A rebuild of an interval needs both schemas: under
//!   the later one alone, a value that the first decoding refused could be a row.
//!
//! A value that its column does not take is *rescued*: the column is null, and the value lies in the column `_rescued`
//! (`rescue`). So is a value under a key that becomes no column: one that differs from a column's name in case only
//! (DuckDB could not distinguish the two), is empty, longer than [`KEY_BYTES_MAX`] or holds control characters, is that of
//! a partition column, of `_rescued` or of a provenance column, or is one too many; and what nests deeper than
//! [`COLUMN_DEPTH_MAX`]. The record is always its row merged with what was rescued of it, but for the order of keys, the
//! spelling of numbers, and nulls. Where the table says `on-conflict = "dead-letter"`, such a record is refused instead.
//!
//! Refuses, per record: JSON that RFC 8259 does not allow (NaN, leading zeros, lone surrogates, trailing bytes), what is not an
//! object, and keys that repeat in one object.
//!
//! `{}` and `[]` under a key that never held anything else are left out of the schema until a value
//! gives them a type; they are rescued until then. In a column that has a type, `{}` is a struct of nulls
//! and `[]` an empty list. A record without a typed value is a row of nulls.

mod bits;
mod column;
mod column_value;
mod conform;
mod decide;
mod decoder;
mod evidence;
mod finish;
mod majority;
mod number;
mod provenance;
mod reject;
mod rescue;
mod rescue_tree;
mod route;
mod row;
mod times;

#[cfg(test)]
mod tests;

pub use column::Size;
pub(crate) use conform::row_text;
pub use conform::{ConformReject, Conformed, PartitionRows, Provenance};
pub(crate) use decoder::DecoderMark;
pub use decoder::{DecodeOutcome, Decoder};
pub use finish::DecodedRows;
pub use provenance::RowOrigin;
pub use reject::{Reject, RejectReason};
pub(crate) use rescue::RescueKinds;
pub use rescue::{OTHER_PATHS, RESCUE_KINDS_MAX, RescueKind};
pub use row::{COLUMN_DEPTH_MAX, KEY_BYTES_MAX};
pub(crate) use times::date_of;
