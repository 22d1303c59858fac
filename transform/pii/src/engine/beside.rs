//! What stands beside a value: members that say what it is, and pairs of names and values in a text.

use super::verdict::Stop;
use super::{Engine, Scalar, narrow};
use crate::detect::{self, Hits, Kind, Text, WHOLE_VALUES};
use crate::json::Token;
use crate::keys::{self, Evidence, Known};
use crate::trail::{Member, Segment};

/// Longest text that may say what a value beside it is.
const LABEL_BYTES_MAX: usize = 64;

impl Engine {
    /// Notes what a member of the innermost object says about the value beside it, as
    /// `{"type":"ssn","value":..}` does, also if the value came first.
    pub(super) fn beside(&mut self, scalar: Scalar<'_>, member: &Member) -> Result<(), Stop> {
        let depth = self.trail.frames.len();
        let Some(frame) = self
            .trail
            .frames
            .last()
            .filter(|frame| frame.object)
            .copied()
        else {
            return Ok(());
        };
        let Token { start, end, .. } = scalar.token;
        if member.key.has(Evidence::LABEL) && scalar.kind == Kind::Text {
            let written = &scalar.bytes[start..end];
            if written.len() > LABEL_BYTES_MAX {
                return Ok(());
            }
            let said = self.label(written) & WHOLE_VALUES;
            if said.is_none() {
                return Ok(());
            }
            self.trail.frames[depth - 1].said |= said;
            if let Some([start, end, key_start, key_end]) = frame.value {
                let (start, end) = (start as usize, end as usize);
                let kind = match scalar.bytes.get(end) {
                    Some(b'"') if start > 0 && scalar.bytes[start - 1] == b'"' => Kind::Text,
                    _ => Kind::Number,
                };
                let token = Token {
                    start,
                    end,
                    classes: crate::classes::of(&scalar.bytes[start..end]),
                };
                let value = Member {
                    segment: Segment::Written(key_start, key_end),
                    evidence: frame.member.evidence.for_members(frame.member.key) | said,
                    rule: None,
                    ..frame.member
                };
                let value_scalar = Scalar {
                    token,
                    kind,
                    ..scalar
                };
                // A rule that removes such members cannot do so any more: the walk is past it.
                let edits = self.edits.len();
                if self.scalar(value_scalar, &value)? {
                    let range = match kind {
                        Kind::Text => start - 1..end + 1,
                        _ => start..end,
                    };
                    let range = self.in_record(scalar.level, range);
                    self.edits.add(range, |out| out.extend_from_slice(b"null"));
                }
                self.unsettled |= self.edits.len() > edits;
            }
        } else if member.key.has(Evidence::CONTENT) && frame.said.is_none() {
            let key = match member.segment {
                Segment::Written(start, end) => [start, end],
                _ => [0, 0],
            };
            self.trail.frames[depth - 1].value = Some([narrow(start), narrow(end), key[0], key[1]]);
        }
        Ok(())
    }

    /// What a name of a key says that is no key here.
    fn label(&mut self, name: &[u8]) -> Evidence {
        if let Some(known) = self.labels.get(name) {
            return known.evidence;
        }
        let evidence = keys::evidence(name);
        let rule = None;
        self.labels.put(name, Known { evidence, rule });
        evidence
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
            };
            let first = hits.list.len();
            detect::scan(
                &inside,
                crate::classes::of(bytes),
                self.policy.enabled(),
                hits,
            );
            for hit in &mut hits.list[first..] {
                hit.start += value.start;
                hit.end += value.start;
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
            classes: crate::classes::of(&value[quote..value.len() - quote]),
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
        let mark = self.trail.mark();
        let found = self.scalar(scalar, &member) != Ok(false) || self.edits.len() > edits;
        self.trail.back_to(mark);
        self.findings.truncate(told);
        self.pointers.truncate(shown);
        self.edits.truncate(edits);
        found
    }
}
