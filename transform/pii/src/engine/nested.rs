//! JSON inside of strings: whole or cut off, with other text around it, and with escapes that no
//! string around it undoes, also if only some of its quotes have them.

use std::ops::Range;

use super::{Engine, QuarantineReason, Scalar};
use crate::text::byte_classes::{Classes, ESCAPE};
use crate::text::fold::{FoldReading, Notation};
use crate::text::json::{JsonEvent, Token, Walker};
use crate::trail::{Member, PointerSegment};
use crate::verdict::Stop;

/// Places in a text at which JSON of which only some quotes are escaped is looked for without success.
const MIXED_TRIES_MAX: usize = 4;

impl Engine {
    /// Scans the JSON that a text holds as JSON, also where it is cut off, and what stands around
    /// it as text. Returns whether the member is to be removed, or nothing without JSON.
    pub(super) fn nested(
        &mut self,
        scalar: Scalar<'_>,
        writing: Notation,
        member: &Member,
    ) -> Result<Option<bool>, Stop> {
        let Token { start, end, .. } = scalar.token;
        let written = &scalar.bytes[start..end];
        let level = scalar.level + 1;
        let limits = self.policy.limits();
        if level > limits.nested_json {
            let mut shadow = std::mem::take(&mut self.shadow);
            shadow.cast(written, 0, writing, FoldReading::Exact);
            let holds = holds_json(&shadow.text, limits.depth);
            self.shadow = shadow;
            return if holds {
                Err(Stop::Quarantine(QuarantineReason::NestedTooDeep))
            } else {
                Ok(None)
            };
        }
        let shadow = &mut self.levels[level];
        shadow.cast(written, start, writing, FoldReading::Exact);
        let text = std::mem::take(&mut shadow.text);
        let scanned = self.parts(&text, scalar, writing, member);
        self.levels[level].text = text;
        scanned
    }

    /// Scans what JSON there is in `text`, and the parts between.
    fn parts(
        &mut self,
        text: &[u8],
        scalar: Scalar<'_>,
        writing: Notation,
        member: &Member,
    ) -> Result<Option<bool>, Stop> {
        let level = scalar.level + 1;
        let (mut covered, mut from) = (0, 0);
        let mut gone = false;
        let between = |engine: &mut Self, part: Range<usize>| {
            if part.is_empty() {
                return Ok(false);
            }
            let written = engine.levels[level].map.source(part);
            let part = Scalar {
                token: Token::of(scalar.bytes, written),
                part: true,
                ..scalar
            };
            engine.plain(part, writing, member)
        };
        let last_escaped = memchr::memmem::rfind(text, b"\\\"").unwrap_or(0);
        let mut tries = MIXED_TRIES_MAX;
        while let Some(at) = opening(text, from) {
            let mut escaped = escaped_end(text, at);
            let open = escaped.and_then(|end| unclosed(text, at..end));
            // What opens and does not close before a quote without a backslash is read by itself.
            if let (Some(end), Some(later)) = (&mut escaped, open)
                && later > at
                && *end < text.len()
                && tries > 0
            {
                tries -= 1;
                *end = later;
            }
            let whole = match escaped {
                Some(end) => end == text.len() || open != Some(at),
                None => at >= last_escaped || is_json(text, at, self.policy.limits().depth),
            };
            let mut read = None;
            if !whole && tries > 0 {
                match self.mixed_end(text, at) {
                    Some(end) => read = self.escaped(text, at..end, scalar, member)?,
                    None => tries -= 1,
                }
            }
            if let (None, Some(end)) = (read, escaped) {
                read = self.escaped(text, at..end, scalar, member)?;
                from = end;
            } else if read.is_none() {
                let end = self.inside(text, at, scalar.bytes, level, member)?;
                from = end.max(at + 1);
                // Brackets alone are none of JSON: a colour of a terminal starts with one.
                let bracket = |byte: &u8| matches!(byte, b'[' | b'{') || byte.is_ascii_whitespace();
                read = (!text[at..end].iter().all(bracket)).then_some((false, end));
            }
            if let Some((inner, end)) = read {
                gone |= inner | between(self, covered..at)?;
                covered = end;
                from = from.max(end);
            }
        }
        if covered == 0 {
            return Ok(None);
        }
        gone |= between(self, covered..text.len())?;
        Ok(Some(gone))
    }

    /// Where JSON that opens at `at` ends if backslashes before its quotes mean nothing.
    fn mixed_end(&mut self, text: &[u8], at: usize) -> Option<usize> {
        let end = closing(text, at)?;
        let mut shadow = std::mem::take(&mut self.shadow);
        shadow.cast(&text[at..end], at, Notation::Escaped, FoldReading::Exact);
        let whole = is_json(&shadow.text, 0, self.policy.limits().depth);
        self.shadow = shadow;
        whole.then_some(end)
    }

    /// Scans `part` of a text as JSON whose quotes are escaped. Returns whether the member is to be
    /// removed, and where the part ends, or nothing without JSON.
    fn escaped(
        &mut self,
        text: &[u8],
        part: Range<usize>,
        around: Scalar<'_>,
        member: &Member,
    ) -> Result<Option<(bool, usize)>, Stop> {
        let end = part.end;
        let part = Scalar {
            bytes: text,
            level: around.level + 1,
            token: Token::of(text, part),
            kind: around.kind,
            part: true,
        };
        let segment = self.trail.lasting(member.segment, around.bytes);
        let member = Member { segment, ..*member };
        let read = self.nested(part, Notation::Escaped, &member)?;
        Ok(read.map(|gone| (gone, end)))
    }

    /// Walks the JSON at `at`, and returns where it ends or stops to be JSON.
    fn inside(
        &mut self,
        text: &[u8],
        at: usize,
        around: &[u8],
        level: usize,
        member: &Member,
    ) -> Result<usize, Stop> {
        let mark = self.trail.mark();
        let floor = self.trail.frames.len();
        self.trail.enter(member.segment, around);
        let root = Member {
            segment: PointerSegment::Root,
            ..*member
        };
        let stack = std::mem::take(&mut self.stacks[level]);
        let mut walker = Walker::within(text, at, self.policy.limits().depth, stack);
        let walked = self.events(&mut walker, text, level, root);
        let mut end = walker.event_end;
        self.stacks[level] = walker.open;
        if let Err(Stop::Quarantine(QuarantineReason::Malformed)) = walked {
            let removed = self.trail.frames[floor..]
                .iter()
                .find(|frame| frame.removed);
            if let Some(start) = removed.map(|frame| frame.member.start) {
                // Where what is to be removed would end, is unknown.
                end = text.len();
                let range = self.in_record(level, start..end);
                self.edits.add(range, |out| out.extend_from_slice(b"null"));
                self.needs_rescan = true;
            }
        } else {
            walked?;
        }
        self.trail.back_to(mark);
        Ok(end)
    }
}

/// Whether a text, as it is written, may hold JSON: it starts with it, or has the escapes that
/// quotes need.
pub(super) fn may_hold_json(written: &[u8], classes: Classes) -> bool {
    let starts = |byte: &u8| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    let first = written.iter().find(|byte| starts(byte));
    matches!(first, Some(b'{' | b'['))
        || classes & ESCAPE != 0
            && (memchr::memchr2(b'{', b'[', written).is_some()
                || memchr::memmem::find(written, b"\\u").is_some())
}

/// Where JSON may start in `text`, from `from` on: at the first byte that is not a space, before a
/// quote, escaped or not, and at the quote of a string that itself holds JSON.
fn opening(text: &[u8], from: usize) -> Option<usize> {
    let first = text.len() - text.trim_ascii_start().len();
    memchr::memchr2_iter(b'{', b'[', &text[from..]).find_map(|found| {
        let at = from + found;
        let next = text[at + 1..]
            .iter()
            .find(|byte| !byte.is_ascii_whitespace());
        let starts = match next {
            Some(b'"') => true,
            Some(b'{' | b'[') => text[at] == b'[',
            _ => false,
        };
        if starts || at == first {
            Some(at)
        } else if at > from && text[at - 1] == b'"' && next == Some(&b'\\') {
            Some(at - 1)
        } else {
            is_escaped(text, at).then_some(at)
        }
    })
}

/// Whether what opens at `at` is JSON with escaped quotes that no string is around: `{\"a\":1}`.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let inside = text[at + 1..].trim_ascii_start();
    let slashes = inside.iter().take_while(|&&byte| byte == b'\\').count();
    slashes > 0 && inside.get(slashes) == Some(&b'"') && matches!(text[at], b'{' | b'[')
}

/// Whether the JSON that opens at `at` has an end.
fn is_json(text: &[u8], at: usize, depth_max: usize) -> bool {
    let mut walker = Walker::within(text, at, depth_max, Vec::new());
    loop {
        match walker.advance() {
            Ok(JsonEvent::Done) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// The outermost bracket in a part of a text that opens and does not close there.
fn unclosed(text: &[u8], part: Range<usize>) -> Option<usize> {
    let (mut depth, mut opened) = (0, part.start);
    for at in part {
        match text[at] {
            b'{' | b'[' => {
                if depth == 0 {
                    opened = at;
                }
                depth += 1;
            }
            b'}' | b']' if depth > 0 => depth -= 1,
            _ => {}
        }
    }
    (depth > 0).then_some(opened)
}

/// Behind the bracket that closes the one at `at`, those in strings counted as well.
fn closing(text: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0;
    let last = text[at..].iter().position(|byte| {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    last.map(|last| at + last + 1)
}

/// Where JSON with escaped quotes that opens at `at` ends, at the latest: before a quote without.
fn escaped_end(text: &[u8], at: usize) -> Option<usize> {
    if !is_escaped(text, at) {
        return None;
    }
    let bare = memchr::memchr_iter(b'"', &text[at..]).find(|&quote| text[at + quote - 1] != b'\\');
    let Some(bare) = bare else {
        return Some(text.len());
    };
    // What opens before that quote belongs to it.
    let mut end = &text[at..at + bare];
    while let [rest @ .., b'{' | b'[' | b' ' | b'\n' | b'\r' | b'\t'] = end {
        end = rest;
    }
    Some(at + end.len())
}

/// Whether a text holds at least one scalar inside of JSON.
fn holds_json(text: &[u8], depth_max: usize) -> bool {
    let mut from = 0;
    while let Some(at) = opening(text, from) {
        if is_escaped(text, at) {
            return true;
        }
        let mut walker = Walker::within(text, at, depth_max, Vec::new());
        loop {
            match walker.advance() {
                Ok(JsonEvent::Text(_) | JsonEvent::Number(_)) | Err(QuarantineReason::TooDeep) => {
                    return true;
                }
                Ok(JsonEvent::Done) | Err(_) => break,
                Ok(_) => {}
            }
        }
        from = walker.event_end.max(at + 1);
    }
    false
}
