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
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Error, Result, Shard};

use super::closing::{CloseOutcome, Closing, Haste, close};
use super::durable_end::{Durable, durable};
use super::fence_mark;
use super::shard_state::DurableState;
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::dedup_state::OriginInterval;
use crate::local::format::frame::intact;
use crate::local::format::manifest;
use crate::local::format::segment::{self, FrameWalk, ListedSegment, Segment};
use crate::local::format::segment_draft::Draft;
use crate::local::format::shard_end::ShardEnd;
use crate::local::format::skips::Skips;
use crate::local::metrics;
use crate::local::stream_dir::StreamDir;

/// How often the end is looked for while the holder makes progress. It does so for one group at most.
const TRIES_MAX: u32 = 100;

/// What became of a fence.
#[derive(Debug)]
pub(crate) enum Settled {
    /// The shard is closed; where it ends, if the manifest says so.
    Closed(Option<ShardEnd>),
    /// Another process replaces the manifest just now.
    Busy,
}

/// Fences a shard, or completes what others began: afterwards it is closed.
pub(crate) async fn settle(place: &Arc<StreamDir>, shard: &Shard, haste: Haste) -> Result<Settled> {
    let mut failed = false;
    loop {
        match try_settle(place, shard, haste).await {
            Ok(Some(settled)) => return Ok(settled),
            Ok(None) | Err(Error::Sealed { .. }) => {}
            Err(error @ Error::Io { .. }) if !failed && haste == Haste::Waits => {
                failed = true;
                tracing::warn!(shard = %shard.id, error = %error.report(), "cannot fence a shard; trying once more");
            }
            Err(error) => return Err(error),
        }
    }
}

/// `None` when another process has closed the shard meanwhile.
async fn try_settle(
    place: &Arc<StreamDir>,
    shard: &Shard,
    haste: Haste,
) -> Result<Option<Settled>> {
    let manifest = place.manifest().await?;
    if manifest.shard(&shard.id)?.closed {
        let end = manifest.ends.get(&shard.id).copied();
        return Ok(Some(Settled::Closed(end)));
    }
    if haste == Haste::Looks && manifest::try_lock(&place.ctx, &place.dir).await?.is_none() {
        return Ok(Some(Settled::Busy));
    }
    let early = match mutant::is(Mutant::EndBeforeMark) {
        true => Some(find_end(place, shard).await?),
        false => None,
    };
    fence_mark::create(place, &shard.id).await?;
    let parent = match early {
        Some(early) => early,
        None => find_end(place, shard).await?,
    };
    let end = parent.end;
    match close(place, &[parent], &[shard.range], haste).await? {
        CloseOutcome::Done(children) => {
            metrics::fenced(&place.stream.name, &shard.id);
            tracing::warn!(
                stream = %place.stream.name, shard = %shard.id, child = %children[0], next_offset = end.next_offset,
                "closed a shard whose lock is held by a process that does not go on"
            );
            Ok(Some(Settled::Closed(Some(end))))
        }
        CloseOutcome::ByOthers => Ok(None),
        CloseOutcome::Busy => Ok(Some(Settled::Busy)),
    }
}

/// As [`durable`]; sees to it that it is decided where a fenced shard ends, unless another process is about to, or this one
/// has no room or no right.
pub(crate) async fn decided(
    place: &Arc<StreamDir>,
    shard: &Shard,
    file: &ControlFile,
) -> Result<Durable> {
    let found = durable(place, shard, file).await?;
    if !matches!(found, Durable::Undecided) {
        return Ok(found);
    }
    match settle(place, shard, Haste::Looks).await {
        Ok(_) => durable(place, shard, file).await,
        Err(error @ (Error::Full { .. } | Error::Io { .. })) => {
            tracing::debug!(shard = %shard.id, error = %error.report(), "cannot decide where a fenced shard ends");
            Ok(Durable::Undecided)
        }
        Err(error) => Err(error),
    }
}

/// Where a marked shard may end, and its marks there: at or past all that was acknowledged in it, or ever will be.
pub(crate) async fn find_end(place: &Arc<StreamDir>, shard: &Shard) -> Result<Closing> {
    for _ in 0..TRIES_MAX {
        if let Some(found) = try_find_end(place, shard).await? {
            return Ok(found);
        }
        // Then its segments may be gone as well.
        if place.manifest().await?.shard(&shard.id)?.closed {
            return Err(Error::Sealed {
                shard: shard.id.clone(),
            });
        }
    }
    Err(Error::Corrupt {
        path: place.shard_dir(&shard.id),
        offset: 0,
        detail: "the newest segment of the shard is missing".to_owned(),
    })
}

/// What is looked at without the lock may change meanwhile: then there is no answer.
///
/// Bytes past the durable end may have been acknowledged all the same, when a power cut has taken back what the control
/// file said and the holder stands still before it has made that good. So this is what recovery does, but for cutting:
/// the holder may be about to do the same, and the name of the next segment is given once.
async fn try_find_end(place: &Arc<StreamDir>, shard: &Shard) -> Result<Option<Closing>> {
    let (disk, dir) = (&*place.ctx.disk, place.shard_dir(&shard.id));
    let file = ControlFile::open_to_read(disk, &dir).await?;
    let file = file.ok_or_else(|| place.gone())?;
    let control = file.read().await?;
    let Some((segment, is_named_only)) = newest(place, shard, control).await? else {
        return Ok(None);
    };
    // Who named it may have died before the name was durable; nor is the mark. Without one no process asks the manifest where the
    // shard ends, so it is durable before that says so.
    let synced = disk.sync_dir(&dir).await;
    synced.map_err(|e| Error::io("sync", &dir, e))?;
    let (head, marks) = segment.marks(place.incarnation, shard.range).await?;
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
    let len = segment.file.len().await;
    let len = len.map_err(|e| Error::io("read", &segment.path, e))?;
    let known = DurableState::replayed(place, shard, state, (&segment, head, marks)).await;
    if file.read().await? != control {
        return Ok(None);
    }
    let mut known = known?;
    let mut tail = IntactTail::default();
    let taken = tail
        .take(place, shard, (&segment, &mut known), len, !is_named_only)
        .await;
    let copied = tail.copy.take();
    if let Err(error) = taken {
        if let Some(draft) = copied {
            draft.remove(disk).await;
        }
        return Err(error);
    }
    let mut end = ShardEnd {
        segment: state.active,
        base: segment.base,
        bytes: tail.at.unwrap_or(state.durable_bytes),
        next_offset: tail.next_offset.unwrap_or(state.next_offset),
        records: state.records + tail.records,
        newest_arrival: tail.arrival.unwrap_or(state.newest_arrival),
    };
    if let Some(draft) = copied {
        let bytes = draft.len();
        match draft.publish_or_remove(disk).await {
            Ok(named) => {
                (end.segment, end.base, end.bytes) = (named.number, named.base, bytes);
            }
            Err(Error::Io { source, .. })
                if matches!(
                    source.kind(),
                    ErrorKind::AlreadyExists | ErrorKind::NotFound
                ) =>
            {
                return Ok(None);
            }
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
    place: &StreamDir,
    shard: &Shard,
    control: Option<ControlSlot>,
) -> Result<Option<(Segment, bool)>> {
    let (disk, dir) = (&*place.ctx.disk, place.shard_dir(&shard.id));
    let segments = segment::list(disk, &dir).await?;
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
    let (number, base) = (listed.number, listed.base);
    let opened = Segment::open(disk, &dir, number, base, Open::Read).await?;
    Ok(opened.map(|segment| (segment, is_named_only)))
}

/// Intact frames past a durable end.
#[derive(Debug, Default)]
struct IntactTail {
    /// The byte after the last one.
    at: Option<u64>,
    next_offset: Option<u64>,
    records: u64,
    arrival: Option<i64>,
    /// Where they are copied to.
    copy: Option<Draft>,
}

impl IntactTail {
    /// Takes the frames up to byte `len`, and their claims into the marks; `copies` has them in a draft as well.
    async fn take(
        &mut self,
        place: &StreamDir,
        shard: &Shard,
        (active, known): (&Segment, &mut DurableState),
        len: u64,
        copies: bool,
    ) -> Result<()> {
        let (control, none) = (known.control, Skips::default());
        let mut walk = FrameWalk::new(active, place.salt(), control.durable_bytes, len, &none);
        while let Some(Ok((at, header))) = walk.next().await? {
            if header.base != self.next_offset.unwrap_or(control.next_offset) {
                break;
            }
            let bytes = active.read(at, header.frame_len() as usize).await?;
            let Some(entry) = intact(&header, &bytes) else {
                break;
            };
            if copies {
                let copy = match &mut self.copy {
                    Some(copy) => copy,
                    none => none.insert(draft_after(place, shard, known).await?),
                };
                copy.append(vec![bytes]).await?;
            }
            if let Some(entry) = &entry {
                known.marks.apply(&OriginInterval::from(entry));
            }
            self.at = Some(walk.at());
            self.next_offset = Some(header.next_offset());
            self.records += u64::from(header.records);
            self.arrival = Some(header.arrival);
        }
        Ok(())
    }
}

/// A draft of the segment after a durable end. Its temporary name is its own: the holder may be making the same segment.
async fn draft_after(place: &StreamDir, shard: &Shard, known: &DurableState) -> Result<Draft> {
    let (head, bytes) = known.next_head(place);
    let (dir, nonce) = (place.shard_dir(&shard.id), place.ctx.random.identity());
    Draft::begin_as(&place.ctx, &dir, &nonce, head, bytes).await
}
