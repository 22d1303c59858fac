//! Intervals `(from, to]` of one shard and how they follow each other.

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

/// How an interval stands to a checkpoint that it wants to extend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It starts exactly where the checkpoint is.
    Next,
    /// All of it is done already.
    Done,
    /// Its beginning is done already.
    Overlaps,
    /// Something lies between the checkpoint and its start.
    Gap,
}

impl Interval {
    /// `(from, to]`.
    pub const fn new(from: Position, to: Position) -> Self {
        Interval { from, to }
    }

    /// Whether it holds no position at all.
    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }

    /// Whether `position` lies inside.
    pub fn contains(&self, position: Position) -> bool {
        self.from < position && position <= self.to
    }

    /// How it stands to `checkpoint`.
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
