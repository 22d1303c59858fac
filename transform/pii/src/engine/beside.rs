//! What stands beside a value: members that say what it is, and pairs of names and values in a text.

use super::verdict::Stop;
use super::{Engine, Scalar, narrow};
use crate::classes::{self, ESCAPE, HIGH};
use crate::detect::{self, Hits, Kind, Text, WHOLE_VALUES};
use crate::fold::{Reading, Writing};
use crate::json::{Token, Walker};
use crate::keys::{self, Evidence, Known};
use crate::trail::{Frame, Member, Segment};

/// Longest text that may say what a value beside it is.
const LABEL_BYTES_MAX: usize = 128;
/// Bytes of one that its escapes can take.
const ESCAPED_BYTES_MAX: usize = 6;

/// What a member says about one beside it: what it is, or that it is a version.
const TELLING: Evidence = WHOLE_VALUES.with(Evidence::VERSION).with(Evidence::AGENT);
/// Containers inside each other about which a later member may say something:
/// `{"value":{"arrayValue":{"values":[{"stringValue":..}]}},"key":"mac"}`.
const HEIGHT_MAX: u32 = 4;

/// Whether the value of a member names the type of a resource of FHIR, whose members are then those
/// of it.
fn names_a_resource(bytes: &[u8], member: &Member) -> bool {
    match member.segment {
        Segment::Written(start, end) => {
            bytes[start as usize..end as usize].eq_ignore_ascii_case(b"resourceType")
        }
        _ => false,
    }
}

impl Engine {
    /// Notes what a member of the innermost object says about the values beside it, as
    /// `{"type":"ssn","value":..}` does, also if they came first.
    pub(super) fn beside(&mut self, scalar: Scalar<'_>, member: &Member) -> Result<(), Stop> {
        let Some(frame) = self.trail.frames.last().filter(|frame| frame.object) else {
            return Ok(());
        };
        let before = frame.said;
        let Token { start, end, .. } = scalar.token;
        if member.key.has(Evidence::LABEL) && scalar.kind == Kind::Text {
            let said = self.written_label(&scalar.bytes[start..end]);
            let is_person = said.has(Evidence::PERSON) && names_a_resource(scalar.bytes, member);
            if is_person && let Some(frame) = self.trail.frames.last_mut() {
                frame.member.evidence |= Evidence::PERSON;
            }
            let said = said & TELLING;
            // Values are looked at again once for each thing that can be said, however often.
            let new = said.without(before);
            if new.is_none() {
                return Ok(());
            }
            if let Some(frame) = self.trail.frames.last_mut() {
                frame.said |= new;
            }
            // What nested JSON says about itself was heeded when it was walked for the first time.
            if !self.revisits {
                self.revisits = true;
                let revisited = self.revisit(scalar, new);
                self.revisits = false;
                return revisited;
            }
        } else if member.key.has(Evidence::CONTENT) {
            let key = match member.segment {
                Segment::Written(start, end) => [start, end],
                _ => [0, 0],
            };
            self.trail
                .values
                .push([narrow(start), narrow(end), key[0], key[1]]);
        }
        Ok(())
    }

    /// Notes a value that is a container, which ended at `end`, about which a later member may say
    /// something. Each byte lies in few of those, so that the work stays linear.
    pub(super) fn container_beside(&mut self, frame: &Frame, end: usize) {
        let around = self.trail.frames.last().filter(|around| around.object);
        if around.is_some() && frame.height < HEIGHT_MAX && !self.revisits {
            self.trail
                .values
                .push([narrow(frame.at), narrow(end), 0, 0]);
        }
    }

    /// Looks again at the values of the innermost object that came before a member which says
    /// what they are. `label` is the value of that member.
    fn revisit(&mut self, label: Scalar<'_>, said: Evidence) -> Result<(), Stop> {
        let Some(&frame) = self.trail.frames.last() else {
            return Ok(());
        };
        for index in frame.values..self.trail.values.len() {
            let [start, end, key_start, key_end] = self.trail.values[index];
            let (start, end) = (start as usize, end as usize);
            let kind = match label.bytes.get(end) {
                Some(b'"') if start > 0 && label.bytes[start - 1] == b'"' => Kind::Text,
                _ => Kind::Number,
            };
            let is_container = kind == Kind::Number && matches!(label.bytes[start], b'{' | b'[');
            let token = Token {
                start,
                end,
                classes: classes::of(&label.bytes[start..end]),
            };
            let value = Member {
                segment: Segment::Written(key_start, key_end),
                evidence: frame.member.evidence.for_members(frame.member.key) | said,
                rule: None,
                ..frame.member
            };
            let scalar = Scalar {
                token,
                kind,
                ..label
            };
            // A rule that removes such members cannot do so any more: the walk is past it.
            let edits = self.edits.len();
            if is_container {
                self.walk_again(scalar, value)?;
            } else if self.scalar(scalar, &value)? {
                let range = match kind {
                    Kind::Text => start - 1..end + 1,
                    _ => start..end,
                };
                let range = self.in_record(label.level, range);
                self.edits.add(range, |out| out.extend_from_slice(b"null"));
            }
            self.unsettled |= self.edits.len() > edits;
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
        if written.len() <= LABEL_BYTES_MAX && classes::of(written) & (ESCAPE | HIGH) == 0 {
            return self.label(written);
        }
        if written.len() > LABEL_BYTES_MAX * ESCAPED_BYTES_MAX {
            return Evidence::NONE;
        }
        let mut decoded = std::mem::take(&mut self.decoded_key);
        decoded.cast(written, 0, Writing::Escaped, Reading::Joined);
        let said = if decoded.text.len() <= LABEL_BYTES_MAX {
            self.label(&decoded.text)
        } else {
            Evidence::NONE
        };
        self.decoded_key = decoded;
        said
    }

    /// What a name of a key says that is no key here.
    fn label(&mut self, name: &[u8]) -> Evidence {
        if self.is_own(name) {
            return Evidence::NONE;
        }
        if let Some(known) = self.labels.get(name) {
            return known.evidence;
        }
        let evidence = keys::evidence(name);
        let rule = None;
        self.labels.put(name, Known { evidence, rule });
        evidence
    }

    /// Whether the engine may have written `name`, which then says nothing. What a producer wrote
    /// was heeded when it was scanned for the first time.
    pub(super) fn is_own(&self, name: &[u8]) -> bool {
        self.edited && self.policy.is_label(name)
    }

    /// Adds what the detectors find in the values of pairs like `first_name=Jane` in a text.
    pub(super) fn pairs(&mut self, text: &Text<'_>, hits: &mut Hits) {
        let mut from = 0;
        while let Some(name) = detect::pair(text.bytes, from) {
            from = name.end + 1;
            let evidence = self.label(&text.bytes[name]) & WHOLE_VALUES;
            if evidence.is_none() {
                continue;
            }
            let value = detect::pair_value(text.bytes, from);
            from = value.end;
            let bytes = &text.bytes[value.clone()];
            let inside = Text {
                bytes,
                evidence,
                kind: Kind::Text,
                edited: text.edited,
            };
            self.pair_hits.list.clear();
            detect::scan(
                &inside,
                classes::of(bytes),
                self.policy.enabled(),
                &mut self.pair_hits,
            );
            for hit in &self.pair_hits.list {
                let (start, end) = (hit.start + value.start, hit.end + value.start);
                hits.claim(start..end, hit.detector);
            }
        }
    }

    /// Scans the value `scalar` of the record as the edits after the first `edits` leave it, and
    /// notes whether there still are findings.
    pub(super) fn probe(&mut self, edits: usize, scalar: Scalar<'_>, member: &Member) {
        if self.unsettled || !self.policy.rescans() {
            return;
        }
        let Token { start, end, .. } = scalar.token;
        let within = match scalar.kind {
            Kind::Text => start - 1..end + 1,
            _ => start..end,
        };
        let mut made = std::mem::take(&mut self.second);
        made.clear();
        let all = self
            .edits
            .apply_within(edits, scalar.bytes, within, &mut made);
        if !all || self.has_findings(&made, member) {
            self.unsettled = true;
        }
        self.second = made;
    }

    /// Whether there are findings to act on in a value by itself.
    fn has_findings(&mut self, value: &[u8], member: &Member) -> bool {
        let (kind, quote) = match value.first() {
            Some(b'"') if self.policy.is_label(&value[1..value.len() - 1]) => return false,
            Some(b'"') => (Kind::Text, 1),
            Some(b'n') => return false,
            _ => (Kind::Number, 0),
        };
        let token = Token {
            start: quote,
            end: value.len() - quote,
            classes: classes::of(&value[quote..value.len() - quote]),
        };
        let scalar = Scalar {
            bytes: value,
            level: 0,
            token,
            kind,
            part: false,
        };
        // Pointers would name a key of the record.
        let member = Member {
            segment: Segment::Root,
            ..*member
        };
        let (told, shown, edits) = (self.findings.len(), self.pointers.len(), self.edits.len());
        let values = self.found.len();
        let mark = self.trail.mark();
        let edited = std::mem::replace(&mut self.edited, true);
        let found = self.scalar(scalar, &member) != Ok(false) || self.edits.len() > edits;
        self.edited = edited;
        self.trail.back_to(mark);
        self.findings.truncate(told);
        self.pointers.truncate(shown);
        self.edits.truncate(edits);
        self.found.truncate(values);
        found
    }
}
