//! How far each part of the hash space was confirmed when its shard closed.
//!
//! A lane that starts after a split or a merge, over any number of generations at once, claims for each part what is
//! confirmed in it. A log that checks at append goes by the least of them; one that does not check needs every value:
//! where the service places appends late, the least one claims that what lies between was not sent before.

use hydrant_core::stream::ClaimedRange;
use hydrant_core::{HashRange, Position};

/// A partition of the hash space into ranges, each with the position confirmed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfirmedByRange {
    parts: Vec<ClaimedRange>,
}

impl ConfirmedByRange {
    /// Everything is confirmed up to `low`.
    pub(super) fn new(low: Position) -> Self {
        let all = ClaimedRange {
            range: HashRange::ALL,
            from: low,
        };
        ConfirmedByRange { parts: vec![all] }
    }

    /// What is confirmed in each part of `range`, which the answer tiles.
    pub(super) fn over(&self, range: HashRange) -> Vec<ClaimedRange> {
        let parts = self.parts.iter().filter_map(|part| {
            let range = part.range.intersect(range)?;
            Some(ClaimedRange { range, ..*part })
        });
        parts.collect()
    }

    /// Notes what is confirmed for a range. Neighbours with the same value become one part, so that the number of parts
    /// is bounded by the number of shards that differ.
    pub(super) fn set(&mut self, new: ClaimedRange) {
        let HashRange { first, last } = new.range;
        let below = first
            .checked_sub(1)
            .map(|last| HashRange { first: 0, last });
        let above = last.checked_add(1).map(|first| HashRange {
            first,
            last: u128::MAX,
        });
        let mut parts = below.map_or(Vec::new(), |range| self.over(range));
        parts.push(new);
        parts.extend(above.into_iter().flat_map(|range| self.over(range)));
        parts.dedup_by(|part, before| {
            let same = part.from == before.from;
            if same {
                before.range.last = part.range.last;
            }
            same
        });
        self.parts = parts;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_part_of_a_range_has_what_was_confirmed_for_it_last(
            sets in prop::collection::vec((0u128..16, 0u128..16, 0u64..9), 0..12),
            query in (0u128..16, 0u128..16),
        ) {
            const UNIT: u128 = 1 << 124;
            let range = |a: u128, b: u128| HashRange {
                first: a.min(b) * UNIT,
                last: a.max(b) * UNIT + (UNIT - 1),
            };
            let mut reached = ConfirmedByRange::new(Position::Begin);
            let mut cells = [Position::Begin; 16];
            for (a, b, value) in sets {
                let range = range(a, b);
                reached.set(ClaimedRange { range, from: Position::offset(value) });
                for cell in &mut cells[a.min(b) as usize..=a.max(b) as usize] {
                    *cell = Position::offset(value);
                }
            }
            let (a, b) = query;
            let over = reached.over(range(a, b));
            prop_assert_eq!(over[0].range.first, range(a, b).first);
            prop_assert_eq!(over[over.len() - 1].range.last, range(a, b).last);
            prop_assert!(over.windows(2).all(|two| two[0].range.last + 1 == two[1].range.first));
            for cell in a.min(b)..=a.max(b) {
                let part = over.iter().find(|part| part.range.contains(cell * UNIT));
                prop_assert_eq!(part.unwrap().from, cells[cell as usize]);
            }
            prop_assert_eq!(reached.parts[0].range.first, 0);
            prop_assert_eq!(reached.parts[reached.parts.len() - 1].range.last, u128::MAX);
            for pair in reached.parts.windows(2) {
                prop_assert_eq!(pair[0].range.last + 1, pair[1].range.first);
                prop_assert_ne!(pair[0].from, pair[1].from);
            }
        }
    }
}
