//! Tests of the binaries as users run them: real processes, real files, `kill -9`.

mod kill;
mod lake;
mod process;
mod simulation;
