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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::admin::Trim;
use hydrant_core::disk::{LockKind, Open};
use hydrant_core::{Error, Result, Shard, ShardId, clock};

use super::shard_log::{LockedShard, ShardLog};
use crate::local::end::durable_end::{Durable, durable};
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::manifest::StreamSettings;
use crate::local::format::segment::{self, Head, ListedSegment, Segment};
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
pub(crate) async fn keep(place: Arc<StreamDir>) {
    let Some(step) = place.settings.look() else {
        return;
    };
    loop {
        if let Err(error) = look(&place, step).await {
            let stream = &place.stream.name;
            tracing::warn!(%stream, error = %error.report(), "cannot remove old segments");
        }
        clock::sleep(step).await;
    }
}

/// Looks at each shard once. What is damaged in one keeps nothing in the others.
async fn look(place: &Arc<StreamDir>, step: Duration) -> Result<()> {
    let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX);
    let now = match place.settings.retention_micros {
        Some(_) => place.find_age(step).await?,
        None => None,
    };
    let manifest = place.manifest().await?;
    // The bytes that each key has at least in a shard and in those that came after it.
    let mut held: BTreeMap<&ShardId, u64> = BTreeMap::new();
    // Children are younger than their parents, and have the later names.
    for shard in manifest.shards.all().iter().rev() {
        let found = match ShardSegments::new(place, shard).await {
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
        let bytes = place.settings.retention_bytes;
        let total = after.saturating_add(found.bytes());
        let with_one_more = total.saturating_add(place.settings.segment_bytes);
        let is_full = bytes.is_some_and(|most| with_one_more > most);
        // It has removed data of its own to keep within its bytes: what is older goes first.
        let has_removed = found.control.first_offset > 0 && is_full;
        held.insert(&shard.id, if has_removed { u64::MAX } else { total });
        let mut limits = TrimLimits::of(&place.settings, now);
        limits.bytes = bytes.map(|bytes| bytes.saturating_sub(after));
        let trimmed = async {
            limits.undated = found.undated(place, shard, limits).await?;
            trim_one(place, shard, &found, limits).await
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

fn older_than(settings: &StreamSettings, now: Option<i64>) -> Option<i64> {
    let age = i64::try_from(settings.retention_micros?).unwrap_or(i64::MAX);
    Some(now?.saturating_sub(age))
}

/// A shard as it is found without its lock.
struct ShardSegments {
    dir: PathBuf,
    control: ControlSlot,
    segments: Vec<ListedSegment>,
}

impl ShardSegments {
    /// `None` while the control file cannot be read.
    async fn new(place: &StreamDir, shard: &Shard) -> Result<Option<Self>> {
        let disk = &*place.ctx.disk;
        let dir = place.shard_dir(&shard.id);
        let file = ControlFile::open_to_read(disk, &dir).await?;
        let file = file.ok_or_else(|| place.gone())?;
        let (control, end) = match durable(place, shard, &file).await? {
            Durable::Moving(control) => (control, None),
            Durable::Final(control, end) => (Some(control), Some(end)),
            Durable::Undecided => return Ok(None),
        };
        let mut segments = segment::list(disk, &dir).await?;
        segments.retain(|listed| end.is_none_or(|end| end.includes(listed)));
        Ok(control.map(|control| ShardSegments {
            dir,
            control,
            segments,
        }))
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.len).sum()
    }

    /// The offset after what is as old as data may become, of the data without date at the shard's end.
    async fn undated(
        &self,
        place: &StreamDir,
        shard: &Shard,
        limits: TrimLimits,
    ) -> Result<Option<u64>> {
        let Some(age) = place.settings.retention_micros.map(Duration::from_micros) else {
            return Ok(None);
        };
        let is_dated = self.stamps(place, limits).arrived(0).await?.is_some();
        let next = (!is_dated).then_some(self.control.next_offset);
        Ok(place.age.undated(&shard.id, next, age))
    }

    fn stamps<'a>(&'a self, place: &'a StreamDir, limits: TrimLimits) -> Stamps<'a> {
        Stamps {
            place,
            dir: &self.dir,
            segments: &self.segments,
            newest: self.control.newest_arrival,
            times: limits.times,
        }
    }

    /// Whether the oldest segment goes, as far as can be said.
    async fn is_due(&self, place: &StreamDir, limits: TrimLimits) -> Result<bool> {
        let Some(oldest) = self.segments.first() else {
            return Ok(false);
        };
        let may_go = self.control.sealed || self.segments.len() > 1;
        if may_go && limits.bytes.is_some_and(|most| self.bytes() > most) {
            return Ok(true);
        }
        if place.settings.retention_micros.is_none() {
            return Ok(false);
        }
        let Some(head) = head(place, &self.dir, oldest).await? else {
            return Ok(false);
        };
        let arrived = self.stamps(place, limits).arrived(0).await?;
        let holds_frames = oldest.len > head.len;
        let next = self.segments.get(1).map(|next| next.base);
        let next = next.unwrap_or(self.control.next_offset);
        Ok((may_go || holds_frames) && limits.are_passed(next, arrived))
    }
}

/// What a shard may keep.
#[derive(Clone, Copy, Debug)]
struct TrimLimits {
    older_than: Option<i64>,
    bytes: Option<u64>,
    /// Between these a stamp says something: from when clocks were set, to the stream's time.
    times: (i64, i64),
    /// Before this offset what has no date is old.
    undated: Option<u64>,
}

impl TrimLimits {
    /// Of an operator, who believes stamps.
    const NONE: TrimLimits = TrimLimits {
        older_than: None,
        bytes: None,
        times: (i64::MIN, i64::MAX),
        undated: None,
    };

    /// What the stream's retention keeps at this time of it.
    fn of(settings: &StreamSettings, now: Option<i64>) -> Self {
        TrimLimits {
            older_than: older_than(settings, now),
            bytes: settings.retention_bytes,
            times: (CLOCK_IS_SET, now.unwrap_or(i64::MAX)),
            undated: None,
        }
    }

    /// What goes by age.
    fn age(&self) -> Option<Trim> {
        let undated = self.undated.map(|_| i64::MIN);
        self.older_than.or(undated).map(Trim::OlderThan)
    }

    /// Whether a segment that ends before this offset, with this newest arrival, is too old.
    fn are_passed(&self, next_base: u64, arrived: Option<i64>) -> bool {
        match arrived {
            Some(arrived) => self.older_than.is_some_and(|time| arrived < time),
            None => self.undated.is_some_and(|end| next_base <= end),
        }
    }
}

/// Removes what is too much of a shard. The lock is not taken for nothing, and not waited for: the process that appends
/// now removes what is old when it starts its next segment, or the next look does.
async fn trim_one(
    place: &Arc<StreamDir>,
    shard: &Shard,
    found: &ShardSegments,
    limits: TrimLimits,
) -> Result<()> {
    if !found.is_due(place, limits).await? {
        return Ok(());
    }
    let (disk, dir) = (&*place.ctx.disk, &found.dir);
    let path = dir.join("lock");
    let lock = disk.try_lock(&path, LockKind::Exclusive).await;
    let Some(lock) = lock.map_err(|e| Error::io("lock", &path, e))? else {
        return Ok(());
    };
    let mut log = ShardLog::new(place, shard);
    let mut held = log.take_under(lock).await?;
    if let Some(age) = limits.age() {
        held.trim_by(age, limits).await?;
    }
    if let Some(bytes) = limits.bytes {
        held.remove(Trim::ToBytes(bytes), limits).await?;
    }
    Ok(())
}

/// The head of a segment; `None` when it was removed.
async fn head(place: &StreamDir, dir: &Path, listed: &ListedSegment) -> Result<Option<Head>> {
    let disk = &*place.ctx.disk;
    match Segment::open(disk, dir, listed.number, listed.base, Open::Read).await? {
        Some(segment) => segment.head(place.incarnation).await.map(Some),
        None => Ok(None),
    }
}

/// When the frames of a shard's segments were appended.
struct Stamps<'a> {
    place: &'a StreamDir,
    dir: &'a Path,
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

    async fn head(&self, n: usize) -> Result<Option<Head>> {
        match self.segments.get(n) {
            Some(listed) => head(self.place, self.dir, listed).await,
            None => Ok(None),
        }
    }
}

impl LockedShard<'_> {
    /// Removes what the stream's retention does not keep.
    pub(crate) async fn retain(&mut self) -> Result<u64> {
        let place = &self.log.place;
        let now = place.age.now(place.ctx.clock.wall_micros());
        let limits = TrimLimits::of(&place.settings, now);
        let mut freed = 0;
        if let Some(age) = limits.age() {
            freed += self.remove(age, limits).await?;
        }
        if let Some(bytes) = limits.bytes {
            freed += self.remove(Trim::ToBytes(bytes), limits).await?;
        }
        Ok(freed)
    }

    /// Removes what an operator names, which may be all that the shard holds.
    pub(crate) async fn trim(&mut self, what: Trim) -> Result<u64> {
        self.trim_by(what, TrimLimits::NONE).await
    }

    async fn trim_by(&mut self, what: Trim, limits: TrimLimits) -> Result<u64> {
        let mut freed = 0;
        if let Some(known) = self.known_if_any() {
            let control = known.control;
            let everything = match what {
                Trim::After(position) => position
                    .next_offset()
                    .is_none_or(|next| next >= control.next_offset),
                Trim::OlderThan(time) => {
                    let (set, now) = limits.times;
                    let is_dated = (set..=now).contains(&known.newest);
                    let undated = limits.undated.filter(|_| !is_dated);
                    is_dated && known.newest < time
                        || undated.is_some_and(|end| control.next_offset <= end)
                }
                Trim::ToBytes(bytes) => bytes == 0,
            };
            let holds_frames = control.durable_bytes > known.head_len;
            if everything && holds_frames && !control.sealed {
                match self.start_segment(Vec::new(), None).await {
                    // There is room for the next segment once the older ones are gone.
                    Err(Error::Full { path }) => {
                        freed = self.remove(what, limits).await?;
                        if freed == 0 {
                            return Err(Error::Full { path });
                        }
                        self.start_segment(Vec::new(), None).await?;
                    }
                    started => started?,
                }
            }
        }
        Ok(freed + self.remove(what, limits).await?)
    }

    async fn remove(&mut self, what: Trim, limits: TrimLimits) -> Result<u64> {
        let place = Arc::clone(&self.log.place);
        let disk = &*place.ctx.disk;
        let Some(known) = self.known_if_any() else {
            return Ok(0);
        };
        let (control, newest) = (known.control, known.newest);
        let dir = self.log.dir.clone();
        let segments = segment::list(disk, &dir).await?;
        let stamps = Stamps {
            place: &place,
            dir: &dir,
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
            let goes = match what {
                Trim::After(position) => {
                    position.next_offset().is_none_or(|next| next_base <= next)
                }
                Trim::OlderThan(time) => {
                    let limits = TrimLimits {
                        older_than: Some(time),
                        ..limits
                    };
                    limits.are_passed(next_base, stamps.arrived(n).await?)
                }
                Trim::ToBytes(bytes) => left > bytes,
            };
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
            let removed = disk.remove(&path).await;
            removed.map_err(|e| Error::io("remove", &path, e))?;
            freed += listed.len;
        }
        if segment::list(disk, &dir).await?.is_empty() {
            self.forget();
        }
        Ok(freed)
    }
}
