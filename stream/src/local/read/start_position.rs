//! Where an app starts that has no progress.
//!
//! A control file without an intact slot says nothing of a shard: it is recovered first, or the caller asks again.

use std::sync::Arc;

use hydrant_core::disk::Open;
use hydrant_core::stream::Start;
use hydrant_core::{Position, Result, Shard};

use crate::local::end::closing::Haste;
use crate::local::end::durable_end::{Durable, durable};
use crate::local::end::fence;
use crate::local::format::control::ControlFile;
use crate::local::format::frame::position_before;
use crate::local::format::segment::{self, FrameWalk, Segment};
use crate::local::format::skips::Skips;
use crate::local::stream_dir::StreamDir;
use crate::local::write::observe::{ShardObservation, observe};

/// The position to read after.
pub(crate) async fn find(place: &Arc<StreamDir>, shard: &Shard, start: Start) -> Result<Position> {
    let disk = &*place.ctx.disk;
    let dir = place.shard_dir(&shard.id);
    let file = ControlFile::open_to_read(disk, &dir).await?;
    let file = file.ok_or_else(|| place.gone())?;
    let (control, end) = loop {
        match durable(place, shard, &file).await? {
            Durable::Moving(Some(control)) => break (control, None),
            Durable::Moving(None) => match observe(place, shard, &file, |_| false).await? {
                ShardObservation::Settled(Some(control)) => break (control, None),
                ShardObservation::Ended(control, end) => break (control, Some(end)),
                _ => return Err(place.unrecovered(&shard.id)),
            },
            Durable::Final(control, end) => break (control, Some(end)),
            Durable::Undecided => {
                fence::settle(place, shard, Haste::Waits).await?;
            }
        }
    };
    let time = match start {
        Start::Earliest => return Ok(position_before(control.first_offset)),
        Start::Latest => return Ok(position_before(control.next_offset)),
        Start::At(time) => time,
    };
    let mut segments = segment::list(disk, &dir).await?;
    segments.retain(|listed| end.is_none_or(|end| end.includes(listed)));
    let skips = Skips::read(&place.ctx, &dir).await?;
    let mut follower = None;
    for (n, listed) in segments.iter().enumerate() {
        let (number, base) = (listed.number, listed.base);
        let opened = match follower.take() {
            Some(opened) => Some(opened),
            None => Segment::open(disk, &dir, number, base, Open::Read).await?,
        };
        let Some(segment) = opened else {
            continue;
        };
        let end = if number == control.active {
            control.durable_bytes
        } else {
            let Some(next) = segments.get(n + 1) else {
                break;
            };
            let next = Segment::open(disk, &dir, next.number, next.base, Open::Read).await?;
            let Some(next) = next else {
                continue;
            };
            let head = next.head(place.incarnation).await?;
            follower = Some(next);
            if head.previous_newest < time {
                continue;
            }
            head.previous_bytes
        };
        let head = segment.head(place.incarnation).await?;
        let mut walk = FrameWalk::new(&segment, place.salt(), head.len, end, &skips);
        while let Some(step) = walk.next().await? {
            let (_, header) = step.map_err(|fault| segment.corrupt(walk.at(), fault))?;
            if header.slots() > 0 && header.arrival >= time {
                return Ok(position_before(header.base));
            }
        }
    }
    Ok(position_before(control.next_offset))
}
