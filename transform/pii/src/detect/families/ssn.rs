//! US social security and individual taxpayer numbers.
//!
//! Nearly nine of ten nine-digit numbers have the structure of an SSN, so only the dashed form
//! stands for itself; others need an SSN key or the word before them.

use std::ops::Range;

use crate::detect::detector::{FoldedText, Hits, TextKind};
use crate::keys::Evidence;
use crate::text::windows::{before, context_says, ends_number, ends_word, glued_to, starts_number};

const WORDS: &[&str] = &["ssn", "ssns", "social", "itin", "taxpayer"];

pub(crate) fn us_ssn(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    find(text, window, hits, is_ssn);
}

pub(crate) fn us_itin(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    find(text, window, hits, is_itin);
}

fn find(
    text: &FoldedText<'_>,
    window: Range<usize>,
    hits: &mut Hits,
    valid: fn(u32, u32, u32) -> bool,
) {
    let bytes = text.bytes;
    let evidence = text.evidence.has(Evidence::SSN);
    if text.kind == TextKind::Number {
        return;
    }
    let mut at = window.start;
    while at < window.end {
        let starts = bytes[at].is_ascii_digit()
            && !before(bytes, at).is_some_and(|byte| byte.is_ascii_digit());
        if starts
            && let Some((end, separator, [area, group, serial])) = parts(bytes, at)
            && ends_word(bytes, end)
            && (evidence || valid(area, group, serial))
        {
            let dashed = separator == Some(b'-');
            let alone = starts_number(bytes, at) && ends_number(bytes, end);
            if dashed && alone
                || evidence
                || context_says(bytes, at, WORDS, text.edited)
                || glued_to(bytes, at, WORDS)
            {
                hits.push(at..end);
                at = end;
                continue;
            }
        }
        at += 1;
    }
}

/// Three, two and four digits at `at`, with the same separator twice or none.
fn parts(bytes: &[u8], at: usize) -> Option<(usize, Option<u8>, [u32; 3])> {
    let number = |from: usize, count: usize| {
        let digits = bytes.get(from..from + count)?;
        digits.iter().try_fold(0, |value, digit| {
            digit
                .is_ascii_digit()
                .then(|| value * 10 + u32::from(digit - b'0'))
        })
    };
    let area = number(at, 3)?;
    match bytes.get(at + 3).copied() {
        Some(separator @ (b'-' | b' ' | b'.' | b'/' | b'_'))
            if bytes.get(at + 6) == Some(&separator) =>
        {
            Some((
                at + 11,
                Some(separator),
                [area, number(at + 4, 2)?, number(at + 7, 4)?],
            ))
        }
        Some(b'0'..=b'9') => Some((at + 9, None, [area, number(at + 3, 2)?, number(at + 5, 4)?])),
        _ => None,
    }
}

fn is_ssn(area: u32, group: u32, serial: u32) -> bool {
    !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0
}

fn is_itin(area: u32, group: u32, _serial: u32) -> bool {
    area >= 900 && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99)
}
