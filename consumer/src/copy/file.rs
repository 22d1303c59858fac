//! A copy to a file, exactly once.
//!
//! Beside `FILE` lies `.FILE.copy.json`: how many bytes of the file are committed, and the position that these bytes
//! reach in each shard. A publish writes text after the committed bytes, syncs it, and then replaces that record
//! atomically, which is the commit. Whatever lies in the file beyond the committed length was never committed and is cut
//! off by the next publish. So the file itself is the truth of a copy's progress, and the source's ledger only follows. A
//! file that was removed is copied again from the start.
//!
//! One process at a time writes a file: it holds the lock of `.FILE.copy.lock`. A file that was not made by a copy of the
//! same stream is refused and left as it is. Dead letters go to `FILE.dead-letters.ndjson` in the same way, one object a
//! line with place and reason.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::budget::{Overdraft, Permit};
use hydrant_core::clock::{self, Instant};
use hydrant_core::disk::{DiskFile, Lock, LockKind, Open, read_file, replace_file};
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{OutputId, Progress};
use hydrant_core::origin::DeadLetter;
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId, StreamId};
use hydrant_core::stage::{Flush, Opened, Output, Scope, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;
use hydrant_core::transform::Source;
use hydrant_core::{Batch, Context, hash};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::format::Format;
use super::sieve::Sieve;
use super::tally::Counts;
use super::{PUBLISH_AFTER, PUBLISH_BYTES, STAGE};

/// The version of the record beside the file.
const VERSION: u32 = 1;

/// What is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// What tells this file from one that was there before; empty in the records of older programs.
    #[serde(default)]
    id: String,
    stream: String,
    bytes: u64,
    dead_letter_bytes: u64,
    shards: BTreeMap<ShardId, Position>,
}

struct State {
    record: Record,
    file: Option<Arc<dyn DiskFile>>,
    dead_letters: Option<Arc<dyn DiskFile>>,
    /// A publish began and did not end well: what is committed must be read again.
    unsure: bool,
}

/// A file that copies are written to.
pub struct FileOutput {
    identity: OutputId,
    path: PathBuf,
    stream: StreamId,
    context: Context,
    state: Mutex<State>,
    _lock: Box<dyn Lock>,
}

impl fmt::Debug for FileOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileOutput({})", self.path.display())
    }
}

fn beside(path: &Path, hidden: bool, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dot = if hidden { "." } else { "" };
    path.with_file_name(format!("{dot}{name}{suffix}"))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl FileOutput {
    /// Opens or makes a file for a copy of `stream`. Refused when another process writes it, or when it was not made by
    /// a copy of this stream.
    pub async fn open(path: &Path, stream: StreamId, context: Context) -> Result<Self> {
        if path.file_name().is_none() {
            return Err(Error::refused(format!(
                "`{}` names no file",
                path.display()
            )));
        }
        let dir = directory(path);
        let context = context.for_results().apart(dir);
        let disk = &context.disk;
        disk.create_dir_all(dir)
            .await
            .map_err(|e| Error::directory("create", dir, e))?;
        let lock_path = beside(path, true, ".copy.lock");
        let lock = disk
            .try_lock(&lock_path, LockKind::Exclusive)
            .await
            .map_err(|e| Error::io("lock", &lock_path, e))?
            .ok_or_else(|| {
                Error::refused(format!(
                    "`{}` is being written by another process: write to another file, or stop that one",
                    path.display()
                ))
            })?;
        let record = Record {
            version: VERSION,
            id: context.random.identity(),
            stream: stream.to_string(),
            bytes: 0,
            dead_letter_bytes: 0,
            shards: BTreeMap::new(),
        };
        let state = State {
            record,
            file: None,
            dead_letters: None,
            unsure: true,
        };
        let mut output = FileOutput {
            identity: OutputId::new("", ""),
            path: path.to_owned(),
            stream,
            context,
            state: Mutex::new(state),
            _lock: lock,
        };
        if let Err(error) = output.clear_away().await {
            tracing::debug!(error = %error.report(), "cannot remove what dead copies left");
        }
        let found = output.read_record().await?;
        let mut known = found.is_some();
        let mut has_identity = found.is_some_and(|record| !record.id.is_empty());
        let stat = output
            .context
            .disk
            .stat(path)
            .await
            .map_err(|e| Error::io("look at", path, e))?;
        if known && stat.is_none() {
            // A commit follows the file: it was removed since, and the copy starts again.
            tracing::info!(file = %path.display(), "the file is gone: copies everything again");
            output.forget().await?;
            (known, has_identity) = (false, false);
        }
        if !known && stat.is_some_and(|stat| stat.is_dir || stat.len > 0) {
            return Err(Error::refused(format!(
                "`{}` exists and was not made by a copy: name another file, or remove it",
                path.display()
            )));
        }
        let mut state = output.state.lock().await;
        output.settle(&mut state).await?;
        if !has_identity {
            // Before anybody's progress names it.
            output.store(&state.record).await?;
        }
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let whole = whole.display().to_string();
        let id = hash::identity(&[state.record.id.as_bytes(), whole.as_bytes()]);
        drop(state);
        output.identity = OutputId::new(format!("{id:032x}"), format!("file {whole}"));
        Ok(output)
    }

    fn record_path(&self) -> PathBuf {
        beside(&self.path, true, ".copy.json")
    }

    /// Removes the records that copies were writing when they died: they are dead, since the lock is held.
    async fn clear_away(&self) -> Result<()> {
        let (disk, dir) = (&self.context.disk, directory(&self.path));
        let record = self.record_path();
        let name = record.file_name().unwrap_or_default().to_string_lossy();
        let start = format!(".{name}.");
        let names = disk.list(dir).await;
        for listed in names.map_err(|e| Error::io("list", dir, e))? {
            let nonce = listed.name.strip_prefix(&start);
            let nonce = nonce.and_then(|nonce| nonce.strip_suffix(".tmp"));
            // With a dot it is the record of a copy to a file whose name goes on.
            if nonce.is_some_and(|nonce| !nonce.contains('.')) {
                let path = dir.join(&listed.name);
                let removed = disk.remove(&path).await;
                removed.map_err(|e| Error::io("remove", &path, e))?;
            }
        }
        Ok(())
    }

    /// Removes the record of what was committed.
    async fn forget(&self) -> Result<()> {
        let path = self.record_path();
        let disk = &self.context.disk;
        let removed = disk.remove(&path).await;
        removed.map_err(|e| Error::io("remove", &path, e))?;
        let synced = disk.sync_dir(directory(&path)).await;
        synced.map_err(|e| Error::io("sync the directory of", &path, e))
    }

    async fn read_record(&self) -> Result<Option<Record>> {
        let path = self.record_path();
        let read = read_file(&*self.context.disk, &path).await;
        let Some(body) = read.map_err(|e| Error::io("read", &path, e))? else {
            return Ok(None);
        };
        let record: Record = serde_json::from_slice(&body).map_err(|error| Error::Corrupt {
            path: path.clone(),
            offset: 0,
            detail: error.to_string(),
        })?;
        if record.version != VERSION {
            return Err(Error::refused(format!(
                "`{}` has version {} and this program knows {VERSION}: copy with the program that wrote it",
                path.display(),
                record.version
            )));
        }
        if record.stream != self.stream.to_string() {
            return Err(Error::refused(format!(
                "`{}` is a copy of stream `{}` and not of `{}`: name another file",
                self.path.display(),
                record.stream,
                self.stream
            )));
        }
        Ok(Some(record))
    }

    /// Makes what is known what is on disk, and cuts off what was never committed.
    async fn settle(&self, state: &mut State) -> Result<()> {
        if !state.unsure {
            return Ok(());
        }
        if let Some(mut record) = self.read_record().await? {
            if record.id.is_empty() {
                record.id = std::mem::take(&mut state.record.id);
            }
            state.record = record;
        }
        let bytes = state.record.bytes;
        state.file = Some(self.cut(&self.path, bytes).await?);
        let path = self.dead_letter_path();
        let bytes = state.record.dead_letter_bytes;
        let there = self
            .context
            .disk
            .stat(&path)
            .await
            .map_err(|e| Error::io("look at", &path, e))?;
        state.dead_letters = match there {
            Some(_) => Some(self.cut(&path, bytes).await?),
            None => {
                if bytes > 0 {
                    tracing::warn!(path = %path.display(), bytes, "the dead letters of the copy are gone; their file begins again");
                    state.record.dead_letter_bytes = 0;
                }
                None
            }
        };
        state.unsure = false;
        Ok(())
    }

    fn dead_letter_path(&self) -> PathBuf {
        beside(&self.path, false, ".dead-letters.ndjson")
    }

    async fn cut(&self, path: &Path, bytes: u64) -> Result<Arc<dyn DiskFile>> {
        let io = |action| move |error| Error::io(action, path, error);
        let disk = &self.context.disk;
        let file = disk.open(path, Open::Create).await.map_err(io("open"))?;
        let len = file.len().await.map_err(io("look at"))?;
        if len < bytes {
            return Err(Error::Corrupt {
                path: path.to_owned(),
                offset: len,
                detail: format!("{bytes} bytes were committed and {len} are there"),
            });
        }
        if len > bytes {
            file.truncate(bytes).await.map_err(io("cut"))?;
        }
        disk.sync_dir(directory(path))
            .await
            .map_err(io("sync the directory of"))?;
        Ok(file)
    }

    async fn position(&self, shard: &ShardId) -> Result<Option<Position>> {
        let mut state = self.state.lock().await;
        self.settle(&mut state).await?;
        Ok(state.record.shards.get(shard).copied())
    }

    /// Commits the text of `(from, to]`. Dropped half way, the next call finds out what became of it.
    async fn commit(
        &self,
        shard: &ShardId,
        from: Position,
        to: Position,
        text: Vec<Bytes>,
        letters: Vec<u8>,
    ) -> Result<()> {
        let mut state = self.state.lock().await;
        self.settle(&mut state).await?;
        let committed = state.record.shards.get(shard).copied();
        if let Some(after) = committed.filter(|committed| *committed != from) {
            return Err(Error::Superseded {
                shard: shard.clone(),
                after,
            });
        }
        state.unsure = true;
        let mut next = state.record.clone();
        if let Some(file) = &state.file {
            next.bytes = append(&**file, &self.path, next.bytes, text).await?;
        }
        if !letters.is_empty() {
            let path = self.dead_letter_path();
            let file = match &state.dead_letters {
                Some(file) => Arc::clone(file),
                None => self.cut(&path, 0).await?,
            };
            let parts = vec![Bytes::from(letters)];
            next.dead_letter_bytes = append(&*file, &path, next.dead_letter_bytes, parts).await?;
            state.dead_letters = Some(file);
        }
        next.shards.insert(shard.clone(), to);
        self.store(&next).await?;
        state.record = next;
        state.unsure = false;
        Ok(())
    }

    /// Makes `record` what is committed.
    async fn store(&self, record: &Record) -> Result<()> {
        let path = self.record_path();
        let body = serde_json::to_vec(record)
            .map_err(|error| Error::fatal(format!("cannot write a record: {error}")))?;
        let nonce = self.context.random.identity();
        let replaced = replace_file(&*self.context.disk, &path, body.into(), &nonce).await;
        replaced.map_err(|error| Error::io("replace", &path, error))
    }
}

/// Writes and syncs at `at`; answers the new length.
async fn append(file: &dyn DiskFile, path: &Path, at: u64, parts: Vec<Bytes>) -> Result<u64> {
    let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
    if bytes > 0 {
        file.write_at(at, parts)
            .await
            .map_err(|error| Error::io("write", path, error))?;
        file.sync()
            .await
            .map_err(|error| Error::io("sync", path, error))?;
    }
    Ok(at + bytes)
}

/// Copies to a file.
#[derive(Clone, Debug)]
pub struct FileStage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    output: FileOutput,
    sieve: Sieve,
    format: Format,
    /// Of the texts that are longer than their records.
    overdraft: Overdraft,
}

impl FileStage {
    /// Writes records into `output`.
    pub fn new(output: FileOutput, sieve: Sieve, format: Format) -> Self {
        FileStage {
            shared: Arc::new(Shared {
                output,
                sieve,
                format,
                overdraft: Overdraft::default(),
            }),
        }
    }
}

#[async_trait]
impl Stage for FileStage {
    fn scope(&self) -> Scope {
        Scope::Shard
    }

    fn output(&self) -> Option<Output> {
        Some(Output {
            id: self.shared.output.identity.clone(),
            keeps_progress: true,
        })
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        let to = self.shared.output.position(&shard.id).await?;
        Ok(to.map(|to| Progress {
            to,
            ..Progress::default()
        }))
    }

    async fn open(&self, claim: Opened) -> Result<Box<dyn ShardStage>> {
        Ok(Box::new(ShardFile {
            shared: Arc::clone(&self.shared),
            shard: claim.shard.id,
            from: claim.after.to,
            to: claim.after.to,
            texts: Vec::new(),
            letters: Vec::new(),
            counts: Counts::default(),
            bytes: 0,
            permits: Vec::new(),
            deadline: None,
        }))
    }

    async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        // Each shard is published by itself.
        Ok(Vec::new())
    }
}

struct ShardFile {
    shared: Arc<Shared>,
    shard: ShardId,
    from: Position,
    to: Position,
    texts: Vec<Bytes>,
    letters: Vec<DeadLetter>,
    counts: Counts,
    bytes: usize,
    permits: Vec<Permit>,
    deadline: Option<Instant>,
}

impl ShardFile {
    async fn take(&mut self, batch: Batch) -> Result<()> {
        let (shared, shard) = (Arc::clone(&self.shared), self.shard.clone());
        let context = &self.shared.output.context;
        let now = context.clock.wall_micros();
        let to = batch.to;
        let job = move || {
            let source = Source {
                stream: &shared.output.stream,
                shard: &shard,
                now,
            };
            let text = shared.sieve.text(&batch, shared.format, source);
            text.map(|text| (text, batch.permit))
        };
        let (text, mut permit) = context.workers.run(job).await??;
        // Letters are there once more, as text, when they are written.
        let letters: u64 = text.letters.iter().map(DeadLetter::memory_bytes).sum();
        let held = text.text.len() as u64 + letters * 2;
        if permit.bytes() >= held {
            permit.shrink_to(held);
        } else {
            // It holds what was taken before until it publishes, and so do others: one of them may always go on.
            drop(permit);
            let overdraft = &self.shared.overdraft;
            permit = context.budget.acquire_more(held, overdraft).await;
        }
        self.bytes += held as usize;
        self.texts.push(text.text.into());
        self.letters.extend(text.letters);
        self.counts = self.counts.and(text.counts);
        self.permits.push(permit);
        self.to = to;
        Ok(())
    }
}

#[async_trait]
impl ShardStage for ShardFile {
    async fn push(&mut self, read: Read) -> Result<()> {
        match read {
            Read::Batch(batch) => self.take(batch).await?,
            Read::Idle { through } => self.to = self.to.max(through),
            Read::Gap { to, .. } => self.to = to,
            Read::End { .. } => self.to = Position::End,
        }
        if self.to != self.from {
            self.deadline.get_or_insert(clock::now() + PUBLISH_AFTER);
        }
        Ok(())
    }

    fn due(&self, now: Instant) -> Option<Flush> {
        if self.bytes >= PUBLISH_BYTES {
            return Some(Flush::Size);
        }
        let pressed = self.bytes > 0 && self.shared.output.context.budget.is_pressed();
        // Who overdraws would wait for itself with the next text, and all others for it.
        if pressed || self.permits.iter().any(Permit::is_overdrawn) {
            return Some(Flush::Memory);
        }
        self.deadline
            .filter(|deadline| *deadline <= now)
            .map(|_| Flush::Time)
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    async fn publish(&mut self, _why: Flush) -> Result<Progress> {
        if self.to != self.from {
            let mut letters = Vec::new();
            for letter in &self.letters {
                let (stage, reason) = (STAGE, letter.reason.to_string());
                metrics::counter!("hydrant_consumer_dead_letters_total", "stage" => stage, "reason" => reason)
                    .increment(1);
                serde_json::to_writer(&mut letters, letter).map_err(|error| {
                    Error::fatal(format!("cannot write a dead letter: {error}"))
                })?;
                letters.push(b'\n');
            }
            let texts = std::mem::take(&mut self.texts);
            self.shared
                .output
                .commit(&self.shard, self.from, self.to, texts, letters)
                .await?;
            self.from = self.to;
            let counts = std::mem::take(&mut self.counts);
            self.shared.sieve.tally.add(counts);
            self.letters.clear();
            self.permits.clear();
            self.bytes = 0;
        }
        self.deadline = None;
        Ok(Progress {
            to: self.to,
            ..Progress::default()
        })
    }

    fn outlives_a_failed_push(&self) -> bool {
        true
    }
}
