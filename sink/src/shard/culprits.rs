//! Which rows make a computation panic.
//!
//! Owns the search by halving. Promises that every row that panics by itself is found, and that no other row is blamed.
//! Refuses to blame single rows for what most of them do.

/// The most records of one interval that become dead letters because of a panic. If there were more, single records
/// would not be the cause.
pub(crate) const CULPRITS_MAX: usize = 1_000;

/// Finds the rows below `rows` for which `holds` returns false when each is tried alone, in order; `None` when they are
/// more than [`CULPRITS_MAX`]. Costs a call of `holds` for each halving on the way to each of them.
pub(crate) fn culprits(rows: usize, holds: impl Fn(&[u32]) -> bool) -> Option<Vec<u32>> {
    let all: Vec<u32> = numbers(rows).collect();
    let mut found = Vec::new();
    let mut left = vec![all.as_slice()];
    while let Some(part) = left.pop() {
        match part {
            [] => {}
            part if holds(part) => {}
            [row] if found.len() < CULPRITS_MAX => found.push(*row),
            [_] => return None,
            part => {
                let (first, second) = part.split_at(part.len() / 2);
                left.push(second);
                left.push(first);
            }
        }
    }
    debug_assert!(found.is_sorted());
    Some(found)
}

/// The rows below `rows` that are not among `culprits`, which must be sorted.
pub(crate) fn others(rows: usize, culprits: &[u32]) -> Vec<u32> {
    numbers(rows)
        .filter(|row| culprits.binary_search(row).is_err())
        .collect()
}

/// The numbers of the rows; a decoder numbers them in 32 bits.
fn numbers(rows: usize) -> std::ops::Range<u32> {
    0..u32::try_from(rows).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exactly_the_rows_that_fail_alone_are_found(bad in prop::collection::btree_set(0_u32..200, 0..9)) {
            let found = culprits(150, |rows| !rows.iter().any(|row| bad.contains(row))).unwrap();
            let wanted: Vec<u32> = bad.iter().copied().filter(|row| *row < 150).collect();
            prop_assert_eq!(&found, &wanted);
            let rest = others(150, &found);
            prop_assert_eq!(rest.len() + found.len(), 150);
            prop_assert!(rest.iter().all(|row| !bad.contains(row)));
        }
    }

    #[test]
    fn what_needs_two_rows_blames_none_and_what_all_do_blames_no_single_one() {
        let both = |rows: &[u32]| !(rows.contains(&3) && rows.contains(&90));
        assert_eq!(culprits(100, both), Some(Vec::new()));
        assert_eq!(culprits(CULPRITS_MAX + 1, |_| false), None);
        assert_eq!(
            culprits(CULPRITS_MAX, |_| false).unwrap().len(),
            CULPRITS_MAX
        );
    }
}
