//! The producer's binary against a local stream: what is stored, by whom it is killed, what it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "it/damaged.rs"]
mod damaged;
#[path = "it/draining.rs"]
mod draining;
#[path = "it/files.rs"]
mod files;
#[path = "it/follow.rs"]
mod follow;
#[path = "it/inputs.rs"]
mod inputs;
#[path = "it/library.rs"]
mod library;
#[path = "it/own.rs"]
mod own;
#[path = "it/preallocated.rs"]
mod preallocated;
#[path = "it/process.rs"]
mod process;
#[path = "it/refusals.rs"]
mod refusals;
#[path = "it/restarts.rs"]
mod restarts;
#[path = "it/rotations.rs"]
mod rotations;
#[path = "it/stored.rs"]
mod stored;
#[path = "it/unlookable.rs"]
mod unlookable;
