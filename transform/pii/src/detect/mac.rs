//! Hardware addresses: six pairs with colons or dashes, three quads with dots, or bare digits
//! under a MAC key. The addresses of all zeros and all ones name nobody.

use std::ops::Range;

use super::{Hits, Text};
use crate::windows::{ends_word, starts_word};

pub(super) fn separated(text: &Text<'_>, window: Range<usize>, hits: &mut Hits) {
    let bytes = text.bytes;
    let mut at = window.start;
    while at < window.end {
        let starts = starts_word(bytes, at)
            && !matches!(
                at.checked_sub(1).map(|i| bytes[i]),
                Some(b'-' | b':' | b'.')
            );
        if starts && let Some(end) = pairs(bytes, at).or_else(|| quads(bytes, at)) {
            let joined = matches!(bytes.get(end), Some(b'-' | b':' | b'.'))
                && bytes.get(end + 1).is_some_and(u8::is_ascii_hexdigit);
            if ends_word(bytes, end) && !joined && names_a_device(&bytes[at..end]) {
                hits.push(at..end);
            }
            at = end;
        } else {
            at += 1;
        }
    }
}

pub(super) fn bare(text: &Text<'_>, window: Range<usize>, hits: &mut Hits) {
    let value = &text.bytes[window.clone()];
    if matches!(value.len(), 12 | 16)
        && value.iter().all(u8::is_ascii_hexdigit)
        && names_a_device(value)
    {
        hits.push(window);
    }
}

/// Six or eight pairs with the same separator.
fn pairs(bytes: &[u8], at: usize) -> Option<usize> {
    let separator = *bytes.get(at + 2)?;
    if !matches!(separator, b':' | b'-') {
        return None;
    }
    let count = groups(bytes, at, 2, separator);
    match count {
        6 => Some(at + 17),
        8 => Some(at + 23),
        _ => None,
    }
}

fn quads(bytes: &[u8], at: usize) -> Option<usize> {
    (groups(bytes, at, 4, b'.') == 3).then_some(at + 14)
}

/// How many groups of `width` hexadecimal digits follow each other, counted up to nine.
fn groups(bytes: &[u8], mut at: usize, width: usize, separator: u8) -> usize {
    let mut count = 0;
    while count < 9
        && bytes
            .get(at..at + width)
            .is_some_and(|group| group.iter().all(u8::is_ascii_hexdigit))
    {
        count += 1;
        at += width;
        if bytes.get(at) != Some(&separator) {
            break;
        }
        at += 1;
    }
    count
}

fn names_a_device(written: &[u8]) -> bool {
    let mut digits = written
        .iter()
        .filter(|byte| byte.is_ascii_hexdigit())
        .map(u8::to_ascii_lowercase);
    let Some(first) = digits.next() else {
        return false;
    };
    !matches!(first, b'0' | b'f') || digits.any(|digit| digit != first)
}
