//! How far an output may hold records of a shard that no owner has confirmed; once everything up to there is confirmed,
//! the policy pin can be removed.

use hydrant_core::position::Position;

/// Up to where the output may hold unconfirmed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unconfirmed {
    /// The ledger was not read yet.
    Unknown,
    /// Up to this position.
    Through(Position),
    /// Up to the tip at the take-over, which the stream does not know.
    UntilIdle,
}

impl Unconfirmed {
    /// Nothing is unconfirmed.
    pub(super) const NOTHING: Self = Unconfirmed::Through(Position::Begin);

    /// The reader has read up to `position` and nothing is left.
    pub(crate) fn end_at(&mut self, position: Position) {
        if *self == Unconfirmed::UntilIdle {
            *self = Unconfirmed::Through(position);
        }
    }

    /// Whether everything is confirmed once everything up to `published` is. An ended shard holds nothing more.
    pub(crate) fn is_within(self, published: Position) -> bool {
        match self {
            Unconfirmed::Unknown => false,
            Unconfirmed::Through(position) => published >= position,
            Unconfirmed::UntilIdle => published == Position::End,
        }
    }
}
