//! Lists the files beside a path, to find a file that is not at its path any more.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use hydrant_core::{Error, Result};

use super::file::FileIdentity;
use super::glob::here;
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A link that leads nowhere is not a file that was rotated.
            Err(_) if other.is_symlink() => {}
            Err(error) => return Err(Error::io("look at", &other, error)),
        }
    }
    Ok(files)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

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
