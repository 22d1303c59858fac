//! The shadow of a text in which tricks of writing are undone, with the way back to the source.
//!
//! Owns decoding of JSON escapes and folding: digits, letters, dots, dashes and spaces of other
//! scripts become ASCII, invisible characters disappear, and what is percent-encoded, also
//! several times, or stands in an escape that a text holds as it is (`\\n`, `\\x1b[32m`), becomes what
//! it stands for. What only looks encoded may be data (`LIKE '%53%'`), so there is a second reading
//! that leaves such things as they are written. Invisible characters may also stand between two things,
//! so there is another reading in which they separate. A NUL separates, except in UTF-16. Every byte of the shadow knows
//! the source bytes it came from and its offset in the decoded value, so that an edit covers
//! whole characters of the source and never a part of one. Characters without a rule stay as
//! they are. Memory: the shadow is at most as long as the source; its map has one entry per
//! change of width, at most about ten times the source for a text made to provoke it.

mod character;
mod encoded;
mod reading;
mod table;

use std::ops::Range;

use character::{ESCAPE, character};
use encoded::{EncodedText, EncodedUnit};
pub(crate) use reading::{Doubts, FoldReading, Notation};
use table::{Fold, SEPARATOR, folded};

/// An invisible character: where it lies in the source and in the decoded value, and its
/// widths there.
type Unseen = (usize, usize, [usize; 2]);

/// Units of equal widths that follow each other without a gap, in the shadow, in its source and in the decoded value.
#[derive(Debug, Clone, Copy)]
struct WidthRun {
    starts: [u32; 3],
    widths: [u8; 3],
}

/// The place of each text in a [`WidthRun`].
const SHADOW: usize = 0;
const SOURCE: usize = 1;
const DECODED: usize = 2;

/// A text and the way back to its source.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    pub(crate) text: Vec<u8>,
    /// The way back to the source.
    pub(crate) map: OffsetMap,
    /// Why other readings may be other texts.
    pub(crate) doubts: Doubts,
}

/// From offsets in a shadow to ranges of its source and of the decoded value.
#[derive(Debug, Default)]
pub(crate) struct OffsetMap {
    runs: Vec<WidthRun>,
}

impl OffsetMap {
    fn push(&mut self, starts: [usize; 3], widths: [usize; 3]) {
        if let Some(last) = self.runs.last()
            && last.widths.map(usize::from) == widths
        {
            let units = (starts[SHADOW] - last.starts[SHADOW] as usize) / widths[SHADOW];
            if last.starts[SOURCE] as usize + units * widths[SOURCE] == starts[SOURCE] {
                return;
            }
        }
        self.runs.push(WidthRun {
            starts: starts.map(narrow),
            widths: widths.map(narrow_width),
        });
    }

    /// Where the unit that holds the shadow byte at `offset` lies in one of the texts.
    fn unit(&self, offset: usize, text: usize) -> Range<usize> {
        let after = self
            .runs
            .partition_point(|run| run.starts[SHADOW] as usize <= offset);
        let Some(run) = after.checked_sub(1).and_then(|index| self.runs.get(index)) else {
            return offset..offset + 1;
        };
        let widths = run.widths.map(usize::from);
        let units = (offset - run.starts[SHADOW] as usize) / widths[SHADOW];
        let start = run.starts[text] as usize + units * widths[text];
        start..start + widths[text]
    }

    /// The source bytes behind a range of the shadow, that must not be empty.
    pub(crate) fn source(&self, range: Range<usize>) -> Range<usize> {
        self.unit(range.start, SOURCE).start..self.unit(range.end - 1, SOURCE).end
    }

    /// The bytes of the decoded value behind a range of the shadow, that must not be empty.
    pub(crate) fn decoded(&self, range: Range<usize>) -> Range<usize> {
        self.unit(range.start, DECODED).start..self.unit(range.end - 1, DECODED).end
    }
}

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).expect("the record limit is below 4 GiB")
}

fn narrow_width(width: usize) -> u8 {
    u8::try_from(width).expect("no character is written with more than 255 bytes")
}

impl Shadow {
    /// Replaces the shadow by that of `source`, whose first byte lies at `base` of the text that
    /// source offsets refer to.
    pub(crate) fn cast(
        &mut self,
        source: &[u8],
        base: usize,
        writing: Notation,
        reading: FoldReading,
    ) {
        self.text.clear();
        self.map.runs.clear();
        self.doubts = Doubts::default();
        let folds = reading != FoldReading::Exact;
        let mut at = 0;
        let mut decoded = 0;
        let mut unseen: Option<Unseen> = None;
        let mut last = ' ';
        // Whether the last character and the one before are NULs.
        let mut nuls = [false; 2];
        while let Some(&byte) = source.get(at) {
            let (character, width) = if byte < 0x80 && byte != b'\\' {
                (Some(char::from(byte)), 1)
            } else {
                character(&source[at..], writing)
            };
            let mut unit = EncodedUnit {
                character,
                width,
                decoded: character.map_or(width, char::len_utf8),
            };
            let whole = match character {
                Some('%' | '\\' | '^' | ESCAPE) if folds => {
                    let source = &source[at..];
                    EncodedText { source, writing }.joined(reading, unit)
                }
                _ => None,
            };
            self.doubts.encoded |= whole.is_some();
            unit = whole.unwrap_or(unit);
            let widths = [unit.width, unit.decoded];
            let fold = match unit.character {
                Some(ESCAPE) if whole.is_some() && reading.is_written() => Fold::Drop,
                Some('\0') if reading == FoldReading::Joined => Fold::Drop,
                Some(character) if folds => {
                    let fold = folded(character);
                    if matches!(fold, Fold::Drop) {
                        unseen = Some((base + at, decoded, widths));
                    }
                    fold
                }
                Some(_) => Fold::Keep,
                None => Fold::To(SEPARATOR),
            };
            let shown = match fold {
                Fold::To(ascii) => Some(char::from(ascii)),
                Fold::Keep => unit.character,
                Fold::Drop => None,
            };
            if let Some(shown) = shown {
                if let Some((source, decoded, widths)) = unseen.take()
                    && may_join(last, shown)
                {
                    let two_kinds = are_letter_and_digit(last, shown);
                    self.doubts.unseen |= !two_kinds;
                    self.doubts.unseen_between_kinds |= two_kinds;
                    if reading.separates(two_kinds) {
                        self.put(&[SEPARATOR], source, decoded, widths);
                    }
                }
                last = shown;
                let at = base + at;
                let mut buffer = [0; 4];
                let text = shown.encode_utf8(&mut buffer).as_bytes();
                if matches!(fold, Fold::Keep) && unit.width == unit.decoded && whole.is_none() {
                    for (step, byte) in text.iter().enumerate() {
                        self.put(&[*byte], at + step, decoded + step, [1, 1]);
                    }
                } else {
                    self.put(text, at, decoded, widths);
                }
            }
            let is_nul = unit.character == Some('\0');
            self.doubts.wide |= is_nul && nuls[1];
            nuls = [is_nul, nuls[0]];
            at += unit.width;
            decoded += unit.decoded;
        }
        debug_assert!(
            self.text.len() <= source.len(),
            "a shadow is not longer than its source"
        );
    }

    fn put(&mut self, text: &[u8], source: usize, decoded: usize, widths: [usize; 2]) {
        let starts = [self.text.len(), source, decoded];
        self.map.push(starts, [text.len(), widths[0], widths[1]]);
        self.text.extend_from_slice(text);
    }

    /// Gives memory beyond `bytes_max` back.
    pub(crate) fn shrink(&mut self, bytes_max: usize) {
        self.text.clear();
        self.map.runs.clear();
        self.text.shrink_to(bytes_max);
        self.map.runs.shrink_to(bytes_max / size_of::<WidthRun>());
    }
}

/// Whether two characters, with nothing visible between them, may belong together or not.
fn may_join(before: char, after: char) -> bool {
    let ends = |character: char| character.is_whitespace() || character.is_control();
    !ends(before) && !ends(after) && (before.is_ascii() || after.is_ascii())
}

/// Whether one of two characters is a letter and the other one a digit, in either order.
fn are_letter_and_digit(one: char, other: char) -> bool {
    one.is_ascii_digit() && other.is_alphabetic() || one.is_alphabetic() && other.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(source: &[u8], writing: Notation) -> Shadow {
        let mut shadow = Shadow::default();
        shadow.cast(source, 0, writing, FoldReading::Decoded);
        shadow
    }

    #[test]
    fn digits_of_other_scripts_become_ascii() {
        for (source, text) in [
            ("４１１１", "4111"),
            ("٠١٢٣٤٥٦٧٨٩", "0123456789"),
            ("۴۲", "42"),
            ("०९", "09"),
            ("𝟎𝟗𝟘𝟿", "0909"),
            ("²³¹⁰₉①", "231091"),
            ("ａ＠ｂ．ｃ", "a@b.c"),
            ("1\u{a0}2\u{2007}3", "1 2 3"),
            ("1‑2–3", "1-2-3"),
            ("a\u{200b}\u{200d}\u{feff}b", "ab"),
            ("𝒂𝐙", "aZ"),
            ("Zoë", "Zoë"),
        ] {
            let shadow = cast(source.as_bytes(), Notation::Plain);
            assert_eq!(String::from_utf8_lossy(&shadow.text), text, "{source}");
        }
    }

    #[test]
    fn the_map_leads_back_to_whole_characters() {
        let source = "x\u{200b}４２é\\u0041\\n\\ud83d\\ude00y";
        let shadow = cast(source.as_bytes(), Notation::Escaped);
        assert_eq!(String::from_utf8_lossy(&shadow.text), "x42éA\n😀y");
        let at = |text: &str| {
            let start = String::from_utf8_lossy(&shadow.text).find(text).unwrap();
            start..start + text.len()
        };
        let map = &shadow.map;
        for (shown, written) in [
            ("x", "x"),
            ("42", "４２"),
            ("x4", "x\u{200b}４"),
            ("A", "\\u0041"),
            ("\n", "\\n"),
            ("😀", "\\ud83d\\ude00"),
            ("A\n", "\\u0041\\n"),
            ("y", "y"),
        ] {
            assert_eq!(&source[map.source(at(shown))], written, "{shown}");
        }
        let decoded = "x\u{200b}４２éA\n😀y";
        assert_eq!(&decoded[map.decoded(at("42"))], "４２");
        assert_eq!(&decoded[map.decoded(at("A"))], "A");
        assert_eq!(&decoded[map.decoded(at("y"))], "y");
    }

    #[test]
    fn bytes_that_are_no_utf8_separate() {
        let shadow = cast(b"a\xff\xc3b", Notation::Plain);
        assert_eq!(shadow.text, b"a\x1a\x1ab");
        assert_eq!(shadow.map.source(3..4), 3..4);
    }

    #[test]
    fn decoding_alone_keeps_every_character() {
        let mut shadow = Shadow::default();
        shadow.cast(
            "\\\"４\u{200b}\\/".as_bytes(),
            7,
            Notation::Escaped,
            FoldReading::Exact,
        );
        assert_eq!(String::from_utf8_lossy(&shadow.text), "\"４\u{200b}/");
        assert_eq!(shadow.map.source(0..1), 7..9);
    }

    #[test]
    fn escapes_that_a_text_holds_are_undone_in_one_of_two_readings() {
        let mut shadow = Shadow::default();
        for (source, decoded, written) in [
            (r"a\n1", "a\n1", r"a\n1"),
            (r"a\\t1", "a\\\t1", r"a\\t1"),
            (
                r"\u0041\u00e9\ud83d\ude00",
                "Aé😀",
                r"\u0041\u00e9\ud83d\ude00",
            ),
            (r"\x41\xc3\xa9x", "Aéx", r"\x41\xc3\xa9x"),
            ("a\u{1b}[1;32mb\u{1b}[0mc", "a\u{1b}b\u{1b}c", "abc"),
            (
                r"\x1b[32mb\033[mc\e[Kd^[[0me",
                "\u{1b}b\u{1b}c\u{1b}d\u{1b}e",
                r"\x1b[32mb\033[mc\e[Kd^[[0me",
            ),
            ("%41%4", "A%4", "%41%4"),
            ("%5cnb", "\nb", "%5cnb"),
            (
                r"\\10.1.2.3\share \u12 \d",
                r"\\10.1.2.3\share \u12 \d",
                r"\\10.1.2.3\share \u12 \d",
            ),
        ] {
            shadow.cast(source.as_bytes(), 0, Notation::Plain, FoldReading::Decoded);
            assert_eq!(String::from_utf8_lossy(&shadow.text), decoded, "{source}");
            let differs = shadow.doubts.concern(FoldReading::Written);
            assert_eq!(differs, decoded != source, "{source}");
            shadow.cast(source.as_bytes(), 0, Notation::Plain, FoldReading::Written);
            assert_eq!(String::from_utf8_lossy(&shadow.text), written, "{source}");
            // The same text as the inside of a JSON string.
            let json = serde_json::Value::from(source).to_string();
            let inside = &json.as_bytes()[1..json.len() - 1];
            shadow.cast(inside, 0, Notation::Escaped, FoldReading::Decoded);
            assert_eq!(String::from_utf8_lossy(&shadow.text), decoded, "{json}");
            let (all, map) = (0..shadow.text.len(), &shadow.map);
            assert_eq!(map.source(all.clone()), 0..inside.len());
            assert_eq!(map.decoded(all), 0..source.len());
        }
    }
}
