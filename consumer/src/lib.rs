//! Shard-aware consumption: leases, progress, ordering, backpressure, copies.
//!
//! [`runtime`] is what every stage of Hydrant runs on; [`copy`] holds the stages of `hydrant-consumer`, which [`wire`]
//! joins to concrete streams and targets.

pub mod config;
pub mod copy;
pub mod runtime;
pub mod wire;
