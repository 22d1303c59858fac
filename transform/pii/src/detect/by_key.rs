//! Digits under a key that says what they are: neither structure nor edges nor separators matter.

use std::ops::{Range, RangeInclusive};

use super::number::Integer;
use super::{Hits, Kind, Text};

pub(super) fn payment_card(text: &Text<'_>, window: Range<usize>, hits: &mut Hits) {
    digits(text, window, hits, 12..=19, 12..=19);
}

pub(super) fn us_ssn(text: &Text<'_>, window: Range<usize>, hits: &mut Hits) {
    // An encoder of numbers drops leading zeros.
    digits(text, window, hits, 9..=9, 7..=9);
}

pub(super) fn phone(text: &Text<'_>, window: Range<usize>, hits: &mut Hits) {
    digits(text, window, hits, 7..=15, 7..=15);
}

/// Claims a number with so many digits, or in a text without words all from its first digit to its
/// last one.
fn digits(
    text: &Text<'_>,
    window: Range<usize>,
    hits: &mut Hits,
    in_text: RangeInclusive<usize>,
    in_number: RangeInclusive<usize>,
) {
    match text.kind {
        Kind::Key => {}
        Kind::Number => {
            if Integer::read(text.bytes)
                .is_some_and(|integer| in_number.contains(&integer.digits().len()))
            {
                hits.push(window);
            }
        }
        Kind::Text => {
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
                let sign = first > 0 && text.bytes[first - 1] == b'+';
                hits.push(first - usize::from(sign)..last + 1);
            }
        }
    }
}
