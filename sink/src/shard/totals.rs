//! What a sink has published, for summaries and metrics.
//!
//! Owns the counts of one sink and the names of its metrics. Promises to count a commit when its files are visible and
//! not before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hydrant_core::stage::Flush;
use serde::Serialize;

use super::latency::Latencies;
use crate::lake::Commit;

/// What a sink has published since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Rows.
    pub rows: u64,
    /// Dead letters: those of the sink and those of earlier stages.
    pub dead_letters: u64,
    /// Units that earlier stages dropped.
    pub dropped: u64,
    /// Files.
    pub files: u64,
    /// The bytes of the files.
    pub bytes: u64,
    /// Commit records.
    pub commits: u64,
}

/// The counters of what a sink publishes.
#[derive(Debug, Default)]
pub struct Totals {
    counts: [AtomicU64; 6],
}

impl Totals {
    /// Counts a commit.
    pub(crate) fn add(&self, commit: &Commit) {
        let amounts = [
            commit.counts.rows,
            commit.counts.dead_letters(),
            commit.counts.dropped_units(),
            commit.files.len() as u64,
            commit.files.iter().map(|file| file.sealed.size).sum(),
            1,
        ];
        for (count, amount) in self.counts.iter().zip(amounts) {
            count.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// The counts so far.
    pub fn published(&self) -> Published {
        let [rows, dead_letters, dropped, files, bytes, commits] =
            std::array::from_fn(|n| self.counts[n].load(Ordering::Relaxed));
        Published {
            rows,
            dead_letters,
            dropped,
            files,
            bytes,
            commits,
        }
    }
}

/// A commit record whose files are uploaded.
#[derive(Debug)]
pub(crate) struct PreparedCommit {
    /// The record to put.
    pub(crate) commit: Commit,
    /// How many of its dead letters have each reason.
    pub(crate) reasons: BTreeMap<Arc<str>, u64>,
}

/// Updates the metrics for a commit that became visible at `now`, `took` after its interval was sealed.
pub(crate) fn record(
    prepared: &PreparedCommit,
    why: Flush,
    latencies: Latencies,
    now: i64,
    took: Duration,
) {
    let PreparedCommit { commit, reasons } = prepared;
    for (reason, letters) in reasons {
        metrics::counter!("hydrant_sink_dead_letters_total", "reason" => reason.to_string())
            .increment(*letters);
    }
    let shard = commit
        .intervals
        .first()
        .map(|interval| interval.shard.to_string());
    let shard = shard.unwrap_or_default();
    for (age, rows) in latencies.ages(now) {
        let count = usize::try_from(rows).unwrap_or(usize::MAX);
        metrics::histogram!("hydrant_sink_latency_seconds", "shard" => shard.clone())
            .record_many(age, count);
    }
    let bytes = commit.files.iter().map(|file| file.sealed.size).sum();
    for (name, amount) in [
        ("hydrant_sink_rows_total", commit.counts.rows),
        ("hydrant_sink_files_total", commit.files.len() as u64),
        ("hydrant_sink_bytes_total", bytes),
    ] {
        metrics::counter!(name, "shard" => shard.clone()).increment(amount);
    }
    let reason = why.as_str();
    metrics::counter!("hydrant_sink_flushes_total", "shard" => shard.clone(), "reason" => reason)
        .increment(1);
    metrics::histogram!("hydrant_sink_publish_seconds", "shard" => shard)
        .record(took.as_secs_f64());
}
