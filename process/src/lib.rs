//! The frame of every binary of Hydrant: configuration, logs, signals, metrics, drain and exit code.
//!
//! A binary calls [`main`] with its flags and its work. This crate knows command lines, TOML and HTTP, so that
//! `hydrant-core` does not: a stage gets a [`Context`](hydrant_core::Context) and reads its [`config::Section`].

pub mod config;
pub mod telemetry;

mod allocator;
mod arguments;
mod descriptors;
mod exit_code;
#[cfg(test)]
mod fuzz;
mod output;
mod panics;
mod run;

pub use arguments::{CommonArgs, Setup, parse};
pub use output::{Stdout, count_text, counted, path_text, printable, to_stderr};
pub use run::{Process, main};
