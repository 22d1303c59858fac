//! The check of a file that a record names.

use hydrant_core::lake::{Sealed, SharedLake};
use hydrant_core::{Position, Result};

use super::report::ProblemKind;
use crate::encode::{FOOTER_END_BYTES, count_rows};
use crate::lake::{ChainNames, CommitFile, RebuildOutcome, RebuildRecord, checksum};

/// A file as its records describe it.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// As the commit record says.
    pub(super) recorded: CommitFile,
    /// The newest record of what became of it, if it vanished: a file that replaces it.
    pub(super) rebuilt: Option<RebuildRecord>,
    /// The interval of its record.
    pub(super) from: Position,
    pub(super) to: Position,
    /// The newest time of what its record holds.
    pub(super) newest: i64,
    /// When its record was made.
    pub(super) made: i64,
    /// Where the newest record of a chain names the file and nothing says that this record is finished: only such a record
    /// may be unfinished.
    pub(super) tip: Option<TipFile>,
}

impl Expected {
    /// The file that counts.
    pub(super) fn file(&self) -> &CommitFile {
        match self.rebuilt.as_ref().map(|record| &record.outcome) {
            Some(RebuildOutcome::Replaced { file, .. }) => file,
            _ => &self.recorded,
        }
    }

    /// Whether the newest record gives it up.
    pub(super) fn is_given_up(&self) -> bool {
        let outcome = self.rebuilt.as_ref().map(|record| &record.outcome);
        matches!(outcome, Some(RebuildOutcome::GivenUp { .. }))
    }
}

/// A file of the newest record of a chain.
#[derive(Clone, Debug)]
pub(super) struct TipFile {
    pub(super) chain: ChainNames,
    pub(super) slot: u64,
    pub(super) index: usize,
    /// When the record was made.
    pub(super) made: i64,
}

/// The result of checking a file.
#[derive(Debug)]
pub(super) enum FileState {
    /// The file is as its record describes it.
    Good,
    /// The file does not exist.
    Absent,
    /// The file has other contents.
    Wrong(ProblemKind, String),
    /// The file has another size.
    OtherSize(u64),
}

/// Looks for a file, and with `contents` reads it and compares checksum and rows. Holds a part of the file, and its
/// footer.
pub(super) async fn check(
    lake: SharedLake,
    expected: Expected,
    contents: bool,
) -> Result<(Expected, FileState)> {
    let sealed = &expected.file().sealed;
    let state = match lake.head(&sealed.key).await? {
        None => FileState::Absent,
        Some(found) if found.size != sealed.size => FileState::OtherSize(found.size),
        Some(_) if !contents => FileState::Good,
        Some(_) => compare(&lake, expected.file()).await?,
    };
    Ok((expected, state))
}

/// Reads a file and compares its checksum, then the rows of its footer.
async fn compare(lake: &SharedLake, file: &CommitFile) -> Result<FileState> {
    let Sealed { key, size, crc, .. } = &file.sealed;
    let Some(found) = checksum(&**lake, key, *size).await? else {
        return Ok(FileState::Absent);
    };
    if found != *crc {
        let detail = format!("its checksum is {found:08x} instead of {crc:08x}");
        return Ok(FileState::Wrong(ProblemKind::Damaged, detail));
    }
    let mut wanted = FOOTER_END_BYTES;
    loop {
        let Some(tail) = lake
            .get_range(key, size.saturating_sub(wanted)..*size)
            .await?
        else {
            return Ok(FileState::Absent);
        };
        return Ok(match count_rows(&tail, *size) {
            Ok(Err(bytes)) if bytes > wanted => {
                wanted = bytes;
                continue;
            }
            Ok(Err(_)) => {
                let detail = "its end is missing: it was cut meanwhile";
                FileState::Wrong(ProblemKind::Damaged, detail.to_owned())
            }
            Ok(Ok(rows)) if rows == file.rows => FileState::Good,
            Ok(Ok(rows)) => {
                let detail = format!("it holds {rows} rows, but its record says {}", file.rows);
                FileState::Wrong(ProblemKind::Unbalanced, detail)
            }
            Err(error) => FileState::Wrong(ProblemKind::Damaged, error.to_string()),
        });
    }
}
