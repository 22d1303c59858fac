//! Where a shard ends: what is known of it at its durable end, and how it is closed for good.

pub(super) mod closing;
pub(super) mod durable_end;
pub(super) mod fence;
pub(super) mod fence_mark;
pub(super) mod intact_tail;
pub(super) mod new_shards;
pub(super) mod shard_state;
