//! The detectors: one file per family, one row of `table` per detector.
//!
//! A row says what a detector is called, which byte classes, length or key evidence have to be
//! there before it looks, where it is anchored, and texts that it proves itself on. A new detector
//! is one file and one row. Matchers promise linear time over all their calls on one text.
//! Refuses to act: hits are spans of the shadow text.

mod by_key;
mod card;
mod email;
mod geo;
mod iban;
mod ip;
mod mac;
mod number;
mod pair;
mod person;
mod phone;
mod ssn;
mod table;
mod token;
mod version;

pub(crate) use geo::{DECIMALS as DECIMALS_KEPT, rounded_numbers};
pub(crate) use ip::{Address, carried, parse_address};
pub(crate) use number::plain_integer;
pub(crate) use pair::{pair, pair_value};
pub(crate) use person::year_of;
pub(crate) use table::TABLE;

use std::ops::Range;

use crate::audit::Class;
use crate::classes::{self, AT, CAPITAL, CAPITAL_A, CAPITAL_J, COLON, Classes, DIGIT, DOT};
use crate::keys::Evidence;
use crate::windows::{self, Counts};

/// What a detector is, for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetectorInfo {
    /// Its name, as findings show it.
    pub name: &'static str,
    /// The class of its findings, as policies name it.
    pub class: Class,
    /// What it takes for a finding.
    pub description: &'static str,
}

/// What kind of scalar a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Key,
}

/// A folded text with what its keys say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) evidence: Evidence,
    pub(crate) kind: Kind,
    /// Whether the engine wrote a part of it, so that labels in it are no evidence.
    pub(crate) edited: bool,
}

/// A span of the shadow text that a detector claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Index of the row.
    pub(crate) detector: u8,
}

/// The hits in one text.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    pub(crate) list: Vec<Hit>,
    detector: u8,
}

impl Hits {
    /// Adds a hit of the present detector.
    fn push(&mut self, range: Range<usize>) {
        self.list.push(Hit {
            start: range.start,
            end: range.end,
            detector: self.detector,
        });
    }

    /// Adds a hit of a named row.
    pub(crate) fn claim(&mut self, range: Range<usize>, detector: u8) {
        self.list.push(Hit {
            start: range.start,
            end: range.end,
            detector,
        });
    }

    /// Where the last hit of the present detector ends.
    fn covered_to(&self) -> usize {
        match self.list.last() {
            Some(hit) if hit.detector == self.detector => hit.end,
            _ => 0,
        }
    }
}

/// Where a matcher is called.
#[derive(Clone, Copy)]
enum Anchor {
    /// At each occurrence of the byte.
    Byte(u8),
    /// On each run of digits that holds at least so many digits and dots.
    Digits { digits_min: usize, dots_min: usize },
    /// On each run of hexadecimal digits.
    Hex,
    /// Once, on the whole text.
    Whole,
}

/// One detector.
pub(crate) struct Detector {
    pub(crate) info: DetectorInfo,
    anchor: Anchor,
    /// Classes that must all be in the text.
    needs: Classes,
    bytes_min: usize,
    /// Key evidence of which something must be there; none: not needed.
    evidence: Evidence,
    /// Whether numbers are looked at, besides texts and keys.
    numbers: bool,
    /// Whether a text with so many bytes of each kind can hold a finding: cheap, and only ever
    /// wrong by saying yes.
    possible: Option<fn(&Text<'_>, &Counts) -> bool>,
    matcher: fn(&Text<'_>, Range<usize>, &mut Hits),
    /// Keys and values that it must find, each value as a whole.
    pub(crate) samples: &'static [(&'static str, &'static str)],
}

impl Detector {
    /// Whether it finds any value under its keys, so also its own replacement.
    pub(crate) fn takes_whole_values(&self) -> bool {
        matches!(
            self.info.class,
            Class::Name | Class::Address | Class::BirthDate | Class::Custom
        )
    }
}

/// Row of the findings that a rule for a path or key makes.
pub(crate) const BY_RULE: u8 = 0;

const NO: Evidence = Evidence::NONE;

/// What every detector is, in the order of the table.
pub fn detectors() -> impl Iterator<Item = DetectorInfo> {
    TABLE.iter().map(|detector| detector.info)
}

/// Classes of what has to be undone before anything can be found.
pub(crate) const NOTED: Classes = classes::HIGH | classes::ESCAPE | classes::PERCENT;

/// Whether a text of this evidence is a time, in which no detector finds anything.
pub(crate) fn is_timestamp(text: &[u8], evidence: Evidence) -> bool {
    !evidence.has(WHOLE_VALUES) && windows::is_timestamp(text)
}

/// Whether any detector could look at a scalar of these classes, this length and this evidence.
pub(crate) fn worth_a_look(classes: Classes, length: usize, evidence: Evidence) -> bool {
    evidence.has(WHOLE_VALUES)
        || classes & (AT | NOTED | classes::EQUALS) != 0
        || classes & COLON != 0 && length >= 3
        || classes & DIGIT != 0 && length >= 7
        || classes & CAPITAL_J != 0 && length >= 20
        || classes & CAPITAL_A != 0 && length >= 20
        || length >= 12
            && (classes & classes::HEX_LETTER != 0 && classes & (classes::DASH | DOT) != 0
                || length >= 40 && classes & CAPITAL != 0)
}

/// Whether no detector looks at a number of this length and evidence.
pub(crate) fn number_is_short(length: usize, evidence: Evidence) -> bool {
    length < 12 && !evidence.has(WHOLE_VALUES)
}

/// Evidence that alone makes a value worth a look.
pub(crate) const WHOLE_VALUES: Evidence = Evidence::NAME
    .with(Evidence::SCALED)
    .with(Evidence::STREET)
    .with(Evidence::BIRTH_DATE)
    .with(Evidence::COORDINATE)
    .with(Evidence::COORDINATES)
    .with(Evidence::PLACE)
    .with(Evidence::MAC)
    .with(Evidence::SSN)
    .with(Evidence::CARD)
    .with(Evidence::PHONE)
    .with(Evidence::DIALLED)
    .with(Evidence::NEAR_PHONE)
    .with(Evidence::IP)
    .with(Evidence::SECRET)
    .with(Evidence::EMAIL);

/// Collects what the enabled detectors find in `text`, whose classes are `classes`.
pub(crate) fn scan(text: &Text<'_>, classes: Classes, enabled: u64, hits: &mut Hits) {
    scan_rows(text, enabled & candidates(text, classes), hits);
}

/// Collects what any row finds that looks at texts of this kind, possible or not.
pub(crate) fn scan_all(text: &Text<'_>, enabled: u64, hits: &mut Hits) {
    let rows = if text.kind == Kind::Number {
        ON_NUMBERS
    } else {
        ALL
    };
    scan_rows(text, enabled & rows, hits);
}

/// Collects what these rows find in `text`.
fn scan_rows(text: &Text<'_>, mut rows: u64, hits: &mut Hits) {
    let mut digits = 0u64;
    let mut hex = 0u64;
    while rows != 0 {
        let index = rows.trailing_zeros() as usize;
        rows &= rows - 1;
        let detector = &TABLE[index];
        let looks = text.bytes.len() >= detector.bytes_min
            && (detector.evidence == NO || text.evidence.has(detector.evidence));
        if !looks {
            continue;
        }
        match detector.anchor {
            Anchor::Digits { .. } => digits |= 1 << index,
            Anchor::Hex => hex |= 1 << index,
            Anchor::Whole => {
                hits.detector = row(index);
                (detector.matcher)(text, 0..text.bytes.len(), hits);
            }
            Anchor::Byte(byte) => {
                hits.detector = row(index);
                for at in memchr::memchr_iter(byte, text.bytes) {
                    if at >= hits.covered_to() {
                        (detector.matcher)(text, at..at + 1, hits);
                    }
                }
            }
        }
    }
    if digits != 0 {
        if text.kind == Kind::Number {
            each(digits, |index| call(text, index, 0..text.bytes.len(), hits));
        } else {
            windows::digit_runs(text.bytes, |run| {
                each(digits, |index| {
                    if let Anchor::Digits {
                        digits_min,
                        dots_min,
                    } = TABLE[index].anchor
                        && run.digits >= digits_min
                        && run.dots >= dots_min
                    {
                        call(text, index, run.range.clone(), hits);
                    }
                });
            });
        }
    }
    if hex != 0 {
        windows::hex_runs(text.bytes, |run| {
            each(hex, |index| call(text, index, run.clone(), hits));
        });
    }
}

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
            Anchor::Digits {
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

const ALL: u64 = rows(false, false, false, 0);
const ON_NUMBERS: u64 = rows(true, false, false, 0);
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
        if matches!(TABLE[index].info.class, Class::Ip) {
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
fn candidates(text: &Text<'_>, classes: Classes) -> u64 {
    let mut rows = ALL;
    for (class, needing) in NEEDING {
        if classes & class == 0 {
            rows &= !needing;
        }
    }
    if !text.evidence.has(WHOLE_VALUES) {
        rows &= !BY_EVIDENCE;
    }
    if text.kind == Kind::Number {
        return rows & ON_NUMBERS;
    }
    if rows & COUNTED == 0 {
        return rows;
    }
    let counts = Counts::of(text.bytes);
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

fn call(text: &Text<'_>, index: usize, window: Range<usize>, hits: &mut Hits) {
    hits.detector = row(index);
    (TABLE[index].matcher)(text, window, hits);
}

fn each(mut rows: u64, mut visit: impl FnMut(usize)) {
    while rows != 0 {
        visit(rows.trailing_zeros() as usize);
        rows &= rows - 1;
    }
}

fn row(index: usize) -> u8 {
    u8::try_from(index).expect("the table has fewer than 64 rows")
}

#[cfg(test)]
mod tests;
