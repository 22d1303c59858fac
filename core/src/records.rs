//! What streams carry, and what is known of it: records and their places, shards, origins, marks.

pub mod batch;
pub mod hash;
pub mod headers;
pub mod interval;
pub mod marks;
pub mod origin;
pub mod position;
pub mod shard;
pub mod varint;
