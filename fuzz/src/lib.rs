//! The fuzzing driver for the tests of every crate.
//!
//! A [`Target`] is a test: it replays the inputs of `fuzz/corpus/NAME.txt`, then mutates them and the inputs of its
//! grammar, for a second or for `HYDRANT_FUZZ_SECONDS`. The check must end for each input, must not panic, and must not
//! take more processor time or memory than the length of the input allows. An input that fails is made small and
//! printed as a line for the corpus, where it stays as a regression case.
//!
//! Stable Rust is enough. With the instrumentation of `docs/fuzzing.md`, inputs that reach new code are kept and
//! mutated further; without it, inputs with a new answer. Only tests depend on this crate.

mod corpus;
mod cost;
mod coverage;
mod json;
mod mutate;
mod target;
mod watch;

pub use cost::{MemoryCost, memory};
pub use json::json;
pub use target::Target;

/// The random numbers of a run.
pub type FuzzRandom = fastrand::Rng;
