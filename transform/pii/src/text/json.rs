//! A strict JSON walker over raw bytes: it yields every scalar and key with its place.
//!
//! Promises: no recursion (the stack of containers is a vector of bits bounded by the depth
//! limit), no allocation once that vector has grown, time linear in the bytes, and an error for
//! everything that RFC 8259 does not allow: truncation, a byte after the value, control
//! characters in strings, `NaN`, leading zeros. A `\u` escape that is half of a surrogate pair is
//! refused too, because no UTF-8 text stands for it. Duplicate keys are legal, and each is
//! yielded.
//! The input must be valid UTF-8; the caller checks that once for the whole record.
//! Refuses to decode: spans point into the bytes as written.

use std::ops::Range;

use hydrant_json::{self as lexer, FaultKind, JsonFault};

use crate::text::byte_classes::{self, Classes, DIGIT, ESCAPE, QUOTE, STOP, TABLE};
use crate::verdict::QuarantineReason;

impl From<JsonFault> for QuarantineReason {
    #[cold]
    fn from(fault: JsonFault) -> Self {
        match fault.kind {
            FaultKind::LONE_SURROGATE => Self::LoneSurrogate,
            _ => Self::Malformed,
        }
    }
}

/// A span of the text with the classes of its bytes. Of strings and keys: without the quotes. Keys
/// have classes only if they have escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) classes: Classes,
}

impl Token {
    /// The span `range` of `text`.
    pub(crate) fn of(text: &[u8], range: Range<usize>) -> Self {
        let Range { start, end } = range;
        Token::new(start, end, byte_classes::of(&text[start..end]))
    }

    fn new(start: usize, end: usize, classes: Classes) -> Self {
        Token {
            start,
            end,
            classes,
        }
    }
}

/// What the walker met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonEvent {
    /// An object opens at this offset.
    Object(usize),
    /// An array opens at this offset.
    Array(usize),
    /// The innermost container ended; the offset lies behind its bracket.
    End(usize),
    Key(Token),
    Text(Token),
    Number(Token),
    /// `true`, `false` or `null`.
    Literal(Token),
    /// The text ended after exactly one value.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    FirstElement,
    FirstKey,
    NextKey,
    Separator,
}

/// The walker: one pass over `bytes`.
pub(crate) struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
    expect: Expect,
    /// One entry per open container: whether it is an object. The next walk may use it again.
    pub(crate) open: Vec<bool>,
    depth_max: usize,
    /// The offset of the comma in front of the present key or element, if there is one.
    pub(crate) comma_before: Option<usize>,
    /// Whether the value may be cut off, and other text may follow it.
    lenient: bool,
    /// The offset behind the last event.
    pub(crate) event_end: usize,
}

impl<'a> Walker<'a> {
    /// Walks `bytes`, which must be UTF-8, reusing `open` as its stack.
    pub(crate) fn new(bytes: &'a [u8], depth_max: usize, mut open: Vec<bool>) -> Self {
        open.clear();
        Self {
            bytes,
            at: 0,
            expect: Expect::Value,
            open,
            depth_max,
            comma_before: None,
            lenient: false,
            event_end: 0,
        }
    }

    /// Walks the value that starts at `at`, and stops behind it. A string that is cut off counts
    /// as a string, and a number only if something of JSON follows it.
    pub(crate) fn within(bytes: &'a [u8], at: usize, depth_max: usize, open: Vec<bool>) -> Self {
        Self {
            at,
            lenient: true,
            event_end: at,
            ..Self::new(bytes, depth_max, open)
        }
    }

    /// The offset behind the comma that follows the value that was just yielded, if there is one.
    pub(crate) fn comma_after(&self) -> Option<usize> {
        let at = lexer::skip_space(self.bytes, self.at);
        (self.bytes.get(at) == Some(&b',')).then_some(at + 1)
    }

    /// The next event. This and what makes events is inlined: an event that is returned through
    /// memory is written in parts and read as a whole, which stalls the processor at each token.
    #[inline(always)]
    pub(crate) fn advance(&mut self) -> Result<JsonEvent, QuarantineReason> {
        let event = self.step()?;
        debug_assert!(self.open.len() <= self.depth_max && self.at <= self.bytes.len());
        if event != JsonEvent::Done {
            self.event_end = self.at;
        }
        Ok(event)
    }

    #[inline(always)]
    fn step(&mut self) -> Result<JsonEvent, QuarantineReason> {
        self.at = lexer::skip_space(self.bytes, self.at);
        if self.expect == Expect::Separator {
            let Some(&object) = self.open.last() else {
                return if self.lenient || self.at == self.bytes.len() {
                    Ok(JsonEvent::Done)
                } else {
                    Err(QuarantineReason::Malformed)
                };
            };
            match self.bytes.get(self.at) {
                Some(b',') => {
                    self.comma_before = Some(self.at);
                    self.at = lexer::skip_space(self.bytes, self.at + 1);
                    self.expect = if object {
                        Expect::NextKey
                    } else {
                        Expect::Value
                    };
                }
                Some(b'}') if object => return Ok(self.close()),
                Some(b']') if !object => return Ok(self.close()),
                _ => return Err(QuarantineReason::Malformed),
            }
        }
        match (self.expect, self.bytes.get(self.at)) {
            (Expect::FirstKey, Some(b'}')) | (Expect::FirstElement, Some(b']')) => Ok(self.close()),
            (Expect::FirstKey | Expect::NextKey, Some(b'"')) => {
                let key = self.name()?;
                self.at = lexer::skip_space(self.bytes, self.at);
                if self.bytes.get(self.at) != Some(&b':') {
                    return Err(QuarantineReason::Malformed);
                }
                self.at += 1;
                self.expect = Expect::Value;
                Ok(JsonEvent::Key(key))
            }
            (Expect::Value | Expect::FirstElement, Some(&byte)) => self.value(byte),
            _ => Err(QuarantineReason::Malformed),
        }
    }

    fn close(&mut self) -> JsonEvent {
        self.open.pop();
        self.at += 1;
        self.expect = Expect::Separator;
        JsonEvent::End(self.at)
    }

    fn open(&mut self, object: bool) -> Result<usize, QuarantineReason> {
        if self.open.len() >= self.depth_max {
            return Err(QuarantineReason::TooDeep);
        }
        self.open.push(object);
        self.comma_before = None;
        self.expect = if object {
            Expect::FirstKey
        } else {
            Expect::FirstElement
        };
        self.at += 1;
        Ok(self.at - 1)
    }

    #[inline(always)]
    fn value(&mut self, byte: u8) -> Result<JsonEvent, QuarantineReason> {
        match byte {
            b'{' => self.open(true).map(JsonEvent::Object),
            b'[' => self.open(false).map(JsonEvent::Array),
            b'"' => {
                let text = self.string()?;
                self.expect = Expect::Separator;
                Ok(JsonEvent::Text(text))
            }
            b'-' | b'0'..=b'9' => self.number(),
            b't' | b'f' | b'n' => self.literal(),
            _ => Err(QuarantineReason::Malformed),
        }
    }

    #[inline(always)]
    fn literal(&mut self) -> Result<JsonEvent, QuarantineReason> {
        let start = self.at;
        (_, self.at) = lexer::word(self.bytes, start)?;
        self.expect = Expect::Separator;
        Ok(JsonEvent::Literal(Token::new(start, self.at, 0)))
    }

    #[inline(always)]
    fn number(&mut self) -> Result<JsonEvent, QuarantineReason> {
        let start = self.at;
        let at = lexer::number(self.bytes, start)?.end;
        if self.lenient {
            let next = self.bytes.get(lexer::skip_space(self.bytes, at));
            if !matches!(next, None | Some(b',' | b']' | b'}')) {
                return Err(QuarantineReason::Malformed);
            }
        }
        self.at = at;
        self.expect = Expect::Separator;
        Ok(JsonEvent::Number(Token::new(start, at, DIGIT)))
    }

    /// Reads a key like [`Self::string`], eight bytes at once. Only one with escapes gets classes:
    /// most keys are known, and need none.
    fn name(&mut self) -> Result<Token, QuarantineReason> {
        let start = self.at + 1;
        if let Some(end) = lexer::special(self.bytes, start)
            && self.bytes[end] == b'"'
        {
            self.at = end + 1;
            return Ok(Token::new(start, end, 0));
        }
        self.string()
    }

    /// Reads the string whose opening quote lies at the present offset.
    #[inline(always)]
    fn string(&mut self) -> Result<Token, QuarantineReason> {
        let start = self.at + 1;
        let mut at = start;
        let mut classes = 0;
        loop {
            let mut stop = 0;
            for &byte in &self.bytes[at..] {
                let class = TABLE[usize::from(byte)];
                if class & STOP != 0 {
                    stop = class;
                    break;
                }
                classes |= class;
                at += 1;
            }
            if stop & ESCAPE != 0 {
                classes |= ESCAPE;
                at = lexer::escape(self.bytes, at)?.1;
                continue;
            }
            let cut_off = stop == 0 && self.lenient;
            if stop & QUOTE == 0 && !cut_off {
                return Err(QuarantineReason::Malformed);
            }
            self.at = at + usize::from(!cut_off);
            return Ok(Token::new(start, at, classes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(text: &str) -> Result<Vec<String>, QuarantineReason> {
        let mut walker = Walker::new(text.as_bytes(), 64, Vec::new());
        let mut events = Vec::new();
        loop {
            let show =
                |kind: &str, token: Token| format!("{kind}{}", &text[token.start..token.end]);
            events.push(match walker.advance()? {
                JsonEvent::Done => return Ok(events),
                JsonEvent::Object(_) => "{".into(),
                JsonEvent::Array(_) => "[".into(),
                JsonEvent::End(_) => "^".into(),
                JsonEvent::Key(token) => show("k:", token),
                JsonEvent::Text(token) => show("s:", token),
                JsonEvent::Number(token) => show("n:", token),
                JsonEvent::Literal(token) => show("l:", token),
            });
        }
    }

    #[test]
    fn every_scalar_and_key_is_yielded_also_duplicates() {
        assert_eq!(
            walk(r#" {"a":[1,-2.5e+3,true],"a":{"b":"x\"y"},"c":{},"d":[]} "#)
                .unwrap()
                .join(" "),
            r#"{ k:a [ n:1 n:-2.5e+3 l:true ^ k:a { k:b s:x\"y ^ k:c { ^ k:d [ ^ ^"#
        );
        assert_eq!(walk("\"x\"").unwrap(), ["s:x"]);
    }

    #[test]
    fn keys_end_where_strings_do() {
        for length in 0..20 {
            let key = "k".repeat(length);
            assert_eq!(
                walk(&format!("{{\"{key}\":1}}")).unwrap()[1],
                format!("k:{key}")
            );
            for (end, ok) in [
                ("\\n", true),
                ("\\\"x", true),
                ("é", true),
                ("\n", false),
                ("\u{1f}", false),
                ("\x7f", true),
            ] {
                let text = format!("{{\"{key}{end}{key}\":1}}");
                let walked = walk(&text);
                assert_eq!(walked.is_ok(), ok, "{text:?}");
                assert!(!ok || walked.unwrap()[1] == format!("k:{key}{end}{key}"));
            }
        }
        assert!(walk("{\"k").is_err());
    }

    #[test]
    fn what_rfc_8259_does_not_allow_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "[1}",
            "{\"a\":1]",
            "1 2",
            "{}x",
            "NaN",
            "-",
            "-NaN",
            "Infinity",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "tru",
            "nulll",
            "\"",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12G4\"",
            "\"a\nb\"",
            "'a'",
            "[1 2]",
            "{\"a\" 1}",
            "\"\\",
            "\u{feff}{}",
        ] {
            assert_eq!(walk(text), Err(QuarantineReason::Malformed), "{text:?}");
        }
    }

    #[test]
    fn half_of_a_surrogate_pair_is_refused_and_a_pair_is_not() {
        for text in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83dx""#,
            r#""\ud83d\u0041""#,
        ] {
            assert_eq!(walk(text), Err(QuarantineReason::LoneSurrogate), "{text}");
        }
        assert!(walk(r#""\ud83d\ude00""#).is_ok());
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        assert_eq!(walk(&"[".repeat(100_000)), Err(QuarantineReason::TooDeep));
        let fits = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert!(walk(&fits).is_ok());
    }
}
