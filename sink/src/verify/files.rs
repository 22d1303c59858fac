//! The check of a file that a record names.

use hydrant_core::Result;
use hydrant_core::lake::SharedLake;

use super::report::ProblemKind;
use crate::encode::{FOOTER_END_BYTES, ParquetTail, count_rows, footer_bytes};
use crate::lake::CommitFile;

/// How many bytes of a file are read at once.
const RANGE_BYTES: u64 = 8 << 20;

/// A file as its record describes it.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) key: String,
    /// The upload that becomes the file.
    pub(super) upload: String,
    pub(super) size: u64,
    crc: u32,
    rows: u64,
    /// Whether the newest record of its chain names the file: only that record may be unfinished.
    pub(super) is_tip: bool,
}

/// The result of checking a file.
#[derive(Debug)]
pub(super) enum FileState {
    /// The file is as its record describes it.
    Good,
    /// The file does not exist.
    Absent,
    /// The file has this many bytes instead of those that its record says.
    OtherSize(u64),
    /// The file has other contents.
    Wrong(ProblemKind, String),
}

/// A file that was checked.
#[derive(Debug)]
pub(super) struct CheckedFile {
    pub(super) file: Expected,
    pub(super) state: FileState,
}

impl Expected {
    pub(super) fn new(file: &CommitFile, is_tip: bool) -> Self {
        Expected {
            key: file.sealed.key.clone(),
            upload: file.sealed.upload.clone(),
            size: file.sealed.size,
            crc: file.sealed.crc,
            rows: file.rows,
            is_tip,
        }
    }
}

/// Looks for a file, and with `contents` reads it and compares checksum and rows. Holds a part of the file, and its
/// footer.
pub(super) async fn check(lake: SharedLake, file: Expected, contents: bool) -> Result<CheckedFile> {
    let state = match lake.head(&file.key).await? {
        None => FileState::Absent,
        Some(found) if found.size != file.size => FileState::OtherSize(found.size),
        Some(_) if !contents => FileState::Good,
        Some(_) => compare(&lake, &file).await?,
    };
    Ok(CheckedFile { file, state })
}

/// Reads a file range by range and compares its checksum, then the rows of its footer.
async fn compare(lake: &SharedLake, file: &Expected) -> Result<FileState> {
    let (mut at, mut crc) = (0, 0);
    while at < file.size {
        let end = (at + RANGE_BYTES).min(file.size);
        let Some(part) = lake.get_range(&file.key, at..end).await? else {
            return Ok(FileState::Absent);
        };
        if part.len() as u64 != end - at {
            return Ok(FileState::OtherSize(at + part.len() as u64));
        }
        crc = crc32c::crc32c_append(crc, &part);
        at = end;
    }
    if crc != file.crc {
        let detail = format!("its checksum is {crc:08x} instead of {:08x}", file.crc);
        return Ok(FileState::Wrong(ProblemKind::Damaged, detail));
    }
    let end = file.size.saturating_sub(FOOTER_END_BYTES)..file.size;
    let Some(mut tail) = lake.get_range(&file.key, end).await? else {
        return Ok(FileState::Absent);
    };
    let footer = footer_bytes(&tail).min(file.size);
    if footer > tail.len() as u64 {
        match lake
            .get_range(&file.key, file.size - footer..file.size)
            .await?
        {
            Some(found) => tail = found,
            None => return Ok(FileState::Absent),
        }
    }
    Ok(compare_rows(file, ParquetTail::new(file.size, tail)))
}

fn compare_rows(file: &Expected, tail: ParquetTail) -> FileState {
    match count_rows(tail) {
        Ok(rows) if rows == file.rows => FileState::Good,
        Ok(rows) => {
            let detail = format!("it holds {rows} rows, but its record says {}", file.rows);
            FileState::Wrong(ProblemKind::Unbalanced, detail)
        }
        Err(error) => FileState::Wrong(ProblemKind::Damaged, error.to_string()),
    }
}
