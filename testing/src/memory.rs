//! Reference implementations of the seams in memory: small, honest, and what the conformance suites are tried on.
//!
//! They let a crate test its stages without a disk. Nothing survives the process.

mod by_hand;
mod harness;
mod lake;
mod leases;
mod shard;
mod state;
mod storing;
mod stream;

pub use harness::MemoryHarness;
pub use lake::MemoryLake;
pub use leases::{LeaseFaults, MemoryLeases};
pub use state::{StreamFaults, StreamTraits, Withheld};
pub use stream::MemoryStream;
