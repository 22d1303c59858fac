//! Values that a key alone makes personal: names, streets, birth dates.

use std::ops::Range;

use crate::detect::detector::{FoldedText, Hits, TextKind};
use crate::detect::number::value_of;
use crate::keys::{self, Evidence};
use crate::text::windows::leading;

/// The whole value, unless it is blank. Values that the policy already replaced are recognised by
/// the caller, who knows the replacement.
fn whole_value(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    if text.kind != TextKind::Key && !text.bytes.iter().all(u8::is_ascii_whitespace) {
        hits.push(window);
    }
}

/// The name of a person, and not that of a program.
pub(crate) fn name(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    if !(text.evidence.has(Evidence::PROGRAM) && keys::names_software(text.bytes)) {
        whole_value(text, window, hits);
    }
}

/// The whole value, unless it is a year and nothing more.
pub(crate) fn birth_date(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let is_year = text.bytes.len() == 4 && year_of(text.bytes).is_some();
    if !is_year {
        whole_value(text, window, hits);
    }
}

/// The whole value, unless a bare `address` may be that of a machine.
pub(crate) fn street(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let bare = text.evidence.has(Evidence::BARE_ADDRESS);
    let of_person = text.evidence.has(Evidence::PERSON);
    let machine = match text.kind {
        TextKind::Number => !of_person,
        _ => text.bytes.iter().all(|byte| {
            byte.is_ascii_hexdigit() || matches!(byte, b'x' | b'.' | b':' | b'/' | b'-' | b'%')
        }),
    };
    if !(bare && machine) {
        whole_value(text, window, hits);
    }
}

/// The year of a date, if there is no doubt about it: that of the only number that may be one.
pub(crate) fn year_of(date: &[u8]) -> Option<&[u8]> {
    let mut year = None;
    let mut at = 0;
    while at < date.len() {
        let digits = leading(&date[at..], u8::is_ascii_digit);
        let length = digits.len();
        let found = year_in(digits);
        if found.is_some() {
            if year.is_some() && year != found {
                return None;
            }
            year = found;
            // What follows a date is its time.
            if at == 0 && (length > 4 || matches!(date.get(4), Some(b'-' | b'/' | b'.'))) {
                return year;
            }
        }
        at += length + 1;
    }
    year
}

/// The year in digits without separators: alone, or in a date with or without time.
fn year_in(digits: &[u8]) -> Option<&[u8]> {
    let plausible = |year: &&[u8]| (1800..2100).contains(&value_of(year));
    let month_and_day = |month: &[u8], day: &[u8]| {
        (1..=12).contains(&value_of(month)) && (1..=31).contains(&value_of(day))
    };
    match digits.len() {
        4 => Some(digits).filter(plausible),
        // An encoder of numbers drops the zero of `05171980`; days of a year have three digits.
        7 => {
            let (year, rest) = (&digits[3..], &digits[..3]);
            let of_date =
                month_and_day(&rest[..1], &rest[1..]) || month_and_day(&rest[1..], &rest[..1]);
            let of_year = (1..=366).contains(&value_of(&digits[4..]));
            let first = Some(&digits[..4]).filter(plausible).filter(|_| of_year);
            let last = Some(year).filter(plausible).filter(|_| of_date);
            first.xor(last)
        }
        8 | 12 | 14 | 17 => {
            if month_and_day(&digits[4..6], &digits[6..8]) {
                Some(&digits[..4]).filter(plausible)
            } else {
                let of_date = month_and_day(&digits[..2], &digits[2..4])
                    || month_and_day(&digits[2..4], &digits[..2]);
                Some(&digits[4..8]).filter(plausible).filter(|_| of_date)
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_year_is_found_in_every_common_form_or_not_at_all() {
        for (date, year) in [
            ("1980-05-17", Some("1980")),
            ("1980/5/17", Some("1980")),
            ("17.05.1980", Some("1980")),
            ("5/17/1980", Some("1980")),
            ("17 May 1980", Some("1980")),
            ("May 17, 1980", Some("1980")),
            ("19800517", Some("1980")),
            ("17051980", Some("1980")),
            ("05171980", Some("1980")),
            ("20051980", Some("1980")),
            ("19121980", Some("1980")),
            ("20121912", Some("1912")),
            ("20101201", Some("2010")),
            ("5171980", Some("1980")),
            ("1980138", Some("1980")),
            ("19800517120000", Some("1980")),
            ("198005171200", Some("1980")),
            ("20051980120000", Some("1980")),
            ("1980-05-17T20:15:00+02:00", Some("1980")),
            ("1980-05-17 2015", Some("1980")),
            ("1980-W20-6", Some("1980")),
            ("1980-05", Some("1980")),
            ("Sat May 17 1980 00:00:00 GMT+0200", Some("1980")),
            ("1980年5月17日", Some("1980")),
            ("1980", Some("1980")),
            ("20.05.1980 1930h", None),
            ("2005 or 1980", None),
            ("17.5.80", None),
            ("--05-17", None),
            ("1705", None),
            ("200580", None),
            ("20059980", None),
            ("32131980", None),
            ("327369600", None),
            ("327369600000", None),
            ("1475876932", None),
        ] {
            let found = year_of(date.as_bytes());
            assert_eq!(found, year.map(str::as_bytes), "{date}");
        }
    }
}
