//! What a stage has published, for summaries and metrics.
//!
//! Owns the counts of one stage and the names of its metrics. Promises to count a commit when its files are visible and
//! not before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hydrant_core::stage::Flush;
use serde::Serialize;

use super::latency::Latencies;
use crate::lake::Commit;

/// What a stage has published since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Rows.
    pub rows: u64,
    /// Dead letters, its own and those of the stages before.
    pub dead_letters: u64,
    /// Units dropped by the stages before.
    pub dropped: u64,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Commit records.
    pub commits: u64,
}

/// Counts what a stage publishes.
#[derive(Debug, Default)]
pub struct Totals {
    counts: [AtomicU64; 6],
}

impl Totals {
    /// Counts a commit.
    pub(crate) fn add(&self, commit: &Commit) {
        let amounts = [
            commit.counts.rows,
            commit.counts.letters(),
            commit.counts.dropped_units(),
            commit.files.len() as u64,
            commit.files.iter().map(|file| file.sealed.size).sum(),
            1,
        ];
        for (count, amount) in self.counts.iter().zip(amounts) {
            count.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// What was published so far.
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

/// A commit whose files are staged.
#[derive(Debug)]
pub(crate) struct PreparedCommit {
    /// The record to put.
    pub(crate) commit: Commit,
    /// Its dead letters by reason.
    pub(crate) reasons: BTreeMap<Arc<str>, u64>,
}

/// Tells the metrics of a commit that is visible since `now`, which took so long from its cut.
pub(crate) fn record(
    staged: &PreparedCommit,
    why: Flush,
    latencies: Latencies,
    now: i64,
    took: Duration,
) {
    let PreparedCommit { commit, reasons } = staged;
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
