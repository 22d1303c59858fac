//! Places in a shard: a position together with its marks, that is, what the reader had seen of each origin up to there.
//!
//! A position and its marks are kept, stored and given back together: marks behind their position let copies through,
//! marks ahead of it drop records that were never published. So whatever names a place, such as a reader that is opened
//! again or a publish, asks here for both. A place lies between two aggregates. A publish up to a position inside an
//! aggregate counts only up to the aggregate before it, because marks cannot describe part of an aggregate.

use std::collections::VecDeque;
use std::sync::Arc;

use hydrant_core::batch::{Batch, MarksAt};
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::stream::Read;

/// A position, with the marks and the arrival of the newest record before it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) to: Position,
    marks: PlaceMarks,
    arrival: Option<i64>,
    /// Where the aggregates of the batch before it end, in order; empty where there is no such batch, and without marks.
    aggregates: Arc<[Position]>,
}

/// Where the marks of a place come from.
#[derive(Clone, Debug)]
enum PlaceMarks {
    /// As they were stored, or none.
    Stored(Arc<[u8]>),
    /// Those at this position of a batch.
    Within(Arc<dyn MarksAt>, Position),
}

impl PlaceMarks {
    fn is_none(&self) -> bool {
        matches!(self, PlaceMarks::Stored(marks) if marks.is_empty())
    }
}

impl Place {
    /// Returns the place that progress names.
    pub(crate) fn of(progress: &Progress) -> Self {
        Place {
            to: progress.to,
            marks: PlaceMarks::Stored(progress.marks.as_slice().into()),
            arrival: progress.arrival,
            aggregates: Arc::default(),
        }
    }

    /// Goes on to the place behind a read.
    pub(crate) fn follow(&mut self, read: &Read) {
        self.aggregates = Arc::default();
        match read {
            Read::Batch(batch) => {
                debug_assert!(self.to <= batch.to, "a reader does not go back");
                self.to = self.to.max(batch.to);
                if let Some(marks) = &batch.marks {
                    self.marks = PlaceMarks::Within(Arc::clone(marks), batch.to);
                    self.aggregates = aggregate_ends(batch);
                }
                self.arrival = batch.last_arrival().or(self.arrival);
            }
            Read::Gap {
                from, to, marks, ..
            } => {
                debug_assert!(from <= to, "a gap goes forward");
                self.to = self.to.max(*to);
                self.found(marks);
            }
            Read::Idle { through } => {
                debug_assert!(
                    *through <= self.to || self.marks.is_none(),
                    "a reader with marks passes nothing without a batch"
                );
                self.to = self.to.max(*through);
            }
            Read::End { marks, .. } => {
                self.to = Position::End;
                self.found(marks);
            }
        }
    }

    fn found(&mut self, marks: &[u8]) {
        if !marks.is_empty() {
            self.marks = PlaceMarks::Stored(marks.into());
        }
    }

    /// Returns `progress` at this place. The marks that an output has stored with its position stay.
    pub(crate) fn complete(&self, progress: Progress) -> Progress {
        let marks = match &self.marks {
            _ if !progress.marks.is_empty() => progress.marks,
            PlaceMarks::Stored(marks) => marks.to_vec(),
            PlaceMarks::Within(marks, at) => marks.at(*at),
        };
        Progress {
            to: self.to,
            marks,
            arrival: self.arrival,
            ..progress
        }
    }
}

/// Returns where the aggregates of a batch end. A run of consecutive sequence numbers has as many aggregates as records.
fn aggregate_ends(batch: &Batch) -> Arc<[Position]> {
    let mut ends: Vec<Position> = Vec::new();
    for (sequence, sub, _) in batch.positions() {
        let position = Position::at(sequence, sub);
        match ends.last_mut() {
            Some(end) if end.sequence() == Some(sequence) => *end = position,
            _ => ends.push(position),
        }
    }
    ends.into()
}

/// The places behind everything that was pushed since the last publish, so that what is published finds its marks.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    published: Place,
    /// In order, the last one behind everything that was pushed. Places without marks are only counted by the last one.
    pushed: VecDeque<Place>,
}

impl Trail {
    /// Begins after progress.
    pub(crate) fn after(progress: &Progress) -> Self {
        Trail {
            published: Place::of(progress),
            pushed: VecDeque::new(),
        }
    }

    /// Adds the place behind a read.
    pub(crate) fn push(&mut self, read: &Read) {
        let last = self.pushed.back().unwrap_or(&self.published);
        let mut next = last.clone();
        next.follow(read);
        if next.to == last.to {
            return;
        }
        match self.pushed.back_mut() {
            Some(last) if last.marks.is_none() && next.marks.is_none() => *last = next,
            _ => self.pushed.push_back(next),
        }
    }

    /// Returns when the stream stored the newest record that was pushed, as far as it is known.
    pub(crate) fn arrival(&self) -> Option<i64> {
        self.pushed.back().unwrap_or(&self.published).arrival
    }

    /// Returns the last boundary of aggregates up to `to`.
    fn boundary(&self, to: Position) -> Position {
        let before = self.pushed.partition_point(|place| place.to < to);
        let Some(place) = self.pushed.get(before) else {
            return to;
        };
        if place.to == to || place.aggregates.is_empty() {
            return to;
        }
        let ended = place.aggregates.partition_point(|end| *end <= to);
        match (ended.checked_sub(1), before.checked_sub(1)) {
            (Some(aggregate), _) => place.aggregates[aggregate],
            (None, Some(passed)) => self.pushed[passed].to,
            (None, None) => self.published.to,
        }
    }

    /// Goes on to the place at `to`, which was published, or to the last boundary of aggregates before it.
    pub(crate) fn publish(&mut self, to: Position) -> &Place {
        let to = self.boundary(to);
        if to == self.published.to {
            return &self.published;
        }
        let before = self.pushed.partition_point(|place| place.to < to);
        if let Some(passed) = before.checked_sub(1) {
            self.published = self.pushed[passed].clone();
        }
        if let Some(found) = self.pushed.get(before) {
            if found.to == to {
                self.published = found.clone();
            } else if let PlaceMarks::Within(marks, end) = &found.marks {
                self.published.marks = PlaceMarks::Within(Arc::clone(marks), to.min(*end));
            }
        }
        self.published.to = to;
        self.pushed.drain(..before);
        self.pushed.pop_front_if(|place| place.to == to);
        &self.published
    }
}

#[cfg(test)]
mod tests {
    use hydrant_core::Random;
    use hydrant_core::batch::{Batch, Entry, RunBuilder, Span, Step};
    use hydrant_core::position::Sequence;

    use super::*;

    /// The marks of a place are its text.
    #[derive(Debug)]
    struct Text {
        from: Position,
        to: Position,
    }

    impl MarksAt for Text {
        fn at(&self, to: Position) -> Vec<u8> {
            assert!(self.from < to && to <= self.to, "{to} in {self:?}");
            to.to_string().into_bytes()
        }
    }

    fn text(place: &Place) -> String {
        String::from_utf8(place.complete(Progress::default()).marks).unwrap()
    }

    /// A batch of aggregates of two records each, after a sequence number.
    fn batch(after: u64, aggregates: u64, marks: bool) -> Batch {
        let mut runs = RunBuilder::default();
        for n in 1..=aggregates {
            let arrival = (after + n) as i64;
            runs.push(Sequence::from(after + n), 0, Step::Sub, arrival);
            runs.push(Sequence::from(after + n), 1, Step::Sub, arrival);
        }
        let entry = Entry {
            segment: 0,
            key: None,
            payload: Span::default(),
            stamp: 0,
        };
        let to = end(after + aggregates);
        let text = Text {
            from: end(after),
            to,
        };
        Batch {
            records: vec![entry; 2 * aggregates as usize],
            runs: runs.finish(),
            to,
            marks: marks.then(|| Arc::new(text) as Arc<dyn MarksAt>),
            ..Batch::default()
        }
    }

    /// The place behind an aggregate.
    fn end(sequence: u64) -> Position {
        match sequence {
            0 => Position::Begin,
            sequence => Position::at(Sequence::from(sequence), 1),
        }
    }

    #[test]
    fn what_is_published_inside_an_aggregate_counts_up_to_the_aggregate_before() {
        let mut trail = Trail::after(&Progress::default());
        for after in [0, 3] {
            trail.push(&Read::Batch(batch(after, 3, true)));
        }
        let inside = |sequence: u64| Position::at(Sequence::from(sequence), 0);
        for (to, wanted) in [
            (inside(1), end(0)),
            (inside(3), end(2)),
            (inside(4), end(3)),
            (end(4), end(4)),
            (inside(6), end(5)),
            (end(6), end(6)),
        ] {
            let place = trail.publish(to);
            assert_eq!(place.to, wanted, "{to}");
            if wanted != Position::Begin {
                assert_eq!(text(place), wanted.to_string());
            }
        }
        // Without marks any record may be the last one.
        let mut trail = Trail::after(&Progress::default());
        trail.push(&Read::Batch(batch(0, 3, false)));
        assert_eq!(trail.publish(inside(2)).to, inside(2));
    }

    /// Batches, gaps and idle times, published at any boundary of aggregates: the marks found are always those of the place.
    #[test]
    fn what_is_published_finds_the_marks_of_its_place() {
        for seed in 0..500 {
            let random = Random::seeded(seed);
            let mut trail = Trail::after(&Progress::default());
            // Where aggregates end; the first `published` of them are published.
            let (mut ends, mut published) = (vec![0], 0);
            for _ in 0..60 {
                let pushed = *ends.last().unwrap();
                let read = match random.below(8) {
                    0..=3 => {
                        let aggregates = 1 + random.below(4);
                        ends.extend(pushed + 1..=pushed + aggregates);
                        Read::Batch(batch(pushed, aggregates, true))
                    }
                    4 => {
                        ends.push(pushed + 1 + random.below(3));
                        let to = end(ends[ends.len() - 1]);
                        Read::Gap {
                            from: end(pushed),
                            to,
                            why: String::new(),
                            marks: to.to_string().into_bytes(),
                        }
                    }
                    5 => Read::Idle {
                        through: end(pushed),
                    },
                    _ => {
                        published += random.below((ends.len() - published) as u64) as usize;
                        let to = end(ends[published]);
                        let place = trail.publish(to);
                        assert_eq!(place.to, to, "seed {seed}");
                        if published > 0 {
                            assert_eq!(text(place), to.to_string(), "seed {seed}");
                        }
                        continue;
                    }
                };
                trail.push(&read);
            }
        }
    }

    #[test]
    fn a_boundary_inside_of_a_batch_has_marks_of_its_own() {
        let mut trail = Trail::after(&Progress {
            to: end(1),
            marks: b"1.1".to_vec(),
            arrival: Some(1),
            ..Progress::default()
        });
        trail.push(&Read::Batch(batch(1, 3, true)));
        trail.push(&Read::Batch(batch(4, 3, true)));
        for sequence in [1, 2, 3, 4, 6] {
            let place = trail.publish(end(sequence)).clone();
            assert_eq!(text(&place), format!("{sequence}.1"));
            let arrival = place.complete(Progress::default()).arrival.unwrap();
            assert!(arrival <= sequence as i64, "{arrival} is after {sequence}");
        }
    }

    #[test]
    fn the_end_keeps_the_marks_that_came_before_it() {
        let mut trail = Trail::after(&Progress::default());
        trail.push(&Read::Batch(batch(0, 2, true)));
        let children = Vec::new();
        trail.push(&Read::End {
            children,
            marks: b"2.1".to_vec(),
        });
        assert_eq!(text(trail.publish(Position::End)), "2.1");
    }

    /// Nothing is kept for each batch of a stream that checks at append.
    #[test]
    fn a_trail_without_marks_does_not_grow() {
        let mut trail = Trail::after(&Progress::default());
        for n in 0..1000 {
            trail.push(&Read::Batch(batch(n, 1, false)));
        }
        assert_eq!(trail.pushed.len(), 1);
        let last = trail.publish(end(1000)).complete(Progress::default());
        assert_eq!((last.to, last.arrival), (end(1000), Some(1000)));
        assert!(trail.pushed.is_empty());
    }
}
