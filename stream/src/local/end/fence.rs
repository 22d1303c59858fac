//! Fencing a shard whose lock is held by a process that stands still.
//!
//! A stopped process may hold the lock for minutes, in the middle of an append, and may go on at any time with the next
//! disk call. So no process takes the lock from it; the shard is closed where it stands, and a child continues:
//!
//! 1. The mark `HOME/shards/ID/fence` is made. It never goes away.
//! 2. *After that* the end is found without the lock, and the directory synced ([`find_end`]).
//! 3. The child is made with the marks as of that end, and the manifest replaced: it says that the shard is closed, and
//!    where it ends. This is the moment at which it happens; those who come later find it done.
//!
//! A writer looks for the mark *after* its update of the control file and before it acknowledges. No mark: a fencer
//! reads the control file later, so the end lies behind this append. A mark: the append counts exactly if the end
//! says so, and is refused otherwise, so that its sender asks the map and sends it to the child, whose marks know what
//! the shard has.
//!
//! A process that finds a mark without an end takes the steps 2 and 3: the fencer may have died or stand still itself.
//! What the holder does once it continues lies in the shard's directory, past the end, where no process looks. It has looked
//! for the mark before it began to make a segment (`write/shard_log.rs`), so there is one such
//! holder at most.

use std::io::ErrorKind;
use std::sync::Arc;

use hydrant_core::disk::Open;
use hydrant_core::error::OrCannot;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Error, Result, Shard};

use super::closing::{CloseOutcome, Closing, Haste, close};
use super::durable_end::{Durable, durable};
use super::fence_mark;
use super::intact_tail::IntactTail;
use super::shard_state::DurableState;
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::manifest;
use crate::local::format::segment::{self, ListedSegment, Segment};
use crate::local::format::segment_draft::Draft;
use crate::local::format::shard_end::ShardEnd;
use crate::local::metrics;
use crate::local::stream_dir::StreamDir;

/// How often the end is looked for while the holder makes progress. It does so for one group at most.
const TRIES_MAX: u32 = 100;

/// Fences a shard, or completes what others began: afterwards it is closed, and ends where this answers. `None` when
/// another process replaces the manifest just now.
pub(crate) async fn complete(
    stream_dir: &Arc<StreamDir>,
    shard: &Shard,
    haste: Haste,
) -> Result<Option<ShardEnd>> {
    let mut failed = false;
    loop {
        if let Some(end) = stream_dir.manifest().await?.ends.get(&shard.id) {
            return Ok(Some(*end));
        }
        match try_complete(stream_dir, shard, haste).await {
            Ok(CloseOutcome::Busy) => return Ok(None),
            Ok(CloseOutcome::Done(_) | CloseOutcome::ByOthers) | Err(Error::Sealed { .. }) => {}
            Err(error @ Error::Io { .. }) if !failed && haste == Haste::Waits => {
                failed = true;
                tracing::warn!(shard = %shard.id, error = %error.report(), "cannot fence a shard; trying once more");
            }
            Err(error) => return Err(error),
        }
    }
}

async fn try_complete(
    stream_dir: &Arc<StreamDir>,
    shard: &Shard,
    haste: Haste,
) -> Result<CloseOutcome> {
    if haste == Haste::Looks
        && manifest::try_lock(&stream_dir.ctx, &stream_dir.dir)
            .await?
            .is_none()
    {
        return Ok(CloseOutcome::Busy);
    }
    let early = match mutant::is(Mutant::EndBeforeMark) {
        true => Some(find_end(stream_dir, shard).await?),
        false => None,
    };
    fence_mark::create(stream_dir, &shard.id).await?;
    let parent = match early {
        Some(early) => early,
        None => find_end(stream_dir, shard).await?,
    };
    let next_offset = parent.end.next_offset;
    let closed = close(stream_dir, &[parent], &[shard.range], haste).await?;
    if let CloseOutcome::Done(children) = &closed {
        metrics::fenced(&stream_dir.stream.name, &shard.id);
        tracing::warn!(
            stream = %stream_dir.stream.name, shard = %shard.id, child = %children[0], next_offset,
            "closed a shard because the process that holds its lock has stopped making progress; a child shard \
             continues"
        );
    }
    Ok(closed)
}

/// As [`durable`]; sees to it that it is decided where a fenced shard ends, unless another process is about to, or this one
/// has no room or no right.
pub(crate) async fn decided(
    stream_dir: &Arc<StreamDir>,
    shard: &Shard,
    file: &ControlFile,
) -> Result<Durable> {
    let found = durable(stream_dir, shard, file).await?;
    if !found.is_undecided {
        return Ok(found);
    }
    match complete(stream_dir, shard, Haste::Looks).await {
        Ok(_) => durable(stream_dir, shard, file).await,
        Err(error @ (Error::Full { .. } | Error::Io { .. })) => {
            tracing::debug!(shard = %shard.id, error = %error.report(), "cannot decide where a fenced shard ends");
            Ok(found)
        }
        Err(error) => Err(error),
    }
}

/// Where a marked shard may end, and its marks there: at or past all that was acknowledged in it, or ever will be.
pub(crate) async fn find_end(stream_dir: &Arc<StreamDir>, shard: &Shard) -> Result<Closing> {
    for _ in 0..TRIES_MAX {
        if let Some(found) = try_find_end(stream_dir, shard).await? {
            return Ok(found);
        }
        // Then its segments may be gone as well.
        if stream_dir.manifest().await?.shard(&shard.id)?.closed {
            return Err(Error::Sealed {
                shard: shard.id.clone(),
            });
        }
    }
    let dir = stream_dir.shard_dir(&shard.id);
    Err(segment::missing(
        &dir,
        "the newest segment of the shard is missing",
    ))
}

/// What is looked at without the lock may change meanwhile: then there is no answer.
///
/// Bytes past the durable end may have been acknowledged all the same, when a power cut has taken back what the control
/// file said and the holder stands still before it has made that good. So this is what recovery does, but for cutting:
/// the holder may be about to do the same, and the name of the next segment is given once.
async fn try_find_end(stream_dir: &Arc<StreamDir>, shard: &Shard) -> Result<Option<Closing>> {
    let (disk, dir) = (&*stream_dir.ctx.disk, stream_dir.shard_dir(&shard.id));
    let file = stream_dir.control_file(&shard.id, Open::Read).await?;
    let control = file.read().await?;
    let Some((segment, is_named_only)) = newest(stream_dir, shard, control).await? else {
        return Ok(None);
    };
    // Who named it may have died before the name was durable; nor is the mark. Without one no process asks the manifest where the
    // shard ends, so it is durable before that says so.
    disk.sync_dir(&dir).await.or_cannot("sync", &dir)?;
    let (head, marks) = segment.marks(stream_dir.incarnation, shard.range).await?;
    let state = match control {
        Some(control) if !is_named_only => control,
        said => ControlSlot {
            active: head.number,
            durable_bytes: head.len,
            next_offset: head.base,
            records: head.records_before,
            newest_arrival: head.previous_newest,
            ..said.unwrap_or_default()
        },
    };
    let len = segment.len().await?;
    let known = DurableState::replayed(stream_dir, shard, state, (&segment, head, marks)).await;
    if file.read().await? != control {
        return Ok(None);
    }
    let mut known = known?;
    let next_head = (!is_named_only).then(|| known.next_head(stream_dir));
    let mut tail = IntactTail::new(&segment, stream_dir.salt(), known.control, len);
    let mut copied: Option<Draft> = None;
    let is_taken = |kind| matches!(kind, ErrorKind::AlreadyExists | ErrorKind::NotFound);
    loop {
        let (bytes, claim) = match tail.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) => {
                if let Some(draft) = copied {
                    draft.remove().await;
                }
                return Err(error);
            }
        };
        if let Some((head, start)) = &next_head {
            let draft = match &mut copied {
                Some(draft) => draft,
                none => none.insert(
                    Draft::begin(&stream_dir.ctx, &dir, head.clone(), start.clone()).await?,
                ),
            };
            draft.append(vec![bytes]).await?;
        }
        if let Some(claim) = &claim {
            known.marks.apply(claim);
        }
    }
    let mut end = ShardEnd::at(&tail.end, segment.base);
    if let Some(draft) = copied {
        let bytes = draft.len();
        match draft.publish().await {
            Ok(named) => {
                (end.segment, end.base, end.bytes) = (named.number, named.base, bytes);
            }
            Err(Error::Io { source, .. }) if is_taken(source.kind()) => return Ok(None),
            Err(error) => return Err(error),
        }
    } else if file.read().await? != control {
        return Ok(None);
    }
    Ok(Some(Closing {
        shard: shard.clone(),
        end,
        marks: known.marks,
    }))
}

/// The segment in which a shard ends, and whether the control file does not name it yet: then nothing was appended to it
/// since it got its name, and all of it is durable.
async fn newest(
    stream_dir: &StreamDir,
    shard: &Shard,
    control: Option<ControlSlot>,
) -> Result<Option<(Segment, bool)>> {
    let segments = stream_dir.segments(&shard.id, None).await?;
    let (listed, is_named_only) = match control {
        None => (segments.last(), false),
        Some(control) => {
            // A power cut may have taken back what the control file said of the segment before as well: this one may begin
            // behind its end. One that begins before it holds nothing that counts.
            let is_newer =
                |s: &&ListedSegment| s.number > control.active && s.base >= control.next_offset;
            match segments.last().filter(is_newer) {
                Some(newer) => (Some(newer), true),
                None => (segments.iter().find(|s| s.number == control.active), false),
            }
        }
    };
    let Some(listed) = listed else {
        return Ok(None);
    };
    let opened = stream_dir.segment(&shard.id, listed.number, listed.base);
    let opened = opened.await?;
    Ok(opened.map(|segment| (segment, is_named_only)))
}
