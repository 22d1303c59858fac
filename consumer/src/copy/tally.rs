//! The counts of a copy, for the summary at its end.
//!
//! A copy into a stream counts a record when the output has confirmed it: one that is read again after a failure counts
//! once. A copy to text counts a record each time that it is written.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// What became of some records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CopyCounts {
    /// Records that were written to the output.
    pub written: u64,
    /// Records that the output already had.
    pub duplicates: u64,
    /// Records that a filter dropped.
    pub filtered: u64,
    /// Records that cannot be copied.
    pub dead_letters: u64,
}

impl CopyCounts {
    /// Adds `other`.
    #[must_use]
    pub(crate) fn and(self, other: CopyCounts) -> CopyCounts {
        CopyCounts {
            written: self.written + other.written,
            duplicates: self.duplicates + other.duplicates,
            filtered: self.filtered + other.filtered,
            dead_letters: self.dead_letters + other.dead_letters,
        }
    }
}

/// The counts of a copy over all its shards, which add to it at the same time.
#[derive(Debug, Default)]
pub struct CopyTally(Mutex<CopyCounts>);

impl CopyTally {
    /// Adds counts of records whose copy is done.
    pub(crate) fn add(&self, counts: CopyCounts) {
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *sum = sum.and(counts);
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> CopyCounts {
        let mut sum = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A stream reports only afterwards which of the records it already had.
        sum.written = sum.written.saturating_sub(sum.duplicates);
        sum
    }
}
