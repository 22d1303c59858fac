//! Reads an open file and sends its records out of the thread.
//!
//! Owns what each chunk carries for the ledger: what a file begins with, before its first chunk is sent, and its
//! position, once a chunk is stored.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use hydrant_core::{Error, Random, Result};
use tokio::sync::mpsc;

use super::file::FileTail;
use crate::batcher::{FilePart, InputChunk};
use crate::input::indexer::Indexer;
use crate::input::{InputError, LineBlock, LineReader, RecordRange, Truncated};
use crate::ledger::FileEntry;

/// How many of the first records show whether an input holds JSON objects.
const RECORDS_LOOKED_AT: usize = 16;

/// Sends chunks from the thread of the walk to the producer.
pub(in crate::input) struct ChunkSender {
    indexer: Indexer,
    random: Random,
    pub(super) chunks: mpsc::Sender<Result<InputChunk>>,
    /// Whether files have origins of their own; else indexes rise over all files.
    pub(super) by_file: bool,
    next: u64,
    /// Whether a warning said that records are not JSON objects.
    has_warned_of_text: bool,
}

/// The producer has dropped its end of the channel.
#[derive(Debug)]
pub(super) struct ConsumerGone;

impl ChunkSender {
    pub(in crate::input) const fn new(
        indexer: Indexer,
        random: Random,
        chunks: mpsc::Sender<Result<InputChunk>>,
        by_file: bool,
    ) -> Self {
        ChunkSender {
            indexer,
            random,
            chunks,
            by_file,
            next: 0,
            has_warned_of_text: false,
        }
    }

    pub(super) fn wall_micros(&self) -> u64 {
        u64::try_from(self.indexer.clock.wall_micros()).unwrap_or(0)
    }

    pub(super) fn draw(&self) -> u32 {
        (self.random.u64() >> 32) as u32
    }

    /// Sends a block whose indexes lie in `indexes`.
    fn send(
        &mut self,
        block: LineBlock,
        indexes: Range<u64>,
        part: FilePart,
    ) -> Result<(), ConsumerGone> {
        let base = if self.by_file {
            0
        } else {
            self.next.wrapping_sub(indexes.start)
        };
        let mut chunk = self.indexer.chunk(block, None, indexes.end, base);
        self.next = chunk.end;
        chunk.part = match self.by_file {
            true => part,
            false => FilePart {
                name: part.name,
                ..FilePart::default()
            },
        };
        self.chunks
            .blocking_send(Ok(chunk))
            .map_err(|_| ConsumerGone)
    }

    /// Warns once of what becomes of records that are not JSON objects, if the first ones of an input are not.
    fn warn_of_text(&mut self, block: &LineBlock, name: &str) {
        let is_object = |line: &RecordRange| block.bytes[line.range.clone()].starts_with(b"{");
        let mut first = block.lines.iter().take(RECORDS_LOOKED_AT);
        if !self.has_warned_of_text && !first.any(is_object) {
            self.has_warned_of_text = true;
            tracing::warn!(
                input = name,
                "the input does not begin with JSON objects: its records are sent as they are, but a sink turns only \
                 objects into rows, and the rest into dead letters"
            );
        }
    }

    /// Notes how a file that the ledger knows stands, with no record.
    pub(super) fn note(&mut self, entry: &FileEntry) -> Result<(), ConsumerGone> {
        if !self.by_file {
            return Ok(());
        }
        let part = FilePart {
            number: entry.number,
            origin: Arc::from(entry.origin()),
            mark: Some(Box::new(entry.clone())),
            ..FilePart::default()
        };
        self.send(LineBlock::default(), entry.index..entry.index, part)
    }

    /// Notes that the ledger need not remember the files of these numbers any more.
    pub(super) fn forget(&mut self, numbers: Vec<u32>) -> Result<(), ConsumerGone> {
        if !self.by_file || numbers.is_empty() {
            return Ok(());
        }
        let part = FilePart {
            forgets: numbers,
            ..FilePart::default()
        };
        self.send(LineBlock::default(), 0..0, part)
    }

    pub(super) fn fail(&self, error: Error) {
        // Without a receiver the process is ending.
        drop(self.chunks.blocking_send(Err(error)));
    }
}

/// A file that is being read.
pub(super) struct OpenFile<R: io::Read> {
    pub(super) entry: FileEntry,
    pub(super) name: Arc<str>,
    origin: Arc<str>,
    pub(super) reader: LineReader<R>,
    /// The index behind what was sent.
    sent: u64,
    /// Whether a chunk has opened it in the ledger.
    pub(super) is_opened: bool,
    /// Whether it is a copy, which does not grow.
    pub(super) is_copy: bool,
    is_format_logged: bool,
    /// Whether its first records were looked at.
    is_looked_at: bool,
}

/// The outcome of reading one block.
pub(super) enum ReadOutcome {
    Block,
    End,
    Truncated,
    Failed(InputError),
}

impl<R: io::Read> OpenFile<R> {
    pub(super) fn new(entry: FileEntry, name: Arc<str>, reader: LineReader<R>) -> Self {
        OpenFile {
            sent: entry.index,
            origin: Arc::from(entry.origin()),
            entry,
            name,
            reader,
            is_opened: false,
            is_copy: false,
            is_format_logged: false,
            is_looked_at: false,
        }
    }

    /// Notes that it is the file of `entry` under another path than the one at which an input led to it.
    pub(super) fn leads_from(&mut self, entry: &FileEntry) {
        self.entry.moved = true;
        self.entry.input = entry.input.clone();
    }

    /// Reads one block and sends it.
    pub(super) fn step(&mut self, sender: &mut ChunkSender) -> Result<ReadOutcome, ConsumerGone> {
        let block = self.reader.next_block();
        self.log_format();
        match block {
            Ok(Some(block)) => {
                if !self.is_looked_at && !block.lines.is_empty() {
                    self.is_looked_at = true;
                    sender.warn_of_text(&block, &self.name);
                }
                self.send(block, sender).map(|()| ReadOutcome::Block)
            }
            Ok(None) => Ok(ReadOutcome::End),
            Err(error) if is_truncated(&error) => Ok(ReadOutcome::Truncated),
            Err(error) => Ok(ReadOutcome::Failed(error)),
        }
    }

    pub(super) fn send(
        &mut self,
        block: LineBlock,
        sender: &mut ChunkSender,
    ) -> Result<(), ConsumerGone> {
        self.entry.ended = false;
        let place = self.reader.position();
        let opens = (!self.is_opened).then(|| {
            if self.entry.first.is_none() {
                self.entry.first = self.reader.beginning();
            }
            Box::new(self.entry.clone())
        });
        self.is_opened = true;
        if let Some(place) = place {
            self.entry.advance(place);
        }
        let mark = place.map(|_| Box::new(self.entry.clone()));
        let part = FilePart {
            name: Arc::clone(&self.name),
            number: self.entry.number,
            origin: Arc::clone(&self.origin),
            opens,
            mark,
            forgets: Vec::new(),
        };
        let end = self.reader.next_index();
        let indexes = std::mem::replace(&mut self.sent, end)..end;
        sender.send(block, indexes, part)
    }

    /// Logs once what the records were found to be.
    fn log_format(&mut self) {
        if !self.is_format_logged
            && let Some((found, encoding)) = self.reader.found()
        {
            self.is_format_logged = true;
            let encoding = encoding.unwrap_or("UTF-8");
            tracing::info!(input = &*self.name, encoding, "the format is {found}");
        }
    }

    /// Warns of what stays unsent at the end.
    pub(super) fn warn_unfinished(&self) {
        if let Some((line, bytes)) = self.reader.unfinished() {
            tracing::warn!(
                input = &*self.name,
                line,
                bytes,
                "the input ends within a record, which is sent once it is complete, or as it is with `--at-end send`"
            );
        } else if self.reader.is_cut() {
            tracing::warn!(
                input = &*self.name,
                "the input ends within a character, or before its format is known: its last bytes are sent when more follow"
            );
        } else if self.reader.is_in_array() {
            tracing::warn!(
                input = &*self.name,
                "the input ends within its array: it was truncated, or is still being written"
            );
        }
    }
}

impl OpenFile<FileTail> {
    /// Ends it: it is read on only if it has grown at the next start.
    pub(super) fn end(&mut self) {
        self.entry.ended = true;
        self.entry.size = self.reader.plain().map(FileTail::read_bytes);
    }
}

pub(super) fn is_truncated(error: &InputError) -> bool {
    let InputError::Read { source, .. } = error else {
        return false;
    };
    source
        .get_ref()
        .is_some_and(|inner| inner.is::<Truncated>())
}
