//! The vocabulary and the seams of Hydrant.
//!
//! This crate says what the parts are to each other and holds no part itself: no AWS, no Kafka, no Arrow. The vocabulary
//! ([`position`], [`shard`], [`interval`], [`batch`], [`headers`], [`origin`], [`marks`]) has one meaning each; the seams ([`stream`], [`admin`],
//! [`subscription`], [`lease`], [`stage`], [`transform`], [`lake`], [`disk`], [`workers`], [`clock`], [`random`]) are
//! where implementations are exchanged; the rest ([`budget`], [`retry`], [`shutdown`]) is what
//! every binary needs alike.

pub mod admin;
pub mod batch;
pub mod budget;
pub mod clock;
pub mod disk;
pub mod error;
#[cfg(test)]
mod fuzz;
pub mod hash;
pub mod headers;
pub mod interval;
pub mod lake;
pub mod lease;
pub mod limits;
pub mod marks;
pub mod mutant;
pub mod origin;
pub mod position;
pub mod random;
pub mod retry;
pub mod settings;
pub mod shard;
pub mod shutdown;
pub mod stage;
pub mod stream;
pub mod subscription;
pub mod transform;
pub mod varint;
pub mod workers;

mod context;
mod read;
mod start;

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
