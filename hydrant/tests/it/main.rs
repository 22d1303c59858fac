//! Tests of the binaries as users run them: real processes, real files, `kill -9`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "processes run in real time, and a long test reports what it did"
)]

mod architecture;
mod bad_input;
mod cases;
mod circles;
mod defaults;
mod figures;
mod freeze;
mod json;
mod kill;
mod lake;
mod many_shards;
mod memory;
mod metrics;
mod pipeline;
mod process;
mod removal;
mod rights;
mod run;
mod simulation;
mod taking;
mod test_dir;
mod words;
