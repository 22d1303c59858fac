//! Selects the rows of the table that may find something in a text, as sets of bits.

use super::detector::{FoldedText, TextKind};
use super::families::ip;
use super::table::TABLE;
use super::triggers::WHOLE_VALUES;
use crate::class::Class;
use crate::keys::Evidence;
use crate::text::byte_classes::{AT, CAPITAL, CAPITAL_A, CAPITAL_J, COLON, Classes, DIGIT, DOT};
use crate::text::windows::ByteCounts;

/// Classes that rows need.
const NEEDED: [Classes; 7] = [DIGIT, AT, COLON, DOT, CAPITAL_A, CAPITAL_J, CAPITAL];
/// More digits and dots than the first say nothing more.
const DIGITS_MAX: usize = 12;
const DOTS_MAX: usize = 3;

/// The rows of which something holds.
#[derive(Clone, Copy)]
pub(super) struct RowSets {
    pub(super) all: u64,
    pub(super) on_numbers: u64,
    by_evidence: u64,
    of_addresses: u64,
    /// Those that a count of all bytes may rule out, by more than a number of digits.
    judged: u64,
    /// Those that need each of the classes [`NEEDED`].
    needing: [u64; NEEDED.len()],
    /// Those for which there are enough, by the number of digits and of dots.
    enough_digits: [u64; DIGITS_MAX + 1],
    enough_dots: [u64; DOTS_MAX + 1],
}

pub(super) const ROWS: RowSets = {
    let mut rows = RowSets {
        all: 0,
        on_numbers: 0,
        by_evidence: 0,
        of_addresses: 0,
        judged: 0,
        needing: [0; NEEDED.len()],
        enough_digits: [0; DIGITS_MAX + 1],
        enough_dots: [0; DOTS_MAX + 1],
    };
    let mut index = 0;
    while index < TABLE.len() {
        let row = &TABLE[index];
        rows.all |= 1 << index;
        rows.on_numbers |= (row.numbers as u64) << index;
        rows.by_evidence |= (!row.evidence.is_none() as u64) << index;
        rows.of_addresses |= (matches!(row.class, Class::Ip) as u64) << index;
        rows.judged |= (row.possible.is_some() as u64) << index;
        let mut class = 0;
        while class < NEEDED.len() {
            rows.needing[class] |= ((row.needs & NEEDED[class] != 0) as u64) << index;
            class += 1;
        }
        let mut count = 0;
        while count <= DIGITS_MAX {
            rows.enough_digits[count] |= (row.anchor.takes(count, usize::MAX) as u64) << index;
            count += 1;
        }
        count = 0;
        while count <= DOTS_MAX {
            rows.enough_dots[count] |= (row.anchor.takes(usize::MAX, count) as u64) << index;
            count += 1;
        }
        assert!(
            row.anchor.takes(DIGITS_MAX, DOTS_MAX),
            "more of them say more"
        );
        index += 1;
    }
    rows
};
/// The rows that a count of all bytes may rule out.
const COUNTED: u64 = ROWS.judged | !(ROWS.enough_digits[0] & ROWS.enough_dots[0]) & ROWS.all;

/// The rows that the classes, the kind, the evidence and the number of digits of a text leave.
#[inline(always)]
pub(super) fn candidates(text: &FoldedText<'_>, classes: Classes) -> u64 {
    let mut rows = ROWS.all;
    for (class, needing) in NEEDED.iter().zip(&ROWS.needing) {
        if classes & class == 0 {
            rows &= !needing;
        }
    }
    if !text.evidence.has(WHOLE_VALUES) {
        rows &= !ROWS.by_evidence;
    }
    if text.kind == TextKind::Number {
        return rows & ROWS.on_numbers;
    }
    if rows & COUNTED == 0 {
        return rows;
    }
    let counts = ByteCounts::of(text.bytes);
    if counts.dots == 3
        && !text.evidence.has(WHOLE_VALUES.without(Evidence::IP))
        && ip::is_plain(text.bytes)
    {
        return rows & ROWS.of_addresses;
    }
    rows &= ROWS.enough_digits[counts.digits.min(DIGITS_MAX)];
    rows &= ROWS.enough_dots[counts.dots.min(DOTS_MAX)];
    each(rows & ROWS.judged, |index| {
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
