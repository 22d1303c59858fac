//! Shard-aware consumption: leases, progress, ordering, backpressure, copies.
//!
//! Every stage of Hydrant runs on [`runtime`]. [`copy`] has the stages of `hydrant-consumer`, and [`wire`] connects
//! them to concrete streams and targets.

pub mod config;
pub mod copy;
pub mod runtime;
pub mod wire;
