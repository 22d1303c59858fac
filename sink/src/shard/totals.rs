//! What a sink has published, for summaries and metrics.
//!
//! Owns the counts of one sink and the names of its metrics. Promises to count a commit when its files are visible and
//! not before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hydrant_core::stage::Flush;
use hydrant_process::path_text;
use serde::Serialize;

use super::small_files::SmallFilesWarning;
use crate::decode::{OTHER_PATHS, RESCUE_KINDS_MAX};
use crate::lake::Commit;

/// In each line the name of a metric and a sentence about it.
pub(crate) const METRICS: &str = "\
hydrant_sink_rows_total Rows published.
hydrant_sink_untimed_rows_total Rows without a believable event time, by reason.
hydrant_sink_files_total Files published.
hydrant_sink_bytes_total Bytes of published files.
hydrant_sink_dead_letters_total Dead letters published, by reason.
hydrant_sink_rescued_total Values that no column took, by path and reason.
hydrant_sink_flushes_total Intervals published, by reason.
hydrant_sink_publish_seconds Seconds that a publish takes.
hydrant_sink_latency_seconds Seconds from the producer's stamp to the visible row.
hydrant_sink_lost_rows_total Rows of files that vanished and cannot be made again, by reason.
hydrant_sink_schema_changes_total New schemas stored.
";

/// What a sink has published since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Rows.
    pub rows: u64,
    /// Rows without a believable event time among them.
    pub untimed_rows: u64,
    /// Values in the column of rescued values.
    pub rescued_values: u64,
    /// Dead letters: those of the sink and those of earlier stages.
    pub dead_letters: u64,
    /// The dead letters of earlier stages among them.
    pub upstream_dead_letters: u64,
    /// Units that earlier stages dropped.
    pub dropped: u64,
    /// Records that the reader had returned before.
    pub duplicates: u64,
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
    published: Mutex<Published>,
    /// The paths that metrics name.
    rescued_paths: Mutex<BTreeSet<String>>,
    small_files: SmallFilesWarning,
}

impl Totals {
    /// Counts a commit whose files became visible, `took` after its interval was sealed. `reasons` says how many dead
    /// letters have each reason, `ages` in seconds how many rows became visible so old.
    pub(crate) fn add(
        &self,
        commit: &Commit,
        reasons: &BTreeMap<Arc<str>, u64>,
        why: Flush,
        ages: impl Iterator<Item = (f64, u64)>,
        took: Duration,
    ) {
        let (rows, files, bytes) = (
            commit.counts.rows,
            commit.files.len() as u64,
            commit.bytes(),
        );
        self.small_files.look(commit);
        let mut sums = self.lock();
        sums.rows += rows;
        sums.untimed_rows += commit.counts.untimed_rows.values().sum::<u64>();
        sums.rescued_values += commit.rescued_values();
        sums.dead_letters += commit.counts.dead_letters();
        sums.upstream_dead_letters += commit.counts.upstream_dead_letters;
        sums.dropped += commit.counts.dropped_units();
        sums.duplicates += commit.counts.duplicates;
        sums.files += files;
        sums.bytes += bytes;
        sums.commits += 1;
        drop(sums);
        for (reason, dead_letters) in reasons {
            metrics::counter!("hydrant_sink_dead_letters_total", "reason" => reason.to_string())
                .increment(*dead_letters);
        }
        for rescued in &commit.rescued {
            let (path, reason) = (self.path_label(&rescued.path), rescued.reason.clone());
            metrics::counter!("hydrant_sink_rescued_total", "path" => path, "reason" => reason)
                .increment(rescued.values);
        }
        for (reason, rows) in &commit.counts.untimed_rows {
            metrics::counter!("hydrant_sink_untimed_rows_total", "reason" => reason.as_str())
                .increment(*rows);
        }
        let shard = commit.interval().shard.to_string();
        for (age, rows) in ages {
            let count = usize::try_from(rows).unwrap_or(usize::MAX);
            metrics::histogram!("hydrant_sink_latency_seconds", "shard" => shard.clone())
                .record_many(age, count);
        }
        for (name, amount) in [
            ("hydrant_sink_rows_total", rows),
            ("hydrant_sink_files_total", files),
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

    /// The path as metrics name it: few enough of them, whatever keys records have.
    fn path_label(&self, path: &str) -> String {
        let paths = self.rescued_paths.lock();
        let mut paths = paths.unwrap_or_else(PoisonError::into_inner);
        if paths.len() < RESCUE_KINDS_MAX {
            paths.insert(path.to_owned());
        }
        let is_named = paths.contains(path);
        path_text(if is_named { path } else { OTHER_PATHS })
    }

    /// The counts so far.
    pub fn published(&self) -> Published {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_printable_in_metrics() {
        let totals = Totals::default();
        assert_eq!(totals.path_label("a\u{1b}[31m"), r"a\u001b[31m");
        assert_eq!(totals.path_label(""), "\"\"");
    }
}
