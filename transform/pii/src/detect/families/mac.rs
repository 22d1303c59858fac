//! Hardware addresses: six pairs with colons or dashes, three quads with dots, or bare digits
//! under a MAC key. The addresses of all zeros and all ones name no device.

use std::ops::Range;

use crate::detect::detector::{FoldedText, Hits};
use crate::text::windows::{ByteCounts, before, ends_word, starts_word};

/// Six pairs have five separators, three quads two.
pub(crate) fn possible(_: &FoldedText<'_>, counts: &ByteCounts) -> bool {
    counts.colons >= 5 || counts.dashes >= 5 || counts.dots >= 2
}

pub(crate) fn separated(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let bytes = text.bytes;
    let mut at = window.start;
    while at < window.end {
        if starts_word(bytes, at)
            && let Some((end, width)) = address_at(bytes, at)
        {
            // A group of the same kind on either side makes it part of something longer.
            let separator = bytes[at + width];
            let follows = before(bytes, at) == Some(separator) && ends_group(bytes, at - 1, width);
            let continues = bytes.get(end) == Some(&separator)
                && bytes.get(end + 1).is_some_and(u8::is_ascii_hexdigit);
            if ends_word(bytes, end) && !follows && !continues && names_a_device(&bytes[at..end]) {
                hits.push(at..end);
            }
            at = end;
        } else {
            at += 1;
        }
    }
}

pub(crate) fn bare(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let value = &text.bytes[window.clone()];
    let digits = value.strip_prefix(b"0x").unwrap_or(value);
    let count = digits
        .iter()
        .filter(|byte| byte.is_ascii_hexdigit())
        .count();
    let others = digits.iter().filter(|byte| !byte.is_ascii_hexdigit());
    let mut separators = others.filter(|byte| !matches!(byte, b' ' | b':' | b'-' | b'.' | b'_'));
    if matches!(count, 12 | 16) && separators.next().is_none() && names_a_device(digits) {
        hits.push(window);
    }
}

/// The end of the six or eight pairs, or three quads, with the same separator at `at`, and how wide they are.
fn address_at(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    [(2, &b":-"[..], &[6, 8][..]), (4, b".", &[3])]
        .into_iter()
        .find_map(|(width, separators, counts)| {
            let separator = bytes.get(at + width);
            let separator = separator.filter(|byte| separators.contains(byte))?;
            let count = groups(bytes, at, width, *separator);
            let found = counts.contains(&count);
            found.then(|| (at + count * (width + 1) - 1, width))
        })
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

/// Whether a group of `width` hexadecimal digits, and no longer word, ends at `end`.
fn ends_group(bytes: &[u8], end: usize, width: usize) -> bool {
    end.checked_sub(width).is_some_and(|start| {
        bytes[start..end].iter().all(u8::is_ascii_hexdigit) && starts_word(bytes, start)
    })
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
