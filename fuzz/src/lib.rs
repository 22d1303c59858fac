//! The fuzzing driver of the tests of every crate.
//!
//! A [`Target`] is a test: it replays the inputs of `fuzz/corpus/NAME.txt`, then mutates them and
//! what its grammar makes, for a second, or for as long as `HYDRANT_FUZZ_SECONDS` says. Of each
//! input it demands that the check neither panics nor takes more processor time or memory than its
//! length allows, and that it ends. An input that fails is made small and printed as a line for the corpus, where it
//! stays as a regression case.
//!
//! Everything works with stable Rust alone. Built with the instrumentation that `docs/fuzzing.md`
//! gives, inputs that reach new code are kept and mutated further; without it, inputs whose answer
//! is new. Only tests depend on this crate.

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

/// The source of chance of a run.
pub type Random = fastrand::Rng;
