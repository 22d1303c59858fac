//! Removing old segments.
//!
//! Whole segments go, oldest first; the segment that is appended to stays. The first offset kept is written, durably,
//! before the files are removed, so that readers find a gap and not missing files.
//!
//! Each process that has the stream open for writing keeps all its shards: quiet ones age as well, and so
//! do closed ones. A segment that is appended to is followed by a new one when its first frame is old, and by an empty
//! one when all of it is. The bytes that a closed shard may keep are what its children do not hold yet. Data ages by the
//! [stream's time](crate::local::stream_time), not by the wall clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::admin::Trim;
use hydrant_core::disk::{LockKind, Open};
use hydrant_core::error::OrCannot;
use hydrant_core::{Error, Position, Result, Shard, ShardId, clock};

use super::shard_log::{LockedShard, ShardLog};
use crate::local::end::durable_end::durable;
use crate::local::format::control::ControlSlot;
use crate::local::format::manifest::StreamSettings;
use crate::local::format::segment::{self, Head, ListedSegment};
use crate::local::stream_dir::StreamDir;
use crate::local::stream_time::CLOCK_IS_SET;

/// Data of one age lies in so many segments or more, so that it goes that much later than it could.
const SEGMENTS_PER_AGE: u64 = 8;
/// The shortest time between two looks, and between two segments by age.
const STEP_MIN: Duration = Duration::from_secs(1);
/// The longest time between two looks.
const STEP_MAX: Duration = Duration::from_secs(3600);

impl StreamSettings {
    /// After which time a segment is followed by a new one because of its age, microseconds.
    pub(crate) fn segment_age(&self) -> Option<i64> {
        let age = self.retention_micros? / SEGMENTS_PER_AGE;
        let least = u64::try_from(STEP_MIN.as_micros()).unwrap_or(u64::MAX);
        Some(i64::try_from(age.max(least)).unwrap_or(i64::MAX))
    }

    /// How often the shards are looked at; `None` when everything is kept.
    fn look(&self) -> Option<Duration> {
        let by_age = self.retention_micros.map(Duration::from_micros);
        let by_age = by_age.map(|age| age / SEGMENTS_PER_AGE as u32);
        let by_bytes = self.retention_bytes.map(|_| STEP_MAX);
        let step = by_age.into_iter().chain(by_bytes).min()?;
        Some(step.clamp(STEP_MIN, STEP_MAX))
    }
}

/// Removes what the stream's retention does not keep, of all shards, now and again and again.
pub(crate) async fn keep(stream_dir: Arc<StreamDir>) {
    let Some(step) = stream_dir.settings.look() else {
        return;
    };
    loop {
        if let Err(error) = look(&stream_dir, step).await {
            let stream = &stream_dir.stream.name;
            tracing::warn!(%stream, error = %error.report(), "cannot remove old segments");
        }
        clock::sleep(step).await;
    }
}

/// Looks at each shard once. What is damaged in one keeps nothing in the others.
async fn look(stream_dir: &Arc<StreamDir>, step: Duration) -> Result<()> {
    let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX);
    let now = match stream_dir.settings.retention_micros {
        Some(_) => stream_dir.find_age(step).await?,
        None => None,
    };
    let manifest = stream_dir.manifest().await?;
    // The bytes that each key has at least in a shard and in those that came after it.
    let mut held: BTreeMap<&ShardId, u64> = BTreeMap::new();
    // Children are younger than their parents, and have the later names.
    for shard in manifest.shards.all().iter().rev() {
        let found = match ShardSegments::new(stream_dir, shard).await {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            // There is no stream any more.
            Err(error @ Error::Fatal { .. }) => return Err(error),
            Err(error) => {
                cannot_remove(shard, &error);
                continue;
            }
        };
        let of = |child: &Shard| held.get(&child.id).copied().unwrap_or_default();
        let after = match shard.closed {
            true => manifest.shards.children(&shard.id).map(of).min(),
            false => None,
        };
        let after = after.unwrap_or_default();
        let bytes = stream_dir.settings.retention_bytes;
        let total = after.saturating_add(found.bytes());
        let with_one_more = total.saturating_add(stream_dir.settings.segment_bytes);
        let is_full = bytes.is_some_and(|most| with_one_more > most);
        // It has removed data of its own to keep within its bytes: what is older goes first.
        let has_removed = found.control.first_offset > 0 && is_full;
        held.insert(&shard.id, if has_removed { u64::MAX } else { total });
        let mut limits = TrimLimits::of(&stream_dir.settings, now);
        limits.bytes = bytes.map(|bytes| bytes.saturating_sub(after));
        let trimmed = async {
            limits.undated = found.undated(limits).await?;
            found.trim(limits).await
        };
        if let Err(error) = trimmed.await {
            cannot_remove(shard, &error);
        }
    }
    Ok(())
}

fn cannot_remove(shard: &Shard, error: &Error) {
    tracing::warn!(shard = %shard.id, error = %error.report(), "cannot remove old segments");
}

/// A shard as it is found without its lock.
struct ShardSegments<'a> {
    stream_dir: &'a Arc<StreamDir>,
    shard: &'a Shard,
    control: ControlSlot,
    segments: Vec<ListedSegment>,
}

impl<'a> ShardSegments<'a> {
    /// `None` while the control file cannot be read.
    async fn new(stream_dir: &'a Arc<StreamDir>, shard: &'a Shard) -> Result<Option<Self>> {
        let file = stream_dir.control_file(&shard.id, Open::Read).await?;
        let found = durable(stream_dir, shard, &file).await?;
        let Some(control) = found.control.filter(|_| !found.is_undecided) else {
            return Ok(None);
        };
        Ok(Some(ShardSegments {
            stream_dir,
            shard,
            control,
            segments: stream_dir.segments(&shard.id, found.end).await?,
        }))
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.len).sum()
    }

    /// The offset after what is as old as data may become, of the data without date at the shard's end.
    async fn undated(&self, limits: TrimLimits) -> Result<Option<u64>> {
        let age = self.stream_dir.settings.retention_micros;
        let Some(age) = age.map(Duration::from_micros) else {
            return Ok(None);
        };
        let is_dated = self.stamps(limits).arrived(0).await?.is_some();
        let next = (!is_dated).then_some(self.control.next_offset);
        Ok(self.stream_dir.age.undated(&self.shard.id, next, age))
    }

    fn stamps(&self, limits: TrimLimits) -> Stamps<'_> {
        Stamps {
            stream_dir: self.stream_dir,
            shard: &self.shard.id,
            segments: &self.segments,
            newest: self.control.newest_arrival,
            times: limits.times,
        }
    }

    /// Whether the oldest segment goes, as far as can be said.
    async fn is_due(&self, limits: TrimLimits) -> Result<bool> {
        let Some(oldest) = self.segments.first() else {
            return Ok(false);
        };
        let may_go = self.control.sealed || self.segments.len() > 1;
        if may_go && limits.bytes.is_some_and(|most| self.bytes() > most) {
            return Ok(true);
        }
        if !limits.are_of_age() {
            return Ok(false);
        }
        let stamps = self.stamps(limits);
        let Some(head) = stamps.head(0).await? else {
            return Ok(false);
        };
        let holds_frames = oldest.len > head.len;
        let next = self.segments.get(1).map(|next| next.base);
        let next = next.unwrap_or(self.control.next_offset);
        Ok((may_go || holds_frames) && limits.are_passed(next, stamps.arrived(0).await?))
    }

    /// Removes what is too much. The lock is not taken for nothing, and not waited for: the process that appends now removes
    /// what is old when it starts its next segment, or the next look does.
    async fn trim(&self, limits: TrimLimits) -> Result<()> {
        if !self.is_due(limits).await? {
            return Ok(());
        }
        let path = self.stream_dir.shard_dir(&self.shard.id).join("lock");
        let lock = self
            .stream_dir
            .ctx
            .disk
            .try_lock(&path, LockKind::Exclusive);
        let Some(lock) = lock.await.or_cannot("lock", &path)? else {
            return Ok(());
        };
        let mut log = ShardLog::new(self.stream_dir, self.shard);
        log.take_under(lock).await?.trim_to(limits).await.map(drop)
    }
}

/// What a shard may keep: what passes one of these goes.
#[derive(Clone, Copy, Debug)]
struct TrimLimits {
    up_to: Option<Position>,
    older_than: Option<i64>,
    bytes: Option<u64>,
    /// Between these a stamp says something: from when clocks were set, to the stream's time.
    times: (i64, i64),
    /// Before this offset what has no date is old.
    undated: Option<u64>,
}

impl TrimLimits {
    /// Of an operator, who believes stamps.
    fn by_hand(what: Trim) -> Self {
        let mut limits = TrimLimits {
            up_to: None,
            older_than: None,
            bytes: None,
            times: (i64::MIN, i64::MAX),
            undated: None,
        };
        match what {
            Trim::After(position) => limits.up_to = Some(position),
            Trim::OlderThan(time) => limits.older_than = Some(time),
            Trim::ToBytes(bytes) => limits.bytes = Some(bytes),
        }
        limits
    }

    /// What the stream's retention keeps at this time of it.
    fn of(settings: &StreamSettings, now: Option<i64>) -> Self {
        let age = settings.retention_micros;
        let age = age.map(|age| i64::try_from(age).unwrap_or(i64::MAX));
        TrimLimits {
            up_to: None,
            older_than: age.and_then(|age| Some(now?.saturating_sub(age))),
            bytes: settings.retention_bytes,
            times: (CLOCK_IS_SET, now.unwrap_or(i64::MAX)),
            undated: None,
        }
    }

    /// Whether something goes by age.
    fn are_of_age(&self) -> bool {
        self.older_than.is_some() || self.undated.is_some()
    }

    /// Whether a segment that ends before this offset, with this newest arrival, is too old.
    fn are_passed(&self, next_base: u64, arrived: Option<i64>) -> bool {
        match arrived {
            Some(arrived) => self.older_than.is_some_and(|time| arrived < time),
            None => self.undated.is_some_and(|end| next_base <= end),
        }
    }

    /// Whether everything before this offset goes.
    fn are_behind(&self, next_base: u64) -> bool {
        let next = self.up_to.map(Position::next_offset);
        next.is_some_and(|next| next.is_none_or(|next| next_base <= next))
    }
}

/// When the frames of a shard's segments were appended.
struct Stamps<'a> {
    stream_dir: &'a StreamDir,
    shard: &'a ShardId,
    segments: &'a [ListedSegment],
    /// When the newest frame of all was appended; 0 when the newest segment has none.
    newest: i64,
    /// As in [`TrimLimits`].
    times: (i64, i64),
}

impl Stamps<'_> {
    /// When the newest frame of segment `n` was appended. A stamp after the stream's time, from before clocks were set,
    /// or before those of the segment before comes from a clock that was wrong and says nothing: that of the next
    /// segment counts, which is younger. `None` when there is none that says something.
    async fn arrived(&self, n: usize) -> Result<Option<i64>> {
        let Some(head) = self.head(n).await? else {
            return Ok(None);
        };
        let (set, now) = self.times;
        let says = |time: i64| time != 0 && (set..=now).contains(&time);
        let before = Some(head.previous_newest).filter(|before| says(*before));
        for follower in n + 1.. {
            let arrived = match self.head(follower).await? {
                Some(head) => head.previous_newest,
                None if follower == self.segments.len() => self.newest,
                None => return Ok(None),
            };
            if says(arrived) && before.is_none_or(|before| before <= arrived) {
                return Ok(Some(arrived));
            }
            if follower == self.segments.len() {
                break;
            }
        }
        Ok(None)
    }

    /// The head of segment `n`; `None` when it was removed.
    async fn head(&self, n: usize) -> Result<Option<Head>> {
        let Some(listed) = self.segments.get(n) else {
            return Ok(None);
        };
        let opened = self
            .stream_dir
            .segment(self.shard, listed.number, listed.base);
        match opened.await? {
            Some(segment) => segment.head(self.stream_dir.incarnation).await.map(Some),
            None => Ok(None),
        }
    }
}

impl LockedShard<'_> {
    /// Removes what the stream's retention does not keep.
    pub(crate) async fn retain(&mut self) -> Result<u64> {
        let stream_dir = &self.log.stream_dir;
        let now = stream_dir.age.now(stream_dir.ctx.clock.wall_micros());
        let limits = TrimLimits::of(&stream_dir.settings, now);
        self.remove(limits).await
    }

    /// Removes what an operator names, which may be all that the shard holds.
    pub(crate) async fn trim(&mut self, what: Trim) -> Result<u64> {
        self.trim_to(TrimLimits::by_hand(what)).await
    }

    async fn trim_to(&mut self, limits: TrimLimits) -> Result<u64> {
        let mut freed = 0;
        if let Some(known) = self.known_if_any() {
            let control = known.control;
            let (set, now) = limits.times;
            let newest = Some(known.newest).filter(|newest| (set..=now).contains(newest));
            let everything = limits.are_behind(control.next_offset)
                || limits.are_passed(control.next_offset, newest)
                || limits.bytes == Some(0);
            let holds_frames = control.durable_bytes > known.head_len;
            if everything && holds_frames && !control.sealed {
                match self.start_segment(None).await {
                    // There is room for the next segment once the older ones are gone.
                    Err(Error::Full { path }) => {
                        freed = self.remove(limits).await?;
                        if freed == 0 {
                            return Err(Error::Full { path });
                        }
                        self.start_segment(None).await?;
                    }
                    started => started?,
                }
            }
        }
        Ok(freed + self.remove(limits).await?)
    }

    async fn remove(&mut self, limits: TrimLimits) -> Result<u64> {
        let stream_dir = Arc::clone(&self.log.stream_dir);
        let disk = &*stream_dir.ctx.disk;
        let Some(known) = self.known_if_any() else {
            return Ok(0);
        };
        let (control, newest) = (known.control, known.newest);
        let (dir, shard) = (self.log.dir.clone(), self.log.shard.id.clone());
        let segments = stream_dir.segments(&shard, None).await?;
        let stamps = Stamps {
            stream_dir: &stream_dir,
            shard: &shard,
            segments: &segments,
            newest,
            times: limits.times,
        };
        let mut left: u64 = segments.iter().map(|s| s.len).sum();
        let mut first_offset = control.first_offset;
        let mut going = Vec::new();
        for (n, listed) in segments.iter().enumerate() {
            let next_base = match segments.get(n + 1) {
                Some(next) => next.base,
                None if control.sealed => control.next_offset,
                None => break,
            };
            let goes = limits.are_behind(next_base)
                || limits.bytes.is_some_and(|most| left > most)
                || limits.are_of_age() && limits.are_passed(next_base, stamps.arrived(n).await?);
            if !goes {
                break;
            }
            left -= listed.len;
            first_offset = next_base;
            going.push(listed);
        }
        if going.is_empty() {
            return Ok(0);
        }
        // Both slots: a power cut may leave no more than the older one, as it was when it was last synced.
        for _slot in 0..2 {
            self.set_control(true, |control| control.first_offset = first_offset)
                .await?;
        }
        let mut freed = 0;
        for listed in going {
            let path = dir.join(segment::name(listed.number, listed.base));
            disk.remove(&path).await.or_cannot("remove", &path)?;
            freed += listed.len;
        }
        if stream_dir.segments(&shard, None).await?.is_empty() {
            self.forget();
        }
        Ok(freed)
    }
}
