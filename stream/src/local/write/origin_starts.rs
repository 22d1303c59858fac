//! Where origins began in a shard, for a writer that is about to begin.
//!
//! Read without the shard's lock: only origins matter whose writers have ended, and what they got an answer for is
//! durable.

use std::sync::Arc;

use hydrant_core::disk::Open;
use hydrant_core::stream::Begun;
use hydrant_core::{Error, Result, Shard};

use super::observe::{ShardObservation, observe};
use crate::local::end::closing::Haste;
use crate::local::end::shard_state::claim_at;
use crate::local::end::{fence, fence_mark};
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::dedup_state::Marks;
use crate::local::format::segment::{self, FrameWalk, Segment};
use crate::local::format::shard_end::ShardEnd;
use crate::local::format::skips::Skips;
use crate::local::stream_dir::StreamDir;

/// The origins that began in `shard` beyond the beginning of their upstream shard.
pub(crate) async fn find(place: &Arc<StreamDir>, shard: &Shard) -> Result<Vec<Begun>> {
    let disk = &*place.ctx.disk;
    let file = ControlFile::open_to_read(disk, &place.shard_dir(&shard.id)).await?;
    let file = file.ok_or_else(|| place.gone())?;
    loop {
        let seen = match observe(place, shard, &file, |_| false).await {
            // What is durable can be read; appends are refused with the same words.
            Err(Error::Full { .. } | Error::Io { .. }) => {
                ShardObservation::Busy(file.read().await?)
            }
            seen => seen?,
        };
        let (control, end) = match seen {
            ShardObservation::Settled(control)
            | ShardObservation::Busy(control)
            | ShardObservation::Unrecovered(control) => (control, None),
            ShardObservation::Ended(control, end) => (Some(control), Some(end)),
        };
        let Some(control) = control else {
            if fence_mark::exists(place, &shard.id).await? {
                fence::settle(place, shard, Haste::Waits).await?;
                continue;
            }
            return Err(place.unrecovered(&shard.id));
        };
        if let Some(marks) = marks(place, shard, &control, end).await? {
            return Ok(marks.begun());
        }
    }
}

/// The marks that hold at the durable end; `None` when the segment was removed meanwhile.
async fn marks(
    place: &StreamDir,
    shard: &Shard,
    control: &ControlSlot,
    end: Option<ShardEnd>,
) -> Result<Option<Marks>> {
    let disk = &*place.ctx.disk;
    let dir = place.shard_dir(&shard.id);
    let mut segments = segment::list(disk, &dir).await?;
    segments.retain(|listed| end.is_none_or(|end| end.includes(listed)));
    let Some(listed) = segments.iter().find(|one| one.number == control.active) else {
        // Retention leaves a closed shard nothing; its children know what it knew.
        return Ok((control.sealed || segments.is_empty()).then(|| Marks::new(shard.range)));
    };
    let opened = Segment::open(disk, &dir, listed.number, listed.base, Open::Read).await?;
    let Some(segment) = opened else {
        return Ok(None);
    };
    let (head, mut marks) = segment.marks(place.incarnation, shard.range).await?;
    let skips = Skips::read(&place.ctx, &dir).await?;
    let end = control.durable_bytes;
    let mut walk = FrameWalk::new(&segment, place.salt(), head.len, end, &skips);
    while let Some(step) = walk.next().await? {
        let (at, header) = step.map_err(|fault| segment.corrupt(walk.at(), fault))?;
        if let Some(claim) = claim_at(&mut walk, &segment, at, &header).await? {
            marks.apply(&claim);
        }
    }
    Ok(Some(marks))
}
