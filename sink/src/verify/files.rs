//! The files that records name, and what is in them.

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use hydrant_core::Result;
use hydrant_core::lake::SharedLake;

use super::chains::Walk;
use super::report::{Problem, ProblemKind, Report};
use crate::encode::inspect;
use crate::lake::{CommitFile, RebuildRecord};

/// Files that are read at a time.
const READS_AT_ONCE: usize = 4;

/// A file as it should be.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) crc: u32,
    pub(super) rows: u64,
    /// Whether the newest record of its chain names it: only that one may be unfinished.
    pub(super) is_tip: bool,
}

/// The files that the records of a chain name, as they were made last.
pub(super) async fn expected_files(
    lake: &SharedLake,
    walk: &Walk,
    report: &mut Report,
) -> Result<Vec<Expected>> {
    let rebuilds = walk.dir.replacen("/commits/", "/rebuild/", 1);
    let tip = walk.tip().map_or(0, |tip| tip.slot);
    let mut expected = Vec::new();
    // Rebuilds are rare: one listing a chain instead of one a record.
    let rebuilt = rebuild_records(lake, &rebuilds, report).await?;
    for (_, commit) in &walk.commits {
        for (index, file) in commit.files.iter().enumerate() {
            let newest = rebuilt
                .iter()
                .filter(|record| (record.slot, record.index) == (commit.slot, index))
                .max_by_key(|record| record.generation);
            let file: &CommitFile = newest.map_or(file, |record| &record.file);
            expected.push(Expected {
                key: file.sealed.key.clone(),
                size: file.sealed.size,
                crc: file.sealed.crc,
                rows: file.rows,
                is_tip: commit.slot == tip,
            });
        }
    }
    Ok(expected)
}

async fn rebuild_records(
    lake: &SharedLake,
    prefix: &str,
    report: &mut Report,
) -> Result<Vec<RebuildRecord>> {
    let mut records = Vec::new();
    for object in lake.list(prefix, None).await? {
        let Some(body) = lake.get(&object.key).await? else {
            continue;
        };
        match RebuildRecord::from_body(&object.key, &body) {
            Ok(record) => records.push(record),
            Err(error) => report.problem(ProblemKind::Damaged, object.key, error),
        }
    }
    Ok(records)
}

/// Reads every file and compares checksum and rows.
pub(super) async fn check_contents(
    lake: &SharedLake,
    expected: &[Expected],
    report: &mut Report,
) -> Result<()> {
    let checks: Vec<_> = expected.iter().map(|file| check(lake, file)).collect();
    let mut checks = stream::iter(checks).buffered(READS_AT_ONCE);
    while let Some(found) = checks.next().await {
        report.problems.extend(found?);
    }
    Ok(())
}

async fn check(lake: &SharedLake, file: &Expected) -> Result<Option<Problem>> {
    let damaged = |kind, detail: String| {
        Ok(Some(Problem {
            kind,
            place: file.key.clone(),
            detail,
        }))
    };
    let Some(body) = lake.get(&file.key).await? else {
        return damaged(
            ProblemKind::Missing,
            "it was listed a moment ago".to_owned(),
        );
    };
    let crc = crc32c::crc32c(&body);
    if crc != file.crc {
        let detail = format!("its checksum is {crc:08x} instead of {:08x}", file.crc);
        return damaged(ProblemKind::Damaged, detail);
    }
    match rows_of(body) {
        Ok(rows) if rows == file.rows => Ok(None),
        Ok(rows) => {
            let detail = format!("it holds {rows} rows, its record says {}", file.rows);
            damaged(ProblemKind::Unbalanced, detail)
        }
        Err(error) => damaged(ProblemKind::Damaged, error.to_string()),
    }
}

fn rows_of(body: Bytes) -> Result<u64, crate::encode::EncodeError> {
    Ok(inspect(body)?.rows)
}
