//! What is known of a shard at a durable end: how its segment begins that is appended to, and the marks.

use bytes::Bytes;
use hydrant_core::{Error, Result, Shard, ShardId};

use crate::local::format::control::ControlSlot;
use crate::local::format::dedup_state::{DedupState, OriginInterval};
use crate::local::format::frame::entry_of;
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
    pub(crate) marks: DedupState,
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
        stream_dir: &StreamDir,
        shard: &Shard,
        control: ControlSlot,
        (active, head, marks): (&Segment, Head, DedupState),
    ) -> Result<Self> {
        let from = head.len;
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
        known.replay(stream_dir, shard, active, from).await?;
        Ok(known)
    }

    /// Takes the origin entries from byte `from` up to the durable end into the marks.
    pub(crate) async fn replay(
        &mut self,
        stream_dir: &StreamDir,
        shard: &Shard,
        active: &Segment,
        from: u64,
    ) -> Result<()> {
        let skips = Skips::read(&stream_dir.ctx, &stream_dir.shard_dir(&shard.id)).await?;
        let end = self.control.durable_bytes;
        let mut walk = FrameWalk::new(active, stream_dir.salt(), from, end, &skips);
        while let Some(step) = walk.next().await? {
            let (at, header) = step.map_err(|fault| active.corrupt(walk.at(), fault))?;
            if self.oldest == 0 {
                self.oldest = header.arrival;
            }
            self.newest = self.newest.max(header.arrival);
            if header.meta_len == 0 {
                continue;
            }
            let meta = walk.meta(at, &header).await?;
            let entry = meta.and_then(|meta| entry_of(&meta));
            if let Some(entry) = entry.map_err(|fault| active.corrupt(at, fault))? {
                self.marks.apply(&OriginInterval::from(&entry));
            }
        }
        Ok(())
    }

    /// The head of the segment that begins at the durable end, and its bytes.
    pub(crate) fn next_head(&self, stream_dir: &StreamDir) -> (Head, Bytes) {
        let mut head = Head {
            incarnation: stream_dir.incarnation,
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
                "shard `{shard}` tracks {} origins, the most that it can hold: continue in a new stream, and let fewer \
                 ledgers and apps write to it",
                self.marks.len()
            )));
        }
        self.marks_room -= added;
        Ok(())
    }
}
