//! Records to Arrow to Parquet to a lake, exactly once.
//!
//! [`decode`] turns JSON records into columns and routes rows to partitions, [`schema`] owns the
//! types a table may have and how they may grow, [`partition`] owns event time and the layout's
//! directory names, [`encode`] turns the rows of one partition into a Parquet file and reads one
//! back. These four are synchronous and pure: no clock, no I/O, no randomness in their output.

pub mod decode;
pub mod encode;
pub mod partition;
pub mod schema;
