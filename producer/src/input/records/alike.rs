//! Compares two sources, decompressed and as UTF-8.
//!
//! Owns the comparison of a copy with its original, and with what is known of one that is gone. A copy that ends in the
//! middle of a compressed member may still be written: that is an answer, not an error.

use std::io::{self, Read};

use xxhash_rust::xxh3::Xxh3;

use super::decode::{Decompressor, SourceFailure, window_log_max};
use super::digest::{PrefixDigest, hash};
use super::reader::READ_BYTES_MIN;
use super::text::TextSource;

/// How much of another source a source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alike {
    /// It holds something else.
    No,
    /// All that it holds is the beginning of the other one.
    Beginning,
    /// So far, but it was cut, or is still being compressed.
    Cut,
}

/// A source that is read by pieces.
struct Pieces<R: Read> {
    source: TextSource<R>,
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
}

enum PieceState {
    Some,
    End,
    /// Its content is damaged or was cut.
    Broken,
}

impl<R: Read> Pieces<R> {
    fn new(source: R, memory_bytes: u64) -> Self {
        let decoded = Decompressor::new(source, window_log_max(memory_bytes));
        let mut source = TextSource::new(decoded, false, false);
        source.trust();
        Pieces {
            source,
            buffer: vec![0; READ_BYTES_MIN],
            taken: 0,
            filled: 0,
        }
    }

    fn fill(&mut self) -> io::Result<PieceState> {
        if self.taken == self.filled {
            self.taken = 0;
            self.filled = 0;
            match self.source.read(&mut self.buffer) {
                Ok(0) => return Ok(PieceState::End),
                Ok(read) => self.filled = read,
                Err(SourceFailure::Format { .. }) => return Ok(PieceState::Broken),
                Err(SourceFailure::Read(error)) if error.raw_os_error().is_none() => {
                    return Ok(PieceState::Broken);
                }
                Err(SourceFailure::Read(error)) => return Err(error),
            }
        }
        Ok(PieceState::Some)
    }

    fn piece(&self) -> &[u8] {
        &self.buffer[self.taken..self.filled]
    }
}

/// Whether `copy` holds the first bytes of `original`.
///
/// # Errors
/// When one of them cannot be read.
pub(crate) fn compare(
    copy: impl Read,
    original: impl Read,
    memory_bytes: u64,
) -> io::Result<Alike> {
    let mut copy = Pieces::new(copy, memory_bytes);
    let mut original = Pieces::new(original, memory_bytes);
    loop {
        match copy.fill()? {
            PieceState::Some => {}
            PieceState::End => return Ok(Alike::Beginning),
            PieceState::Broken => return Ok(Alike::Cut),
        }
        let PieceState::Some = original.fill()? else {
            return Ok(Alike::No);
        };
        let (left, right) = (copy.piece(), original.piece());
        let length = left.len().min(right.len());
        if left[..length] != right[..length] {
            return Ok(Alike::No);
        }
        copy.taken += length;
        original.taken += length;
    }
}

/// How many bytes `source` holds, and how many of them are proven by `checks`, so many bytes with this digest each;
/// nothing when one of those does not hold, there are more than `most`, or it is damaged.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn proven(
    source: impl Read,
    checks: &[PrefixDigest],
    most: u64,
    memory_bytes: u64,
) -> io::Result<Option<(u64, u64)>> {
    let mut pieces = Pieces::new(source, memory_bytes);
    let mut digest = Box::<Xxh3>::default();
    let mut total = 0;
    loop {
        match pieces.fill()? {
            PieceState::Some => {}
            PieceState::End => break,
            PieceState::Broken => return Ok(None),
        }
        let is_alike = hash(&mut digest, &mut total, pieces.piece(), checks);
        if !is_alike || total > most {
            return Ok(None);
        }
        pieces.taken = pieces.filled;
    }
    let held = checks.iter().map(|check| check.bytes);
    let proven = held.filter(|bytes| *bytes <= total).max().unwrap_or(0);
    Ok(Some((total, proven)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::Digest;
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_beginning_differs_from_a_cut_one_and_from_another_source() {
        let whole: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = gzip(&whole[..700_000]);
        let other = [&whole[..600_000], b"x"].concat();
        for (copy, wanted) in [
            (&whole[..], Alike::Beginning),
            (&whole[..70_000], Alike::Beginning),
            (&other, Alike::No),
            (&packed, Alike::Beginning),
            (&packed[..packed.len() - 3], Alike::Cut),
            (&packed[..5], Alike::Cut),
            (&[], Alike::Beginning),
            (&gzip(&other), Alike::No),
        ] {
            assert_eq!(compare(copy, &whole[..], 0).unwrap(), wanted);
        }
        assert_eq!(compare(&whole[..], &whole[..9], 0).unwrap(), Alike::No);
    }

    #[test]
    fn only_what_digests_cover_is_proven() {
        let checks = [&b"ab"[..], b"abcd"].map(|text| PrefixDigest {
            bytes: text.len() as u64,
            digest: Digest(xxhash_rust::xxh3::xxh3_128(text)),
        });
        for (source, wanted) in [
            (&b"abcd"[..], Some((4, 4))),
            (b"abc", Some((3, 2))),
            (b"a", Some((1, 0))),
            (b"abXd", None),
            (b"abcdefg", None),
        ] {
            assert_eq!(proven(source, &checks, 6, 0).unwrap(), wanted, "{source:?}");
            let found = proven(&gzip(source)[..], &checks, 6, 0).unwrap();
            assert_eq!(found, wanted, "{source:?}");
        }
    }
}
