//! The types of a table: what a column may be, how it may grow, and how readers learn of it.
//!
//! Owns the join rules ([`TableSchema::join`]), the JSON form of the numbered schema object, the
//! mapping to Arrow and the lines users paste into DuckDB, Polars and pyarrow. Promises that a join
//! never makes a value unreadable: a column may be added, BIGINT may become DOUBLE while every
//! integer so far is exact in a DOUBLE, and nothing else changes. Refuses to guess: strings stay
//! strings, booleans join with nothing, and a column that was only ever null (or only ever `{}` or
//! `[]`) is not a column yet.

mod arrow;
mod ddl;
pub mod declared;
mod lattice;
pub mod registry;
mod render;
mod stored;
mod type_text;
mod types;

pub(crate) use arrow::map_entry;
pub use arrow::{arrow_field, arrow_type};
pub use lattice::{Conflict, Joined};
pub use render::QueryEngine;
pub use type_text::ParseTypeError;
pub use types::{
    Column, ColumnType, EpochUnit, INTEGER_EXACT_MAX, PROVENANCE_COLUMNS, PartitionColumn,
    PartitionKind, RESCUED_COLUMN, TableSchema, fold_name,
};
