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

/// A text from one of its characters on, as it is written.
#[derive(Clone, Copy)]
pub(super) struct EncodedText<'a> {
    pub(super) source: &'a [u8],
    pub(super) writing: Notation,
}

/// Most characters of a sequence that sets colours.
const COLOUR_CHARACTERS_MAX: usize = 24;

/// Times that a percent sign may itself be percent-encoded.
const ENCODINGS_MAX: usize = 3;

impl EncodedText<'_> {
    /// What the first character `first` and bytes behind it stand for together.
    pub(super) fn joined(self, reading: FoldReading, first: EncodedUnit) -> Option<EncodedUnit> {
        let mut whole = first;
        if !reading.is_written() {
            if whole.character == Some('%') {
                whole = self.percent_encoded(reading).unwrap_or(whole);
            }
            if whole.character == Some('\\') {
                whole = self.literal_escape(whole).unwrap_or(whole);
            }
            if whole.character == Some('^') {
                let bracket = self.unit(whole.width)?;
                let starts = bracket.character == Some('[')
                    && self.unit(whole.width + 1)?.character == Some('[');
                if !starts {
                    return None;
                }
                whole = whole.with(bracket, Some(ESCAPE));
            }
        }
        if whole.character == Some(ESCAPE) {
            whole = self.colour(whole).unwrap_or(whole);
        }
        (whole.width > first.width).then_some(whole)
    }

    /// The character at `at`.
    fn unit(self, at: usize) -> Option<EncodedUnit> {
        let rest = self.source.get(at..).filter(|rest| !rest.is_empty())?;
        let (character, width) = character(rest, self.writing);
        character.map(|character| EncodedUnit {
            character: Some(character),
            width,
            decoded: character.len_utf8(),
        })
    }

    /// The sequence of a terminal that `escape` starts, as in `\u{1b}[1;32m`.
    fn colour(self, escape: EncodedUnit) -> Option<EncodedUnit> {
        let mut whole = escape;
        for count in 0..COLOUR_CHARACTERS_MAX {
            let next = self.unit(whole.width)?;
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
    fn literal_escape(self, backslash: EncodedUnit) -> Option<EncodedUnit> {
        let next = self.unit(backslash.width)?;
        let control = |control: char| Some(backslash.with(next, Some(control)));
        let follows = |wanted: &str| {
            let mut at = backslash.width + next.width;
            wanted.chars().all(|wanted| {
                let found = self.unit(at);
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
            'e' if follows("[") => control(ESCAPE),
            '0' if follows("33") => {
                let mut whole = backslash.with(next, Some(ESCAPE));
                for _ in 0..2 {
                    whole = whole.with(self.unit(whole.width)?, Some(ESCAPE));
                }
                Some(whole)
            }
            'u' => {
                let (whole, code) = self.hex_digits(backslash.with(next, None), 4)?;
                let (whole, code) = match code {
                    0xd800..0xdc00 => self.low_surrogate(whole, code).unwrap_or((whole, code)),
                    _ => (whole, code),
                };
                Some(EncodedUnit {
                    character: char::from_u32(code),
                    ..whole
                })
            }
            'x' => {
                let mut bytes = [0u8; 4];
                let mut whole = backslash.with(next, None);
                let mut first = None;
                for count in 0..bytes.len() {
                    let (end, byte) = self.hex_digits(whole, 2)?;
                    bytes[count] = u8::try_from(byte).ok()?;
                    first = first.or(Some(end));
                    if let Ok(text) = std::str::from_utf8(&bytes[..=count]) {
                        return Some(EncodedUnit {
                            character: text.chars().next(),
                            ..end
                        });
                    }
                    let Some(after) = self.introduced(end, 'x') else {
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
    fn introduced(self, whole: EncodedUnit, letter: char) -> Option<EncodedUnit> {
        let backslash = self.unit(whole.width)?;
        let whole = whole.with(backslash, None);
        let next = self.unit(whole.width)?;
        (backslash.character == Some('\\') && next.character == Some(letter))
            .then(|| whole.with(next, None))
    }

    /// The escape of the half of a surrogate pair that follows the one of `high`, and what both stand for.
    fn low_surrogate(self, whole: EncodedUnit, high: u32) -> Option<(EncodedUnit, u32)> {
        let (whole, low) = self.hex_digits(self.introduced(whole, 'u')?, 4)?;
        let code = 0x10000 + ((high - 0xd800) << 10) + low.checked_sub(0xdc00)?;
        (low < 0xe000).then_some((whole, code))
    }

    /// `whole` with `count` hexadecimal digits behind it, and their value.
    fn hex_digits(self, mut whole: EncodedUnit, count: usize) -> Option<(EncodedUnit, u32)> {
        let mut value = 0;
        for _ in 0..count {
            let digit = self.unit(whole.width)?;
            value = value << 4 | digit.character?.to_digit(16)?;
            whole = whole.with(digit, None);
        }
        Some((whole, value))
    }

    /// The percent-encoded character at the start, which writes a percent sign there.
    fn percent_encoded(self, reading: FoldReading) -> Option<EncodedUnit> {
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
            (whole, bytes[count]) = self.percent_byte(whole, times)?;
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
    fn percent_byte(self, whole: EncodedUnit, times: usize) -> Option<(EncodedUnit, u8)> {
        let sign = self.unit(whole.width)?;
        if sign.character != Some('%') {
            return None;
        }
        let pair = |whole: EncodedUnit| {
            let (whole, byte) = self.hex_digits(whole, 2)?;
            Some((whole, u8::try_from(byte).ok()?))
        };
        let (mut whole, mut byte) = pair(whole.with(sign, None))?;
        for _ in 0..times {
            let Some(decoded) = pair(whole).filter(|_| byte == b'%') else {
                break;
            };
            (whole, byte) = decoded;
        }
        Some((whole, byte))
    }
}
