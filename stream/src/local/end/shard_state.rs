//! What is known of a shard at a durable end: how its segment begins that is appended to, and the marks.

use bytes::Bytes;
use hydrant_core::origin::OriginEntry;
use hydrant_core::varint::Reader;
use hydrant_core::{Error, Result, Shard, ShardId};

use crate::local::format::control::ControlSlot;
use crate::local::format::dedup_state::{Marks, OriginInterval};
use crate::local::format::frame::{FrameFault, Header};
use crate::local::format::segment::{self, FrameWalk, Head, Segment};
use crate::local::format::skips::Skips;
use crate::local::stream_dir::StreamDir;

/// What is known of a shard while its lock is held, and of its past afterwards.
#[derive(Debug)]
pub(crate) struct DurableState {
    /// The control file's newest slot.
    pub(crate) control: ControlSlot,
    /// The offset of the first slot of the segment that is appended to.
    pub(crate) base: u64,
    /// Bytes of its head.
    pub(crate) head_len: u64,
    /// When its first frame was appended; 0 when it has none.
    pub(crate) oldest: i64,
    /// When its newest frame was appended; 0 when it has none.
    pub(crate) newest: i64,
    /// What every origin is known up to.
    pub(crate) marks: Marks,
    /// Bytes of new origins' marks that certainly have room in a segment's head; 0 before it was looked at.
    marks_room: u64,
    /// A sync of the segment failed: nothing more is written to it.
    pub(crate) tainted: bool,
}

/// What marks may take in a shard that takes new origins: half of what is read, since those of the origins that it has
/// grow, and those of two shards come together in a merge.
const MARKS_BYTES_TARGET: u64 = segment::MARKS_BYTES_MAX as u64 / 2;

impl DurableState {
    /// What is known when the control file says so, its segment begins like this, and its frames were read.
    pub(crate) async fn replayed(
        place: &StreamDir,
        shard: &Shard,
        control: ControlSlot,
        (active, head, marks): (&Segment, Head, Marks),
    ) -> Result<Self> {
        let skips = Skips::read(&place.ctx, &place.shard_dir(&shard.id)).await?;
        let mut known = DurableState {
            control,
            base: active.base,
            head_len: head.len,
            oldest: 0,
            newest: 0,
            marks,
            marks_room: 0,
            tainted: false,
        };
        replay(&mut known, active, place.salt(), &skips, head.len).await?;
        Ok(known)
    }

    /// The head of the segment that begins at the durable end, and its bytes.
    pub(crate) fn next_head(&self, place: &StreamDir) -> (Head, Bytes) {
        let mut head = Head {
            incarnation: place.incarnation,
            number: self.control.active + 1,
            base: self.control.next_offset,
            previous_bytes: self.control.durable_bytes,
            previous_newest: self.newest,
            records_before: self.control.records,
            len: 0,
        };
        let bytes = head.encode(&self.marks);
        (head, bytes)
    }

    /// Refuses an append with a new origin for whose marks there is no room: a head that holds too many could not be
    /// read again.
    pub(crate) fn admit(&mut self, shard: &ShardId, claim: &OriginInterval) -> Result<()> {
        let added = self.marks.added_by(claim);
        if added > self.marks_room {
            self.marks_room = MARKS_BYTES_TARGET.saturating_sub(self.marks.stored_bytes());
        }
        if added > self.marks_room {
            return Err(Error::refused(format!(
                "shard `{shard}` knows {} origins, as many as it can hold: write on to a new stream, and name fewer \
                 ledgers and apps as its writers",
                self.marks.len()
            )));
        }
        self.marks_room -= added;
        Ok(())
    }
}

/// Takes the origin entries from byte `from` up to the durable end into the marks.
pub(crate) async fn replay(
    known: &mut DurableState,
    active: &Segment,
    salt: u64,
    skips: &Skips,
    from: u64,
) -> Result<()> {
    let DurableState {
        control,
        oldest,
        newest,
        marks,
        ..
    } = known;
    let mut walk = FrameWalk::new(active, salt, from, control.durable_bytes, skips);
    while let Some(step) = walk.next().await? {
        let (at, header) = step.map_err(|fault| active.corrupt(walk.at(), fault))?;
        if *oldest == 0 {
            *oldest = header.arrival;
        }
        *newest = (*newest).max(header.arrival);
        if let Some(claim) = claim_at(&mut walk, active, at, &header).await? {
            marks.apply(&claim);
        }
    }
    Ok(())
}

/// What the frame at `at` says of its origin; `None` when it has none.
pub(crate) async fn claim_at(
    walk: &mut FrameWalk<'_>,
    segment: &Segment,
    at: u64,
    header: &Header,
) -> Result<Option<OriginInterval>> {
    if header.meta_len == 0 {
        return Ok(None);
    }
    let meta = walk.meta(at, header).await?;
    let meta = meta.map_err(|fault| segment.corrupt(at, fault))?;
    let entry = OriginEntry::decode(&mut Reader::new(&meta))
        .map_err(|_| segment.corrupt(at, FrameFault("an origin entry is malformed")))?;
    Ok(Some(OriginInterval::from(&entry)))
}
