//! A producer's memory of what is stored, so that a restart goes on where the last one ended.
//!
//! The ledger is a JSON file: for whom (name), into which stream (with its incarnation), out of which
//! input, and the index below which every record is stored durably. It may lag behind the stream and
//! never runs ahead of it. Together with the origins that the records carry this makes sending exactly
//! once: what was stored but not yet noted is sent again after a crash, and the stream drops it.
//!
//! Promises: the file is replaced atomically and synced, so that a crash leaves the old or the new
//! one; two producers never work from one ledger (`FILE.lock` is held while one runs, and freed by the
//! kernel when it dies); the ledger's own identity, made with it, is part of the origins, so that
//! records of another ledger are never taken for repetitions of this one's.
//!
//! Refuses: a ledger of another name, stream, incarnation or input, and one that it cannot read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use hydrant_core::clock::{self, Instant};
use hydrant_core::disk::{self, Lock, LockKind, SharedDisk};
use hydrant_core::{Context, Disposition, Error, Result, StreamId};
use serde::{Deserialize, Serialize};

/// The version of the file that is written.
const VERSION: u32 = 1;

/// How often progress is written down: often enough that little is sent again after a crash, and far
/// less often than batches are stored.
pub const CADENCE: Duration = Duration::from_millis(250);

/// Which records an index stands for. Equal inputs give equal records at equal indexes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum InputIdentity {
    /// The simulator.
    Simulator {
        /// Its seed.
        seed: u64,
        /// Its devices.
        devices: u64,
        /// A digest of everything else that shapes its records.
        fleet: String,
        /// The partition key, where it is not the device's id.
        key: Option<String>,
    },
    /// A file, which may grow.
    File {
        /// Its path without links.
        path: PathBuf,
        /// A digest of its first line; `None` while it has none.
        first_line: Option<String>,
        /// The partition key.
        key: Option<String>,
    },
    /// Standard input: the same lines must come again from their start.
    Stdin {
        /// A digest of its first line; `None` while it has none.
        first_line: Option<String>,
        /// The partition key.
        key: Option<String>,
    },
}

impl InputIdentity {
    /// Why records of `now` cannot go on where those of `self` ended.
    fn conflict(&self, now: &InputIdentity) -> Option<String> {
        use InputIdentity::{File, Simulator, Stdin};
        let lines = |was: &Option<String>, is: &Option<String>| {
            (was.is_some() && was != is)
                .then_some("its input began with another line; give the same input from its start")
        };
        let keys = |was: &Option<String>, is: &Option<String>| {
            let shown = |key: &Option<String>| {
                key.as_ref()
                    .map_or("without `--key`".to_owned(), |key| format!("`--key {key}`"))
            };
            (was != is).then(|| format!("it was made {}, not {}", shown(was), shown(is)))
        };
        match (self, now) {
            (Simulator { key: was, .. }, Simulator { key: is, .. }) if self != now => {
                Some(keys(was, is).unwrap_or_else(|| {
                    "the simulated fleet was another one; give the same `--seed`, `--devices`, \
                     `--malformed`, `--late`, `--pii` and `--start-time`"
                        .to_owned()
                }))
            }
            (Simulator { .. }, Simulator { .. }) => None,
            (
                File {
                    path: was_path,
                    first_line: was,
                    key: was_key,
                },
                File {
                    path,
                    first_line: is,
                    key,
                },
            ) => {
                if was_path == path {
                    keys(was_key, key).or_else(|| lines(was, is).map(str::to_owned))
                } else {
                    Some(format!(
                        "its input is `{}`, not `{}`",
                        was_path.display(),
                        path.display()
                    ))
                }
            }
            (
                Stdin {
                    first_line: was,
                    key: was_key,
                },
                Stdin {
                    first_line: is,
                    key,
                },
            ) => keys(was_key, key).or_else(|| lines(was, is).map(str::to_owned)),
            (was, is) => Some(format!("its input is {}, not {}", was.kind(), is.kind())),
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            InputIdentity::Simulator { .. } => "the simulator",
            InputIdentity::File { .. } => "a file",
            InputIdentity::Stdin { .. } => "standard input",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    version: u32,
    name: String,
    id: String,
    stream: StreamId,
    input: InputIdentity,
    next_index: u64,
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

/// An open ledger.
#[derive(Debug)]
pub struct Ledger {
    disk: SharedDisk,
    path: PathBuf,
    body: Body,
    /// Held while the ledger is open.
    _lock: Box<dyn Lock>,
}

/// The right to a ledger, before its contents are looked at.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    lock: Box<dyn Lock>,
}

impl Claim {
    /// Takes the ledger at `path` for this process.
    ///
    /// # Errors
    /// Refused when another producer has it, the directory does not exist, or it is a device.
    pub async fn take(context: &Context, path: &Path) -> Result<Claim> {
        if disk::is_special(path) {
            return Err(Error::refused(format!(
                "the ledger `{}` is not a file and would remember nothing: name a file",
                path.display()
            )));
        }
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".lock");
        let lock_path = path.with_file_name(name);
        match context.disk.try_lock(&lock_path, LockKind::Exclusive).await {
            Ok(Some(lock)) => Ok(Claim {
                path: path.to_owned(),
                lock,
            }),
            Ok(None) => Err(Error::refused(format!(
                "another producer works from the ledger `{}`: stop it, or give this one a \
                 `--name` and a `--ledger` of its own",
                path.display()
            ))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::refused(format!(
                    "the directory of the ledger `{}` does not exist: make it first",
                    path.display()
                )))
            }
            Err(error) => Err(Error::io("lock", &lock_path, error)),
        }
    }

    /// The index below which everything is stored, by the ledger as it is; 0 when there is none.
    ///
    /// # Errors
    /// Refused when it cannot be read.
    pub async fn noted(&self, context: &Context) -> Result<u64> {
        match self.read(context).await? {
            Some(found) => Ok(parse(&self.path, &found)?.next_index),
            None => Ok(0),
        }
    }

    async fn read(&self, context: &Context) -> Result<Option<Bytes>> {
        disk::read_file(&*context.disk, &self.path)
            .await
            .map_err(|error| Error::io("read", &self.path, error))
    }

    /// Reads the ledger, or makes it durably when there is none.
    ///
    /// # Errors
    /// Refused when it belongs to another name, stream or input, or cannot be read.
    pub async fn open(
        self,
        context: &Context,
        name: &str,
        stream: &StreamId,
        input: InputIdentity,
    ) -> Result<Ledger> {
        let found = self.read(context).await?;
        let Claim { path, lock } = self;
        let mut ledger = Ledger {
            disk: SharedDisk::clone(&context.disk),
            body: Body {
                version: VERSION,
                name: name.to_owned(),
                id: context.random.identity(),
                stream: stream.clone(),
                input,
                next_index: 0,
            },
            path,
            _lock: lock,
        };
        let Some(found) = found else {
            ledger.write().await?;
            return Ok(ledger);
        };
        let was = parse(&ledger.path, &found)?;
        ledger.check(&was)?;
        let input = std::mem::replace(&mut ledger.body, was).input;
        if ledger.body.input != input {
            // The input had no line then and has one now.
            ledger.body.input = input;
            ledger.write().await?;
        }
        Ok(ledger)
    }
}

impl Ledger {
    /// Every record below this index is stored.
    pub fn next_index(&self) -> u64 {
        self.body.next_index
    }

    /// What tells this ledger's records from those of every other ledger.
    pub fn id(&self) -> &str {
        &self.body.id
    }

    /// Notes durably that every record below `next_index` is stored.
    ///
    /// # Errors
    /// When the file cannot be replaced; the old one stays.
    pub async fn advance(&mut self, next_index: u64) -> Result<()> {
        if next_index <= self.body.next_index {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.body.next_index, next_index);
        let written = self.write().await;
        if written.is_err() {
            self.body.next_index = before;
        }
        written
    }

    fn check(&self, was: &Body) -> Result<()> {
        let (path, is) = (self.path.display(), &self.body);
        let refuse = |why: String| {
            Err(Error::refused(format!(
                "the ledger `{path}` does not fit: {why}; or give another `--ledger` to start anew"
            )))
        };
        if was.name != is.name {
            return refuse(format!(
                "it is that of the producer `{}`, not `{}`",
                was.name, is.name
            ));
        }
        if was.stream != is.stream {
            return refuse(format!(
                "it is about the stream `{}`, not `{}`",
                was.stream, is.stream
            ));
        }
        match was.input.conflict(&is.input) {
            Some(why) => refuse(why),
            None => Ok(()),
        }
    }

    async fn write(&self) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(&self.body)
            .map_err(|error| Error::fatal(format!("cannot write the ledger as JSON: {error}")))?;
        text.push(b'\n');
        // The lock keeps other writers away, so one temporary name is enough.
        disk::replace_file(&*self.disk, &self.path, Bytes::from(text), "ledger")
            .await
            .map_err(|error| Error::io("write", &self.path, error))
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Body> {
    let refuse = |why: String| {
        Err(Error::refused(format!(
            "`{}` is no ledger that this version reads: {why}; restore it from a copy, or give \
             another `--ledger` to send the input again from its start",
            path.display()
        )))
    };
    match serde_json::from_slice::<AnyVersion>(text) {
        Ok(any) if any.version != VERSION => {
            return refuse(format!("its version is {}, not {VERSION}", any.version));
        }
        Ok(_) => {}
        Err(error) => return refuse(error.to_string()),
    }
    serde_json::from_slice(text).or_else(|error| refuse(error.to_string()))
}

type Writing = BoxFuture<'static, (Ledger, Result<()>)>;

/// Writes progress down beside the work, not more often than [`CADENCE`].
pub(crate) struct Keeper {
    ledger: Option<Ledger>,
    writing: Option<Writing>,
    wanted: u64,
    due: Option<Instant>,
    last: Instant,
}

impl Keeper {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Keeper {
            wanted: ledger.next_index(),
            ledger: Some(ledger),
            writing: None,
            due: None,
            last: clock::now(),
        }
    }

    /// Tells how far everything is stored.
    pub(crate) fn note(&mut self, next_index: u64) {
        if next_index > self.wanted {
            self.wanted = next_index;
            self.due.get_or_insert(self.last + CADENCE);
        }
    }

    /// Writes what is due; waits for ever when nothing was noted. Cancel-safe.
    ///
    /// # Errors
    /// When writing failed for good; a full disk is tried again.
    pub(crate) async fn turn(&mut self) -> Result<()> {
        if self.writing.is_none() {
            clock::sleep_until(self.due).await;
            self.start();
        }
        self.written().await
    }

    /// Writes down everything that was noted; a full disk is tried again until there is room.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        loop {
            if self.writing.is_some() {
                self.written().await?;
            }
            let Some(ledger) = &self.ledger else {
                return Err(lost());
            };
            if ledger.next_index() >= self.wanted {
                return Ok(());
            }
            // After a failure `due` lies in the future.
            if self.due.is_some_and(|due| due > self.last + CADENCE) {
                clock::sleep_until(self.due).await;
            }
            self.start();
        }
    }

    fn start(&mut self) {
        if let Some(mut ledger) = self.ledger.take() {
            let wanted = self.wanted;
            self.due = None;
            self.writing = Some(Box::pin(async move {
                let result = ledger.advance(wanted).await;
                (ledger, result)
            }));
        }
    }

    async fn written(&mut self) -> Result<()> {
        let Some(writing) = &mut self.writing else {
            return Err(lost());
        };
        let (ledger, result) = writing.await;
        self.writing = None;
        self.last = clock::now();
        let done = ledger.next_index();
        self.ledger = Some(ledger);
        match result {
            Ok(()) => {
                if self.wanted > done {
                    self.due = Some(self.last + CADENCE);
                }
                Ok(())
            }
            Err(error) => {
                let Disposition::Retry { after } = error.disposition() else {
                    return Err(error);
                };
                tracing::warn!(error = error.report(), "the ledger is written again later");
                self.due = Some(self.last + CADENCE + after);
                Ok(())
            }
        }
    }
}

fn lost() -> Error {
    Error::fatal("the ledger was lost from sight, which is a fault of hydrant")
}

#[cfg(test)]
mod tests;
