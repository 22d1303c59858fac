//! Aggregates in an open interval: records with one sequence number, which the reader handed out together.
//!
//! Owns where an aggregate began and what the interval was before it. Promises that an interval ends between two aggregates: an aggregate
//! that does not fit is taken out again as a whole, and one that fits into no interval becomes dead letters from the
//! record on that found no room. A log of single records pays a comparison a record.

use hydrant_core::batch::{Batch, Step};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Position, Sequence};

use super::{Buffer, Tally};
use crate::decode::{DecoderMark, Reject};

/// What an interval was when an aggregate of several records began.
#[derive(Clone, Copy, Debug)]
struct AggregateStart {
    /// The index of its first record in the batch.
    index: usize,
    decoder: DecoderMark,
    records: u64,
    dead_letters: usize,
    faults: usize,
    tally: Tally,
}

/// The aggregate of the last record that was taken.
#[derive(Debug, Default)]
pub(super) struct OpenAggregate {
    sequence: Option<Sequence>,
    /// `None` for an aggregate of one record.
    start: Option<AggregateStart>,
}

impl OpenAggregate {
    /// The sequence number of the last record.
    pub(super) fn takes(&mut self, sequence: Sequence) {
        self.sequence = Some(sequence);
    }

    /// Whether a record with this sequence number begins an aggregate.
    pub(super) fn ends_before(&self, sequence: Sequence) -> bool {
        self.sequence != Some(sequence)
    }
}

impl Buffer {
    /// Begins an aggregate with record `index`.
    pub(super) fn begin_aggregate(&mut self, index: usize, step: Step) {
        self.decoder.settle();
        self.aggregate.start = (step == Step::Sub).then(|| AggregateStart {
            index,
            decoder: self.decoder.mark(),
            records: self.facts.positions.len(),
            dead_letters: self.facts.dead_letters.len(),
            faults: self.facts.faults.len(),
            tally: self.tally,
        });
    }

    /// Whether record `index` belongs to an aggregate that begins the interval: no other interval has more room for it.
    pub(super) fn is_in_first_aggregate(&self, index: usize) -> bool {
        let first = |start: AggregateStart| start.records == 0 && start.index < index;
        self.aggregate.start.is_some_and(first)
    }

    /// Makes a dead letter of a record that no interval has room for, because its aggregate is too large.
    #[cold]
    pub(super) fn refuse_for_room(
        &mut self,
        batch: &Batch,
        index: usize,
        position: (Sequence, u32),
        arrived: i64,
    ) {
        self.decoder.give_up();
        self.refuse(
            batch,
            index,
            position,
            &Reject::aggregate_too_large(),
            arrived,
        );
    }

    /// Ends the interval before the aggregate of record `index`, which found no room, and returns the index of the aggregate's
    /// first record.
    #[cold]
    pub(super) fn end_before_aggregate_of(&mut self, batch: &Batch, index: usize) -> usize {
        let first = match self.aggregate.start {
            Some(start) if !mutant::is(Mutant::AggregatesCut) => {
                self.take_out(batch, start);
                start.index
            }
            _ => index,
        };
        self.end_before(batch, first);
        first
    }

    /// Takes the records of an aggregate out again.
    fn take_out(&mut self, batch: &Batch, start: AggregateStart) {
        for record in self.decoder.row_records(start.decoder) {
            let index = start.index + (u64::from(*record) - start.records) as usize;
            let stamp = batch.records[index].stamp;
            let arrival = batch.arrival(index);
            self.facts
                .latencies
                .forget(if stamp == 0 { arrival } else { stamp });
        }
        self.decoder.rewind(start.decoder);
        self.facts.positions.truncate(start.records);
        self.facts.dead_letters.truncate(start.dead_letters);
        self.facts.faults.truncate(start.faults);
        self.tally = start.tally;
    }

    /// Moves the end of the interval to between the aggregates of two records of a batch: everything that the reader says of the
    /// aggregate before record `index` counts in the interval, also behind its last record.
    pub(super) fn end_before(&mut self, batch: &Batch, index: usize) {
        let Some(last) = index.checked_sub(1) else {
            return;
        };
        let (sequence, sub) = batch.position(last);
        debug_assert!(
            batch.position(index).0 != sequence || mutant::is(Mutant::AggregatesCut),
            "an interval ends between two aggregates"
        );
        let accounts = batch.accounts.iter().map(|span| span.at);
        let duplicates = batch.duplicates.iter().map(|(at, _)| *at);
        let of_aggregate = accounts
            .chain(duplicates)
            .filter(|at| at.sequence() == Some(sequence));
        let to = of_aggregate.fold(Position::at(sequence, sub), Position::max);
        self.end_at(batch, to);
    }

    /// Moves the end of the interval to a boundary of aggregates in a batch.
    pub(super) fn end_at(&mut self, batch: &Batch, to: Position) {
        if self.to < to {
            self.to = to;
            self.place.follow(batch, to);
        }
        self.count_accounts(batch);
    }
}
