//! Partition keys out of JSON records, without building a tree.
//!
//! Owns the language of `--key`: `a.b` is the field `b` of the object `a`; `{a}-{b.c}` joins fields
//! and text; a backslash takes the meaning from `.`, `{`, `}` and itself. A key is read in one pass
//! per field that stops at the field: of fields with the same name the first counts, and what
//! follows it is not looked at, so that a record cut short behind its key keeps it. Memory does not
//! depend on how deep a record nests.
//!
//! Refuses: guessing. Without every field, as string, number or boolean, a record has no key.

use std::ops::Range;

/// The longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 1_024;

/// The most fields in a template: each costs a pass over the record.
pub const FIELDS_MAX: usize = 16;

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "key `{template}` is refused at byte {place}: {reason}; \
     write a field (`device.id`) or a template (`{{site}}-{{device.id}}`)"
)]
pub struct KeyTemplateError {
    template: String,
    place: usize,
    reason: &'static str,
}

/// How to make a partition key of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTemplate {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    /// Names from the outermost object inwards, at least one.
    Field(Vec<Vec<u8>>),
}

impl KeyTemplate {
    /// Reads a template as a user writes it.
    ///
    /// # Errors
    /// When it names no field, is not balanced, or is larger than [`TEMPLATE_BYTES_MAX`]
    /// or [`FIELDS_MAX`] allow.
    pub fn parse(template: &str) -> Result<Self, KeyTemplateError> {
        let refuse = |place, reason| {
            let template = template.chars().take(120).collect();
            Err(KeyTemplateError {
                template,
                place,
                reason,
            })
        };
        if template.len() > TEMPLATE_BYTES_MAX {
            return refuse(TEMPLATE_BYTES_MAX, "it is longer than 1,024 bytes");
        }
        let mut parser = Parser::new(template);
        let parsed = if parser.has_braces() {
            parser.template()
        } else {
            parser.lone_field()
        };
        match parsed {
            Ok(pieces) => Ok(Self { pieces }),
            Err(reason) => refuse(parser.place, reason),
        }
    }

    /// Appends the key of the record `json` to `out` and says where it lies there. `None`, and
    /// nothing appended, when a field is missing, null, an object or a list, when the record is
    /// damaged before it, or when the key is empty.
    pub fn extract(&self, json: &[u8], out: &mut Vec<u8>) -> Option<Range<usize>> {
        let start = out.len();
        let complete = self.pieces.iter().all(|piece| match piece {
            Piece::Text(text) => {
                out.extend_from_slice(text);
                true
            }
            Piece::Field(path) => Scan { json, place: 0 }.field(path, out).is_some(),
        });
        if complete && out.len() > start && std::str::from_utf8(&out[start..]).is_ok() {
            Some(start..out.len())
        } else {
            out.truncate(start);
            None
        }
    }
}

/// Reads a template character by character.
struct Parser<'a> {
    template: &'a [u8],
    place: usize,
}

/// A character of a template: with or without the meaning that the language gives it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Open,
    Close,
    Dot,
    Plain(u8),
}

impl<'a> Parser<'a> {
    const fn new(template: &'a str) -> Self {
        Self {
            template: template.as_bytes(),
            place: 0,
        }
    }

    fn has_braces(&self) -> bool {
        let mut ahead = Parser {
            template: self.template,
            place: 0,
        };
        while let Ok(Some(symbol)) = ahead.next() {
            if matches!(symbol, Symbol::Open | Symbol::Close) {
                return true;
            }
        }
        false
    }

    fn next(&mut self) -> Result<Option<Symbol>, &'static str> {
        let Some(&byte) = self.template.get(self.place) else {
            return Ok(None);
        };
        let symbol = match byte {
            b'{' => Symbol::Open,
            b'}' => Symbol::Close,
            b'.' => Symbol::Dot,
            b'\\' => match self.template.get(self.place + 1) {
                Some(&escaped @ (b'{' | b'}' | b'.' | b'\\')) => {
                    self.place += 1;
                    Symbol::Plain(escaped)
                }
                _ => return Err("a backslash stands only before `.`, `{`, `}` or a backslash"),
            },
            byte => Symbol::Plain(byte),
        };
        self.place += 1;
        Ok(Some(symbol))
    }

    fn lone_field(&mut self) -> Result<Vec<Piece>, &'static str> {
        let mut path = vec![Vec::new()];
        while let Some(symbol) = self.next()? {
            extend_path(&mut path, symbol)?;
        }
        Ok(vec![finished(path)?])
    }

    fn template(&mut self) -> Result<Vec<Piece>, &'static str> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut fields = 0;
        while let Some(symbol) = self.next()? {
            match symbol {
                Symbol::Open => {
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    fields += 1;
                    if fields > FIELDS_MAX {
                        return Err("it has more than 16 fields");
                    }
                    pieces.push(self.braced_field()?);
                }
                Symbol::Close => return Err("`}` closes nothing"),
                Symbol::Dot => text.push(b'.'),
                Symbol::Plain(byte) => text.push(byte),
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(pieces)
    }

    fn braced_field(&mut self) -> Result<Piece, &'static str> {
        let mut path = vec![Vec::new()];
        loop {
            match self.next()? {
                Some(Symbol::Close) => return finished(path),
                Some(symbol) => extend_path(&mut path, symbol)?,
                None => return Err("`{` is not closed"),
            }
        }
    }
}

fn extend_path(path: &mut Vec<Vec<u8>>, symbol: Symbol) -> Result<(), &'static str> {
    match (symbol, path.last_mut()) {
        (Symbol::Plain(byte), Some(name)) => name.push(byte),
        (Symbol::Dot, Some(name)) if !name.is_empty() => path.push(Vec::new()),
        (Symbol::Dot, _) => return Err(NAMELESS),
        (Symbol::Open, _) => return Err("`{` stands inside a field"),
        (Symbol::Close, _) | (Symbol::Plain(_), None) => return Err("`}` closes nothing"),
    }
    Ok(())
}

const NAMELESS: &str = "a field's name is empty";

fn finished(path: Vec<Vec<u8>>) -> Result<Piece, &'static str> {
    if path.last().is_none_or(Vec::is_empty) {
        Err(NAMELESS)
    } else {
        Ok(Piece::Field(path))
    }
}

/// A place in a record. Every step moves on or gives up, so a scan takes time linear in the record.
struct Scan<'a> {
    json: &'a [u8],
    place: usize,
}

impl Scan<'_> {
    /// Appends the scalar at `path` as key text.
    fn field(mut self, path: &[Vec<u8>], out: &mut Vec<u8>) -> Option<()> {
        for name in path {
            self.enter(name, out)?;
        }
        let start = self.place;
        match self.peek()? {
            b'"' => {
                let text = self.string()?;
                unescape(&self.json[text], out)
            }
            b'{' | b'[' => None,
            _ => {
                self.skip_literal();
                let literal = &self.json[start..self.place];
                if literal == b"true" || literal == b"false" || is_number(literal) {
                    out.extend_from_slice(literal);
                    Some(())
                } else {
                    None
                }
            }
        }
    }

    /// From before an object to before the value of its first field called `name`.
    fn enter(&mut self, name: &[u8], scratch: &mut Vec<u8>) -> Option<()> {
        self.skip_space();
        self.expect(b'{')?;
        loop {
            self.skip_space();
            let found = self.string()?;
            let matches = is_name(&self.json[found], name, scratch)?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            if matches {
                return Some(());
            }
            self.skip_value()?;
            self.skip_space();
            // A closing brace means that there is no such field.
            self.expect(b',')?;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.place).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        if self.peek()? == byte {
            self.place += 1;
            Some(())
        } else {
            None
        }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.place += 1;
        }
    }

    /// The inside of the string that begins here, still escaped; moves behind it.
    fn string(&mut self) -> Option<Range<usize>> {
        self.expect(b'"')?;
        let start = self.place;
        loop {
            self.place += memchr::memchr2(b'"', b'\\', &self.json[self.place..])?;
            if self.json[self.place] == b'"' {
                self.place += 1;
                return Some(start..self.place - 1);
            }
            // The escaped character may be a quote; it must exist.
            self.place += 2;
            if self.place > self.json.len() {
                return None;
            }
        }
    }

    /// Moves behind any value: brackets are counted, not matched by kind.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.place += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.place += 1;
                }
                _ if depth > 0 => self.place += 1,
                _ => {
                    let start = self.place;
                    self.skip_literal();
                    if self.place == start {
                        return None;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Moves behind a number, `true`, `false`, `null`, or whatever stands in their place.
    fn skip_literal(&mut self) {
        while let Some(byte) = self.peek() {
            if matches!(
                byte,
                b',' | b'}' | b']' | b':' | b'"' | b' ' | b'\t' | b'\n' | b'\r'
            ) {
                break;
            }
            self.place += 1;
        }
    }
}

fn is_name(found: &[u8], name: &[u8], scratch: &mut Vec<u8>) -> Option<bool> {
    if memchr::memchr(b'\\', found).is_none() {
        return Some(found == name);
    }
    let start = scratch.len();
    unescape(found, scratch)?;
    let same = scratch[start..] == *name;
    scratch.truncate(start);
    Some(same)
}

/// Appends the text of a JSON string's inside. `None` for what RFC 8259 forbids, and for half
/// surrogate pairs.
fn unescape(mut inside: &[u8], out: &mut Vec<u8>) -> Option<()> {
    loop {
        let plain = memchr::memchr(b'\\', inside).unwrap_or(inside.len());
        if inside[..plain].iter().any(|&byte| byte < 0x20) {
            return None;
        }
        out.extend_from_slice(&inside[..plain]);
        let Some((&escape, rest)) = inside[plain..].get(1..).and_then(<[u8]>::split_first) else {
            return if plain == inside.len() {
                Some(())
            } else {
                None
            };
        };
        inside = rest;
        out.push(match escape {
            b'"' | b'\\' | b'/' => escape,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (character, length) = unicode_escape(inside)?;
                inside = &inside[length..];
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        });
    }
}

/// The character of the four hexadecimal digits after `\u`, or of two such escapes, and the bytes
/// it took.
fn unicode_escape(digits: &[u8]) -> Option<(char, usize)> {
    let first = hex4(digits)?;
    if !(0xD800..0xE000).contains(&first) {
        return Some((char::from_u32(first)?, 4));
    }
    let second = hex4(digits[4..].strip_prefix(b"\\u")?)?;
    if first < 0xDC00 && (0xDC00..0xE000).contains(&second) {
        let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        Some((char::from_u32(code)?, 10))
    } else {
        None
    }
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.get(..4)?.iter().try_fold(0, |value, &digit| {
        Some(value << 4 | char::from(digit).to_digit(16)?)
    })
}

/// The grammar of RFC 8259, section 6.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', unsigned @ ..] => unsigned,
            unsigned => unsigned,
        };
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests;
