//! The intact frames past a durable end.

use bytes::Bytes;
use hydrant_core::Result;

use crate::local::format::control::ControlSlot;
use crate::local::format::dedup_state::OriginInterval;
use crate::local::format::frame::intact;
use crate::local::format::segment::{FrameWalk, Segment};
use crate::local::format::skips::Skips;

/// A walk over the frames past a durable end, up to the first one that is torn or does not follow.
#[derive(Debug)]
pub(crate) struct IntactTail<'a> {
    segment: &'a Segment,
    walk: FrameWalk<'a>,
    /// The end after the frames so far.
    pub(crate) end: ControlSlot,
}

impl<'a> IntactTail<'a> {
    /// From the durable end that `control` says up to byte `len`.
    pub(crate) fn new(segment: &'a Segment, salt: u64, control: ControlSlot, len: u64) -> Self {
        IntactTail {
            segment,
            walk: FrameWalk::new(segment, salt, control.durable_bytes, len, Skips::NONE),
            end: control,
        }
    }

    /// The next frame, and what it says of its origin.
    pub(crate) async fn next(&mut self) -> Result<Option<(Bytes, Option<OriginInterval>)>> {
        let Some(Ok((at, header))) = self.walk.next().await? else {
            return Ok(None);
        };
        if header.base != self.end.next_offset {
            return Ok(None);
        }
        let bytes = self.segment.read(at, header.frame_len() as usize).await?;
        let Some(entry) = intact(&header, &bytes) else {
            return Ok(None);
        };
        self.end.durable_bytes = self.walk.at();
        self.end.next_offset = header.next_offset();
        self.end.records += u64::from(header.records);
        self.end.newest_arrival = header.arrival;
        Ok(Some((bytes, entry.as_ref().map(OriginInterval::from))))
    }
}
