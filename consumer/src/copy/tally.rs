//! The counts of a copy, for the summary at its end.
//!
//! A record is counted when it is in the output, so one that is read again after a failure counts once.

use std::sync::atomic::{AtomicU64, Ordering};

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
pub struct CopyTally {
    written: AtomicU64,
    duplicates: AtomicU64,
    filtered: AtomicU64,
    dead_letters: AtomicU64,
}

impl CopyTally {
    /// Adds counts of records whose copy is done.
    pub(crate) fn add(&self, counts: CopyCounts) {
        self.written.fetch_add(counts.written, Ordering::Relaxed);
        self.duplicates
            .fetch_add(counts.duplicates, Ordering::Relaxed);
        self.filtered.fetch_add(counts.filtered, Ordering::Relaxed);
        self.dead_letters
            .fetch_add(counts.dead_letters, Ordering::Relaxed);
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> CopyCounts {
        let duplicates = self.duplicates.load(Ordering::Relaxed);
        CopyCounts {
            // A stream reports only afterwards which of the records it already had.
            written: self
                .written
                .load(Ordering::Relaxed)
                .saturating_sub(duplicates),
            duplicates,
            filtered: self.filtered.load(Ordering::Relaxed),
            dead_letters: self.dead_letters.load(Ordering::Relaxed),
        }
    }
}
