//! The files of a shard, as they are opened for a look or an append.

use hydrant_core::disk::Open;
use hydrant_core::{Result, ShardId};

use super::format::control::ControlFile;
use super::format::segment::{self, ListedSegment, Segment};
use super::format::shard_end::ShardEnd;
use super::stream_dir::StreamDir;

impl StreamDir {
    /// The control file of a shard. A process that just looks needs no right to write.
    pub(super) async fn control_file(&self, shard: &ShardId, how: Open) -> Result<ControlFile> {
        let dir = self.shard_dir(shard);
        let file = ControlFile::open(&*self.ctx.disk, &dir, how).await;
        file.map_err(|error| self.failed("open", &ControlFile::path(&dir), error))
    }

    /// The segments of a shard, oldest first, up to where it ends.
    pub(super) async fn segments(
        &self,
        shard: &ShardId,
        end: Option<ShardEnd>,
    ) -> Result<Vec<ListedSegment>> {
        let mut segments = segment::list(&*self.ctx.disk, &self.shard_dir(shard)).await?;
        segments.retain(|listed| end.is_none_or(|end| end.includes(listed)));
        Ok(segments)
    }

    /// Opens a segment to read it; `None` when it was removed.
    pub(super) async fn segment(
        &self,
        shard: &ShardId,
        number: u64,
        base: u64,
    ) -> Result<Option<Segment>> {
        let (disk, dir) = (&*self.ctx.disk, self.shard_dir(shard));
        Segment::open(disk, &dir, number, base, Open::Read).await
    }
}
