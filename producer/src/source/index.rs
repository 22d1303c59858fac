//! Records out of blocks: keys, limits and indexes.

use std::sync::Arc;

use hydrant_core::batch::{Entry, Span};
use hydrant_core::clock::SharedClock;
use hydrant_core::{Permit, clock};

use super::limits;
use crate::batcher::{Chunk, Part, Refusal, Refused};
use crate::input::LineBlock;
use crate::key::KeyTemplate;

/// Makes chunks of blocks.
pub(super) struct Indexer {
    pub(super) key: Option<KeyTemplate>,
    pub(super) record_bytes_max: usize,
    pub(super) clock: SharedClock,
}

impl Indexer {
    /// A block of the input `name`; `end` is the index behind it, and `base` is added to all indexes.
    pub(super) fn chunk(&self, block: LineBlock, name: &Arc<str>, end: u64, base: u64) -> Chunk {
        let stamp = self.clock.wall_micros();
        let mut records = Vec::with_capacity(block.lines.len());
        let mut runs: Vec<(u32, u64)> = Vec::new();
        let mut refused: Vec<Refused> = block
            .refused
            .iter()
            .map(|line| Refused {
                index: base + line.index,
                line: line.number,
                length: line.length,
                reason: Refusal::LineTooLong,
            })
            .collect();
        let mut copies = Vec::new();
        let mut scratch = Vec::new();
        let mut next = None;
        for line in &block.lines {
            let index = base + line.index;
            let payload = &block.bytes[line.range.clone()];
            scratch.clear();
            let found = self.key.as_ref().map_or(Ok(None), |template| {
                template.try_extract(payload, &mut scratch)
            });
            let key = found.as_ref().ok().and_then(Clone::clone);
            let key = key.map(|range| &scratch[range]);
            let length = payload.len() + key.map_or(0, <[u8]>::len);
            let broken = if found.is_err() {
                Some(Refusal::InternalFault)
            } else if length > self.record_bytes_max {
                Some(Refusal::RecordTooLarge)
            } else {
                limits::broken(payload)
            };
            if let Some(reason) = broken {
                let length = payload.len() as u64;
                refused.push(Refused {
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
            records.push(entry(line.range.start, payload, key, stamp, &mut copies));
        }
        refused.sort_by_key(|refused| refused.index);
        let mut segments = vec![block.bytes];
        if !copies.is_empty() {
            segments.push(copies.into());
        }
        Chunk {
            segments,
            records,
            runs,
            refused,
            end: base + end,
            produced: clock::now(),
            permit: Permit::default(),
            part: Part {
                name: Arc::clone(name),
                ..Part::default()
            },
        }
    }
}

/// A key that stands in the line as it is points there; another one is laid beside a copy of the line,
/// because key and payload share a segment.
fn entry(
    start: usize,
    payload: &[u8],
    key: Option<&[u8]>,
    stamp: i64,
    copies: &mut Vec<u8>,
) -> Entry {
    let len = payload.len() as u32;
    let Some(key) = key else {
        return Entry {
            segment: 0,
            key: None,
            payload: Span::new(start as u32, len),
            stamp,
        };
    };
    let key_len = key.len() as u32;
    if let Some(at) = memchr::memmem::find(payload, key) {
        return Entry {
            segment: 0,
            key: Some(Span::new((start + at) as u32, key_len)),
            payload: Span::new(start as u32, len),
            stamp,
        };
    }
    let start = copies.len() as u32;
    copies.extend_from_slice(payload);
    copies.extend_from_slice(key);
    Entry {
        segment: 1,
        key: Some(Span::new(start + len, key_len)),
        payload: Span::new(start, len),
        stamp,
    }
}

#[cfg(test)]
mod tests;
