//! Opens and reads the files of inputs.
//!
//! Owns opening and its errors, what identifies a file, and [`FileTail`], which reads a file that others write: what was
//! read must still stand where it was read, else the file was truncated or rewritten and nothing more is taken from
//! it. NULs up to the end of a file are not read: it was made longer before it was written (preallocated files, network
//! file systems), and bytes come in their place. A named pipe is a file too: opening one waits for its writer.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::glob::is_absence;
use crate::input::records::text::nul_bytes;
use crate::input::{InputError, Truncated};

/// What is looked at at once for a byte behind a run of NULs.
const SEARCH_BYTES: usize = 64 << 10;

/// How much of what was read last is looked at again.
const WITNESS_BYTES: usize = 1 << 10;

/// The identity of a file, which it keeps when it is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileIdentity {
    /// The device that it lies on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
    /// When it was made, microseconds since 1970, where the file system knows: inodes are used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<u64>,
}

impl FileIdentity {
    /// The identity of a regular file; others have none.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Option<Self> {
        metadata.is_file().then(|| FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: micros(metadata.created()),
        })
    }

    /// The identity of the file at `path`; `None` where none exists.
    ///
    /// # Errors
    /// When it cannot be looked at; that does not count as absent.
    pub fn look(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(found) => Ok(FileIdentity::of(&found)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The identity of the file at `path`, if that can be looked at.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        FileIdentity::of(&std::fs::metadata(path).ok()?)
    }
}

/// A birth time; many file systems know none (NFS, FUSE, procfs), and their files have an identity all the same.
fn micros(created: io::Result<SystemTime>) -> Option<u64> {
    let since = created.ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok()
}

/// A file that is read while others may write it.
#[derive(Debug)]
pub struct FileTail {
    file: File,
    id: Option<FileIdentity>,
    read: u64,
    /// Before this place NULs are read, too: something stands there.
    solid: u64,
    witness: Vec<u8>,
}

impl FileTail {
    /// Opens `path`.
    ///
    /// # Errors
    /// When the file does not exist, may not be read, or is a directory.
    pub fn open(path: &Path) -> Result<FileTail, InputError> {
        let opened = File::open(path).and_then(|file| {
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let id = FileIdentity::of(&metadata);
            Ok(FileTail {
                file,
                id,
                read: 0,
                solid: 0,
                witness: Vec::new(),
            })
        });
        opened.map_err(|source| failed(path, source))
    }

    /// Its identity; none unless it is a regular file.
    #[must_use]
    pub const fn id(&self) -> Option<FileIdentity> {
        self.id
    }

    /// Whether it still has a name: without one, only processes that have it open can read it.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.nlink() > 0)
    }

    /// How many of its bytes were read.
    #[must_use]
    pub const fn read_bytes(&self) -> u64 {
        self.read
    }

    /// Whether what was read last stands where it stood.
    fn is_intact(&self) -> io::Result<bool> {
        if self.witness.is_empty() {
            return Ok(true);
        }
        let mut again = [0; WITNESS_BYTES];
        let again = &mut again[..self.witness.len()];
        let place = self.read - self.witness.len() as u64;
        match self.file.read_exact_at(again, place) {
            Ok(()) => Ok(*again == self.witness[..]),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a regular file without the NULs at its end.
    fn read_filled(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.file.read_at(into, self.read)?;
            let end = self.read + read as u64;
            if end <= self.solid {
                return Ok(read);
            }
            let filled = self.without_nuls(&into[..read])?;
            if filled > 0 || read == 0 {
                return Ok(filled);
            }
            match self.solid_behind(end)? {
                // Read again: what stands before that place was written before it.
                Some(place) => self.solid = place + 1,
                None => return Ok(0),
            }
        }
    }

    /// How much of what was read is left without the NULs at its end, which are whole characters.
    fn without_nuls(&self, bytes: &[u8]) -> io::Result<usize> {
        let nuls = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        if nuls == 0 {
            return Ok(bytes.len());
        }
        let mut start = [0; 8];
        let known = self.file.read_at(&mut start, 0)?;
        let Some(width) = nul_bytes(&start[..known]) else {
            return Ok(bytes.len());
        };
        let place = self.read + (bytes.len() - nuls) as u64;
        let filled = place.next_multiple_of(width) - self.read;
        Ok(bytes.len().min(filled as usize))
    }

    /// The first place from `place` on where something else than a NUL stands.
    fn solid_behind(&self, mut place: u64) -> io::Result<Option<u64>> {
        let mut bytes = vec![0; SEARCH_BYTES];
        while let Some(allocated) = self.allocated(place) {
            place = allocated;
            let read = self.file.read_at(&mut bytes, place)?;
            if read == 0 {
                return Ok(None);
            }
            if let Some(at) = bytes[..read].iter().position(|byte| *byte != 0) {
                return Ok(Some(place + at as u64));
            }
            place += read as u64;
        }
        Ok(None)
    }

    /// The first place from `place` on that the file system keeps bytes for, as far as it reports that: the others are NULs.
    fn allocated(&self, place: u64) -> Option<u64> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(place)) {
            Ok(found) => Some(found),
            // No bytes are kept up to the end.
            Err(Errno::NXIO) => None,
            Err(_) => Some(place),
        }
    }
}

impl Read for FileTail {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match self.id {
            Some(_) => self.read_filled(into)?,
            None => self.file.read(into)?,
        };
        // Looked at behind the read: what was read was there before anything was truncated.
        if self.id.is_some() && !self.is_intact()? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Truncated));
        }
        self.read += read as u64;
        let last = &into[..read];
        if last.len() >= WITNESS_BYTES {
            self.witness.clear();
        }
        self.witness
            .extend_from_slice(&last[last.len().saturating_sub(WITNESS_BYTES)..]);
        let old = self.witness.len().saturating_sub(WITNESS_BYTES);
        self.witness.drain(..old);
        Ok(read)
    }
}

/// Refuses a path that leads to nothing or to a directory, without opening it: a named pipe can be opened once only.
///
/// # Errors
/// [`InputError::Open`].
pub fn check(path: &Path) -> Result<(), InputError> {
    let source = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => io::Error::from(io::ErrorKind::IsADirectory),
        Ok(_) => return Ok(()),
        Err(source) => source,
    };
    Err(failed(path, source))
}

/// The path without links and dots, by which two runs know that they read the same file.
#[must_use]
pub fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn failed(path: &Path, source: io::Error) -> InputError {
    let (remedy, source) = match source.kind() {
        io::ErrorKind::NotFound => (
            "there is no such file; check the path, or use `-` for standard input",
            None,
        ),
        io::ErrorKind::PermissionDenied => (
            "this user may not read it; grant read permission or run as its owner",
            None,
        ),
        io::ErrorKind::IsADirectory => ("it is a directory; name its files, such as `DIR/*`", None),
        _ => ("the system refused", Some(source)),
    };
    InputError::Open {
        attempt: format!("open `{}`", path.display()),
        remedy,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{LineReader, ReadOptions};
    use std::io::Write;

    #[test]
    fn a_file_is_read_and_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"{\"a\":1}\n{\"a\":2}").unwrap();
        let tail = FileTail::open(file.path()).unwrap();
        assert_eq!(tail.id(), FileIdentity::at(file.path()));
        let mut reader = LineReader::new("in", tail, ReadOptions::lines(1_024));
        let block = reader.next_block().unwrap().unwrap();
        assert_eq!(&block.bytes[block.lines[0].range.clone()], b"{\"a\":1}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_has_an_identity_where_the_file_system_knows_no_birth_times() {
        let id = FileIdentity::at(Path::new("/proc/self/status")).unwrap();
        assert_eq!(id.born, None);
        assert_eq!(micros(Ok(UNIX_EPOCH)), Some(0));
    }

    #[test]
    fn a_check_reports_what_opening_would_report() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent");
        for (path, word) in [(directory.path(), "directory"), (&absent, "no such file")] {
            let opened = FileTail::open(path).err().unwrap().to_string();
            assert_eq!(check(path).unwrap_err().to_string(), opened);
            assert!(
                opened.contains(word) && opened.contains(&path.display().to_string()),
                "{opened}"
            );
        }
        std::fs::write(&absent, b"").unwrap();
        check(&absent).unwrap();
    }

    #[test]
    fn a_truncated_file_is_not_one_that_grew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let line = |n: u32| format!("{{\"n\":{n}}}\n");
        let mut buffer = [0; 4_096];
        for (rewritten, intact) in [
            (line(1) + &line(2), true),
            (line(1), true),
            (String::new(), false),
            (line(2), false),
            (line(2) + &line(3), false),
        ] {
            std::fs::write(&path, line(1)).unwrap();
            let mut tail = FileTail::open(&path).unwrap();
            assert_eq!(tail.read(&mut buffer).unwrap(), 8);
            std::fs::write(&path, &rewritten).unwrap();
            let answer = tail.read(&mut buffer);
            match intact {
                true => assert_eq!(answer.unwrap(), rewritten.len() - 8),
                false => {
                    let error = answer.unwrap_err();
                    assert!(error.get_ref().unwrap().is::<Truncated>(), "{error}");
                }
            }
        }
    }
}
