//! Files that are followed and not open.
//!
//! Owns when a closed file is looked at again: when it is written to, and in a minute if it failed. One that no input leads
//! to any more is looked for as every known file is: its rest is read where it is found.
//!
//! Promises: a file that failed is tried until it was read to its end, or is reported as gone; one that was read to its end
//! and is gone has ended, and is not looked for again.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hydrant_core::clock::{self, Instant};
use hydrant_core::{Error, Result};

use super::{FoundFiles, InputWalk, is_mounted};
use crate::input::files::file::{FileIdentity, FileTail};
use crate::input::files::glob;
use crate::input::files::listing::Listing;
use crate::input::files::open_file::{ConsumerGone, OpenFile};
use crate::ledger::FileEntry;

/// When a file that failed is looked at again although it did not grow.
const FAILED_AGAIN: Duration = Duration::from_secs(60);

/// Size and time of a file, which change when it is written to. Its size alone does not show that: bytes may have come
/// in the place of NULs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileLook {
    pub(super) size: u64,
    modified: Option<SystemTime>,
}

impl FileLook {
    pub(super) fn of(metadata: &Metadata) -> Self {
        FileLook {
            size: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

/// A file that is not opened again while its size and time stay the same.
pub(super) struct ClosedFile {
    look: FileLook,
    /// When it is looked at again all the same: what failed may have ended. `None` for one that was read to its end.
    until: Option<Instant>,
    /// How far it was read; `None` for a copy, of which nothing is read.
    entry: Option<FileEntry>,
    /// Whether it does not grow as a rule.
    is_compressed: bool,
    /// Whether it was looked for and could not be reached.
    is_out_of_reach: bool,
}

impl ClosedFile {
    /// A copy of what is read elsewhere.
    pub(super) const fn copy(look: FileLook) -> Self {
        ClosedFile {
            look,
            until: None,
            entry: None,
            is_compressed: false,
            is_out_of_reach: false,
        }
    }

    /// One that was read to its end.
    pub(super) fn read(look: FileLook, live: &OpenFile<FileTail>) -> Self {
        ClosedFile {
            entry: Some(live.entry.clone()),
            is_compressed: live.reader.is_compressed(),
            ..ClosedFile::copy(look)
        }
    }

    /// One that cannot be read on now.
    pub(super) fn failed(look: FileLook, entry: Option<FileEntry>) -> Self {
        ClosedFile {
            until: Some(clock::now() + FAILED_AGAIN),
            entry,
            ..ClosedFile::copy(look)
        }
    }

    /// One that is to be looked at again at once.
    pub(super) fn changed(entry: FileEntry) -> Self {
        ClosedFile {
            until: Some(clock::now()),
            entry: Some(entry),
            ..ClosedFile::copy(FileLook::default())
        }
    }

    pub(super) fn holds(&self, look: FileLook) -> bool {
        self.look == look && self.until.is_none_or(|until| clock::now() < until)
    }

    /// Whether the file of `entry`, to which no input leads, is left as it is for now.
    fn waits(&self, entry: &FileEntry) -> bool {
        let is_later = self.until.is_some_and(|until| clock::now() < until);
        match std::fs::metadata(&entry.path) {
            _ if self.is_out_of_reach => is_later,
            Ok(found) if FileIdentity::of(&found) != entry.id => false,
            Ok(found) if is_later => self.look == FileLook::of(&found),
            Ok(_) => self.until.is_none() && self.is_compressed,
            Err(error) => is_later && !glob::is_absence(&error),
        }
    }
}

impl InputWalk {
    /// Looks for the closed files to which no input leads any more, where `is_led` says to which one does; answers `most` of
    /// those that were found, to be read on.
    pub(super) fn find_closed(
        &mut self,
        is_led: impl Fn(&FileIdentity) -> bool,
        most: usize,
    ) -> Result<FoundFiles, ConsumerGone> {
        let gone = self.closed.extract_if(.., |id, _| !is_led(id));
        let mut gone: Vec<_> = gone
            .filter_map(|(id, mut closed)| Some((closed.entry.take()?, id, closed)))
            .collect();
        gone.sort_by_key(|(entry, ..)| entry.number);
        let mut found = Vec::new();
        let mut listings = BTreeMap::new();
        for (entry, id, closed) in gone {
            // What is known of it is newer.
            let entry = self.known.get(entry.number).cloned().unwrap_or(entry);
            if entry.ended || entry.id != Some(id) || self.open.contains(&entry.number) {
                continue;
            }
            if found.len() >= most || closed.waits(&entry) {
                let entry = Some(entry);
                self.closed.insert(id, ClosedFile { entry, ..closed });
                continue;
            }
            let again = ClosedFile {
                is_out_of_reach: true,
                ..ClosedFile::failed(closed.look, Some(entry.clone()))
            };
            match self.find(&entry, id, closed.is_compressed, &mut listings) {
                Ok(Some(live)) => {
                    live.entry.id.map(|id| self.seen.insert(id));
                    self.remember(&live);
                    found.push(live);
                }
                Ok(None) if !is_mounted(&entry) => {
                    self.closed.insert(id, again);
                }
                Ok(None) if closed.until.is_none() => self.give_up(entry),
                Ok(None) => self.leave(entry),
                Err(error) => {
                    warn_failed(&error);
                    self.closed.insert(id, again);
                }
            }
        }
        self.note_left()?;
        Ok(found)
    }

    /// Finds a closed file where it is now; a compressed one that was read to its end has no rest anywhere.
    fn find(
        &mut self,
        entry: &FileEntry,
        id: FileIdentity,
        is_compressed: bool,
        listings: &mut BTreeMap<PathBuf, Listing>,
    ) -> Result<Option<OpenFile<FileTail>>> {
        let there = FileIdentity::look(&entry.path)
            .map_err(|error| Error::io("look at", &entry.path, error))?;
        match is_compressed {
            true => Ok(None),
            false => self.rest_of(entry, there.filter(|there| *there == id), listings),
        }
    }
}

pub(super) fn warn_failed(error: &Error) {
    tracing::warn!(
        error = error.report(),
        "a file cannot be read: the producer tries it again when it grows, or in a minute"
    );
}

#[cfg(test)]
#[test]
fn a_file_that_failed_is_looked_at_again_when_it_is_written_to_and_in_a_while() {
    let look = |size, seconds| FileLook {
        size,
        modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
    };
    for closed in [
        ClosedFile::failed(look(8, 1), None),
        ClosedFile::copy(look(8, 1)),
    ] {
        assert!(closed.holds(look(8, 1)));
        assert!(!closed.holds(look(9, 1)) && !closed.holds(look(8, 2)));
    }
    let later = ClosedFile {
        until: Some(clock::now()),
        ..ClosedFile::copy(look(8, 1))
    };
    assert!(!later.holds(look(8, 1)));
}
