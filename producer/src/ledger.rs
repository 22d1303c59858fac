//! A producer's record of what is stored, so that a restart continues where the last run ended.
//!
//! The ledger is a JSON file: for whom (name), into which stream (with its incarnation), out of which input, and how
//! far every record is stored durably: an index for the simulator, a place in each file for files and standard input.
//! It may lag behind the stream and never runs ahead of it. Together with the origins that the records carry this
//! makes sending exactly once: what was stored but not yet noted is sent again after a crash, and the stream drops it.
//!
//! Promises: the file is replaced atomically and synced, so that a crash leaves the old or the new one; two producers
//! never work from one ledger (`FILE.lock` is held while one runs, and freed by the kernel when it dies); the ledger's
//! own identity, made with it, is part of the origins, so that records of another ledger are never taken for
//! repetitions of this one's.
//!
//! Refuses: a ledger of another name, stream, incarnation or kind of input, and one that it cannot read. Whether a
//! file is the one that it was is not decided here: see `input::files`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::disk::{self, Lock, LockKind, SharedDisk};
use hydrant_core::{Context, Error, Result, StreamId};

use crate::input::files::glob::is_absence;

mod body;
mod entry;
mod identity;
mod path;
pub(crate) mod writer;

use body::{Body, VERSION, misfit, parse};
pub use entry::FileEntry;
pub use identity::InputIdentity;

/// How often progress is written down: often enough that little is sent again after a crash, and far
/// less often than batches are stored.
pub const CADENCE: Duration = Duration::from_millis(250);

/// An open ledger.
#[derive(Debug)]
pub struct ProducerLedger {
    disk: SharedDisk,
    path: PathBuf,
    body: Body,
    /// Held while the ledger is open.
    _lock: Box<dyn Lock>,
}

/// Takes the ledger at `path` for this process.
async fn lock(context: &Context, path: &Path) -> Result<Box<dyn Lock>> {
    check_kind(path)?;
    let lock_path = lock_path(path);
    match context.disk.try_lock(&lock_path, LockKind::Exclusive).await {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Error::refused(format!(
            "another producer uses the ledger `{}`: stop it, or give this one another \
             `--name` and `--ledger`",
            path.display()
        ))),
        Err(error) if is_absence(&error) => Err(homeless(path)),
        Err(error) => Err(Error::io("lock", &lock_path, error)),
    }
}

/// Refuses a ledger that is there before its stream is: it can only be about another one. It is neither locked nor
/// changed.
///
/// # Errors
/// Refused, also when the ledger has no directory and the stream `place` would not make it.
pub(crate) async fn check_without_stream(
    context: &Context,
    path: &Path,
    name: &str,
    input: &InputIdentity,
    place: &Path,
) -> Result<()> {
    check_kind(path)?;
    if let Some(found) = read(context, path).await? {
        let was = parse(path, &found)?;
        was.check(path, name, input)?;
        let why = format!(
            "it belongs to the stream `{}`, but there is no stream at `{}`",
            was.stream,
            place.display()
        );
        return Err(misfit(path, &why));
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let Some(directory) = directory.filter(|directory| !is_above(directory, place)) else {
        return Ok(());
    };
    match context.disk.stat(directory).await {
        Ok(Some(stat)) if stat.is_dir => Ok(()),
        Ok(_) => Err(homeless(path)),
        Err(error) => Err(Error::io("look at", directory, error)),
    }
}

async fn read(context: &Context, path: &Path) -> Result<Option<Bytes>> {
    let found = disk::read_file(&*context.disk, path).await;
    found.map_err(|error| Error::io("read", path, error))
}

/// Whether `directory` comes with `place`, as far as names say.
fn is_above(directory: &Path, place: &Path) -> bool {
    let paths = (std::path::absolute(directory), std::path::absolute(place));
    matches!(paths, (Ok(directory), Ok(place)) if place.starts_with(&directory))
}

/// What is locked while a producer uses the ledger at `path`.
pub(crate) fn lock_path(path: &Path) -> PathBuf {
    path.with_added_extension("lock")
}

fn check_kind(path: &Path) -> Result<()> {
    if disk::is_special(path) {
        return Err(Error::refused(format!(
            "the ledger `{}` is not a regular file, so it would remember nothing: name a file",
            path.display()
        )));
    }
    Ok(())
}

fn homeless(path: &Path) -> Error {
    Error::refused(format!(
        "the directory of the ledger `{}` does not exist: create it first",
        path.display()
    ))
}

impl ProducerLedger {
    /// Takes the ledger at `path` for this process and reads it, or creates it durably if it does not exist.
    ///
    /// # Errors
    /// Refused when another producer has it, the directory does not exist, or it is a device; when it belongs to another
    /// name, stream or input, or cannot be read.
    pub async fn open(
        context: &Context,
        path: &Path,
        name: &str,
        stream: &StreamId,
        input: InputIdentity,
    ) -> Result<ProducerLedger> {
        let lock = lock(context, path).await?;
        let found = read(context, path).await?;
        let mut ledger = ProducerLedger {
            disk: SharedDisk::clone(&context.disk),
            path: path.to_owned(),
            body: Body {
                version: VERSION,
                name: name.to_owned(),
                id: context.random.identity(),
                stream: stream.clone(),
                input,
                next_index: 0,
                files: Vec::new(),
            },
            _lock: lock,
        };
        let Some(found) = found else {
            ledger.write(&ledger.body).await?;
            return Ok(ledger);
        };
        let was = parse(path, &found)?;
        was.check(path, name, &ledger.body.input)?;
        if was.stream != *stream {
            let why = format!("it belongs to the stream `{}`, not `{stream}`", was.stream);
            return Err(misfit(path, &why));
        }
        ledger.body = was;
        Ok(ledger)
    }

    /// Every record below this index is stored; of files, the sum of their indexes.
    pub fn next_index(&self) -> u64 {
        self.body.next_index
    }

    /// The files that were begun, in the order of their numbers.
    pub fn files(&self) -> &[FileEntry] {
        &self.body.files
    }

    /// The identity of this ledger: part of the origins of its records.
    pub fn id(&self) -> &str {
        &self.body.id
    }

    /// Notes durably what is stored.
    ///
    /// # Errors
    /// When the file cannot be replaced; the old one stays.
    pub async fn advance(&mut self, progress: &LedgerProgress) -> Result<()> {
        let mut body = self.body.clone();
        progress.apply(&mut body);
        if body == self.body {
            return Ok(());
        }
        self.write(&body).await?;
        self.body = body;
        Ok(())
    }

    async fn write(&self, body: &Body) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(body)
            .map_err(|error| Error::fatal(format!("cannot write the ledger as JSON: {error}")))?;
        text.push(b'\n');
        // The lock keeps other writers away, so one temporary name is enough.
        disk::replace_file(&*self.disk, &self.path, Bytes::from(text), "ledger")
            .await
            .map_err(|error| Error::io("write", &self.path, error))
    }
}

/// What is stored and not noted yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerProgress {
    /// The simulator's index.
    pub index: u64,
    /// Files by their numbers.
    pub files: BTreeMap<u32, FileEntry>,
    /// The numbers of files that need not be remembered any more.
    pub forgotten: BTreeSet<u32>,
}

impl LedgerProgress {
    fn apply(&self, body: &mut Body) {
        body.next_index = body.next_index.max(self.index);
        for (number, entry) in &self.files {
            match body.files.iter_mut().find(|known| known.number == *number) {
                Some(known) => *known = entry.clone(),
                None => body.files.push(entry.clone()),
            }
        }
        body.files
            .retain(|file| !self.forgotten.contains(&file.number));
        if !body.files.is_empty() {
            body.next_index = body.files.iter().map(|file| file.index).sum();
        }
    }
}

#[cfg(test)]
mod tests;
