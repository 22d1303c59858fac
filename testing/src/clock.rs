//! A wall clock that jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hydrant_core::clock::{self, Clock, Instant};
use hydrant_core::random::Random;

/// A clock that runs with tokio's time, paused or not, from a given start, and jumps on demand; cheap to clone.
#[derive(Clone, Debug)]
pub struct ManualClock {
    started: Instant,
    start_micros: Arc<AtomicI64>,
}

impl ManualClock {
    /// Creates a clock that shows `micros` since 1970 now.
    pub fn new(micros: i64) -> Self {
        ManualClock {
            started: clock::now(),
            start_micros: Arc::new(AtomicI64::new(micros)),
        }
    }

    /// Jumps forwards, or backwards by a negative number of microseconds.
    pub fn jump(&self, micros: i64) {
        self.start_micros.fetch_add(micros, Ordering::SeqCst);
    }

    /// Jumps by up to `micros_max` either way.
    pub fn jump_somewhere(&self, random: &Random, micros_max: u32) {
        let span = u64::from(micros_max) * 2 + 1;
        let by = i64::try_from(random.below(span)).unwrap_or(0) - i64::from(micros_max);
        self.jump(by);
    }
}

impl Clock for ManualClock {
    fn wall_micros(&self) -> i64 {
        let since = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.start_micros
            .load(Ordering::SeqCst)
            .saturating_add(since)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_runs_with_paused_time_and_jumps_on_demand() {
        let clock = ManualClock::new(1_000_000);
        hydrant_core::clock::sleep(Duration::from_secs(2)).await;
        assert_eq!(clock.wall_micros(), 3_000_000);
        clock.jump(-2_500_000);
        assert_eq!(clock.wall_micros(), 500_000);
        let random = Random::seeded(3);
        for _ in 0..50 {
            let before = clock.wall_micros();
            clock.jump_somewhere(&random, 100);
            assert!((clock.wall_micros() - before).abs() <= 100);
        }
    }
}
