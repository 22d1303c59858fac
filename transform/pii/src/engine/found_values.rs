//! The values that were found in a payload, and where they lie in its partition key.

use std::ops::Range;

use crate::audit::narrow;
use crate::class::Class;
use crate::detect::class_of;
use crate::text::byte_classes::{self, ESCAPE, HIGH, PERCENT};
use crate::text::fold::{FoldReading, Notation, OffsetMap, Shadow};
use crate::text::windows::leading;

/// Fewest characters of a value that count in the middle of a word of the key. Fewer have to be
/// words of it, and a single one all of it.
const INSIDE_MIN: usize = 4;
/// Last digits in which two ways to write a phone number agree, with and without its country.
const PHONE_DIGITS: usize = 9;
/// A value that was found, as a range of the arena.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundValue {
    start: u32,
    end: u32,
    pub(super) detector: u8,
    pub(super) rule: u16,
}

/// The values that were found in the last payload: as they were written until a key is compared
/// with them, and then their letters and digits.
#[derive(Debug, Default)]
pub(super) struct FoundValues {
    text: Vec<u8>,
    pub(super) values: Vec<FoundValue>,
    /// Whether the text holds letters and digits alone.
    plain: bool,
    written: Vec<u8>,
    /// The letters and digits of the present key.
    key: Vec<u8>,
}

impl FoundValues {
    /// Forgets all values, and gives memory back that only an unusual record needed.
    pub(super) fn clear(&mut self, bytes_max: usize) {
        for text in [&mut self.text, &mut self.written] {
            text.clear();
            if text.capacity() > bytes_max {
                *text = Vec::new();
            }
        }
        self.values.clear();
        if self.values.capacity() * size_of::<FoundValue>() > bytes_max {
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

    pub(super) fn add(&mut self, detector: u8, rule: u16, written: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(written);
        self.values.push(FoundValue {
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
    pub(super) fn may_lie_in(&mut self, key: &[u8]) -> bool {
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

    fn text(&self, value: FoundValue) -> &[u8] {
        &self.text[value.start as usize..value.end as usize]
    }
}

impl FoundValue {
    fn is_phone(self) -> bool {
        class_of(self.detector) == Class::Phone
    }
}

/// Whether tricks of writing have to be undone in a key.
pub(super) fn may_fold(key: &[u8]) -> bool {
    byte_classes::of(key) & (ESCAPE | HIGH | PERCENT) != 0 || key.contains(&0)
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
    let text = String::from_utf8_lossy(written);
    let characters = text.chars().filter(|character| character.is_alphanumeric());
    let lower: String = characters.flat_map(char::to_lowercase).collect();
    out.extend_from_slice(lower.as_bytes());
}

/// A key as values are compared with it, and the way back to its bytes.
pub(super) struct PlainKey {
    pub(super) text: Vec<u8>,
    /// For each byte of the text, the bytes of the key that it stands for.
    pub(super) places: Vec<Range<usize>>,
    /// Whether a word starts at this byte.
    starts: Vec<bool>,
}

impl PlainKey {
    pub(super) fn of(key: &[u8], reading: FoldReading) -> Self {
        let mut shadow = Shadow::default();
        let (bytes, map): (&[u8], Option<&OffsetMap>) = if may_fold(key) {
            shadow.cast(key, 0, Notation::Plain, reading);
            (&shadow.text, Some(&shadow.map))
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
            let continued = leading(&bytes[at + 1..], |byte| byte & 0xc0 == 0x80).len();
            let width = if bytes[at] < 0x80 {
                1
            } else {
                1 + continued.min(3)
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
pub(super) struct Overlap {
    pub(super) range: Range<usize>,
    pub(super) value: FoundValue,
}

impl FoundValues {
    /// Where in `key` values lie, in order and apart from each other.
    pub(super) fn within(&self, key: &PlainKey) -> Vec<Overlap> {
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
        key: &PlainKey,
        value: FoundValue,
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
