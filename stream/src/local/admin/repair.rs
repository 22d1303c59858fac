//! Finding corrupt bytes before the durable end, and recording them as skipped.
//!
//! Everything before the durable end is read and checked. Where a frame is not what was written, the next intact frame
//! is searched byte by byte; headers hold a number of the stream that no payload can guess, so that bytes inside a
//! payload are not mistaken for a frame.

use std::sync::Arc;

use hydrant_core::disk::Open;
use hydrant_core::{Error, Interval, Result, Shard};

use crate::local::end::durable_end::{Durable, durable};
use crate::local::format::frame::{FrameFault, HEADER_BYTES, Header, entry_of, position_before};
use crate::local::format::segment::{ListedSegment, Segment};
use crate::local::format::skips::{Skip, Skips};
use crate::local::stream_dir::StreamDir;
use crate::local::write::pulse::Pulse;
use crate::local::write::shard_log::ShardLog;

/// What is searched at once for the next intact frame.
const SEARCH_BYTES: usize = 1 << 20;

/// Records the corrupt places of a shard as skipped; answers what was lost with them.
pub(crate) async fn repair(stream_dir: &Arc<StreamDir>, shard: &Shard) -> Result<Vec<Interval>> {
    let dir = stream_dir.shard_dir(&shard.id);
    let mut log = ShardLog::new(stream_dir, shard);
    let Some(_lock) = log.wait().await? else {
        return Err(stream_dir.stuck(&shard.id));
    };
    // What is searched may be gigabytes.
    let _pulse = Pulse::of(stream_dir, &dir);
    let file = stream_dir.control_file(&shard.id, Open::Read).await?;
    // Where a fenced shard ends can only be decided once it can be read, and its holder is gone.
    let Durable { control, end, .. } = durable(stream_dir, shard, &file).await?;
    let control = control.ok_or_else(|| {
        Error::refused(format!(
            "no slot of the control file of shard `{}` is intact: append to the stream once, which restores the file, \
             then repair",
            shard.id
        ))
    })?;
    let mut skips = Skips::read(&stream_dir.ctx, &dir).await?;
    let segments = stream_dir.segments(&shard.id, end).await?;
    let open = async |listed: &ListedSegment| {
        let opened = stream_dir
            .segment(&shard.id, listed.number, listed.base)
            .await?;
        opened.ok_or_else(|| stream_dir.gone())
    };
    let mut found = Vec::new();
    for (n, listed) in segments.iter().enumerate() {
        if listed.number > control.active {
            break;
        }
        let segment = open(listed).await?;
        let (end, next_base) = match segments.get(n + 1) {
            Some(next) if listed.number < control.active => {
                let head = open(next).await?.head(stream_dir.incarnation).await?;
                (head.previous_bytes, next.base)
            }
            _ => (control.durable_bytes, control.next_offset),
        };
        found.extend(check(stream_dir, &segment, &skips, end, next_base).await?);
    }
    if !found.is_empty() {
        skips.skips.extend(found.iter().cloned());
        skips
            .skips
            .sort_by_key(|skip| (skip.segment, skip.from_byte));
        skips.replace(&stream_dir.ctx, &dir).await?;
    }
    let lost = found.iter().map(|skip| {
        let (from, to) = (skip.first_offset, skip.next_offset);
        Interval::new(position_before(from), position_before(to))
    });
    Ok(lost.collect())
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
            broken => {
                let why = broken.err().unwrap_or(FrameFault("offsets are missing"));
                let after = search(stream_dir, segment, at + 1, end, next_offset).await?;
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

/// The next intact frame from byte `from` on, and its base.
async fn search(
    stream_dir: &StreamDir,
    segment: &Segment,
    mut from: u64,
    end: u64,
    least: u64,
) -> Result<Option<(u64, u64)>> {
    while from + HEADER_BYTES as u64 <= end {
        let len = ((end - from) as usize).min(SEARCH_BYTES);
        let bytes = segment.read(from, len).await?;
        for start in 0..(bytes.len() + 1).saturating_sub(HEADER_BYTES) {
            let looks_like_one = Header::starts(&bytes[start..])
                && Header::decode(&bytes[start..], stream_dir.salt()).is_ok();
            if !looks_like_one {
                continue;
            }
            let at = from + start as u64;
            if let Ok(header) = frame(stream_dir, segment, at, end).await?
                && header.base >= least
            {
                return Ok(Some((at, header.base)));
            }
        }
        from += (bytes.len() + 1).saturating_sub(HEADER_BYTES).max(1) as u64;
    }
    Ok(None)
}
