//! Where a shard ends for a process that does not hold its lock: where its control file says as long as it is open, and
//! once it is closed where the manifest says, for good.
//!
//! A [fenced](super::fence) shard may be written to by a holder that stood still and knows nothing of the fence. So who
//! has read the control file looks for the mark of a fence *afterwards*: the process that sets it reads the control
//! file later, and finds no less. With a mark only the manifest counts, also when the control file says less, since a
//! power cut may have taken back what it said.

use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Result, Shard};

use super::fence_mark;
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::segment;
use crate::local::format::shard_end::ShardEnd;
use crate::local::stream_dir::StreamDir;

/// What is known of a shard's durable end without its lock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Durable {
    /// What the control file says; `None` when no slot of it is intact.
    Moving(Option<ControlSlot>),
    /// The shard is closed and ends here.
    Final(ControlSlot, ShardEnd),
    /// The shard is fenced, and where it ends is not decided yet.
    Undecided,
}

/// The durable end of a shard.
pub(crate) async fn durable(
    place: &StreamDir,
    shard: &Shard,
    file: &ControlFile,
) -> Result<Durable> {
    let control = file.read().await?;
    let marked = !mutant::is(Mutant::FenceUnseen) && fence_mark::exists(place, &shard.id).await?;
    // Also of a sealed shard: what a failed append has cut may have come back with a power cut, past the end.
    let is_closing = control.is_none_or(|control| control.sealing);
    if !marked && !is_closing {
        return Ok(Durable::Moving(control));
    }
    let manifest = place.manifest().await?;
    Ok(match manifest.ends.get(&shard.id) {
        Some(end) => {
            let mut segments = Vec::new();
            if control.is_none() {
                segments = segment::list(&*place.ctx.disk, &place.shard_dir(&shard.id)).await?;
                segments.retain(|listed| end.includes(listed));
            }
            Durable::Final(end.control(control, &segments, place.incarnation), *end)
        }
        None if marked && !manifest.shard(&shard.id)?.closed => Durable::Undecided,
        None => Durable::Moving(control),
    })
}
