//! Lines as an input: a thread of their own reads, decompresses, splits and finds keys.
//!
//! The thread runs ahead by [`AHEAD_CHUNKS`] chunks and then waits. A pipe may block it for ever; the
//! process ends without it. Before anything else it tells the first line's digest, by which a ledger
//! knows its input again, and then waits to be told where to begin.

use std::io::Read;
use std::path::PathBuf;

use hydrant_core::batch::{Entry, Span};
use hydrant_core::clock::SharedClock;
use hydrant_core::{Budget, Context, Error, Permit, Result, clock, hash, workers};
use tokio::sync::{mpsc, oneshot};

use super::Limits;
use crate::batcher::{Chunk, Refusal, Refused};
use crate::input::{InputError, LINE_BYTES_MAX_DEFAULT, LineBlock, LineReader, file, stdin};
use crate::key::KeyTemplate;
use crate::ledger::InputIdentity;

/// Chunks that the thread may have ready: one is taken, one is there when the next is asked for. A
/// chunk is what one read brings (256 KiB) or one longest line.
const AHEAD_CHUNKS: usize = 2;

/// Lines that come from a thread.
pub(crate) struct LineSource {
    identity: InputIdentity,
    start: Option<oneshot::Sender<u64>>,
    chunks: mpsc::Receiver<Result<Chunk>>,
    /// The part of a chunk for which no record was due yet.
    rest: Option<Chunk>,
    budget: Budget,
}

/// What the thread tells when the input is open.
struct Opened {
    path: PathBuf,
    first_line: Option<String>,
}

impl LineSource {
    pub(crate) async fn open_file(
        path: PathBuf,
        key: Option<(String, KeyTemplate)>,
        context: &Context,
        limits: Limits,
    ) -> Result<Self> {
        let key_text = key.as_ref().map(|key| key.0.clone());
        let name = path.clone();
        let open = move |line_bytes_max| {
            let reader = file::open(&name, line_bytes_max)?;
            Ok((reader, file::real_path(&name)))
        };
        let (source, opened) = Self::open(open, key, context, limits).await?;
        Ok(source.known_as(InputIdentity::File {
            path: opened.path,
            first_line: opened.first_line,
            key: key_text,
        }))
    }

    pub(crate) async fn open_stdin(
        key: Option<(String, KeyTemplate)>,
        context: &Context,
        limits: Limits,
    ) -> Result<Self> {
        let key_text = key.as_ref().map(|key| key.0.clone());
        let open = |line_bytes_max| Ok((stdin::open(line_bytes_max), PathBuf::new()));
        let (source, opened) = Self::open(open, key, context, limits).await?;
        Ok(source.known_as(InputIdentity::Stdin {
            first_line: opened.first_line,
            key: key_text,
        }))
    }

    fn known_as(mut self, identity: InputIdentity) -> Self {
        self.identity = identity;
        self
    }

    async fn open<R: Read>(
        open: impl FnOnce(usize) -> Result<(LineReader<R>, PathBuf), InputError> + Send + 'static,
        key: Option<(String, KeyTemplate)>,
        context: &Context,
        limits: Limits,
    ) -> Result<(Self, Opened)> {
        let (opened, was_opened) = oneshot::channel();
        let (start, starts) = oneshot::channel();
        let (sender, chunks) = mpsc::channel(AHEAD_CHUNKS);
        let indexer = Indexer {
            key: key.map(|key| key.1),
            record_bytes_max: limits.record_bytes_max,
            clock: SharedClock::clone(&context.clock),
            skip: 0,
        };
        let line_bytes_max = LINE_BYTES_MAX_DEFAULT.min(limits.record_bytes_max);
        workers::spawn_named("input", move || {
            let reader = match open(line_bytes_max) {
                Ok(reader) => reader,
                Err(error) => {
                    // The asker may be gone: the process stops.
                    drop(opened.send(Err(error.into())));
                    return;
                }
            };
            read(reader, indexer, opened, starts, &sender);
        })?;
        let opened: Opened = was_opened
            .await
            .map_err(|_| Error::fatal("the input's thread ended before it opened the input"))??;
        let source = LineSource {
            identity: InputIdentity::Stdin {
                first_line: None,
                key: None,
            },
            start: Some(start),
            chunks,
            rest: None,
            budget: context.budget.clone(),
        };
        Ok((source, opened))
    }

    pub(crate) fn identity(&self) -> InputIdentity {
        self.identity.clone()
    }

    pub(crate) fn start(&mut self, index: u64) {
        if let Some(start) = self.start.take() {
            // A thread that is gone has ended with an error, which the first `take` tells.
            let _gone = start.send(index);
        }
    }

    pub(crate) async fn take(&mut self, most: u64) -> Result<Option<Chunk>> {
        let mut chunk = match self.rest.take() {
            Some(rest) => rest,
            None => match self.chunks.recv().await {
                Some(chunk) => chunk?,
                None => return Ok(None),
            },
        };
        if let Some(front) = chunk.split_front(usize::try_from(most).unwrap_or(usize::MAX)) {
            self.rest = Some(std::mem::replace(&mut chunk, front));
        }
        chunk.permit = self.budget.acquire(chunk.memory_bytes()).await;
        Ok(Some(chunk))
    }
}

fn read<R: Read>(
    (mut reader, path): (LineReader<R>, PathBuf),
    mut indexer: Indexer,
    opened: oneshot::Sender<Result<Opened>>,
    start: oneshot::Receiver<u64>,
    chunks: &mpsc::Sender<Result<Chunk>>,
) {
    let mut block = match reader.next_block() {
        Ok(block) => block,
        Err(error) => {
            drop(opened.send(Err(error.into())));
            return;
        }
    };
    let first_line = block.as_ref().and_then(first_line);
    if opened.send(Ok(Opened { path, first_line })).is_err() {
        return;
    }
    let Ok(skip) = start.blocking_recv() else {
        return;
    };
    indexer.skip = skip;
    while let Some(lines) = block {
        let chunk = indexer.chunk(lines);
        let empty = chunk.records.is_empty() && chunk.refused.is_empty();
        if !empty && chunks.blocking_send(Ok(chunk)).is_err() {
            return;
        }
        block = match reader.next_block() {
            Ok(block) => block,
            Err(error) => {
                drop(chunks.blocking_send(Err(error.into())));
                return;
            }
        };
    }
    let lines = reader.counts().lines();
    if lines < skip {
        let name = reader.name();
        drop(chunks.blocking_send(Err(Error::refused(format!(
            "`{name}` has {lines} lines, but {skip} were stored already by its ledger: it is not \
             the input that the ledger knows; give that, or another `--ledger`"
        )))));
    }
}

/// What tells inputs apart: a digest of the first line.
fn first_line(block: &LineBlock) -> Option<String> {
    let taken = block.lines.first();
    let refused = block.refused.first();
    match (taken, refused) {
        (Some(line), refused) if refused.is_none_or(|refused| refused.number > line.number) => {
            let digest = hash::identity(&[b"line", &block.bytes[line.range.clone()]]);
            Some(format!("{digest:032x}"))
        }
        (_, Some(refused)) => Some(format!("too long, {} bytes", refused.length)),
        _ => None,
    }
}

/// Makes chunks of blocks of lines.
struct Indexer {
    key: Option<KeyTemplate>,
    record_bytes_max: usize,
    clock: SharedClock,
    /// Lines below this index are passed over.
    skip: u64,
}

impl Indexer {
    fn chunk(&self, block: LineBlock) -> Chunk {
        let stamp = self.clock.wall_micros();
        let mut records = Vec::with_capacity(block.lines.len());
        let mut runs: Vec<(u32, u64)> = Vec::new();
        let mut refused: Vec<Refused> = block
            .refused
            .iter()
            .map(|line| Refused {
                index: line.number - 1,
                length: line.length,
                reason: Refusal::LineTooLong,
            })
            .filter(|line| line.index >= self.skip)
            .collect();
        let last_line = block.lines.last().map_or(0, |line| line.number);
        let last_refused = block.refused.last().map_or(0, |line| line.number);
        let mut copies = Vec::new();
        let mut scratch = Vec::new();
        let mut next = None;
        for line in &block.lines {
            let index = line.number - 1;
            if index < self.skip {
                continue;
            }
            let payload = &block.bytes[line.range.clone()];
            scratch.clear();
            let found = self.key.as_ref().map_or(Ok(None), |template| {
                template.try_extract(payload, &mut scratch)
            });
            let Ok(found) = found else {
                refused.push(Refused {
                    index,
                    length: payload.len() as u64,
                    reason: Refusal::InternalFault,
                });
                continue;
            };
            let key = found.map(|range| &scratch[range]);
            let length = payload.len() + key.map_or(0, <[u8]>::len);
            if length > self.record_bytes_max {
                refused.push(Refused {
                    index,
                    length: payload.len() as u64,
                    reason: Refusal::RecordTooLarge,
                });
                continue;
            }
            if next != Some(index) {
                runs.push((records.len() as u32, index));
            }
            next = Some(index + 1);
            records.push(entry(line.range.start, payload, key, stamp, &mut copies));
        }
        refused.sort_by_key(|refused| refused.index);
        let mut segments = vec![block.bytes];
        if !copies.is_empty() {
            segments.push(copies.into());
        }
        Chunk {
            segments,
            records,
            runs,
            refused,
            end: last_line.max(last_refused),
            produced: clock::now(),
            permit: Permit::default(),
        }
    }
}

/// A key that stands in the line as it is points there; another one is laid beside a copy of the line,
/// because key and payload share a segment.
fn entry(
    start: usize,
    payload: &[u8],
    key: Option<&[u8]>,
    stamp: i64,
    copies: &mut Vec<u8>,
) -> Entry {
    let len = payload.len() as u32;
    let Some(key) = key else {
        return Entry {
            segment: 0,
            key: None,
            payload: Span::new(start as u32, len),
            stamp,
        };
    };
    let key_len = key.len() as u32;
    if let Some(at) = memchr::memmem::find(payload, key) {
        return Entry {
            segment: 0,
            key: Some(Span::new((start + at) as u32, key_len)),
            payload: Span::new(start as u32, len),
            stamp,
        };
    }
    let start = copies.len() as u32;
    copies.extend_from_slice(payload);
    copies.extend_from_slice(key);
    Entry {
        segment: 1,
        key: Some(Span::new(start + len, key_len)),
        payload: Span::new(start, len),
        stamp,
    }
}

#[cfg(test)]
mod tests;
