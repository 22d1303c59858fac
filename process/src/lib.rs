//! What every binary of Hydrant is made of: configuration, logs, signals, metrics, drain and exit code.
//!
//! A binary's `main` is [`main`] with its flags and its work. This crate knows command lines, TOML and HTTP, so that the
//! vocabulary and the seams in `hydrant-core` need not: a stage takes what it needs as a
//! [`Context`](hydrant_core::Context) and a parsed [`config::Section`].

pub mod config;
pub mod telemetry;

mod allocator;
mod arguments;
mod descriptors;
#[cfg(test)]
mod fuzz;
mod output;
mod panics;
mod run;

pub use arguments::{CommonArgs, Setup, parse};
pub use output::{Stdout, count_text, counted};
pub use run::{Process, main};
