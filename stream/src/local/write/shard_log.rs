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
use hydrant_core::error::OrCannot;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Error, Result, Shard, clock};

use super::pulse::Pulse;
use crate::local::end::closing::Haste;
use crate::local::end::shard_state::DurableState;
use crate::local::end::{fence, fence_mark};
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::dedup_state::DedupState;
use crate::local::format::frame::FrameFault;
use crate::local::format::leftovers::remove_leftovers;
use crate::local::format::segment::{self, Head, ListedSegment, Segment};
use crate::local::format::segment_draft::Draft;
use crate::local::format::shard_end::ShardEnd;
use crate::local::metrics::ShardMetrics;
use crate::local::stream_dir::StreamDir;

/// One shard of an open stream.
#[derive(Debug)]
pub(crate) struct ShardLog {
    pub(crate) stream_dir: Arc<StreamDir>,
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
    pub(crate) fn new(stream_dir: &Arc<StreamDir>, shard: &Shard) -> Self {
        ShardLog {
            stream_dir: Arc::clone(stream_dir),
            shard: shard.clone(),
            dir: stream_dir.shard_dir(&shard.id),
            metrics: ShardMetrics::new(&stream_dir.stream.name, &shard.id),
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

    /// As [`ShardLog::take`], but leaves a shard alone whose holder stands still, or that is fenced: `None`.
    pub(crate) async fn take_or_leave(&mut self) -> Result<Option<LockedShard<'_>>> {
        match self.wait().await? {
            Some(lock) => self.take_under(lock).await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`ShardLog::take`], with the shard's lock taken already.
    pub(crate) async fn take_under(&mut self, lock: Box<dyn Lock>) -> Result<LockedShard<'_>> {
        let mut held = LockedShard {
            _pulse: Pulse::of(&self.stream_dir, &self.dir),
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
        if fence_mark::exists(&log.stream_dir, &log.shard.id).await? && !log.is_over {
            log.fence().await?;
            return Err(log.sealed());
        }
        Err(error)
    }

    /// Has the shard closed that was found fenced, or is to be; answers where it ends.
    pub(crate) async fn fence(&mut self) -> Result<Option<ShardEnd>> {
        let end = fence::complete(&self.stream_dir, &self.shard, Haste::Waits).await?;
        self.known = None;
        self.is_over = true;
        Ok(end)
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
        let stream_dir = Arc::clone(&self.log.stream_dir);
        let file = stream_dir
            .control_file(&self.log.shard.id, Open::Write)
            .await?;
        let control = file.read().await?;
        self.control = Some(file);
        if !self.catch_up(control).await? {
            if let Some(end) = self.end().await? {
                return self.load_closed(control, end).await;
            }
            self.load(control).await?;
        }
        self.recover_tail().await?;
        if self.known()?.control.sealing {
            // A reshard that died has left its intention.
            self.set_control(true, |control| control.sealing = false)
                .await?;
        }
        Ok(())
    }

    /// Where the shard ends, if it is closed or fenced; this sees to it that it is decided.
    async fn end(&mut self) -> Result<Option<ShardEnd>> {
        let stream_dir = Arc::clone(&self.log.stream_dir);
        if fence_mark::exists(&stream_dir, &self.log.shard.id).await? {
            return self.log.fence().await;
        }
        Ok(stream_dir
            .manifest()
            .await?
            .ends
            .get(&self.log.shard.id)
            .copied())
    }

    /// Refuses to make a segment in a shard that is fenced.
    async fn refuse_if_fenced(&self) -> Result<()> {
        match fence_mark::exists(&self.log.stream_dir, &self.log.shard.id).await? {
            true => Err(self.log.sealed()),
            false => Ok(()),
        }
    }

    /// How far the shard is known, and where the segment begins that is appended to.
    pub(crate) fn reached(&self) -> Option<(ControlSlot, u64)> {
        let known = self.log.known.as_ref()?;
        Some((known.control, known.base))
    }

    /// Reads a closed shard up to its end. What lies beyond goes: its holder has let the lock go or died.
    async fn load_closed(&mut self, said: Option<ControlSlot>, end: ShardEnd) -> Result<()> {
        let stream_dir = Arc::clone(&self.log.stream_dir);
        let (disk, dir) = (&*stream_dir.ctx.disk, self.log.dir.clone());
        remove_leftovers(disk, &dir, "").await?;
        let mut kept = segment::list(disk, &dir).await?;
        for listed in kept.extract_if(.., |listed| !end.includes(listed)) {
            let path = dir.join(segment::name(listed.number, listed.base));
            disk.remove(&path).await.or_cannot("remove", &path)?;
        }
        let Some(last) = kept.last().filter(|last| last.number == end.segment) else {
            // Retention has removed everything.
            self.log.known = None;
            return Ok(());
        };
        let opened = stream_dir.segment(&self.log.shard.id, last.number, last.base);
        let active = opened.await?.ok_or_else(|| stream_dir.gone())?;
        let marks = active.marks(stream_dir.incarnation, self.log.shard.range);
        let (head, marks) = marks.await?;
        let control = end.control(said, &kept, stream_dir.incarnation);
        self.know(control, active, (head, marks)).await
    }

    /// Notes what is known at a durable end, in a segment that begins like this.
    async fn know(
        &mut self,
        control: ControlSlot,
        active: Segment,
        (head, marks): (Head, DedupState),
    ) -> Result<()> {
        let ShardLog {
            stream_dir, shard, ..
        } = &*self.log;
        let known =
            DurableState::replayed(stream_dir, shard, control, (&active, head, marks)).await?;
        self.log.metrics.origins.set(known.marks.len() as f64);
        self.log.known = Some(known);
        self.active = Some(active);
        Ok(())
    }

    /// Whether a segment begins at this durable end, which the control file does not name: a dead holder left it.
    async fn is_followed(&self, end: ControlSlot) -> Result<bool> {
        let name = segment::name(end.active + 1, end.next_offset);
        let path = self.log.dir.join(name);
        let left = self.log.stream_dir.ctx.disk.stat(&path).await;
        Ok(left.or_cannot("look at", &path)?.is_some())
    }

    /// Reads the frames that other processes appended to the segment known; `false` if all has to be read again.
    async fn catch_up(&mut self, control: Option<ControlSlot>) -> Result<bool> {
        let (Some(known), Some(control)) = (&self.log.known, control) else {
            return Ok(false);
        };
        let (before, base) = (known.control, known.base);
        let same = before.counter == control.counter;
        let near = before.active == control.active && before.counter <= control.counter;
        if control.sealing || !same && !near {
            return Ok(false);
        }
        let stream_dir = Arc::clone(&self.log.stream_dir);
        let (disk, dir) = (&*stream_dir.ctx.disk, &self.log.dir);
        self.active = Segment::open(disk, dir, before.active, base, Open::Write).await?;
        let Some(active) = self.active.clone() else {
            return Ok(false);
        };
        if !same {
            let shard = self.log.shard.clone();
            let known = self.known()?;
            known.control = control;
            let from = before.durable_bytes;
            known.replay(&stream_dir, &shard, &active, from).await?;
        }
        let overlooked = mutant::is(Mutant::LeftoverOverlooked);
        let end = if overlooked { before } else { control };
        Ok(!self.is_followed(end).await?)
    }

    /// Reads everything again.
    async fn load(&mut self, control: Option<ControlSlot>) -> Result<()> {
        let stream_dir = Arc::clone(&self.log.stream_dir);
        let disk = &*stream_dir.ctx.disk;
        (self.log.known, self.active) = (None, None);
        remove_leftovers(disk, &self.log.dir, "").await?;
        let segments = segment::list(disk, &self.log.dir).await?;
        let named = control.map_or(0, |control| control.active);
        let newest = segment::newest(&self.log.dir, &segments, named)?;
        let opened = Segment::open(disk, &self.log.dir, newest.number, newest.base, Open::Write);
        let active = opened.await?.ok_or_else(|| stream_dir.gone())?;
        let marks = active.marks(stream_dir.incarnation, self.log.shard.range);
        let (head, marks) = marks.await?;
        let control = match control {
            Some(control) if control.active == newest.number => control,
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
        self.know(control, active, (head, marks)).await
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
        let synced = self.log.stream_dir.ctx.disk.sync_dir(dir).await;
        synced.or_cannot("sync", dir)?;
        // A power cut may bring back some segments that were removed, of which the head knows nothing.
        let kept = segment::kept_from(segments).unwrap_or(head.base);
        let control = ControlSlot {
            counter: older.map_or(0, |older| older.counter) + 1,
            incarnation: self.log.stream_dir.incarnation,
            sealing: older.is_some_and(|older| older.sealing),
            sealed: false,
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

    /// Writes a slot; `durably` syncs it.
    async fn write_control(&mut self, control: ControlSlot, durably: bool) -> Result<()> {
        let Some(file) = &self.control else {
            return Err(self.log.stream_dir.gone());
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

    /// Refused when the shard takes no more appends.
    pub(crate) fn refuse_if_sealed(&self) -> Result<()> {
        let known = self.log.known.as_ref();
        match known.is_none_or(|known| known.control.sealed) {
            true => Err(self.log.sealed()),
            false => Ok(()),
        }
    }

    /// Appends a group durably. After [`Error::Full`] the shard can be used further; what was durable before there was no
    /// room to say so, the next holder takes in. After any other error it cannot.
    pub(crate) async fn commit(&mut self, group: AppendGroup) -> Result<()> {
        let stream_dir = Arc::clone(&self.log.stream_dir);
        let known = self.known()?;
        let at = known.control.durable_bytes;
        let holds_frames = at > known.head_len;
        let large = holds_frames && at + group.bytes > stream_dir.settings.segment_bytes;
        let (tainted, oldest) = (known.tainted, known.oldest);
        let is_new = tainted || large || holds_frames && self.is_old(oldest);
        let appended = match is_new {
            true => self.start_segment(Some(&group)).await,
            false => self.append(at, &group).await,
        };
        if appended.is_err() {
            // What a dead writer left may be what fills the disk.
            let disk = &*stream_dir.ctx.disk;
            if let Err(error) = remove_leftovers(disk, &self.log.dir, "").await {
                tracing::debug!(error = %error.report(), "cannot remove what dead writers left");
            }
        }
        match stream_dir.unless_gone(appended).await {
            Ok(()) => {}
            Err(end @ (Error::Full { .. } | Error::Fatal { .. })) => return Err(end),
            Err(first) => {
                tracing::warn!(shard = %self.log.shard.id, error = %first.report(),
                    "an append failed; trying once more in a new segment");
                let started = self.start_segment(Some(&group)).await;
                match stream_dir.unless_gone(started).await {
                    Err(second) if !matches!(second, Error::Full { .. } | Error::Fatal { .. }) => {
                        return Err(self.poisoned(&second));
                    }
                    started => started?,
                }
            }
        }
        if is_new && let Err(error) = self.retain().await {
            tracing::warn!(shard = %self.log.shard.id, error = %error.report(), "cannot remove old segments");
        }
        Ok(())
    }

    /// Appends a group at byte `at`, where the segment ends.
    async fn append(&mut self, at: u64, group: &AppendGroup) -> Result<()> {
        let Segment { file, path, .. } = self.active()?;
        let started = clock::now();
        let mut written = file.write_at(at, group.parts.clone()).await;
        let mut action = "write";
        if written.is_ok() {
            (written, action) = (file.sync().await, "sync");
            let metrics = &self.log.metrics;
            metrics.syncs.increment(1);
            metrics.sync_seconds.record(started.elapsed());
            self.known()?.tainted = written.is_err();
        }
        if written.is_err() {
            // What was written does not count. If it cannot be cut, the next holder does it.
            drop(file.truncate(at).await);
        }
        written.or_cannot(action, &path)?;
        if let Err(error) = self.count(group).await {
            return Err(match error {
                full @ Error::Full { .. } => full,
                error => Error::fatal(format!(
                    "appends to shard `{}` are durable, and its control file cannot say so: {}: check the disk and start \
                     again, which takes them in",
                    self.log.shard.id,
                    error.report()
                )),
            });
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
        let stream_dir = &self.log.stream_dir;
        stream_dir.settings.segment_age().is_some_and(|age| {
            let now = stream_dir.age.now(stream_dir.ctx.clock.wall_micros());
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

    fn poisoned(&self, error: &Error) -> Error {
        Error::fatal(format!(
            "appends to shard `{}` could not be made durable in two attempts ({}): check the disk, then start again",
            self.log.shard.id,
            error.report()
        ))
    }

    /// Starts the next segment at the durable end. The frames are born with it: its head holds the marks that they make, and
    /// a head without them would turn records that were never stored into duplicates.
    pub(crate) async fn start_segment(&mut self, group: Option<&AppendGroup>) -> Result<()> {
        let mut draft = self.draft().await?;
        if let Some(group) = group {
            draft.append(group.parts.clone()).await?;
        }
        self.adopt(draft, group).await
    }

    /// A draft of the next segment, with the marks that hold at the durable end.
    pub(crate) async fn draft(&mut self) -> Result<Draft> {
        let stream_dir = Arc::clone(&self.log.stream_dir);
        self.refuse_if_fenced().await?;
        if let Err(error) = self.forget_the_dead().await {
            tracing::warn!(shard = %self.log.shard.id, error = %error.report(), "cannot look for dead producers");
        }
        let (head, bytes) = self.known()?.next_head(&stream_dir);
        Draft::begin(&stream_dir.ctx, &self.log.dir, head, bytes).await
    }

    /// Publishes a draft and appends to it from now on; `group` describes the frames that it was born with.
    pub(crate) async fn adopt(&mut self, draft: Draft, group: Option<&AppendGroup>) -> Result<()> {
        let (head_len, len) = (draft.head_len(), draft.len());
        let active = draft.publish().await?;
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
        let stream_dir = Arc::clone(&self.log.stream_dir);
        let mut over = BTreeSet::new();
        for run in self.known()?.marks.runs() {
            if stream_dir.runs.is_over(&*stream_dir.ctx.disk, run).await? {
                over.insert(run);
            }
        }
        self.known()?.marks.forget(&over);
        Ok(())
    }
}
