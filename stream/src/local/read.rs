//! Reading shards: the reader, how it finds a frame, and where an app without progress starts.

mod seek;
mod wrong;

pub(super) mod reader;
pub(super) mod start_position;
