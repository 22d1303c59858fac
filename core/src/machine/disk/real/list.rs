//! Listings of a directory while others add and remove names: each name that stays is listed once, and one that is
//! removed between its listing and its look is passed over.

use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::Listed;

/// All names, in order.
pub(super) fn all(path: &Path) -> io::Result<Vec<Listed>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        names.extend(listed(&entry.file_name(), entry.metadata())?);
    }
    names.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(names)
}

/// The first names after `after`, at most `most`, in order; `look` reads the metadata of a path.
///
/// Fewer than `most` means that there are no more.
pub(super) fn first(
    path: &Path,
    mut after: String,
    most: usize,
    mut look: impl FnMut(&Path) -> io::Result<Metadata>,
) -> io::Result<Vec<Listed>> {
    let mut found = Vec::new();
    loop {
        let (mut names, mut are_more) = (BinaryHeap::new(), false);
        for entry in std::fs::read_dir(path)? {
            let name = entry?.file_name();
            // Names that are not UTF-8 are compared as they are listed.
            let text = name.to_string_lossy().into_owned();
            if text <= after {
                continue;
            }
            names.push((text, name));
            if names.len() > most - found.len() {
                names.pop();
                are_more = true;
            }
        }
        let names = names.into_sorted_vec();
        for (text, name) in &names {
            let listed = listed(name, look(&path.join(name)))?;
            debug_assert!(listed.iter().all(|_| *text > after));
            found.extend(listed);
        }
        debug_assert!(found.len() <= most);
        // For each name that was removed meanwhile another one takes its place.
        match names.into_iter().next_back() {
            Some((last, _)) if are_more && found.len() < most => after = last,
            _ => return Ok(found),
        }
    }
}

/// A name with its metadata; `None` when it was removed after it was listed.
fn listed(name: &OsStr, metadata: io::Result<Metadata>) -> io::Result<Option<Listed>> {
    match metadata {
        Ok(metadata) => Ok(Some(Listed {
            name: name.to_string_lossy().into_owned(),
            is_dir: metadata.is_dir(),
            len: metadata.len(),
            identity: metadata.ino(),
            modified: super::modified(&metadata),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{remove_file, write};

    use super::*;

    /// Lists at most `most` names at once, while each name that ends in `x` is removed before it is looked at and
    /// comes back after that, as in a directory in which others write temporary files all the time.
    fn listed_beside_others(most: usize) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "bx", "c", "d", "ex", "fx", "gx", "h"] {
            write(dir.path().join(name), "").unwrap();
        }
        let mut looks = 0;
        let (mut after, mut found) = (String::new(), Vec::new());
        loop {
            let look = |path: &Path| {
                looks += 1;
                assert!(
                    looks < 100,
                    "the listing begins again for each name that vanished"
                );
                let vanishes = path.to_string_lossy().ends_with('x');
                if vanishes {
                    remove_file(path).unwrap();
                }
                let answer = path.symlink_metadata();
                if vanishes {
                    write(path, "").unwrap();
                }
                answer
            };
            let names = first(dir.path(), after.clone(), most, look).unwrap();
            let is_last = names.len() < most;
            found.extend(names.into_iter().map(|listed| listed.name));
            match found.last() {
                Some(last) if !is_last => after.clone_from(last),
                _ => return found,
            }
        }
    }

    /// Names that come and go neither keep a listing from its end nor hide names that stay.
    #[test]
    fn a_directory_in_which_names_vanish_is_listed_to_its_end() {
        for most in 1..=9 {
            assert_eq!(
                listed_beside_others(most),
                ["a", "c", "d", "h"],
                "{most} at once"
            );
        }
    }
}
