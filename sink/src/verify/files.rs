//! The check of a file that a record names.

use bytes::Bytes;
use hydrant_core::Result;
use hydrant_core::lake::SharedLake;

use super::report::ProblemKind;
use crate::encode::inspect;
use crate::lake::CommitFile;

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

/// Looks for a file, and with `contents` reads it and compares checksum and rows.
pub(super) async fn check(lake: SharedLake, file: Expected, contents: bool) -> Result<CheckedFile> {
    let state = match lake.size(&file.key).await? {
        None => FileState::Absent,
        Some(size) if size != file.size => FileState::OtherSize(size),
        Some(_) if !contents => FileState::Good,
        Some(_) => match lake.get(&file.key).await? {
            None => FileState::Absent,
            Some(body) => compare(&file, body),
        },
    };
    Ok(CheckedFile { file, state })
}

fn compare(file: &Expected, body: Bytes) -> FileState {
    let crc = crc32c::crc32c(&body);
    if crc != file.crc {
        let detail = format!("its checksum is {crc:08x} instead of {:08x}", file.crc);
        return FileState::Wrong(ProblemKind::Damaged, detail);
    }
    match inspect(body) {
        Ok(found) if found.rows == file.rows => FileState::Good,
        Ok(found) => {
            let detail = format!(
                "it holds {} rows, but its record says {}",
                found.rows, file.rows
            );
            FileState::Wrong(ProblemKind::Unbalanced, detail)
        }
        Err(error) => FileState::Wrong(ProblemKind::Damaged, error.to_string()),
    }
}
