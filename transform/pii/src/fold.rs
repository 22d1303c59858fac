//! The shadow of a text in which tricks of writing are undone, with the way back to the source.
//!
//! Owns decoding of JSON escapes and folding: digits, letters, dots, dashes and spaces of other
//! scripts become ASCII, characters that nobody sees disappear, and what is percent-encoded, also
//! several times, or stands in an escape that a text holds as it is (`\\n`, `\\x1b[32m`), becomes what
//! it stands for. What only looks encoded may be data (`LIKE '%53%'`), so there is a second reading
//! that leaves such things as they are written. What nobody sees may also stand between two things,
//! so there is another reading in which it separates them. A NUL separates, except in UTF-16. Every byte of the shadow knows
//! the source bytes it came from and its offset in the decoded value, so that an edit covers
//! whole characters of the source and never a part of one. Characters without a rule stay as
//! they are. Memory: the shadow is at most as long as the source; its map has one entry per
//! change of width, at most about ten times the source for a text made to provoke it.

mod encoded;

use std::ops::Range;

use encoded::{Unit, encoded};

/// How the source is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writing {
    /// The inside of a JSON string that the walker accepted.
    Escaped,
    /// Plain bytes, possibly no UTF-8; bytes that are none separate tokens.
    Plain,
}

/// What is undone in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Escapes of JSON, and nothing else.
    Exact,
    /// Tricks of writing, and whatever encodes characters in the text.
    Decoded,
    /// The same, but a percent sign that is itself encoded encodes nothing.
    Once,
    /// Tricks of writing, and the colours of terminals, which also stand inside of values.
    Written,
    /// As decoded, but what nobody sees separates.
    Apart,
    /// As written, but what nobody sees separates.
    WrittenApart,
    /// As decoded, but what nobody sees separates letters from digits.
    KindsApart,
    /// As decoded, but NULs are not there, as between the letters of UTF-16. Names are read so.
    Joined,
}

impl Reading {
    /// Those in which a value is looked at, the first of which says which others it needs.
    pub(crate) const ALL: [Self; 7] = [
        Self::Decoded,
        Self::Written,
        Self::Once,
        Self::Apart,
        Self::WrittenApart,
        Self::KindsApart,
        Self::Joined,
    ];

    /// Whether what encodes characters is left as it is.
    fn is_written(self) -> bool {
        matches!(self, Self::Written | Self::WrittenApart)
    }

    /// Whether what nobody sees separates here characters that are, or are not, of two kinds.
    fn separates(self, two_kinds: bool) -> bool {
        match self {
            Self::Apart | Self::WrittenApart => true,
            Self::KindsApart => two_kinds,
            _ => false,
        }
    }
}

/// What a text has that another reading takes for something else.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Doubts {
    /// Something that encodes a character.
    encoded: bool,
    /// Something that nobody sees between two characters of one kind.
    unseen: bool,
    /// Something that nobody sees between a letter and a digit.
    unseen_between_kinds: bool,
    /// NULs that alternate with characters.
    wide: bool,
}

impl Doubts {
    /// Whether `reading` may be another text than the first one.
    pub(crate) fn concern(self, reading: Reading) -> bool {
        match reading {
            Reading::Exact | Reading::Decoded => false,
            Reading::Written | Reading::Once => self.encoded,
            Reading::Apart => self.unseen || self.unseen_between_kinds,
            Reading::WrittenApart => self.encoded && self.concern(Reading::Apart),
            Reading::KindsApart => self.unseen && self.unseen_between_kinds,
            Reading::Joined => self.wide,
        }
    }
}

/// A character that nobody sees: where it lies in the source and in the decoded value, and its
/// widths there.
type Unseen = (usize, usize, [usize; 2]);

/// Units of equal widths that follow each other without a gap.
#[derive(Debug, Clone, Copy)]
struct Run {
    shadow: u32,
    source: u32,
    decoded: u32,
    shadow_width: u8,
    source_width: u8,
    decoded_width: u8,
}

/// A text and the way back to its source.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    pub(crate) text: Vec<u8>,
    map: OffsetMap,
    doubts: Doubts,
}

/// From offsets in a shadow to ranges of its source and of the decoded value.
#[derive(Debug, Default)]
pub(crate) struct OffsetMap {
    runs: Vec<Run>,
}

impl OffsetMap {
    fn push(&mut self, shadow: usize, source: usize, decoded: usize, widths: [usize; 3]) {
        let [shadow_width, source_width, decoded_width] = widths;
        if let Some(last) = self.runs.last()
            && [last.shadow_width, last.source_width, last.decoded_width].map(usize::from) == widths
        {
            let units = (shadow - last.shadow as usize) / shadow_width;
            if last.source as usize + units * source_width == source {
                return;
            }
        }
        self.runs.push(Run {
            shadow: narrow(shadow),
            source: narrow(source),
            decoded: narrow(decoded),
            shadow_width: narrow_width(shadow_width),
            source_width: narrow_width(source_width),
            decoded_width: narrow_width(decoded_width),
        });
    }

    /// The unit that holds the shadow byte at `offset`: its source range and its decoded range.
    fn unit(&self, offset: usize) -> (Range<usize>, Range<usize>) {
        let after = self
            .runs
            .partition_point(|run| run.shadow as usize <= offset);
        let Some(run) = after.checked_sub(1).and_then(|index| self.runs.get(index)) else {
            return (offset..offset + 1, offset..offset + 1);
        };
        let units = (offset - run.shadow as usize) / usize::from(run.shadow_width);
        let source = run.source as usize + units * usize::from(run.source_width);
        let decoded = run.decoded as usize + units * usize::from(run.decoded_width);
        (
            source..source + usize::from(run.source_width),
            decoded..decoded + usize::from(run.decoded_width),
        )
    }

    /// The source bytes behind a range of the shadow, that must not be empty.
    pub(crate) fn source(&self, range: Range<usize>) -> Range<usize> {
        self.unit(range.start).0.start..self.unit(range.end - 1).0.end
    }

    /// The bytes of the decoded value behind a range of the shadow, that must not be empty.
    pub(crate) fn decoded(&self, range: Range<usize>) -> Range<usize> {
        self.unit(range.start).1.start..self.unit(range.end - 1).1.end
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
    pub(crate) fn cast(&mut self, source: &[u8], base: usize, writing: Writing, reading: Reading) {
        self.text.clear();
        self.map.runs.clear();
        self.doubts = Doubts::default();
        let folds = reading != Reading::Exact;
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
            let mut unit = Unit {
                character,
                width,
                decoded: character.map_or(width, char::len_utf8),
            };
            let whole = match character {
                Some('%' | '\\' | '^' | ESCAPE) if folds => {
                    encoded(&source[at..], writing, reading, unit)
                }
                _ => None,
            };
            self.doubts.encoded |= whole.is_some();
            unit = whole.unwrap_or(unit);
            let widths = [unit.width, unit.decoded];
            let fold = match unit.character {
                Some(ESCAPE) if whole.is_some() && reading.is_written() => Fold::Drop,
                Some('\0') if reading == Reading::Joined => Fold::Drop,
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
            let shown = match (&fold, unit.character) {
                (Fold::To(ascii), _) => Some(char::from(*ascii)),
                (Fold::Keep, character) => character,
                (Fold::Drop, _) => None,
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
            }
            let is_nul = unit.character == Some('\0');
            self.doubts.wide |= is_nul && nuls[1];
            nuls = [is_nul, nuls[0]];
            match (fold, unit.character) {
                (Fold::To(ascii), _) => self.put(&[ascii], base + at, decoded, widths),
                (Fold::Keep, Some(_)) if unit.width == unit.decoded && whole.is_none() => {
                    for step in 0..unit.width {
                        self.put(
                            &source[at + step..=at + step],
                            base + at + step,
                            decoded + step,
                            [1, 1],
                        );
                    }
                }
                (Fold::Keep, Some(character)) => {
                    let mut buffer = [0; 4];
                    let text = character.encode_utf8(&mut buffer).as_bytes();
                    self.put(text, base + at, decoded, widths);
                }
                (Fold::Drop | Fold::Keep, _) => {}
            }
            at += unit.width;
            decoded += unit.decoded;
        }
    }

    /// Why other readings may be other texts.
    pub(crate) fn doubts(&self) -> Doubts {
        self.doubts
    }

    fn put(&mut self, text: &[u8], source: usize, decoded: usize, widths: [usize; 2]) {
        self.map.push(
            self.text.len(),
            source,
            decoded,
            [text.len(), widths[0], widths[1]],
        );
        self.text.extend_from_slice(text);
    }

    /// The way back to the source.
    pub(crate) fn map(&self) -> &OffsetMap {
        &self.map
    }

    /// Takes text and map apart.
    pub(crate) fn into_parts(self) -> (Vec<u8>, OffsetMap) {
        (self.text, self.map)
    }

    /// Puts a shadow together again, to reuse its memory.
    pub(crate) fn from_parts(text: Vec<u8>, map: OffsetMap) -> Self {
        Self {
            text,
            map,
            doubts: Doubts::default(),
        }
    }

    /// Gives memory beyond `bytes_max` back.
    pub(crate) fn shrink(&mut self, bytes_max: usize) {
        self.text.clear();
        self.map.runs.clear();
        self.text.shrink_to(bytes_max);
        self.map.runs.shrink_to(bytes_max / size_of::<Run>());
    }
}

/// The character at the start of `source` and how many bytes write it.
fn character(source: &[u8], writing: Writing) -> (Option<char>, usize) {
    match source.first() {
        Some(b'\\') if writing == Writing::Escaped => escaped(source),
        Some(&byte) if byte < 0x80 => (Some(char::from(byte)), 1),
        _ => utf8(source),
    }
}

/// Whether two characters, with nothing between that anybody sees, may belong together or not.
fn may_join(before: char, after: char) -> bool {
    let ends = |character: char| character.is_whitespace() || character.is_control();
    !ends(before) && !ends(after) && (before.is_ascii() || after.is_ascii())
}

/// Whether one of two characters is a letter and the other one a digit, in either order.
fn are_letter_and_digit(one: char, other: char) -> bool {
    one.is_ascii_digit() && other.is_alphabetic() || one.is_alphabetic() && other.is_ascii_digit()
}

/// What separates, where nothing can be shown.
const SEPARATOR: u8 = 0x1a;
/// What starts the colours of terminals.
const ESCAPE: char = '\u{1b}';

/// The character of the escape at the start of `source`, and how many bytes it takes. The walker
/// has checked it.
fn escaped(source: &[u8]) -> (Option<char>, usize) {
    match hydrant_json::escape(source, 0) {
        Ok((character, width)) => (Some(character), width),
        Err(_) => (None, source.len().min(2)),
    }
}

/// The character at the start of `source`, which starts with a byte beyond ASCII, and its width.
fn utf8(source: &[u8]) -> (Option<char>, usize) {
    let head = &source[..source.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => (Some(character), character.len_utf8()),
        None => (None, 1),
    }
}

enum Fold {
    Keep,
    Drop,
    To(u8),
}

/// The zeros of the decimal digits of other scripts; nine more digits follow each.
const ZEROS: [u32; 51] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
    0x0de6, 0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650,
    0x116c0, 0x11730, 0x118e0, 0x1e950, 0x1fbf0,
];

fn folded(character: char) -> Fold {
    let code = u32::from(character);
    match code {
        0 => Fold::To(SEPARATOR),
        0x01..=0x7f => Fold::Keep,
        // Characters without width, marks of direction, variation selectors, tags.
        0xad
        | 0x34f
        | 0x61c
        | 0x115f
        | 0x1160
        | 0x17b4
        | 0x17b5
        | 0x180b..=0x180f
        | 0x200b..=0x200f
        | 0x202a..=0x202e
        | 0x2060..=0x206f
        | 0x3164
        | 0xfe00..=0xfe0f
        | 0xfeff
        | 0xffa0
        | 0xe0000..=0xe01ef => Fold::Drop,
        // Spaces and line ends.
        0x85 | 0xa0 | 0x1680 | 0x2000..=0x200a | 0x2028 | 0x2029 | 0x202f | 0x205f | 0x3000 => {
            Fold::To(b' ')
        }
        // Dashes and minus signs.
        0x58a
        | 0x5be
        | 0x1806
        | 0x2010..=0x2015
        | 0x2043
        | 0x207b
        | 0x208b
        | 0x2212
        | 0x2e3a
        | 0x2e3b
        | 0x30a0
        | 0xfe31
        | 0xfe32
        | 0xfe58
        | 0xfe63 => Fold::To(b'-'),
        0x2024 | 0x3002 | 0xfe52 | 0xff61 => Fold::To(b'.'),
        0x2236 | 0xa789 | 0xfe13 | 0xfe55 => Fold::To(b':'),
        0x2044 | 0x2215 => Fold::To(b'/'),
        0x207a | 0x208a | 0xfe62 => Fold::To(b'+'),
        0x207d | 0x208d | 0xfe59 => Fold::To(b'('),
        0x207e | 0x208e | 0xfe5a => Fold::To(b')'),
        0xfe6b => Fold::To(b'@'),
        0xff01..=0xff5e => Fold::To(ascii(code - 0xfee0)),
        0xb9 => Fold::To(b'1'),
        0xb2 | 0xb3 => Fold::To(ascii(code - 0xb2 + 0x32)),
        0x2070 | 0x2074..=0x2079 => Fold::To(ascii(code - 0x2070 + 0x30)),
        0x2080..=0x2089 => Fold::To(ascii(code - 0x2080 + 0x30)),
        0x2460..=0x2468 => Fold::To(ascii(code - 0x2460 + 0x31)),
        0x24ea => Fold::To(b'0'),
        // Mathematical letters and digits.
        0x1d400..=0x1d6a3 => match (code - 0x1d400) % 52 {
            capital @ 0..26 => Fold::To(ascii(capital + 0x41)),
            small => Fold::To(ascii(small - 26 + 0x61)),
        },
        0x1d7ce..=0x1d7ff => Fold::To(ascii((code - 0x1d7ce) % 10 + 0x30)),
        _ => {
            let after = ZEROS.partition_point(|&zero| zero <= code);
            match after.checked_sub(1).map(|index| code - ZEROS[index]) {
                Some(digit @ 0..=9) => Fold::To(ascii(digit + 0x30)),
                _ => Fold::Keep,
            }
        }
    }
}

fn ascii(code: u32) -> u8 {
    u8::try_from(code).expect("every rule above yields ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(source: &[u8], writing: Writing) -> Shadow {
        let mut shadow = Shadow::default();
        shadow.cast(source, 0, writing, Reading::Decoded);
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
            let shadow = cast(source.as_bytes(), Writing::Plain);
            assert_eq!(String::from_utf8_lossy(&shadow.text), text, "{source}");
        }
        assert!(ZEROS.is_sorted());
    }

    #[test]
    fn the_map_leads_back_to_whole_characters() {
        let source = "x\u{200b}４２é\\u0041\\n\\ud83d\\ude00y";
        let shadow = cast(source.as_bytes(), Writing::Escaped);
        assert_eq!(String::from_utf8_lossy(&shadow.text), "x42éA\n😀y");
        let at = |text: &str| {
            let start = String::from_utf8_lossy(&shadow.text).find(text).unwrap();
            start..start + text.len()
        };
        let map = shadow.map();
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
        let shadow = cast(b"a\xff\xc3b", Writing::Plain);
        assert_eq!(shadow.text, b"a\x1a\x1ab");
        assert_eq!(shadow.map().source(3..4), 3..4);
    }

    #[test]
    fn decoding_alone_keeps_every_character() {
        let mut shadow = Shadow::default();
        shadow.cast(
            "\\\"４\u{200b}\\/".as_bytes(),
            7,
            Writing::Escaped,
            Reading::Exact,
        );
        assert_eq!(String::from_utf8_lossy(&shadow.text), "\"４\u{200b}/");
        assert_eq!(shadow.map().source(0..1), 7..9);
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
            shadow.cast(source.as_bytes(), 0, Writing::Plain, Reading::Decoded);
            assert_eq!(String::from_utf8_lossy(&shadow.text), decoded, "{source}");
            let differs = shadow.doubts().concern(Reading::Written);
            assert_eq!(differs, decoded != source, "{source}");
            shadow.cast(source.as_bytes(), 0, Writing::Plain, Reading::Written);
            assert_eq!(String::from_utf8_lossy(&shadow.text), written, "{source}");
            // The same text as the inside of a JSON string.
            let json = serde_json::Value::from(source).to_string();
            let inside = &json.as_bytes()[1..json.len() - 1];
            shadow.cast(inside, 0, Writing::Escaped, Reading::Decoded);
            assert_eq!(String::from_utf8_lossy(&shadow.text), decoded, "{json}");
            let (all, map) = (0..shadow.text.len(), shadow.map());
            assert_eq!(map.source(all.clone()), 0..inside.len());
            assert_eq!(map.decoded(all), 0..source.len());
        }
    }
}
