//! What a table holds, for people who look into it.
//!
//! Owns the rows that a condition chooses ([`rows`]), the figures of a table ([`stats`]) and the declarations that its values
//! suggest ([`suggestions`]). Promises to change nothing, to hold one file and its rows at a time, and to leave out a file that
//! goes away meanwhile.

mod condition;
mod filter;
mod rows;
mod stats;
mod suggest;

use std::error::Error as _;

use hydrant_core::Error;
use hydrant_core::lake::SharedLake;

use crate::encode::EncodeError;
use crate::lake::TableNames;

pub use filter::{CONDITION_GRAMMAR, ParseFilterError, RowFilter};
pub use rows::{RowsRead, rows};
pub use stats::{ColumnStats, PartitionStats, TableStats, rescued, stats};
pub use suggest::{Suggestion, suggestions};

/// The error for a file that cannot be read.
fn damaged(lake: &SharedLake, names: &TableNames, key: &str, error: &EncodeError) -> Error {
    let (url, table) = (lake.url(), names.table());
    let why = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    Error::fatal(format!(
        "`{key}` is damaged: {why}. Restore it from a copy; without one, remove it and accept the loss with `hydrant lake \
         expire {url} --table {table} --missing`. `hydrant lake verify {url} --table {table}` lists all damaged files"
    ))
}
