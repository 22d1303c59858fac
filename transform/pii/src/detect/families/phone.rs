//! Phone numbers.
//!
//! Without a key that says so, three forms are strong enough: `+` with an assigned country code and
//! 8 to 15 digits in groups, the same with `00` for `+` in at least three groups of which the
//! second starts with no zero, and the North American number with separators (`(415) 555-2671`,
//! `415-555-2671`, `1.415.555.2671`). National groups separated by spaces alone, national forms of
//! other countries, and bare digits need a phone key or the word before them. Under keys of
//! identifiers and times only the `+` form counts.

use std::cell::LazyCell;
use std::ops::Range;

use crate::detect::detector::{FoldedText, Hits, TextKind};
use crate::keys::Evidence;
use crate::text::windows::{ByteCounts, before, context_says, ends_number, leading, starts_number};

const WORDS: &[&str] = &["phone", "tel", "telephone", "mobile", "fax", "whatsapp"];

/// Without a key there is a sign, a bracket, two separators, or a word.
pub(crate) fn possible(text: &FoldedText<'_>, counts: &ByteCounts) -> bool {
    text.evidence.has(Evidence::PHONE)
        || counts.openers > 0
        || counts.letters >= 3
        || counts.dashes + counts.dots + counts.others >= 2
}

pub(crate) fn number(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let bytes = text.bytes;
    let evidence = text.evidence.has(Evidence::PHONE);
    if text.kind == TextKind::Number {
        return;
    }
    let kept = text
        .evidence
        .has(Evidence::IDENTIFIER.with(Evidence::VERSION))
        && !evidence;
    // A window holds no letters, so a word stands before all of it.
    let may_say = LazyCell::new(|| context_says(bytes, window.start, WORDS, text.edited));
    let mut at = window.start;
    while at < window.end {
        let end = match bytes[at] {
            b'+' => international(bytes, at),
            b'(' | b'0'..=b'9' if !kept => {
                let inside = before(bytes, at).is_some_and(|byte| byte.is_ascii_digit());
                if inside || !starts_number(bytes, at) {
                    None
                } else if evidence {
                    any_form(bytes, at, window.end)
                } else {
                    american(bytes, at)
                        .or_else(|| prefixed(bytes, at))
                        .or_else(|| {
                            (*may_say && context_says(bytes, at, WORDS, text.edited))
                                .then(|| any_form(bytes, at, window.end))
                                .flatten()
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

/// Most digits of a phone number.
const DIGITS_MAX: usize = 15;

/// The digits and groups of a number.
struct Grouped {
    digits: [u8; DIGITS_MAX],
    /// Of each group that is whole.
    groups: [DigitGroup; DIGITS_MAX],
    count: usize,
}

/// What was read where a group of digits ends.
#[derive(Clone, Copy)]
struct DigitGroup {
    digits: usize,
    dots: usize,
    separators: usize,
    end: usize,
}

impl Grouped {
    /// The end of the longest number that fits. What stands behind may be digits too: the next
    /// number of a list, a date.
    fn longest(&self, fits: impl Fn(&[u8], usize, DigitGroup) -> bool) -> Option<usize> {
        let whole = self.groups[..self.count].iter().enumerate().rev();
        whole
            .filter(|(index, group)| fits(&self.digits[..group.digits], index + 1, **group))
            .map(|(_, group)| group.end)
            .next()
    }
}

/// Reads digits in groups up to the longest number there is.
fn grouped(bytes: &[u8], mut at: usize) -> Grouped {
    let none = DigitGroup {
        digits: 0,
        dots: 0,
        separators: 0,
        end: at,
    };
    let mut read = Grouped {
        digits: [0; DIGITS_MAX],
        groups: [none; DIGITS_MAX],
        count: 0,
    };
    let mut group = none;
    let mut gap = 0;
    let in_front = &bytes[at.saturating_sub(2)..at];
    let mut open = in_front.iter().any(|byte| matches!(byte, b'(' | b'['));
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                let digits = leading(&bytes[at..], u8::is_ascii_digit);
                let end = group.digits + digits.len();
                let Some(place) = read.digits.get_mut(group.digits..end) else {
                    break;
                };
                place.copy_from_slice(digits);
                gap = 0;
                at += digits.len();
                group.digits = end;
                group.end = at;
                read.groups[read.count] = group;
                read.count += 1;
                continue;
            }
            b' ' | b'-' | b'.' | b'/' | b'_' | b'(' | b')' | b']' if gap < 3 => {
                if matches!(byte, b')' | b']') && !open {
                    break;
                }
                open = open && !matches!(byte, b')' | b']') || byte == b'(';
                group.dots += usize::from(byte == b'.');
                group.separators += 1;
                gap += 1;
            }
            _ => break,
        }
        at += 1;
    }
    read
}

fn international(bytes: &[u8], at: usize) -> Option<usize> {
    let attached =
        before(bytes, at).is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'.'));
    let from = at + 1 + usize::from(bytes.get(at + 1) == Some(&b'('));
    if attached
        || !bytes
            .get(from)
            .is_some_and(|byte| (b'1'..=b'9').contains(byte))
    {
        return None;
    }
    grouped(bytes, from).longest(|digits, groups, group| {
        // `+12.3456789` is a decimal with its sign.
        let decimal = groups == 2 && group.dots == 1;
        digits.len() >= 8
            && !decimal
            && is_assigned(digits)
            && (ends_number(bytes, group.end) || starts_extension(bytes, group.end))
    })
}

/// Whether an extension follows directly, as in `555-2671x5`.
fn starts_extension(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at), Some(b'x' | b'X')) && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
}

/// The number at `at` with the prefix `00` for `+`, if its groups show that it is none of the
/// numbers that are filled up with zeros.
fn prefixed(bytes: &[u8], at: usize) -> Option<usize> {
    let country = bytes
        .get(at + 2)
        .is_some_and(|byte| (b'1'..=b'9').contains(byte));
    if !bytes[at..].starts_with(b"00") || !country || !starts_number(bytes, at) {
        return None;
    }
    let read = grouped(bytes, at + 2);
    let second = read.groups[0].digits;
    if read.groups[0].digits > 3 || read.digits.get(second) == Some(&b'0') {
        return None;
    }
    // Columns that are filled up have one width.
    let width = |index: usize| read.groups[index].digits - read.groups[index - 1].digits;
    let column = (1..read.count).all(|index| width(index) == second + 2);
    read.longest(|digits, groups, group| {
        !column
            && groups >= 3
            && digits.len() >= 9
            && is_assigned(digits)
            && ends_number(bytes, group.end)
    })
}

/// Whether the digits start with an assigned country code, and have the structure of its numbers
/// where that is fixed.
fn is_assigned(digits: &[u8]) -> bool {
    match digits {
        [b'1', national @ ..] => national.len() == 10 && is_american(national),
        [b'7', ..] => digits.len() == 11,
        [b'2', b'1'..=b'6' | b'9', ..] => digits.len() >= 9,
        [b'2', b'0' | b'7', ..]
        | [b'3' | b'5' | b'6' | b'9', b'0'..=b'9', ..]
        | [b'4', b'0' | b'1' | b'3'..=b'9', ..]
        | [b'4', b'2', b'0' | b'1' | b'3', ..]
        | [b'8', b'0'..=b'2' | b'4'..=b'8', ..] => true,
        _ => false,
    }
}

/// Area and exchange of the North American plan.
pub(crate) fn is_american(national: &[u8]) -> bool {
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
    (fits && (ends_number(bytes, end) || starts_extension(bytes, end))).then_some(end)
}

/// Any number of 7 to 15 digits at `at`, for values that are known to be phone numbers.
fn any_form(bytes: &[u8], at: usize, window_end: usize) -> Option<usize> {
    if !starts_number(bytes, at) {
        return None;
    }
    grouped(bytes, at).longest(|digits, _, group| {
        digits.len() >= 7
            && group.end <= window_end
            && group.separators <= digits.len()
            && ends_number(bytes, group.end)
    })
}
