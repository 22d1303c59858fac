//! A batch: a few shared byte segments and an index of the records in them.
//!
//! Stages hand on batches, never single records. Nothing is allocated, locked, awaited or timed per record, and bytes
//! are copied only where they change: a stage that keeps a record points into the segment that it came in. A batch
//! owns the [`Permit`] for its bytes, so that dropping it gives them back to the budget.

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
    /// The segment that holds key and payload.
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
    /// When the stream stored it, microseconds since 1970.
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
    /// The marks of a place at a unit boundary of the batch, in the stream's own form.
    fn at(&self, to: Position) -> Vec<u8>;
}

/// Records of one shard, in position order.
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
    /// The positions; the first run starts at record 0.
    pub runs: Vec<Run>,
    /// Where records came from, by ascending ranges; empty for foreign records.
    pub origins: Vec<OriginSpan>,
    /// The accounts that count in this batch.
    pub accounts: Vec<AccountSpan>,
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

    /// The bytes that it takes in memory beside its accounts.
    pub fn memory_bytes(&self) -> u64 {
        let segments: usize = self.segments.iter().map(Bytes::len).sum();
        let records = size_of_val(&self.records[..]);
        let hashes = size_of_val(&self.hashes[..]);
        let runs = size_of_val(&self.runs[..]);
        (segments + records + hashes + runs) as u64
    }

    /// The bytes that its accounts take in memory.
    pub fn account_bytes(&self) -> u64 {
        let accounts = self.accounts.iter().map(|span| span.account.memory_bytes());
        accounts.sum::<u64>() + size_of_val(&self.accounts[..]) as u64
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

    /// The positions and arrivals of all records, in order.
    pub fn positions(&self) -> impl Iterator<Item = (Sequence, u32, i64)> {
        let ends = self
            .runs
            .iter()
            .skip(1)
            .map(|run| run.first)
            .chain([self.records.len() as u32]);
        self.runs.iter().zip(ends).flat_map(|(run, end)| {
            (run.first..end).map(move |index| {
                let (sequence, sub) = position_in(run, index as usize);
                (sequence, sub, run.arrival)
            })
        })
    }

    /// The route hash of record `index` when it is not the hash of its key.
    pub fn explicit_hash(&self, index: usize) -> Option<u128> {
        self.hashes.get(index).copied()
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

fn run_of(runs: &[Run], index: usize) -> &Run {
    let after = runs.partition_point(|run| run.first as usize <= index);
    &runs[after - 1]
}

/// The position of record `index` of a batch with these runs.
pub(crate) fn position_in_runs(runs: &[Run], index: usize) -> (Sequence, u32) {
    position_in(run_of(runs, index), index)
}

fn position_in(run: &Run, index: usize) -> (Sequence, u32) {
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
}

impl RunBuilder {
    /// Adds the position of the next record.
    pub fn push(&mut self, sequence: Sequence, sub: u32, step: Step, arrival: i64) {
        let follows = self.runs.last().is_some_and(|run| {
            run.step == step
                && run.arrival == arrival
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
mod tests {
    use super::*;

    #[test]
    fn runs_give_each_record_its_position() {
        let mut runs = RunBuilder::default();
        let wanted = [
            (5u64, 0u32, Step::Sequence),
            (6, 0, Step::Sequence),
            (9, 0, Step::Sequence),
            (10, 0, Step::Sub),
            (10, 1, Step::Sub),
        ];
        for (sequence, sub, step) in wanted {
            runs.push(Sequence::from(sequence), sub, step, 1);
        }
        let entry = Entry {
            segment: 0,
            key: None,
            payload: Span::default(),
            stamp: 0,
        };
        let batch = Batch {
            records: vec![entry; 5],
            runs: runs.finish(),
            ..Batch::default()
        };
        assert_eq!(batch.runs.len(), 3);
        let all: Vec<_> = batch
            .positions()
            .map(|(s, sub, _)| (s.offset().unwrap(), sub))
            .collect();
        assert_eq!(all, wanted.map(|(s, sub, _)| (s, sub)));
        for (index, (sequence, sub)) in all.iter().enumerate() {
            assert_eq!(batch.position(index), (Sequence::from(*sequence), *sub));
        }
    }
}
