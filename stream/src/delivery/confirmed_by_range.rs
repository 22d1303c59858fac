//! How far each part of the hash space was confirmed when its shard closed.
//!
//! A lane that starts after a split or a merge, over any number of generations at once, may claim only what is confirmed
//! for *every* hash of its shard: the smallest value over the parts it covers.

use hydrant_core::{HashRange, Position};

/// A partition of the hash space into ranges, each with the position confirmed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfirmedByRange {
    parts: Vec<(HashRange, Position)>,
}

impl ConfirmedByRange {
    /// Everything is confirmed up to `low`.
    pub(super) fn new(low: Position) -> Self {
        ConfirmedByRange {
            parts: vec![(HashRange::ALL, low)],
        }
    }

    /// What is confirmed for every hash of `range`.
    pub(super) fn over(&self, range: HashRange) -> Position {
        self.parts
            .iter()
            .filter(|(part, _)| part.intersect(range).is_some())
            .map(|(_, position)| *position)
            .min()
            .unwrap_or_default()
    }

    /// Notes what is confirmed for `range`. Neighbours with the same value become one part, so that the number of parts
    /// is bounded by the number of shards that differ.
    pub(super) fn set(&mut self, range: HashRange, position: Position) {
        let mut parts = Vec::with_capacity(self.parts.len() + 2);
        for (part, old) in self.parts.drain(..) {
            if part.first < range.first {
                let last = part.last.min(range.first - 1);
                let first = part.first;
                parts.push((HashRange { first, last }, old));
            }
            if part.contains(range.first) {
                parts.push((range, position));
            }
            if part.last > range.last {
                let first = part.first.max(range.last + 1);
                let last = part.last;
                parts.push((HashRange { first, last }, old));
            }
        }
        for (part, position) in parts {
            match self.parts.last_mut() {
                Some((before, same)) if *same == position => before.last = part.last,
                _ => self.parts.push((part, position)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_of_the_parts_is_what_a_range_has_reached(
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
                reached.set(range(a, b), Position::offset(value));
                for cell in &mut cells[a.min(b) as usize..=a.max(b) as usize] {
                    *cell = Position::offset(value);
                }
            }
            let (a, b) = query;
            let least = cells[a.min(b) as usize..=a.max(b) as usize].iter().min();
            prop_assert_eq!(reached.over(range(a, b)), *least.unwrap());
            prop_assert_eq!(reached.parts[0].0.first, 0);
            prop_assert_eq!(reached.parts[reached.parts.len() - 1].0.last, u128::MAX);
            for pair in reached.parts.windows(2) {
                prop_assert_eq!(pair[0].0.last + 1, pair[1].0.first);
                prop_assert_ne!(pair[0].1, pair[1].1);
            }
        }
    }
}
