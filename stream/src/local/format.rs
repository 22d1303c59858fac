//! The bytes of a stream's directory: what each file holds, and how it is read and written.

pub(super) mod chunk;
pub(super) mod columns;
pub(super) mod control;
pub(super) mod dedup_state;
pub(super) mod frame;
pub(super) mod home;
pub(super) mod json_file;
pub(super) mod leftovers;
pub(super) mod manifest;
pub(super) mod segment;
pub(super) mod segment_draft;
pub(super) mod shard_end;
pub(super) mod skips;
