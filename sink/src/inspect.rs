//! What a table holds, for people who look into it.
//!
//! Owns the rows that a condition chooses ([`rows`]), the figures of a table ([`stats`]) and the declarations that its values
//! suggest ([`suggestions`]). Promises to change nothing, to hold one file and its rows at a time, and to leave out a file that
//! goes away meanwhile.

mod filter;
mod rows;
mod stats;
mod suggest;

pub use filter::{ParseFilterError, RowFilter};
pub use rows::rows;
pub use stats::{ColumnStats, PartitionStats, TableStats, rescued, stats};
pub use suggest::{Suggestion, suggestions};
