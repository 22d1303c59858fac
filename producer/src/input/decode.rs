//! Tells from a source's first bytes how it is compressed, and decompresses it.
//!
//! Owns the table of signatures. No signature begins like JSON, so text is never mistaken; only as
//! many bytes are read ahead as a signature needs, so that a short first line of a slow pipe does
//! not wait.

use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

/// The largest zstd window that is accepted, as a power of two: 128 MiB, zstd's own default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// What was read ahead, then the rest.
type Whole<R> = io::Chain<Cursor<Vec<u8>>, R>;

#[derive(Clone, Copy)]
enum Signature {
    Gzip,
    Zstd,
    Refused {
        format: &'static str,
        remedy: &'static str,
    },
}

const SIGNATURES: [(&[u8], Signature); 9] = [
    (b"\x1F\x8B", Signature::Gzip),
    (b"\x28\xB5\x2F\xFD", Signature::Zstd),
    (
        b"BZh",
        refused("bzip2", "pipe it through `bzip2 -dc` and use `--input -`"),
    ),
    (
        b"\xFD7zXZ\0",
        refused("xz", "pipe it through `xz -dc` and use `--input -`"),
    ),
    (
        b"\x04\x22\x4D\x18",
        refused("lz4", "pipe it through `lz4 -dc` and use `--input -`"),
    ),
    (
        b"PK\x03\x04",
        refused("zip", "pipe it through `unzip -p` and use `--input -`"),
    ),
    (b"PAR1", refused("Parquet", "export it as NDJSON first")),
    (
        b"\xFF\xFE",
        refused("UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"),
    ),
    (
        b"\xFE\xFF",
        refused("UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"),
    ),
];

const fn refused(format: &'static str, remedy: &'static str) -> Signature {
    Signature::Refused { format, remedy }
}

/// Why no more bytes come.
pub(super) enum Failure {
    Format {
        format: &'static str,
        remedy: &'static str,
    },
    Read(io::Error),
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self::Read(source)
    }
}

/// A source and its decompressor, chosen at the first read.
pub(super) enum Decoded<R: Read> {
    Unknown(R),
    Plain(Whole<R>),
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    Zstd(Box<ZstdDecoder<'static, io::BufReader<Whole<R>>>>),
    Closed,
}

impl<R: Read> Decoded<R> {
    pub(super) const fn new(source: R) -> Self {
        Self::Unknown(source)
    }

    /// Like [`Read::read`], but an interrupted call is repeated.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, Failure> {
        loop {
            let outcome = match self {
                Self::Unknown(_) => {
                    self.open()?;
                    continue;
                }
                Self::Plain(source) => source.read(into),
                Self::Gzip(source) => source.read(into),
                Self::Zstd(source) => source.read(into),
                Self::Closed => Ok(0),
            };
            match outcome {
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Reads ahead and chooses the decompressor; a source that fails here is closed.
    fn open(&mut self) -> Result<(), Failure> {
        if let Self::Unknown(mut source) = std::mem::replace(self, Self::Closed) {
            let (start, signature) = read_start(&mut source)?;
            let whole = Cursor::new(start).chain(source);
            *self = match signature {
                None => Self::Plain(whole),
                Some(Signature::Gzip) => Self::Gzip(Box::new(MultiGzDecoder::new(whole))),
                Some(Signature::Zstd) => {
                    let mut decoder = ZstdDecoder::new(whole)?;
                    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                    Self::Zstd(Box::new(decoder))
                }
                Some(Signature::Refused { format, remedy }) => {
                    return Err(Failure::Format { format, remedy });
                }
            };
        }
        Ok(())
    }
}

/// Reads until the bytes are, or can no longer become, one of the signatures.
fn read_start(source: &mut impl Read) -> io::Result<(Vec<u8>, Option<Signature>)> {
    let mut start = Vec::with_capacity(8);
    loop {
        let found = SIGNATURES
            .iter()
            .find(|(bytes, _)| start.starts_with(bytes));
        if let Some((_, signature)) = found {
            return Ok((start, Some(*signature)));
        }
        if !SIGNATURES
            .iter()
            .any(|(bytes, _)| bytes.starts_with(&start))
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
