//! Reads strings: finds their ends, checks and decodes their escapes.

use crate::fault::{FaultKind, JsonFault};

/// The range of a string between its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonString {
    /// The offset behind the opening quote.
    pub start: usize,
    /// The offset of the closing quote.
    pub end: usize,
    /// Whether the text has no escapes.
    pub plain: bool,
}

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// The high bits of the bytes that end a run of a string: quotes, backslashes and control
/// characters. The lowest one is right; a borrow may raise a false one above it.
#[inline(always)]
fn specials(word: u64) -> u64 {
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero(word ^ (ONES * u64::from(b'"')));
    let backslash = zero(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGHS
}

/// Finds the next byte that a string does not hold as it is, from `at` on: a quote, a
/// backslash or a control character.
#[must_use]
#[inline(always)]
pub fn special(input: &[u8], mut at: usize) -> Option<usize> {
    while let Some(chunk) = input.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("the chunk has eight bytes"));
        let found = specials(word);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    special_near_the_end(input, at)
}

/// Like [`special`], where less than eight bytes are left.
#[inline(never)]
fn special_near_the_end(input: &[u8], at: usize) -> Option<usize> {
    let rest = input.get(at..)?;
    rest.iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
        .map(|offset| at + offset)
}

/// Reads the string whose opening quote is at `open`, and checks its escapes.
///
/// # Errors
/// It is cut off, holds a control character or an escape that is not a character.
#[inline(always)]
pub fn string(input: &[u8], open: usize) -> Result<JsonString, JsonFault> {
    let start = open + 1;
    match special(input, start) {
        Some(end) if input[end] == b'"' => Ok(JsonString {
            start,
            end,
            plain: true,
        }),
        found => escaped_string(input, start, found),
    }
}

/// Reads on from the first byte of a string that is neither plain nor its end.
#[cold]
fn escaped_string(
    input: &[u8],
    start: usize,
    first: Option<usize>,
) -> Result<JsonString, JsonFault> {
    let mut next = first;
    loop {
        let Some(found) = next else {
            return Err(JsonFault::new(FaultKind::CUT_STRING, input.len()));
        };
        let at = match input[found] {
            b'"' => {
                debug_assert!(start <= found, "a string ends behind its start");
                return Ok(JsonString {
                    start,
                    end: found,
                    plain: false,
                });
            }
            b'\\' => escape(input, found)?.1,
            _ => return Err(JsonFault::new(FaultKind::CONTROL_CHARACTER, found)),
        };
        next = special(input, at);
    }
}

/// Appends a text with its escapes decoded.
///
/// # Errors
/// Never for what [`string`] has accepted.
pub fn unescape(input: &[u8], text: JsonString, out: &mut Vec<u8>) -> Result<(), JsonFault> {
    let mut at = text.start;
    loop {
        let rest = &input[at..text.end];
        let run = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..run]);
        if run == rest.len() {
            return Ok(());
        }
        let (character, end) = escape(&input[..text.end], at + run)?;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        at = end;
    }
}

/// Reads the escape whose backslash is at `at`; answers its character and the place behind it.
///
/// # Errors
/// It is not a character.
pub fn escape(input: &[u8], at: usize) -> Result<(char, usize), JsonFault> {
    let character = match input.get(at + 1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(input, at),
        Some(_) => return Err(JsonFault::new(FaultKind::UNKNOWN_ESCAPE, at)),
        None => return Err(JsonFault::new(FaultKind::CUT_STRING, input.len())),
    };
    Ok((character, at + 2))
}

/// Reads `\u` and its digits, and the second half of a pair behind them.
fn unicode_escape(input: &[u8], at: usize) -> Result<(char, usize), JsonFault> {
    let high = unit(input, at)?;
    if let Some(character) = char::from_u32(high) {
        return Ok((character, at + 6));
    }
    let lone = JsonFault::new(FaultKind::LONE_SURROGATE, at);
    if high >= 0xdc00 || input.get(at + 6..at + 8) != Some(b"\\u") {
        return Err(lone);
    }
    let low = unit(input, at + 6)?;
    if !(0xdc00..0xe000).contains(&low) {
        return Err(lone);
    }
    let character = char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
    Ok((character.ok_or(lone)?, at + 12))
}

/// The value of the four digits behind the `\u` at `at`.
fn unit(input: &[u8], at: usize) -> Result<u32, JsonFault> {
    let digits = input.get(at + 2..at + 6);
    digits
        .and_then(|digits| {
            digits.iter().try_fold(0, |unit, digit| {
                Some(unit << 4 | char::from(*digit).to_digit(16)?)
            })
        })
        .ok_or_else(|| JsonFault::new(FaultKind::UNICODE_ESCAPE, at))
}
