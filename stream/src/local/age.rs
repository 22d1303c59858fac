//! The time by which a stream's data ages.
//!
//! The wall clock may jump, and one wrong jump must not remove what nobody has read. So a stream's time begins with the
//! newest arrival that is found when it is opened for writing, goes on with the monotonic clock, and never passes the
//! wall clock. While nobody has the stream open for writing it stands still, until the next opening finds newer
//! arrivals; a jump that was corrected before that has no effect at all.
//!
//! A machine may start with a clock that was not set. As long as that shows a year before this program was written,
//! there is no time, and what it stamped says nothing ([`CLOCK_IS_SET`]). A clock that was behind the newest arrival at
//! the opening, and is put right, takes the stream's time along up to that arrival.
//!
//! What has no stamp that says something, and is followed by nothing that has, ages from when a process first saw it.
//!
//! ```text
//! HOME/shards/time.json    how far the time had come, so that a stream ages in which nothing arrives any more
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hydrant_core::clock::Instant;
use hydrant_core::{Error, Result, ShardId, clock, disk};
use serde::{Deserialize, Serialize};

use super::control::ControlFile;
use super::place::Place;

/// What a wall clock shows at least once it is set: 2020, in microseconds since 1970.
pub(super) const CLOCK_IS_SET: i64 = 1_577_836_800_000_000;

/// The time of one open stream.
#[derive(Debug, Default)]
pub(super) struct Age {
    anchor: Mutex<Option<Anchor>>,
    /// Of shards that end in data without date: the offsets that followed it at earlier looks, and when these were.
    undated: Mutex<BTreeMap<ShardId, VecDeque<(u64, Instant)>>>,
}

/// The stream's time at a moment of the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    at: Instant,
    time: i64,
    /// The newest arrival that was found.
    newest: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// Microseconds since 1970.
    time: i64,
}

impl Age {
    fn anchor(&self) -> MutexGuard<'_, Option<Anchor>> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream's time now; `None` before it was [found](Place::find_age).
    pub(super) fn now(&self, wall: i64) -> Option<i64> {
        if wall < CLOCK_IS_SET {
            return None;
        }
        let mut anchor = self.anchor();
        let Anchor { at, time, newest } = anchor.as_mut()?;
        let passed = clock::now().duration_since(*at).as_micros();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let now = time.saturating_add(passed);
        let caught_up = wall.min(*newest);
        if caught_up > now {
            // The wall clock was behind and was put right.
            (*at, *time) = (clock::now(), caught_up);
            return Some(caught_up);
        }
        Some(now.min(wall))
    }

    /// The offset after what has been known for so long of the data without date at the end of a shard. `next` is the
    /// offset after all of it; `None` says that the shard has a date.
    pub(super) fn undated(&self, shard: &ShardId, next: Option<u64>, age: Duration) -> Option<u64> {
        let mut undated = self.undated.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(next) = next else {
            undated.remove(shard);
            return None;
        };
        let looks = undated.entry(shard.clone()).or_default();
        let now = clock::now();
        if looks.back().is_none_or(|(seen, _)| *seen < next) {
            looks.push_back((next, now));
        }
        let old = looks
            .iter()
            .take_while(|(_, at)| now.duration_since(*at) >= age);
        // The last of them says what the others do.
        let said = old.count().checked_sub(1)?;
        looks.drain(..said);
        looks.front().map(|(seen, _)| *seen)
    }
}

impl Place {
    /// The stream's time now; `None` while nothing has arrived, or the clock is not set. It is noted once it has moved by
    /// `step` microseconds.
    pub(super) async fn find_age(&self, step: i64) -> Result<Option<i64>> {
        let wall = self.ctx.clock.wall_micros();
        if wall < CLOCK_IS_SET {
            return Ok(None);
        }
        let path = self.shards_dir().join("time.json");
        let stored = disk::read_file(&*self.ctx.disk, &path).await;
        let stored = stored.map_err(|e| Error::io("read", &path, e))?;
        // What is not legible was not written by this program: the arrivals count.
        let stored: Stored = stored
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        if self.age.now(wall).is_none() {
            let newest = self.newest_arrival().await?.max(stored.time);
            if newest < CLOCK_IS_SET {
                return Ok(None);
            }
            let (at, time) = (clock::now(), newest.min(wall));
            self.age.anchor().get_or_insert(Anchor { at, time, newest });
        }
        let now = self.age.now(wall);
        if let Some(time) = now.filter(|now| now.saturating_sub(stored.time) >= step)
            && let Err(error) = self.note_age(path, time).await
        {
            // It will have moved further at the next look.
            tracing::debug!(error = %error.report(), "cannot note the time of a stream");
        }
        Ok(now)
    }

    async fn note_age(&self, path: PathBuf, time: i64) -> Result<()> {
        let body = serde_json::to_vec(&Stored { time })
            .map_err(|e| Error::fatal(format!("cannot write `{}`: {e}", path.display())))?;
        // One temporary name for all, so that the dead leave no more than one. What two write at once may be torn, and
        // counts as absent.
        let replaced = disk::replace_file(&*self.ctx.disk, &path, body.into(), "new").await;
        replaced.map_err(|e| Error::io("replace", &path, e))
    }

    /// The newest arrival in any shard; 0 when there is none.
    async fn newest_arrival(&self) -> Result<i64> {
        let mut newest = 0;
        for shard in self.manifest().await?.shards.all() {
            let dir = self.shard_dir(&shard.id);
            let file = ControlFile::open_to_read(&*self.ctx.disk, &dir).await?;
            let file = file.ok_or_else(|| self.gone())?;
            newest = newest.max(file.read().await?.unwrap_or_default().newest_arrival);
        }
        Ok(newest)
    }
}
