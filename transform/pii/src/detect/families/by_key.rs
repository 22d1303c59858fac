//! Digits under a key that says what they are: neither structure nor edges nor separators matter.

use std::ops::{Range, RangeInclusive};

use super::{card, phone};
use crate::detect::detector::{FoldedText, Hits, TextKind};
use crate::detect::number::Integer;
use crate::keys::Evidence;

pub(crate) fn payment_card(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    digits(text, window, hits, card::DIGITS, card::DIGITS);
}

pub(crate) fn us_ssn(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    // An encoder of numbers drops leading zeros.
    digits(text, window, hits, 9..=9, 7..=9);
}

pub(crate) fn phone(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    if text.evidence.has(Evidence::PHONE) {
        return digits(text, window, hits, 7..=15, 7..=15);
    }
    // The key is also that of a thing, which has numbers of its own.
    match text.kind {
        TextKind::Key => {}
        TextKind::Number => {
            let american =
                |digits: &[u8]| phone::is_american(digits.strip_prefix(b"1").unwrap_or(digits));
            let dialled = text.evidence.has(Evidence::DIALLED)
                && Integer::read(text.bytes).is_some_and(|integer| american(integer.digits()));
            if dialled {
                hits.push(window);
            }
        }
        TextKind::Text if is_dialled(text.bytes) => digits(text, window, hits, 7..=15, 7..=15),
        TextKind::Text => {}
    }
}

/// Whether a text is written like a phone number, and like nothing else: no letters, no date, and
/// separators, a prefix, or as many digits as a number with its area has.
fn is_dialled(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let others = text.iter().filter(|byte| !byte.is_ascii_digit());
    let written = others
        .clone()
        .all(|byte| matches!(byte, b'+' | b'(' | b')' | b' ' | b'-' | b'.' | b'/'));
    let prefixed = matches!(text.first(), Some(b'+' | b'(' | b'0'));
    let spaced = others
        .clone()
        .any(|byte| matches!(byte, b' ' | b'(' | b'-' | b'/'));
    let long = others.count() == 0 && text.len() >= 10;
    written && (prefixed || spaced || long) && !is_date(text)
}

/// Whether a text starts with a year, a month and a day.
fn is_date(text: &[u8]) -> bool {
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let separator = |at: usize| matches!(text.get(at), Some(b'-' | b'/' | b'.'));
    (0..4).all(digit) && separator(4) && (5..7).all(digit) && separator(7)
}

/// Claims a number with so many digits, or in a text without words all from its first digit to its
/// last one.
fn digits(
    text: &FoldedText<'_>,
    window: Range<usize>,
    hits: &mut Hits,
    in_text: RangeInclusive<usize>,
    in_number: RangeInclusive<usize>,
) {
    match text.kind {
        TextKind::Key => {}
        TextKind::Number => {
            if Integer::read(text.bytes)
                .is_some_and(|integer| in_number.contains(&integer.digits().len()))
            {
                hits.push(window);
            }
        }
        TextKind::Text => {
            let count = text
                .bytes
                .iter()
                .filter(|byte| byte.is_ascii_digit())
                .count();
            let words = text
                .bytes
                .windows(2)
                .any(|pair| pair.iter().all(u8::is_ascii_alphabetic));
            let is_digit = |byte: &u8| byte.is_ascii_digit();
            if !words
                && in_text.contains(&count)
                && let Some(first) = text.bytes.iter().position(is_digit)
                && let Some(last) = text.bytes.iter().rposition(is_digit)
            {
                let sign = first > 0 && matches!(text.bytes[first - 1], b'+' | b'(');
                hits.push(first - usize::from(sign)..last + 1);
            }
        }
    }
}
