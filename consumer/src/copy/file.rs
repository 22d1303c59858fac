//! A copy to a file: an append, at least once.
//!
//! A new text goes behind what the file holds, and a checkpoint follows a sync. After a death, records that were
//! appended after the last checkpoint are appended again. The file itself says nothing about progress: a copy without
//! an app therefore takes only a file that is absent or empty, and a copy with one appends and continues where the app
//! is.
//!
//! One process at a time writes a file: it holds the file's lock. Text that a full disk accepted only in part is cut
//! off before the next text; a partial line that a crash left is ended by a line feed, and its record is written again.
//! Dead letters are appended to `FILE.dead-letters.ndjson`, one object a line with place and reason. After a failed
//! sync nothing is appended any more, because bytes that it was to make durable may be gone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use hydrant_core::error::{Error, Result};
use hydrant_core::origin::DeadLetter;

use super::format::CopyFormat;
use super::printer::TextOutput;

/// A file that a copy appends to.
pub(crate) struct FileText {
    records: AppendedFile,
    /// Opened by the first dead letter.
    dead_letters: Option<AppendedFile>,
}

impl FileText {
    /// Opens or makes the file at `path`; `continues` says that an app knows how far the copy in it is.
    ///
    /// # Errors
    /// Refused when another process writes the file, or when it holds something and the copy does not continue.
    pub(crate) fn open(path: &Path, format: CopyFormat, continues: bool) -> Result<Self> {
        if path.file_name().is_none() {
            let path = path.display();
            return Err(Error::refused(format!("`{path}` does not name a file")));
        }
        if path.is_dir() {
            let path = path.display();
            return Err(Error::refused(format!(
                "`{path}` is a directory: name a file"
            )));
        }
        let dir = directory(path);
        std::fs::create_dir_all(dir).map_err(|error| Error::directory("create", dir, error))?;
        let mut records = AppendedFile::open(path)?;
        if records.end > 0 && !continues {
            return Err(Error::refused(format!(
                "`{}` is not empty: name another file, or an `--app NAME`, under which a copy appends to the file and \
                 continues where it was stopped",
                path.display()
            )));
        }
        if format != CopyFormat::Raw {
            records.end_last_line()?;
        }
        Ok(FileText {
            records,
            dead_letters: None,
        })
    }
}

impl TextOutput for FileText {
    fn write(&mut self, text: &[u8]) -> Result<bool> {
        self.records.append(text)?;
        Ok(true)
    }

    fn write_dead_letters(&mut self, dead_letters: &[DeadLetter]) -> Result<()> {
        let file = match &mut self.dead_letters {
            Some(file) => file,
            None => {
                let mut file = AppendedFile::open(&beside(&self.records.path))?;
                file.end_last_line()?;
                self.dead_letters.insert(file)
            }
        };
        let mut lines = Vec::new();
        for letter in dead_letters {
            serde_json::to_writer(&mut lines, letter)
                .map_err(|error| Error::fatal(format!("cannot write a dead letter: {error}")))?;
            lines.push(b'\n');
        }
        file.append(&lines)
    }

    fn sync(&mut self) -> Result<()> {
        self.dead_letters
            .as_mut()
            .map_or(Ok(()), AppendedFile::sync)?;
        self.records.sync()
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Where the dead letters of a copy to `path` lie.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".dead-letters.ndjson");
    path.with_file_name(name)
}

fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::refused(format!(
            "`{}` is being written by another process: write to another file, or stop that one",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
    }
}

/// An open file and how much of it is whole.
struct AppendedFile {
    path: PathBuf,
    file: File,
    /// The end of the last text that was written whole.
    end: u64,
    /// A text may lie in part behind `end`.
    is_torn: bool,
    /// Something was written since the last sync.
    is_dirty: bool,
    /// A sync failed.
    has_lost: bool,
}

impl AppendedFile {
    /// Opens the file at `path`, and makes it, with a durable name, where it does not exist. Holds its lock until it is
    /// closed.
    fn open(path: &Path) -> Result<Self> {
        let opened = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path);
        let file = opened.map_err(|error| Error::io("open", path, error))?;
        lock(&file, path)?;
        // Under the lock: what another process wrote before it let go counts.
        let metadata = file.metadata();
        let end = metadata.map_err(|error| Error::io("look at", path, error))?;
        let dir = directory(path);
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| Error::io("sync the directory of", path, error))?;
        Ok(AppendedFile {
            path: path.to_owned(),
            file,
            end: end.len(),
            is_torn: false,
            is_dirty: false,
            has_lost: false,
        })
    }

    /// Ends a line that a death left without its end.
    fn end_last_line(&mut self) -> Result<()> {
        if self.end == 0 {
            return Ok(());
        }
        let mut last = [0];
        let read = self.file.seek(SeekFrom::Start(self.end - 1));
        let read = read.and_then(|_| self.file.read_exact(&mut last));
        read.map_err(|error| Error::io("read", &self.path, error))?;
        if last == *b"\n" {
            return Ok(());
        }
        self.append(b"\n")
    }

    fn append(&mut self, text: &[u8]) -> Result<()> {
        self.check()?;
        if std::mem::take(&mut self.is_torn) {
            let cut = self.file.set_len(self.end);
            cut.map_err(|error| self.torn("cut", error))?;
        }
        let written = self.file.write_all(text);
        written.map_err(|error| self.torn("write", error))?;
        self.end += text.len() as u64;
        self.is_dirty = true;
        Ok(())
    }

    fn torn(&mut self, action: &'static str, error: io::Error) -> Error {
        self.is_torn = true;
        Error::io(action, &self.path, error)
    }

    fn sync(&mut self) -> Result<()> {
        self.check()?;
        if !self.is_dirty {
            return Ok(());
        }
        if let Err(error) = self.file.sync_all() {
            self.has_lost = true;
            let path = self.path.display();
            return Err(Error::fatal(format!("cannot sync `{path}`: {error}")));
        }
        self.is_dirty = false;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if !self.has_lost {
            return Ok(());
        }
        let path = self.path.display();
        Err(Error::fatal(format!(
            "records may be missing from `{path}`, because a sync failed: check the disk, then start the copy again"
        )))
    }
}
