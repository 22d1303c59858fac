//! The types of detectors: a row of the table, the text that it looks at, and its hits.

use std::ops::Range;

use crate::class::Class;
use crate::keys::Evidence;
use crate::text::byte_classes::Classes;
use crate::text::windows::ByteCounts;

/// What kind of scalar a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextKind {
    Text,
    Number,
    Key,
}

/// A folded text with what its keys say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoldedText<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) evidence: Evidence,
    pub(crate) kind: TextKind,
    /// Whether the engine wrote a part of it, so that labels in it are not evidence.
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
    pub(super) detector: u8,
}

impl Hits {
    /// Adds a hit of the present detector.
    pub(super) fn push(&mut self, range: Range<usize>) {
        self.add(range, self.detector);
    }

    /// Adds a hit of a named row.
    pub(crate) fn add(&mut self, range: Range<usize>, detector: u8) {
        self.list.push(Hit {
            start: range.start,
            end: range.end,
            detector,
        });
    }

    /// Where the last hit of the present detector ends.
    pub(super) fn covered_to(&self) -> usize {
        match self.list.last() {
            Some(hit) if hit.detector == self.detector => hit.end,
            _ => 0,
        }
    }
}

/// Where a matcher is called.
#[derive(Clone, Copy)]
pub(super) enum MatchAnchor {
    /// At each occurrence of the byte.
    Byte(u8),
    /// On each run of digits that holds at least so many digits and dots.
    Digits { digits_min: usize, dots_min: usize },
    /// On each run of hexadecimal digits.
    Hex,
    /// Once, on the whole text.
    Whole,
}

impl MatchAnchor {
    /// Whether a run or text with so many digits and dots has enough of them.
    pub(super) const fn takes(self, digits: usize, dots: usize) -> bool {
        match self {
            Self::Digits {
                digits_min,
                dots_min,
            } => digits >= digits_min && dots >= dots_min,
            _ => true,
        }
    }
}

/// A detector: a row of the table.
pub struct Detector {
    /// Its name, as findings show it.
    pub name: &'static str,
    /// The class of its findings, as policies name it.
    pub class: Class,
    /// What it takes for a finding.
    pub description: &'static str,
    pub(super) anchor: MatchAnchor,
    /// Classes that must all be in the text.
    pub(super) needs: Classes,
    pub(super) bytes_min: usize,
    /// Key evidence of which something must be there; none: not needed.
    pub(super) evidence: Evidence,
    /// Whether numbers are looked at, besides texts and keys.
    pub(super) numbers: bool,
    /// Whether a text with so many bytes of each kind can hold a finding: cheap, and only ever
    /// wrong by saying yes.
    pub(super) possible: Option<fn(&FoldedText<'_>, &ByteCounts) -> bool>,
    pub(super) matcher: fn(&FoldedText<'_>, Range<usize>, &mut Hits),
    /// Keys and values that it must find, each value as a whole.
    pub(crate) samples: &'static [(&'static str, &'static str)],
}

impl Detector {
    /// Whether it finds any value under its keys, so also its own replacement.
    pub(crate) fn takes_whole_values(&self) -> bool {
        matches!(
            self.class,
            Class::Name | Class::Address | Class::BirthDate | Class::Custom
        )
    }
}

/// Row of the findings that a rule for a path or key makes.
pub(crate) const BY_RULE: u8 = 0;
