//! International bank account numbers: country, its length, and the check digits of ISO 7064
//! (mod 97-10). Written as one word or in groups of four with single spaces or dashes.

use std::ops::Range;

use crate::detect::detector::{FoldedText, Hits};
use crate::text::windows::{ByteCounts, ends_word, glued_to, is_glued};

/// Shortest and longest number.
const LENGTHS: std::ops::RangeInclusive<usize> = 15..=33;

/// Countries with the lengths of their numbers, sorted.
const COUNTRIES: &str = "\
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 \
    DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 \
    IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 \
    MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 \
    SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30 ";

/// The length of the numbers of a country.
fn length_in(country: [u8; 2]) -> Option<usize> {
    let (countries, _) = COUNTRIES.as_bytes().as_chunks::<5>();
    let name = |row: &[u8; 5]| [row[0], row[1]];
    let index = countries.binary_search_by_key(&country, name).ok()?;
    let [.., tens, ones, _] = countries[index];
    Some(usize::from(tens - b'0') * 10 + usize::from(ones - b'0'))
}

/// Words that a number may be written to without a space.
const WORDS: &[&str] = &["iban"];

/// The shortest number has two letters, and letters and digits for its length.
pub(crate) fn possible(_: &FoldedText<'_>, counts: &ByteCounts) -> bool {
    counts.letters >= 2 && counts.digits >= 2 && counts.letters + counts.digits >= *LENGTHS.start()
}

pub(crate) fn account_number(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
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
    let length = length_in(country)?;
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
        let (countries, rest) = COUNTRIES.as_bytes().as_chunks::<5>();
        assert!(countries.is_sorted() && rest.is_empty());
        for &[first, second, .., space] in countries {
            let length = length_in([first, second]).unwrap();
            assert!(LENGTHS.contains(&length) && space == b' ');
        }
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
