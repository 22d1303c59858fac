//! Finds the frame at which a reader continues, from segment to segment.
//!
//! A segment is opened for each look, since a reader keeps none open. The directory is listed when a segment is entered and
//! when its end is first asked for, not for each chunk. Segments past the end of a fenced shard are not of
//! it.

use std::path::PathBuf;
use std::sync::Arc;

use hydrant_core::{Budget, Result, Shard};

use crate::local::format::control::ControlSlot;
use crate::local::format::frame::{FrameFault, HEADER_BYTES, Header};
use crate::local::format::segment::{FrameWalk, Segment};
use crate::local::format::shard_end::ShardEnd;
use crate::local::format::skips::Skips;
use crate::local::stream_dir::StreamDir;

/// A place between two frames.
#[derive(Clone, Debug)]
pub(crate) struct LogCursor {
    /// The number of the segment.
    pub(crate) number: u64,
    /// The offset of its first slot.
    pub(crate) base: u64,
    pub(crate) at: u64,
    /// Where the segment ends, once it is known to be finished: that never changes.
    pub(crate) end: Option<u64>,
    pub(crate) skips: Arc<Skips>,
}

/// What is read, and with which means.
#[derive(Debug)]
pub(crate) struct ShardSource {
    pub(crate) stream_dir: Arc<StreamDir>,
    pub(crate) shard: Shard,
    pub(crate) dir: PathBuf,
    pub(crate) budget: Budget,
}

/// How far a shard is read and known.
#[derive(Clone, Debug)]
pub(crate) struct OpenedShard {
    /// The first offset that was not handed on.
    pub(crate) next: u64,
    pub(crate) cursor: Option<LogCursor>,
    /// What the control file said last, or the manifest of a shard that has ended.
    pub(crate) control: ControlSlot,
    /// Where it ends, if the manifest says so.
    pub(crate) end: Option<ShardEnd>,
    /// It is not decided where it ends.
    pub(crate) is_undecided: bool,
    /// Whether the end of what is there was answered.
    pub(crate) idle: bool,
    /// Whether everything was read of a shard that has ended before this reader.
    pub(crate) ended: bool,
}

/// Where reading continues.
pub(crate) enum NextFrame {
    /// At this frame, of a segment that ends there.
    Frame(Segment, LogCursor, Header, u64),
    /// After offsets that are lost.
    Lost(u64, String),
    /// In a segment that was removed meanwhile.
    Removed,
}

impl ShardSource {
    /// Opens a segment; `None` when it was removed.
    pub(crate) async fn segment(&self, number: u64, base: u64) -> Result<Option<Segment>> {
        self.stream_dir.segment(&self.shard.id, number, base).await
    }

    /// Finds the frame that holds the next offset.
    async fn locate(&self, opened: &OpenedShard) -> Result<Option<(Segment, LogCursor)>> {
        let next = opened.next;
        let segments = self.stream_dir.segments(&self.shard.id, opened.end).await?;
        let Some(listed) = segments.iter().rev().find(|s| s.base <= next) else {
            return Ok(None);
        };
        let (number, base) = (listed.number, listed.base);
        let Some(segment) = self.segment(number, base).await? else {
            return Ok(None);
        };
        let head = segment.head(self.stream_dir.incarnation).await?;
        let skips = Arc::new(Skips::read(&self.stream_dir.ctx, &self.dir).await?);
        let mut cursor = LogCursor {
            number,
            base,
            at: head.len,
            end: None,
            skips,
        };
        let Some(end) = self.end_of(opened, &mut cursor).await? else {
            return Ok(None);
        };
        let mut walk = FrameWalk::new(
            &segment,
            self.stream_dir.salt(),
            head.len,
            end,
            &cursor.skips,
        );
        let mut at = head.len;
        while let Some(step) = walk.next().await? {
            let (found, header) = step.map_err(|fault| segment.corrupt(walk.at(), fault))?;
            at = found;
            if header.next_offset() > next {
                break;
            }
            at = walk.at();
        }
        cursor.at = at;
        Ok(Some((segment, cursor)))
    }

    /// The durable end of the cursor's segment; `None` when the one after it was removed, and so itself.
    async fn end_of(&self, opened: &OpenedShard, cursor: &mut LogCursor) -> Result<Option<u64>> {
        if cursor.number == opened.control.active {
            return Ok(Some(opened.control.durable_bytes));
        }
        if cursor.end.is_none()
            && let Some(follower) = self.follower(opened, cursor).await?
        {
            let head = follower.head(self.stream_dir.incarnation).await?;
            cursor.end = Some(head.previous_bytes);
        }
        Ok(cursor.end)
    }

    /// The segment after this one; `None` when it was removed.
    async fn follower(&self, opened: &OpenedShard, cursor: &LogCursor) -> Result<Option<Segment>> {
        let segments = self.stream_dir.segments(&self.shard.id, opened.end).await?;
        let follower = segments.iter().find(|s| s.number == cursor.number + 1);
        match follower {
            Some(s) => self.segment(s.number, s.base).await,
            None => Ok(None),
        }
    }

    /// The next frame to read, given that the control file knows one.
    pub(crate) async fn next_frame(&self, opened: &OpenedShard) -> Result<NextFrame> {
        let found = match &opened.cursor {
            Some(cursor) => {
                let segment = self.segment(cursor.number, cursor.base).await?;
                segment.map(|segment| (segment, cursor.clone()))
            }
            None => self.locate(opened).await?,
        };
        let Some((mut segment, mut cursor)) = found else {
            return Ok(NextFrame::Removed);
        };
        loop {
            while let Some(skip) = cursor.skips.at(cursor.number, cursor.at) {
                cursor.at = skip.to_byte;
            }
            let Some(end) = self.end_of(opened, &mut cursor).await? else {
                return Ok(NextFrame::Removed);
            };
            if cursor.at < end {
                let bytes = segment.read(cursor.at, HEADER_BYTES).await?;
                let header =
                    match Header::decode_before(&bytes, self.stream_dir.salt(), end - cursor.at) {
                        Ok(header) => header,
                        Err(fault) => {
                            // Corrupt bytes stop the reader, unless an operator has skipped them meanwhile.
                            let (number, at) = (cursor.number, cursor.at);
                            let skips = Skips::read(&self.stream_dir.ctx, &self.dir).await?;
                            if skips.at(number, at).is_none() {
                                return Err(segment.corrupt(at, fault));
                            }
                            cursor.skips = Arc::new(skips);
                            continue;
                        }
                    };
                if header.base > opened.next {
                    return self.lost(opened, (&segment, cursor.at), header.base).await;
                }
                if header.next_offset() > opened.next {
                    return Ok(NextFrame::Frame(segment, cursor, header, end));
                }
                cursor.at += header.frame_len();
                continue;
            }
            if cursor.number == opened.control.active {
                let next = opened.control.next_offset;
                return self.lost(opened, (&segment, cursor.at), next).await;
            }
            let Some(follower) = self.follower(opened, &cursor).await? else {
                return Ok(NextFrame::Removed);
            };
            segment = follower;
            cursor.at = segment.head(self.stream_dir.incarnation).await?.len;
            (cursor.number, cursor.base) = (segment.number, segment.base);
            cursor.end = None;
        }
    }

    /// The offsets from the next one up to `next` are lost, if an operator has skipped them.
    async fn lost(
        &self,
        opened: &OpenedShard,
        (segment, at): (&Segment, u64),
        next: u64,
    ) -> Result<NextFrame> {
        let skips = Skips::read(&self.stream_dir.ctx, &self.dir).await?;
        match skips.over(opened.next) {
            Some(skip) => Ok(NextFrame::Lost(next, skip.why.clone())),
            None => Err(segment.corrupt(at, FrameFault("offsets are missing"))),
        }
    }
}
