//! The open interval of one shard: decoded rows, dead letters and counts.
//!
//! Owns which part of a batch belongs to the interval. Promises that every record that went in is a row, a dead letter,
//! a drop or a copy that the reader dropped when the interval is sealed, that an account or such a copy counts in the
//! interval that holds its position, that an interval ends where the sequence number changes when the decoder is full
//! (`aggregate`), that its end and the reader's marks there go together, and that a record whose computation panics is a dead
//! letter and changes nothing else. Refuses readers that go back.

mod aggregate;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::batch::{AccountOf, Batch, MarksAt, Step, position_in};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::origin::{DeadLetter, Dropped};
use hydrant_core::workers::contain_each;
use hydrant_core::{Error, Interval, Position, Result, Sequence, ShardId, StreamId};

use self::aggregate::OpenAggregate;
use super::culprits::CULPRITS_MAX;
use super::latency::Latencies;
use crate::decode::{DecodeOutcome, DecodedRows, Decoder, Reject, RowOrigin};
use crate::lake::position_hash::Positions;
use crate::lake::{CommitCounts, Gap, OriginSum, TimeRange};
use crate::schema::TableSchema;
use crate::table::dead_letter::{STAGE, StoredDeadLetter};
use crate::table::spec::TableRules;

/// The most payload bytes of an interval's own dead letters: the offsets in their file have 31 bits.
const DEAD_LETTER_PAYLOADS_MAX: u64 = 1 << 29;

/// The shard of a stream whose records an interval holds.
#[derive(Clone, Debug)]
pub(crate) struct StreamShard {
    /// The stream.
    pub(crate) stream: StreamId,
    /// The stream as text: `name@incarnation`.
    pub(crate) stream_text: Arc<str>,
    /// The shard.
    pub(crate) shard: ShardId,
}

impl StreamShard {
    pub(crate) fn new(stream: &StreamId, shard: &ShardId) -> Self {
        StreamShard {
            stream: stream.clone(),
            stream_text: stream.to_string().into(),
            shard: shard.clone(),
        }
    }
}

/// The reader's marks at the end of an interval. Where the stream checks at append, nothing says any.
#[derive(Clone, Debug, Default)]
pub(crate) enum EndMarks {
    /// What was read since the claim began said none: they are those that it began with.
    #[default]
    Unsaid,
    /// These.
    Stored(Arc<[u8]>),
    /// Those of a batch at this position.
    Within(Arc<dyn MarksAt>, Position),
}

impl EndMarks {
    /// Goes on to a boundary of aggregates in a batch, or to its end.
    pub(crate) fn follow(&mut self, batch: &Batch, to: Position) {
        if let Some(marks) = &batch.marks {
            *self = EndMarks::Within(Arc::clone(marks), to);
        }
    }

    /// Goes on to behind a read without records.
    pub(crate) fn set(&mut self, marks: Vec<u8>) {
        if !marks.is_empty() {
            *self = EndMarks::Stored(marks.into());
        }
    }

    /// The marks in the stream's own form; `None` when nothing said any.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        match self {
            EndMarks::Unsaid => None,
            EndMarks::Stored(marks) => Some(marks.to_vec()),
            EndMarks::Within(marks, to) => Some(marks.at(*to)),
        }
    }
}

/// Where [`Buffer::take`] stopped in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeOutcome {
    /// The whole batch is in the interval.
    All,
    /// The decoder takes no more: the interval ends before an aggregate, a single record included.
    Full {
        /// The index of its first record.
        next: usize,
    },
    /// The interval has grown by as much as it was allowed.
    Grown {
        /// The index of the next record.
        next: usize,
        /// Whether it begins an aggregate, so that the interval may end here.
        between_aggregates: bool,
    },
}

/// After how many records the size of the interval is looked at.
const RECORDS_BETWEEN_LOOKS: usize = 1024;

/// Sums over the records of an interval.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    input: u64,
    input_bytes: u64,
    dead_letter_bytes: u64,
    /// The payload bytes of this sink's own dead letters.
    dead_letter_payloads: u64,
    stamps: Option<TimeRange>,
}

/// An open interval.
#[derive(Debug)]
pub(crate) struct Buffer {
    facts: IntervalFacts,
    /// The inclusive end of the interval so far.
    pub(crate) to: Position,
    /// The reader's marks at `to`.
    pub(crate) place: EndMarks,
    /// Accounts and duplicates are counted up to here.
    accounted: Position,
    aggregate: OpenAggregate,
    decoder: Decoder,
    tally: Tally,
    /// The positions of records that become dead letters unread, because their computation panicked when the interval
    /// was first made.
    given_up: BTreeSet<Position>,
    dropped: BTreeMap<Arc<str>, u64>,
    origins: BTreeMap<AccountOf, OriginSum>,
    sequence_text: (Option<Sequence>, String),
}

/// What is known of an interval beside its rows. The counts, the end and what follows from it are those of a complete
/// one.
#[derive(Debug)]
pub(crate) struct IntervalFacts {
    pub(crate) stream_shard: StreamShard,
    pub(crate) base: Arc<TableSchema>,
    pub(crate) opened: i64,
    pub(crate) interval: Interval,
    /// The reader's marks at the end; `None` when nothing that was read said any.
    pub(crate) marks: Option<Vec<u8>>,
    pub(crate) positions: Positions,
    pub(crate) dead_letters: Vec<StoredDeadLetter>,
    /// The positions of the records whose computation has panicked so far.
    pub(crate) faults: Vec<Position>,
    /// The counts before the rows are conformed; the rows are not counted yet.
    pub(crate) counts: CommitCounts,
    pub(crate) origins: Vec<OriginSum>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) event_times: Option<TimeRange>,
    pub(crate) stamps: Option<TimeRange>,
    pub(crate) latencies: Latencies,
}

fn sum_of<'a>(
    origins: &'a mut BTreeMap<AccountOf, OriginSum>,
    of: &AccountOf,
) -> &'a mut OriginSum {
    origins.entry(of.clone()).or_insert_with(|| OriginSum {
        writer: of.writer,
        shard: of.shard.clone(),
        input: 0,
        records: 0,
        dead_letters: 0,
        dropped: 0,
    })
}

impl Buffer {
    /// Opens an interval that starts after `from`. Nothing lies between `from` and `to`.
    ///
    /// # Errors
    /// Refused when the layout is not the table's.
    pub(crate) fn open(
        stream_shard: &StreamShard,
        rules: &TableRules,
        base: &Arc<TableSchema>,
        opened: i64,
        from: Position,
        to: Position,
    ) -> Result<Self> {
        let decoder = Decoder::try_new(base, rules, opened)?;
        let facts = IntervalFacts {
            stream_shard: stream_shard.clone(),
            base: Arc::clone(base),
            opened,
            interval: Interval::new(from, from),
            marks: None,
            positions: Positions::default(),
            dead_letters: Vec::new(),
            faults: Vec::new(),
            counts: CommitCounts::default(),
            origins: Vec::new(),
            gaps: Vec::new(),
            event_times: None,
            stamps: None,
            latencies: Latencies::default(),
        };
        Ok(Buffer {
            facts,
            to: to.max(from),
            place: EndMarks::default(),
            accounted: to.max(from),
            aggregate: OpenAggregate::default(),
            decoder,
            tally: Tally::default(),
            given_up: BTreeSet::new(),
            dropped: BTreeMap::new(),
            origins: BTreeMap::new(),
            sequence_text: (None, String::new()),
        })
    }

    /// The exclusive start of the interval.
    pub(crate) fn from(&self) -> Position {
        self.facts.interval.from
    }

    /// Makes dead letters of these records without decoding them: that is what they were when the interval was first
    /// made.
    pub(crate) fn giving_up(mut self, faults: &[Position]) -> Self {
        self.given_up.extend(faults);
        self
    }

    /// Begins with the marks at the position up to which nothing lies.
    pub(crate) fn at(mut self, place: EndMarks) -> Self {
        self.place = place;
        self
    }

    /// The payload bytes that went in.
    pub(crate) fn input_bytes(&self) -> u64 {
        self.tally.input_bytes
    }

    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.tally.input == 0 && self.facts.gaps.is_empty() && self.origins.is_empty()
    }

    /// The memory that the rows of the interval take, with the columns of their files. Columns take memory whether they
    /// have values or not.
    pub(crate) fn bytes(&self) -> u64 {
        let rows = if self.decoder.rows() == 0 {
            0
        } else {
            self.decoder.size().arrays as u64
        };
        let columns = self.decoder.column_bytes();
        rows + columns + self.tally.dead_letter_bytes + self.facts.positions.bytes()
    }

    /// What publishing the interval takes beside that: first the largest column once more while the rows are split into
    /// partitions, and then the bytes of the files, where compression is not counted on, but nulls take nothing.
    pub(crate) fn publishing_bytes(&self) -> (u64, u64) {
        let copy = self.decoder.copy_bytes() as u64;
        (copy, self.decoder.size().present as u64)
    }

    /// Marks everything up to `through` as read.
    pub(crate) fn advance_to(&mut self, through: Position) {
        self.to = self.to.max(through);
    }

    /// Marks everything up to `through` as read, where the reader has these marks.
    pub(crate) fn advance(&mut self, through: Position, place: &EndMarks) {
        self.advance_to(through);
        self.place = place.clone();
    }

    /// Adds records that the stream has lost.
    pub(crate) fn gap(&mut self, from: Position, to: Position, why: String) {
        self.facts.gaps.push(Gap { from, to, why });
        self.advance_to(to);
    }

    /// Takes the records of `batch` from index `start` on, at least one, until the interval has grown by `growth`
    /// bytes, or until an aggregate begins if it is `ending`. `arrived` is the time of the dead letters.
    ///
    /// # Errors
    /// Fatal when the batch starts before the interval's end.
    pub(crate) fn take(
        &mut self,
        batch: &Batch,
        start: usize,
        arrived: i64,
        growth: u64,
        ending: bool,
    ) -> Result<TakeOutcome> {
        let before = self.to;
        let bytes_max = self.bytes().saturating_add(growth);
        if start == 0 {
            self.aggregate = OpenAggregate::default();
        }
        if start < batch.len() {
            let (sequence, sub) = batch.position(start);
            let first = Position::at(sequence, sub);
            if first <= before && start == 0 && !mutant::is(Mutant::BuffersKept) {
                return Err(Error::fatal(format!(
                    "the reader of shard `{}` went back: it returned {first} after {before}",
                    self.facts.stream_shard.shard,
                )));
            }
        }
        let ends = batch
            .runs
            .iter()
            .skip(1)
            .map(|run| run.first as usize)
            .chain([batch.len()]);
        for (run, end) in batch.runs.iter().zip(ends) {
            let step = |buffer: &mut Self, index: usize| {
                let position = position_in(run, index);
                let between_aggregates = buffer.aggregate.ends_before(position.0);
                let stops = (ending && between_aggregates) || buffer.has_grown(index, bytes_max);
                if index > start && stops {
                    if between_aggregates {
                        buffer.end_before(batch, index);
                    }
                    let next = index;
                    return ControlFlow::Break(TakeOutcome::Grown {
                        next,
                        between_aggregates,
                    });
                }
                if between_aggregates {
                    if buffer.is_full_before(batch, index) {
                        buffer.end_before(batch, index);
                        return ControlFlow::Break(TakeOutcome::Full { next: index });
                    }
                    buffer.begin_aggregate(index, run.step);
                }
                let arrival = batch.arrivals.get(index).copied();
                let arrival = arrival.unwrap_or(run.arrival);
                if !buffer.record(batch, index, position, arrival, arrived) {
                    if !buffer.is_in_first_aggregate(index) {
                        let next = buffer.end_before_aggregate_of(batch, index);
                        return ControlFlow::Break(TakeOutcome::Full { next });
                    }
                    buffer.refuse_for_room(batch, index, position, arrived);
                }
                buffer.count(batch, index, position, run.step);
                ControlFlow::Continue(())
            };
            let faulted = |buffer: &mut Self, index| {
                let position = position_in(run, index);
                buffer.faulted(batch, index, position, arrived);
                buffer.count(batch, index, position, run.step);
            };
            let indices = start.max(run.first as usize)..end;
            if let ControlFlow::Break(taken) = contain_each(self, indices, step, faulted) {
                return Ok(taken);
            }
        }
        self.end_at(batch, batch.to);
        Ok(TakeOutcome::All)
    }

    fn has_grown(&self, index: usize, bytes_max: u64) -> bool {
        self.tally.dead_letter_bytes > bytes_max
            || (index.is_multiple_of(RECORDS_BETWEEN_LOOKS) && self.bytes() > bytes_max)
    }

    /// Whether there is no room for the dead letters that the aggregate of record `index` may become.
    fn is_full_before(&self, batch: &Batch, index: usize) -> bool {
        let payload = u64::from(batch.records[index].payload.len);
        let full = self.tally.dead_letter_payloads.saturating_add(payload)
            > DEAD_LETTER_PAYLOADS_MAX
            || self.facts.faults.len() >= CULPRITS_MAX;
        full && self.tally.input > 0 && self.given_up.is_empty()
    }

    /// Makes a row or a dead letter of a record, and returns whether there was room for it.
    fn record(
        &mut self,
        batch: &Batch,
        index: usize,
        (sequence, sub): (Sequence, u32),
        arrival: i64,
        arrived: i64,
    ) -> bool {
        let entry = &batch.records[index];
        let payload = batch.payload(entry);
        if self.given_up.contains(&Position::at(sequence, sub)) {
            self.faulted(batch, index, (sequence, sub), arrived);
            return true;
        }
        if batch.is_tombstone(index) {
            self.decoder.give_up();
            self.refuse(batch, index, (sequence, sub), &Reject::tombstone(), arrived);
            return true;
        }
        if self.facts.base.provenance && self.sequence_text.0 != Some(sequence) {
            self.sequence_text = (Some(sequence), sequence.to_string());
        }
        let origin = RowOrigin {
            stamp_micros: (entry.stamp != 0).then_some(entry.stamp),
            arrival_micros: arrival,
            sequence: &self.sequence_text.1,
            sub: i64::from(sub),
        };
        let appended = self.decoder.append(payload, &origin);
        #[cfg(test)]
        crate::tests::fault::in_text("fault:counted", payload);
        match appended {
            DecodeOutcome::Full => return false,
            DecodeOutcome::Row => {
                let stamp = if entry.stamp == 0 {
                    arrival
                } else {
                    entry.stamp
                };
                self.tally.stamps = Some(TimeRange::with(self.tally.stamps, stamp));
                self.facts.latencies.add(stamp);
            }
            DecodeOutcome::Rejected(reject) => {
                self.refuse(batch, index, (sequence, sub), &reject, arrived);
            }
        }
        true
    }

    /// Makes a dead letter of a record whose computation panicked, unless it had become a row or a dead letter already.
    #[cold]
    fn faulted(
        &mut self,
        batch: &Batch,
        index: usize,
        (sequence, sub): (Sequence, u32),
        arrived: i64,
    ) {
        let position = Position::at(sequence, sub);
        if self.decoder.at.done == self.facts.positions.len() {
            self.decoder.give_up();
        }
        if self.decoder.at.rejected > self.own_dead_letters() {
            let reject = Reject::internal_fault();
            self.refuse(batch, index, (sequence, sub), &reject, arrived);
            self.facts.faults.push(position);
        }
        log_fault(&self.facts.stream_shard.shard, position);
    }

    fn refuse(
        &mut self,
        batch: &Batch,
        index: usize,
        position: (Sequence, u32),
        reject: &Reject,
        arrived: i64,
    ) {
        let entry = &batch.records[index];
        let key = batch.key(entry);
        let key = key.map(|key| String::from_utf8_lossy(key).into());
        let payload = batch.payload(entry);
        let payloads = &mut self.tally.dead_letter_payloads;
        *payloads = payloads.saturating_add(payload.len() as u64);
        let mut dead_letter = own_dead_letter(
            &self.facts.stream_shard,
            position,
            key,
            reject,
            payload,
            arrived,
        );
        if batch.is_tombstone(index) {
            dead_letter.payload = None;
        }
        self.keep(dead_letter);
    }

    /// Counts a record that is in the interval.
    fn count(&mut self, batch: &Batch, index: usize, (sequence, sub): (Sequence, u32), step: Step) {
        self.tally.input += 1;
        self.tally.input_bytes += u64::from(batch.records[index].payload.len);
        self.facts.positions.push(sequence, sub, step);
        self.aggregate.takes(sequence);
    }

    fn keep(&mut self, dead_letter: StoredDeadLetter) {
        self.tally.dead_letter_bytes += dead_letter.bytes();
        self.facts.dead_letters.push(dead_letter);
    }

    /// Counts the accounts and the dropped copies at positions up to the end of the interval.
    fn count_accounts(&mut self, batch: &Batch) {
        let (before, to) = (self.accounted, self.to);
        self.accounted = to;
        if let Some(of) = &batch.accounts_records {
            let records = batch.records_up_to(to) - batch.records_up_to(before.min(to));
            if records > 0 {
                let sum = sum_of(&mut self.origins, of);
                sum.input += records as u64;
                sum.records += records as u64;
            }
        }
        for (at, copies) in &batch.duplicates {
            if before < *at && *at <= to {
                self.facts.counts.duplicates = self.facts.counts.duplicates.saturating_add(*copies);
                self.tally.input = self.tally.input.saturating_add(*copies);
            }
        }
        for span in batch
            .accounts
            .iter()
            .filter(|span| before < span.at && span.at <= to)
        {
            let account = &span.account;
            let sum = sum_of(&mut self.origins, &span.entry);
            sum.input = sum.input.saturating_add(account.input);
            sum.records = sum.records.saturating_add(account.records);
            for dead_letter in &account.dead_letters {
                sum.dead_letters += 1;
                self.tally.input += 1;
                self.facts.counts.upstream_dead_letters += 1;
                let dead_letter = StoredDeadLetter {
                    entry: dead_letter.clone(),
                    payload: None,
                };
                self.tally.dead_letter_bytes += dead_letter.bytes();
                self.facts.dead_letters.push(dead_letter);
            }
            for dropped in &account.dropped {
                sum.dropped = sum.dropped.saturating_add(dropped.count);
                self.tally.input = self.tally.input.saturating_add(dropped.count);
                let by_rule = self.dropped.entry(Arc::clone(&dropped.rule)).or_default();
                *by_rule = by_rule.saturating_add(dropped.count);
            }
        }
    }

    /// Completes the interval: its rows, and what is known beside them.
    pub(crate) fn seal(self) -> (DecodedRows, IntervalFacts) {
        let mut facts = self.facts;
        debug_assert!(facts.interval.from <= self.to);
        debug_assert_eq!(self.decoder.at.done, facts.positions.len());
        facts.interval.to = self.to;
        facts.marks = self.place.to_bytes();
        let dropped = self.dropped.into_iter();
        facts.counts.input = self.tally.input;
        facts.counts.own_dead_letters = self.decoder.at.rejected;
        facts.counts.dropped = dropped
            .map(|(rule, count)| Dropped { rule, count })
            .collect();
        debug_assert_eq!(facts.counts.dead_letters(), facts.dead_letters.len() as u64);
        facts.origins = self.origins.into_values().collect();
        facts.event_times = self.decoder.at.event_times;
        facts.stamps = self.tally.stamps;
        (self.decoder.finish(), facts)
    }

    /// How many records this sink made dead letters of.
    fn own_dead_letters(&self) -> u64 {
        self.facts.dead_letters.len() as u64 - self.facts.counts.upstream_dead_letters
    }
}

/// Logs that the computation of a record panicked; the panic hook has logged where.
pub(crate) fn log_fault(shard: &ShardId, position: Position) {
    tracing::error!(
        %shard, %position,
        "computing a record panicked, which is a fault of hydrant; the record becomes an `internal_fault` dead letter",
    );
}

/// The dead letter of a record that this sink refuses. The reject holds no value of the record; the payload was scanned
/// before it came here.
pub(crate) fn own_dead_letter(
    stream_shard: &StreamShard,
    (sequence, sub): (Sequence, u32),
    key: Option<Arc<str>>,
    reject: &Reject,
    payload: &[u8],
    time: i64,
) -> StoredDeadLetter {
    StoredDeadLetter {
        entry: DeadLetter {
            stream: Arc::clone(&stream_shard.stream_text),
            shard: stream_shard.shard.clone(),
            sequence,
            sub,
            key,
            stage: STAGE.into(),
            reason: reject.reason.code().into(),
            detail: reject.to_string(),
            length: payload.len() as u64,
            time,
        },
        // A copy: a shared range would keep the whole segment of the batch in memory.
        payload: Some(Bytes::copy_from_slice(payload)),
    }
}
