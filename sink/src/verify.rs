//! The proof that a table holds what its commit chains say, and the listings for operators.
//!
//! Owns the checks of `hydrant lake verify` ([`verify`]) and the output of the other commands ([`tables`],
//! [`partitions`], [`schema`]). Promises to change nothing, to judge from the objects alone, and to be right
//! while sinks are publishing: files are listed first and chains are read after, so that every listed file has a record
//! by then, and missing files are looked for once more at the end. Memory does not grow with the table except for eight
//! bytes a file: chains are read one after another, record by record, and of each kind of problem the first ones are
//! listed and the others counted. What was removed on purpose is told from what is missing: a layout record names it, a
//! rebuild record gives it up, or it is past a declared retention. A table fails if it has an extra file, a missing file,
//! a changed byte, a missing slot, a chain in another chain's place, or a sum that does not add up.

mod browse;
mod files;
mod removed;
mod report;
mod slots;
mod verification;

pub use browse::{
    Partition, TableSummary, check_table, has_taken_from, partitions, schema, tables,
};
pub use report::{
    ChainReport, GoneUnits, LISTED_MAX, ProblemKind, TableProblem, TableReport, UnitCounts,
};
pub use verification::{Depth, verify};
