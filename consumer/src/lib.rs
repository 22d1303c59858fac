//! Shard-aware consumption: leases, progress, ordering, backpressure, copies.
//!
//! [`runtime`] is what every stage of Hydrant runs on.

pub mod runtime;
