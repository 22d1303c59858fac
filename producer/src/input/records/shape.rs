//! Judges lines by their ends: blank, a record by itself, or a part of a document over several lines.
//!
//! Refuses to parse: nothing here reads JSON.

use std::ops::Range;

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// NUL is what a file has where a writer continued behind a truncation, and 0x1E separates records (RFC 7464).
pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0 | 0x1E)
}

/// Whether these are the first bytes of a byte order mark whose rest has not come.
pub(super) fn is_mark_begun(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(bytes)
}

pub(super) fn trim_start(bytes: &[u8], mut range: Range<usize>) -> Range<usize> {
    loop {
        let rest = &bytes[range.clone()];
        match rest.first() {
            Some(byte) if is_blank(*byte) => range.start += 1,
            Some(0xEF) if rest.starts_with(BYTE_ORDER_MARK) => range.start += BYTE_ORDER_MARK.len(),
            _ => return range,
        }
    }
}

/// Without blank space and byte order marks around it.
pub(super) fn trim(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let mut range = trim_start(bytes, range);
    while !range.is_empty() && is_blank(bytes[range.end - 1]) {
        range.end -= 1;
    }
    range
}

/// Whether the line is one object as far as its ends show.
pub(super) fn is_framed(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.first() == Some(&b'{') && line.last() == Some(&b'}')
}

/// Whether the bytes behind a `}` begin another object, so that the line may hold several.
pub(super) fn another_follows(behind: &[u8]) -> bool {
    for &byte in behind {
        match byte {
            b'{' => return true,
            b'\n' => return false,
            _ if is_blank(byte) => {}
            _ => return false,
        }
    }
    false
}

/// Whether a whole line is a record without a closer look.
pub(super) fn is_record(line: &[u8]) -> bool {
    is_framed(line) && memchr::memchr_iter(b'}', line).all(|end| !another_follows(&line[end + 1..]))
}

/// Where the first line that is a record by itself begins, behind the line that ends at `end`. A document of several
/// lines has commas between its records, unless they are the last ones.
pub(super) fn record_behind(bytes: &[u8], mut end: usize) -> Option<usize> {
    loop {
        let start = end + 1;
        let rest = bytes.get(start..)?;
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        if is_record(&rest[..length]) {
            return Some(start);
        }
        end = start + length;
    }
}

/// Whether a line ends as that of a document that continues in the next line does.
pub(super) fn is_opened(line: &[u8]) -> bool {
    let last = line.iter().rev().find(|byte| !is_blank(**byte));
    matches!(last, Some(b'{' | b'[' | b',' | b':'))
}

/// How many brackets a text opens more than it closes, and whether it is one value; `None` where it ends in a string.
fn balance(text: &[u8]) -> Option<(i64, bool)> {
    let (mut depth, mut at, mut in_string) = (0_i64, 0, false);
    let mut is_one = matches!(text.first(), Some(b'{' | b'['));
    while let Some(&byte) = text.get(at) {
        is_one &= depth > 0 || at == 0;
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    (!in_string).then_some((depth, is_one && depth == 0))
}

/// How far the text of a line that ends in it is moved in: the spaces and tabs right before it.
pub(super) fn indent(blank: &[u8]) -> usize {
    let space = |byte: &&u8| matches!(**byte, b' ' | b'\t');
    blank.iter().rev().take_while(space).count()
}

/// One line, by its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineShape {
    /// Where its text begins.
    pub(super) start: usize,
    /// How far that is moved in.
    pub(super) indent: usize,
    pub(super) first: u8,
    /// It ends within a list or an object: with a comma, a colon or an opening bracket.
    pub(super) is_opened: bool,
    /// It is a whole value and a comma behind it, as far as its ends show.
    pub(super) is_element: bool,
    /// It closes brackets that it does not open.
    pub(super) closes: bool,
    pub(super) is_record: bool,
    /// It is a closing bracket and nothing else.
    pub(super) is_close: bool,
}

impl LineShape {
    /// `None` of a blank line.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        let text = trim(line, 0..line.len());
        let first = *line[text.clone()].first()?;
        let value = line[text.clone()].strip_suffix(b",");
        let value = value.map(|value| &value[trim(value, 0..value.len())]);
        let closed = matches!(line[text.clone()].last(), Some(b'}' | b']'));
        let (depth, is_one) =
            balance(value.unwrap_or(&line[text.clone()])).unwrap_or((-i64::from(closed), false));
        Some(LineShape {
            start: text.start,
            indent: indent(&line[..text.start]),
            first,
            is_opened: is_opened(&line[text.clone()]),
            is_element: value.is_some() && is_one,
            closes: depth < 0,
            is_close: text.len() == 1 && matches!(first, b'}' | b']'),
            is_record: is_record(&line[text]),
        })
    }

    /// Whether it begins with the bracket of an object or a list.
    pub(super) const fn begins(&self) -> bool {
        matches!(self.first, b'{' | b'[')
    }

    /// Whether it looks like a line within a document whose own bracket is moved in by `margin`; with `commas`, values
    /// beside that document have commas behind them, too.
    pub(super) const fn is_inner(&self, margin: usize, commas: bool) -> bool {
        match self.first {
            b'}' | b']' | b'"' | b',' => true,
            b'{' | b'[' => self.indent > margin || (self.is_element && !commas),
            _ => false,
        }
    }
}

/// What is known of a document that is damaged, while the next value is looked for line by line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wreck {
    /// How far its own bracket is moved in.
    pub(super) margin: usize,
    /// The bracket that would have closed it.
    pub(super) close: u8,
    /// It is damaged: nothing is wrong with one over several lines until its inside continues behind it.
    pub(super) is_sure: bool,
    /// Lines of it are not moved in further than it.
    pub(super) is_flat: bool,
    /// The line before ended within a list or an object.
    pub(super) was_opened: bool,
    /// The line before closed something, and no comma followed.
    pub(super) was_closed: bool,
    /// How many lines before, one behind the other, were records by themselves.
    pub(super) records: u8,
}

/// Records by themselves, one behind the other, that are too many for a document that lacks a comma.
const RECORDS: u8 = 2;

impl Wreck {
    pub(super) const fn new(margin: usize, first: u8) -> Self {
        Wreck {
            margin,
            close: if first == b'[' { b']' } else { b'}' },
            is_sure: true,
            is_flat: false,
            was_opened: true,
            was_closed: false,
            records: 0,
        }
    }

    /// Behind a document over several lines, which may have ended too early.
    pub(super) const fn behind(margin: usize) -> Self {
        Wreck {
            is_sure: false,
            was_opened: false,
            ..Wreck::new(margin, b'{')
        }
    }

    /// Takes the next line, which is a part of the document; answers where in it something else begins, if it does.
    pub(super) fn ends_in(&mut self, line: &[u8], in_array: bool, commas: bool) -> Option<usize> {
        let shape = LineShape::of(line)?;
        if shape.indent <= self.margin {
            if shape.first == b']' && in_array && !self.is_flat {
                return Some(shape.start);
            }
            if shape.first == self.close && !self.is_flat && (in_array || shape.is_close) {
                return Some(shape.start + 1);
            }
            let is_value = commas || in_array || !shape.is_element;
            let follows = is_value && (self.was_closed || self.records >= RECORDS);
            if self.is_like(&shape) && !self.is_flat || shape.begins() && follows {
                return Some(shape.start);
            }
        }
        self.pass(&shape);
        None
    }

    /// Whether a line begins as the document did, or with an object.
    pub(super) const fn is_like(&self, shape: &LineShape) -> bool {
        matches!((shape.first, self.close), (b'{', _) | (b'[', b']'))
    }

    /// Takes note of a line of the document.
    pub(super) fn pass(&mut self, shape: &LineShape) {
        let at_margin = shape.indent <= self.margin;
        self.is_flat |= at_margin && (shape.is_element || !(shape.begins() || shape.is_close));
        self.was_opened = shape.is_opened;
        self.was_closed = shape.closes && !shape.is_opened;
        self.records = if at_margin && shape.is_record {
            self.records.saturating_add(1)
        } else {
            0
        };
    }
}
