//! Shard-aware consumption: leases, progress, ordering, backpressure, copies.
