//! The slots of a chain that have a record.

use std::collections::BTreeMap;

/// A set of numbers as ranges without holes: a sound chain is one range, however long it is.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The last number of each range by its first.
    ranges: BTreeMap<u64, u64>,
}

impl Slots {
    /// Adds a number that the set does not hold yet.
    pub(super) fn insert(&mut self, slot: u64) {
        debug_assert!(!self.ranges.contains_key(&slot));
        let after = slot.checked_add(1);
        let last = after
            .and_then(|after| self.ranges.remove(&after))
            .unwrap_or(slot);
        match self.ranges.range_mut(..slot).next_back() {
            Some((_, before)) if before.checked_add(1) == Some(slot) => *before = last,
            _ => {
                self.ranges.insert(slot, last);
            }
        }
    }

    /// Whether the set holds no number.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The first and the last number of each range, in order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_what_was_added_and_touch_nowhere(
            numbers in prop::collection::hash_set(prop_oneof![0_u64..40, u64::MAX - 5..=u64::MAX], 0..40),
        ) {
            let mut slots = Slots::default();
            numbers.iter().for_each(|number| slots.insert(*number));
            let ranges: Vec<(u64, u64)> = slots.ranges().collect();
            let held: BTreeSet<u64> = ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(held.iter().copied().collect::<std::collections::HashSet<_>>(), numbers);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
