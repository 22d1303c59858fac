//! Decodes what still encodes characters in a decoded text: percent signs, the escapes of JSON
//! and of source code that the text holds, and the colours of terminals.

use super::character::{ESCAPE, character};
use super::reading::{FoldReading, Notation};

/// A character with the bytes of the source and of the decoded value that stand for it.
#[derive(Clone, Copy)]
pub(super) struct EncodedUnit {
    /// Nothing, where they stand for none.
    pub(super) character: Option<char>,
    pub(super) width: usize,
    pub(super) decoded: usize,
}

impl EncodedUnit {
    /// This with what `next` takes behind it, standing for `character`.
    fn with(self, next: EncodedUnit, character: Option<char>) -> Self {
        Self {
            character,
            width: self.width + next.width,
            decoded: self.decoded + next.decoded,
        }
    }
}

/// The character at `at`.
fn unit(source: &[u8], at: usize, writing: Notation) -> Option<EncodedUnit> {
    let (character, width) = character(source.get(at..).filter(|rest| !rest.is_empty())?, writing);
    character.map(|character| EncodedUnit {
        character: Some(character),
        width,
        decoded: character.len_utf8(),
    })
}

/// What `first`, at the start of `source`, and bytes behind it stand for together.
pub(super) fn encoded(
    source: &[u8],
    writing: Notation,
    reading: FoldReading,
    first: EncodedUnit,
) -> Option<EncodedUnit> {
    let mut whole = first;
    if !reading.is_written() {
        if whole.character == Some('%') {
            whole = percent_encoded(source, writing, reading).unwrap_or(whole);
        }
        if whole.character == Some('\\') {
            whole = literal_escape(source, writing, whole).unwrap_or(whole);
        }
        if whole.character == Some('^') {
            let bracket = unit(source, whole.width, writing)?;
            let starts = bracket.character == Some('[')
                && unit(source, whole.width + 1, writing)?.character == Some('[');
            whole = whole.with(bracket, Some(ESCAPE)).only(starts)?;
        }
    }
    if whole.character == Some(ESCAPE) {
        whole = colour(source, writing, whole).unwrap_or(whole);
    }
    (whole.width > first.width).then_some(whole)
}

impl EncodedUnit {
    fn only(self, holds: bool) -> Option<Self> {
        holds.then_some(self)
    }
}

/// Most characters of a sequence that sets colours.
const COLOUR_CHARACTERS_MAX: usize = 24;

/// The sequence of a terminal that `escape` starts, as in `\u{1b}[1;32m`.
fn colour(source: &[u8], writing: Notation, escape: EncodedUnit) -> Option<EncodedUnit> {
    let mut whole = escape;
    for count in 0..COLOUR_CHARACTERS_MAX {
        let next = unit(source, whole.width, writing)?;
        whole = whole.with(next, escape.character);
        match (count, next.character?) {
            (0, '[') => {}
            (0, _) => return None,
            (_, ' '..='?') => {}
            (_, '@'..='~') => return Some(whole),
            _ => return None,
        }
    }
    None
}

/// What an escape stands for that the text itself holds, behind its `backslash`: that of a text
/// which was JSON or source code before it became a value.
fn literal_escape(source: &[u8], writing: Notation, backslash: EncodedUnit) -> Option<EncodedUnit> {
    let next = unit(source, backslash.width, writing)?;
    let control = |control: char| Some(backslash.with(next, Some(control)));
    let follows = |wanted: &[char]| {
        let mut at = backslash.width + next.width;
        wanted.iter().all(|&wanted| {
            let found = unit(source, at, writing);
            at += found.map_or(0, |found| found.width);
            found.is_some_and(|found| found.character == Some(wanted))
        })
    };
    match next.character? {
        'n' => control('\n'),
        'r' => control('\r'),
        't' => control('\t'),
        'b' => control('\u{8}'),
        'f' => control('\u{c}'),
        'v' => control('\u{b}'),
        'a' => control('\u{7}'),
        'e' if follows(&['[']) => control(ESCAPE),
        '0' if follows(&['3', '3']) => {
            let mut whole = backslash.with(next, Some(ESCAPE));
            for _ in 0..2 {
                whole = whole.with(unit(source, whole.width, writing)?, Some(ESCAPE));
            }
            Some(whole)
        }
        'u' => {
            let (whole, code) = hex_digits(source, writing, backslash.with(next, None), 4)?;
            if !(0xd800..0xdc00).contains(&code) {
                return Some(EncodedUnit {
                    character: char::from_u32(code),
                    ..whole
                });
            }
            let pair = low_surrogate(source, writing, whole);
            Some(pair.map_or(whole, |(pair, low)| EncodedUnit {
                character: char::from_u32(0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)),
                ..pair
            }))
        }
        'x' => {
            let mut bytes = [0u8; 4];
            let mut whole = backslash.with(next, None);
            let mut first = None;
            for count in 0..bytes.len() {
                let (end, byte) = hex_digits(source, writing, whole, 2)?;
                bytes[count] = u8::try_from(byte).ok()?;
                first = first.or(Some(end));
                if let Ok(text) = std::str::from_utf8(&bytes[..=count]) {
                    return Some(EncodedUnit {
                        character: text.chars().next(),
                        ..end
                    });
                }
                let Some(after) = introduced(source, writing, end, 'x') else {
                    break;
                };
                whole = after;
            }
            first
        }
        _ => None,
    }
}

/// `whole` with a backslash and `letter` behind it.
fn introduced(
    source: &[u8],
    writing: Notation,
    whole: EncodedUnit,
    letter: char,
) -> Option<EncodedUnit> {
    let backslash = unit(source, whole.width, writing)?;
    let whole = whole.with(backslash, None);
    let next = unit(source, whole.width, writing)?;
    (backslash.character == Some('\\') && next.character == Some(letter))
        .then(|| whole.with(next, None))
}

fn low_surrogate(
    source: &[u8],
    writing: Notation,
    high: EncodedUnit,
) -> Option<(EncodedUnit, u32)> {
    let whole = introduced(source, writing, high, 'u')?;
    hex_digits(source, writing, whole, 4).filter(|(_, low)| (0xdc00..0xe000).contains(low))
}

/// `whole` with `count` hexadecimal digits behind it, and their value.
fn hex_digits(
    source: &[u8],
    writing: Notation,
    mut whole: EncodedUnit,
    count: usize,
) -> Option<(EncodedUnit, u32)> {
    let mut value = 0;
    for _ in 0..count {
        let digit = unit(source, whole.width, writing)?;
        value = value << 4 | digit.character?.to_digit(16)?;
        whole = whole.with(digit, None);
    }
    Some((whole, value))
}

/// Times that a percent sign may itself be percent-encoded.
const ENCODINGS_MAX: usize = 3;

/// The percent-encoded character at the start of `source`, which writes a percent sign there.
fn percent_encoded(source: &[u8], writing: Notation, reading: FoldReading) -> Option<EncodedUnit> {
    let times = if reading == FoldReading::Once {
        0
    } else {
        ENCODINGS_MAX
    };
    let mut whole = EncodedUnit {
        character: None,
        width: 0,
        decoded: 0,
    };
    let mut bytes = [0u8; 4];
    for count in 0..bytes.len() {
        let (end, byte) = percent_byte(source, whole, writing, times)?;
        whole = end;
        bytes[count] = byte;
        if let Ok(text) = std::str::from_utf8(&bytes[..=count]) {
            return Some(EncodedUnit {
                character: Some(text.chars().next()?),
                ..whole
            });
        }
    }
    None
}

/// `whole` with the byte behind it that is percent-encoded.
fn percent_byte(
    source: &[u8],
    whole: EncodedUnit,
    writing: Notation,
    times: usize,
) -> Option<(EncodedUnit, u8)> {
    let sign = unit(source, whole.width, writing)?;
    if sign.character != Some('%') {
        return None;
    }
    let pair = |whole: EncodedUnit| {
        let (whole, byte) = hex_digits(source, writing, whole, 2)?;
        Some((whole, u8::try_from(byte).ok()?))
    };
    let (mut whole, mut byte) = pair(whole.with(sign, None))?;
    for _ in 0..times {
        let Some((end, decoded)) = pair(whole).filter(|_| byte == b'%') else {
            break;
        };
        (whole, byte) = (end, decoded);
    }
    Some((whole, byte))
}
