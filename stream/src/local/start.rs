//! Where an app starts that has no progress.

use hydrant_core::disk::Open;
use hydrant_core::stream::Start;
use hydrant_core::{Position, Result, ShardId};

use super::control::ControlFile;
use super::place::Place;
use super::segment::{self, Segment, Walk};
use super::skips::Skips;
use super::work::position_before;

/// The position to read after.
pub(super) async fn find(place: &Place, shard: &ShardId, start: Start) -> Result<Position> {
    let disk = &*place.ctx.disk;
    let dir = place.shard_dir(shard);
    let control = match ControlFile::open_to_read(disk, &dir).await? {
        Some(file) => file.read().await?.unwrap_or_default(),
        None => return Err(place.gone()),
    };
    let time = match start {
        Start::Earliest => return Ok(position_before(control.first_offset)),
        Start::Latest => return Ok(position_before(control.next_offset)),
        Start::At(time) => time,
    };
    let segments = segment::list(disk, &dir).await?;
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
        let mut walk = Walk::new(&segment, place.salt(), head.len, end, &skips);
        while let Some(step) = walk.next().await? {
            let (_, header) = step.map_err(|fault| segment.corrupt(walk.at(), fault))?;
            if header.slots() > 0 && header.arrival >= time {
                return Ok(position_before(header.base));
            }
        }
    }
    Ok(position_before(control.next_offset))
}
