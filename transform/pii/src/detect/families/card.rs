//! Payment cards: issuer, length and Luhn digit together, and something that speaks of a payment.
//!
//! One in ten machine-made numbers has a valid Luhn digit, one in forty of sixteen digits also an
//! issuer; so edges count (a part of a UUID or of a decimal is not a card), groups have to be the
//! groups of a card, and twelve digits need a card key. A number needs a key that speaks of a
//! payment, whatever its digits: counters have them too. So do digits in a text, unless there are
//! 15 or 16 of them, as nearly all cards have, and neither the key nor the words beside them say
//! that something is counted, measured or identified by them. Under a card key, digits in any form
//! are those of [`super::by_key`].

use std::ops::{Range, RangeInclusive};
use std::sync::LazyLock;

use crate::detect::detector::{FoldedText, Hits, TextKind};
use crate::detect::number::{Integer, value_of};
use crate::keys::{self, Evidence};
use crate::text::windows::{
    before, context_says, ends_number, ends_word, glued_to, is_listed, leading, starts_number,
    trailing,
};

/// Words that a card may be written to without a space; `B` starts track 1 of a magnetic stripe.
const WORDS: &[&str] = &["card", "cc", "pan", "visa", "amex", "mastercard", "b"];

/// How many digits a card may have (ISO/IEC 7812).
pub(crate) const DIGITS: RangeInclusive<usize> = 12..=19;

pub(crate) fn payment_card(text: &FoldedText<'_>, window: Range<usize>, hits: &mut Hits) {
    let evidence = text.evidence.has(Evidence::CARD);
    if text.kind == TextKind::Number {
        // Hashes of 64 bits are as often negative as not, cards never.
        if is_paid(text.evidence)
            && Integer::read(text.bytes)
                .is_some_and(|number| !number.negative && is_card(number.digits(), evidence))
        {
            hits.push(window);
        }
        return;
    }
    let bytes = text.bytes;
    let whole = bytes.trim_ascii().iter().all(u8::is_ascii_digit);
    if whole && is_counted(text.evidence) {
        return;
    }
    let mut at = window.start;
    while at < window.end {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let group_end = end_of_digits(bytes, at);
        let alone = starts_number(bytes, at) || glued_to(bytes, at, WORDS);
        let joined = matches!(before(bytes, at), Some(b'-' | b'.'));
        if (alone || joined)
            && let Some(end) = card_at(bytes, at, alone, evidence)
        {
            if end > group_end || !is_bare(text, at..end) {
                hits.push(at..end);
            }
            at = end;
        } else {
            at = group_end;
        }
    }
}

/// Digits of nearly all cards. Times need no other rule before the year 2040: no card starts as
/// microseconds since 1970 do until then.
const USUAL_DIGITS: std::ops::RangeInclusive<usize> = 15..=16;

/// Words beside a number that speak of a payment.
static PAYMENT_WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    "card cards cc pan visa amex mastercard maestro discover diners credit debit payment \
    payments paid pay billing charge charges charged account acct checkout purchase txn \
    transaction auth authorised authorized approved declined refund refunded"
        .split_ascii_whitespace()
        .collect()
});

/// Words that stand beside counters, and beside cards as often.
const MONEY_WORDS: &str = "amount balance price cost total used";

/// Units behind a number.
const UNITS: &str = "ns us ms nanos micros millis nanoseconds microseconds milliseconds sec secs seconds minutes \
                     hours days ticks cycles instructions byte bytes octets packets pkts bits kb mb gb requests \
                     reqs records hits reads writes ops calls errors wh kwh mwh joules watts";

/// Whether the keys say that a number under them is one of a payment, and not something counted.
fn is_paid(evidence: Evidence) -> bool {
    let counts = evidence.has(Evidence::COUNTER) && !evidence.has(Evidence::VALUE);
    evidence.has(Evidence::CARD) || evidence.has(Evidence::PAYMENT) && !counts
}

/// Whether the keys say that something is counted, measured or identified by a number, and not that
/// it is one of a payment.
fn is_counted(evidence: Evidence) -> bool {
    // A bare `id` says too little: people are identified by it as well.
    let is_id = evidence.has(Evidence::IDENTIFIER) && !evidence.has(Evidence::BARE_ID);
    (is_id || evidence.has(Evidence::COUNTER)) && !is_paid(evidence)
}

/// Whether digits without separators are not a card, although they look like one.
fn is_bare(text: &FoldedText<'_>, digits: Range<usize>) -> bool {
    let Range { start, end } = digits;
    let bytes = text.bytes;
    if is_paid(text.evidence)
        || context_says(bytes, start, &PAYMENT_WORDS, text.edited)
        || glued_to(bytes, start, WORDS)
    {
        return false;
    }
    !USUAL_DIGITS.contains(&end_of_digits(bytes, start).saturating_sub(start))
        || names_a_count(word_before(bytes, start))
        || is_unit(bytes, end)
}

/// Whether the word before a number says that it counts, measures or identifies.
fn names_a_count(word: &[u8]) -> bool {
    !is_listed(word, MONEY_WORDS) && is_counted(keys::evidence(word))
}

/// Whether a unit stands behind a number. What names the next value is none: `bytes=`.
fn is_unit(bytes: &[u8], at: usize) -> bool {
    let word = word_after(bytes, at);
    let from = at + usize::from(bytes.get(at) == Some(&b' '));
    let names = matches!(bytes.get(from + word.len()), Some(b'=' | b':'));
    let word = word.strip_suffix(b".").unwrap_or(word);
    let unit = |unit: &str| {
        let head = word.len().checked_sub(unit.len());
        head.is_some_and(|head| {
            word[head..].eq_ignore_ascii_case(unit.as_bytes())
                && !before(word, head).is_some_and(|byte| byte.is_ascii_alphabetic())
        })
    };
    !names && UNITS.split_ascii_whitespace().any(unit)
}

/// Longest word beside a number that is looked at, and what may stand between.
const WORD_BYTES_MAX: usize = 48;

fn in_word(byte: &u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-' | b'.')
}

fn between(byte: &u8) -> bool {
    matches!(byte, b' ' | b'=' | b':' | b'"' | b'\'' | b'\\')
}

/// The word directly before `at`.
fn word_before(bytes: &[u8], at: usize) -> &[u8] {
    let near = &bytes[at.saturating_sub(WORD_BYTES_MAX)..at];
    let gap = trailing(near, between).len().min(4);
    trailing(&near[..near.len() - gap], in_word)
}

/// The word directly behind `at`.
fn word_after(bytes: &[u8], at: usize) -> &[u8] {
    let near = &bytes[at..bytes.len().min(at + WORD_BYTES_MAX)];
    leading(near.strip_prefix(b" ").unwrap_or(near), in_word)
}

fn end_of_digits(bytes: &[u8], at: usize) -> usize {
    at + leading(&bytes[at..], u8::is_ascii_digit).len()
}

/// Groups that are those of a card whatever stands beside them.
const GROUPS_MIN: usize = 3;

/// The end of the longest card that starts at `start`, as one group or as groups with the same
/// separator. One that is not `alone` has to have the groups of a card.
fn card_at(bytes: &[u8], start: usize, alone: bool, evidence: bool) -> Option<usize> {
    let mut digits = [0u8; *DIGITS.end()];
    let mut count = 0;
    let mut groups = 0;
    let mut at = start;
    let mut separator: Option<&[u8]> = None;
    let mut best = None;
    loop {
        let end = end_of_digits(bytes, at);
        let group = &bytes[at..end];
        if count + group.len() > *DIGITS.end() {
            break;
        }
        digits[count..count + group.len()].copy_from_slice(group);
        count += group.len();
        groups += 1;
        let shape = groups == 1
            || (3..=7).contains(&group.len())
            || evidence
            || (groups >= 4 && group.len() == 1);
        if !shape {
            break;
        }
        let grouped = groups >= GROUPS_MIN;
        let usual = evidence || separator.is_none_or(|separator| matches!(separator, b" " | b"-"));
        if (alone && usual || grouped) && is_card(&digits[..count], evidence) {
            let zeros = end + fraction_of_zeros(&bytes[end..]);
            if groups == 1 && zeros > end && ends_number(bytes, zeros) {
                best = Some(zeros);
            } else if ends_number(bytes, end) || grouped && ends_word(bytes, end) {
                best = Some(end);
            }
        }
        let near = &bytes[end..bytes.len().min(end + SEPARATOR_BYTES_MAX + 1)];
        let next = leading(near, separates);
        let width = next.len();
        if !(1..=SEPARATOR_BYTES_MAX).contains(&width)
            || separator.is_some_and(|separator| separator != next)
            || !bytes.get(end + width).is_some_and(u8::is_ascii_digit)
            || !(4..=6).contains(&group.len()) && !evidence
        {
            break;
        }
        separator = Some(next);
        at = end + width;
    }
    best
}

/// Longest separator between groups, as in `4111 - 1111 - 1111 - 1111`.
const SEPARATOR_BYTES_MAX: usize = 3;

fn separates(byte: &u8) -> bool {
    matches!(
        byte,
        b' ' | b'-' | b'.' | b'/' | b'_' | b'+' | b'\t' | b'\n'
    )
}

/// The bytes of a fraction that is zero, as tables of floating point numbers write integers.
fn fraction_of_zeros(bytes: &[u8]) -> usize {
    let zeros = match bytes {
        [b'.', rest @ ..] => leading(rest, |byte| *byte == b'0').len(),
        _ => 0,
    };
    if zeros == 0 { 0 } else { zeros + 1 }
}

/// Whether `digits` (ASCII) are a card. Under a card key, the number of digits is enough.
fn is_card(digits: &[u8], evidence: bool) -> bool {
    if !DIGITS.contains(&digits.len()) || digits.iter().all(|&digit| digit == digits[0]) {
        return false;
    }
    evidence || issued(digits) && luhn(digits)
}

/// Whether an issuer hands out numbers of this length with this start.
fn issued(digits: &[u8]) -> bool {
    let value = |count: usize| value_of(&digits[..count]);
    let length = digits.len();
    match (value(1), value(2), value(3), value(4)) {
        (4, ..) => matches!(length, 13 | 16 | 19),
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => length == 16,
        (_, 34 | 37, ..) => length == 15,
        (.., 6011) | (_, _, 644..=649, _) | (_, 65, ..) => (16..=19).contains(&length),
        (.., 3528..=3589) => (16..=19).contains(&length),
        (_, _, 300..=305, _) | (_, 36 | 38 | 39, ..) => (14..=19).contains(&length),
        (_, 62, ..) => (16..=19).contains(&length),
        (_, 50 | 56..=58 | 63 | 67, ..) => (13..=19).contains(&length),
        _ => false,
    }
}

/// Whether the last digit checks the others.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (u32::from(digit - b'0'), at % 2) {
            (digit, 0) => digit,
            (digit, _) => digit * 2 - if digit > 4 { 9 } else { 0 },
        })
        .sum();
    sum.is_multiple_of(10)
}
