//! Queues chunks that were taken from the input and are not sent yet.
//!
//! Owns their order, and how many there may be: enough that many files are noted in the ledger at once, since each is in it
//! before its first record is sent.

use std::collections::VecDeque;

use crate::batcher::InputChunk;

/// Chunks that may wait: a ledger that is replaced for so many files at once costs little for each.
const CHUNKS_MAX: usize = 256;

/// Bytes of records that may wait, and which part of all memory at most.
const BYTES_MAX: u64 = 4 << 20;
const MEMORY_PARTS: u64 = 16;

/// A chunk and, once the file that it opens is noted in the ledger, that note.
pub(super) struct WaitingChunk {
    pub(super) chunk: InputChunk,
    pub(super) opened: Option<OpenedFile>,
}

/// The note of a file in the ledger.
#[derive(Clone, Copy)]
pub(super) struct OpenedFile {
    /// The index from which on nothing of it was sent.
    pub(super) start: u64,
    /// By what the keeper of the ledger knows whether that is written down.
    pub(super) note: u64,
}

/// The chunks, oldest first.
pub(super) struct Queue {
    waiting: VecDeque<WaitingChunk>,
    bytes: u64,
    bytes_max: u64,
}

impl Queue {
    pub(super) fn new(memory_bytes: u64) -> Self {
        Queue {
            waiting: VecDeque::new(),
            bytes: 0,
            bytes_max: BYTES_MAX.min(memory_bytes / MEMORY_PARTS),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < CHUNKS_MAX && self.bytes < self.bytes_max
    }

    /// Whether something of the file of this number waits.
    pub(super) fn holds(&self, number: u32) -> bool {
        self.waiting
            .iter()
            .any(|waiting| waiting.chunk.part.number == number)
    }

    pub(super) fn push(&mut self, waiting: WaitingChunk) {
        self.bytes += waiting.chunk.memory_bytes();
        self.waiting.push_back(waiting);
    }

    pub(super) fn front(&mut self) -> Option<&mut WaitingChunk> {
        self.waiting.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<InputChunk> {
        let WaitingChunk { chunk, .. } = self.waiting.pop_front()?;
        debug_assert!(self.bytes >= chunk.memory_bytes());
        self.bytes -= chunk.memory_bytes();
        debug_assert!(!self.waiting.is_empty() || self.bytes == 0);
        Some(chunk)
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }
}
