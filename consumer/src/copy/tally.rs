//! What a copy did with the records that it read, for the summary at its end.
//!
//! Counted when it is done: a record that is read again after a failure counts once it is in the output.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What became of some records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CopyCounts {
    /// Records that were written to the output.
    pub written: u64,
    /// Records that the output had already.
    pub duplicates: u64,
    /// Records that no filter takes.
    pub filtered: u64,
    /// Records that cannot be copied.
    pub dead_letters: u64,
}

impl CopyCounts {
    /// These and others.
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

/// The counts of a copy, over all its shards.
#[derive(Debug, Default)]
pub struct CopyTally {
    written: AtomicU64,
    duplicates: AtomicU64,
    filtered: AtomicU64,
    dead_letters: AtomicU64,
}

impl CopyTally {
    /// Adds what is done.
    pub(crate) fn add(&self, counts: CopyCounts) {
        self.written.fetch_add(counts.written, Ordering::Relaxed);
        self.duplicates
            .fetch_add(counts.duplicates, Ordering::Relaxed);
        self.filtered.fetch_add(counts.filtered, Ordering::Relaxed);
        self.dead_letters
            .fetch_add(counts.dead_letters, Ordering::Relaxed);
    }

    /// What was done so far.
    pub fn counts(&self) -> CopyCounts {
        let duplicates = self.duplicates.load(Ordering::Relaxed);
        CopyCounts {
            // A stream says only afterwards which of the records it had.
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
