//! Phone numbers.
//!
//! Without a key that says so, two forms are strong enough: `+` with an assigned country code and
//! 8 to 15 digits in groups, and the North American number with separators (`(415) 555-2671`,
//! `415-555-2671`, `1.415.555.2671`). Groups separated by spaces alone, national forms of other
//! countries, `00` prefixes and bare digits need a phone key or the word before them. Under keys of
//! identifiers and times only the `+` form counts.

use std::ops::Range;

use super::{Hits, Kind, Text};
use crate::keys::Evidence;
use crate::windows::{before, context_says, ends_number, starts_number, starts_word};

const WORDS: &[&str] = &["phone", "tel", "telephone", "mobile", "fax", "whatsapp"];

pub(super) fn number(text: &Text<'_>, window: Range<usize>, hits: &mut Hits) {
    let bytes = text.bytes;
    let evidence = text.evidence.has(Evidence::PHONE);
    if text.kind == Kind::Number {
        if evidence && (7..=15).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_digit) {
            hits.push(window);
        }
        return;
    }
    let kept = text
        .evidence
        .has(Evidence::IDENTIFIER.with(Evidence::VERSION))
        && !evidence;
    let mut at = window.start;
    while at < window.end {
        let end = match bytes[at] {
            b'+' => international(bytes, at),
            b'(' | b'0'..=b'9' if !kept => {
                let inside = at
                    .checked_sub(1)
                    .is_some_and(|before| bytes[before].is_ascii_digit());
                if inside {
                    None
                } else if evidence {
                    any_form(bytes, at, window.end)
                } else {
                    american(bytes, at).or_else(|| {
                        any_form(bytes, at, window.end).filter(|_| context_says(bytes, at, WORDS))
                    })
                }
            }
            _ => None,
        };
        match end {
            Some(end) => {
                hits.push(at..end);
                at = end;
            }
            None => at += 1,
        }
    }
}

/// The digits and groups of a number that starts at `at`.
struct Grouped {
    digits: [u8; 16],
    count: usize,
    groups: usize,
    dots: usize,
    separators: usize,
    end: usize,
}

/// Reads digits in groups up to the longest number there is. The end is where the last whole
/// group ends.
fn grouped(bytes: &[u8], mut at: usize) -> Option<Grouped> {
    let mut read = Grouped {
        digits: [0; 16],
        count: 0,
        groups: 0,
        dots: 0,
        separators: 0,
        end: at,
    };
    let (mut gap, mut in_group, mut open) = (0, false, false);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                if read.count == 16 {
                    return None;
                }
                read.digits[read.count] = byte;
                read.count += 1;
                read.groups += usize::from(!in_group);
                in_group = true;
                gap = 0;
                read.end = at + 1;
            }
            b' ' | b'-' | b'.' | b'/' | b'(' | b')' if gap < 2 => {
                if byte == b')' && !open {
                    break;
                }
                open = open && byte != b')' || byte == b'(';
                read.dots += usize::from(byte == b'.');
                read.separators += 1;
                in_group = false;
                gap += 1;
            }
            _ => break,
        }
        at += 1;
    }
    Some(read)
}

fn international(bytes: &[u8], at: usize) -> Option<usize> {
    let attached = before(bytes, at).is_some_and(|byte| byte == b'+' || byte == b'.');
    if attached
        || !starts_word(bytes, at)
        || !bytes
            .get(at + 1)
            .is_some_and(|byte| (b'1'..=b'9').contains(byte))
    {
        return None;
    }
    let read = grouped(bytes, at + 1)?;
    let digits = &read.digits[..read.count];
    // `+12.3456789` is a decimal with its sign.
    let decimal = read.groups == 2 && read.dots == 1;
    let fits = (8..=15).contains(&read.count) && !decimal && is_assigned(digits);
    (fits && ends_number(bytes, read.end)).then_some(read.end)
}

/// Whether the digits start with an assigned country code, and have the structure of its numbers
/// where that is fixed.
fn is_assigned(digits: &[u8]) -> bool {
    match digits {
        [b'1', national @ ..] => national.len() == 10 && is_american(national),
        [b'7', ..] => digits.len() == 11,
        [b'2', b'0' | b'7', ..] => true,
        [b'2', b'1'..=b'6' | b'9', ..] => digits.len() >= 9,
        [b'3', b'0'..=b'4' | b'6' | b'9', ..] => true,
        [b'3', b'5' | b'7' | b'8', ..] => true,
        [b'4', b'0' | b'1' | b'3'..=b'9', ..] => true,
        [b'4', b'2', b'0' | b'1' | b'3', ..] => true,
        [b'5', b'1'..=b'8', ..] => true,
        [b'5', b'0' | b'9', ..] => true,
        [b'6', b'0'..=b'9', ..] => true,
        [b'8', b'1' | b'2' | b'4' | b'6', ..] => true,
        [b'8', b'0' | b'5' | b'7' | b'8', ..] => true,
        [b'9', b'0'..=b'9', ..] => true,
        _ => false,
    }
}

/// Area and exchange of the North American plan.
fn is_american(national: &[u8]) -> bool {
    matches!(national, [b'2'..=b'9', b'0'..=b'8', _, b'2'..=b'9', ..]) && national.len() == 10
}

/// The North American number at `at`, with separators.
fn american(bytes: &[u8], at: usize) -> Option<usize> {
    if !starts_number(bytes, at) {
        return None;
    }
    let mut from = at;
    if bytes[at] == b'1' && matches!(bytes.get(at + 1), Some(b'-' | b'.' | b' ')) {
        from = at + 2;
    }
    let digits = |from: usize, count: usize| {
        bytes
            .get(from..from + count)
            .filter(|digits| digits.iter().all(u8::is_ascii_digit))
    };
    let (area, rest, separator) = if bytes.get(from) == Some(&b'(') {
        let area = digits(from + 1, 3)?;
        if bytes.get(from + 4) != Some(&b')') {
            return None;
        }
        let rest = from + 5 + usize::from(matches!(bytes.get(from + 5), Some(b' ' | b'-')));
        (area, rest, None)
    } else {
        let separator = *bytes.get(from + 3)?;
        if !matches!(separator, b'-' | b'.') {
            return None;
        }
        (digits(from, 3)?, from + 4, Some(separator))
    };
    let exchange = digits(rest, 3)?;
    let joint = *bytes.get(rest + 3)?;
    let same = separator.is_none_or(|separator| separator == joint);
    let line = digits(rest + 4, 4)?;
    let end = rest + 8;
    let national = [area, exchange, line].concat();
    let fits = same && matches!(joint, b'-' | b'.' | b' ') && is_american(&national);
    (fits && ends_number(bytes, end)).then_some(end)
}

/// Any number of 7 to 15 digits at `at`, for values that are known to be phone numbers.
fn any_form(bytes: &[u8], at: usize, window_end: usize) -> Option<usize> {
    if !starts_number(bytes, at) {
        return None;
    }
    let read = grouped(bytes, at)?;
    let fits =
        (7..=15).contains(&read.count) && read.end <= window_end && read.separators <= read.count;
    (fits && ends_number(bytes, read.end)).then_some(read.end)
}
