//! The set of what is known of one origin in one hash segment: everything up to a place, and islands beyond it.

use crate::origin::Origin;
use crate::position::Position;

/// A place between two outputs of an upstream shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    /// After everything before this upstream record,
    pub(super) position: Position,
    /// and after so many of its outputs.
    pub(super) outputs: u64,
}

impl Edge {
    /// After all outputs of a record.
    pub(super) const ALL: u64 = 1 << 32;
    /// Before everything.
    pub(super) const BEGIN: Edge = Edge::after(Position::Begin);

    /// After all outputs of the record at `position`.
    pub(super) const fn after(position: Position) -> Self {
        Edge {
            position,
            outputs: Edge::ALL,
        }
    }

    /// Before one output.
    pub(super) fn before(origin: Origin) -> Self {
        Edge {
            position: origin.position(),
            outputs: u64::from(origin.index),
        }
    }

    /// After one output.
    pub(super) fn past(origin: Origin) -> Self {
        Edge {
            position: origin.position(),
            outputs: u64::from(origin.index) + 1,
        }
    }
}

/// What is known of one origin.
///
/// The islands are in order; none is empty, none touches another or what lies up to `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownSet {
    pub(super) to: Edge,
    pub(super) islands: Vec<(Edge, Edge)>,
}

impl Default for KnownSet {
    fn default() -> Self {
        KnownSet {
            to: Edge::BEGIN,
            islands: Vec::new(),
        }
    }
}

impl KnownSet {
    pub(super) fn is_empty(&self) -> bool {
        self.to == Edge::BEGIN && self.islands.is_empty()
    }

    /// The largest edge of what is known.
    pub(super) fn top(&self) -> Edge {
        self.islands.last().map_or(self.to, |island| island.1)
    }

    /// Whether the output that begins at this edge is known.
    pub(super) fn contains(&self, output: Edge) -> bool {
        if output < self.to {
            return true;
        }
        let after = self.islands.partition_point(|island| island.0 <= output);
        after > 0 && output < self.islands[after - 1].1
    }

    /// Adds everything between two edges.
    pub(super) fn add(&mut self, from: Edge, to: Edge) {
        if to <= from {
            return;
        }
        if from <= self.to {
            self.to = self.to.max(to);
            let swallowed = self.islands.partition_point(|island| island.0 <= self.to);
            if let Some(last) = self.islands[..swallowed].last() {
                self.to = self.to.max(last.1);
            }
            self.islands.drain(..swallowed);
            return;
        }
        let first = self.islands.partition_point(|island| island.1 < from);
        let end = self.islands.partition_point(|island| island.0 <= to);
        if first == end {
            self.islands.insert(first, (from, to));
            return;
        }
        let joined = (
            from.min(self.islands[first].0),
            to.max(self.islands[end - 1].1),
        );
        self.islands[first] = joined;
        self.islands.drain(first + 1..end);
    }
}
