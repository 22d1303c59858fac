//! Values that a key alone makes personal: names, streets, birth dates.

use std::ops::Range;

use super::{Hits, Kind, Text};

/// The whole value, unless it is blank. Values that the policy already replaced are recognised by
/// the caller, who knows the replacement.
pub(super) fn whole_value(text: &Text<'_>, window: Range<usize>, hits: &mut Hits) {
    if text.kind != Kind::Key && !text.bytes.iter().all(u8::is_ascii_whitespace) {
        hits.push(window);
    }
}

/// The whole value, unless it is a year and nothing more.
pub(super) fn birth_date(text: &Text<'_>, window: Range<usize>, hits: &mut Hits) {
    let is_year = text.bytes.len() == 4 && year_of(text.bytes).is_some();
    if !is_year {
        whole_value(text, window, hits);
    }
}

/// The year of a date: four digits of their own, or the first of eight.
pub(crate) fn year_of(date: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    while at < date.len() {
        let length = date[at..]
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(date.len() - at);
        let digits = &date[at..at + length];
        let written = match length {
            4 => Some(digits),
            8 => Some(&digits[..4]),
            _ => None,
        };
        if let Some(year @ ([b'1', b'8'..=b'9', ..] | [b'2', b'0', ..])) = written {
            return Some(year);
        }
        at += length + 1;
    }
    None
}
