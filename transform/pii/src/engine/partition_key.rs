//! The partition key beside a payload: what was found in the one must not leave in the other.
//!
//! Owns the values that the findings of the last payload covered, in the form in which they are
//! compared with its key: letters and digits alone, in lower case, so that separators and case hide
//! nothing. What was found with the help of key names, siblings or rules is found in the key too,
//! though it says nothing about itself there. Refuses to guess which fields a key was made of.

use std::ops::Range;
use std::sync::Arc;

use super::verdict::{Stop, Verdict};
use super::{Engine, Reason, Scalar, narrow};
use crate::action::{self, Action, Outcome, PARTITION_KEY};
use crate::audit::Class;
use crate::classes::{self, ESCAPE, HIGH, PERCENT};
use crate::detect::{self, BY_RULE, Kind, TABLE};
use crate::fold::{OffsetMap, Reading, Shadow, Writing};
use crate::trail::Segment;

/// Fewest characters of a value that count in the middle of a word of the key. Fewer have to be
/// words of it, and a single one all of it.
const INSIDE_MIN: usize = 4;
/// Last digits in which two ways to write a phone number agree, with and without its country.
const PHONE_DIGITS: usize = 9;
/// Longest key, in letters and digits, in which values are looked for. A longer one beside findings
/// is replaced as a whole, so that the work stays linear.
const KEY_CHARACTERS_MAX: usize = 4096;

/// A value that was found, as a range of the arena.
#[derive(Debug, Clone, Copy)]
struct Value {
    start: u32,
    end: u32,
    detector: u8,
    rule: u16,
}

/// The values that were found in the last payload: as they were written until a key is compared
/// with them, and then their letters and digits.
#[derive(Debug, Default)]
pub(super) struct Found {
    text: Vec<u8>,
    values: Vec<Value>,
    /// Whether the text holds letters and digits alone.
    plain: bool,
    written: Vec<u8>,
    /// The letters and digits of the present key.
    key: Vec<u8>,
}

impl Found {
    /// Forgets all values, and gives memory back that only an unusual record needed.
    pub(super) fn clear(&mut self, bytes_max: usize) {
        for text in [&mut self.text, &mut self.written] {
            text.clear();
            if text.capacity() > bytes_max {
                *text = Vec::new();
            }
        }
        self.values.clear();
        if self.values.capacity() * size_of::<Value>() > bytes_max {
            self.values = Vec::new();
        }
        self.plain = false;
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Forgets all values after the first `count`.
    pub(super) fn truncate(&mut self, count: usize) {
        self.values.truncate(count);
        let end = self.values.last().map_or(0, |value| value.end);
        self.text.truncate(end as usize);
    }

    fn add(&mut self, detector: u8, rule: u16, written: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(written);
        self.values.push(Value {
            start: narrow(start),
            end: narrow(self.text.len()),
            detector,
            rule,
        });
    }

    /// Leaves the letters and digits of all values, and the values that have some.
    fn make_plain(&mut self) {
        if std::mem::replace(&mut self.plain, true) {
            return;
        }
        let Self {
            text,
            values,
            written,
            ..
        } = self;
        std::mem::swap(text, written);
        text.clear();
        values.retain_mut(|value| {
            let start = text.len();
            letters(&written[value.start as usize..value.end as usize], text);
            (value.start, value.end) = (narrow(start), narrow(text.len()));
            text.len() > start
        });
    }

    /// Whether a value may lie in `key`: cheap, and only ever wrong by saying yes.
    fn may_lie_in(&mut self, key: &[u8]) -> bool {
        self.make_plain();
        if may_fold(key) {
            return !self.values.is_empty();
        }
        self.key.clear();
        letters(key, &mut self.key);
        self.values.iter().any(|&value| {
            let text = self.text(value);
            let digits = text.last_chunk().filter(|_| value.is_phone());
            let text = digits.map_or(text, |digits: &[u8; PHONE_DIGITS]| digits);
            text.len() <= self.key.len() && memchr::memmem::find(&self.key, text).is_some()
        })
    }

    fn text(&self, value: Value) -> &[u8] {
        &self.text[value.start as usize..value.end as usize]
    }
}

impl Value {
    fn is_phone(self) -> bool {
        TABLE[usize::from(self.detector)].info.class == Class::Phone
    }
}

/// Whether tricks of writing have to be undone in a key.
fn may_fold(key: &[u8]) -> bool {
    classes::of(key) & (ESCAPE | HIGH | PERCENT) != 0 || key.contains(&0)
}

/// Appends the letters and digits of `written`, in lower case.
fn letters(written: &[u8], out: &mut Vec<u8>) {
    if written.is_ascii() {
        let mut end = out.len();
        out.resize(end + written.len(), 0);
        for &byte in written {
            out[end] = byte.to_ascii_lowercase();
            end += usize::from(byte.is_ascii_alphanumeric());
        }
        out.truncate(end);
        return;
    }
    for character in String::from_utf8_lossy(written).chars() {
        if character.is_alphanumeric() {
            for lower in character.to_lowercase() {
                out.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
}

/// A key as values are compared with it, and the way back to its bytes.
struct Plain {
    text: Vec<u8>,
    /// For each byte of the text, the bytes of the key that it stands for.
    places: Vec<Range<usize>>,
    /// Whether a word starts at this byte.
    starts: Vec<bool>,
}

impl Plain {
    fn of(key: &[u8], reading: Reading) -> Self {
        let mut shadow = Shadow::default();
        let (bytes, map): (&[u8], Option<&OffsetMap>) = if may_fold(key) {
            shadow.cast(key, 0, Writing::Plain, reading);
            (&shadow.text, Some(shadow.map()))
        } else {
            (key, None)
        };
        let mut plain = Self {
            text: Vec::with_capacity(bytes.len()),
            places: Vec::with_capacity(bytes.len()),
            starts: Vec::with_capacity(bytes.len()),
        };
        let mut before = b' ';
        let mut at = 0;
        while at < bytes.len() {
            let width = match bytes[at] {
                ..0x80 => 1,
                _ => {
                    bytes[at + 1..]
                        .iter()
                        .take_while(|&&byte| byte & 0xc0 == 0x80)
                        .count()
                        .min(3)
                        + 1
                }
            };
            let start = plain.text.len();
            letters(&bytes[at..at + width], &mut plain.text);
            let place = map.map_or(at..at + width, |map| map.source(at..at + width));
            let kind = |byte: u8| {
                (
                    byte.is_ascii_digit(),
                    byte.is_ascii_alphabetic() || byte >= 0x80,
                )
            };
            let starts = kind(bytes[at]) != kind(before)
                || bytes[at].is_ascii_uppercase() && before.is_ascii_lowercase();
            for index in start..plain.text.len() {
                plain.places.push(place.clone());
                plain.starts.push(starts && index == start);
            }
            before = bytes[at];
            at += width;
        }
        plain
    }

    fn word_starts(&self, at: usize) -> bool {
        self.starts.get(at).copied().unwrap_or(true)
            // What separates words is not part of the text.
            || at > 0 && self.places[at - 1].end < self.places[at].start
    }
}

/// Where values of a payload lie in its key.
#[derive(Debug)]
struct Overlap {
    range: Range<usize>,
    value: Value,
}

impl Found {
    /// Where in `key` values lie, in order and apart from each other.
    fn within(&self, key: &Plain) -> Vec<Overlap> {
        let mut overlaps = Vec::new();
        let mut taken = vec![false; key.text.len()];
        for short in [false, true] {
            for &value in &self.values {
                let text = self.text(value);
                if text.len() > key.text.len() + PHONE_DIGITS || (text.len() < INSIDE_MIN) != short
                {
                    continue;
                }
                self.mark(key, value, short, &mut taken, &mut overlaps);
            }
        }
        overlaps.sort_by_key(|overlap| (overlap.range.start, std::cmp::Reverse(overlap.range.end)));
        overlaps.dedup_by(|next, first| {
            let joins = next.range.start < first.range.end;
            if joins {
                first.range.end = first.range.end.max(next.range.end);
            }
            joins
        });
        overlaps
    }

    fn mark(
        &self,
        key: &Plain,
        value: Value,
        short: bool,
        taken: &mut [bool],
        overlaps: &mut Vec<Overlap>,
    ) {
        let text = self.text(value);
        let mut claim = |range: Range<usize>, taken: &mut [bool]| {
            if taken[range.clone()].iter().all(|&taken| taken) {
                return;
            }
            taken[range.clone()].fill(true);
            overlaps.push(Overlap { range, value });
        };
        let mut found = false;
        for start in memchr::memmem::find_iter(&key.text, text) {
            let end = start + text.len();
            let word = || {
                let starts = start == 0 || taken[start - 1] || key.word_starts(start);
                let ends = end == taken.len() || taken[end] || key.word_starts(end);
                starts && ends && (text.len() > 1 || text.len() == key.text.len())
            };
            if !short || word() {
                found = true;
                claim(start..end, taken);
            }
        }
        let digits = text.last_chunk::<PHONE_DIGITS>();
        if let Some(digits) = digits.filter(|_| value.is_phone() && !found)
            && let Some(start) = memchr::memmem::find(&key.text, digits)
        {
            let before = key.text[..start].iter().rev();
            let more = before.take_while(|byte| byte.is_ascii_digit()).count();
            claim(start - more..start + PHONE_DIGITS, taken);
        }
    }
}

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
    pub(super) fn note(&mut self, detector: u8, rule: u16, kind: Kind, found: &[u8]) {
        if self.policy.rule(rule).action == Action::Keep {
            return;
        }
        self.found.add(detector, rule, found);
        if kind == Kind::Number
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
        if classes::of(written) & (ESCAPE | HIGH | PERCENT) == 0 {
            return self.note(BY_RULE, rule, scalar.kind, written);
        }
        let mut shadow = std::mem::take(&mut self.shadow);
        shadow.cast(written, 0, Writing::Escaped, Reading::Decoded);
        self.note(BY_RULE, rule, scalar.kind, &shadow.text);
        self.shadow = shadow;
    }

    /// Processes the partition key of the payload that was processed last, if something that was
    /// found in the payload lies in the key too: as it is, with other separators, or in another
    /// case. Otherwise the verdict is [`Verdict::Clean`], and the key still has to be processed by
    /// itself. Its findings are added to those of the payload.
    pub fn process_key_beside(&mut self, key: &[u8], out: &mut Vec<u8>) -> Verdict {
        if !self.found.may_lie_in(key) {
            return Verdict::Clean;
        }
        let start = out.len();
        let found = std::mem::take(&mut self.found);
        let verdict = self
            .redact_key_beside(key, &found, out)
            .unwrap_or_else(|stop| {
                out.truncate(start);
                stop.into()
            });
        self.found = found;
        self.shrink();
        verdict
    }

    fn redact_key_beside(
        &mut self,
        key: &[u8],
        found: &Found,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Stop> {
        if key.len() > self.policy.limits().record_bytes {
            return Err(Stop::Quarantine(Reason::TooLarge));
        }
        let policy = Arc::clone(&self.policy);
        let mut plain = Plain::of(key, Reading::Decoded);
        let mut overlaps = match found.values.first() {
            Some(&value) if plain.text.len() > KEY_CHARACTERS_MAX => vec![Overlap {
                range: 0..plain.text.len(),
                value,
            }],
            _ => found.within(&plain),
        };
        if overlaps.is_empty() && may_fold(key) {
            plain = Plain::of(key, Reading::Written);
            overlaps = found.within(&plain);
        }
        if overlaps.is_empty() {
            return Ok(Verdict::Clean);
        }
        self.restart();
        for Overlap { range, value } in overlaps {
            let place = plain.places[range.start].start..plain.places[range.end - 1].end;
            self.tell(
                value.detector,
                value.rule,
                Segment::Root,
                key,
                true,
                place.clone(),
            )?;
            let class = TABLE[usize::from(value.detector)].info.class;
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
                } else if action::replace(action, class, &key[place], policy.key(), text)
                    == Outcome::Null
                {
                    text.extend_from_slice(class.label().as_bytes());
                }
            });
        }
        if let Some(token_key) = policy.key() {
            token_key.write(PARTITION_KEY, key, out);
            return Ok(Verdict::Redacted);
        }
        let mut rest = Vec::new();
        self.edits.apply(key, &mut rest);
        // The rest of the key speaks for itself, as it does without a payload.
        let told = std::mem::take(&mut self.findings);
        let pointers = std::mem::take(&mut self.pointers);
        self.restart();
        self.edited = true;
        let scanned = self.scan_key(&rest).and_then(|()| {
            self.unsettled = true;
            self.rewrite(&rest, out, Self::scan_key)
        });
        let of_rest = std::mem::replace(&mut self.findings, told);
        self.pointers = pointers;
        self.findings
            .extend(of_rest.into_iter().filter(|finding| finding.acted()));
        if scanned? == Verdict::Clean {
            out.extend_from_slice(&rest);
        }
        Ok(Verdict::Redacted)
    }
}
