//! International bank account numbers: country, its length, and the check digits of ISO 7064
//! (mod 97-10). Written as one word or in groups of four with single spaces or dashes.

use std::ops::Range;

use crate::detect::detector::{FoldedText, Hits};
use crate::text::windows::{ByteCounts, ends_word, glued_to, is_glued};

/// Shortest and longest number.
const LENGTHS: std::ops::RangeInclusive<usize> = 15..=33;

/// Countries with the lengths of their numbers, sorted.
const COUNTRIES: &[([u8; 2], usize)] = &[
    (*b"AD", 24),
    (*b"AE", 23),
    (*b"AL", 28),
    (*b"AT", 20),
    (*b"AZ", 28),
    (*b"BA", 20),
    (*b"BE", 16),
    (*b"BG", 22),
    (*b"BH", 22),
    (*b"BI", 27),
    (*b"BR", 29),
    (*b"BY", 28),
    (*b"CH", 21),
    (*b"CR", 22),
    (*b"CY", 28),
    (*b"CZ", 24),
    (*b"DE", 22),
    (*b"DJ", 27),
    (*b"DK", 18),
    (*b"DO", 28),
    (*b"EE", 20),
    (*b"EG", 29),
    (*b"ES", 24),
    (*b"FI", 18),
    (*b"FK", 18),
    (*b"FO", 18),
    (*b"FR", 27),
    (*b"GB", 22),
    (*b"GE", 22),
    (*b"GI", 23),
    (*b"GL", 18),
    (*b"GR", 27),
    (*b"GT", 28),
    (*b"HN", 28),
    (*b"HR", 21),
    (*b"HU", 28),
    (*b"IE", 22),
    (*b"IL", 23),
    (*b"IQ", 23),
    (*b"IS", 26),
    (*b"IT", 27),
    (*b"JO", 30),
    (*b"KW", 30),
    (*b"KZ", 20),
    (*b"LB", 28),
    (*b"LC", 32),
    (*b"LI", 21),
    (*b"LT", 20),
    (*b"LU", 20),
    (*b"LV", 21),
    (*b"LY", 25),
    (*b"MC", 27),
    (*b"MD", 24),
    (*b"ME", 22),
    (*b"MK", 19),
    (*b"MN", 20),
    (*b"MR", 27),
    (*b"MT", 31),
    (*b"MU", 30),
    (*b"NI", 28),
    (*b"NL", 18),
    (*b"NO", 15),
    (*b"OM", 23),
    (*b"PK", 24),
    (*b"PL", 28),
    (*b"PS", 29),
    (*b"PT", 25),
    (*b"QA", 29),
    (*b"RO", 24),
    (*b"RS", 22),
    (*b"RU", 33),
    (*b"SA", 24),
    (*b"SC", 31),
    (*b"SD", 18),
    (*b"SE", 24),
    (*b"SI", 19),
    (*b"SK", 24),
    (*b"SM", 27),
    (*b"SO", 23),
    (*b"ST", 25),
    (*b"SV", 28),
    (*b"TL", 23),
    (*b"TN", 24),
    (*b"TR", 26),
    (*b"UA", 29),
    (*b"VA", 22),
    (*b"VG", 24),
    (*b"XK", 20),
    (*b"YE", 30),
];

/// Words that a number may be written to without a space.
const WORDS: &[&str] = &["iban"];

/// The shortest number has two letters, and letters and digits for its length.
pub(in crate::detect) fn possible(_: &FoldedText<'_>, counts: &ByteCounts) -> bool {
    counts.letters >= 2 && counts.digits >= 2 && counts.letters + counts.digits >= *LENGTHS.start()
}

pub(in crate::detect) fn account_number(
    text: &FoldedText<'_>,
    window: Range<usize>,
    hits: &mut Hits,
) {
    let bytes = &text.bytes[window];
    let mut at = 0;
    while at + LENGTHS.start() <= bytes.len() {
        // Most texts have fewer digits than letters.
        if bytes[at + 2].is_ascii_digit()
            && bytes[at + 3].is_ascii_digit()
            && bytes[at + 1].is_ascii_alphabetic()
            && bytes[at].is_ascii_alphabetic()
            && (!is_glued(bytes, at) || glued_to(bytes, at, WORDS))
            && let Some(end) = end_of_number(bytes, at)
        {
            hits.push(at..end);
            at = end;
        } else {
            at += 1;
        }
    }
}

/// Where the number that starts at `start` ends, if it is one.
fn end_of_number(bytes: &[u8], start: usize) -> Option<usize> {
    let country = [
        bytes[start].to_ascii_uppercase(),
        bytes[start + 1].to_ascii_uppercase(),
    ];
    let index = COUNTRIES
        .binary_search_by_key(&country, |&(country, _)| country)
        .ok()?;
    let length = COUNTRIES[index].1;
    let mut characters = [0u8; 33];
    let separator = bytes
        .get(start + 4)
        .copied()
        .filter(|byte| matches!(byte, b' ' | b'-'));
    let mut at = start;
    for (count, character) in characters[..length].iter_mut().enumerate() {
        if count > 0 && count % 4 == 0 && separator.is_some() {
            if bytes.get(at).copied() != separator {
                return None;
            }
            at += 1;
        }
        let byte = bytes.get(at).filter(|byte| byte.is_ascii_alphanumeric())?;
        *character = byte.to_ascii_uppercase();
        at += 1;
    }
    (ends_word(bytes, at) && checks(&characters[..length])).then_some(at)
}

/// The number with its first four characters at the end is 1 modulo 97, letters counting from 10.
fn checks(number: &[u8]) -> bool {
    let remainder =
        number[4..]
            .iter()
            .chain(&number[..4])
            .fold(0u32, |remainder, &byte| match byte {
                b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
                letter => (remainder * 100 + u32::from(letter - b'A') + 10) % 97,
            });
    remainder == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_country_length_and_check_digits() {
        assert!(COUNTRIES.is_sorted());
        assert!(COUNTRIES.iter().all(|(_, length)| LENGTHS.contains(length)));
        for (text, is_one) in [
            ("GB29NWBK60161331926819", true),
            ("gb29nwbk60161331926819", true),
            ("NO9386011117947", true),
            ("SC18SSCB11010000000000001497USD", true),
            ("GB29 NWBK 6016 1331 9268 19", true),
            ("GB29-NWBK-6016-1331-9268-19", true),
            ("GB29 NWBK 6016 1331 9268 10", false),
            ("GB29NWBK6016133192681", false),
            ("XX29NWBK60161331926819", false),
            ("GB29NWBK60161331926819A", false),
            ("GB29 NWBK60161331926819", false),
        ] {
            let found = end_of_number(text.as_bytes(), 0);
            assert_eq!(found, is_one.then_some(text.len()), "{text}");
        }
    }
}
