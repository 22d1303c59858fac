//! One shard as a process that appends to it knows it.
//!
//! Everything here happens under the shard's lock, which [`ShardLog::take`] waits for; what other processes did since
//! the last time is read from the control file and the frames. The lock is held until the sync has returned and the
//! control file says so. A holder that finds bytes past the durable end therefore knows that a holder died or could not
//! sync, and [recovers](super::recovery).
//!
//! A holder that stands still is [fenced](fence). One that is about to make a segment looks for that first, under
//! the lock: so none but the holder that was fenced makes one in a fenced shard, and it the one time that it has begun.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::disk::{Lock, Open};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Error, Result, Shard, clock};

use super::pulse::Pulse;
use crate::local::end::closing::Haste;
use crate::local::end::fence::{self, Settled};
use crate::local::end::fence_mark;
use crate::local::end::shard_state::{DurableState, replay};
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::frame::FrameFault;
use crate::local::format::leftovers::remove_leftovers;
use crate::local::format::segment::{self, Head, ListedSegment, Segment};
use crate::local::format::segment_draft::Draft;
use crate::local::format::shard_end::ShardEnd;
use crate::local::format::skips::Skips;
use crate::local::metrics::ShardMetrics;
use crate::local::stream_dir::StreamDir;

/// One shard of an open stream.
#[derive(Debug)]
pub(crate) struct ShardLog {
    pub(crate) place: Arc<StreamDir>,
    pub(crate) shard: Shard,
    pub(crate) dir: PathBuf,
    pub(crate) metrics: ShardMetrics,
    known: Option<DurableState>,
    /// The one who has the turn stands still.
    pub(crate) turn_is_stuck: bool,
    /// The shard was found fenced, and is closed.
    is_over: bool,
}

/// Frames that are appended together.
#[derive(Debug, Default)]
pub(crate) struct AppendGroup {
    /// Their bytes.
    pub(crate) parts: Vec<Bytes>,
    /// The sum of them.
    pub(crate) bytes: u64,
    /// The offset after their last slot.
    pub(crate) next_offset: u64,
    /// Records in them.
    pub(crate) records: u64,
    /// When they are appended.
    pub(crate) arrival: i64,
}

/// What became of a wait for a shard's lock.
#[derive(Debug)]
pub(crate) enum LockOutcome<'a> {
    /// It is held.
    Held(LockedShard<'a>),
    /// Its holder stands still, or the shard is fenced.
    Stuck,
}

/// A shard whose lock is held, with its files, which are open only as long: a process has many more shards than it
/// appends to at a time.
#[derive(Debug)]
pub(crate) struct LockedShard<'a> {
    pub(crate) log: &'a mut ShardLog,
    control: Option<ControlFile>,
    active: Option<Segment>,
    _pulse: Pulse,
    _lock: Box<dyn Lock>,
}

impl ShardLog {
    /// A shard of which nothing is known yet.
    pub(crate) fn new(place: &Arc<StreamDir>, shard: &Shard) -> Self {
        ShardLog {
            place: Arc::clone(place),
            shard: shard.clone(),
            dir: place.shard_dir(&shard.id),
            metrics: ShardMetrics::new(&place.stream.name, &shard.id),
            known: None,
            turn_is_stuck: false,
            is_over: false,
        }
    }

    /// Waits for the shard's lock and learns what others did; cuts or rewrites what a dead holder left. A shard whose
    /// holder stands still is fenced.
    pub(crate) async fn take(&mut self) -> Result<LockedShard<'_>> {
        if self.is_over {
            return Err(self.sealed());
        }
        let lock = loop {
            if let Some(lock) = self.wait().await? {
                break lock;
            }
            match self.fence().await {
                Ok(_) => return Err(self.sealed()),
                // There is no room for a child: the holder is waited for, as long as that is so.
                Err(Error::Full { .. }) => {}
                Err(error) => return Err(error),
            }
        };
        self.take_under(lock).await
    }

    /// As [`ShardLog::take`], but leaves a shard alone whose holder stands still.
    pub(crate) async fn take_or_leave(&mut self) -> Result<LockOutcome<'_>> {
        match self.wait().await? {
            Some(lock) => self.take_under(lock).await.map(LockOutcome::Held),
            None => Ok(LockOutcome::Stuck),
        }
    }

    /// As [`ShardLog::take`], with the shard's lock taken already.
    pub(crate) async fn take_under(&mut self, lock: Box<dyn Lock>) -> Result<LockedShard<'_>> {
        let mut held = LockedShard {
            _pulse: Pulse::of(&self.place, &self.dir),
            log: self,
            control: None,
            active: None,
            _lock: lock,
        };
        let Err(error) = held.learn().await else {
            return Ok(held);
        };
        let LockedShard {
            log,
            control,
            active,
            _pulse,
            _lock,
        } = held;
        log.known = None;
        drop((control, active, _pulse, _lock));
        // A fencer and the holder may each be in the way of the other.
        if fence_mark::exists(&log.place, &log.shard.id).await? && !log.is_over {
            log.fence().await?;
            return Err(log.sealed());
        }
        Err(error)
    }

    /// Has the shard closed that was found fenced, or is to be; answers where it ends.
    pub(crate) async fn fence(&mut self) -> Result<Option<ShardEnd>> {
        let settled = fence::settle(&self.place, &self.shard, Haste::Waits).await?;
        self.known = None;
        self.is_over = true;
        match settled {
            Settled::Closed(end) => Ok(end),
            Settled::Busy => Ok(None),
        }
    }

    /// The same error, unless it is about a shard that was found fenced: that takes no appends anyway.
    pub(crate) fn unless_over(&self, error: Error) -> Error {
        match self.is_over {
            true => self.sealed(),
            false => error,
        }
    }

    pub(crate) fn sealed(&self) -> Error {
        Error::Sealed {
            shard: self.shard.id.clone(),
        }
    }
}

impl LockedShard<'_> {
    /// What is known. The state is there from [`ShardLog::take`] on.
    pub(crate) fn known(&mut self) -> Result<&mut DurableState> {
        let shard = &self.log.shard.id;
        self.log
            .known
            .as_mut()
            .ok_or_else(|| Error::fatal(format!("shard `{shard}` has no data left")))
    }

    /// What is known; `None` when retention has removed everything of a sealed shard.
    pub(crate) fn known_if_any(&mut self) -> Option<&mut DurableState> {
        self.log.known.as_mut()
    }

    /// The segment that is appended to.
    pub(crate) fn active(&self) -> Result<Segment> {
        let shard = &self.log.shard.id;
        let active = self.active.clone();
        active.ok_or_else(|| Error::fatal(format!("shard `{shard}` has no segment left")))
    }

    async fn learn(&mut self) -> Result<()> {
        let place = Arc::clone(&self.log.place);
        let disk = &*place.ctx.disk;
        let file = ControlFile::open(disk, &self.log.dir).await?;
        let file = file.ok_or_else(|| place.gone())?;
        let control = file.read().await?;
        self.control = Some(file);
        let caught_up = match (&self.log.known, control) {
            (Some(known), Some(control)) => {
                let before = known.control;
                let same = before.counter == control.counter;
                let near = before.active == control.active && before.counter <= control.counter;
                let (dir, base) = (&self.log.dir, known.base);
                self.active = match same || near {
                    true => Segment::open(disk, dir, before.active, base, Open::Write).await?,
                    false => None,
                };
                if self.active.is_some() && !same {
                    self.catch_up(control).await?;
                }
                let overlooked = mutant::is(Mutant::LeftoverOverlooked);
                let end = if overlooked { before } else { control };
                self.active.is_some() && !self.is_followed(end).await?
            }
            _ => false,
        };
        if !caught_up {
            if let Some(end) = self.end().await? {
                return self.load_closed(control, end).await;
            }
            self.load(control).await?;
        }
        if self.log.known.is_some() {
            self.recover_tail().await?;
            self.settle_sealing().await?;
        }
        Ok(())
    }

    /// Where the shard ends, if it is fenced; this sees to it that it is decided.
    async fn end(&mut self) -> Result<Option<ShardEnd>> {
        let place = Arc::clone(&self.log.place);
        if !fence_mark::exists(&place, &self.log.shard.id).await? {
            return Ok(None);
        }
        let end = self.log.fence().await?;
        self.log.shard.closed = true;
        Ok(end)
    }

    /// Refuses to make a segment in a shard that is fenced.
    async fn refuse_if_fenced(&self) -> Result<()> {
        match fence_mark::exists(&self.log.place, &self.log.shard.id).await? {
            true => Err(self.log.sealed()),
            false => Ok(()),
        }
    }

    /// How far the shard is known, and where the segment begins that is appended to.
    pub(crate) fn reached(&self) -> Option<(ControlSlot, u64)> {
        let known = self.log.known.as_ref()?;
        Some((known.control, known.base))
    }

    /// Reads a fenced shard up to its end. What lies beyond goes: its holder has let the lock go or died.
    async fn load_closed(&mut self, said: Option<ControlSlot>, end: ShardEnd) -> Result<()> {
        let place = Arc::clone(&self.log.place);
        let (disk, dir) = (&*place.ctx.disk, self.log.dir.clone());
        remove_leftovers(disk, &dir, "").await?;
        let mut kept = Vec::new();
        for listed in segment::list(disk, &dir).await? {
            if end.includes(&listed) {
                kept.push(listed);
                continue;
            }
            let path = dir.join(segment::name(listed.number, listed.base));
            let removed = disk.remove(&path).await;
            removed.map_err(|e| Error::io("remove", &path, e))?;
        }
        let Some(last) = kept.last().filter(|last| last.number == end.segment) else {
            // Retention has removed everything.
            return Ok(());
        };
        let opened = Segment::open(disk, &dir, last.number, last.base, Open::Read);
        let active = opened.await?.ok_or_else(|| place.gone())?;
        let (head, marks) = active
            .marks(place.incarnation, self.log.shard.range)
            .await?;
        let control = end.control(said, &kept, place.incarnation);
        let found = (&active, head, marks);
        self.log.known =
            Some(DurableState::replayed(&place, &self.log.shard, control, found).await?);
        self.active = Some(active);
        Ok(())
    }

    /// Whether a segment begins at this durable end, which the control file does not name: a dead holder left it.
    async fn is_followed(&self, end: ControlSlot) -> Result<bool> {
        let name = segment::name(end.active + 1, end.next_offset);
        let path = self.log.dir.join(name);
        let left = self.log.place.ctx.disk.stat(&path).await;
        Ok(left.map_err(|e| Error::io("look at", &path, e))?.is_some())
    }

    /// Reads the frames that other processes appended to the segment known.
    async fn catch_up(&mut self, control: ControlSlot) -> Result<()> {
        let place = Arc::clone(&self.log.place);
        let skips = Skips::read(&place.ctx, &self.log.dir).await?;
        let active = self.active()?;
        let known = self.known()?;
        let from = known.control.durable_bytes;
        known.control = control;
        replay(known, &active, place.salt(), &skips, from).await
    }

    /// Reads everything again.
    async fn load(&mut self, control: Option<ControlSlot>) -> Result<()> {
        let place = Arc::clone(&self.log.place);
        let disk = &*place.ctx.disk;
        (self.log.known, self.active) = (None, None);
        remove_leftovers(disk, &self.log.dir, "").await?;
        let segments = segment::list(disk, &self.log.dir).await?;
        let Some(newest) = segments.last() else {
            return match control {
                // Retention has removed everything of a shard that takes no more appends.
                Some(control) if control.sealed => Ok(()),
                _ => Err(self.missing("all segments of the shard are missing")),
            };
        };
        let opened = Segment::open(disk, &self.log.dir, newest.number, newest.base, Open::Write);
        let active = opened.await?.ok_or_else(|| place.gone())?;
        let (head, marks) = active
            .marks(place.incarnation, self.log.shard.range)
            .await?;
        let control = match control {
            Some(control) if control.active == newest.number => control,
            Some(control) if control.active > newest.number => {
                return Err(self.missing("the newest segment of the shard is missing"));
            }
            // What the control file says was acknowledged: no segment may give its offsets again.
            Some(control)
                if control.next_offset > head.base && !mutant::is(Mutant::LeftoverOverlooked) =>
            {
                return Err(active.begins_too_early(control.next_offset));
            }
            older => self.control_from_head(older, &head, &segments).await?,
        };
        if newest.len < control.durable_bytes {
            return Err(active.corrupt(
                newest.len,
                FrameFault("durable bytes are missing at the end"),
            ));
        }
        let found = (&active, head, marks);
        let known = DurableState::replayed(&place, &self.log.shard, control, found).await?;
        self.log.metrics.origins(known.marks.len());
        self.log.known = Some(known);
        self.active = Some(active);
        Ok(())
    }

    /// The control file fell behind its newest segment, or is torn: the segment's head says what was durable.
    async fn control_from_head(
        &mut self,
        older: Option<ControlSlot>,
        head: &Head,
        segments: &[ListedSegment],
    ) -> Result<ControlSlot> {
        // Who made the segment may have died before its name was durable.
        let dir = &self.log.dir;
        let synced = self.log.place.ctx.disk.sync_dir(dir).await;
        synced.map_err(|e| Error::io("sync", dir, e))?;
        let manifest = self.log.place.manifest().await?;
        let closed = manifest.shard(&self.log.shard.id)?.closed;
        // A power cut may bring back some segments that were removed, of which the head knows nothing.
        let kept = segment::kept_from(segments).unwrap_or(head.base);
        let control = ControlSlot {
            counter: older.map_or(0, |older| older.counter) + 1,
            incarnation: self.log.place.incarnation,
            sealing: older.is_some_and(|older| older.sealing),
            sealed: closed,
            active: head.number,
            durable_bytes: head.len,
            next_offset: head.base,
            first_offset: older.map_or(kept, |older| older.first_offset.max(kept)),
            records: head.records_before,
            newest_arrival: head.previous_newest,
        };
        self.write_control(control, true).await?;
        Ok(control)
    }

    fn missing(&self, detail: &str) -> Error {
        Error::Corrupt {
            path: self.log.dir.clone(),
            offset: 0,
            detail: detail.to_owned(),
        }
    }

    /// Writes a slot; `durably` syncs it.
    async fn write_control(&mut self, control: ControlSlot, durably: bool) -> Result<()> {
        let Some(file) = &self.control else {
            return Err(self.log.place.gone());
        };
        file.write(&control).await?;
        if durably {
            file.sync().await?;
        }
        Ok(())
    }

    /// Changes what the control file says.
    pub(crate) async fn set_control(
        &mut self,
        durably: bool,
        change: impl FnOnce(&mut ControlSlot),
    ) -> Result<()> {
        let mut control = self.known()?.control;
        change(&mut control);
        control.counter += 1;
        self.write_control(control, durably).await?;
        self.known()?.control = control;
        Ok(())
    }

    /// A reshard that died has left its intention: the manifest says whether it happened.
    async fn settle_sealing(&mut self) -> Result<()> {
        let control = self.known()?.control;
        if control.sealed || !control.sealing && !self.log.shard.closed {
            return Ok(());
        }
        let manifest = self.log.place.manifest().await?;
        let closed = manifest.shard(&self.log.shard.id)?.closed;
        self.set_control(true, |control| {
            control.sealing = closed;
            control.sealed = closed;
        })
        .await
    }

    /// Refused when the shard takes no more appends.
    pub(crate) fn refuse_if_sealed(&mut self) -> Result<()> {
        let sealed = match &self.log.known {
            Some(known) => known.control.sealed,
            None => true,
        };
        if sealed {
            return Err(Error::Sealed {
                shard: self.log.shard.id.clone(),
            });
        }
        Ok(())
    }

    /// Appends a group durably. On [`Error::Full`] nothing was appended and the shard can be used further; after any
    /// other error it cannot.
    pub(crate) async fn commit(&mut self, group: AppendGroup) -> Result<()> {
        let segment_bytes = self.log.place.settings.segment_bytes;
        let known = self.known()?;
        let at = known.control.durable_bytes;
        let holds_frames = at > known.head_len;
        let large = holds_frames && at + group.bytes > segment_bytes;
        let (tainted, oldest) = (known.tainted, known.oldest);
        if tainted || large || holds_frames && self.is_old(oldest) {
            return self.commit_in_new_segment(group).await;
        }
        let Segment { file, path, .. } = self.active()?;
        let started = clock::now();
        let mut failed = file.write_at(at, group.parts.clone()).await.err();
        let written = failed.is_none();
        if written {
            failed = file.sync().await.err();
            self.log.metrics.synced(started.elapsed());
        }
        if let Some(error) = failed {
            let error = Error::io(if written { "sync" } else { "write" }, &path, error);
            self.known()?.tainted |= written;
            // What was written does not count. If it cannot be cut, the next holder does it.
            let cut = file.truncate(at).await;
            if matches!(error, Error::Full { .. }) {
                return Err(error);
            }
            tracing::warn!(shard = %self.log.shard.id, error = %error.report(), cut = cut.is_ok(),
                "an append failed; trying once in a new segment");
            let parts = group.parts.clone();
            return match self.start_segment(parts, Some(&group)).await {
                Err(second @ Error::Full { .. }) => Err(second),
                Err(second) => Err(self.poisoned(&second)),
                Ok(()) => Ok(()),
            };
        }
        if let Err(error) = self.count(&group).await {
            return Err(self.poisoned(&error));
        }
        let known = self.known()?;
        if known.oldest == 0 {
            known.oldest = group.arrival;
        }
        known.newest = known.newest.max(group.arrival);
        Ok(())
    }

    /// Whether a segment whose first frame was appended then is followed by a new one, so that it can age.
    fn is_old(&self, first: i64) -> bool {
        let place = &self.log.place;
        place.settings.segment_age().is_some_and(|age| {
            let now = place.age.now(place.ctx.clock.wall_micros());
            now.is_some_and(|now| now.saturating_sub(first) >= age)
        })
    }

    /// Says that a group is durable at the end of the segment.
    pub(crate) async fn count(&mut self, group: &AppendGroup) -> Result<()> {
        self.set_control(false, |control| {
            control.durable_bytes += group.bytes;
            control.next_offset = group.next_offset;
            control.records += group.records;
            control.newest_arrival = group.arrival;
        })
        .await
    }

    /// The frames are born with their segment: its head holds the marks that they make, and a head without them would
    /// turn records that were never stored into duplicates.
    async fn commit_in_new_segment(&mut self, group: AppendGroup) -> Result<()> {
        let place = Arc::clone(&self.log.place);
        let started = self.start_segment(group.parts.clone(), Some(&group)).await;
        match place.unless_gone(started).await {
            Ok(()) => {}
            Err(end @ (Error::Full { .. } | Error::Fatal { .. })) => return Err(end),
            Err(first) => {
                tracing::warn!(shard = %self.log.shard.id, error = %first.report(),
                    "a new segment failed; trying once more");
                let started = self.start_segment(group.parts.clone(), Some(&group)).await;
                match place.unless_gone(started).await {
                    Ok(()) => {}
                    Err(end @ (Error::Full { .. } | Error::Fatal { .. })) => return Err(end),
                    Err(second) => return Err(self.poisoned(&second)),
                }
            }
        }
        if let Err(error) = self.retain().await {
            tracing::warn!(shard = %self.log.shard.id, error = %error.report(), "cannot remove old segments");
        }
        Ok(())
    }

    fn poisoned(&self, error: &Error) -> Error {
        Error::fatal(format!(
            "shard `{}` could not make appends durable, twice: {}: check the disk and start again",
            self.log.shard.id,
            error.report()
        ))
    }

    /// Starts the next segment at the durable end, with `parts` as its first frames, which `group` describes.
    pub(crate) async fn start_segment(
        &mut self,
        parts: Vec<Bytes>,
        group: Option<&AppendGroup>,
    ) -> Result<()> {
        let started = self.try_start_segment(parts, group).await;
        if started.is_err() {
            let disk = &*self.log.place.ctx.disk;
            if let Err(error) = remove_leftovers(disk, &self.log.dir, "").await {
                tracing::debug!(error = %error.report(), "cannot remove an unfinished segment");
            }
        }
        started
    }

    async fn try_start_segment(
        &mut self,
        parts: Vec<Bytes>,
        group: Option<&AppendGroup>,
    ) -> Result<()> {
        let mut draft = self.draft().await?;
        if !parts.is_empty() {
            draft.append(parts).await?;
        }
        self.adopt(draft, group).await
    }

    /// A draft of the next segment, with the marks that hold at the durable end.
    pub(crate) async fn draft(&mut self) -> Result<Draft> {
        let place = Arc::clone(&self.log.place);
        self.refuse_if_fenced().await?;
        if let Err(error) = self.forget_the_dead().await {
            tracing::warn!(shard = %self.log.shard.id, error = %error.report(), "cannot look for dead producers");
        }
        let (head, bytes) = self.known()?.next_head(&place);
        Draft::begin(&place.ctx, &self.log.dir, head, bytes).await
    }

    /// Publishes a draft and appends to it from now on; `group` describes the frames that it was born with.
    pub(crate) async fn adopt(&mut self, draft: Draft, group: Option<&AppendGroup>) -> Result<()> {
        let (head_len, len) = (draft.head_len(), draft.len());
        let active = draft.publish(&*self.log.place.ctx.disk).await?;
        let (number, base) = (active.number, active.base);
        let old = self.active.replace(active);
        let known = self.known()?;
        let end = known.control.durable_bytes;
        known.base = base;
        known.head_len = head_len;
        known.oldest = group.map_or(0, |group| group.arrival);
        known.newest = known.oldest;
        known.tainted = false;
        self.set_control(true, |control| {
            control.active = number;
            control.durable_bytes = len;
            if let Some(group) = group {
                control.next_offset = group.next_offset;
                control.records += group.records;
                control.newest_arrival = group.arrival;
            }
        })
        .await?;
        // What follows the durable end there counts no more, cut or not.
        if let Some(old) = old
            && let Err(error) = old.file.truncate(end).await
        {
            tracing::debug!(path = %old.path.display(), %error, "cannot cut a finished segment");
        }
        Ok(())
    }

    /// Ends the knowledge that cannot be trusted after an error.
    pub(crate) fn forget(&mut self) {
        self.log.known = None;
    }

    /// Forgets the marks of runs that are over.
    pub(crate) async fn forget_the_dead(&mut self) -> Result<()> {
        let place = Arc::clone(&self.log.place);
        let mut over = BTreeSet::new();
        for run in self.known()?.marks.runs() {
            if place.runs.is_over(&*place.ctx.disk, run).await? {
                over.insert(run);
            }
        }
        self.known()?.marks.forget(&over);
        Ok(())
    }
}
