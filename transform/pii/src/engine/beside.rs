//! Uses what stands beside a value: members that say what it is, and pairs of names and values in a text.

use std::ops::Range;

use super::{Engine, Scalar};
use crate::audit::narrow;
use crate::detect::{self, FoldedText, Hits, TextKind, WHOLE_VALUES};
use crate::keys::{self, Evidence, KeyFacts};
use crate::text::byte_classes::{self, ESCAPE, HIGH};
use crate::text::fold::{FoldReading, Notation};
use crate::text::json::{Token, Walker};
use crate::trail::{Member, Noted, OpenContainer, PointerSegment};
use crate::verdict::Stop;

/// Longest text that may say what a value beside it is.
const LABEL_BYTES_MAX: usize = 128;
/// Bytes of one that its escapes can take.
const ESCAPED_BYTES_MAX: usize = 6;

/// What a member says about one beside it: what it is, or that it is a version.
const TELLING: Evidence = WHOLE_VALUES
    .with(Evidence::VERSION)
    .with(Evidence::AGENT)
    .with(Evidence::PROGRAM);
/// Containers inside each other about which a later member may say something:
/// `{"value":{"arrayValue":{"values":[{"stringValue":..}]}},"key":"mac"}`.
const HEIGHT_MAX: u32 = 4;

/// Whether the value of a member names the type of a resource of FHIR, whose members are then those
/// of it.
fn names_a_resource(bytes: &[u8], member: &Member) -> bool {
    match member.segment {
        PointerSegment::Written(start, end) => {
            bytes[start as usize..end as usize].eq_ignore_ascii_case(b"resourceType")
        }
        _ => false,
    }
}

/// What names say only because of a label in them, and because of which more is found.
pub(super) const TOLD_BY_LABELS: Evidence = WHOLE_VALUES
    .with(Evidence::PERSON)
    .with(Evidence::BARE_NAME)
    .with(Evidence::BARE_ADDRESS)
    .with(Evidence::PAYMENT)
    .with(Evidence::LINE);

/// What keys say whose values a later member may explain: `{"value":..,"type":"ssn"}`,
/// `{"name":..,"resourceType":"Patient"}`.
pub(super) const EXPLAINED: Evidence = Evidence::CONTENT
    .with(Evidence::BARE_NAME)
    .with(Evidence::BARE_ADDRESS);

/// A value whose key lies at `key`.
fn noted(value: Range<usize>, key: (u32, u32), says: Evidence) -> Noted {
    let value = (narrow(value.start), narrow(value.end));
    Noted { value, key, says }
}

/// Where the key of a member lies in `bytes`, unless it has escapes.
fn key_of(bytes: &[u8], member: &Member) -> (u32, u32) {
    let start = member.start + 1;
    match memchr::memchr2(b'"', b'\\', &bytes[start..]) {
        Some(length) if bytes[start + length] == b'"' => (narrow(start), narrow(start + length)),
        _ => (0, 0),
    }
}

impl Engine {
    /// Notes what a member of the innermost object says about the values beside it, as
    /// `{"type":"ssn","value":..}` does, also if they came first.
    pub(super) fn beside(&mut self, scalar: Scalar<'_>, member: &Member) -> Result<(), Stop> {
        if !self.trail.frames.last().is_some_and(|frame| frame.object) {
            return Ok(());
        }
        let Token { start, end, .. } = scalar.token;
        if member.key.has(EXPLAINED) {
            let key = match member.segment {
                PointerSegment::Written(start, end) => (start, end),
                _ => (0, 0),
            };
            self.trail.values.push(noted(start..end, key, member.key));
        }
        if !member.key.has(Evidence::LABEL) || scalar.kind != TextKind::Text {
            return Ok(());
        }
        let said = self.written_label(&scalar.bytes[start..end]);
        let Some(frame) = self.trail.frames.last_mut() else {
            return Ok(());
        };
        // Values are looked at again once for each thing that can be said, however often.
        let mut new = (said & TELLING).without(frame.said);
        frame.said |= new;
        let evidence = &mut frame.member.evidence;
        if said.has(Evidence::PERSON)
            && names_a_resource(scalar.bytes, member)
            && !evidence.has(Evidence::PERSON)
        {
            *evidence |= Evidence::PERSON;
            new |= Evidence::PERSON;
        }
        // What nested JSON says about itself counted when it was walked for the first time.
        if new.is_none() || self.revisits {
            return Ok(());
        }
        self.revisits = true;
        let revisited = self.revisit(scalar, new);
        self.revisits = false;
        revisited
    }

    /// Notes a value that is a container, which ended at `end`, about which a later member may say
    /// something. Each byte lies in few of those, so that the work stays linear.
    pub(super) fn container_beside(&mut self, bytes: &[u8], frame: &OpenContainer, end: usize) {
        let around = self.trail.frames.last().filter(|around| around.object);
        if around.is_some() && frame.height < HEIGHT_MAX && !self.revisits {
            let key = key_of(bytes, &frame.member);
            self.trail
                .values
                .push(noted(frame.at..end, key, frame.member.key));
        }
    }

    /// Looks again at the values of the innermost object that came before a member which says
    /// what they are. `label` is the value of that member.
    fn revisit(&mut self, label: Scalar<'_>, said: Evidence) -> Result<(), Stop> {
        let Some(&frame) = self.trail.frames.last() else {
            return Ok(());
        };
        for index in frame.values..self.trail.values.len() {
            let Noted { value, key, says } = self.trail.values[index];
            let above = frame.member.evidence.for_members(frame.member.key);
            let evidence = if says.has(Evidence::CONTENT) {
                above | said
            } else if said.has(Evidence::PERSON) {
                says.beneath(above)
            } else {
                continue;
            };
            let (start, end) = (value.0 as usize, value.1 as usize);
            let kind = match label.bytes.get(end) {
                Some(b'"') if start > 0 && label.bytes[start - 1] == b'"' => TextKind::Text,
                _ => TextKind::Number,
            };
            let is_container =
                kind == TextKind::Number && matches!(label.bytes[start], b'{' | b'[');
            let value = Member {
                segment: PointerSegment::Written(key.0, key.1),
                evidence,
                key: says,
                rule: None,
                ..frame.member
            };
            let scalar = Scalar {
                token: Token::of(label.bytes, start..end),
                kind,
                ..label
            };
            // A rule that removes such members cannot do so any more: the walk is past it.
            let edits = self.edits.len();
            if is_container {
                self.walk_again(scalar, value)?;
            } else if self.scalar(scalar, &value)? {
                let range = match kind {
                    TextKind::Text => start - 1..end + 1,
                    _ => start..end,
                };
                let range = self.in_record(label.level, range);
                self.edits.add(range, |out| out.extend_from_slice(b"null"));
            }
            self.needs_rescan |= self.edits.len() > edits;
        }
        Ok(())
    }

    /// Walks a container again, of which is known more now.
    fn walk_again(&mut self, container: Scalar<'_>, root: Member) -> Result<(), Stop> {
        let Scalar { bytes, level, .. } = container;
        let mark = self.trail.mark();
        let depth = self.policy.limits().depth;
        let mut walker = Walker::within(bytes, container.token.start, depth, Vec::new());
        let walked = self.events(&mut walker, bytes, level, root);
        self.trail.back_to(mark);
        walked
    }

    /// What a name of a key says that stands in a value, with its escapes.
    fn written_label(&mut self, written: &[u8]) -> Evidence {
        if written.len() <= LABEL_BYTES_MAX && byte_classes::of(written) & (ESCAPE | HIGH) == 0 {
            return self.label(written);
        }
        if written.len() > LABEL_BYTES_MAX * ESCAPED_BYTES_MAX {
            return Evidence::NONE;
        }
        let mut decoded = std::mem::take(&mut self.decoded_key);
        decoded.cast(written, 0, Notation::Escaped, FoldReading::Joined);
        let said = if decoded.text.len() <= LABEL_BYTES_MAX {
            self.label(&decoded.text)
        } else {
            Evidence::NONE
        };
        self.decoded_key = decoded;
        said
    }

    /// What a key's name says that is not a key here.
    fn label(&mut self, name: &[u8]) -> Evidence {
        if self.holds_own(name) {
            return keys::evidence(name).without(TOLD_BY_LABELS);
        }
        if let Some(known) = self.labels.get(name) {
            return known.evidence;
        }
        let evidence = keys::evidence(name);
        let rule = None;
        self.labels.put(name, KeyFacts { evidence, rule });
        evidence
    }

    /// Whether the engine may have written something in `name`, which then says no more what is
    /// found. What stood there before counted when it was scanned for the first time.
    pub(super) fn holds_own(&self, name: &[u8]) -> bool {
        self.edited && self.policy.holds_label(name)
    }

    /// Adds what the detectors find in the values of pairs like `first_name=Jane` in a text.
    pub(super) fn pairs(&mut self, text: &FoldedText<'_>, hits: &mut Hits) {
        let mut from = 0;
        while let Some(name) = detect::pair(text.bytes, from) {
            from = name.end + 1;
            let said = self.label(&text.bytes[name]);
            let evidence = said & WHOLE_VALUES.with(Evidence::PROGRAM);
            if !evidence.has(WHOLE_VALUES) {
                continue;
            }
            let value = detect::pair_value(text.bytes, from);
            from = value.end;
            let bytes = &text.bytes[value.clone()];
            let inside = FoldedText {
                bytes,
                evidence,
                kind: TextKind::Text,
                edited: text.edited,
            };
            self.pair_hits.list.clear();
            detect::scan(
                &inside,
                byte_classes::of(bytes),
                self.policy.enabled,
                &mut self.pair_hits,
            );
            for hit in &self.pair_hits.list {
                let (start, end) = (hit.start + value.start, hit.end + value.start);
                hits.add(start..end, hit.detector);
            }
        }
    }

    /// Scans the value `scalar` of the record as the edits after the first `edits` leave it, and
    /// notes whether there still are findings.
    pub(super) fn probe(&mut self, edits: usize, scalar: Scalar<'_>, member: &Member) {
        if self.needs_rescan || !self.policy.rescan {
            return;
        }
        let Token { start, end, .. } = scalar.token;
        let within = match scalar.kind {
            TextKind::Text => start - 1..end + 1,
            _ => start..end,
        };
        let mut made = std::mem::take(&mut self.second);
        made.clear();
        let all = self
            .edits
            .apply_within(edits, scalar.bytes, within, &mut made);
        if !all || self.has_findings(&made, member) {
            self.needs_rescan = true;
        }
        self.second = made;
    }

    /// Whether there are findings to act on in a value by itself.
    fn has_findings(&mut self, value: &[u8], member: &Member) -> bool {
        let (kind, quote) = match value.first() {
            Some(b'"') if self.policy.is_label(&value[1..value.len() - 1]) => return false,
            Some(b'"') => (TextKind::Text, 1),
            Some(b'n') => return false,
            _ => (TextKind::Number, 0),
        };
        let token = Token::of(value, quote..value.len() - quote);
        let scalar = Scalar::new(value, 0, token, kind);
        // Pointers would name a key of the record.
        let member = Member {
            segment: PointerSegment::Root,
            ..*member
        };
        let (findings, shown, edits) = (self.findings.len(), self.pointers.len(), self.edits.len());
        let values = self.found.len();
        let mark = self.trail.mark();
        let edited = std::mem::replace(&mut self.edited, true);
        let found = self.scalar(scalar, &member) != Ok(false) || self.edits.len() > edits;
        self.edited = edited;
        self.trail.back_to(mark);
        self.findings.truncate(findings);
        self.pointers.truncate(shown);
        self.edits.truncate(edits);
        self.found.truncate(values);
        found
    }
}
