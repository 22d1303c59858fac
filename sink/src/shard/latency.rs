//! How old rows are when they become visible.
//!
//! Owns the stamps of an interval's rows, in buckets, so that nothing is measured or kept per record. Promises bounded
//! memory for any stamps: buckets widen when there are too many. Refuses a precision below 10 milliseconds.

use std::collections::BTreeMap;

/// The initial width of a bucket, in microseconds.
const BUCKET_MICROS: i64 = 10_000;

/// The most buckets; when there are more, they are joined in pairs.
const BUCKETS_MAX: usize = 2048;

/// The stamps of rows, in buckets.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    width: i64,
    buckets: BTreeMap<i64, u64>,
    /// The bucket that is being counted, and its count: telemetry comes roughly in the order of its stamps.
    last: (i64, u64),
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            width: BUCKET_MICROS,
            buckets: BTreeMap::new(),
            last: (0, 0),
        }
    }
}

impl Latencies {
    /// Counts a row with this stamp.
    pub(crate) fn add(&mut self, stamp: i64) {
        let bucket = stamp.div_euclid(self.width);
        if self.last.1 > 0 && self.last.0 == bucket {
            self.last.1 += 1;
            return;
        }
        self.flush_last();
        self.last = (stamp.div_euclid(self.width), 1);
    }

    /// Counts a row with this stamp no longer.
    pub(crate) fn forget(&mut self, stamp: i64) {
        self.flush_last();
        let bucket = self.buckets.get_mut(&stamp.div_euclid(self.width));
        debug_assert!(bucket.is_some(), "only a row that was counted is forgotten");
        if let Some(count) = bucket {
            *count = count.saturating_sub(1);
        }
    }

    fn flush_last(&mut self) {
        let (bucket, count) = std::mem::take(&mut self.last);
        if count > 0 {
            *self.buckets.entry(bucket).or_default() += count;
        }
        while self.buckets.len() > BUCKETS_MAX {
            self.width *= 2;
            let narrow = std::mem::take(&mut self.buckets);
            for (bucket, count) in narrow {
                *self.buckets.entry(bucket.div_euclid(2)).or_default() += count;
            }
        }
        debug_assert!(self.buckets.len() <= BUCKETS_MAX);
    }

    /// The ages of the rows at `now` in seconds, never negative, each with the number of rows that have it.
    pub(crate) fn ages(mut self, now: i64) -> impl Iterator<Item = (f64, u64)> {
        self.flush_last();
        let width = self.width;
        self.buckets.into_iter().map(move |(bucket, count)| {
            let stamp = bucket.saturating_mul(width).saturating_add(width / 2);
            let age = now.saturating_sub(stamp).max(0);
            (age as f64 / 1e6, count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_counted_in_bounded_memory() {
        let mut latencies = Latencies::default();
        for n in 0..100_000i64 {
            latencies.add(n * 7_919_000_000 % 1_000_000_000_000);
        }
        assert!(latencies.buckets.len() <= BUCKETS_MAX);
        let now = 1_000_000_000_000;
        let ages: Vec<(f64, u64)> = latencies.ages(now).collect();
        assert_eq!(ages.iter().map(|(_, count)| count).sum::<u64>(), 100_000);
        assert!(
            ages.iter()
                .all(|(age, _)| (0.0..=1_000_100.0).contains(age))
        );
    }

    #[test]
    fn ages_are_exact_to_a_bucket_and_never_negative() {
        let mut latencies = Latencies::default();
        latencies.add(1_000_000);
        latencies.add(1_000_001);
        latencies.add(9_000_000);
        let ages: Vec<(f64, u64)> = latencies.ages(2_000_000).collect();
        assert_eq!(ages.len(), 2);
        assert!((ages[0].0 - 0.995).abs() < 0.011 && ages[0].1 == 2);
        assert_eq!(ages[1], (0.0, 1));
    }
}
