//! Finds files that were read under other names: renamed files, and copies.
//!
//! Owns the search beside its path. A renamed file is known by its inode. A copy is known by its name *and* by what it
//! holds, which is all that was taken of the original: a name alone proves nothing, and two files may begin with the
//! same records. A file that is older than its original is not a copy of it. In doubt a file is a new one, which is sent.
//!
//! Promises: a file that cannot be looked at is an error, and never counts as absent.

use std::path::Path;
use std::time::Duration;

use hydrant_core::{Error, Result};

use super::{CHANGES_MAX, InputWalk, NewFile, open_same};
use crate::input::InputError;
use crate::input::files::file::{FileIdentity, FileTail};
use crate::input::files::listing::beside;
use crate::input::files::open_file::OpenFile;
use crate::input::files::rotation;
use crate::input::records::alike::{Alike, compare, proven};
use crate::ledger::FileEntry;

/// A copy that was written to within this time may still be unfinished.
const MAKING: Duration = Duration::from_secs(60);

impl InputWalk {
    /// Finds the file of `entry` under another name in its directory, by its inode.
    pub(super) fn find_moved(&mut self, entry: &FileEntry) -> Result<Option<OpenFile<FileTail>>> {
        let Some(id) = entry.id else {
            return Ok(None);
        };
        for _ in 0..CHANGES_MAX {
            let mut beside = beside(&entry.path)?.into_iter();
            let Some(path) = beside.find(|path| FileIdentity::at(path) == Some(id)) else {
                return Ok(None);
            };
            match self.resume(&path, id, entry.clone()) {
                Ok(Some(mut live)) => {
                    live.leads_from(entry);
                    self.seen.insert(id);
                    tracing::info!(input = %entry.path.display(), now = &*live.name, "the file was renamed: the rest of it is read first");
                    return Ok(Some(live));
                }
                Ok(None) => return Ok(None),
                // It was renamed again.
                Err(_) if FileIdentity::at(&path) != Some(id) => {}
                Err(error) => return warn_damaged(error).map(|()| None),
            }
        }
        Err(changes(&entry.path))
    }

    /// Finds a copy of what was taken of `entry`, perhaps compressed, under a name that rotation makes of its own. Of several,
    /// the first that was made after the file was seen: later ones may be of what was written behind the truncation;
    /// else the last one before, since earlier ones are of what was truncated away.
    pub(super) fn find_copy(&mut self, entry: &FileEntry) -> Result<Option<OpenFile<FileTail>>> {
        if !is_provable(entry) {
            return Ok(None);
        }
        for _ in 0..CHANGES_MAX {
            let mut is_changed = false;
            let mut candidates = Vec::new();
            for path in beside(&entry.path)? {
                if rotation::is_rotated(&path, &entry.path) {
                    match FileIdentity::at(&path) {
                        Some(id) => candidates.push((path, id)),
                        None => is_changed = true,
                    }
                }
            }
            candidates
                .retain(|(_, id)| !is_older(*id, entry) && self.known.with(*id).next().is_none());
            candidates.sort_by_key(|(_, id)| match (id.born.map(i128::from), entry.seen) {
                (Some(born), Some(seen)) if born >= i128::from(seen) => (0, born),
                (Some(born), _) => (1, -born),
                (None, _) => (2, 0),
            });
            for (path, id) in candidates {
                match self.resume(&path, id, entry.clone()) {
                    Ok(Some(live)) => {
                        self.seen.insert(id);
                        return Ok(Some(copied(live, entry)));
                    }
                    Ok(None) => {}
                    Err(_) if FileIdentity::at(&path) != Some(id) => is_changed = true,
                    Err(error) => warn_damaged(error)?,
                }
            }
            if !is_changed {
                return Ok(None);
            }
        }
        Err(changes(&entry.path))
    }

    /// Whether a new file is the copy of a known one: what logrotate makes of it, found by a pattern.
    pub(super) fn copy_of(&self, path: &Path, id: FileIdentity) -> Result<NewFile> {
        let originals = rotation::originals(path);
        let mut likely: Vec<&FileEntry> = originals
            .iter()
            .flat_map(|original| self.known.at(original))
            .filter(|entry| is_provable(entry) && !is_older(id, entry))
            .collect();
        // The last one that stood there is the likeliest.
        likely.sort_by_key(|entry| std::cmp::Reverse(entry.number));
        for entry in likely {
            let copied = self.copy_of_one(path, id, entry)?;
            if !matches!(copied, NewFile::New) {
                return Ok(copied);
            }
        }
        let gone = self.gone.iter().rev();
        let gone = gone.filter_map(|number| self.known.get(*number));
        let mut doubtful = None;
        let is_like = |entry: &&FileEntry| {
            is_provable(entry)
                && stem(path).is_some()
                && stem(path) == stem(&entry.path)
                && !originals.contains(&entry.path)
        };
        for entry in gone.filter(is_like) {
            if doubtful.is_none() && self.resume_undamaged(path, id, entry)?.is_some() {
                doubtful = Some(entry);
            }
        }
        if let Some(entry) = doubtful {
            tracing::warn!(
                input = %path.display(),
                like = %entry.path.display(),
                "the file begins like one that was read and is gone, but is not named like a rotation of it: it counts \
                 as a new file, and is sent from its start"
            );
        }
        Ok(NewFile::New)
    }

    /// Whether a file whose name and age allow it is the copy of `entry`.
    fn copy_of_one(&self, path: &Path, id: FileIdentity, entry: &FileEntry) -> Result<NewFile> {
        let original = FileIdentity::look(&entry.path)
            .map_err(|error| Error::io("look at", &entry.path, error))?
            .filter(|original| Some(*original) == entry.id);
        let log = |message: &str| {
            tracing::info!(input = %path.display(), of = %entry.path.display(), "{message}");
        };
        let has_all = self.resume_undamaged(path, id, entry)?;
        if let Some(original) = original {
            let alike = self.compare(path, id, &entry.path, original)?;
            let is_packed = rotation::is_packed(path);
            if alike == Alike::Beginning && (has_all.is_some() || is_packed) {
                log("the file is a copy: its records are read from the original");
                return Ok(NewFile::Whole);
            }
            if alike != Alike::No && (is_being_made(path) || alike == Alike::Cut && is_packed) {
                tracing::warn!(
                    input = %path.display(),
                    of = %entry.path.display(),
                    "the file may be a copy that is being made: the producer looks at it again in a minute, or in the next run"
                );
                return Ok(NewFile::Making);
            }
            // It may have been truncated behind the copy; else each has records of its own.
            if alike != Alike::No || self.resume(&entry.path, original, entry.clone())?.is_some() {
                return Ok(NewFile::New);
            }
        }
        match has_all {
            Some(live) => Ok(NewFile::Goes(Box::new(copied(live, entry)))),
            None if self.is_part(path, id, entry)? => {
                log(
                    "the file is a copy that was made before the last records of its original were read: it has nothing new",
                );
                Ok(NewFile::Whole)
            }
            None => Ok(NewFile::New),
        }
    }

    /// Whether the file holds a part of what was taken of `entry` and nothing else, which digests prove for one half of
    /// it at least.
    fn is_part(&self, path: &Path, id: FileIdentity, entry: &FileEntry) -> Result<bool> {
        let checks: Vec<_> = entry.checks().collect();
        let memory = self.reading.memory_bytes;
        let found = proven(open_same(path, id)?, &checks, entry.bytes, memory)
            .map_err(|error| Error::io("read", path, error))?;
        Ok(found.is_some_and(|(held, proven)| proven > 0 && proven >= held / 2))
    }

    /// What the file holds of its original.
    fn compare(
        &self,
        path: &Path,
        id: FileIdentity,
        original: &Path,
        its: FileIdentity,
    ) -> Result<Alike> {
        let (copy, original) = (open_same(path, id)?, open_same(original, its)?);
        compare(copy, original, self.reading.memory_bytes)
            .map_err(|error| Error::io("compare with its copy", path, error))
    }

    /// Like [`InputWalk::resume`]; what is damaged or cut is not the file.
    fn resume_undamaged(
        &self,
        path: &Path,
        id: FileIdentity,
        entry: &FileEntry,
    ) -> Result<Option<OpenFile<FileTail>>> {
        match self.resume(path, id, entry.clone()) {
            Err(error) if is_damaged(&error) => Ok(None),
            found => Ok(found?),
        }
    }
}

fn copied(mut live: OpenFile<FileTail>, entry: &FileEntry) -> OpenFile<FileTail> {
    live.is_copy = true;
    live.leads_from(entry);
    tracing::info!(input = &*live.name, of = %entry.path.display(), "the file is a copy: only the records that were not read from its original are read");
    live
}

/// Warns of a file whose content is damaged, which is not the one that is looked for.
///
/// # Errors
/// When the file could not be looked at.
fn warn_damaged(error: InputError) -> Result<()> {
    let is_damaged = is_damaged(&error);
    let error = Error::from(error);
    if !is_damaged {
        return Err(error);
    }
    tracing::warn!(
        error = error.report(),
        "a file is damaged, so that it does not count as one that was read before"
    );
    Ok(())
}

/// Whether the content of a file is at fault.
fn is_damaged(error: &InputError) -> bool {
    match error {
        InputError::Format { .. } => true,
        InputError::Read { source, .. } => source.raw_os_error().is_none(),
        InputError::Open { .. } => false,
    }
}

fn changes(path: &Path) -> Error {
    let path = path.display();
    Error::fatal(format!(
        "the files beside `{path}` change faster than the producer can look at them: start again"
    ))
}

/// The directory, and the ASCII letters that the name begins with.
fn stem(path: &Path) -> Option<(&Path, &[u8])> {
    let name = path.file_name()?.as_encoded_bytes();
    let letters = name
        .iter()
        .take_while(|byte| byte.is_ascii_alphabetic())
        .count();
    (letters > 0).then(|| (path.parent().unwrap_or(path), &name[..letters]))
}

/// Whether enough is known of the file to recognise its content in another one.
const fn is_provable(entry: &FileEntry) -> bool {
    entry.bytes > 0 || entry.first.is_some()
}

/// Whether a file was made before that of `entry`, where the file system knows: it is not a copy of it.
fn is_older(id: FileIdentity, entry: &FileEntry) -> bool {
    let original = entry.id.and_then(|id| id.born);
    matches!((id.born, original), (Some(copy), Some(original)) if copy < original)
}

/// Whether `path` may be a copy that is not finished.
fn is_being_made(path: &Path) -> bool {
    let modified = std::fs::metadata(path).and_then(|found| found.modified());
    let since = modified.ok().and_then(|modified| modified.elapsed().ok());
    since.is_none_or(|since| since < MAKING)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::Arc;

    use hydrant_core::Random;
    use hydrant_core::stream::KeyRule;
    use hydrant_testing::clock::ManualClock;
    use tokio::sync::mpsc;

    use super::*;
    use crate::input::files::open_file::ChunkSender;
    use crate::input::files::own_files::OwnFiles;
    use crate::input::indexer::{ChunkLimits, Indexer};
    use crate::input::{Digest, ReadOptions};

    #[test]
    fn what_cannot_be_read_is_not_taken_for_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        // A regular file of which the first byte cannot be read by any user.
        std::os::unix::fs::symlink("/proc/self/mem", dir.path().join("g.1")).unwrap();
        let indexer = Indexer {
            key: None,
            limits: ChunkLimits {
                record_bytes_max: 1_024,
                keys: KeyRule::Any,
                chunk_bytes: 1_024,
            },
            clock: Arc::new(ManualClock::new(0)),
        };
        let sender = ChunkSender::new(indexer, Random::seeded(1), mpsc::channel(1).0, true);
        let (own, reading) = (OwnFiles::default(), ReadOptions::lines(1_024));
        let mut walk = InputWalk::new(Vec::new(), own, reading, Vec::new(), sender);
        let entry = |id| FileEntry {
            bytes: 8,
            digest: Digest(1),
            ..FileEntry::new(0, dir.path().join("g"), id)
        };
        let id = FileIdentity::at(&dir.path().join("g.1"));
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
