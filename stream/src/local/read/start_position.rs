//! Where an app starts that has no progress.
//!
//! A control file without an intact slot says nothing of a shard: it is recovered first, or the caller asks again.

use std::sync::Arc;

use hydrant_core::disk::Open;
use hydrant_core::stream::Start;
use hydrant_core::{Position, Result, Shard};

use crate::local::end::closing::Haste;
use crate::local::end::durable_end::durable;
use crate::local::end::fence;
use crate::local::format::frame::position_before;
use crate::local::format::segment::FrameWalk;
use crate::local::format::skips::Skips;
use crate::local::stream_dir::StreamDir;
use crate::local::write::observe::observe;

/// The position to read after.
pub(crate) async fn find(
    stream_dir: &Arc<StreamDir>,
    shard: &Shard,
    start: Start,
) -> Result<Position> {
    let file = stream_dir.control_file(&shard.id, Open::Read).await?;
    let (control, end) = loop {
        let mut found = durable(stream_dir, shard, &file).await?;
        if found.is_undecided {
            fence::complete(stream_dir, shard, Haste::Waits).await?;
            continue;
        }
        if found.control.is_none() {
            (found, _) = observe(stream_dir, shard, &file, |_| false).await?;
        }
        match found.control.filter(|_| !found.is_undecided) {
            Some(control) => break (control, found.end),
            None => return Err(stream_dir.unrecovered(&shard.id)),
        }
    };
    let time = match start {
        Start::Earliest => return Ok(position_before(control.first_offset)),
        Start::Latest => return Ok(position_before(control.next_offset)),
        Start::At(time) => time,
    };
    let segments = stream_dir.segments(&shard.id, end).await?;
    let skips = Skips::read(&stream_dir.ctx, &stream_dir.shard_dir(&shard.id)).await?;
    for (n, listed) in segments.iter().enumerate() {
        let end = if listed.number == control.active {
            control.durable_bytes
        } else {
            let Some(next) = segments.get(n + 1) else {
                break;
            };
            let Some(next) = stream_dir
                .segment(&shard.id, next.number, next.base)
                .await?
            else {
                continue;
            };
            let head = next.head(stream_dir.incarnation).await?;
            if head.previous_newest < time {
                continue;
            }
            head.previous_bytes
        };
        let opened = stream_dir.segment(&shard.id, listed.number, listed.base);
        let Some(segment) = opened.await? else {
            continue;
        };
        let head = segment.head(stream_dir.incarnation).await?;
        let mut walk = FrameWalk::new(&segment, stream_dir.salt(), head.len, end, &skips);
        while let Some(step) = walk.next().await? {
            let (_, header) = step.map_err(|fault| segment.corrupt(walk.at(), fault))?;
            if header.slots() > 0 && header.arrival >= time {
                return Ok(position_before(header.base));
            }
        }
    }
    Ok(position_before(control.next_offset))
}
