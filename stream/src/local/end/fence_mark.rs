//! The mark of a fenced shard: an empty file, `HOME/shards/ID/fence`, that is never removed.

use std::path::PathBuf;

use hydrant_core::disk::Open;
use hydrant_core::error::OrCannot;
use hydrant_core::{Result, ShardId};

use crate::local::stream_dir::StreamDir;

fn path(stream_dir: &StreamDir, shard: &ShardId) -> PathBuf {
    stream_dir.shard_dir(shard).join("fence")
}

/// Whether a shard is marked as fenced.
pub(crate) async fn exists(stream_dir: &StreamDir, shard: &ShardId) -> Result<bool> {
    let path = path(stream_dir, shard);
    let found = stream_dir.ctx.disk.stat(&path).await;
    Ok(found.or_cannot("look at", &path)?.is_some())
}

/// Marks a shard as fenced. [`find_end`](super::fence::find_end) makes that durable.
pub(crate) async fn create(stream_dir: &StreamDir, shard: &ShardId) -> Result<()> {
    let path = path(stream_dir, shard);
    let made = stream_dir.ctx.disk.open(&path, Open::Create).await;
    made.map_err(|e| stream_dir.failed("create", &path, e))
        .map(drop)
}
