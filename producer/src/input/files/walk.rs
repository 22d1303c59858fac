//! Decides which file is read when, and from where on.
//!
//! Owns the walk over inputs: in the order in which they are given, the matches of a pattern by name, each file once.
//! What identifies a file is what it begins with: everything that was taken of it, by digest. Device, inode and birth
//! time say where to look first. So a file that grew is continued behind what was taken; one that was renamed, copied or
//! compressed is found beside its old path and read to its end before the file that took its path; and one that was
//! truncated or rewritten is another file, which is read from its start.
//!
//! One rule covers every rotation: a known file that has not ended is looked for at its path, then beside it by its
//! inode, then in a copy; where it is found, its rest is read before anything else. That is done for all of them at the
//! start, for those whose inputs are given, when another file stands at the path of one, and when no input leads any more
//! to one that is followed and closed.
//!
//! Promises: no record is skipped silently; a file that cannot be found again is reported.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::{Error, Result};

use super::failures::Failures;
use super::file::{self, FileIdentity, FileTail};
use super::glob;
use super::known_files::KnownFiles;
use super::listing::Listing;
use super::open_file::{ChunkSender, ConsumerGone, OpenFile, ReadOutcome, is_truncated};
use super::own_files::OwnFiles;
use crate::input::records::reader::begins_with;
use crate::input::{InputError, LineReader, ReadOptions, stdin};
use crate::ledger::FileEntry;

mod closed;
mod copies;
mod follow;

use closed::ClosedFile;

/// How standard input is written as an input, and in the ledger.
const STDIN: &str = "-";

/// How often a file may change under one reading of it before that is an error.
const CHANGES_MAX: u32 = 100;

/// How long a file that was renamed may be quiet before it is left: its writer may still have it open.
const QUIET: Duration = Duration::from_secs(3600);

/// The walk over all inputs.
pub(in crate::input) struct InputWalk {
    inputs: Vec<PathBuf>,
    own: OwnFiles,
    reading: ReadOptions,
    known: KnownFiles,
    next_number: u32,
    /// Files that this walk reads or has read.
    seen: BTreeSet<FileIdentity>,
    /// Known files that are not where they were.
    gone: Vec<u32>,
    /// Files that may be copies which are being made.
    making: BTreeSet<FileIdentity>,
    sender: ChunkSender,
    failures: Failures,
    has_sent: bool,
    /// Files that were given up, and that the ledger does not have as such yet.
    left: Vec<FileEntry>,
    /// The numbers of files that are open, wherever they are now: the walk does not look for them.
    open: BTreeSet<u32>,
    /// Files that are not opened again for now.
    closed: BTreeMap<FileIdentity, ClosedFile>,
    /// Whether a warning said that more files are followed than may be open.
    is_crowded: bool,
    /// What could not be looked at in the last round, and was reported.
    unseen: BTreeSet<String>,
}

type FoundFiles = Vec<OpenFile<FileTail>>;

impl InputWalk {
    pub(in crate::input) fn new(
        inputs: Vec<PathBuf>,
        own: OwnFiles,
        reading: ReadOptions,
        known: Vec<FileEntry>,
        sender: ChunkSender,
    ) -> Self {
        let known = KnownFiles::new(known);
        InputWalk {
            inputs,
            own,
            reading,
            next_number: known.next_number(),
            known,
            seen: BTreeSet::new(),
            gone: Vec::new(),
            making: BTreeSet::new(),
            sender,
            failures: Failures::default(),
            has_sent: false,
            left: Vec::new(),
            open: BTreeSet::new(),
            closed: BTreeMap::new(),
            is_crowded: false,
            unseen: BTreeSet::new(),
        }
    }

    /// Reads all inputs. A failure is reported, and the other inputs are read all the same.
    pub(in crate::input) fn run(mut self) {
        let done = if self.reading.grows {
            self.follow()
        } else {
            self.once()
        };
        match done {
            Ok(()) => {
                if let Some(error) = self.failures.end(self.has_sent) {
                    self.sender.fail(error);
                }
            }
            Err(ConsumerGone) => self.failures.log_last(),
        }
    }

    fn once(&mut self) -> Result<(), ConsumerGone> {
        self.find_gone();
        for mut live in self.take_up()? {
            self.failures.log_last();
            match self.read_live(&mut live)? {
                ReadOutcome::End => self.end_quiet(live)?,
                // The next run reads on.
                ReadOutcome::Failed(error) => self.fail(error.into()),
                // If an input leads to it, it is looked at below, else by the next run.
                ReadOutcome::Truncated => {
                    live.entry.id.map(|id| self.seen.remove(&id));
                }
                ReadOutcome::Block => {}
            }
        }
        for input in self.inputs.clone() {
            self.failures.log_last();
            if input.as_os_str() == STDIN {
                self.read_stdin()?;
                continue;
            }
            let found = self.own.expand(&input);
            if found.files.is_empty() && found.failed.is_empty() {
                let text = input.display();
                self.fail(Error::refused(format!(
                    "no file matches `{text}`: check the pattern, or wait for files with `--follow`"
                )));
            }
            for error in found.failed {
                self.fail(error.into());
            }
            for path in found.files {
                self.failures.log_last();
                self.read(&path)?;
            }
        }
        self.forget()
    }

    /// Reads one file, after what is left of the ones that had its path.
    fn read(&mut self, path: &Path) -> Result<(), ConsumerGone> {
        for _ in 0..CHANGES_MAX {
            let visited = self.visit(path);
            self.note_left()?;
            let found = match visited {
                Ok(found) => found,
                Err(error) => {
                    self.fail(error);
                    return Ok(());
                }
            };
            let mut again = false;
            let last = found.len().saturating_sub(1);
            for (n, mut live) in found.into_iter().enumerate() {
                match self.read_live(&mut live)? {
                    ReadOutcome::Truncated => {
                        again = true;
                        live.entry.id.map(|id| self.seen.remove(&id));
                    }
                    ReadOutcome::Failed(error) => self.fail(error.into()),
                    ReadOutcome::End if n < last => self.end_quiet(live)?,
                    ReadOutcome::Block | ReadOutcome::End => {}
                }
            }
            if !again {
                match FileIdentity::look(path) {
                    Ok(Some(id)) if !self.seen.contains(&id) => continue,
                    Ok(_) => {}
                    Err(error) => self.fail(Error::io("look at", path, error)),
                }
                return Ok(());
            }
            tracing::warn!(input = %path.display(), "the file was truncated or rewritten while it was read: the producer looks at it again");
        }
        self.fail(Error::fatal(format!(
            "`{}` is rewritten over and over while it is read: read a copy of it",
            path.display()
        )));
        Ok(())
    }

    /// Reads to the end of the file, or to the first failure.
    fn read_live<R: io::Read>(
        &mut self,
        live: &mut OpenFile<R>,
    ) -> Result<ReadOutcome, ConsumerGone> {
        loop {
            let read = live.step(&mut self.sender)?;
            self.has_sent |= live.is_opened;
            if let ReadOutcome::Block = read {
                continue;
            }
            if let ReadOutcome::End = read {
                live.warn_unfinished();
            }
            self.remember(live);
            return Ok(read);
        }
    }

    /// Opens known files with unread rests that no input leads to any more: they are read first.
    fn take_up(&mut self) -> Result<FoundFiles, ConsumerGone> {
        let mut at = BTreeMap::new();
        for input in self.inputs.clone() {
            // What cannot be looked at is reported when the inputs are read.
            for path in self.own.expand(&input).files {
                at.insert(file::real_path(&path), FileIdentity::at(&path));
            }
        }
        let led: BTreeSet<FileIdentity> = at.values().flatten().copied().collect();
        let is_open = |entry: &&FileEntry| !entry.ended || has_grown(entry);
        let open: Vec<FileEntry> = self.known.iter().filter(is_open).cloned().collect();
        let mut found = Vec::new();
        let mut listings = BTreeMap::new();
        for mut entry in open {
            entry.ended = false;
            let is_given = |input: &PathBuf| glob::covers(input, &entry.input);
            if entry.id.is_none() || !self.inputs.iter().any(is_given) {
                continue;
            }
            let there = match FileIdentity::look(&entry.path) {
                Ok(there) => there.filter(|id| entry.id == Some(*id)),
                Err(error) => {
                    self.fail(Error::io("look at", &entry.path, error));
                    continue;
                }
            };
            if !entry.moved && there.is_some_and(|id| led.contains(&id)) {
                continue;
            }
            match self.rest_of(&entry, there, &mut listings) {
                Ok(Some(live)) => {
                    live.entry.id.map(|id| self.seen.insert(id));
                    self.remember(&live);
                    found.push(live);
                }
                // The file that stands there now may continue where it ended.
                Ok(None) if at.get(&entry.path).is_some_and(Option::is_some) => {}
                Ok(None) if is_mounted(&entry) => self.leave(entry),
                Ok(None) => tracing::warn!(
                    input = %entry.path.display(),
                    lines = entry.line - 1,
                    "the file system of a file that was read is not mounted: the next run looks for the file"
                ),
                Err(error) => self.fail(error),
            }
        }
        self.note_left()?;
        Ok(found)
    }

    /// Finds the rest of a known file that no walk over the inputs comes to; `there` is its identity if it is where it was.
    fn rest_of(
        &mut self,
        entry: &FileEntry,
        there: Option<FileIdentity>,
        listings: &mut BTreeMap<PathBuf, Listing>,
    ) -> Result<Option<OpenFile<FileTail>>> {
        if let Some(id) = there {
            if let Some(mut live) = self.resume(&entry.path, id, entry.clone())? {
                live.leads_from(entry);
                return Ok(Some(live));
            }
        } else {
            // Each directory is listed once, however many files of it are gone.
            let directory = entry.path.parent().unwrap_or(&entry.path).to_owned();
            let listing = match listings.entry(directory) {
                btree_map::Entry::Occupied(known) => known.into_mut(),
                btree_map::Entry::Vacant(new) => new.insert(Listing::beside(&entry.path)?),
            };
            if !listing.may_hold(entry) {
                return Ok(None);
            }
            if let Some(live) = self.find_moved(entry)? {
                return Ok(Some(live));
            }
        }
        self.find_copy(entry)
    }

    /// Notes a former file that was read to its end; one that will not grow is left.
    fn end_quiet(&mut self, mut live: OpenFile<FileTail>) -> Result<(), ConsumerGone> {
        let modified = std::fs::metadata(&live.entry.path)
            .and_then(|found| found.modified())
            .ok();
        let quiet = modified.and_then(|modified| modified.elapsed().ok());
        if live.is_copy || quiet.is_none_or(|quiet| quiet >= QUIET) {
            live.end();
        }
        self.sender.note(&live.entry)?;
        self.known.insert(live.entry);
        Ok(())
    }

    fn remember<R: io::Read>(&mut self, live: &OpenFile<R>) {
        if live.is_opened || self.known.contains(live.entry.number) {
            self.known.insert(live.entry.clone());
        }
    }

    /// Forgets the oldest files that have ended and are gone. Each is looked at, as far as it can be: one that is where it was
    /// seen last would be taken for a new one.
    fn forget(&mut self) -> Result<(), ConsumerGone> {
        let forgotten = self.known.forget(|file| {
            let is_there = |found| found == file.id;
            file.id.is_some() && FileIdentity::look(&file.path).map_or(true, is_there)
        });
        self.sender.forget(forgotten)
    }

    fn find_gone(&mut self) {
        let is_gone = |entry: &&FileEntry| {
            entry.id.is_some() && FileIdentity::look(&entry.path).is_ok_and(|id| id != entry.id)
        };
        self.gone = self
            .known
            .iter()
            .filter(is_gone)
            .map(|entry| entry.number)
            .collect();
    }

    /// Sends notes of the files that were given up to the ledger.
    fn note_left(&mut self) -> Result<(), ConsumerGone> {
        for entry in std::mem::take(&mut self.left) {
            self.sender.note(&entry)?;
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        self.failures.add(error);
    }

    fn read_stdin(&mut self) -> Result<(), ConsumerGone> {
        let mut reader = stdin::open(self.reading);
        let known = self.known.at(Path::new(STDIN)).next().cloned();
        let entry = known.unwrap_or_else(|| self.new_entry(STDIN.into(), STDIN.into(), None));
        match self.resume_pipe(&mut reader, &entry) {
            Ok(()) => {
                let mut live = OpenFile::new(entry, Arc::from(stdin::NAME), reader);
                if let ReadOutcome::Failed(error) = self.read_live(&mut live)? {
                    self.fail(error.into());
                }
            }
            Err(error) => self.fail(error),
        }
        Ok(())
    }

    /// Skips what was taken of a pipe, which cannot be read twice.
    fn resume_pipe<R: io::Read>(
        &self,
        reader: &mut LineReader<R>,
        entry: &FileEntry,
    ) -> Result<()> {
        let place = entry.position();
        let first = entry.first.filter(|first| first.bytes <= place.bytes);
        if reader.resume(&place, first)? {
            return Ok(());
        }
        Err(Error::refused(format!(
            "`{}` does not begin with the lines that its ledger records (lines: {}): give the same input from its \
             start, or another `--ledger`",
            reader.name(),
            entry.line.max(entry.index + 1) - 1
        )))
    }

    fn new_entry(&mut self, path: PathBuf, input: PathBuf, id: Option<FileIdentity>) -> FileEntry {
        let number = self.next_number;
        self.next_number += 1;
        FileEntry {
            drawn: self.sender.draw(),
            input,
            seen: id.map(|_| self.sender.wall_micros()),
            ..FileEntry::new(number, path, id)
        }
    }

    /// What is to be read at `path`: what is left of former files, then the file itself; nothing when that was
    /// replaced meanwhile, so that it is looked at again.
    fn visit(&mut self, path: &Path) -> Result<FoundFiles> {
        let before = FileIdentity::at(path);
        let mut found = Vec::new();
        let Err(error) = self.look_at(path, &mut found) else {
            // Where they are now is known before others are compared with them.
            for live in &found {
                self.remember(live);
            }
            return Ok(found);
        };
        // What was found is found again when this is looked at again.
        for live in &found {
            live.entry.id.map(|id| self.seen.remove(&id));
        }
        match before {
            Some(id) if FileIdentity::at(path) != before => {
                self.seen.remove(&id);
                Ok(Vec::new())
            }
            _ => Err(error),
        }
    }

    fn look_at(&mut self, path: &Path, found: &mut FoundFiles) -> Result<()> {
        let tail = FileTail::open(path)?;
        let id = tail.id();
        let real = file::real_path(path);
        let input = std::path::absolute(path).unwrap_or_else(|_| real.clone());
        let Some(id) = id else {
            let entry = self.known.at(&real).next().cloned();
            let entry = entry.unwrap_or_else(|| self.new_entry(real, input, None));
            let mut reader = LineReader::new(path.display().to_string(), tail, self.reading);
            self.resume_pipe(&mut reader, &entry)?;
            let name = Arc::from(path.display().to_string());
            found.push(OpenFile::new(entry, name, reader));
            return Ok(());
        };
        if !self.seen.insert(id) {
            return Ok(());
        }
        if !self.reading.remembers {
            found.push(self.fresh(real, input, tail));
            return Ok(());
        }
        let own = self.known.with(id).next_back().cloned();
        for former in self.formers(&real, id, own.as_ref()) {
            let mut rest = None;
            if former.id != Some(id) {
                rest = self.find_moved(&former)?;
            }
            if rest.is_none() {
                rest = self.find_copy(&former)?;
            }
            if let Some(rest) = rest {
                found.push(rest);
            } else if own.is_none()
                && let Some(mut live) = self.resume(&real, id, former.clone())?
            {
                warn_replaced(&live);
                live.entry.input = input;
                found.push(live);
                return Ok(());
            } else {
                self.leave(former);
            }
        }
        // What was found is no longer looked for.
        self.gone
            .retain(|number| found.iter().all(|live| live.entry.number != *number));
        let this = match own {
            Some(own) => match self.resume(&real, id, own.clone())? {
                Some(mut live) => {
                    if !own.moved {
                        live.entry.input = input;
                    }
                    live
                }
                None => {
                    if !own.ended {
                        match self.find_copy(&own)? {
                            Some(copy) => found.push(copy),
                            None => self.leave(own),
                        }
                    }
                    self.fresh(real, input, tail)
                }
            },
            None => match self.copy_of(&real, id)? {
                NewFile::Whole => return Ok(()),
                NewFile::Making => {
                    self.making.insert(id);
                    return Ok(());
                }
                NewFile::Goes(live) => *live,
                NewFile::New => self.fresh(real, input, tail),
            },
        };
        found.push(this);
        Ok(())
    }

    /// Files that had this path or inode, and may have more than was taken.
    fn formers(&self, path: &Path, id: FileIdentity, own: Option<&FileEntry>) -> Vec<FileEntry> {
        let numbers: BTreeSet<u32> = (self.known.at(path))
            .chain(self.known.with(id))
            .filter(|entry| !entry.ended && own.is_none_or(|own| own.number != entry.number))
            .filter(|entry| !self.open.contains(&entry.number))
            .map(|entry| entry.number)
            .collect();
        let formers = numbers.iter().filter_map(|number| self.known.get(*number));
        formers.cloned().collect()
    }

    fn fresh(&mut self, path: PathBuf, input: PathBuf, tail: FileTail) -> OpenFile<FileTail> {
        let name: Arc<str> = Arc::from(path.display().to_string());
        let entry = self.new_entry(path, input, tail.id());
        let reader = LineReader::new(&*name, tail, self.reading);
        OpenFile::new(entry, name, reader)
    }

    /// Opens the file `id` at `path` behind what was taken of `entry`; `None` when it begins with something else.
    ///
    /// # Errors
    /// Also when another file stands there meanwhile.
    fn resume(
        &self,
        path: &Path,
        id: FileIdentity,
        mut entry: FileEntry,
    ) -> Result<Option<OpenFile<FileTail>>, InputError> {
        let name: Arc<str> = Arc::from(path.display().to_string());
        let memory = self.reading.memory_bytes;
        let failed = |source| InputError::Read {
            name: name.to_string(),
            line: 1,
            source,
        };
        // Of what was sent first nothing may be taken yet, however much it is.
        let (first, late) = match entry.first {
            Some(first) if first.bytes > entry.bytes => (None, Some(first)),
            first => (first, None),
        };
        if let Some(late) = late
            && !begins_with(open_same(path, id)?, late, memory).map_err(failed)?
        {
            return Ok(None);
        }
        let tail = open_same(path, id)?;
        entry.id = Some(id);
        entry.path = path.to_owned();
        let mut reader = LineReader::new(&*name, tail, self.reading);
        match reader.resume(&entry.position(), first) {
            Ok(true) => Ok(Some(OpenFile::new(entry, name, reader))),
            Err(error) if !is_truncated(&error) => Err(error),
            Ok(false) | Err(_) => Ok(None),
        }
    }

    /// Gives a file up that cannot be found again, of which more may have been written than was read.
    fn leave(&mut self, entry: FileEntry) {
        tracing::warn!(
            input = %entry.path.display(),
            lines = entry.line - 1,
            "a file that was read is gone and is not found beside its path: what was written to it after \
             these lines is not sent; a file that is there now is read from its start"
        );
        self.give_up(entry);
    }

    /// Notes a file as ended that is not there any more.
    fn give_up(&mut self, mut entry: FileEntry) {
        entry.ended = true;
        self.known.insert(entry.clone());
        self.left.push(entry);
    }
}

/// What a file turns out to be that is not known.
enum NewFile {
    New,
    /// What it holds is read from its original.
    Whole,
    /// It may be a copy that is not finished.
    Making,
    Goes(Box<OpenFile<FileTail>>),
}

/// Whether a file that was left has grown since, so that its rest is read.
fn has_grown(entry: &FileEntry) -> bool {
    let Some(size) = entry.size else {
        return false;
    };
    match std::fs::metadata(&entry.path) {
        Ok(found) => FileIdentity::of(&found) == entry.id && found.len() > size,
        // Those who look for it say why it cannot be looked at.
        Err(error) => !glob::is_absence(&error),
    }
}

/// Whether the file system that the file lay on is there: else the file is not gone.
fn is_mounted(entry: &FileEntry) -> bool {
    let above = entry.path.ancestors().skip(1);
    let mut devices = above.filter_map(|directory| std::fs::metadata(directory).ok());
    let device = devices.next().map(|found| found.dev());
    entry
        .id
        .is_none_or(|id| device.is_none_or(|device| device == id.device))
}

/// Opens `path`, which must lead to the file `id` still.
fn open_same(path: &Path, id: FileIdentity) -> Result<FileTail, InputError> {
    let tail = FileTail::open(path)?;
    if tail.id() == Some(id) {
        Ok(tail)
    } else {
        Err(InputError::Open {
            attempt: format!("open `{}`", path.display()),
            remedy: "it was replaced meanwhile; start again",
            source: None,
        })
    }
}

fn warn_replaced(live: &OpenFile<FileTail>) {
    tracing::warn!(
        input = &*live.name,
        lines = live.entry.line - 1,
        "the file is another file than the one that was read, but begins with all lines that were sent: only what follows \
         them is sent; to send it from its start, give another `--ledger`"
    );
}
