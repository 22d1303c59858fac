//! Redacts the partition key beside a payload: what was found in the one must not leave in the other.
//!
//! Owns the values that the findings of the last payload covered, in the form in which they are
//! compared with its key: letters and digits alone, in lower case, so that separators and case hide
//! nothing. What was found with the help of key names, siblings or rules is found in the key too,
//! though it says nothing about itself there. Refuses to guess which fields a key was made of.

use std::ops::Range;
use std::sync::Arc;

use super::found_values::{FoundValues, Overlap, PlainKey, may_fold};
use super::{Engine, Scalar};
use crate::action::{self, Action, PARTITION_KEY, Replacement};
use crate::detect::{self, BY_RULE, TextKind, class_of};
use crate::text::byte_classes::{self, ESCAPE, HIGH, PERCENT};
use crate::text::fold::{FoldReading, Notation};
use crate::trail::PointerSegment;
use crate::verdict::{ScanVerdict, Stop};

/// Longest key, in letters and digits, in which values are looked for. A longer one beside findings
/// is replaced as a whole, so that the work stays linear.
const KEY_CHARACTERS_MAX: usize = 4096;

/// Whether a place in a key is a number of JSON, which has no quotes around it.
fn is_json_number(key: &[u8], place: &Range<usize>) -> bool {
    let before = key[..place.start].trim_ascii_end().last();
    let after = key[place.end..].trim_ascii_start().first();
    matches!(key.trim_ascii_start().first(), Some(b'{' | b'['))
        && matches!(before, Some(b':' | b',' | b'['))
        && matches!(after, Some(b',' | b']' | b'}'))
}

impl Engine {
    /// Notes a value that is not left as it is.
    pub(super) fn note(&mut self, detector: u8, rule: u16, kind: TextKind, found: &[u8]) {
        if self.policy.rule(rule).action == Action::Keep {
            return;
        }
        self.found.add(detector, rule, found);
        if kind == TextKind::Number
            && let Some(digits) = detect::plain_integer(found)
        {
            self.found.add(detector, rule, &digits);
        }
    }

    /// Notes a scalar or key inside of something that a rule removes as a whole.
    pub(super) fn note_removed(&mut self, scalar: Scalar<'_>, rule: Option<u16>) {
        let Some(rule) = rule else {
            return;
        };
        let written = &scalar.bytes[scalar.token.start..scalar.token.end];
        if byte_classes::of(written) & (ESCAPE | HIGH | PERCENT) == 0 {
            return self.note(BY_RULE, rule, scalar.kind, written);
        }
        let mut shadow = std::mem::take(&mut self.shadow);
        shadow.cast(written, 0, Notation::Escaped, FoldReading::Decoded);
        self.note(BY_RULE, rule, scalar.kind, &shadow.text);
        self.shadow = shadow;
    }

    /// Processes the partition key of the payload that was processed last, if something that was
    /// found in the payload lies in the key too: as it is, with other separators, or in another
    /// case. Otherwise the verdict is [`ScanVerdict::Clean`], and the key still has to be processed by
    /// itself. Its findings are added to those of the payload.
    pub fn process_key_beside(&mut self, key: &[u8], out: &mut Vec<u8>) -> ScanVerdict {
        if !self.found.may_lie_in(key) {
            return ScanVerdict::Clean;
        }
        self.conclude(key, out, |engine, key, out| {
            let found = std::mem::take(&mut engine.found);
            let redacted = engine.redact_key_beside(key, &found, out);
            engine.found = found;
            redacted
        })
    }

    fn redact_key_beside(
        &mut self,
        key: &[u8],
        found: &FoundValues,
        out: &mut Vec<u8>,
    ) -> Result<ScanVerdict, Stop> {
        let policy = Arc::clone(&self.policy);
        let mut plain = PlainKey::of(key, FoldReading::Decoded);
        let mut overlaps = match found.values.first() {
            Some(&value) if plain.text.len() > KEY_CHARACTERS_MAX => vec![Overlap {
                range: 0..plain.text.len(),
                value,
            }],
            _ => found.within(&plain),
        };
        if overlaps.is_empty() && may_fold(key) {
            plain = PlainKey::of(key, FoldReading::Written);
            overlaps = found.within(&plain);
        }
        if overlaps.is_empty() {
            return Ok(ScanVerdict::Clean);
        }
        self.restart();
        for Overlap { range, value } in overlaps {
            let place = plain.places[range.start].start..plain.places[range.end - 1].end;
            let (detector, root) = (value.detector, PointerSegment::Root);
            self.record_finding(detector, value.rule, root, key, true, place.clone())?;
            let class = class_of(value.detector);
            let label = Action::Label(None);
            let action = match &policy.rule(value.rule).action {
                action @ (Action::Label(_) | Action::Mask { .. } | Action::Token) => action,
                // What remains of a value in its place says less in a key, or more.
                _ => &label,
            };
            let null = is_json_number(key, &place);
            self.edits.add(place.clone(), |text| {
                if null {
                    text.extend_from_slice(b"null");
                } else if action::replace(action, class, &key[place], policy.key.as_ref(), text)
                    == Replacement::Null
                {
                    text.extend_from_slice(class.label().as_bytes());
                }
            });
        }
        if let Some(token_key) = policy.key.as_ref() {
            token_key.write(PARTITION_KEY, key, out);
            return Ok(ScanVerdict::Redacted);
        }
        let mut rest = Vec::new();
        self.edits.apply(key, &mut rest);
        // The rest of the key speaks for itself, as it does without a payload.
        let of_payload = std::mem::take(&mut self.findings);
        let pointers = std::mem::take(&mut self.pointers);
        self.restart();
        self.edited = true;
        let scanned = self.scan_key(&rest).and_then(|()| {
            self.needs_rescan = true;
            self.rewrite(&rest, out, Self::scan_key)
        });
        let of_rest = std::mem::replace(&mut self.findings, of_payload);
        self.pointers = pointers;
        self.findings
            .extend(of_rest.into_iter().filter(|finding| finding.acted()));
        if scanned? == ScanVerdict::Clean {
            out.extend_from_slice(&rest);
        }
        Ok(ScanVerdict::Redacted)
    }
}
