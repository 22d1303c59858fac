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
use crate::local::format::dedup_state::Marks;
use crate::local::format::shard_end::ShardEnd;
use crate::local::stream_dir::StreamDir;

/// The origins that began in `shard` beyond the beginning of their upstream shard.
pub(crate) async fn find(place: &Arc<StreamDir>, shard: &Shard) -> Result<Vec<Begun>> {
    let file = place.control_file(&shard.id, Open::Read).await?;
    loop {
        let seen = match observe(place, shard, &file, |_| false).await {
            // What is durable can be read; appends are refused with the same words.
            Err(Error::Full { .. } | Error::Io { .. }) => durable(place, shard, &file).await?,
            seen => seen?.0,
        };
        if seen.is_undecided {
            fence::settle(place, shard, Haste::Waits).await?;
            continue;
        }
        let control = seen.control.ok_or_else(|| place.unrecovered(&shard.id))?;
        if let Some(marks) = marks(place, shard, control, seen.end).await? {
            return Ok(marks.begun());
        }
    }
}

/// The marks that hold at the durable end; `None` when the segment was removed meanwhile.
async fn marks(
    place: &StreamDir,
    shard: &Shard,
    control: ControlSlot,
    end: Option<ShardEnd>,
) -> Result<Option<Marks>> {
    let segments = place.segments(&shard.id, end).await?;
    let Some(listed) = segments.iter().find(|one| one.number == control.active) else {
        // Retention leaves a closed shard nothing; its children know what it knew.
        return Ok((control.sealed || segments.is_empty()).then(|| Marks::new(shard.range)));
    };
    let opened = place.segment(&shard.id, listed.number, listed.base);
    let Some(segment) = opened.await? else {
        return Ok(None);
    };
    let (head, marks) = segment.marks(place.incarnation, shard.range).await?;
    let known = DurableState::replayed(place, shard, control, (&segment, head, marks)).await?;
    Ok(Some(known.marks))
}
