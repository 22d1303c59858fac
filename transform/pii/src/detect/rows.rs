//! Selects the rows of the table that may find something in a text, as sets of bits.

use super::detector::{FoldedText, MatchAnchor, TextKind};
use super::families::ip;
use super::table::TABLE;
use super::triggers::WHOLE_VALUES;
use crate::class::Class;
use crate::keys::Evidence;
use crate::text::byte_classes::{AT, CAPITAL, CAPITAL_A, CAPITAL_J, COLON, Classes, DIGIT, DOT};
use crate::text::windows::ByteCounts;

/// The rows that match a condition, as a set.
const fn rows(numbers: bool, evidence: bool, judged: bool, needs: Classes) -> u64 {
    let mut set = 0;
    let mut index = 0;
    while index < TABLE.len() {
        let row = &TABLE[index];
        let matches = (!numbers || row.numbers)
            && (!evidence || !row.evidence.is_none())
            && (!judged || row.possible.is_some())
            && row.needs & needs == needs;
        if matches {
            set |= 1 << index;
        }
        index += 1;
    }
    set
}

/// The rows for which a text with so many digits and dots has enough of them.
const fn enough(digits: usize, dots: usize) -> u64 {
    let mut set = 0;
    let mut index = 0;
    while index < TABLE.len() {
        let matches = match TABLE[index].anchor {
            MatchAnchor::Digits {
                digits_min,
                dots_min,
            } => digits >= digits_min && dots >= dots_min,
            _ => true,
        };
        if matches {
            set |= 1 << index;
        }
        index += 1;
    }
    set
}

pub(super) const ALL: u64 = rows(false, false, false, 0);
pub(super) const ON_NUMBERS: u64 = rows(true, false, false, 0);
const BY_EVIDENCE: u64 = rows(false, true, false, 0);
/// The rows that a count of all bytes may rule out, by more than a number of digits.
const JUDGED: u64 = rows(false, false, true, 0);
/// The rows that a count of all bytes may rule out.
const COUNTED: u64 = JUDGED | !enough(0, 0) & ALL;
/// More digits and dots than the first say nothing more.
const DIGITS_MAX: usize = 12;
const DOTS_MAX: usize = 3;
/// By a number of digits, and by a number of dots: the rows for which there are enough.
const ENOUGH_DIGITS: [u64; DIGITS_MAX + 1] = {
    let mut sets = [0; DIGITS_MAX + 1];
    let mut count = 0;
    while count <= DIGITS_MAX {
        sets[count] = enough(count, usize::MAX);
        count += 1;
    }
    sets
};
const ENOUGH_DOTS: [u64; DOTS_MAX + 1] = {
    let mut sets = [0; DOTS_MAX + 1];
    let mut count = 0;
    while count <= DOTS_MAX {
        sets[count] = enough(usize::MAX, count);
        count += 1;
    }
    sets
};
const _: () = assert!(enough(DIGITS_MAX, DOTS_MAX) == ALL);
const OF_ADDRESSES: u64 = {
    let mut set = 0;
    let mut index = 0;
    while index < TABLE.len() {
        if matches!(TABLE[index].class, Class::Ip) {
            set |= 1 << index;
        }
        index += 1;
    }
    set
};
/// The rows that need each class.
const NEEDING: [(Classes, u64); 7] = [
    (DIGIT, rows(false, false, false, DIGIT)),
    (AT, rows(false, false, false, AT)),
    (COLON, rows(false, false, false, COLON)),
    (DOT, rows(false, false, false, DOT)),
    (CAPITAL_A, rows(false, false, false, CAPITAL_A)),
    (CAPITAL_J, rows(false, false, false, CAPITAL_J)),
    (CAPITAL, rows(false, false, false, CAPITAL)),
];

/// The rows that the classes, the kind, the evidence and the number of digits of a text leave.
pub(super) fn candidates(text: &FoldedText<'_>, classes: Classes) -> u64 {
    let mut rows = ALL;
    for (class, needing) in NEEDING {
        if classes & class == 0 {
            rows &= !needing;
        }
    }
    if !text.evidence.has(WHOLE_VALUES) {
        rows &= !BY_EVIDENCE;
    }
    if text.kind == TextKind::Number {
        return rows & ON_NUMBERS;
    }
    if rows & COUNTED == 0 {
        return rows;
    }
    let counts = ByteCounts::of(text.bytes);
    if counts.dots == 3
        && !text.evidence.has(WHOLE_VALUES.without(Evidence::IP))
        && ip::is_plain(text.bytes)
    {
        return rows & OF_ADDRESSES;
    }
    rows &= ENOUGH_DIGITS[counts.digits.min(DIGITS_MAX)];
    rows &= ENOUGH_DOTS[counts.dots.min(DOTS_MAX)];
    each(rows & JUDGED, |index| {
        let possible = TABLE[index].possible;
        if !possible.is_none_or(|possible| possible(text, &counts)) {
            rows &= !(1 << index);
        }
    });
    rows
}

/// Visits the rows of a set.
pub(super) fn each(mut rows: u64, mut visit: impl FnMut(usize)) {
    while rows != 0 {
        visit(rows.trailing_zeros() as usize);
        rows &= rows - 1;
    }
}
