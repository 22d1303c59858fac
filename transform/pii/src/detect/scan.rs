//! Scans one text with the detectors.

use std::ops::Range;

use super::detector::{FoldedText, Hits, MatchAnchor, TextKind};
use super::rows::{ROWS, candidates, each};
use super::table::TABLE;
use crate::text::byte_classes::Classes;
use crate::text::windows;

/// Collects what the enabled detectors find in `text`, whose classes are `classes`.
pub(crate) fn scan(text: &FoldedText<'_>, classes: Classes, enabled: u64, hits: &mut Hits) {
    scan_rows(text, enabled & candidates(text, classes), hits);
}

/// Collects what any row finds that looks at texts of this kind, possible or not.
pub(crate) fn scan_all(text: &FoldedText<'_>, enabled: u64, hits: &mut Hits) {
    let rows = if text.kind == TextKind::Number {
        ROWS.on_numbers
    } else {
        ROWS.all
    };
    scan_rows(text, enabled & rows, hits);
}

/// Collects what these rows find in `text`.
fn scan_rows(text: &FoldedText<'_>, mut rows: u64, hits: &mut Hits) {
    let mut digits = 0u64;
    let mut hex = 0u64;
    while rows != 0 {
        let index = rows.trailing_zeros() as usize;
        rows &= rows - 1;
        let detector = &TABLE[index];
        let looks = text.bytes.len() >= detector.bytes_min
            && (detector.evidence.is_none() || text.evidence.has(detector.evidence));
        if !looks {
            continue;
        }
        hits.detector = row(index);
        match detector.anchor {
            MatchAnchor::Digits { .. } => digits |= 1 << index,
            MatchAnchor::Hex => hex |= 1 << index,
            MatchAnchor::Whole => (detector.matcher)(text, 0..text.bytes.len(), hits),
            MatchAnchor::Byte(byte) => {
                for at in memchr::memchr_iter(byte, text.bytes) {
                    if at >= hits.covered_to() {
                        (detector.matcher)(text, at..at + 1, hits);
                    }
                }
            }
        }
    }
    if digits != 0 {
        if text.kind == TextKind::Number {
            each(digits, |index| call(text, index, 0..text.bytes.len(), hits));
        } else {
            windows::digit_runs(text.bytes, |run| {
                each(digits, |index| {
                    if TABLE[index].anchor.takes(run.digits, run.dots) {
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
    debug_assert!(
        hits.list
            .iter()
            .all(|hit| hit.start < hit.end && hit.end <= text.bytes.len()),
        "hits are spans of the text"
    );
}

fn call(text: &FoldedText<'_>, index: usize, window: Range<usize>, hits: &mut Hits) {
    hits.detector = row(index);
    (TABLE[index].matcher)(text, window, hits);
}

fn row(index: usize) -> u8 {
    u8::try_from(index).expect("the table has fewer than 64 rows")
}
