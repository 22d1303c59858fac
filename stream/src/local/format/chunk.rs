//! Frames that were read together, and how they become one batch.

use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::Batch;
use hydrant_core::batch::{AccountOf, AccountSpan, Entry, OriginSpan, Run, Step};
use hydrant_core::{Permit, Position, Sequence};

use super::columns;
use super::frame::{Codec, FrameFault, Header, entry_of, position_before};

/// What a record takes in a batch's index beside its bytes.
const ENTRY_BYTES: u64 = (size_of::<Entry>() + size_of::<u128>()) as u64;
/// By how much the dead letters of an account grow when they are decoded: their shortest form takes some 50 bytes.
const LETTERS_GROWTH: u64 = 4;

/// A frame as it was read.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    /// What follows the header.
    pub(crate) bytes: Bytes,
}

/// Frames that stand one after another.
#[derive(Debug, Default)]
pub(crate) struct FrameChunk {
    frames: Vec<Frame>,
    cost: u64,
}

/// What frames became.
#[derive(Debug)]
pub(crate) struct DecodedChunk {
    pub(crate) batch: Batch,
    /// The offset after the last slot.
    pub(crate) next_offset: u64,
    /// Bytes of the frames on disk.
    pub(crate) stored_bytes: u64,
    /// Bytes that the batch takes in memory.
    pub(crate) cost: u64,
    /// Whether a record points into what was read, because its frame is not compressed.
    pub(crate) shares_stored_bytes: bool,
}

impl DecodedChunk {
    /// Gives the batch as much of `permit` as it takes, of which `read` are the bytes that were read.
    pub(crate) fn hold(&mut self, mut permit: Permit, read: u64) {
        let shared = if self.shares_stored_bytes { read } else { 0 };
        permit.shrink_to(self.cost + shared);
        self.batch.permit = permit;
    }
}

impl FrameChunk {
    /// The memory that a frame takes as part of a batch.
    pub(crate) fn cost(header: &Header) -> u64 {
        let meta = u64::from(header.meta_len);
        let account = if header.account {
            meta * LETTERS_GROWTH
        } else {
            0
        };
        let entry = ENTRY_BYTES + header.columns.entry_bytes();
        u64::from(header.raw_len) + meta + account + u64::from(header.records) * entry
    }

    /// Whether it is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether a frame fits in; the first one always does.
    pub(crate) fn takes(&self, header: &Header, cost_max: u64) -> bool {
        self.frames.first().is_none_or(|first| {
            let (first, next) = (first.header.columns, header.columns);
            (first.explicit, first.headers) == (next.explicit, next.headers)
                && self.cost + FrameChunk::cost(header) <= cost_max
        })
    }

    /// Adds the frame that follows.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.cost += FrameChunk::cost(&frame.header);
        self.frames.push(frame);
    }

    /// Decodes the slots from offset `next` on. A fault behind the first frame ends the batch before it.
    pub(crate) fn decode(self, next: u64) -> Result<DecodedChunk, FrameFault> {
        let mut segments = Vec::with_capacity(self.frames.len());
        let mut decoded = DecodedChunk {
            batch: Batch::default(),
            next_offset: next,
            stored_bytes: 0,
            cost: 0,
            shares_stored_bytes: false,
        };
        let records = self.frames.iter().map(|f| f.header.records as usize);
        decoded.batch.records.reserve_exact(records.sum());
        for frame in &self.frames {
            match decode_frame(frame, &mut decoded, &mut segments) {
                Ok(()) => {}
                Err(fault) if segments.is_empty() => return Err(fault),
                Err(_) => break,
            }
        }
        decoded.batch.segments = segments.into();
        decoded.batch.to = position_before(decoded.next_offset);
        Ok(decoded)
    }
}

fn decode_frame(
    frame: &Frame,
    decoded: &mut DecodedChunk,
    segments: &mut Vec<Bytes>,
) -> Result<(), FrameFault> {
    let header = &frame.header;
    let (meta, body) = header.parts(&frame.bytes)?;
    let entry = match entry_of(&meta)? {
        None => None,
        Some(mut entry) => {
            let fits =
                entry.origins.len() == header.records && entry.account.is_some() == header.account;
            if !fits {
                return Err(FrameFault("an origin entry does not fit its frame"));
            }
            let account = entry.account.take();
            Some((Arc::new(entry), account))
        }
    };
    let raw = columns::decompress(&body, header.codec, header.raw_len as usize)?;
    let skip = (decoded.next_offset - header.base.min(decoded.next_offset))
        .min(u64::from(header.records)) as u32;
    let batch = &mut decoded.batch;
    let first = batch.records.len() as u32;
    let segment = segments.len() as u32;
    columns::read_index(&raw, header.records, header.columns, skip, segment, batch)?;
    let last = batch.records.len() as u32;
    if last > first {
        batch.runs.push(Run {
            first,
            sequence: Sequence::from(header.base + u64::from(skip)),
            sub: 0,
            step: Step::Sequence,
            arrival: header.arrival,
        });
    }
    if let Some((entry, account)) = entry {
        if let Some(account) = account {
            decoded.cost += account.memory_bytes() + size_of::<AccountSpan>() as u64;
            batch.accounts.push(AccountSpan {
                at: Position::offset(header.next_offset() - 1),
                entry: AccountOf {
                    writer: entry.writer,
                    shard: entry.shard.clone(),
                },
                account,
            });
        }
        if last > first {
            batch.origins.push(OriginSpan {
                records: first..last,
                skip,
                entry,
            });
        }
    }
    segments.push(raw);
    decoded.next_offset = header.next_offset();
    decoded.stored_bytes += header.frame_len();
    decoded.cost += FrameChunk::cost(&Header {
        account: false,
        ..*header
    });
    decoded.shares_stored_bytes |= header.codec == Codec::None;
    Ok(())
}
