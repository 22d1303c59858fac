//! What makes the files of an interval small.
//!
//! Promises one warning a while, which names the part of the layout that has the most values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hydrant_core::clock::{self, Instant};

use crate::lake::{Commit, FileKind};

/// So many files of an interval, and more, are many.
const FILES_MANY: usize = 32;

/// Files of an interval that hold fewer rows than this on average are small.
const ROWS_FEW: u64 = 1_000;

/// How long nothing is said after a warning.
const SILENCE: Duration = Duration::from_secs(3600);

/// What an interval of many small files says of its layout.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SmallFiles<'a> {
    files: usize,
    rows_a_file: u64,
    /// The partition column with the most values, and how many it has.
    column: &'a str,
    values: usize,
}

impl<'a> SmallFiles<'a> {
    /// `None` when the files are few or large.
    pub(super) fn of(commit: &'a Commit) -> Option<Self> {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut files = 0;
        for file in commit.files_of(FileKind::Rows) {
            files += 1;
            let parts = file
                .sealed
                .key
                .split('/')
                .filter_map(|part| part.split_once('='));
            parts.for_each(|(column, value)| {
                values.entry(column).or_default().insert(value);
            });
        }
        let (column, values) = values.into_iter().max_by_key(|(_, values)| values.len())?;
        let rows_a_file = commit.counts.rows / u64::try_from(files).ok()?;
        (files >= FILES_MANY && rows_a_file < ROWS_FEW).then_some(SmallFiles {
            files,
            rows_a_file,
            column,
            values: values.len(),
        })
    }
}

/// When small files were last warned of.
#[derive(Debug, Default)]
pub(super) struct SmallFilesWarning {
    last: Mutex<Option<Instant>>,
}

impl SmallFilesWarning {
    /// Warns of the commit's files if they are small, and returns whether it did.
    pub(super) fn look(&self, commit: &Commit) -> bool {
        let Some(small) = SmallFiles::of(commit) else {
            return false;
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        if last.is_some_and(|last| now.saturating_duration_since(last) < SILENCE) {
            return false;
        }
        *last = Some(now);
        let SmallFiles {
            files,
            rows_a_file,
            column,
            values,
        } = small;
        tracing::warn!(
            files,
            rows_a_file,
            column,
            values,
            "small files: partition by fewer values, publish less often, or set `lateness-max` if the days are old"
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn commit_of(keys: &[String], rows: u64) -> Commit {
        let file = |key: &String| json!({"kind": "rows", "key": key, "upload": "u", "size": 1, "crc": 0, "rows": 1, "position_hash": ""});
        let files: Vec<_> = keys.iter().map(file).collect();
        let commit = json!({
            "version": 1, "slot": 1, "nonce": "", "spec": "", "schema": 1, "opened": 0, "made": 0, "product": "",
            "stream": {"name": "s", "incarnation": "1"},
            "intervals": [{"shard": "0", "from": "begin", "to": "9"}],
            "counts": {"input": rows, "rows": rows, "own_letters": 0, "upstream_letters": 0, "duplicates": 0},
            "files": files,
        });
        serde_json::from_value(commit).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_column_with_the_most_values_is_named_once_a_while() {
        let key = |n: usize| format!("t/date=2026-11-{:02}/region=r{n}/x_{n}.parquet", n % 3 + 1);
        let commit = |files: usize, rows: u64| {
            let keys: Vec<String> = (0..files).map(key).collect();
            commit_of(&keys, rows)
        };
        assert_eq!(SmallFiles::of(&commit(FILES_MANY - 1, 1)), None);
        assert_eq!(
            SmallFiles::of(&commit(FILES_MANY, FILES_MANY as u64 * ROWS_FEW)),
            None
        );
        let many = commit(100, 5_000);
        let small = SmallFiles {
            files: 100,
            rows_a_file: 50,
            column: "region",
            values: 100,
        };
        assert_eq!(SmallFiles::of(&many), Some(small));
        assert_eq!(SmallFiles::of(&commit(0, 0)), None);
        let warning = SmallFilesWarning::default();
        assert!(warning.look(&many) && !warning.look(&many));
        tokio::time::advance(SILENCE).await;
        assert!(warning.look(&many));
    }
}
