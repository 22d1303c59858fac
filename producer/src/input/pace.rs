//! An open-loop schedule: record `n` is due at `start + n / rate`, whatever the stream does.
//!
//! Promises: over any time in which the stream keeps up, the rate is kept on average; a record that
//! was late keeps the moment at which it was due, so that latencies measured from there hide no
//! stall. After a stall the backlog is made up at once, but no more than [`CATCH_UP`] of it: what
//! lies further back is given up, and the schedule restarts from there.

use std::time::Duration;

use hydrant_core::clock::{self, Instant};

/// The longest stall that is made up for.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(1);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Says how many records are due.
#[derive(Debug)]
pub(crate) struct SendPace {
    rate: u64,
    /// Shortest time between two grants, so that a grant is worth a batch's overhead.
    grain: Duration,
    start: Instant,
    /// Records granted since `start`.
    granted: u64,
    /// No grant before.
    not_before: Instant,
}

/// Records that are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// How many, at least one.
    pub(crate) records: u64,
    /// When the first of them was due.
    pub(crate) since: Instant,
}

impl SendPace {
    /// `rate` records a second from now on, at least one; grants are at least `grain` apart.
    pub(crate) fn new(rate: u64, grain: Duration) -> Self {
        let start = clock::now();
        SendPace {
            rate: rate.max(1),
            grain,
            start,
            granted: 0,
            not_before: start,
        }
    }

    /// Waits for the next grant. Cancel-safe: a dropped call has granted nothing.
    pub(crate) async fn due(&mut self) -> Due {
        loop {
            let next = self.due_at(self.granted).max(self.not_before);
            if next > clock::now() {
                clock::sleep_until(Some(next)).await;
            }
            if let Some(due) = self.grant(clock::now()) {
                return due;
            }
        }
    }

    /// Gives back records of the last grant that were not made.
    pub(crate) fn give_back(&mut self, records: u64) {
        debug_assert!(records <= self.granted, "only granted records come back");
        self.granted = self.granted.saturating_sub(records);
        if records > 0 {
            self.not_before = self.start;
        }
    }

    fn grant(&mut self, now: Instant) -> Option<Due> {
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        // Record 0 is due at the start itself.
        let scheduled = elapsed * u128::from(self.rate) / NANOS_PER_SECOND + 1;
        let scheduled = u64::try_from(scheduled).unwrap_or(u64::MAX);
        let mut backlog = scheduled.saturating_sub(self.granted);
        let most = u64::try_from(CATCH_UP.as_nanos() * u128::from(self.rate) / NANOS_PER_SECOND)
            .unwrap_or(u64::MAX)
            .max(1);
        if backlog > most {
            self.granted += backlog - most;
            backlog = most;
        }
        if backlog == 0 {
            return None;
        }
        let since = self.due_at(self.granted);
        self.granted += backlog;
        self.not_before = now + self.grain;
        Some(Due {
            records: backlog,
            since,
        })
    }

    fn due_at(&self, record: u64) -> Instant {
        let nanos = (u128::from(record) * NANOS_PER_SECOND).div_ceil(u128::from(self.rate));
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.start + Duration::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAIN: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_whatever_it_is() {
        for rate in [1, 3, 49, 1_000, 333_333] {
            let mut pace = SendPace::new(rate, GRAIN);
            let start = clock::now();
            let mut granted = 0;
            while clock::now() - start < Duration::from_secs(10) {
                let due = pace.due().await;
                assert!(due.since <= clock::now());
                granted += due.records;
                let seconds = (clock::now() - start).as_secs_f64();
                #[allow(clippy::cast_precision_loss, reason = "small numbers")]
                let ahead = granted as f64 - seconds * rate as f64;
                assert!(ahead <= 1.001, "{rate}/s: {ahead} ahead");
            }
            assert!((rate * 10..=rate * 10 + rate.div_ceil(10) + 2).contains(&granted));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_made_up_for_at_most_a_second() {
        let mut pace = SendPace::new(100, GRAIN);
        assert_eq!(pace.due().await.records, 1);
        clock::sleep(Duration::from_millis(500)).await;
        assert_eq!(pace.due().await.records, 50);
        clock::sleep(Duration::from_secs(3_600)).await;
        let due = pace.due().await;
        assert_eq!(due.records, 100);
        assert!(clock::now() - due.since <= CATCH_UP);
        let before = clock::now();
        assert!(pace.due().await.records <= 3);
        assert!(clock::now() - before >= Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn latency_counts_from_the_moment_a_record_was_due() {
        let mut pace = SendPace::new(10, GRAIN);
        let start = clock::now();
        pace.due().await;
        clock::sleep(Duration::from_millis(450)).await;
        let due = pace.due().await;
        assert_eq!(
            (due.records, due.since - start),
            (4, Duration::from_millis(100))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_made_is_due_again() {
        let mut pace = SendPace::new(100, GRAIN);
        clock::sleep(Duration::from_millis(90)).await;
        assert_eq!(pace.due().await.records, 10);
        pace.give_back(7);
        let due = pace.due().await;
        assert_eq!(due.records, 7);
    }
}
