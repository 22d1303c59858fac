//! Intervals `(from, to]` of a shard, and how they relate to a checkpoint.

use serde::{Deserialize, Serialize};

use crate::position::Position;

/// The records after `from` up to and including `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// Exclusive lower end.
    pub from: Position,
    /// Inclusive upper end.
    pub to: Position,
}

/// How an interval relates to a checkpoint that it would extend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It starts exactly at the checkpoint.
    Next,
    /// It lies wholly before the checkpoint.
    Done,
    /// It begins before the checkpoint and ends after it.
    Overlaps,
    /// It starts after the checkpoint.
    Gap,
}

impl Interval {
    /// Creates the interval `(from, to]`.
    pub const fn new(from: Position, to: Position) -> Self {
        Interval { from, to }
    }

    /// Whether it contains no position.
    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }

    /// Whether `position` lies inside.
    pub fn contains(&self, position: Position) -> bool {
        self.from < position && position <= self.to
    }

    /// How it relates to `checkpoint`.
    pub fn fit(&self, checkpoint: Position) -> Fit {
        if self.from == checkpoint {
            Fit::Next
        } else if self.to <= checkpoint {
            Fit::Done
        } else if self.from < checkpoint {
            Fit::Overlaps
        } else {
            Fit::Gap
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fit_is_a_truth_table() {
        let p = Position::offset;
        let interval = Interval::new(p(5), p(9));
        let table = [
            (Position::Begin, Fit::Gap),
            (p(4), Fit::Gap),
            (p(5), Fit::Next),
            (p(6), Fit::Overlaps),
            (p(8), Fit::Overlaps),
            (p(9), Fit::Done),
            (Position::End, Fit::Done),
        ];
        for (checkpoint, fit) in table {
            assert_eq!(interval.fit(checkpoint), fit, "{checkpoint}");
        }
        assert!(interval.contains(p(9)) && !interval.contains(p(5)));
        assert!(Interval::new(p(5), p(5)).is_empty());
    }
}
