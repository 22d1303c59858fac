//! Builds batches of chunks, by size and by time.
//!
//! A [`InputChunk`] is what an input brings at once. The batcher lays chunks behind one another, in order
//! and without touching their bytes, and closes a batch when it holds enough bytes or when its first
//! record has waited for the linger time, but not sooner after the batch before than what that costs
//! the stream. Nothing is reordered, so records of a key keep their order.
//! Memory: at most the target, `RECORDS_MAX` and one chunk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::batch::{Entry, Run, Step};
use hydrant_core::clock::{self, Instant};
use hydrant_core::workers::INTERNAL_FAULT;
use hydrant_core::{Batch, Permit, Position, Sequence};

use crate::ledger::FileEntry;

/// Why an input's record is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The line is longer than lines may be.
    LineTooLong,
    /// A document over several lines is damaged, and its parts are not records.
    Damaged,
    /// Key and payload together are larger than records may be.
    RecordTooLarge,
    /// No record of the stream can have its key, by the code that the stream gives.
    KeyRefused(&'static str),
    /// Finding its key panicked: a fault of hydrant, not of the record.
    InternalFault,
    /// It nests deeper than is scanned.
    TooDeep,
}

impl Refusal {
    /// The name in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::LineTooLong => "line_too_long",
            Refusal::Damaged => "damaged",
            Refusal::RecordTooLarge => "record_too_large",
            Refusal::KeyRefused(code) => code,
            Refusal::InternalFault => INTERNAL_FAULT,
            Refusal::TooDeep => "too_deep",
        }
    }

    /// The reason in words, for log lines.
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Refusal::LineTooLong => "it exceeds `--record-bytes`",
            Refusal::Damaged => "it is a damaged document that spans several lines",
            Refusal::RecordTooLarge => "together with its key it exceeds `--record-bytes`",
            Refusal::KeyRefused(_) => "the stream does not accept its key (see `--key`)",
            Refusal::TooDeep => "its objects and lists nest deeper than 64 levels",
            Refusal::InternalFault => {
                "finding its key failed, which is a fault of hydrant: please report it"
            }
        }
    }
}

/// A record that is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its index in the input.
    pub index: u64,
    /// The line that it begins in, from 1; a simulated record counts as one.
    pub line: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Why it is not sent.
    pub reason: Refusal,
}

/// A batch is closed when it has this many records: beside each lies what is known of it, which outweighs a tiny
/// record.
const RECORDS_MAX: u64 = 1 << 16;

/// How long a batch may grow while others are on their way: it becomes as large as the stream needs it, which takes large
/// batches faster than small ones.
const LINGER_WHILE_BUSY: Duration = Duration::from_secs(1);

/// What an append costs the stream and its readers, about. A batch becomes an append to each shard that it has a record
/// for. Where there are hundreds, small batches one after another would take all of a machine.
const APPEND_COST: Duration = Duration::from_millis(1);

/// What an input hands over at once: consecutive records.
#[derive(Debug)]
pub struct InputChunk {
    /// The bytes that the records point into.
    pub segments: Vec<Bytes>,
    /// The records, in order.
    pub records: Vec<Entry>,
    /// Where indexes do not rise by one: a record and its index, from the first record on.
    pub runs: Vec<(u32, u64)>,
    /// Records that are not sent.
    pub refused: Vec<RefusedRecord>,
    /// The index behind the last record: all below it are in this chunk or an earlier one.
    pub end: u64,
    /// When the first record came, or was due.
    pub produced: Instant,
    /// The memory of the records.
    pub permit: Permit,
    /// The file that it belongs to.
    pub part: FilePart,
}

/// The file that a chunk comes from, and what the ledger has to note of it.
#[derive(Clone, Debug, Default)]
pub struct FilePart {
    /// The input's name.
    pub name: Arc<str>,
    /// The file's number.
    pub number: u32,
    /// Distinguishes the file's origins from those of other files.
    pub origin: Arc<str>,
    /// What must be noted before the first chunk of a file is sent.
    pub opens: Option<Box<FileEntry>>,
    /// What may be noted once the chunk is stored.
    pub mark: Option<Box<FileEntry>>,
    /// The numbers of files that the ledger need not remember any more.
    pub forgets: Vec<u32>,
}

impl InputChunk {
    /// Key and payload bytes of all records.
    pub fn bytes(&self) -> u64 {
        self.records
            .iter()
            .map(|entry| u64::from(entry.payload.len) + entry.key.map_or(0, |k| u64::from(k.len)))
            .sum()
    }

    /// What the records take in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.bytes() + size_of_val(&self.records[..]) as u64
    }

    /// Whether it has no record, but only a note of files for the ledger.
    pub(crate) fn is_note(&self) -> bool {
        self.records.is_empty() && self.refused.is_empty()
    }

    /// Splits the first `records` off the rest, which stays here; `None` when nothing is left.
    /// What was refused goes with the first part, the mark with the rest. Permits are not parted: neither half has one.
    pub fn split_front(&mut self, records: usize) -> Option<InputChunk> {
        if records >= self.records.len() {
            return None;
        }
        let rest = self.records.split_off(records);
        let front_records = std::mem::replace(&mut self.records, rest);
        let cut = records as u32;
        let (mut front, mut back) = (Vec::new(), Vec::new());
        for (n, &(first, index)) in self.runs.iter().enumerate() {
            let end = self.runs.get(n + 1).map_or(u32::MAX, |next| next.0);
            if first < cut {
                front.push((first, index));
            }
            if end > cut {
                let skipped = cut.saturating_sub(first);
                back.push((first.max(cut) - cut, index + u64::from(skipped)));
            }
        }
        let end = back.first().map_or(self.end, |run| run.1);
        self.runs = back;
        Some(InputChunk {
            segments: self.segments.clone(),
            records: front_records,
            runs: front,
            refused: std::mem::take(&mut self.refused),
            end,
            produced: self.produced,
            permit: Permit::default(),
            part: FilePart {
                name: Arc::clone(&self.part.name),
                number: self.part.number,
                origin: Arc::clone(&self.part.origin),
                opens: self.part.opens.take(),
                // The place behind the first part is not known.
                mark: None,
                forgets: Vec::new(),
            },
        })
    }
}

/// A batch ready to be sent, and what is to be remembered of it until it is stored.
#[derive(Debug)]
pub struct ReadyBatch {
    /// The batch.
    pub batch: Batch,
    /// The state to keep until it is stored.
    pub flight: Flight,
}

/// A batch that is sent and not stored yet.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Everything below this index is stored when the batch is.
    pub end: u64,
    /// Its records.
    pub records: u64,
    /// Key and payload bytes.
    pub bytes: u64,
    /// When its first record came, or was due.
    pub produced: Instant,
    /// How far its file is stored when it is.
    pub mark: Option<Box<FileEntry>>,
}

/// Joins chunks to batches.
#[derive(Debug)]
pub struct Batcher {
    bytes_target: u64,
    linger: Duration,
    /// Open shards of the stream.
    shards: u64,
    /// No batch is closed before, unless it is full.
    not_before: Option<Instant>,
    growing: Option<OpenBatch>,
}

#[derive(Debug)]
struct OpenBatch {
    segments: Vec<Bytes>,
    records: Vec<Entry>,
    runs: Vec<Run>,
    permit: Permit,
    flight: Flight,
}

impl Batcher {
    /// Closes batches for a stream of so many shards at `bytes_target` or `linger` after the first record.
    pub fn new(bytes_target: u64, linger: Duration, shards: usize) -> Self {
        Batcher {
            bytes_target,
            linger,
            shards: shards as u64,
            not_before: None,
            growing: None,
        }
    }

    /// Adds a chunk; answers the batch when it is full.
    pub fn push(&mut self, chunk: InputChunk) -> Option<ReadyBatch> {
        let bytes = chunk.bytes();
        let growing = self.growing.get_or_insert_with(|| OpenBatch {
            segments: Vec::new(),
            records: Vec::new(),
            runs: Vec::new(),
            permit: Permit::default(),
            flight: Flight {
                end: 0,
                records: 0,
                bytes: 0,
                produced: chunk.produced,
                mark: None,
            },
        });
        growing.append(chunk, bytes);
        if growing.flight.bytes >= self.bytes_target || growing.flight.records >= RECORDS_MAX {
            self.flush()
        } else {
            None
        }
    }

    /// Adds the note of a file to the open batch; returns it when no batch is open.
    pub(crate) fn mark(&mut self, mark: Box<FileEntry>) -> Option<Box<FileEntry>> {
        match &mut self.growing {
            Some(growing) => {
                growing.flight.mark = Some(mark);
                None
            }
            None => Some(mark),
        }
    }

    /// When the batch has to be closed although it is not full; `None` without a batch.
    pub fn deadline(&self) -> Option<Instant> {
        let growing = self.growing.as_ref()?;
        let lingered = growing.flight.produced + self.linger;
        Some(self.not_before.map_or(lingered, |time| lingered.max(time)))
    }

    /// Like [`Batcher::deadline`], while the stream has not stored the batches before: it takes larger ones faster.
    pub fn deadline_while_busy(&self) -> Option<Instant> {
        let growing = self.growing.as_ref()?;
        let linger = match self.linger.is_zero() {
            true => Duration::ZERO,
            false => self.linger.max(LINGER_WHILE_BUSY),
        };
        Some(growing.flight.produced + linger)
    }

    /// Closes the batch.
    pub fn flush(&mut self) -> Option<ReadyBatch> {
        let growing = self.growing.take()?;
        if !self.linger.is_zero() {
            let appends = growing.flight.records.min(self.shards);
            let cost = APPEND_COST.saturating_mul(u32::try_from(appends).unwrap_or(u32::MAX));
            self.not_before = Some(clock::now() + cost.min(LINGER_WHILE_BUSY));
        }
        Some(ReadyBatch {
            batch: Batch {
                segments: growing.segments.into(),
                records: growing.records,
                runs: growing.runs,
                to: position(growing.flight.end),
                permit: growing.permit,
                ..Batch::default()
            },
            flight: growing.flight,
        })
    }
}

/// The checkpoint that says that everything below `index` is done.
pub(crate) fn position(index: u64) -> Position {
    match index {
        0 => Position::Begin,
        index => Position::offset(index - 1),
    }
}

impl OpenBatch {
    fn append(&mut self, chunk: InputChunk, bytes: u64) {
        let base = self.records.len() as u32;
        let first_segment = self.segments.len() as u32;
        for (first, index) in chunk.runs {
            let follows = first == 0
                && self.runs.last().is_some_and(|run| {
                    run.sequence.saturating_add(u64::from(base - run.first))
                        == Sequence::from(index)
                });
            if !follows {
                self.runs.push(Run {
                    first: base + first,
                    sequence: Sequence::from(index),
                    sub: 0,
                    step: Step::Sequence,
                    arrival: 0,
                });
            }
        }
        self.flight.records += chunk.records.len() as u64;
        self.records
            .extend(chunk.records.into_iter().map(|entry| Entry {
                segment: entry.segment + first_segment,
                ..entry
            }));
        self.segments.extend(chunk.segments);
        self.flight.bytes += bytes;
        self.flight.end = self.flight.end.max(chunk.end);
        if chunk.part.mark.is_some() {
            self.flight.mark = chunk.part.mark;
        }
        // All permits of a producer come from one budget.
        self.permit.merge(chunk.permit);
    }
}

#[cfg(test)]
mod tests;
