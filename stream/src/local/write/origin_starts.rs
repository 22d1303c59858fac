//! Where origins began in a shard, for a writer that is about to begin.
//!
//! Read without the shard's lock: only origins matter whose writers have ended, and what they got an answer for is
//! durable.

use std::sync::Arc;

use hydrant_core::disk::Open;
use hydrant_core::stream::Begun;
use hydrant_core::{Error, Result, Shard};

use super::observe::observe;
use crate::local::end::closing::Haste;
use crate::local::end::durable_end::durable;
use crate::local::end::fence;
use crate::local::end::shard_state::DurableState;
use crate::local::format::control::ControlSlot;
use crate::local::format::dedup_state::DedupState;
use crate::local::format::segment;
use crate::local::format::shard_end::ShardEnd;
use crate::local::stream_dir::StreamDir;

/// The origins that began in `shard` beyond the beginning of their upstream shard.
pub(crate) async fn find(stream_dir: &Arc<StreamDir>, shard: &Shard) -> Result<Vec<Begun>> {
    let file = stream_dir.control_file(&shard.id, Open::Read).await?;
    loop {
        let seen = match observe(stream_dir, shard, &file, |_| false).await {
            // What is durable can be read; appends are refused with the same words.
            Err(Error::Full { .. } | Error::Io { .. }) => durable(stream_dir, shard, &file).await?,
            seen => seen?.0,
        };
        if seen.is_undecided {
            fence::complete(stream_dir, shard, Haste::Waits).await?;
            continue;
        }
        let control = seen
            .control
            .ok_or_else(|| stream_dir.unrecovered(&shard.id))?;
        if let Some(marks) = marks(stream_dir, shard, control, seen.end).await? {
            return Ok(marks.begun());
        }
    }
}

/// The marks that hold at the durable end; `None` when the segment was removed meanwhile.
async fn marks(
    stream_dir: &StreamDir,
    shard: &Shard,
    control: ControlSlot,
    end: Option<ShardEnd>,
) -> Result<Option<DedupState>> {
    let segments = stream_dir.segments(&shard.id, end).await?;
    let Some(listed) = segments.iter().find(|one| one.number == control.active) else {
        // Retention leaves a closed shard nothing; its children know what it knew.
        if control.is_emptied() || segments.is_empty() {
            return Ok(Some(DedupState::new(shard.range)));
        }
        segment::newest(&stream_dir.shard_dir(&shard.id), &segments, control.active)?;
        return Ok(None);
    };
    let opened = stream_dir.segment(&shard.id, listed.number, listed.base);
    let Some(segment) = opened.await? else {
        return Ok(None);
    };
    let (head, marks) = segment.marks(stream_dir.incarnation, shard.range).await?;
    let known = DurableState::replayed(stream_dir, shard, control, (&segment, head, marks)).await?;
    Ok(Some(known.marks))
}
