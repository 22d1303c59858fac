//! Turns the hits in one scalar into edits and findings.
//!
//! Overlapping hits are joined, and their union is always covered, whichever of them decides how.

use std::ops::Range;
use std::sync::Arc;

use super::{Engine, QuarantineReason, Scalar};
use crate::action::{self, Action, Replacement};
use crate::audit::{Finding, narrow};
use crate::detect::{self, BY_RULE, FoldedText, Hit, TABLE, TextKind, class_of};
use crate::policy::Policy;
use crate::text::byte_classes::{self, Classes, EQUALS, ESCAPE, HIGH, PERCENT};
use crate::text::fold::{Doubts, FoldReading, Notation, OffsetMap};
use crate::text::json::Token;
use crate::trail::{Member, PointerSegment};
use crate::verdict::Stop;

/// Bytes of pointers of one record, so that many findings far down cost no more memory than the
/// record. Those of findings after that are cut off at once.
const POINTERS_BYTES_MAX: usize = 4 << 20;
/// Most bytes that encode a character behind a percent sign or backslash.
const ENCODED_BYTES_MAX: usize = 5;

/// A scalar in one reading, and the way back from that.
#[derive(Clone, Copy)]
struct ScalarReading<'a> {
    scalar: Scalar<'a>,
    text: FoldedText<'a>,
    map: Option<&'a OffsetMap>,
    member: &'a Member,
}

impl Engine {
    /// Runs the detectors over one scalar or key and acts on what they find, in each reading of it.
    /// Returns how a key with findings is shown in pointers.
    pub(super) fn detect(
        &mut self,
        scalar: Scalar<'_>,
        writing: Notation,
        member: &Member,
    ) -> Result<Option<PointerSegment>, Stop> {
        let Token {
            start,
            end,
            classes,
        } = scalar.token;
        let written = &scalar.bytes[start..end];
        let folds = classes & (ESCAPE | HIGH | PERCENT) != 0
            || writing == Notation::Plain && written.contains(&0);
        let before = self.findings.len();
        if !folds {
            return self.look(scalar, written, None, classes, member, before..before);
        }
        let mut shadow = std::mem::take(&mut self.shadow);
        let mut shown = Ok(None);
        let mut doubts = None;
        for reading in FoldReading::ALL {
            if doubts.is_some_and(|doubts: Doubts| !doubts.concern(reading))
                || reading == FoldReading::Once && memchr::memmem::find(written, b"%25").is_none()
            {
                continue;
            }
            shadow.cast(written, start, writing, reading);
            let earlier = before..self.findings.len();
            let classes = byte_classes::of(&shadow.text);
            let map = Some(&shadow.map);
            let found = self.look(scalar, &shadow.text, map, classes, member, earlier);
            shown = match (shown, found) {
                (shown, Ok(None)) => shown,
                (Ok(None), found) => found,
                // Neither shows what only the other found.
                (Ok(Some(_)), Ok(Some(_))) => {
                    for finding in &mut self.findings[before..] {
                        finding.pointer = (0, 0);
                    }
                    Ok(Some(self.name_of_key(scalar, "…".as_bytes())))
                }
                (_, stop) => stop,
            };
            if shown.is_err() {
                break;
            }
            doubts = doubts.or(Some(shadow.doubts));
            // The next reading asks for them in the order of the text.
            self.findings[before..].sort_by_key(|finding| finding.offset);
        }
        self.shadow = shadow;
        shown
    }

    /// Runs the detectors over one reading, with the way back from it, and acts on what they find
    /// that is not among the findings `earlier`.
    fn look(
        &mut self,
        scalar: Scalar<'_>,
        bytes: &[u8],
        map: Option<&OffsetMap>,
        classes: Classes,
        member: &Member,
        earlier: Range<usize>,
    ) -> Result<Option<PointerSegment>, Stop> {
        let text = FoldedText {
            bytes,
            evidence: member.evidence,
            kind: scalar.kind,
            edited: self.edited,
        };
        let mut hits = std::mem::take(&mut self.hits);
        hits.list.clear();
        if self.skips() {
            detect::scan(&text, classes, self.policy.enabled, &mut hits);
        } else {
            detect::scan_all(&text, self.policy.enabled, &mut hits);
        }
        if classes & EQUALS != 0 {
            self.pairs(&text, &mut hits);
        }
        if member.rule.is_some() && !text.bytes.is_empty() {
            hits.add(0..text.bytes.len(), BY_RULE);
        }
        let mut shown = Ok(None);
        if !hits.list.is_empty() {
            let reading = ScalarReading {
                scalar,
                text,
                map,
                member,
            };
            shown = self.resolve(&reading, &mut hits.list, earlier);
        }
        self.hits = hits;
        shown
    }

    /// Joins overlapping hits and acts once on each union.
    fn resolve(
        &mut self,
        reading: &ScalarReading<'_>,
        hits: &mut Vec<Hit>,
        mut earlier: Range<usize>,
    ) -> Result<Option<PointerSegment>, Stop> {
        let ScalarReading {
            scalar,
            text,
            member,
            ..
        } = *reading;
        let policy = Arc::clone(&self.policy);
        let effect = *self.trail.effect(member);
        let rule_of = |hit: &Hit| match hit.detector {
            BY_RULE => member.rule,
            detector => policy.rule_for(class_of(detector), &effect),
        };
        hits.retain(|hit| {
            let class = class_of(hit.detector);
            let found = &text.bytes[hit.start..hit.end];
            let row = &TABLE[usize::from(hit.detector)];
            rule_of(hit).is_some_and(|rule| {
                let exempt = !class.must_redact()
                    && hit.detector != BY_RULE
                    && (effect.allow.has(class) || policy.exempts(class, found));
                !(exempt || row.takes_whole_values() && policy.is_replacement(rule, found))
            })
        });
        hits.sort_unstable_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end), hit.detector));
        let mut shown = Vec::new();
        let mut copied = 0;
        let mut index = 0;
        while let Some(first) = hits.get(index) {
            let mut union = first.start..first.end;
            let mut winner = (weight(first, &policy, rule_of(first)), *first);
            index += 1;
            while let Some(next) = hits.get(index).filter(|next| next.start < union.end) {
                union.end = union.end.max(next.end);
                let weight = weight(next, &policy, rule_of(next));
                if weight > winner.0 {
                    winner = (weight, *next);
                }
                index += 1;
            }
            let winner = winner.1;
            if self.is_known(reading, union.clone(), &mut earlier) {
                continue;
            }
            let Some(rule) = rule_of(&winner) else {
                continue;
            };
            if scalar.kind == TextKind::Key {
                shown.extend_from_slice(&text.bytes[copied..union.start]);
                shown.extend_from_slice(class_of(winner.detector).label().as_bytes());
                copied = union.end;
            }
            self.act(reading, &policy, winner, rule, union)?;
        }
        if scalar.kind != TextKind::Key || copied == 0 {
            return Ok(None);
        }
        shown.extend_from_slice(&text.bytes[copied..]);
        Ok(Some(self.name_of_key(scalar, &shown)))
    }

    /// Shows a key like this in pointers, also in those of its findings, which were recorded before.
    fn name_of_key(&mut self, scalar: Scalar<'_>, shown: &[u8]) -> PointerSegment {
        let segment = self.trail.name(shown);
        self.point(segment, scalar.bytes);
        segment
    }

    /// Whether a finding of an earlier reading of the same text covers `union`, at most without
    /// what encodes a character before it. Unions are asked for in their order.
    fn is_known(
        &self,
        reading: &ScalarReading<'_>,
        union: Range<usize>,
        earlier: &mut Range<usize>,
    ) -> bool {
        let Some(map) = reading.map.filter(|_| earlier.start < earlier.end) else {
            return false;
        };
        let place = map.decoded(union.clone());
        while let Some(finding) = self.findings[earlier.clone()].first() {
            let (start, length) = (finding.offset as usize, finding.length as usize);
            if start + length < place.end {
                earlier.start += 1;
                continue;
            }
            let encoded =
                union.start > 0 && matches!(reading.text.bytes[union.start - 1], b'%' | b'\\');
            let reach = if encoded { ENCODED_BYTES_MAX } else { 0 };
            return start <= place.start + reach;
        }
        false
    }

    /// Acts on one union of hits, as `rule` says, which is that of the hit that decides.
    fn act(
        &mut self,
        reading: &ScalarReading<'_>,
        policy: &Policy,
        winner: Hit,
        rule: u16,
        union: Range<usize>,
    ) -> Result<(), Stop> {
        let ScalarReading {
            scalar,
            text,
            map,
            member,
        } = *reading;
        let exact = union == (winner.start..winner.end);
        let action = &policy.rule(rule).action;
        let class = class_of(winner.detector);
        let (written, decoded) = match map {
            Some(map) => (map.source(union.clone()), map.decoded(union.clone())),
            None => {
                let start = scalar.token.start;
                (start + union.start..start + union.end, union.clone())
            }
        };
        let in_key = scalar.kind == TextKind::Key;
        let (detector, segment) = (winner.detector, member.segment);
        self.record_finding(detector, rule, segment, scalar.bytes, in_key, decoded)?;
        let found = &text.bytes[union];
        self.note(detector, rule, scalar.kind, found);
        let label = Action::Label(None);
        let whole = match scalar.kind {
            // A string that is cut off has no quote at its end.
            TextKind::Text if !scalar.part => {
                scalar.token.start - 1..(scalar.token.end + 1).min(scalar.bytes.len())
            }
            _ => scalar.token.start..scalar.token.end,
        };
        let action = match (action, scalar.kind) {
            (Action::DropRecord, _) => return Err(Stop::Drop(rule)),
            (Action::Keep, _) => return Ok(()),
            (Action::DropField, TextKind::Text | TextKind::Number) => return Ok(()),
            (
                Action::DropField | Action::Null | Action::Round { .. } | Action::Year,
                TextKind::Key,
            ) => &label,
            (Action::Round { .. } | Action::Year, TextKind::Number) => action,
            (_, TextKind::Number) => &Action::Null,
            // A union that reaches beyond the winner may hold more than its action hides.
            (action, _) if !exact && action.reveals() => &label,
            (action, _) => action,
        };
        let is_year = scalar.kind == TextKind::Number
            && *action == Action::Year
            && detect::year_of(found).is_none();
        let range = if *action == Action::Null || is_year {
            whole
        } else {
            written
        };
        let range = self.in_record(scalar.level, range);
        self.edits.add(range, |out| {
            let start = out.len();
            let null = is_year
                || action::replace(action, class, found, policy.key.as_ref(), out)
                    == Replacement::Null;
            if null {
                out.extend_from_slice(b"null");
            }
            debug_assert!(
                !out[start..]
                    .iter()
                    .any(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')),
                "an action of a proved policy writes nothing that needs a JSON escape"
            );
        });
        Ok(())
    }

    /// Records a finding.
    pub(super) fn record_finding(
        &mut self,
        detector: u8,
        rule: u16,
        segment: PointerSegment,
        bytes: &[u8],
        in_key: bool,
        decoded: Range<usize>,
    ) -> Result<(), Stop> {
        if self.findings.len() >= self.policy.limits().findings {
            return Err(Stop::Quarantine(QuarantineReason::TooManyFindings));
        }
        let from = self.pointers.len();
        if from >= POINTERS_BYTES_MAX {
            self.pointers.extend_from_slice("/…".as_bytes());
        } else if !in_key {
            self.trail.render(segment, bytes, &mut self.pointers);
        }
        self.findings.push(Finding {
            detector,
            class: class_of(detector),
            action: self.policy.rule(rule).action.name(),
            rule,
            in_key,
            offset: narrow(decoded.start),
            length: narrow(decoded.len()),
            pointer: (narrow(from), narrow(self.pointers.len())),
        });
        Ok(())
    }

    /// Gives the last findings, which lie in one key, their pointer.
    fn point(&mut self, segment: PointerSegment, bytes: &[u8]) {
        let from = self.pointers.len();
        self.trail.render(segment, bytes, &mut self.pointers);
        let pointer = (narrow(from), narrow(self.pointers.len()));
        let open =
            |finding: &&mut Finding| finding.in_key && finding.pointer.0 == finding.pointer.1;
        for finding in self.findings.iter_mut().rev().take_while(open) {
            finding.pointer = pointer;
        }
    }
}

/// Which of overlapping hits decides: what must be redacted before other classes, a rule that hides
/// all before one that shows some, the longer, the earlier in the table.
fn weight(hit: &Hit, policy: &Policy, rule: Option<u16>) -> (bool, bool, usize, u8) {
    let action = rule.map(|rule| &policy.rule(rule).action);
    let hides = action.is_some_and(|action| !action.reveals());
    let must = class_of(hit.detector).must_redact() || hit.detector == BY_RULE && hides;
    let acts = action.is_some_and(|action| *action != Action::Keep);
    (must, acts, hit.end - hit.start, u8::MAX - hit.detector)
}
