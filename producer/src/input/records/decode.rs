//! Finds out from a source's first bytes how it is compressed, and decompresses it.
//!
//! Owns the table of signatures. No signature begins like JSON, so text is never mistaken; only as many bytes are read
//! ahead as a signature needs, so that a short first line of a slow pipe does not wait.
//!
//! Promises: gzip of any number of members, with zeros behind them, and zstd of any number of frames, skippable ones
//! among them, are read to their ends; whatever else stands behind a member or a frame, and an end within one, is an
//! error that names the byte of the compressed source.

use std::io::{self, BufRead, Cursor, Read};

use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::input::Truncated;

/// The largest zstd window that is always accepted, as a power of two: 128 MiB, zstd's own default.
pub(super) const ZSTD_WINDOW_LOG: u32 = 27;

/// The largest window that zstd writes: 2 GiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 31;

/// What is read of a compressed source at once.
const BUFFER_BYTES: usize = 64 << 10;

#[derive(Clone, Copy)]
enum Signature {
    Gzip,
    Zstd,
    Refused {
        format: &'static str,
        remedy: &'static str,
    },
}

const SIGNATURES: [(&[u8], Signature); 13] = [
    (GZIP, Signature::Gzip),
    (ZSTD, Signature::Zstd),
    (SKIPPABLE, Signature::Zstd),
    (
        b"BZh",
        refusal("bzip2", "pipe it through `bzip2 -dc` and use `--input -`"),
    ),
    (
        b"\xFD7zXZ\0",
        refusal("xz", "pipe it through `xz -dc` and use `--input -`"),
    ),
    (
        b"\x04\x22\x4D\x18",
        refusal("lz4", "pipe it through `lz4 -dc` and use `--input -`"),
    ),
    (
        b"\x1F\x9D",
        refusal("compress", "pipe it through `gzip -dc` and use `--input -`"),
    ),
    (
        b"PK\x03\x04",
        refusal("zip", "pipe it through `unzip -p` and use `--input -`"),
    ),
    (
        b"7z\xBC\xAF\x27\x1C",
        refusal("7z", "pipe it through `7z x -so` and use `--input -`"),
    ),
    (
        b"\xFF\x06\0\0sNaPpY",
        refusal("Snappy", "pipe it through `snzip -dc` and use `--input -`"),
    ),
    (b"PAR1", refusal("Parquet", "export it as NDJSON first")),
    (b"Obj\x01", refusal("Avro", "export it as NDJSON first")),
    (b"ARROW1", refusal("Arrow", "export it as NDJSON first")),
];

const GZIP: &[u8] = b"\x1F\x8B";
const ZSTD: &[u8] = b"\x28\xB5\x2F\xFD";
/// A frame of zstd that is passed over; the first byte is any from 0x50 to 0x5F.
const SKIPPABLE: &[u8] = b"\x50\x2A\x4D\x18";

const fn refusal(format: &'static str, remedy: &'static str) -> Signature {
    Signature::Refused { format, remedy }
}

/// Why no more bytes come.
pub(super) enum SourceFailure {
    Format {
        format: &'static str,
        remedy: &'static str,
    },
    Read(io::Error),
}

impl From<io::Error> for SourceFailure {
    fn from(source: io::Error) -> Self {
        Self::Read(source)
    }
}

/// What decompressed bytes that begin like this are refused for.
pub(super) fn refused(start: &[u8]) -> Option<SourceFailure> {
    let signature = signature_of(start)?;
    Some(match signature {
        Signature::Refused { format, remedy } => SourceFailure::Format { format, remedy },
        Signature::Gzip | Signature::Zstd => SourceFailure::Format {
            format: "a compressed file that was compressed again",
            remedy: "decompress it once and pipe it with `--input -`",
        },
    })
}

/// Whether bytes that begin like this are compressed, or refused by name.
pub(super) fn is_signed(start: &[u8]) -> bool {
    signature_of(start).is_some()
}

fn signature_of(start: &[u8]) -> Option<Signature> {
    SIGNATURES
        .iter()
        .find(|(signature, _)| start.len() >= signature.len() && agree(signature, start))
        .map(|found| found.1)
}

/// Whether a signature and the first bytes of a source are the same, as far as both go.
fn agree(signature: &[u8], start: &[u8]) -> bool {
    let is_skippable = |byte: u8| signature == SKIPPABLE && byte & 0xF0 == 0x50;
    let mut pairs = signature.iter().zip(start).enumerate();
    pairs.all(|(at, (wanted, byte))| wanted == byte || at == 0 && is_skippable(*byte))
}

/// A source whose interrupted calls are repeated and whose bytes are counted.
pub(super) struct CountedReader<R> {
    source: io::Chain<Cursor<Vec<u8>>, R>,
    read: u64,
}

impl<R: Read> Read for CountedReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.source.read(into) {
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
                outcome => {
                    self.read += *outcome.as_ref().unwrap_or(&0) as u64;
                    return outcome;
                }
            }
        }
    }
}

pub(super) type Buffered<R> = io::BufReader<CountedReader<R>>;

/// A source and its decompressor, chosen at the first read.
pub(super) enum Decompressor<R: Read> {
    Unknown { source: R, window_log_max: u32 },
    Plain(CountedReader<R>),
    Gzip(MemberReader<R, GzDecoder<Buffered<R>>>),
    Zstd(MemberReader<R, ZstdDecoder<'static, Buffered<R>>>),
    Closed,
}

/// A compressed source between and inside its members or frames.
pub(super) struct MemberReader<R, D> {
    part: MemberState<R, D>,
    window_log_max: u32,
}

enum MemberState<R, D> {
    Between(Buffered<R>),
    Inside(Box<D>),
    /// Only while one becomes the other, and after an error.
    Nothing,
}

impl<R: Read> Decompressor<R> {
    /// zstd windows up to two to the power of `window_log_max` are accepted.
    pub(super) const fn new(source: R, window_log_max: u32) -> Self {
        Self::Unknown {
            source,
            window_log_max,
        }
    }

    pub(super) const fn is_compressed(&self) -> bool {
        matches!(self, Self::Gzip(_) | Self::Zstd(_))
    }

    /// The source, while it is not decompressed.
    pub(super) fn plain(&self) -> Option<&R> {
        match self {
            Self::Unknown { source, .. } => Some(source),
            Self::Plain(counted) => Some(counted.source.get_ref().1),
            Self::Gzip(_) | Self::Zstd(_) | Self::Closed => None,
        }
    }

    /// Like [`Read::read`], but an interrupted call is repeated.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, SourceFailure> {
        loop {
            return match self {
                Self::Unknown { .. } => match self.open()? {
                    true => continue,
                    false => Ok(0),
                },
                Self::Plain(source) => Ok(source.read(into)?),
                Self::Gzip(parts) => parts.read(into),
                Self::Zstd(parts) => parts.read(into),
                Self::Closed => Ok(0),
            };
        }
    }

    /// Reads ahead and chooses the decompressor; `false` when the source has no byte. A source that fails here is closed.
    fn open(&mut self) -> Result<bool, SourceFailure> {
        if let Self::Unknown {
            mut source,
            window_log_max,
        } = std::mem::replace(self, Self::Closed)
        {
            let (start, signature) = read_start(&mut source)?;
            if start.is_empty() {
                // A file that grows may yet begin.
                *self = Self::Unknown {
                    source,
                    window_log_max,
                };
                return Ok(false);
            }
            let source = CountedReader {
                source: Cursor::new(start).chain(source),
                read: 0,
            };
            *self = match signature {
                None => Self::Plain(source),
                Some(Signature::Gzip) => Self::Gzip(MemberReader::new(source, window_log_max)),
                Some(Signature::Zstd) => Self::Zstd(MemberReader::new(source, window_log_max)),
                Some(Signature::Refused { format, remedy }) => {
                    return Err(SourceFailure::Format { format, remedy });
                }
            };
        }
        Ok(true)
    }
}

impl<R: Read, D> MemberReader<R, D> {
    fn new(source: CountedReader<R>, window_log_max: u32) -> Self {
        MemberReader {
            part: MemberState::Between(io::BufReader::with_capacity(BUFFER_BYTES, source)),
            window_log_max,
        }
    }
}

/// How a compressed source is made of parts.
pub(super) trait CompressedMember<R: Read>: Read + Sized {
    const NAME: &'static str;

    fn begin(source: Buffered<R>, window_log_max: u32) -> io::Result<Self>;

    fn source(&self) -> &Buffered<R>;

    fn end(self) -> Buffered<R>;

    fn is_start(bytes: &[u8]) -> bool;
}

impl<R: Read> CompressedMember<R> for GzDecoder<Buffered<R>> {
    const NAME: &'static str = "gzip member";

    fn begin(source: Buffered<R>, _: u32) -> io::Result<Self> {
        Ok(GzDecoder::new(source))
    }

    fn source(&self) -> &Buffered<R> {
        self.get_ref()
    }

    fn end(self) -> Buffered<R> {
        self.into_inner()
    }

    fn is_start(bytes: &[u8]) -> bool {
        agree(GZIP, bytes)
    }
}

impl<R: Read> CompressedMember<R> for ZstdDecoder<'static, Buffered<R>> {
    const NAME: &'static str = "zstd frame";

    fn begin(source: Buffered<R>, window_log_max: u32) -> io::Result<Self> {
        let mut decoder = ZstdDecoder::with_buffer(source)?.single_frame();
        decoder.window_log_max(window_log_max)?;
        Ok(decoder)
    }

    fn source(&self) -> &Buffered<R> {
        self.get_ref()
    }

    fn end(self) -> Buffered<R> {
        self.finish()
    }

    fn is_start(bytes: &[u8]) -> bool {
        agree(ZSTD, bytes) || agree(SKIPPABLE, bytes)
    }
}

impl<R: Read, D: CompressedMember<R>> MemberReader<R, D> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, SourceFailure> {
        loop {
            match std::mem::replace(&mut self.part, MemberState::Nothing) {
                MemberState::Nothing => return Ok(0),
                MemberState::Between(source) => {
                    self.part = self.next(source)?;
                    // A file that grows may get another member later.
                    if let MemberState::Between(_) = self.part {
                        return Ok(0);
                    }
                }
                MemberState::Inside(mut decoder) => match decoder.read(into) {
                    Ok(0) => self.part = MemberState::Between(decoder.end()),
                    Ok(read) => {
                        self.part = MemberState::Inside(decoder);
                        return Ok(read);
                    }
                    Err(source) => return Err(self.failed(&decoder, source)),
                },
            }
        }
    }

    /// Passes over zeros and begins what follows them, if anything does.
    fn next(&self, mut source: Buffered<R>) -> Result<MemberState<R, D>, SourceFailure> {
        loop {
            let bytes = source.fill_buf()?;
            if bytes.is_empty() {
                return Ok(MemberState::Between(source));
            }
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            if zeros > 0 {
                source.consume(zeros);
                continue;
            }
            if D::is_start(bytes) {
                let decoder = D::begin(source, self.window_log_max)?;
                return Ok(MemberState::Inside(Box::new(decoder)));
            }
            let place = place(&source);
            return Err(SourceFailure::Read(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "other data follows the last {} at byte {place}: cut the file there, or create it \
                     again",
                    D::NAME
                ),
            )));
        }
    }

    fn failed(&self, decoder: &D, source: io::Error) -> SourceFailure {
        // It is not the content that is at fault.
        let is_truncated = source
            .get_ref()
            .is_some_and(|inner| inner.is::<Truncated>());
        if is_truncated || source.raw_os_error().is_some() {
            return SourceFailure::Read(source);
        }
        let place = place(decoder.source());
        let kind = source.kind();
        let text = source.to_string();
        // zstd's own words; its errors have no kind.
        if text.contains("too much memory") {
            let memory = 1u64 << (self.window_log_max - 20);
            return SourceFailure::Format {
                format: "zstd with a window that is larger than this memory allows",
                remedy: if memory >= 1 << 11 {
                    "decompress it with `zstd -dc --long=31` and pipe it with `--input -`"
                } else {
                    "raise `--memory` (`5GiB` suffices for every window), or pipe it through \
                     `zstd -dc --long=31` and use `--input -`"
                },
            };
        }
        let why = if kind == io::ErrorKind::UnexpectedEof {
            format!(
                "it ends at byte {place} within a {}: the file was cut off; copy or create it again",
                D::NAME
            )
        } else {
            format!("near byte {place} of the compressed file: {text}")
        };
        SourceFailure::Read(io::Error::new(kind, why))
    }
}

fn place<R>(source: &Buffered<R>) -> u64 {
    debug_assert!(source.get_ref().read >= source.buffer().len() as u64);
    source.get_ref().read - source.buffer().len() as u64
}

/// The largest window for which half of `memory` suffices, as a power of two.
pub(super) fn window_log_max(memory: u64) -> u32 {
    (memory / 2)
        .max(1)
        .ilog2()
        .clamp(ZSTD_WINDOW_LOG, ZSTD_WINDOW_LOG_MAX)
}

/// Reads until the bytes are, or can no longer become, one of the signatures.
fn read_start(source: &mut impl Read) -> io::Result<(Vec<u8>, Option<Signature>)> {
    let mut start = Vec::with_capacity(16);
    loop {
        if let Some(signature) = signature_of(&start) {
            return Ok((start, Some(signature)));
        }
        if !SIGNATURES
            .iter()
            .any(|(signature, _)| agree(signature, &start))
        {
            return Ok((start, None));
        }
        let mut byte = [0];
        match source.read(&mut byte) {
            Ok(0) => return Ok((start, None)),
            Ok(_) => start.push(byte[0]),
            Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
            Err(failure) => return Err(failure),
        }
    }
}
