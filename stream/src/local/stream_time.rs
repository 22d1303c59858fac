//! The time by which a stream's data ages.
//!
//! The wall clock may jump, and one wrong jump must not remove unread records. So a stream's time begins with the
//! newest arrival that is found when it is opened for writing, advances with the monotonic clock, and never passes the
//! wall clock. While no process has the stream open for writing it stands still, until the next opening finds newer
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
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hydrant_core::clock::Instant;
use hydrant_core::{ShardId, clock};

/// What a wall clock shows at least once it is set: 2020, in microseconds since 1970.
pub(super) const CLOCK_IS_SET: i64 = 1_577_836_800_000_000;

/// The time of one open stream.
#[derive(Debug, Default)]
pub(super) struct StreamTime {
    anchor: Mutex<Option<TimeAnchor>>,
    /// Of shards that end in data without date: the offsets that followed it at earlier looks, and when these were.
    undated: Mutex<BTreeMap<ShardId, VecDeque<(u64, Instant)>>>,
}

/// The stream's time at a moment of the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct TimeAnchor {
    at: Instant,
    time: i64,
    /// The newest arrival that was found.
    newest: i64,
}

impl StreamTime {
    fn anchor(&self) -> MutexGuard<'_, Option<TimeAnchor>> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream's time now; `None` before it was [found](StreamDir::find_age).
    pub(super) fn now(&self, wall: i64) -> Option<i64> {
        if wall < CLOCK_IS_SET {
            return None;
        }
        let mut anchor = self.anchor();
        let TimeAnchor { at, time, newest } = anchor.as_mut()?;
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

    /// Begins at the newest arrival, or at the wall clock if that shows less, unless it has begun.
    pub(super) fn begin(&self, newest: i64, wall: i64) {
        let (at, time) = (clock::now(), newest.min(wall));
        self.anchor().get_or_insert(TimeAnchor { at, time, newest });
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
