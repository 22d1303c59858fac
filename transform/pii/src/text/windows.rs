//! Candidate windows: the few places of a text where an anchored matcher has to look.
//!
//! Owns the runs of digits with their separators and the runs of hexadecimal digits with theirs,
//! and the rules for the edges of a token. Each function is one pass. Refuses to judge.

use std::ops::Range;

use crate::text::byte_classes::{self, COLON, DASH, DIGIT, DOT, HEX_LETTER};

/// Fewest digits of a run that any detector takes; `1.1.1.1` has three dots besides.
const DIGITS_MIN: usize = 7;

/// How many bytes of each kind a text has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ByteCounts {
    pub(crate) digits: usize,
    pub(crate) letters: usize,
    pub(crate) colons: usize,
    pub(crate) dots: usize,
    pub(crate) dashes: usize,
    /// `+` and `(`.
    pub(crate) openers: usize,
    /// All others.
    pub(crate) others: usize,
}

/// For each byte a one in the lane of its kind; a lane has eight bits.
static LANES: [u64; 256] = lanes();

const fn lanes() -> [u64; 256] {
    let mut lanes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let lane = match byte as u8 {
            b'0'..=b'9' => 0,
            b'a'..=b'z' | b'A'..=b'Z' => 1,
            b':' => 2,
            b'.' => 3,
            b'-' => 4,
            b'+' | b'(' => 5,
            _ => 6,
        };
        lanes[byte] = 1 << (lane * 8);
        byte += 1;
    }
    lanes
}

impl ByteCounts {
    /// Counts in one pass.
    pub(crate) fn of(text: &[u8]) -> Self {
        let mut counts = Self::default();
        // No lane overflows within so many bytes.
        for chunk in text.chunks(255) {
            let sum = chunk
                .iter()
                .fold(0, |sum, &byte| sum + LANES[usize::from(byte)]);
            let lane = |lane: u32| (sum >> (lane * 8) & 0xff) as usize;
            counts.digits += lane(0);
            counts.letters += lane(1);
            counts.colons += lane(2);
            counts.dots += lane(3);
            counts.dashes += lane(4);
            counts.openers += lane(5);
            counts.others += lane(6);
        }
        counts
    }
}

/// Whether `text` is a date with a time as RFC 3339 writes them, and nothing more. No detector
/// finds anything in one unless a key says so, and nearly every record of a device has one.
pub(crate) fn is_timestamp(text: &[u8]) -> bool {
    const SHAPE: &[u8; 19] = b"dddd-dd-ddTdd:dd:dd";
    let Some((head, tail)) = text.split_first_chunk::<19>() else {
        return false;
    };
    let fits = head.iter().zip(SHAPE).all(|(&byte, &shape)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        other => byte == other,
    });
    if !fits {
        return false;
    }
    let mut rest = tail;
    if let [b'.', fraction @ ..] = rest {
        let digits = leading(fraction, u8::is_ascii_digit).len();
        // Longer ones could hold a number of their own.
        if !(1..=9).contains(&digits) {
            return false;
        }
        rest = &fraction[digits..];
    }
    match rest {
        [] | [b'Z' | b'z'] => true,
        [b'+' | b'-', offset @ ..] => match offset {
            [a, b, b':', c, d] | [a, b, c, d] => {
                [a, b, c, d].iter().all(|byte| byte.is_ascii_digit())
            }
            _ => false,
        },
        _ => false,
    }
}

/// Separators that may stand between the digits of one number, at most three in a row.
fn separates(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'-' | b'.' | b'(' | b')' | b'/' | b'_' | b'+' | b'\t' | b'\n'
    )
}

/// A run of digits and separators.
pub(crate) struct DigitRun {
    pub(crate) range: Range<usize>,
    pub(crate) digits: usize,
    pub(crate) dots: usize,
}

/// Calls `visit` with each maximal run of digits and separators that holds enough digits, or three
/// dots. A run starts and ends with a digit, or starts with the `+` or `(` before one.
pub(crate) fn digit_runs(text: &[u8], mut visit: impl FnMut(DigitRun)) {
    let mut at = 0;
    while let Some(found) = text[at..].iter().position(u8::is_ascii_digit) {
        let mut start = at + found;
        let (mut digits, mut dots, mut gap) = (0, 0, 0);
        let mut end = start;
        let mut next = start;
        while let Some(&byte) = text.get(next) {
            if byte.is_ascii_digit() {
                digits += 1;
                gap = 0;
                end = next + 1;
            } else if separates(byte) && gap < 3 {
                gap += 1;
                dots += usize::from(byte == b'.');
            } else {
                break;
            }
            next += 1;
        }
        if digits >= DIGITS_MIN || dots >= 3 {
            while start > at && matches!(text[start - 1], b'+' | b'(') {
                start -= 1;
            }
            visit(DigitRun {
                range: start..end,
                digits,
                dots,
            });
        }
        at = end;
    }
}

/// Calls `visit` with each maximal run of hexadecimal digits, colons, dots and dashes that holds at
/// least two separators.
pub(crate) fn hex_runs(text: &[u8], mut visit: impl FnMut(Range<usize>)) {
    let mut start = 0;
    let mut separators = 0;
    for (at, &byte) in text.iter().enumerate() {
        let class = byte_classes::TABLE[usize::from(byte)];
        if class & (DIGIT | HEX_LETTER | COLON | DOT | DASH) != 0 {
            separators += usize::from(class & (COLON | DOT | DASH) != 0);
            continue;
        }
        if separators >= 2 {
            visit(start..at);
        }
        start = at + 1;
        separators = 0;
    }
    if separators >= 2 {
        visit(start..text.len());
    }
}

/// What `text` starts with whose bytes are all of a kind.
pub(crate) fn leading(text: &[u8], is_of_kind: impl Fn(&u8) -> bool) -> &[u8] {
    let length = text.iter().position(|byte| !is_of_kind(byte));
    &text[..length.unwrap_or(text.len())]
}

/// What `text` ends with whose bytes are all of a kind.
pub(crate) fn trailing(text: &[u8], is_of_kind: impl Fn(&u8) -> bool) -> &[u8] {
    let before = text.iter().rposition(|byte| !is_of_kind(byte));
    &text[before.map_or(0, |before| before + 1)..]
}

/// Whether `text` starts with `head`, in whatever case.
pub(crate) fn starts_in_any_case(text: &[u8], head: &[u8]) -> bool {
    text.get(..head.len())
        .is_some_and(|text| text.eq_ignore_ascii_case(head))
}

/// The byte before `at`.
pub(crate) fn before(text: &[u8], at: usize) -> Option<u8> {
    at.checked_sub(1).and_then(|index| text.get(index)).copied()
}

fn is_word(byte: Option<u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a letter or digit stands before `at` and belongs to what starts there. The letter that
/// ends a colour of a terminal does not: `[32m`, also where the escape before it is gone.
pub(crate) fn is_glued(text: &[u8], at: usize) -> bool {
    match before(text, at) {
        Some(b'm' | b'K') => colour_before(text, at) == 0,
        byte => is_word(byte),
    }
}

/// Longest colour of a terminal, as in `[38;2;255;255;255m`.
const COLOUR_BYTES_MAX: usize = 20;

/// How many bytes before `at` set a colour of a terminal.
pub(crate) fn colour_before(text: &[u8], at: usize) -> usize {
    let longest = &text[at.saturating_sub(COLOUR_BYTES_MAX)..at];
    let Some((b'm' | b'K', rest)) = longest.split_last() else {
        return 0;
    };
    let numbers = trailing(rest, |byte| byte.is_ascii_digit() || *byte == b';');
    match rest[..rest.len() - numbers.len()].last() {
        Some(b'[') => numbers.len() + 2,
        _ => 0,
    }
}

/// Whether a number may start at `at`: no ASCII letter or digit stands before it, also not with a
/// dash between, and no decimal point. Parts of UUIDs, decimals and hexadecimal ids fail here.
/// Letters of other scripts join nothing: not all of them write spaces.
pub(crate) fn starts_number(text: &[u8], at: usize) -> bool {
    match before(text, at) {
        Some(b'-') => !is_word(before(text, at - 1)),
        Some(b'.') => !before(text, at - 1).is_some_and(|byte| byte.is_ascii_digit()) && at > 1,
        _ => !is_glued(text, at),
    }
}

/// Whether a number may end before `at`, by the same rules.
pub(crate) fn ends_number(text: &[u8], at: usize) -> bool {
    match text.get(at).copied() {
        Some(b'-' | b'.') => !is_word(text.get(at + 1).copied()),
        byte => !is_word(byte),
    }
}

/// Whether neither a letter nor a digit stands before `at`.
pub(crate) fn starts_word(text: &[u8], at: usize) -> bool {
    !is_glued(text, at)
}

/// Whether neither a letter nor a digit stands at `at`.
pub(crate) fn ends_word(text: &[u8], at: usize) -> bool {
    !is_word(text.get(at).copied())
}

/// Whether `word` is one of the words of `list`, which has spaces between.
pub(crate) fn is_listed(word: &[u8], list: &str) -> bool {
    let mut words = list.split_ascii_whitespace();
    words.any(|one| word.eq_ignore_ascii_case(one.as_bytes()))
}

/// Whether `word` is one of `words`.
fn is_one_of(word: &[u8], words: &[&str]) -> bool {
    let mut words = words.iter();
    words.any(|one| word.eq_ignore_ascii_case(one.as_bytes()))
}

/// Whether the letters that stand directly before `at` are one of `words` (lower case).
pub(crate) fn glued_to(text: &[u8], at: usize, words: &[&str]) -> bool {
    let longest = &text[at.saturating_sub(GLUED_BYTES_MAX)..at];
    is_one_of(trailing(longest, u8::is_ascii_alphabetic), words)
}

/// Longer than any word that `glued_to` is asked for.
const GLUED_BYTES_MAX: usize = 16;

/// Bytes before a candidate in which a keyword counts.
const CONTEXT_BYTES: usize = 30;

/// Whether one of `words` (lower case, letters only) stands within 30 bytes before `at`, as a whole
/// word. In a text that was `edited`, labels like `[SSN]` say nothing: they may have replaced what
/// was found, and what they said before counted then.
pub(crate) fn context_says(text: &[u8], at: usize, words: &[&str], edited: bool) -> bool {
    let mut start = at.saturating_sub(CONTEXT_BYTES);
    // A word that the context would cut does not count.
    while start < at && start > 0 && text[start - 1].is_ascii_alphabetic() {
        start += 1;
    }
    let mut next = start;
    while next < at {
        let said = leading(&text[next..at], u8::is_ascii_alphabetic);
        let end = next + said.len();
        if is_one_of(said, words) && !(edited && is_label(text, next..end)) {
            return true;
        }
        next = end + 1;
    }
    false
}

/// Whether a word of `text` is all of a label. Its bracket may have been taken for that of an array.
fn is_label(text: &[u8], word: Range<usize>) -> bool {
    matches!(before(text, word.start), Some(b'[') | None)
        && text.get(word.end) == Some(&b']')
        && text[word].iter().all(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        digit_runs(text.as_bytes(), |run| found.push(&text[run.range]));
        found
    }

    #[test]
    fn digit_runs_are_maximal_and_hold_enough() {
        assert_eq!(digits("a 1 b 22 c 333"), Vec::<&str>::new());
        assert_eq!(digits("tel +1 (415) 555-2671."), ["+1 (415) 555-2671"]);
        assert_eq!(digits("1.1.1.1"), ["1.1.1.1"]);
        assert_eq!(
            digits("(415) 555-2671, 4111 1111 1111 1111"),
            ["(415) 555-2671", "4111 1111 1111 1111"]
        );
        assert_eq!(digits("1234567    7654321"), ["1234567", "7654321"]);
    }

    #[test]
    fn hex_runs_need_two_separators() {
        let mut found = Vec::new();
        hex_runs(b"at 00:1b:44, beef, fe80::1%en0 1.2", |range| {
            found.push(range)
        });
        assert_eq!(found, [3..11, 19..26]);
    }

    #[test]
    fn edges_include_dashes_dots_and_letters() {
        for (text, start, end) in [
            ("a-1234567", 2, 9),
            (".1234567", 1, 8),
            ("0.1234567", 2, 9),
            ("f1234567", 1, 8),
        ] {
            assert!(!starts_number(text.as_bytes(), start), "{text}");
            assert!(ends_number(text.as_bytes(), end), "{text}");
        }
        for text in ["1234567-a", "1234567.5", "1234567a"] {
            assert!(!ends_number(text.as_bytes(), 7), "{text}");
            assert!(starts_number(text.as_bytes(), 0), "{text}");
        }
        assert!(ends_number(b"1234567. ", 7));
        assert!(ends_number(b"1234567_", 7));
        assert!(ends_number(b"1234567-", 7));
        assert!(starts_number(b"-1234567", 1));
        assert!(ends_number("1234567é".as_bytes(), 7));
        assert!(starts_number("号1234567".as_bytes(), 3));
    }

    #[test]
    fn colours_glue_to_nothing() {
        for (text, glued) in [
            ("[32m1", false),
            ("[m1", false),
            ("[1;38;5;208m1", false),
            ("[K1", false),
            ("32m1", true),
            ("[32x1", true),
            ("[a2m1", true),
            ("m1", true),
            (" 1", false),
        ] {
            assert_eq!(is_glued(text.as_bytes(), text.len() - 1), glued, "{text}");
        }
    }

    #[test]
    fn context_counts_whole_words_nearby() {
        let text = b"my SSN is 1, and lessn 2, ........................................ 3";
        let context_says = |text, at, words| super::context_says(text, at, words, false);
        assert!(context_says(text, 10, &["ssn"]));
        assert!(!context_says(b"lessn 2", 6, &["ssn"]));
        let cut = format!("lessn{}", " ".repeat(27));
        assert!(!context_says(cut.as_bytes(), cut.len(), &["ssn"]));
        assert!(!context_says(text, text.len() - 1, &["ssn"]));
    }

    #[test]
    fn labels_count_unless_the_text_was_edited() {
        for text in ["[SSN] 1", "SSN] 1"] {
            let (text, at) = (text.as_bytes(), text.len() - 1);
            assert!(context_says(text, at, &["ssn"], false));
            assert!(!context_says(text, at, &["ssn"], true));
        }
        for text in ["SSN 1", "[ssn] 1", "[SSN 1"] {
            let (text, at) = (text.as_bytes(), text.len() - 1);
            assert!(context_says(text, at, &["ssn"], true));
        }
    }
}
