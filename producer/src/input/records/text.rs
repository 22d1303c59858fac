//! Turns bytes into UTF-8: UTF-8 as it is, UTF-16 and UTF-32 decoded, everything else refused by its name.
//!
//! Owns how an encoding is recognised: by a byte order mark, else by where the first characters have their zero bytes, as
//! JSON begins with ASCII. UTF-8 passes without a copy. A unit that is not a character becomes a byte that is not UTF-8,
//! so that its record is refused later, as a record, and the ones around it are not. Half a character at the end of the
//! source waits for its other half.
//!
//! Promises: what the source is taken for depends on its bytes alone, however they are cut into reads. Text is not held
//! up for that.

use std::io::Read;

use super::decode::{self, Decompressor, SourceFailure};

/// What is read of another encoding at once.
const RAW_BYTES: usize = 64 << 10;

/// The most that is looked at for signs of binary data.
const LOOKED_AT_BYTES: usize = 1 << 10;

/// The least that is looked at when the first line has such signs.
const DOUBTED_BYTES_MIN: usize = 64;

/// Zeros in a row that are a hole, which a truncation left, rather than those of a binary number.
const HOLE_BYTES_MIN: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TextEncoding {
    name: &'static str,
    wide: bool,
    big_endian: bool,
}

const fn encoding(name: &'static str, wide: bool, big_endian: bool) -> TextEncoding {
    TextEncoding {
        name,
        wide,
        big_endian,
    }
}

const UTF_16_LE: TextEncoding = encoding("UTF-16LE", false, false);
const UTF_16_BE: TextEncoding = encoding("UTF-16BE", false, true);
const UTF_32_LE: TextEncoding = encoding("UTF-32LE", true, false);
const UTF_32_BE: TextEncoding = encoding("UTF-32BE", true, true);

enum EncodingState {
    /// Not known yet, from the first bytes: those that were passed on, since they are text, and those that wait.
    Unknown {
        passed: Vec<u8>,
        held: Vec<u8>,
    },
    Utf8,
    Other(Transcoder),
}

/// A decompressed source as UTF-8.
pub(super) struct TextSource<R: Read> {
    source: Decompressor<R>,
    kind: EncodingState,
    /// Whether the end of the source is one for now.
    grows: bool,
    /// Whether what was passed on must be the same when there is more.
    remembers: bool,
    /// Whether it was read before: it is text, whatever stands in its first bytes.
    is_trusted: bool,
}

impl<R: Read> TextSource<R> {
    pub(super) const fn new(source: Decompressor<R>, grows: bool, remembers: bool) -> Self {
        TextSource {
            source,
            kind: EncodingState::Unknown {
                passed: Vec::new(),
                held: Vec::new(),
            },
            grows,
            remembers,
            is_trusted: false,
        }
    }

    /// Takes the source for text: records of it were taken before, when it had fewer bytes perhaps.
    pub(super) const fn trust(&mut self) {
        self.is_trusted = true;
    }

    pub(super) const fn source(&self) -> &Decompressor<R> {
        &self.source
    }

    /// Whether the source ended within a character, or before it was known what it is.
    pub(super) const fn is_cut(&self) -> bool {
        match &self.kind {
            EncodingState::Unknown { held, .. } => !held.is_empty(),
            EncodingState::Utf8 => false,
            EncodingState::Other(transcoder) => !transcoder.raw.is_empty(),
        }
    }

    /// Whether more bytes may still change what the source is taken for.
    pub(super) const fn is_doubted(&self) -> bool {
        matches!(self.kind, EncodingState::Unknown { .. })
    }

    /// Nothing follows what has come.
    pub(super) const fn end(&mut self) {
        self.grows = false;
        self.remembers = false;
    }

    /// The encoding, where it is not UTF-8.
    pub(super) const fn encoding(&self) -> Option<&'static str> {
        match &self.kind {
            EncodingState::Other(transcoder) => Some(transcoder.encoding.name),
            EncodingState::Unknown { .. } | EncodingState::Utf8 => None,
        }
    }

    /// Like [`Read::read`]. `into` has room for [`super::reader::READ_BYTES_MIN`] bytes at least.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, SourceFailure> {
        match &mut self.kind {
            EncodingState::Utf8 => self.source.read(into),
            EncodingState::Other(transcoder) => transcoder.read(&mut self.source, into),
            EncodingState::Unknown { .. } => self.first(into),
        }
    }

    /// Reads on until it is known what the source is, or until something of it may be passed on.
    fn first(&mut self, into: &mut [u8]) -> Result<usize, SourceFailure> {
        let EncodingState::Unknown { mut passed, held } =
            std::mem::replace(&mut self.kind, EncodingState::Utf8)
        else {
            return Ok(0);
        };
        let known = passed.len();
        let mut read = held.len();
        into[..read].copy_from_slice(&held);
        loop {
            let more = self.source.read(&mut into[read..])?;
            read += more;
            passed.truncate(known);
            passed.extend_from_slice(&into[..read.min(LOOKED_AT_BYTES)]);
            let start = &passed[..];
            let waits = self.grows || self.remembers && is_coded(start);
            let has_ended = more == 0 && (self.is_trusted || !waits);
            let first = if has_ended && !start.is_empty() {
                FirstBytes::Known(encoding_of(start))
            } else {
                FirstBytes::of(start, self.is_trusted)
            };
            match first {
                FirstBytes::Known(Some((encoding, mark))) => {
                    let raw = into[mark..read].to_vec();
                    self.kind = EncodingState::Other(Transcoder { encoding, raw });
                    return self.read(into);
                }
                FirstBytes::Known(None) => {
                    return match self.refused(start) {
                        Some(failure) => Err(failure),
                        None => Ok(read),
                    };
                }
                FirstBytes::Unknown if more > 0 => {}
                FirstBytes::Unknown => {
                    passed.truncate(known);
                    let held = into[..read].to_vec();
                    self.kind = EncodingState::Unknown { passed, held };
                    return Ok(0);
                }
                FirstBytes::TextSoFar => {
                    let held = Vec::new();
                    self.kind = EncodingState::Unknown { passed, held };
                    return Ok(read);
                }
            }
        }
    }

    /// What UTF-8 that begins like this is refused for.
    fn refused(&self, start: &[u8]) -> Option<SourceFailure> {
        if self.source.is_compressed()
            && let Some(failure) = decode::refused(start)
        {
            return Some(failure);
        }
        let (looked_at, _) = looked_at(start);
        if self.is_trusted {
            None
        } else if is_tar(looked_at) {
            Some(SourceFailure::Format {
                format: "a tar archive",
                remedy: "unpack it first: `tar xf FILE`",
            })
        } else if is_binary(looked_at) {
            Some(SourceFailure::Format {
                format: "binary data",
                remedy: "export it as NDJSON or JSON first",
            })
        } else {
            None
        }
    }
}

/// What the first bytes say.
enum FirstBytes {
    /// Too little.
    Unknown,
    /// They are text in UTF-8, and more of them are looked at.
    TextSoFar,
    /// The encoding and the length of its byte order mark; `None` is UTF-8, or what is taken for it.
    Known(Option<(TextEncoding, usize)>),
}

impl FirstBytes {
    fn of(start: &[u8], is_trusted: bool) -> Self {
        if is_undecided(start) {
            return FirstBytes::Unknown;
        }
        let encoding = encoding_of(start);
        if encoding.is_some() || is_trusted || looked_at(start).1 {
            FirstBytes::Known(encoding)
        } else if signs_of(start).is_none() {
            FirstBytes::TextSoFar
        } else {
            FirstBytes::Unknown
        }
    }
}

/// Whether more bytes may change what the first ones mean.
fn is_undecided(start: &[u8]) -> bool {
    match start {
        [] | [_] | [0xFF, 0xFE] | [0xFF, 0xFE, 0] => true,
        [0, 0, ..] | [_, 0, 0, 0, ..] => start.len() < 8,
        [0, _, ..] | [_, 0, ..] => start.len() < 4,
        _ => false,
    }
}

/// Whether so few bytes are probably the beginning of a character, or of a mark, of another encoding than UTF-8.
fn is_coded(start: &[u8]) -> bool {
    is_undecided(start) && start.iter().any(|byte| *byte == 0 || *byte >= 0xFE)
}

/// The encoding and the length of its byte order mark; `None` for UTF-8.
fn encoding_of(start: &[u8]) -> Option<(TextEncoding, usize)> {
    Some(match start {
        [0xFF, 0xFE, 0, 0, ..] => (UTF_32_LE, 4),
        [0, 0, 0xFE, 0xFF, ..] => (UTF_32_BE, 4),
        [0xFF, 0xFE, ..] => (UTF_16_LE, 2),
        [0xFE, 0xFF, ..] => (UTF_16_BE, 2),
        // Behind a hole that a truncation left, text continues with more than zeros and one character.
        [0, 0, 0, first, 0, 0, 0, next, ..] if *first != 0 && *next != 0 => (UTF_32_BE, 0),
        [first, 0, 0, 0, ..] if *first != 0 && is_spread(start, 4) => (UTF_32_LE, 0),
        [0, first, 0, next, ..] if *first != 0 && *next != 0 => (UTF_16_BE, 0),
        [first, 0, next, 0, ..] if *first != 0 && *next != 0 => (UTF_16_LE, 0),
        [first, 0] if *first != 0 => (UTF_16_LE, 0),
        [0, first] if *first != 0 => (UTF_16_BE, 0),
        _ => return None,
    })
}

/// How many bytes a NUL takes in a text that begins like this; none where it is compressed, so that a zero is not one.
pub(in crate::input) fn nul_bytes(start: &[u8]) -> Option<u64> {
    if decode::is_signed(start) {
        return None;
    }
    Some(match encoding_of(start) {
        None => 1,
        Some((encoding, _)) if encoding.wide => 4,
        Some(_) => 2,
    })
}

/// Whether the second character has its zeros where the first one has them.
fn is_spread(start: &[u8], width: usize) -> bool {
    start
        .get(width..2 * width)
        .is_none_or(|next| next[0] != 0 && next[1..].iter().all(|byte| *byte == 0))
}

/// What is looked at for signs of binary data: whole lines, the first one if it is text, else some more; or what there
/// is, but not more than [`LOOKED_AT_BYTES`]. Answers also whether more bytes would change nothing.
fn looked_at(start: &[u8]) -> (&[u8], bool) {
    let most = &start[..start.len().min(LOOKED_AT_BYTES)];
    let mut lines = memchr::memchr_iter(b'\n', most).map(|end| &most[..=end]);
    let is_text = |lines: &[u8]| signs_of(lines).is_none() && !lines.trim_ascii().is_empty();
    match lines.find(|lines| lines.len() >= DOUBTED_BYTES_MIN || is_text(lines)) {
        Some(lines) => (lines, true),
        None => (most, most.len() == LOOKED_AT_BYTES),
    }
}

/// Whether the first bytes are not those of a text.
fn is_binary(start: &[u8]) -> bool {
    let Signs {
        bytes,
        control,
        invalid,
    } = signs_of(start);
    (control > 3 && control * 10 > bytes) || (invalid > 3 && invalid * 4 > bytes)
}

/// How many bytes there are, and how many of them are not those of a text.
#[derive(Default)]
struct Signs {
    bytes: usize,
    control: usize,
    invalid: usize,
}

impl Signs {
    const fn is_none(&self) -> bool {
        self.control == 0 && self.invalid == 0
    }
}

/// Counts. Holes that a truncation left say nothing.
fn signs_of(start: &[u8]) -> Signs {
    let mut signs = Signs::default();
    let hole = start.iter().take_while(|byte| **byte == 0).count();
    let pieces = start[hole..]
        .chunk_by(|left, right| (*left == 0) == (*right == 0))
        .filter(|piece| piece[0] != 0 || piece.len() < HOLE_BYTES_MIN);
    // A record separator stands before each record of RFC 7464.
    let is_control = |byte: &&u8| matches!(byte, 0..=8 | 0x0E..=0x1A | 0x1C..=0x1D | 0x1F);
    for piece in pieces {
        signs.bytes += piece.len();
        signs.control += piece.iter().filter(is_control).count();
        // The last character may be cut.
        let chunks = piece.utf8_chunks();
        signs.invalid += chunks.map(|chunk| chunk.invalid().len()).sum::<usize>();
    }
    signs
}

/// Whether this is a tar archive: a text in which holes stand, were it not for its signature.
fn is_tar(start: &[u8]) -> bool {
    matches!(start.get(257..265), Some(b"ustar\x0000" | b"ustar  \0"))
}

/// Decodes units that come piece by piece.
struct Transcoder {
    encoding: TextEncoding,
    /// What was read and not decoded: less than a character between two reads.
    raw: Vec<u8>,
}

impl Transcoder {
    fn read<R: Read>(
        &mut self,
        source: &mut Decompressor<R>,
        into: &mut [u8],
    ) -> Result<usize, SourceFailure> {
        loop {
            let (used, made) = self.decode(into);
            self.raw.drain(..used);
            if made > 0 {
                return Ok(made);
            }
            let known = self.raw.len();
            self.raw.resize(known + RAW_BYTES.min(into.len()), 0);
            let outcome = source.read(&mut self.raw[known..]);
            self.raw.truncate(known + *outcome.as_ref().unwrap_or(&0));
            if outcome? == 0 {
                debug_assert!(self.raw.len() < 4, "every whole character was decoded");
                // A character that was cut continues when the source does.
                return Ok(0);
            }
        }
    }

    /// How many bytes were used and made.
    fn decode(&self, into: &mut [u8]) -> (usize, usize) {
        let (mut used, mut made) = (0, 0);
        while let Some((unit, width)) = self.unit(used) {
            let mut width = width;
            let mut value = unit;
            if !self.encoding.wide && (0xD800..0xDC00).contains(&unit) {
                match self.unit(used + width) {
                    Some((low, more)) if (0xDC00..0xE000).contains(&low) => {
                        value = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                        width += more;
                    }
                    None => break,
                    _ => {}
                }
            }
            if made + 4 > into.len() {
                break;
            }
            match char::from_u32(value) {
                Some(character) => made += character.encode_utf8(&mut into[made..]).len(),
                None => {
                    // No byte of UTF-8.
                    into[made] = 0xFF;
                    made += 1;
                }
            }
            used += width;
        }
        (used, made)
    }

    fn unit(&self, at: usize) -> Option<(u32, usize)> {
        let big = self.encoding.big_endian;
        if self.encoding.wide {
            let bytes: [u8; 4] = self.raw.get(at..at + 4)?.try_into().ok()?;
            let unit = if big {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            };
            Some((unit, 4))
        } else {
            let bytes: [u8; 2] = self.raw.get(at..at + 2)?.try_into().ok()?;
            let unit = if big {
                u16::from_be_bytes(bytes)
            } else {
                u16::from_le_bytes(bytes)
            };
            Some((u32::from(unit), 2))
        }
    }
}
