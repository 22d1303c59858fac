//! Walks over one JSON text: containers, keys and scalars.

use std::ops::Range;

use super::nested::may_hold_json;
use super::{Engine, QuarantineReason, Scalar, beside};
use crate::action::Action;
use crate::audit::narrow;
use crate::detect::{self, BY_RULE, TextKind};
use crate::keys::{self, Evidence, KeyFacts};
use crate::policy::PathChild;
use crate::text::byte_classes::{self, ESCAPE, HIGH};
use crate::text::fold::{FoldReading, Notation};
use crate::text::json::{JsonEvent, Token, Walker};
use crate::trail::{Member, PointerSegment};
use crate::verdict::Stop;

/// What keys say whose values are noted for those beside them.
const SPEAKING: Evidence = Evidence::LABEL.with(beside::EXPLAINED);

impl Engine {
    /// Walks one JSON text, whose only value is `root`.
    pub(super) fn walk(&mut self, bytes: &[u8], level: usize, root: Member) -> Result<(), Stop> {
        let stack = std::mem::take(&mut self.stacks[level]);
        let mut walker = Walker::new(bytes, self.policy.limits().depth, stack);
        let walked = self.events(&mut walker, bytes, level, root);
        self.stacks[level] = walker.open;
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
                JsonEvent::Key(token) => {
                    self.key(&mut member, bytes, level, token, walker.comma_before)?;
                    continue;
                }
                JsonEvent::End(end) => {
                    if let Some(frame) = self.trail.close() {
                        member = frame.member;
                        let contained = self.trail.frames.len() > floor;
                        if !frame.removed {
                            self.keep(contained);
                            if contained && member.key.has(beside::EXPLAINED) {
                                self.container_beside(bytes, &frame, end);
                            }
                        } else if !(contained && self.removed()) {
                            self.remove(walker, level, &member, end, contained);
                        }
                    }
                    continue;
                }
                JsonEvent::Done => return Ok(()),
                JsonEvent::Object(at) | JsonEvent::Array(at) => at,
                JsonEvent::Text(token) => token.start - 1,
                JsonEvent::Number(token) | JsonEvent::Literal(token) => token.start,
            };
            let contained = self.trail.frames.len() > floor;
            if contained {
                self.element(&mut member, at, walker.comma_before);
            } else {
                member.start = at;
            }
            let removed = self.removed();
            match event {
                JsonEvent::Object(_) | JsonEvent::Array(_) => {
                    let drops = removed || self.drops_member(&member, bytes)?;
                    self.trail.open(
                        matches!(event, JsonEvent::Object(_)),
                        member,
                        drops,
                        (bytes, at),
                    );
                }
                JsonEvent::Text(token) | JsonEvent::Number(token) if removed => {
                    let scalar = Scalar::new(bytes, level, token, TextKind::Text);
                    self.note_removed(scalar, member.rule);
                }
                _ if removed => {}
                JsonEvent::Text(token) | JsonEvent::Number(token) | JsonEvent::Literal(token) => {
                    let (kind, end) = match event {
                        // A string that is cut off has no quote at its end.
                        JsonEvent::Text(_) => (TextKind::Text, (token.end + 1).min(bytes.len())),
                        _ => (TextKind::Number, token.end),
                    };
                    let scalar = Scalar::new(bytes, level, token, kind);
                    let edits = self.edits.len();
                    let gone = match event {
                        JsonEvent::Literal(_) => self.literal(scalar, &member)?,
                        _ => self.scalar(scalar, &member)?,
                    };
                    let speaks = member.key.has(SPEAKING);
                    if contained && speaks && !matches!(event, JsonEvent::Literal(_)) {
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
                self.record_finding(BY_RULE, rule, member.segment, bytes, false, 0..0)?;
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
        self.needs_rescan = true;
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
            .fold(range, |range, level| self.levels[level].map.source(range))
    }

    /// Makes the member that starts at a key.
    fn key(
        &mut self,
        member: &mut Member,
        bytes: &[u8],
        level: usize,
        token: Token,
        comma: Option<usize>,
    ) -> Result<(), Stop> {
        self.trail.next_member();
        let Some(frame) = self.trail.frames.last() else {
            return Err(Stop::Quarantine(QuarantineReason::Malformed));
        };
        let (parent, removed, said) = (frame.member, frame.removed, frame.said);
        let written = &bytes[token.start..token.end];
        *member = Member {
            segment: PointerSegment::Root,
            start: token.start - 1,
            comma,
            ..parent
        };
        if removed {
            let scalar = Scalar::new(bytes, level, token, TextKind::Key);
            self.note_removed(scalar, member.rule);
            return Ok(());
        }
        let (segment, mut known) = match self.keys.get(written) {
            // Rules for places may find something in a key that holds nothing elsewhere.
            Some(known) if parent.effect == 0 => (written_segment(token), known),
            known => self.unknown_key(bytes, level, token, member, known)?,
        };
        if self.holds_own(written) {
            known.evidence = known.evidence.without(beside::TOLD_BY_LABELS);
        }
        let above = parent.evidence.for_members(parent.key);
        member.segment = segment;
        member.evidence = known.evidence.beneath(above);
        member.key = known.evidence;
        if known.evidence.has(Evidence::CONTENT) {
            member.evidence |= said;
        }
        let inherited = parent.rule;
        member.rule = None;
        if !self.policy.paths.is_empty() {
            member.rule = self.trail.effect(&parent).values;
            if token.classes & ESCAPE == 0 {
                self.descend(member, &parent, PathChild::Name(written));
            } else {
                let mut decoded = std::mem::take(&mut self.decoded_key);
                decoded.cast(written, 0, Notation::Escaped, FoldReading::Exact);
                self.descend(member, &parent, PathChild::Name(&decoded.text));
                self.decoded_key = decoded;
            }
        }
        member.rule = member.rule.or(known.rule).or(inherited);
        Ok(())
    }

    /// Looks for findings in a key that no rule has judged here before, and at what it says unless that is `known`.
    fn unknown_key(
        &mut self,
        bytes: &[u8],
        level: usize,
        token: Token,
        member: &Member,
        known: Option<KeyFacts>,
    ) -> Result<(PointerSegment, KeyFacts), Stop> {
        let written = &bytes[token.start..token.end];
        let token = Token {
            classes: token.classes | byte_classes::of(written),
            ..token
        };
        let mut decoded = std::mem::take(&mut self.decoded_key);
        let folds = token.classes & (ESCAPE | HIGH) != 0;
        let name = if folds {
            decoded.cast(written, 0, Notation::Escaped, FoldReading::Joined);
            &decoded.text
        } else {
            written
        };
        let known = known.unwrap_or_else(|| KeyFacts {
            evidence: keys::evidence(name),
            rule: self.policy.rule_for_key(name),
        });
        let before = self.findings.len();
        let scalar = Scalar::new(bytes, level, token, TextKind::Key);
        // A key is judged by itself: what stands above it only says that versions are not addresses.
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
        let shown = self.detect(scalar, Notation::Escaped, &member)?;
        if self.edits.len() > edits {
            self.needs_rescan = true;
            if level == 0 {
                self.keep_apart(bytes, token, edits);
            }
        }
        let segment = match shown {
            Some(segment) => segment,
            None => {
                if folds {
                    decoded.cast(written, 0, Notation::Escaped, FoldReading::Exact);
                    self.trail.name(&decoded.text)
                } else {
                    let by_itself = !versions && member.effect == 0 && !self.edited;
                    if self.findings.len() == before && by_itself {
                        self.keys.put(written, known);
                    }
                    written_segment(token)
                }
            }
        };
        self.decoded_key = decoded;
        Ok((segment, known))
    }

    /// Makes the member for a value of an array; that of an object has been made at its key.
    fn element(&mut self, member: &mut Member, at: usize, comma: Option<usize>) {
        let Some(frame) = self.trail.frames.last_mut().filter(|frame| !frame.object) else {
            return;
        };
        let index = frame.index;
        frame.index = index.saturating_add(1);
        let (parent, removed) = (frame.member, frame.removed);
        *member = Member {
            segment: PointerSegment::Index(index),
            start: at,
            comma,
            ..parent
        };
        if member.evidence.has(Evidence::SPOT) {
            member.evidence |= Evidence::COORDINATES;
        }
        if !removed && !self.policy.paths.is_empty() {
            self.trail.next_member();
            self.descend(member, &parent, PathChild::Index(index));
            member.rule = member.rule.or(parent.rule);
        }
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
            let (segment, all) = (member.segment, 0..written.len());
            self.record_finding(BY_RULE, rule, segment, scalar.bytes, false, all)?;
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
        if scalar.kind == TextKind::Text {
            let whole = Evidence::NAME | Evidence::STREET | Evidence::BIRTH_DATE;
            if may_hold_json(&scalar.bytes[start..end], classes)
                && member.rule.is_none()
                && !member.evidence.has(whole)
                && let Some(gone) = self.nested(scalar, Notation::Escaped, member)?
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
        self.plain(scalar, Notation::Escaped, member)
    }

    /// Scans a text or number by itself. Returns whether the member is to be removed.
    pub(super) fn plain(
        &mut self,
        scalar: Scalar<'_>,
        writing: Notation,
        member: &Member,
    ) -> Result<bool, Stop> {
        let before = self.findings.len();
        self.detect(scalar, writing, member)?;
        Ok(self.findings[before..]
            .iter()
            .any(|finding| finding.action == Action::DropField.name()))
    }
}

fn written_segment(token: Token) -> PointerSegment {
    PointerSegment::Written(narrow(token.start), narrow(token.end))
}
