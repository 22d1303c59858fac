//! The embedded log.

mod admin;
mod append;
mod chunk;
mod columns;
mod control;
mod create;
mod draft;
mod frame;
mod leases;
mod manifest;
mod marks;
mod metrics;
mod place;
mod recovery;
mod repair;
mod reshard;
mod retention;
mod segment;
mod shard_log;
mod skips;
mod start;
mod stream;
mod tail;
mod work;

pub use create::CreateOptions;
pub use frame::Codec;

pub(crate) use create::{create, delete};
pub(crate) use stream::LocalStream;

#[cfg(test)]
mod tests;
