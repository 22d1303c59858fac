//! Places in a shard: a position, with what the reader had seen of its origins there.
//!
//! A position and its marks are kept, stored and given back together: marks behind their position let copies through,
//! marks ahead of it drop records that were never published. So whatever names a place, such as a reader that is opened
//! again or a publish, asks here for both.

use std::collections::VecDeque;
use std::sync::Arc;

use hydrant_core::batch::MarksAt;
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::stream::Read;

/// A position, with the marks and the arrival of the newest record before it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) to: Position,
    marks: PlaceMarks,
    arrival: Option<i64>,
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
        }
    }

    /// Goes on to the place behind a read.
    pub(crate) fn follow(&mut self, read: &Read) {
        match read {
            Read::Batch(batch) => {
                debug_assert!(self.to <= batch.to, "a reader does not go back");
                self.to = self.to.max(batch.to);
                if let Some(marks) = &batch.marks {
                    self.marks = PlaceMarks::Within(Arc::clone(marks), batch.to);
                }
                self.arrival = batch.runs.last().map(|run| run.arrival).or(self.arrival);
            }
            Read::Gap { from, to, .. } => {
                debug_assert!(from <= to, "a gap goes forward");
                self.to = self.to.max(*to);
            }
            Read::Idle { through } => {
                debug_assert!(
                    *through <= self.to || self.marks.is_none(),
                    "a reader with marks passes nothing without a batch"
                );
                self.to = self.to.max(*through);
            }
            Read::End { .. } => self.to = Position::End,
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

    /// Goes on to the place at `to`, which was published: a boundary of units within what was pushed.
    pub(crate) fn publish(&mut self, to: Position) -> &Place {
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
            } else if let PlaceMarks::Within(marks, at) = &found.marks {
                // Behind a batch that ends before `to` the marks are those of its end.
                self.published.marks = PlaceMarks::Within(Arc::clone(marks), to.min(*at));
            }
        }
        self.published.to = to;
        self.pushed.drain(..before);
        self.pushed.pop_front_if(|place| place.to == to);
        &self.published
    }
}
