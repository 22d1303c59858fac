//! Lists the files beside a path, to find a file that is not at its path any more.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use hydrant_core::{Error, Result};
use rustix::io::Errno;

use super::file::FileIdentity;
use super::glob::{here, is_absence};
use super::rotation;
use crate::ledger::FileEntry;

/// The files of a directory, which show whether a file that was there may have another name now.
pub(super) struct Listing {
    ids: BTreeSet<FileIdentity>,
    /// The files that those in it may be made of.
    originals: HashSet<PathBuf>,
}

impl Listing {
    /// Of the directory of `path`.
    pub(super) fn beside(path: &Path) -> Result<Self> {
        let mut files = beside(path)?;
        files.push(path.to_owned());
        Ok(Listing {
            ids: files
                .iter()
                .filter_map(|file| FileIdentity::at(file))
                .collect(),
            originals: files
                .iter()
                .flat_map(|file| rotation::originals(file))
                .collect(),
        })
    }

    /// Whether a file that is not at its path now may be found. What goes to another name later had one of them when
    /// this was listed.
    pub(super) fn may_hold(&self, entry: &FileEntry) -> bool {
        entry.id.is_none_or(|id| self.ids.contains(&id)) || self.originals.contains(&entry.path)
    }
}

/// The other files in the directory of `path`, by name.
pub(super) fn beside(path: &Path) -> Result<Vec<PathBuf>> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let failed = |error| Error::io("list the directory of", path, error);
    let entries = match std::fs::read_dir(here(directory)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let paths = entries.map(|entry| entry.map(|entry| directory.join(entry.file_name())));
    let mut paths: Vec<PathBuf> = paths.collect::<io::Result<_>>().map_err(failed)?;
    let mut files = Vec::new();
    paths.sort();
    for other in paths {
        match std::fs::metadata(&other) {
            Ok(found) if found.is_file() && other != path => files.push(other),
            Ok(_) => {}
            Err(error) if leads_nowhere(&error) => {}
            Err(error) => return Err(Error::io("look at", &other, error)),
        }
    }
    Ok(files)
}

/// Whether what is looked at is gone, or a link that leads to nothing or to itself, which is not a file that was rotated.
/// What stands behind a link and cannot be looked at may be one.
fn leads_nowhere(error: &io::Error) -> bool {
    is_absence(error) || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_behind_a_link_is_not_taken_for_what_is_not_there() {
        for (errno, is_nowhere) in [
            (Errno::NOENT, true),
            (Errno::NOTDIR, true),
            (Errno::LOOP, true),
            (Errno::ACCESS, false),
            (Errno::IO, false),
            (Errno::NOTCONN, false),
            (Errno::STALE, false),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(leads_nowhere(&error), is_nowhere, "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (name, to) in [("itself", "itself"), ("nothing", "gone"), ("a", "b")] {
            std::os::unix::fs::symlink(path(to), path(name)).unwrap();
        }
        std::fs::write(path("b"), "").unwrap();
        assert_eq!(beside(&path("app")).unwrap(), [path("a"), path("b")]);
    }

    #[test]
    fn a_listing_shows_which_files_need_no_search() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a.log.1.gz", "b"] {
            std::fs::write(path(name), name).unwrap();
        }
        let listing = Listing::beside(&path("a.log")).unwrap();
        let other = FileIdentity {
            device: 0,
            inode: 0,
            born: None,
        };
        for (name, id, may) in [
            ("a.log", Some(other), true),
            ("c", FileIdentity::at(&path("b")), true),
            ("c", Some(other), false),
        ] {
            let may_hold = listing.may_hold(&FileEntry::new(0, path(name), id));
            assert_eq!(may_hold, may, "{name}");
        }
    }
}
