//! The vocabulary and the seams of Hydrant.
//!
//! This crate says what the parts are to each other and holds no part itself: no AWS, no Kafka, no Arrow. It has three
//! rooms: `records/`, the vocabulary, of which each word has one meaning ([`position`], [`shard`], [`interval`], [`batch`],
//! [`headers`], [`origin`], [`marks`]); `seams/`, where implementations are exchanged ([`stream`], [`admin`],
//! [`subscription`], [`lease`], [`stage`], [`transform`], [`lake`], [`settings`]); and `machine/`, what a process uses of its
//! machine ([`disk`], [`places`], [`workers`], [`clock`], [`random`], [`budget`], [`shutdown`]).

pub mod error;
pub mod limits;
pub mod mutant;
pub mod retry;

mod context;
#[cfg(test)]
mod fuzz;
mod machine;
mod records;
mod seams;

pub use machine::{budget, clock, disk, places, random, shutdown, workers};
pub use records::{batch, hash, headers, interval, marks, origin, position, shard, varint};
pub use seams::{admin, lake, lease, settings, stage, stream, subscription, transform};

pub(crate) use seams::{read, start};

pub use batch::Batch;
pub use budget::{Budget, Overdraft, Permit};
pub use context::Context;
pub use error::{Disposition, Error, Result};
pub use interval::Interval;
pub use position::{Position, Sequence};
pub use random::Random;
pub use shard::{HashRange, Shard, ShardId, ShardMap, StreamId};
pub use shutdown::Shutdown;
pub use workers::Workers;
