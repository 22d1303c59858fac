//! Turns blocks into chunks: finds keys, applies limits, counts indexes.

use std::ops::Range;

use bytes::Bytes;
use hydrant_core::batch::{Entry, Span};
use hydrant_core::clock::SharedClock;
use hydrant_core::stream::KeyRule;
use hydrant_core::{Permit, clock};

use super::{LineBlock, limits};
use crate::batcher::{FilePart, InputChunk, Refusal, RefusedRecord};
use crate::key::{KeyTemplate, RecordKey};

/// The limits of chunks and records that the stream and the configuration set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkLimits {
    /// Key and payload bytes of one record.
    pub(crate) record_bytes_max: usize,
    /// The keys that a record can have.
    pub(crate) keys: KeyRule,
    /// Where a chunk of simulated records ends.
    pub(crate) chunk_bytes: usize,
}

impl ChunkLimits {
    /// Why the stream has no record with such a key and so many bytes of payload; `None` when it may have one.
    pub(super) fn refusal(&self, key: Option<&[u8]>, payload_bytes: usize) -> Option<Refusal> {
        if payload_bytes + key.map_or(0, <[u8]>::len) > self.record_bytes_max {
            return Some(Refusal::RecordTooLarge);
        }
        let misfit = key.and_then(|key| self.keys.misfit(key));
        misfit.map(Refusal::KeyRefused)
    }
}

/// Turns blocks into chunks.
pub(crate) struct Indexer {
    pub(super) key: Option<KeyTemplate>,
    pub(super) limits: ChunkLimits,
    pub(super) clock: SharedClock,
}

impl Indexer {
    /// A block of an input; `end` is the index behind it, and `base` is added to all indexes. Simulated records break
    /// no limit of later stages, and have `keys` of their own, which count where no template makes others.
    pub(super) fn chunk(
        &self,
        block: LineBlock,
        keys: Option<&[Range<usize>]>,
        end: u64,
        base: u64,
    ) -> InputChunk {
        debug_assert!(
            u32::try_from(block.bytes.len()).is_ok(),
            "spans reach each byte of a block"
        );
        let stamp = self.clock.wall_micros();
        let mut records = Vec::with_capacity(block.lines.len());
        let mut runs: Vec<(u32, u64)> = Vec::new();
        let mut refused: Vec<RefusedRecord> = block
            .refused
            .iter()
            .map(|line| RefusedRecord {
                index: base + line.index,
                line: line.number,
                length: line.length,
                reason: match line.is_damaged {
                    true => Refusal::Damaged,
                    false => Refusal::LineTooLong,
                },
            })
            .collect();
        let mut copies = Vec::new();
        let mut scratch = Vec::new();
        let mut next = None;
        for (n, line) in block.lines.iter().enumerate() {
            let index = base + line.index;
            let payload = &block.bytes[line.range.clone()];
            scratch.clear();
            let found = match &self.key {
                Some(template) => template.try_extract(payload, &mut scratch),
                None => Ok(keys.map(|keys| RecordKey::Record(keys[n].clone()))),
            };
            let key = found.as_ref().ok().and_then(Option::as_ref);
            let key_bytes = key.map(|key| key.bytes(payload, &scratch));
            let broken = match &found {
                Err(_) => Some(Refusal::InternalFault),
                Ok(_) => self.limits.refusal(key_bytes, payload.len()),
            };
            let by_later = || keys.is_none().then(|| limits::broken(payload)).flatten();
            if let Some(reason) = broken.or_else(by_later) {
                let length = payload.len() as u64;
                refused.push(RefusedRecord {
                    index,
                    line: line.number,
                    length,
                    reason,
                });
                continue;
            }
            if next != Some(index) {
                runs.push((records.len() as u32, index));
            }
            next = Some(index + 1);
            let place = Span::new(line.range.start as u32, payload.len() as u32);
            records.push(match key {
                None => entry(0, None, place, stamp),
                Some(RecordKey::Record(key)) => {
                    let start = place.start + key.start as u32;
                    entry(0, Some(Span::new(start, key.len() as u32)), place, stamp)
                }
                Some(made @ RecordKey::Made(_)) => {
                    // Key and payload share a segment.
                    let start = copies.len();
                    copies.extend_from_slice(payload);
                    copies.extend_from_slice(made.bytes(payload, &scratch));
                    let place = Span::new(start as u32, payload.len() as u32);
                    let end = (start + payload.len()) as u32;
                    let key = Span::new(end, copies.len() as u32 - end);
                    entry(1, Some(key), place, stamp)
                }
            });
        }
        refused.sort_by_key(|refused| refused.index);
        debug_assert_eq!(
            records.len() + refused.len(),
            block.lines.len() + block.refused.len(),
            "each record is sent or counted as refused"
        );
        let mut segments = vec![block.bytes];
        if !copies.is_empty() {
            if records.iter().all(|record| record.segment == 1) {
                // Nothing refers to the originals: they are not held beside their copies.
                segments[0] = Bytes::new();
            }
            segments.push(copies.into());
        }
        InputChunk {
            segments,
            records,
            runs,
            refused,
            end: base + end,
            produced: clock::now(),
            permit: Permit::default(),
            part: FilePart::default(),
        }
    }
}

const fn entry(segment: u32, key: Option<Span>, payload: Span, stamp: i64) -> Entry {
    Entry {
        segment,
        key,
        payload,
        stamp,
    }
}

#[cfg(test)]
mod tests;
