//! Hostile input and environments: each has a clear answer, and nothing is lost.
//!
//! Every case feeds real processes and then counts: each record is a row, a dead letter with reason and position, or
//! named by the process that refused it. Refusals say where the mistake is and what to do. No process panics.
//!
//! Cases that need a separate file system mount one in a namespace. Where the system does not permit that, they are
//! skipped with a message; with `HYDRANT_TEST_NO_SKIP=1` a skipped case fails.

mod config;
mod corruption;
mod disk;
mod foreign_lake;
mod hanging;
mod owners;
mod pii;
mod places;
mod put_back;
mod records;
mod recreated;
mod rewound;
mod schemas;
mod second_output;
