//! Finding corrupt bytes before the durable end, and recording them as skipped.
//!
//! Everything before the durable end is read and checked, beside the writers; the shard's lock is held only while what
//! was found is stored. Where a frame is not what was written, the next intact frame is searched byte by byte. Headers
//! hold a number of the stream that no payload can guess; a payload that is a copy of a frame of this stream counts only
//! if its offsets fit. A shard that lacks a whole segment is refused: nothing says where the one before it ends.

use std::ops::Range;
use std::sync::Arc;

use hydrant_core::disk::Open;
use hydrant_core::error::OrCannot;
use hydrant_core::{Error, Interval, Result, Shard};

use crate::local::end::durable_end::{Durable, durable};
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::frame::{FrameFault, HEADER_BYTES, Header, entry_of, position_before};
use crate::local::format::segment::{self, ListedSegment, Segment};
use crate::local::format::skips::{Skip, Skips};
use crate::local::stream_dir::StreamDir;
use crate::local::write::shard_log::ShardLog;

/// What is searched at once for the next intact frame.
const SEARCH_BYTES: usize = 1 << 20;

/// Records the corrupt places of a shard as skipped; answers what was lost with them.
pub(crate) async fn repair(stream_dir: &Arc<StreamDir>, shard: &Shard) -> Result<Vec<Interval>> {
    let file = stream_dir.control_file(&shard.id, Open::Write).await?;
    // Where a fenced shard ends can only be decided once it can be read.
    let Durable { control, end, .. } = durable(stream_dir, shard, &file).await?;
    let control = control.ok_or_else(|| {
        Error::refused(format!(
            "no slot of the control file of shard `{}` is intact: append to the stream once, which restores the file, \
             then repair",
            shard.id
        ))
    })?;
    let segments = stream_dir.segments(&shard.id, end).await?;
    let found = search_all(stream_dir, shard, &control, &segments).await?;
    let dir = stream_dir.shard_dir(&shard.id);
    let active = segments.iter().find(|one| one.number == control.active);
    let active = match active.filter(|_| end.is_none()) {
        Some(one) => {
            Segment::open(
                &*stream_dir.ctx.disk,
                &dir,
                one.number,
                one.base,
                Open::Write,
            )
            .await?
        }
        None => None,
    };
    if found.is_empty() && !is_cut(active.as_ref(), control).await? {
        return Ok(Vec::new());
    }
    let mut log = ShardLog::new(stream_dir, shard);
    let Some(_lock) = log.wait().await? else {
        return Err(stream_dir.stuck(&shard.id));
    };
    sync_both_slots(&file).await?;
    Skips::read(&stream_dir.ctx, &dir)
        .await?
        .join(&found)
        .replace(&stream_dir.ctx, &dir)
        .await?;
    if let Some(active) = active
        && is_cut(Some(&active), control).await?
    {
        // The zeros are part of what is skipped; what comes is appended behind them.
        let grown = active.file.truncate(control.durable_bytes).await;
        grown.or_cannot("extend", &active.path)?;
        active.file.sync().await.or_cannot("sync", &active.path)?;
    }
    let lost = found
        .iter()
        .filter(|skip| skip.first_offset < skip.next_offset);
    let lost = lost.map(|skip| (skip.first_offset, skip.next_offset));
    let lost = lost.map(|(from, to)| Interval::new(position_before(from), position_before(to)));
    Ok(lost.collect())
}

/// The corrupt places of all segments that the shard keeps. What lies before the durable end does not change, so this
/// needs no lock, which writers wait for: it may be gigabytes.
async fn search_all(
    stream_dir: &StreamDir,
    shard: &Shard,
    control: &ControlSlot,
    segments: &[ListedSegment],
) -> Result<Vec<Skip>> {
    let dir = stream_dir.shard_dir(&shard.id);
    if !control.is_emptied() {
        segment::newest(&dir, segments, control.active)?;
    }
    let skips = Skips::read(&stream_dir.ctx, &dir).await?;
    // A power cut may bring back files that were removed.
    let removed = segments.iter().skip(1);
    let removed = removed.take_while(|next| next.base <= control.first_offset);
    let kept = &segments[removed.count()..];
    let mut found = Vec::new();
    for (n, listed) in kept.iter().enumerate() {
        if listed.number > control.active {
            break;
        }
        // A segment that is not there any more was removed meanwhile, and so were those before it.
        let opened = stream_dir.segment(&shard.id, listed.number, listed.base);
        let Some(segment) = opened.await? else {
            continue;
        };
        let (end, next_base) = match kept.get(n + 1) {
            _ if listed.number == control.active => {
                // Damaged marks cannot be given up: without them nothing is appended any more.
                segment.marks(stream_dir.incarnation, shard.range).await?;
                (control.durable_bytes, control.next_offset)
            }
            Some(next) if next.number == listed.number + 1 => {
                let opened = stream_dir.segment(&shard.id, next.number, next.base);
                let Some(next) = opened.await? else {
                    continue;
                };
                (
                    next.head(stream_dir.incarnation).await?.previous_bytes,
                    next.base,
                )
            }
            _ => {
                let lacks = format!("segment {} of the shard is missing", listed.number + 1);
                return Err(segment::missing(&dir, &lacks));
            }
        };
        found.extend(check(stream_dir, &segment, &skips, end, next_base).await?);
    }
    Ok(found)
}

/// Whether the segment that is appended to ends before its durable end.
async fn is_cut(active: Option<&Segment>, control: ControlSlot) -> Result<bool> {
    match active {
        Some(active) => Ok(active.len().await? < control.durable_bytes),
        None => Ok(false),
    }
}

/// Has a power cut leave the durable end where it is, or later: recovery cuts at the first place that is not intact behind
/// it, and there is one once the skip is stored.
async fn sync_both_slots(file: &ControlFile) -> Result<()> {
    for _slot in 0..2 {
        if let Some(mut control) = file.read().await? {
            control.counter += 1;
            file.write(&control).await?;
            file.sync().await?;
        }
    }
    Ok(())
}

/// The corrupt places of a segment up to byte `end`, which offset `next_base` follows.
async fn check(
    stream_dir: &StreamDir,
    segment: &Segment,
    skips: &Skips,
    end: u64,
    next_base: u64,
) -> Result<Vec<Skip>> {
    let head = segment.head(stream_dir.incarnation).await?;
    let mut found = Vec::new();
    let (mut at, mut next_offset) = (head.len, segment.base);
    while at < end {
        if let Some(skip) = skips.at(segment.number, at) {
            at = skip.to_byte;
            next_offset = skip.next_offset;
            continue;
        }
        match frame(stream_dir, segment, at, end).await? {
            Ok(header) if header.base == next_offset => {
                at += header.frame_len();
                next_offset = header.next_offset();
            }
            Ok(header)
                if skips.over(next_offset).map(|skip| skip.next_offset) == Some(header.base) =>
            {
                next_offset = header.base;
            }
            broken => {
                // An intact frame behind missing offsets is found where it is.
                let from = at + u64::from(broken.is_err());
                let why = broken.err().unwrap_or(FrameFault("offsets are missing"));
                let after = search(stream_dir, segment, from, end, next_offset..next_base).await?;
                let (to_byte, base) = after.unwrap_or((end, next_base));
                found.push(Skip {
                    segment: segment.number,
                    from_byte: at,
                    to_byte,
                    first_offset: next_offset,
                    next_offset: base,
                    why: format!(
                        "corrupt data in `{}` from byte {at} to {to_byte} was skipped: {}",
                        segment.path.display(),
                        why.0
                    ),
                });
                (at, next_offset) = (to_byte, base);
            }
        }
    }
    Ok(found)
}

/// The header of the frame at `at`, if all of it is intact.
async fn frame(
    stream_dir: &StreamDir,
    segment: &Segment,
    at: u64,
    end: u64,
) -> Result<Result<Header, FrameFault>> {
    let bytes = segment.read(at, HEADER_BYTES).await?;
    let header = match Header::decode_before(&bytes, stream_dir.salt(), end - at) {
        Ok(header) => header,
        Err(fault) => return Ok(Err(fault)),
    };
    let rest = header.frame_len() as usize - HEADER_BYTES;
    let bytes = segment.read(at + HEADER_BYTES as u64, rest).await?;
    let parts = header.parts(&bytes);
    Ok(parts.and_then(|(meta, _)| entry_of(&meta)).map(|_| header))
}

/// The next intact frame from byte `from` on that holds some of these offsets and no others, and its base.
async fn search(
    stream_dir: &StreamDir,
    segment: &Segment,
    mut from: u64,
    end: u64,
    offsets: Range<u64>,
) -> Result<Option<(u64, u64)>> {
    while from + HEADER_BYTES as u64 <= end {
        let len = ((end - from) as usize).min(SEARCH_BYTES);
        let bytes = segment.read(from, len).await?;
        if bytes.len() < HEADER_BYTES {
            // The file was cut.
            return Ok(None);
        }
        for start in 0..=bytes.len() - HEADER_BYTES {
            let looks_like_one = Header::starts(&bytes[start..])
                && Header::decode(&bytes[start..], stream_dir.salt()).is_ok();
            if !looks_like_one {
                continue;
            }
            let at = from + start as u64;
            if let Ok(header) = frame(stream_dir, segment, at, end).await?
                && offsets.start <= header.base
                && header.next_offset() <= offsets.end
            {
                return Ok(Some((at, header.base)));
            }
        }
        from += (bytes.len() + 1 - HEADER_BYTES) as u64;
    }
    Ok(None)
}
