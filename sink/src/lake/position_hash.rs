//! The digest of the positions of a file's rows.
//!
//! Owns its form, which commit records hold: XXH3 of 128 bits over each position in row order. Promises that two files
//! with the same rows of the same interval have the same digest. It distinguishes files and keeps no secret.

use hydrant_core::Sequence;
use hydrant_core::batch::{Run, Step, position_in};
use xxhash_rust::xxh3::Xxh3;

/// A digest of positions in the making.
#[derive(Default)]
pub(crate) struct PositionHash {
    state: Xxh3,
}

impl PositionHash {
    /// Adds a position.
    pub(crate) fn position(&mut self, sequence: Sequence, sub: u32) {
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(&sequence.high().to_be_bytes());
        bytes[16..32].copy_from_slice(&sequence.low().to_be_bytes());
        bytes[32..].copy_from_slice(&sub.to_be_bytes());
        self.state.update(&bytes);
    }

    /// Adds a text and its length.
    pub(crate) fn text(&mut self, text: &str) {
        self.state.update(&(text.len() as u64).to_be_bytes());
        self.state.update(text.as_bytes());
    }

    /// The digest in hex.
    pub(crate) fn finish(&self) -> String {
        format!("{:032x}", self.state.digest128())
    }
}

/// The positions of the records of an interval, by their index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions {
    runs: Vec<Run>,
    next: u32,
}

impl Positions {
    /// Adds the position of the next record.
    pub(crate) fn push(&mut self, sequence: Sequence, sub: u32, step: Step) {
        let follows = self.runs.last().is_some_and(|run| {
            let (last, last_sub) = position_in(run, self.next as usize);
            run.step == step && (sequence, sub) == (last, last_sub)
        });
        if !follows {
            self.runs.push(Run {
                first: self.next,
                sequence,
                sub,
                step,
                arrival: 0,
            });
        }
        self.next += 1;
    }

    /// Keeps the positions of the first `len` records.
    pub(crate) fn truncate(&mut self, len: u64) {
        self.runs.retain(|run| u64::from(run.first) < len);
        self.next = u32::try_from(len).unwrap_or(u32::MAX).min(self.next);
    }

    /// How many records have been added.
    pub(crate) fn len(&self) -> u64 {
        self.next.into()
    }

    /// The position of a record.
    pub(crate) fn get(&self, index: u32) -> (Sequence, u32) {
        let after = self.runs.partition_point(|run| run.first <= index);
        after
            .checked_sub(1)
            .and_then(|at| self.runs.get(at))
            .map_or((Sequence::ZERO, 0), |run| position_in(run, index as usize))
    }

    /// The digest of the positions of these records, in their order.
    pub(crate) fn hash(&self, records: &[u32]) -> String {
        let mut hash = PositionHash::default();
        for record in records {
            let (sequence, sub) = self.get(*record);
            hash.position(sequence, sub);
        }
        hash.finish()
    }

    /// The memory that the positions take.
    pub(crate) fn bytes(&self) -> u64 {
        (self.runs.len() * size_of::<Run>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn positions_are_given_back(steps in prop::collection::vec((0u64..3, 0u32..3, any::<bool>()), 0..40)) {
            let mut positions = Positions::default();
            let mut wanted = Vec::new();
            for (sequence, sub, by_sub) in steps {
                let sequence = Sequence::from(sequence);
                positions.push(sequence, sub, if by_sub { Step::Sub } else { Step::Sequence });
                wanted.push((sequence, sub));
            }
            for (index, position) in (0..).zip(&wanted) {
                prop_assert_eq!(positions.get(index), *position);
            }
            prop_assert_eq!(positions.next as usize, wanted.len());
        }
    }

    #[test]
    fn a_log_of_single_records_is_one_run() {
        let mut positions = Positions::default();
        for n in 5..5000 {
            positions.push(Sequence::from(n), 0, Step::Sequence);
        }
        assert_eq!(positions.runs.len(), 1);
        assert_eq!(positions.get(9), (Sequence::from(14), 0));
        assert_ne!(positions.hash(&[1, 2]), positions.hash(&[2, 1]));
    }
}
