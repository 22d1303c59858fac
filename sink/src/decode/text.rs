//! The strings of JSON: finding their end and decoding their escapes.

use super::reject::{Read, Reject};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Where the next quote, backslash or control character is, at or behind `at`.
fn special(input: &[u8], mut at: usize) -> Option<usize> {
    while let Some(chunk) = input.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("the chunk has eight bytes"));
        let quote = zero_bytes(word ^ (ONES * u64::from(b'"')));
        let backslash = zero_bytes(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        // A borrow can only raise a false flag above a true one, so the lowest flag is exact.
        let found = quote | backslash | control;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = input.get(at..)?;
    rest.iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
        .map(|offset| at + offset)
}

fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Reads the string whose opening quote is at `open`. Answers where its closing quote is, and
/// whether the bytes between the quotes are the text already (no escapes).
pub(super) fn string_end(input: &[u8], open: usize) -> Read<(usize, bool)> {
    let mut at = open + 1;
    let mut plain = true;
    loop {
        match special(input, at) {
            Some(found) if input[found] == b'"' => return Ok((found, plain)),
            Some(found) if input[found] == b'\\' => {
                plain = false;
                at = found + 2;
            }
            Some(found) => return Err(Reject::malformed("control character in a string", found)),
            None => return Err(Reject::malformed("end within a string", input.len())),
        }
    }
}

/// Appends the text between the quotes at `open` and `close`, with its escapes decoded. Lone
/// surrogates are refused: no text can hold them.
pub(super) fn unescape(input: &[u8], open: usize, close: usize, text: &mut Vec<u8>) -> Read<()> {
    let mut at = open + 1;
    while at < close {
        let run_end = memchr::memchr(b'\\', &input[at..close]).map_or(close, |offset| at + offset);
        text.extend_from_slice(&input[at..run_end]);
        if run_end == close {
            break;
        }
        let escape = run_end + 1;
        at = escape + 1;
        let decoded = match input.get(escape) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let (decoded, end) = unicode_escape(&input[..close], escape + 1)?;
                at = end;
                decoded
            }
            _ => return Err(Reject::malformed("unknown escape", run_end)),
        };
        text.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(())
}

/// Decodes the four digits at `at`, and the second half of a pair behind them.
fn unicode_escape(input: &[u8], at: usize) -> Read<(char, usize)> {
    let high = four_digits(input, at)?;
    if let Some(decoded) = char::from_u32(high) {
        return Ok((decoded, at + 4));
    }
    let lone = || Reject::malformed("lone surrogate", at);
    if high >= 0xdc00 || input.get(at + 4..at + 6) != Some(b"\\u") {
        return Err(lone());
    }
    let low = four_digits(input, at + 6)?;
    if !(0xdc00..0xe000).contains(&low) {
        return Err(lone());
    }
    let decoded = char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
    Ok((decoded.ok_or_else(lone)?, at + 10))
}

fn four_digits(input: &[u8], at: usize) -> Read<u32> {
    let digits = input.get(at..at + 4).unwrap_or_default();
    let mut value = 0;
    for digit in digits {
        let digit = char::from(*digit).to_digit(16);
        value = value * 16 + digit.ok_or_else(|| Reject::malformed("bad unicode escape", at))?;
    }
    if digits.len() == 4 {
        Ok(value)
    } else {
        Err(Reject::malformed("bad unicode escape", at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_next_special_byte_is_found(
            plain in prop::collection::vec(any::<u8>(), 0..40),
            specials in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..35), 0..3),
            at in 0_usize..4,
        ) {
            let mut input: Vec<u8> = plain
                .into_iter()
                .map(|byte| if matches!(byte, b'"' | b'\\' | 0..0x20) { byte | 0x80 } else { byte })
                .collect();
            for (index, special) in specials {
                let byte = match special {
                    32 => b'"',
                    33 => b'\\',
                    34 => b' ',
                    control => control,
                };
                if !input.is_empty() {
                    let index = index.index(input.len());
                    input[index] = byte;
                }
            }
            let wanted = input
                .iter()
                .enumerate()
                .skip(at)
                .find(|(_, byte)| matches!(byte, b'"' | b'\\' | 0..0x20))
                .map(|(index, _)| index);
            prop_assert_eq!(special(&input, at), wanted);
        }
    }
}
