//! The walk over one JSON text: containers, keys, scalars, and JSON inside strings.

use std::ops::Range;

use super::verdict::Stop;
use super::{Engine, Reason, Scalar, narrow};
use crate::action::Action;
use crate::classes::{self, Classes, ESCAPE, HIGH};
use crate::detect::{self, BY_RULE, Kind};
use crate::fold::{Reading, Shadow, Writing};
use crate::json::{Event, JsonError, Token, Walker};
use crate::keys::{self, Evidence, Known};
use crate::policy::Child;
use crate::trail::{Member, Segment};

impl Engine {
    /// Walks one JSON text, whose only value is `root`.
    pub(super) fn walk(&mut self, bytes: &[u8], level: usize, root: Member) -> Result<(), Stop> {
        let stack = std::mem::take(&mut self.stacks[level]);
        let mut walker = Walker::new(bytes, self.policy.limits().depth, stack);
        let walked = self.events(&mut walker, bytes, level, root);
        self.stacks[level] = walker.into_stack();
        walked
    }

    pub(super) fn events(
        &mut self,
        walker: &mut Walker<'_>,
        bytes: &[u8],
        level: usize,
        root: Member,
    ) -> Result<(), Stop> {
        let floor = self.trail.frames.len();
        let mut member = root;
        loop {
            let event = walker.advance()?;
            let at = match event {
                Event::Key(token) => {
                    member = self.key(bytes, level, token, walker.comma_before())?;
                    continue;
                }
                Event::End(end) => {
                    if let Some(frame) = self.trail.close() {
                        member = frame.member;
                        let contained = self.trail.frames.len() > floor;
                        if !frame.removed {
                            self.keep(contained);
                            if contained && member.key.has(Evidence::CONTENT) {
                                self.container_beside(&frame, end);
                            }
                        } else if !(contained && self.removed()) {
                            self.remove(walker, level, &member, end, contained);
                        }
                    }
                    continue;
                }
                Event::Done => return Ok(()),
                Event::Object(at) | Event::Array(at) => at,
                Event::Text(token) => token.start - 1,
                Event::Number(token) | Event::Literal(token) => token.start,
            };
            let contained = self.trail.frames.len() > floor;
            if contained {
                member = self.element(member, at, walker.comma_before());
            } else {
                member.start = at;
            }
            let removed = self.removed();
            match event {
                Event::Object(_) | Event::Array(_) => {
                    let drops = removed || self.drops_member(&member, bytes)?;
                    self.trail.open(
                        matches!(event, Event::Object(_)),
                        member,
                        drops,
                        (bytes, at),
                    );
                }
                Event::Text(token) | Event::Number(token) if removed => {
                    let scalar = Scalar {
                        bytes,
                        level,
                        token,
                        kind: Kind::Text,
                        part: false,
                    };
                    self.note_removed(scalar, member.rule);
                }
                _ if removed => {}
                Event::Text(token) | Event::Number(token) | Event::Literal(token) => {
                    let (kind, end) = match event {
                        Event::Text(_) => (Kind::Text, token.end + 1),
                        _ => (Kind::Number, token.end),
                    };
                    let scalar = Scalar {
                        bytes,
                        level,
                        token,
                        kind,
                        part: false,
                    };
                    let edits = self.edits.len();
                    let gone = match event {
                        Event::Literal(_) => self.literal(scalar, &member)?,
                        _ => self.scalar(scalar, &member)?,
                    };
                    let speaks = member.key.has(Evidence::LABEL | Evidence::CONTENT);
                    if contained && speaks && !matches!(event, Event::Literal(_)) {
                        self.beside(scalar, &member)?;
                    }
                    if level == 0 && !gone && self.edits.len() > edits {
                        self.probe(edits, scalar, &member);
                    }
                    if gone {
                        self.remove(walker, level, &member, end, contained);
                    } else {
                        self.keep(contained);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the innermost container is removed as a whole.
    fn removed(&self) -> bool {
        self.trail.frames.last().is_some_and(|frame| frame.removed)
    }

    /// Notes that a member of the innermost container stays. What no container of this text
    /// contains is a string of another text, which decides about it.
    fn keep(&mut self, contained: bool) {
        if let Some(frame) = self.trail.frames.last_mut().filter(|_| contained) {
            frame.kept = true;
        }
    }

    /// Whether a rule removes the whole member, whatever it is.
    fn drops_member(&mut self, member: &Member, bytes: &[u8]) -> Result<bool, Stop> {
        let Some(rule) = member.rule else {
            return Ok(false);
        };
        match self.policy.rule(rule).action {
            Action::DropRecord => Err(Stop::Drop(rule)),
            Action::DropField => {
                self.tell(BY_RULE, rule, member.segment, bytes, false, 0..0)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Removes a member of an object with its comma; an element of an array, and what no container
    /// contains, becomes `null`.
    fn remove(
        &mut self,
        walker: &Walker<'_>,
        level: usize,
        member: &Member,
        end: usize,
        contained: bool,
    ) {
        self.unsettled = true;
        let container = self.trail.frames.last().filter(|_| contained);
        let (object, kept) = container.map_or((false, false), |frame| (frame.object, frame.kept));
        let range = match (object, kept, member.comma, walker.comma_after()) {
            (false, ..) => {
                let range = self.in_record(level, member.start..end);
                self.edits.add(range, |out| out.extend_from_slice(b"null"));
                self.keep(contained);
                return;
            }
            (true, true, Some(comma), _) => comma..end,
            (true, _, _, Some(after)) => member.start..after,
            (true, ..) => member.start..end,
        };
        let range = self.in_record(level, range);
        self.edits.add(range, |_| {});
    }

    /// A range of the text at `level` as a range of the record.
    pub(super) fn in_record(&self, level: usize, range: Range<usize>) -> Range<usize> {
        (1..=level)
            .rev()
            .fold(range, |range, level| self.maps[level].source(range))
    }

    /// The member that starts at a key.
    fn key(
        &mut self,
        bytes: &[u8],
        level: usize,
        token: Token,
        comma: Option<usize>,
    ) -> Result<Member, Stop> {
        self.trail.next_member();
        let Some(&frame) = self.trail.frames.last() else {
            return Err(Stop::Quarantine(Reason::Malformed));
        };
        let written = &bytes[token.start..token.end];
        let member = Member {
            segment: Segment::Root,
            start: token.start - 1,
            comma,
            ..frame.member
        };
        if frame.removed {
            let scalar = Scalar {
                bytes,
                level,
                token,
                kind: Kind::Key,
                part: false,
            };
            self.note_removed(scalar, member.rule);
            return Ok(member);
        }
        let known = self.keys.get(written);
        let (segment, mut known) = match known {
            Some(known) => (written_segment(token), known),
            None => self.unknown_key(bytes, level, token, &member)?,
        };
        if self.is_own(written) {
            known.evidence = Evidence::NONE;
        }
        let above = frame.member.evidence.for_members(frame.member.key);
        let mut member = Member {
            segment,
            evidence: known.evidence.beneath(above),
            key: known.evidence,
            ..member
        };
        if known.evidence.has(Evidence::CONTENT) {
            member.evidence |= frame.said;
        }
        let inherited = frame.member.rule;
        member.rule = None;
        if !self.policy.paths().is_empty() {
            member.rule = self.trail.effect(&frame.member).values;
            if token.classes & ESCAPE == 0 {
                self.descend(&mut member, &frame.member, Child::Name(written));
            } else {
                let mut decoded = std::mem::take(&mut self.decoded_key);
                decoded.cast(written, 0, Writing::Escaped, Reading::Exact);
                self.descend(&mut member, &frame.member, Child::Name(&decoded.text));
                self.decoded_key = decoded;
            }
        }
        member.rule = member.rule.or(known.rule).or(inherited);
        Ok(member)
    }

    /// Looks at a key that the cache does not hold: its evidence, and findings in it.
    fn unknown_key(
        &mut self,
        bytes: &[u8],
        level: usize,
        token: Token,
        member: &Member,
    ) -> Result<(Segment, Known), Stop> {
        let written = &bytes[token.start..token.end];
        let token = Token {
            classes: token.classes | classes::of(written),
            ..token
        };
        let mut decoded = std::mem::take(&mut self.decoded_key);
        let folds = token.classes & (ESCAPE | HIGH) != 0;
        let name = if folds {
            decoded.cast(written, 0, Writing::Escaped, Reading::Joined);
            &decoded.text
        } else {
            written
        };
        let known = Known {
            evidence: keys::evidence(name),
            rule: self
                .policy
                .names_keys()
                .then(|| self.policy.rule_for_key(&keys::normal_form(name)))
                .flatten(),
        };
        let told = self.findings.len();
        let scalar = Scalar {
            bytes,
            level,
            token,
            kind: Kind::Key,
            part: false,
        };
        // A key is judged by itself: what stands above it only says that versions are no addresses.
        let versions = member.evidence.has(Evidence::VERSION);
        let member = Member {
            evidence: if versions {
                Evidence::AGENT
            } else {
                Evidence::NONE
            },
            rule: None,
            ..*member
        };
        let edits = self.edits.len();
        let shown = self.detect(scalar, Writing::Escaped, &member)?;
        self.unsettled |= self.edits.len() > edits;
        let segment = match shown {
            Some(segment) => segment,
            None => {
                if folds {
                    decoded.cast(written, 0, Writing::Escaped, Reading::Exact);
                    self.trail.name(&decoded.text)
                } else {
                    if self.findings.len() == told && !versions && member.effect == 0 {
                        self.keys.put(written, known);
                    }
                    written_segment(token)
                }
            }
        };
        self.decoded_key = decoded;
        Ok((segment, known))
    }

    /// The member for a value: in an object its key has made it, in an array it is made here.
    fn element(&mut self, member: Member, at: usize, comma: Option<usize>) -> Member {
        let Some(frame) = self.trail.frames.last_mut() else {
            return member;
        };
        if frame.object {
            return member;
        }
        let index = frame.index;
        frame.index = index.saturating_add(1);
        let frame = *frame;
        let mut member = Member {
            segment: Segment::Index(index),
            start: at,
            comma,
            ..frame.member
        };
        if member.evidence.has(Evidence::SPOT) {
            member.evidence |= Evidence::COORDINATES;
        }
        if !frame.removed && !self.policy.paths().is_empty() {
            self.trail.next_member();
            self.descend(&mut member, &frame.member, Child::Index(index));
            member.rule = member.rule.or(frame.member.rule);
        }
        member
    }

    /// `true`, `false` and `null`: only a rule for the whole value touches them. Returns whether
    /// the member is to be removed.
    fn literal(&mut self, scalar: Scalar<'_>, member: &Member) -> Result<bool, Stop> {
        let Some(rule) = member.rule else {
            return Ok(false);
        };
        if self.drops_member(member, scalar.bytes)? {
            return Ok(true);
        }
        let written = scalar.token.start..scalar.token.end;
        if &scalar.bytes[written.clone()] != b"null" {
            self.tell(
                BY_RULE,
                rule,
                member.segment,
                scalar.bytes,
                false,
                0..written.len(),
            )?;
            let range = self.in_record(scalar.level, written);
            self.edits.add(range, |out| out.extend_from_slice(b"null"));
        }
        Ok(false)
    }

    /// Scans a text or number. Returns whether the member is to be removed.
    pub(super) fn scalar(&mut self, scalar: Scalar<'_>, member: &Member) -> Result<bool, Stop> {
        let Token {
            start,
            end,
            classes,
        } = scalar.token;
        #[cfg(test)]
        {
            self.scanned += end - start;
        }
        let skips = member.rule.is_none() && self.skips();
        if scalar.kind == Kind::Text {
            let whole = Evidence::NAME | Evidence::STREET | Evidence::BIRTH_DATE;
            if may_hold_json(&scalar.bytes[start..end], classes)
                && member.rule.is_none()
                && !member.evidence.has(whole)
                && let Some(gone) = self.nested(scalar, Writing::Escaped, member)?
            {
                return Ok(gone);
            }
        } else if skips && detect::number_is_short(end - start, member.evidence) {
            return Ok(false);
        }
        if skips
            && (!detect::worth_a_look(classes, end - start, member.evidence)
                || classes & detect::NOTED == 0
                    && detect::is_timestamp(&scalar.bytes[start..end], member.evidence))
        {
            return Ok(false);
        }
        if self.drops_member(member, scalar.bytes)? {
            self.note_removed(scalar, member.rule);
            return Ok(true);
        }
        self.plain(scalar, Writing::Escaped, member)
    }

    /// Scans a text or number by itself. Returns whether the member is to be removed.
    fn plain(
        &mut self,
        scalar: Scalar<'_>,
        writing: Writing,
        member: &Member,
    ) -> Result<bool, Stop> {
        let told = self.findings.len();
        self.detect(scalar, writing, member)?;
        Ok(self.findings[told..]
            .iter()
            .any(|finding| finding.action == Action::DropField.name()))
    }

    /// Scans the JSON that a text holds as JSON, also where it is cut off, and what stands around
    /// it as text. Returns whether the member is to be removed, or nothing if there is no JSON.
    pub(super) fn nested(
        &mut self,
        scalar: Scalar<'_>,
        writing: Writing,
        member: &Member,
    ) -> Result<Option<bool>, Stop> {
        let Token { start, end, .. } = scalar.token;
        let written = &scalar.bytes[start..end];
        let level = scalar.level + 1;
        let limits = self.policy.limits();
        if level > limits.nested_json {
            let mut shadow = std::mem::take(&mut self.shadow);
            shadow.cast(written, 0, writing, Reading::Exact);
            let holds = holds_json(&shadow.text, limits.depth);
            self.shadow = shadow;
            return if holds {
                Err(Stop::Quarantine(Reason::NestedTooDeep))
            } else {
                Ok(None)
            };
        }
        let text = std::mem::take(&mut self.texts[level]);
        let map = std::mem::take(&mut self.maps[level]);
        let mut shadow = Shadow::from_parts(text, map);
        shadow.cast(written, start, writing, Reading::Exact);
        let (text, map) = shadow.into_parts();
        self.maps[level] = map;
        let scanned = self.parts(&text, scalar, writing, member);
        self.texts[level] = text;
        scanned
    }

    /// Scans what JSON there is in `text`, and the parts between.
    fn parts(
        &mut self,
        text: &[u8],
        scalar: Scalar<'_>,
        writing: Writing,
        member: &Member,
    ) -> Result<Option<bool>, Stop> {
        let level = scalar.level + 1;
        let (mut covered, mut from) = (0, 0);
        let mut gone = false;
        let between = |engine: &mut Self, part: Range<usize>| {
            if part.is_empty() {
                return Ok(false);
            }
            let written = engine.maps[level].source(part);
            let token = Token {
                start: written.start,
                end: written.end,
                classes: classes::of(&scalar.bytes[written]),
            };
            let part = true;
            engine.plain(
                Scalar {
                    token,
                    part,
                    ..scalar
                },
                writing,
                member,
            )
        };
        while let Some(at) = opening(text, from) {
            if let Some(end) = escaped_end(text, at) {
                let part = Scalar {
                    bytes: text,
                    level,
                    token: Token {
                        start: at,
                        end,
                        classes: classes::of(&text[at..end]),
                    },
                    kind: scalar.kind,
                    part: true,
                };
                let segment = self.trail.lasting(member.segment, scalar.bytes);
                let member = Member { segment, ..*member };
                if let Some(inner) = self.nested(part, Writing::Escaped, &member)? {
                    gone |= inner | between(self, covered..at)?;
                    covered = end;
                }
                from = end;
                continue;
            }
            let end = self.inside(text, at, scalar.bytes, level, member)?;
            from = end.max(at + 1);
            // Brackets alone are none of JSON: a colour of a terminal starts with one.
            let bracket = |byte: &u8| matches!(byte, b'[' | b'{') || byte.is_ascii_whitespace();
            if !text[at..end].iter().all(bracket) {
                gone |= between(self, covered..at)?;
                covered = end;
            }
        }
        if covered == 0 {
            return Ok(None);
        }
        gone |= between(self, covered..text.len())?;
        Ok(Some(gone))
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
            segment: Segment::Root,
            ..*member
        };
        let stack = std::mem::take(&mut self.stacks[level]);
        let mut walker = Walker::within(text, at, self.policy.limits().depth, stack);
        let walked = self.events(&mut walker, text, level, root);
        let mut end = walker.settled();
        self.stacks[level] = walker.into_stack();
        if let Err(Stop::Quarantine(Reason::Malformed)) = walked {
            let removed = self.trail.frames[floor..]
                .iter()
                .find(|frame| frame.removed);
            if let Some(start) = removed.map(|frame| frame.member.start) {
                // Where what is to be removed would end, is unknown.
                end = text.len();
                let range = self.in_record(level, start..end);
                self.edits.add(range, |out| out.extend_from_slice(b"null"));
                self.unsettled = true;
            }
        } else {
            walked?;
        }
        self.trail.back_to(mark);
        Ok(end)
    }
}

fn written_segment(token: Token) -> Segment {
    Segment::Written(narrow(token.start), narrow(token.end))
}

/// Whether a text, as it is written, may hold JSON: it starts with it, or has the escapes that
/// quotes need.
fn may_hold_json(written: &[u8], classes: Classes) -> bool {
    let starts = |byte: &u8| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    let first = written.iter().find(|byte| starts(byte));
    matches!(first, Some(b'{' | b'['))
        || classes & ESCAPE != 0
            && (memchr::memchr2(b'{', b'[', written).is_some()
                || memchr::memmem::find(written, b"\\u").is_some())
}

/// Where JSON may start in `text`, from `from` on: at the first byte that is no space, before a
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
                Ok(Event::Text(_) | Event::Number(_)) | Err(JsonError::TooDeep) => return true,
                Ok(Event::Done) | Err(_) => break,
                Ok(_) => {}
            }
        }
        from = walker.settled().max(at + 1);
    }
    false
}
