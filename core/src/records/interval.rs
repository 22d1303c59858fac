//! Intervals `(from, to]` of a shard.

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_ends_with_its_upper_end_and_begins_behind_its_lower_one() {
        let p = Position::offset;
        let interval = Interval::new(p(5), p(9));
        assert!(interval.contains(p(9)) && !interval.contains(p(5)));
        assert!(Interval::new(p(5), p(5)).is_empty());
    }
}
