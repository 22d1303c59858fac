//! Segment files: names, heads, and the walk over their frames.
//!
//! A segment gets its name only when its head, and the frames it is born with, are synced. So a named segment proves
//! that everything below its base offset is durable in the segments before it, and its own first bytes as well.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::disk::{Disk, DiskFile, Open};
use hydrant_core::error::OrCannot;
use hydrant_core::varint::Reader;
use hydrant_core::{Error, HashRange, Result};

use super::dedup_state::{self, DedupState};
use super::frame::{FrameFault, HEADER_BYTES, Header};
use super::skips::Skips;

const MAGIC: [u8; 4] = *b"HYDs";
pub(crate) const FIXED_BYTES: usize = 88;
/// The head of a segment in a shard that knows no origin: none are counted behind it.
pub(crate) const EMPTY_HEAD_BYTES: u64 = FIXED_BYTES as u64 + 1;
/// The largest snapshot of marks that is read: two million origins. Tests reach a smaller one.
pub(crate) const MARKS_BYTES_MAX: u32 = if cfg!(test) { 64 << 10 } else { 128 << 20 };
/// What a walk over frames reads at once.
const WINDOW_BYTES: u64 = 128 << 10;

/// A segment by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedSegment {
    /// Its number; each new segment has the next one.
    pub(crate) number: u64,
    /// The offset of its first slot.
    pub(crate) base: u64,
    /// Bytes of the file.
    pub(crate) len: u64,
}

/// The name of a segment file.
pub(crate) fn name(number: u64, base: u64) -> String {
    format!("{number:010}-{base:020}.seg")
}

pub(crate) fn parse(text: &str) -> Option<(u64, u64)> {
    let (number, base) = text.strip_suffix(".seg")?.split_once('-')?;
    if number.len() != 10 || base.len() != 20 {
        return None;
    }
    let (number, base) = (number.parse().ok()?, base.parse().ok()?);
    // Numbers may be written with a sign, names may not.
    (name(number, base) == text).then_some((number, base))
}

/// The segments of a shard, oldest first.
pub(crate) async fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<ListedSegment>> {
    let names = disk.list(dir).await.or_cannot("list", dir)?;
    let mut segments: Vec<ListedSegment> = names
        .into_iter()
        .filter_map(|listed| {
            let (number, base) = parse(&listed.name)?;
            let len = listed.len;
            Some(ListedSegment { number, base, len })
        })
        .collect();
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

/// The newest segment of a shard in `dir` that is not empty, of those that were listed after its control file named
/// `active`. Retention removes older ones first.
pub(crate) fn newest<'a>(
    dir: &Path,
    segments: &'a [ListedSegment],
    active: u64,
) -> Result<&'a ListedSegment> {
    match segments.last() {
        Some(newest) if active <= newest.number => Ok(newest),
        Some(_) => Err(missing(dir, "the newest segment of the shard is missing")),
        None => Err(missing(dir, "all segments of the shard are missing")),
    }
}

/// What a shard in `dir` needs is missing, and with it what it holds.
pub(crate) fn missing(dir: &Path, what: &str) -> Error {
    Error::corrupt(dir, 0, format!("{what}: restore the file"))
}

/// The offset from which on these segments, which are sorted, hold the shard without a hole: what lies before one was
/// removed, and came back with a power cut.
pub(crate) fn kept_from(segments: &[ListedSegment]) -> Option<u64> {
    let mut runs = segments.chunk_by(|one, next| one.number + 1 == next.number);
    Some(runs.next_back()?.first()?.base)
}

/// What stands at the beginning of a segment file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The incarnation of the stream.
    pub(crate) incarnation: u128,
    /// The segment's number.
    pub(crate) number: u64,
    /// The offset of its first slot.
    pub(crate) base: u64,
    /// The valid bytes of the segment before it; what follows there was never durable.
    pub(crate) previous_bytes: u64,
    /// When the newest frame of the segment before it was appended; 0 when it has none.
    pub(crate) previous_newest: i64,
    /// Records appended to the shard before this segment.
    pub(crate) records_before: u64,
    /// Bytes of the whole head.
    pub(crate) len: u64,
}

impl Head {
    /// The head's bytes with the marks that hold at its base; sets its length.
    pub(crate) fn encode(&mut self, marks: &DedupState) -> Bytes {
        let mut body = Vec::new();
        marks.encode(&mut body);
        self.len = (FIXED_BYTES + body.len()) as u64;
        let mut out = Vec::with_capacity(FIXED_BYTES + body.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&dedup_state::FORMAT.to_le_bytes());
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        for number in [
            self.number,
            self.base,
            self.previous_bytes,
            self.previous_newest as u64,
            self.records_before,
            0,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&body);
        out.into()
    }

    /// The head, and the checksum of the marks that follow it.
    pub(crate) fn decode(bytes: &[u8], incarnation: u128) -> Result<(Head, u32), FrameFault> {
        let bytes = bytes
            .first_chunk::<FIXED_BYTES>()
            .ok_or(FrameFault("the head of a segment is cut short"))?;
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let number = |n: usize| {
            let at = 24 + n * 8;
            u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]))
        };
        let crc_at = FIXED_BYTES - 4;
        if bytes[..4] != MAGIC || u32_at(crc_at) != crc32c::crc32c(&bytes[..crc_at]) {
            return Err(FrameFault(
                "the checksum of a segment's head does not match",
            ));
        }
        if u32_at(4) != dedup_state::FORMAT {
            return Err(FrameFault(
                "a segment has a format that this build does not read",
            ));
        }
        let found: [u8; 16] = *bytes[8..].first_chunk().expect("88 bytes hold 24");
        if u128::from_le_bytes(found) != incarnation {
            return Err(FrameFault("a segment belongs to another stream"));
        }
        let marks_len = u32_at(72);
        if marks_len > MARKS_BYTES_MAX {
            return Err(FrameFault(
                "the head of a segment holds an impossible length",
            ));
        }
        let head = Head {
            incarnation,
            number: number(0),
            base: number(1),
            previous_bytes: number(2),
            previous_newest: number(3) as i64,
            records_before: number(4),
            len: FIXED_BYTES as u64 + u64::from(marks_len),
        };
        Ok((head, u32_at(76)))
    }
}

/// Stored frames at `at` of the segment in `path` are not what was written.
pub(crate) fn corrupt(path: &Path, at: u64, fault: FrameFault) -> Error {
    // `DIR/HOME/shards/SHARD/SEGMENT`
    let mut above = path.ancestors().skip(1);
    let shard = above.next().and_then(Path::file_name).unwrap_or_default();
    let stream = above.nth(2).unwrap_or(Path::new("."));
    let detail = format!(
        "{}: restore the file, or give up what is damaged with `hydrant stream repair local:{} {} --skip`",
        fault.0,
        stream.display(),
        shard.display()
    );
    Error::corrupt(path, at, detail)
}

/// An open segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The file.
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its number.
    pub(crate) number: u64,
    /// The offset of its first slot.
    pub(crate) base: u64,
}

impl Segment {
    /// Opens a segment; `None` when it was removed.
    pub(crate) async fn open(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        base: u64,
        how: Open,
    ) -> Result<Option<Self>> {
        let path = dir.join(name(number, base));
        match disk.open(&path, how).await {
            Ok(file) => Ok(Some(Segment {
                file,
                path,
                number,
                base,
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &path, error)),
        }
    }

    /// The head without its marks.
    pub(crate) async fn head(&self, incarnation: u128) -> Result<Head> {
        let (head, _) = self.fixed_head(incarnation).await?;
        if (head.number, head.base) != (self.number, self.base) {
            return Err(self.corrupt_head(
                0,
                FrameFault("the head of a segment is not that of its name"),
            ));
        }
        Ok(head)
    }

    async fn fixed_head(&self, incarnation: u128) -> Result<(Head, u32)> {
        let bytes = self.read(0, FIXED_BYTES).await?;
        Head::decode(&bytes, incarnation).map_err(|fault| self.corrupt_head(0, fault))
    }

    /// The head and the marks that hold at the segment's base, in a shard that owns `range`.
    pub(crate) async fn marks(
        &self,
        incarnation: u128,
        range: HashRange,
    ) -> Result<(Head, DedupState)> {
        let (head, crc) = self.fixed_head(incarnation).await?;
        let len = (head.len - FIXED_BYTES as u64) as usize;
        let bytes = self.read(FIXED_BYTES as u64, len).await?;
        if bytes.len() != len || crc32c::crc32c(&bytes) != crc {
            let fault = FrameFault("the checksum of a segment's marks does not match");
            return Err(self.corrupt_head(FIXED_BYTES as u64, fault));
        }
        let marks = DedupState::decode(&mut Reader::new(&bytes), range).map_err(|_| {
            self.corrupt_head(
                FIXED_BYTES as u64,
                FrameFault("a segment's marks are malformed"),
            )
        })?;
        Ok((head, marks))
    }

    /// Reads up to `len` bytes.
    pub(crate) async fn read(&self, at: u64, len: usize) -> Result<Bytes> {
        self.file
            .read_at(at, len)
            .await
            .or_cannot("read", &self.path)
    }

    /// Bytes of the file.
    pub(crate) async fn len(&self) -> Result<u64> {
        self.file.len().await.or_cannot("read", &self.path)
    }

    /// As [`corrupt`].
    pub(crate) fn corrupt(&self, at: u64, fault: FrameFault) -> Error {
        corrupt(&self.path, at, fault)
    }

    /// Offsets below the durable end stand in the segment before this one as well.
    pub(crate) fn begins_too_early(&self, durable_end: u64) -> Error {
        let detail = format!(
            "the segment begins at offset {}, below the durable end {durable_end} of the control file: restore the shard's directory from a copy",
            self.base
        );
        Error::corrupt(&self.path, 0, detail)
    }

    /// The head at `at` is not what was written; without it nothing in the segment can be distinguished from garbage.
    fn corrupt_head(&self, at: u64, fault: FrameFault) -> Error {
        Error::corrupt(&self.path, at, format!("{}: restore the file", fault.0))
    }
}

/// A walk over the frames of a segment, which reads headers and what is asked for, and no bodies.
#[derive(Debug)]
pub(crate) struct FrameWalk<'a> {
    segment: &'a Segment,
    skips: &'a Skips,
    salt: u64,
    at: u64,
    end: u64,
    window: Bytes,
    window_at: u64,
}

impl<'a> FrameWalk<'a> {
    /// From byte `at`, which starts a frame, up to byte `end`, past what an operator has skipped.
    pub(crate) fn new(
        segment: &'a Segment,
        salt: u64,
        at: u64,
        end: u64,
        skips: &'a Skips,
    ) -> Self {
        FrameWalk {
            segment,
            skips,
            salt,
            at,
            end,
            window: Bytes::new(),
            window_at: 0,
        }
    }

    /// Where the next frame starts.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    async fn bytes(&mut self, at: u64, len: usize) -> Result<Bytes> {
        let inside = at
            .checked_sub(self.window_at)
            .map(|from| from as usize)
            .filter(|from| from + len <= self.window.len());
        if let Some(from) = inside {
            return Ok(self.window.slice(from..from + len));
        }
        let most = self.end.saturating_sub(at).min(WINDOW_BYTES) as usize;
        let window = self.segment.read(at, most.max(len)).await?;
        self.window = window;
        self.window_at = at;
        Ok(self.window.slice(..len.min(self.window.len())))
    }

    /// The header of the next frame, where it starts; `None` at the end. A fault stays in place.
    pub(crate) async fn next(&mut self) -> Result<Option<Result<(u64, Header), FrameFault>>> {
        while let Some(skip) = self.skips.at(self.segment.number, self.at) {
            self.at = skip.to_byte;
        }
        if self.at >= self.end {
            return Ok(None);
        }
        let at = self.at;
        let bytes = self.bytes(at, HEADER_BYTES).await?;
        let header = Header::decode_before(&bytes, self.salt, self.end - at);
        Ok(Some(header.map(|header| {
            self.at += header.frame_len();
            (at, header)
        })))
    }

    /// The origin entry's bytes of the frame at `at`, checked.
    pub(crate) async fn meta(
        &mut self,
        at: u64,
        header: &Header,
    ) -> Result<Result<Bytes, FrameFault>> {
        let meta = self
            .bytes(at + HEADER_BYTES as u64, header.meta_len as usize)
            .await?;
        Ok(header.check_meta(&meta).map(|()| meta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_before_a_hole_are_not_kept() {
        let listed = |number: u64| ListedSegment {
            number,
            base: number * 10,
            len: 1,
        };
        for (numbers, base) in [
            (&[][..], None),
            (&[3], Some(30)),
            (&[3, 4, 5], Some(30)),
            (&[1, 3, 4], Some(30)),
            (&[1, 2, 4, 6], Some(60)),
        ] {
            let segments: Vec<ListedSegment> = numbers.iter().copied().map(listed).collect();
            assert_eq!(kept_from(&segments), base, "{numbers:?}");
        }
    }

    #[test]
    fn names_sort_by_number_and_are_read_back() {
        assert_eq!(parse(&name(7, 42)), Some((7, 42)));
        assert!(name(9, 100) < name(10, 5));
        for other in ["lock", "control", "1-2.seg", ".0000000001-x.seg.a.tmp"] {
            assert_eq!(parse(other), None);
        }
    }
}
