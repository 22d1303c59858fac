//! A batch: a few shared byte segments and an index of the records in them.
//!
//! Stages hand on batches, never single records. Nothing is allocated, locked, awaited or timed per record, and bytes
//! are copied only where they change: a stage that keeps a record points into the segment that it came in. A batch
//! owns the [`Permit`] for its bytes, so that dropping it gives them back to the budget.
//!
//! What only some streams know of a record (route hash, headers, tombstone, arrival of its own) lies in columns that are
//! empty for the others, which pay nothing for them. [`Batch::keep`] and [`Batch::replace`] pick records with all that is
//! known of them; code that picks otherwise moves each column.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::budget::Permit;
use crate::origin::{Account, Origin, OriginEntry};
use crate::position::{Position, Sequence};
use crate::shard::ShardId;

/// A range of bytes in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The offset of the first byte.
    pub start: u32,
    /// The number of bytes.
    pub len: u32,
}

impl Span {
    /// From offsets inside a segment, which is at most 4 GiB long.
    pub const fn new(start: u32, len: u32) -> Self {
        Span { start, len }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The segment that holds key, payload and headers.
    pub segment: u32,
    /// The partition key; `None` for a record without one.
    pub key: Option<Span>,
    /// The payload.
    pub payload: Span,
    /// When the producer made the record, microseconds since 1970; 0 when it did not say.
    pub stamp: i64,
}

/// What rises from one record of a [`Run`] to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The sequence number, by one: a log of single records.
    Sequence,
    /// The sub-sequence number, by one: the records of an aggregate.
    Sub,
}

/// Consecutive records with consecutive positions that arrived in the stream together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The index of its first record; it ends where the next run starts.
    pub first: u32,
    /// The sequence number of its first record.
    pub sequence: Sequence,
    /// The sub-sequence number of its first record.
    pub sub: u32,
    /// How positions rise.
    pub step: Step,
    /// When the stream stored it, microseconds since 1970; in a batch with [`Batch::arrivals`] its first record only.
    pub arrival: i64,
}

/// The origin part of one stored append, and which records of the batch it speaks of.
#[derive(Clone, Debug)]
pub struct OriginSpan {
    /// The records of the batch.
    pub records: Range<u32>,
    /// Index into the entry's origins of the first of these records.
    pub skip: u32,
    /// The entry as it was stored; its account is the batch's.
    pub entry: Arc<OriginEntry>,
}

/// An account that travels with a batch.
#[derive(Clone, Debug)]
pub struct AccountSpan {
    /// The position in this shard at which it counts: it belongs to the interval that holds this position.
    pub at: Position,
    /// Whose account it is.
    pub entry: AccountOf,
    /// The account.
    pub account: Account,
}

/// Whose units an account answers for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountOf {
    /// The writer of the append.
    pub writer: crate::origin::WriterId,
    /// The upstream shard.
    pub shard: ShardId,
}

/// What a reader that drops copies had seen of the origins, along one batch.
pub trait MarksAt: Send + Sync + fmt::Debug {
    /// The marks of a place between two aggregates of the batch, or at its end, in the stream's own form.
    fn at(&self, to: Position) -> Vec<u8>;
}

/// Records of one shard, in position order. Those with one sequence number are an aggregate and lie in one batch:
/// intervals, publishes and checkpoints end between aggregates.
///
/// ```
/// use std::sync::Arc;
/// use hydrant_core::batch::{Entry, RunBuilder, Span, Step};
/// use hydrant_core::{Batch, Position, Sequence};
///
/// // Two records in one segment: keys and payloads are spans of its bytes.
/// let entry = |key, payload| Entry { segment: 0, key: Some(key), payload, stamp: 0 };
/// let mut runs = RunBuilder::default();
/// for offset in [7, 8] {
///     runs.push(Sequence::from(offset), 0, Step::Sequence, 0);
/// }
/// let batch = Batch {
///     segments: Arc::new(["k1{\"n\":1}k2{\"n\":2}".into()]),
///     records: vec![entry(Span::new(0, 2), Span::new(2, 7)), entry(Span::new(9, 2), Span::new(11, 7))],
///     runs: runs.finish(),
///     to: Position::offset(8),
///     ..Batch::default()
/// };
/// assert_eq!(batch.key(&batch.records[1]), Some(&b"k2"[..]));
/// assert_eq!(batch.payload(&batch.records[1]), b"{\"n\":2}");
/// assert_eq!(batch.position(1), (Sequence::from(8), 0));
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    /// The bytes.
    pub segments: Arc<[Bytes]>,
    /// The records.
    pub records: Vec<Entry>,
    /// The route hash of each record where it is not the hash of its key; empty when it is for all of them.
    pub hashes: Vec<u128>,
    /// The headers of each record, a block of [`crate::headers`] in the record's segment, or nothing of it for a record
    /// without headers; empty when no record has any.
    pub headers: Vec<Span>,
    /// The records without a payload, by ascending index: in a stream of changes such a record says that its key is gone.
    /// Their payload is empty.
    pub tombstones: Vec<u32>,
    /// When the stream stored each record, microseconds since 1970, where the records of a run did not arrive together;
    /// empty where they did. Always the stream's own value, which is the same however often it is read.
    pub arrivals: Vec<i64>,
    /// The positions; the first run starts at record 0.
    pub runs: Vec<Run>,
    /// Where records came from, by ascending ranges; empty for foreign records.
    pub origins: Vec<OriginSpan>,
    /// The accounts that count in this batch.
    pub accounts: Vec<AccountSpan>,
    /// Whose units the records are, each of which accounts for itself beside the accounts.
    pub accounts_records: Option<Arc<AccountOf>>,
    /// What is done when the whole batch is: the last record's position, or a later one with no record.
    pub to: Position,
    /// The marks of the places in it, up to `to`; `None` where the stream checks at append.
    pub marks: Option<Arc<dyn MarksAt>>,
    /// How many copies the reader dropped, each number at a position at which it counts.
    pub duplicates: Vec<(Position, u64)>,
    /// The budget's bytes that this batch holds.
    pub permit: Permit,
}

impl Batch {
    /// How many records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds no record; it may still hold accounts and move `to`.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether it holds no record, no account and no number of dropped copies; it may still move `to`.
    pub fn counts_nothing(&self) -> bool {
        self.is_empty() && self.accounts.is_empty() && self.duplicates.is_empty()
    }

    /// The bytes that it takes in memory beside its accounts.
    pub fn memory_bytes(&self) -> u64 {
        let segments: usize = self.segments.iter().map(Bytes::len).sum();
        let records = size_of_val(&self.records[..]);
        let hashes = size_of_val(&self.hashes[..]);
        let headers = size_of_val(&self.headers[..]);
        let tombstones = size_of_val(&self.tombstones[..]);
        let arrivals = size_of_val(&self.arrivals[..]);
        let runs = size_of_val(&self.runs[..]);
        let duplicates = size_of_val(&self.duplicates[..]);
        let columns = hashes + headers + tombstones + arrivals;
        (segments + records + columns + runs + duplicates) as u64
    }

    /// The bytes that its accounts take in memory.
    pub fn account_bytes(&self) -> u64 {
        let accounts = self.accounts.iter().map(|span| span.account.memory_bytes());
        accounts.sum::<u64>() + size_of_val(&self.accounts[..]) as u64
    }

    /// How many records lie up to a position.
    pub fn records_up_to(&self, to: Position) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let (sequence, sub) = self.position(middle);
            match Position::at(sequence, sub) <= to {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// The payload of a record.
    pub fn payload(&self, entry: &Entry) -> &[u8] {
        &self.segments[entry.segment as usize][entry.payload.range()]
    }

    /// The payload of a record, sharing the segment's memory.
    pub fn payload_bytes(&self, entry: &Entry) -> Bytes {
        self.segments[entry.segment as usize].slice(entry.payload.range())
    }

    /// The partition key of a record.
    pub fn key(&self, entry: &Entry) -> Option<&[u8]> {
        entry
            .key
            .map(|span| &self.segments[entry.segment as usize][span.range()])
    }

    /// The headers of record `index` as a block of [`crate::headers`]; empty for a record without headers.
    pub fn headers(&self, index: usize) -> &[u8] {
        match self.headers.get(index) {
            Some(span) if span.len > 0 => {
                &self.segments[self.records[index].segment as usize][span.range()]
            }
            _ => &[],
        }
    }

    /// Whether record `index` has no payload, which is not the same as an empty one.
    pub fn is_tombstone(&self, index: usize) -> bool {
        !self.tombstones.is_empty() && self.tombstones.binary_search(&(index as u32)).is_ok()
    }

    /// The bytes of key, payload and headers of record `index`.
    pub fn record_bytes(&self, index: usize) -> usize {
        let entry = &self.records[index];
        let key = entry.key.map_or(0, |key| key.len as usize);
        let headers = self.headers.get(index).map_or(0, |span| span.len as usize);
        key + entry.payload.len as usize + headers
    }

    /// Payload bytes of all records.
    pub fn payload_len(&self) -> u64 {
        self.records
            .iter()
            .map(|entry| u64::from(entry.payload.len))
            .sum()
    }

    /// The run that record `index` belongs to.
    pub fn run(&self, index: usize) -> &Run {
        run_of(&self.runs, index)
    }

    /// The position of record `index`.
    pub fn position(&self, index: usize) -> (Sequence, u32) {
        position_in(self.run(index), index)
    }

    /// When the stream stored record `index`, microseconds since 1970.
    pub fn arrival(&self, index: usize) -> i64 {
        match self.arrivals.get(index) {
            Some(arrival) => *arrival,
            None => self.run(index).arrival,
        }
    }

    /// When the stream stored the last record, microseconds since 1970.
    pub fn last_arrival(&self) -> Option<i64> {
        let of_run = || self.runs.last().map(|run| run.arrival);
        self.arrivals.last().copied().or_else(of_run)
    }

    /// The positions and arrivals of all records, in order.
    pub fn positions(&self) -> impl Iterator<Item = (Sequence, u32, i64)> {
        let ends = self
            .runs
            .iter()
            .skip(1)
            .map(|run| run.first)
            .chain([self.records.len() as u32]);
        let arrivals = &self.arrivals[..];
        self.runs.iter().zip(ends).flat_map(move |(run, end)| {
            (run.first..end).map(move |index| {
                let (sequence, sub) = position_in(run, index as usize);
                let arrival = arrivals.get(index as usize).copied();
                (sequence, sub, arrival.unwrap_or(run.arrival))
            })
        })
    }

    /// Keeps the records with these ascending indexes, each with all that is known of it but its origin: the batch no
    /// longer stands for an append.
    pub fn keep(&mut self, indexes: &[u32]) {
        if indexes.len() < self.len() {
            let records = indexes.iter().map(|index| self.records[*index as usize]);
            let records = records.collect();
            self.keep_columns(indexes);
            keep_column(&mut self.headers, indexes);
            self.records = records;
        }
        self.origins.clear();
        debug_assert!(self.is_aligned(), "a column does not fit the records kept");
    }

    /// Puts records in place of those with these ascending indexes, from which they were made: each keeps all that is
    /// known of the old one but its origin and its headers, which lie in the old one's segment. A record made of a tombstone is one.
    pub fn replace(&mut self, indexes: &[u32], records: Vec<Entry>) {
        debug_assert_eq!(indexes.len(), records.len(), "one record each");
        if indexes.len() < self.len() {
            self.keep_columns(indexes);
        }
        self.records = records;
        self.headers = Vec::new();
        self.origins = Vec::new();
        debug_assert!(self.is_aligned(), "a column does not fit the new records");
    }

    /// Keeps the first `len` records with all that is known of them.
    pub fn truncate(&mut self, len: usize) {
        self.records.truncate(len);
        self.hashes.truncate(len);
        self.headers.truncate(len);
        let tombstones = self.tombstones.partition_point(|at| (*at as usize) < len);
        self.tombstones.truncate(tombstones);
        self.arrivals.truncate(len);
        let runs = self.runs.partition_point(|run| (run.first as usize) < len);
        self.runs.truncate(runs);
        let len = len as u32;
        let origins = self.origins.partition_point(|of| of.records.start < len);
        self.origins.truncate(origins);
        if let Some(last) = self.origins.last_mut() {
            last.records.end = last.records.end.min(len);
        }
    }

    /// Keeps of each column beside records and headers what belongs to the records with these indexes.
    fn keep_columns(&mut self, indexes: &[u32]) {
        debug_assert!(indexes.is_sorted_by(|a, b| a < b), "indexes ascend");
        let mut runs = match self.arrivals.is_empty() {
            true => RunBuilder::default(),
            false => RunBuilder::whatever_the_arrival(),
        };
        for index in indexes {
            let index = *index as usize;
            let (sequence, sub) = self.position(index);
            let arrival = self.arrival(index);
            runs.push(sequence, sub, self.run(index).step, arrival);
        }
        self.runs = runs.finish();
        keep_column(&mut self.hashes, indexes);
        keep_column(&mut self.arrivals, indexes);
        if !self.tombstones.is_empty() {
            let kept = (0..).zip(indexes);
            let kept = kept.filter(|(_, index)| self.is_tombstone(**index as usize));
            self.tombstones = kept.map(|(at, _)| at).collect();
        }
    }

    /// Whether each column fits the records: one value for each record or none at all, runs from the first record on, and
    /// no tombstone with a payload.
    pub fn is_aligned(&self) -> bool {
        let len = self.len();
        let fits = |column: usize| column == 0 || column == len;
        let tombstones = self.tombstones.iter().all(|at| {
            let record = self.records.get(*at as usize);
            record.is_some_and(|record| record.payload.len == 0)
        });
        fits(self.hashes.len())
            && fits(self.headers.len())
            && fits(self.arrivals.len())
            && self.tombstones.is_sorted_by(|a, b| a < b)
            && tombstones
            && self.runs.is_sorted_by(|a, b| a.first < b.first)
            && self.runs.iter().all(|run| (run.first as usize) < len)
            && self.runs.first().is_none_or(|run| run.first == 0)
    }

    /// The origin of record `index`; walks the entry that holds it.
    pub fn origin(&self, index: usize) -> Option<(Arc<OriginEntry>, Origin)> {
        let index = index as u32;
        let span = self
            .origins
            .iter()
            .find(|span| span.records.contains(&index))?;
        let nth = span.skip + (index - span.records.start);
        let origin = span.entry.origins.iter().nth(nth as usize)?;
        Some((Arc::clone(&span.entry), origin))
    }
}

/// Keeps the values at these indexes of a column that has one for each record, or none.
fn keep_column<T: Copy>(column: &mut Vec<T>, indexes: &[u32]) {
    if !column.is_empty() {
        *column = indexes
            .iter()
            .map(|index| column[*index as usize])
            .collect();
    }
}

fn run_of(runs: &[Run], index: usize) -> &Run {
    let after = runs.partition_point(|run| run.first as usize <= index);
    &runs[after - 1]
}

/// The position of record `index` of a batch with these runs.
pub(crate) fn position_in_runs(runs: &[Run], index: usize) -> (Sequence, u32) {
    position_in(run_of(runs, index), index)
}

/// The position of record `index`, which belongs to `run`.
pub fn position_in(run: &Run, index: usize) -> (Sequence, u32) {
    debug_assert!(index >= run.first as usize);
    let n = index as u32 - run.first;
    match run.step {
        Step::Sequence => (run.sequence.saturating_add(u64::from(n)), run.sub),
        Step::Sub => (run.sequence, run.sub + n),
    }
}

/// Builds the runs of a batch from single positions.
#[derive(Debug, Default)]
pub struct RunBuilder {
    runs: Vec<Run>,
    next: u32,
    joins_arrivals: bool,
}

impl RunBuilder {
    /// For a batch whose [`Batch::arrivals`] has each record's arrival: it does not part runs.
    pub fn whatever_the_arrival() -> Self {
        RunBuilder {
            joins_arrivals: true,
            ..RunBuilder::default()
        }
    }

    /// Adds the position of the next record.
    pub fn push(&mut self, sequence: Sequence, sub: u32, step: Step, arrival: i64) {
        let follows = self.runs.last().is_some_and(|run| {
            run.step == step
                && (self.joins_arrivals || run.arrival == arrival)
                && position_in(run, self.next as usize) == (sequence, sub)
        });
        if !follows {
            self.runs.push(Run {
                first: self.next,
                sequence,
                sub,
                step,
                arrival,
            });
        }
        self.next += 1;
    }

    /// The runs.
    pub fn finish(self) -> Vec<Run> {
        self.runs
    }
}

#[cfg(test)]
mod tests;
