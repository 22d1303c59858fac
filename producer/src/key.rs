//! Extracts partition keys from JSON records, without building a tree.
//!
//! Owns the language of `--key`: `a.b` is the field `b` of the object `a`; `{a}-{b.c}` joins fields
//! and text; a backslash takes the meaning from `.`, `{`, `}` and itself. A key is read in one pass
//! per field that stops at the field: of fields with the same name the first counts, and what
//! follows it is not looked at, so that a record cut short behind its key keeps it. What is read is
//! read with the lexer of every other stage: a key never comes out of a text that they would read
//! otherwise. Memory does not depend on how deep a record nests.
//!
//! Refuses: guessing. Without every field, as string, number or boolean, a record has no key, and
//! neither has one that is damaged before it.

use std::ops::Range;

use hydrant_core::Error;
use hydrant_core::workers::contain;
use hydrant_json as json;
use json::{JsonString, Word};

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

impl From<KeyTemplateError> for Error {
    fn from(error: KeyTemplateError) -> Self {
        Error::refused(error.to_string())
    }
}

/// How to make a partition key of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTemplate {
    text: String,
    pieces: Vec<TemplatePiece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TemplatePiece {
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
            parser.field(None).map(|field| vec![field])
        };
        match parsed {
            Ok(pieces) => Ok(Self {
                text: template.to_owned(),
                pieces,
            }),
            Err(reason) => refuse(parser.place, reason),
        }
    }

    /// The template as the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As [`KeyTemplate::extract`], and a panic costs this record alone: nothing is appended then.
    ///
    /// # Errors
    /// It panicked.
    pub fn try_extract(
        &self,
        json: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<RecordKey>, Panicked> {
        let start = out.len();
        contain(|| self.extract(json, out)).ok_or_else(|| {
            out.truncate(start);
            Panicked
        })
    }

    /// Finds the key of the record `json`; one that does not stand there as it is gets appended to `out`. `None`, and
    /// nothing appended, when a field is missing, null, an object or a list, when the record is damaged before it, or
    /// when the key is empty.
    pub fn extract(&self, json: &[u8], out: &mut Vec<u8>) -> Option<RecordKey> {
        #[cfg(test)]
        tests::panic_if_asked(json, out);
        if let [TemplatePiece::Field(path)] = &self.pieces[..] {
            let scalar = KeyScan { json, place: 0 }.field(path, out)?;
            if scalar.text.plain {
                let key = scalar.text.start..scalar.text.end;
                return (!key.is_empty() && is_text(&json[..scalar.end]))
                    .then_some(RecordKey::Record(key));
            }
        }
        let start = out.len();
        let read = self.append(json, out);
        if read.is_some_and(|read| is_text(&json[..read])) && out.len() > start {
            Some(RecordKey::Made(start..out.len()))
        } else {
            out.truncate(start);
            None
        }
    }

    /// Appends text and fields; answers how much of the record was read.
    fn append(&self, json: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        self.pieces.iter().try_fold(0, |read, piece| match piece {
            TemplatePiece::Text(text) => {
                out.extend_from_slice(text);
                Some(read)
            }
            TemplatePiece::Field(path) => {
                let KeyScalar { text, end } = KeyScan { json, place: 0 }.field(path, out)?;
                if text.plain {
                    out.extend_from_slice(&json[text.start..text.end]);
                } else {
                    json::unescape(json, text, out).ok()?;
                }
                Some(read.max(end))
            }
        })
    }
}

/// Where a record's key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKey {
    /// In the record, as it is.
    Record(Range<usize>),
    /// In the buffer to which it was appended.
    Made(Range<usize>),
}

impl RecordKey {
    /// The key's bytes; `out` is the buffer to which it was appended.
    #[must_use]
    pub fn bytes<'a>(&self, json: &'a [u8], out: &'a [u8]) -> &'a [u8] {
        match self {
            RecordKey::Record(range) => &json[range.clone()],
            RecordKey::Made(range) => &out[range.clone()],
        }
    }
}

/// Whether these are UTF-8; most are ASCII, which is checked faster.
fn is_text(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}

/// Finding a record's key panicked: a fault of hydrant, not of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

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
        let mut ahead = Parser { ..*self };
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
                _ => return Err("a backslash must precede `.`, `{`, `}` or a backslash"),
            },
            byte => Symbol::Plain(byte),
        };
        self.place += 1;
        Ok(Some(symbol))
    }

    fn template(&mut self) -> Result<Vec<TemplatePiece>, &'static str> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut fields = 0;
        while let Some(symbol) = self.next()? {
            match symbol {
                Symbol::Open => {
                    if !text.is_empty() {
                        pieces.push(TemplatePiece::Text(std::mem::take(&mut text)));
                    }
                    fields += 1;
                    if fields > FIELDS_MAX {
                        return Err("it has more than 16 fields");
                    }
                    pieces.push(self.field(Some(Symbol::Close))?);
                }
                Symbol::Close => return Err("`}` has no `{` before it"),
                Symbol::Dot => text.push(b'.'),
                Symbol::Plain(byte) => text.push(byte),
            }
        }
        if !text.is_empty() {
            pieces.push(TemplatePiece::Text(text));
        }
        Ok(pieces)
    }

    /// A field up to `end`, which is a brace or the end of the template.
    fn field(&mut self, end: Option<Symbol>) -> Result<TemplatePiece, &'static str> {
        let mut path = vec![Vec::new()];
        loop {
            match self.next()? {
                symbol if symbol == end => break,
                Some(symbol) => extend_path(&mut path, symbol)?,
                None => return Err("`{` is not closed"),
            }
        }
        if path.last().is_none_or(Vec::is_empty) {
            return Err(NAMELESS);
        }
        Ok(TemplatePiece::Field(path))
    }
}

fn extend_path(path: &mut Vec<Vec<u8>>, symbol: Symbol) -> Result<(), &'static str> {
    match (symbol, path.last_mut()) {
        (Symbol::Plain(byte), Some(name)) => name.push(byte),
        (Symbol::Dot, Some(name)) if !name.is_empty() => path.push(Vec::new()),
        (Symbol::Dot, _) => return Err(NAMELESS),
        (Symbol::Open, _) => return Err("`{` stands inside a field"),
        (Symbol::Close, _) | (Symbol::Plain(_), None) => return Err("`}` has no `{` before it"),
    }
    Ok(())
}

const NAMELESS: &str = "a field's name is empty";

/// A place in a record. Every step moves on or gives up, so a scan takes time linear in the record.
struct KeyScan<'a> {
    json: &'a [u8],
    place: usize,
}

/// A string, number or boolean, and the place behind it.
struct KeyScalar {
    text: JsonString,
    end: usize,
}

impl KeyScan<'_> {
    /// Finds the scalar at `path`. Names with escapes are decoded behind `scratch`, which is left as it was.
    fn field(mut self, path: &[Vec<u8>], scratch: &mut Vec<u8>) -> Option<KeyScalar> {
        for name in path {
            self.enter(name, scratch)?;
        }
        let start = self.place;
        let end = match self.peek()? {
            b'"' => {
                let text = json::string(self.json, start).ok()?;
                let end = text.end + 1;
                return Some(KeyScalar { text, end });
            }
            b'-' | b'0'..=b'9' => json::number(self.json, start).ok()?.end,
            _ => match json::word(self.json, start).ok()? {
                (Word::Null, _) => return None,
                (_, end) => end,
            },
        };
        // Where a record is cut short, more digits may have followed.
        if !matches!(
            self.json.get(end)?,
            b',' | b'}' | b' ' | b'\t' | b'\n' | b'\r'
        ) {
            return None;
        }
        let plain = true;
        let text = JsonString { start, end, plain };
        Some(KeyScalar { text, end })
    }

    /// From before an object to before the value of its first field called `name`.
    fn enter(&mut self, name: &[u8], scratch: &mut Vec<u8>) -> Option<()> {
        self.skip_space();
        self.expect(b'{')?;
        loop {
            self.skip_space();
            if self.peek()? != b'"' {
                return None;
            }
            let found = json::string(self.json, self.place).ok()?;
            self.place = found.end + 1;
            let matches = self.is_name(found, name, scratch)?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            if matches {
                return Some(());
            }
            self.place = json::value(self.json, self.place).ok()?;
            self.skip_space();
            // A closing brace means that the field does not exist.
            self.expect(b',')?;
        }
    }

    fn is_name(&self, found: JsonString, name: &[u8], scratch: &mut Vec<u8>) -> Option<bool> {
        if found.plain {
            return Some(self.json[found.start..found.end] == *name);
        }
        let start = scratch.len();
        json::unescape(self.json, found, scratch).ok()?;
        let same = scratch[start..] == *name;
        scratch.truncate(start);
        Some(same)
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
        self.place = json::skip_space(self.json, self.place);
    }
}

#[cfg(test)]
mod tests;
