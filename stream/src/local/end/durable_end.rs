//! Where a shard ends for a process that does not hold its lock: where its control file says as long as it is open, and
//! once it is closed where the manifest says, for good.
//!
//! A [fenced](super::fence) shard may be written to by a holder that was stopped and does not know of the fence. So a
//! process that has read the control file looks for the fence file *afterwards*: the process that sets it reads the
//! control file later, and finds no less. With a mark only the manifest counts, also when the control file says less,
//! since a power cut may have taken back what it said.

use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Result, Shard};

use super::fence_mark;
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::shard_end::ShardEnd;
use crate::local::stream_dir::StreamDir;

/// What is known of a shard's durable end without its lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Durable {
    /// What the control file says, or of a closed shard should say; `None` when no slot of it is intact.
    pub(crate) control: Option<ControlSlot>,
    /// Where the shard ends, once it is closed.
    pub(crate) end: Option<ShardEnd>,
    /// The shard is fenced, and where it ends is not decided yet.
    pub(crate) is_undecided: bool,
}

/// The durable end of a shard.
pub(crate) async fn durable(
    stream_dir: &StreamDir,
    shard: &Shard,
    file: &ControlFile,
) -> Result<Durable> {
    let control = file.read().await?;
    let marked =
        !mutant::is(Mutant::FenceUnseen) && fence_mark::exists(stream_dir, &shard.id).await?;
    let mut found = Durable {
        control,
        end: None,
        is_undecided: false,
    };
    // Also of a sealed shard: what a failed append has cut may have come back with a power cut, past the end. And of one
    // that is known to be closed: a power cut may have taken its mark.
    let is_closing = shard.closed || control.is_none_or(|control| control.sealing);
    if !marked && !is_closing {
        return Ok(found);
    }
    match stream_dir.manifest().await?.ends.get(&shard.id) {
        Some(end) => {
            let segments = match control {
                Some(_) => Vec::new(),
                None => stream_dir.segments(&shard.id, Some(*end)).await?,
            };
            found.control = Some(end.control(control, &segments, stream_dir.incarnation));
            found.end = Some(*end);
        }
        None => found.is_undecided = marked,
    }
    Ok(found)
}
