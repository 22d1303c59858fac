//! What became of a file that was read: where it was renamed to, and what is a copy of it.
//!
//! Owns the search beside its path. A renamed file is known by its inode. A copy is known by its name *and* by what it
//! holds, which is all that was taken of the original: a name alone proves nothing, and two files may begin with the
//! same records. A file that is older than its original is not a copy of it. In doubt a file is a new one, which is sent.
//!
//! Promises: what cannot be looked at is an error, so that nobody takes it for what is not there.

use super::*;

/// What a file is that nothing is known of.
pub(super) enum Copied {
    New,
    /// What it holds is read from its original.
    Whole,
    /// It may be a copy that is not finished.
    Making,
    Goes(Box<Live<Tail>>),
}

/// How long ago a copy was written to at most that is still being made.
const MAKING: Duration = Duration::from_secs(60);

impl Walk {
    /// The file of `entry` under another name in its directory, by its inode.
    pub(super) fn find_moved(&mut self, entry: &FileEntry) -> Result<Option<Live<Tail>>> {
        let Some(id) = entry.id else {
            return Ok(None);
        };
        for _ in 0..CHANGES_MAX {
            let mut beside = beside(&entry.path)?.into_iter();
            let Some(path) = beside.find(|path| FileId::at(path) == Some(id)) else {
                return Ok(None);
            };
            match self.resume(&path, id, entry.clone()) {
                Ok(Some(mut live)) => {
                    live.entry.moved = true;
                    self.seen.insert(id);
                    tracing::info!(input = %entry.path.display(), now = &*live.name, "was renamed: the rest of it is read first");
                    return Ok(Some(live));
                }
                Ok(None) => return Ok(None),
                // It was renamed again.
                Err(_) if FileId::at(&path) != Some(id) => {}
                Err(error) => return tell_damaged(error).map(|()| None),
            }
        }
        Err(changes(&entry.path))
    }

    /// A copy of what was taken of `entry`, compressed perhaps, under a name that rotation makes of its own.
    pub(super) fn find_copy(&mut self, entry: &FileEntry) -> Result<Option<Live<Tail>>> {
        if !is_provable(entry) {
            return Ok(None);
        }
        for _ in 0..CHANGES_MAX {
            let mut is_changed = false;
            for path in beside(&entry.path)? {
                if !names::is_rotated(&path, &entry.path) {
                    continue;
                }
                let Some(id) = FileId::at(&path) else {
                    is_changed = true;
                    continue;
                };
                if self.known.values().any(|known| known.id == Some(id)) {
                    continue;
                }
                match self.resume(&path, id, entry.clone()) {
                    Ok(Some(mut live)) => {
                        live.is_copy = true;
                        self.seen.insert(id);
                        tell_copied(&live, entry);
                        return Ok(Some(live));
                    }
                    Ok(None) => {}
                    Err(_) if FileId::at(&path) != Some(id) => is_changed = true,
                    Err(error) => tell_damaged(error)?,
                }
            }
            if !is_changed {
                return Ok(None);
            }
        }
        Err(changes(&entry.path))
    }

    /// Whether a new file is the copy of a known one: what logrotate makes of it, found by a pattern.
    pub(super) fn copy_of(&self, path: &Path, id: FileId) -> Result<Copied> {
        for entry in self.known.values() {
            let original = entry
                .id
                .filter(|original| FileId::at(&entry.path) == Some(*original));
            let Some(original) = original.filter(|_| names::is_rotated(path, &entry.path)) else {
                continue;
            };
            if is_older(path, &entry.path) || !is_provable(entry) {
                continue;
            }
            let has_all = self.resume(path, id, entry.clone())?;
            if is_beginning(path, &entry.path).unwrap_or(false) {
                if has_all.is_some() {
                    tracing::info!(
                        input = %path.display(),
                        of = %entry.path.display(),
                        "is a copy: its records are read from the original"
                    );
                    return Ok(Copied::Whole);
                }
                if is_being_made(path) {
                    tracing::warn!(
                        input = %path.display(),
                        of = %entry.path.display(),
                        "may be a copy that is being made, and is looked at again in a minute or by the next run"
                    );
                    return Ok(Copied::Making);
                }
                continue;
            }
            // The original may have been truncated behind the copy; else each has records of its own.
            if let Some(live) = has_all
                && self.resume(&entry.path, original, entry.clone())?.is_none()
            {
                return Ok(goes(live, entry));
            }
        }
        let gone = self.gone.iter().rev();
        let gone = gone.filter_map(|number| self.known.get(number));
        let mut doubtful = None;
        let is_like = |entry: &&FileEntry| {
            is_provable(entry) && stem(path).is_some() && stem(path) == stem(&entry.path)
        };
        for entry in gone.filter(is_like) {
            if let Some(live) = self.resume(path, id, entry.clone())? {
                if names::is_rotated(path, &entry.path) {
                    return Ok(goes(live, entry));
                }
                doubtful = doubtful.or(Some(entry));
            }
        }
        if let Some(entry) = doubtful {
            tracing::warn!(
                input = %path.display(),
                like = %entry.path.display(),
                "begins like a file that was read and is gone, but is not named like a rotation of it: it is taken for \
                 another file, and is sent from its start"
            );
        }
        Ok(Copied::New)
    }
}

fn goes(mut live: Live<Tail>, entry: &FileEntry) -> Copied {
    live.is_copy = true;
    tell_copied(&live, entry);
    Copied::Goes(Box::new(live))
}

fn tell_copied(live: &Live<Tail>, entry: &FileEntry) {
    tracing::info!(input = &*live.name, of = %entry.path.display(), "is a copy: only what was not read from its original is read");
}

/// Passes over a file whose content is damaged, with a warning; it is not the one that is looked for.
///
/// # Errors
/// When the file could not be looked at.
fn tell_damaged(error: InputError) -> Result<()> {
    let is_damaged = match &error {
        InputError::Format { .. } => true,
        InputError::Read { source, .. } => source.raw_os_error().is_none(),
        InputError::Open { .. } => false,
    };
    let error = Error::from(error);
    if !is_damaged {
        return Err(error);
    }
    tracing::warn!(
        error = error.report(),
        "a file is damaged, so it is not taken for one that was read before"
    );
    Ok(())
}

fn changes(path: &Path) -> Error {
    let path = path.display();
    Error::fatal(format!(
        "the files beside `{path}` change faster than they can be looked at: start again"
    ))
}

/// The other files in the directory of `path`, by name.
fn beside(path: &Path) -> Result<Vec<PathBuf>> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let failed = |error| Error::io("list the directory of", path, error);
    let listed = if directory == Path::new("") {
        std::fs::read_dir(".")
    } else {
        std::fs::read_dir(directory)
    };
    let entries = match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let paths = entries.map(|entry| entry.map(|entry| directory.join(entry.file_name())));
    let mut paths: Vec<PathBuf> = paths.collect::<io::Result<_>>().map_err(failed)?;
    paths.retain(|other| other != path && other.is_file());
    paths.sort();
    Ok(paths)
}

/// The directory and the letters that the name begins with.
fn stem(path: &Path) -> Option<(&Path, &[u8])> {
    let name = path.file_name()?.as_encoded_bytes();
    let letters = name
        .iter()
        .take_while(|byte| byte.is_ascii_alphabetic())
        .count();
    (letters > 0).then(|| (path.parent().unwrap_or(path), &name[..letters]))
}

/// Whether so much is known of the file that another one can be told by what it holds.
const fn is_provable(entry: &FileEntry) -> bool {
    entry.bytes > 0 || entry.first.is_some() || entry.former.is_some() && entry.index > 0
}

/// Whether `path` was made before `original`, where the file system knows: it is not a copy of it.
fn is_older(path: &Path, original: &Path) -> bool {
    let born = |path| std::fs::metadata(path).and_then(|found| found.created());
    matches!((born(path), born(original)), (Ok(copy), Ok(original)) if copy < original)
}

/// Whether `path` may be a copy that is not finished.
fn is_being_made(path: &Path) -> bool {
    let modified = std::fs::metadata(path).and_then(|found| found.modified());
    let since = modified.ok().and_then(|modified| modified.elapsed().ok());
    since.is_none_or(|since| since < MAKING)
}

/// Whether `path` holds the first bytes of `original`, as a copy does that is still being made.
fn is_beginning(path: &Path, original: &Path) -> io::Result<bool> {
    use std::io::{BufRead, BufReader};
    let mut copy = BufReader::new(std::fs::File::open(path)?);
    let mut original = BufReader::new(std::fs::File::open(original)?);
    loop {
        let left = copy.fill_buf()?;
        if left.is_empty() {
            return Ok(true);
        }
        let right = original.fill_buf()?;
        let length = left.len().min(right.len());
        if length == 0 || left[..length] != right[..length] {
            return Ok(false);
        }
        copy.consume(length);
        original.consume(length);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use hydrant_core::testing::clock::ManualClock;
    use tokio::sync::mpsc;

    use super::*;
    use crate::ledger::Digest;
    use crate::source::index::Indexer;

    #[test]
    fn what_cannot_be_read_is_not_taken_for_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        // A regular file of which the first byte cannot be read, by nobody.
        std::os::unix::fs::symlink("/proc/self/mem", dir.path().join("g.1")).unwrap();
        let indexer = Indexer {
            key: None,
            record_bytes_max: 1_024,
            clock: Arc::new(ManualClock::new(0)),
        };
        let sender = Sender::new(indexer, mpsc::channel(1).0, true);
        let (own, reading) = (OwnFiles::default(), Reading::lines(1_024));
        let mut walk = Walk::new(Vec::new(), own, true, reading, Vec::new(), sender);
        let entry = |id| FileEntry {
            bytes: 8,
            digest: Digest(1),
            ..FileEntry::new(0, dir.path().join("g"), id)
        };
        let id = FileId::at(&dir.path().join("g.1"));
        for error in [
            walk.find_moved(&entry(id)).err().unwrap(),
            walk.find_copy(&entry(None)).err().unwrap(),
        ] {
            assert!(error.to_string().contains("g.1"), "{error}");
        }
        // What is damaged is passed over with a warning, whatever it is.
        let mut member = b"\x1F\x8B".to_vec();
        member.resize(64, 0xFF);
        std::fs::remove_file(dir.path().join("g.1")).unwrap();
        std::fs::write(dir.path().join("g.1"), member).unwrap();
        assert!(walk.find_copy(&entry(None)).unwrap().is_none());
    }
}
