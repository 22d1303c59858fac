//! Reads blocks of records from a byte source, and resumes at a position in it.
//!
//! Owns the buffer, what the end of the source means, and [`InputPosition`]: how much of the source is done with and the
//! digest of exactly that, by which a later reader knows the same source again. A reader that resumes reads the
//! source from its start, so that it stands where the former one stood whatever the source is: compressed, an
//! array, or in another encoding.

use std::io::Read;
use std::num::NonZeroUsize;

use bytes::{Buf, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use super::decode::{self, Decompressor, SourceFailure};
use super::digest::{Digest, PrefixDigest, hash};
use super::shape::is_blank;
use super::split::{Extent, Replay, Replayed, Splitter};
use super::text::TextSource;
use super::{LineBlock, RecordFormat};
use crate::input::InputError;

/// Size of the shared allocations that blocks are cut from.
const ALLOCATION_BYTES: usize = 1 << 20;

/// What one call of `read` is offered: a quarter of an allocation, since the offered part is zeroed first.
const READ_BYTES: usize = 256 << 10;

/// Below this much free space a new allocation is made instead of reading into the rest.
pub(super) const READ_BYTES_MIN: usize = 64 << 10;

/// What the end of a source means for a last record whose end did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// It is still being written: it is neither handed out nor counted.
    Wait,
    /// It is a record as it is.
    Send,
}

/// How a source is read.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// What a record is.
    pub format: RecordFormat,
    /// The longest record, in bytes.
    pub record_bytes_max: usize,
    /// What the end means.
    pub at_end: AtEnd,
    /// Whether the source may grow: its end is one for now.
    pub grows: bool,
    /// Whether [`LineReader::position`] is asked for.
    pub remembers: bool,
    /// The memory of the process, by which zstd windows are judged.
    pub memory_bytes: u64,
    /// The most that is read at once, where it is less than by default.
    pub read_bytes: Option<NonZeroUsize>,
}

impl ReadOptions {
    /// Of lines of at most `record_bytes_max` bytes, the last of which needs no line end.
    pub const fn lines(record_bytes_max: usize) -> Self {
        ReadOptions {
            format: RecordFormat::Ndjson,
            record_bytes_max,
            at_end: AtEnd::Send,
            grows: false,
            remembers: false,
            memory_bytes: 0,
            read_bytes: None,
        }
    }
}

/// How far a source was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputPosition {
    /// The index of the next record.
    pub index: u64,
    /// The number of its line, from 1.
    pub line: u64,
    /// The bytes before it, decompressed and as UTF-8.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
}

impl InputPosition {
    /// What stands before it.
    pub const fn prefix(&self) -> PrefixDigest {
        PrefixDigest {
            bytes: self.bytes,
            digest: self.digest,
        }
    }
}

/// Splits a byte source into records.
pub struct LineReader<R: Read> {
    name: String,
    source: TextSource<R>,
    splitter: Splitter,
    reading: ReadOptions,
    /// The unfinished record and, while reading, what follows it.
    buffer: BytesMut,
    /// Bytes that are done with, and their digest so far.
    done: u64,
    hasher: Option<Box<Xxh3>>,
    /// The place before a record of which the beginning is thrown away.
    before_discarded: Option<InputPosition>,
    ended: bool,
}

impl<R: Read> LineReader<R> {
    /// Reads `source`, called `name` in errors.
    #[must_use]
    pub fn new(name: impl Into<String>, source: R, reading: ReadOptions) -> Self {
        let window_log_max = decode::window_log_max(reading.memory_bytes);
        Self {
            name: name.into(),
            source: TextSource::new(
                Decompressor::new(source, window_log_max),
                reading.grows,
                reading.remembers,
            ),
            splitter: Splitter::new(reading.format, reading.record_bytes_max),
            reading,
            buffer: BytesMut::new(),
            done: 0,
            hasher: reading.remembers.then(Box::default),
            before_discarded: None,
            ended: false,
        }
    }

    /// The input's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the records were found to be, once the first one was seen, and the encoding where it is not UTF-8.
    #[must_use]
    pub fn found(&self) -> Option<(&'static str, Option<&'static str>)> {
        let found = self.splitter.found?;
        Some((found, self.source.encoding()))
    }

    /// Whether the source is gzip or zstd.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.source.source().is_compressed()
    }

    /// The source, where it is not compressed.
    #[must_use]
    pub fn plain(&self) -> Option<&R> {
        self.source.source().plain()
    }

    /// Behind the records that were handed out; `None` when it is not asked for.
    #[must_use]
    pub fn position(&self) -> Option<InputPosition> {
        let hasher = self.hasher.as_ref()?;
        if self.splitter.is_discarding() {
            return self.before_discarded;
        }
        Some(InputPosition {
            index: self.splitter.index,
            line: self.splitter.line,
            bytes: self.done,
            digest: Digest::of(hasher),
        })
    }

    /// What the source begins with, as far as it was taken; `None` when the place is not asked for.
    #[must_use]
    pub fn beginning(&self) -> Option<PrefixDigest> {
        let hasher = self.hasher.as_ref()?;
        Some(PrefixDigest {
            bytes: self.done,
            digest: Digest::of(hasher),
        })
    }

    /// The index of the next record.
    #[must_use]
    pub const fn next_index(&self) -> u64 {
        self.splitter.index
    }

    /// The line and the length of a last record whose end did not come; call it at the end.
    #[must_use]
    pub fn unfinished(&self) -> Option<(u64, usize)> {
        let open = self.splitter.is_discarding() || !self.buffer.iter().all(|byte| is_blank(*byte));
        open.then(|| (self.splitter.line, self.buffer.len()))
    }

    /// Whether the source ended within a character, or before it was known what it is.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.source.is_cut()
    }

    /// Whether the source ended within a top-level array.
    #[must_use]
    pub const fn is_in_array(&self) -> bool {
        self.splitter.is_in_array()
    }

    /// The next records, `None` at the end. Returns as soon as one read brought a whole record, so that a slow pipe's
    /// records do not wait for a full block. The end of a source that grows is passed by a later call.
    ///
    /// # Errors
    /// When the source cannot be read, decompressed or is of a format that is refused; after that the input has ended.
    pub fn next_block(&mut self) -> Result<Option<LineBlock>, InputError> {
        while !self.ended {
            let extent = match self.read_more()? {
                0 if self.reading.at_end == AtEnd::Send && !self.reading.grows => Extent::End,
                0 => Extent::Pause,
                _ => Extent::More,
            };
            if extent == Extent::More && self.source.is_doubted() {
                // No record of it is handed on if it is refused in the end.
                continue;
            }
            if extent == Extent::End {
                self.end_character();
            }
            let block = self.split(extent);
            let paused = extent != Extent::More;
            self.ended = paused && !self.reading.grows;
            if !block.lines.is_empty() || !block.refused.is_empty() {
                return Ok(Some(block));
            }
            if paused {
                // What waits holds no more memory than it needs.
                self.buffer = BytesMut::from(&self.buffer[..]);
                break;
            }
        }
        Ok(None)
    }

    /// Takes what is unfinished as a record: nothing follows.
    ///
    /// # Errors
    /// As [`LineReader::next_block`].
    pub fn finish(&mut self) -> Result<Option<LineBlock>, InputError> {
        self.source.end();
        if self.source.is_cut() {
            // It is decided what the source is.
            self.read_more()?;
        }
        self.ended = true;
        self.end_character();
        let block = self.split(Extent::End);
        Ok((!block.lines.is_empty() || !block.refused.is_empty()).then_some(block))
    }

    /// Makes the record damaged that ends within a character; not where the place is asked for: what was taken before
    /// the character must be the same once its other half has come.
    fn end_character(&mut self) {
        if self.hasher.is_none() && self.source.is_cut() {
            // Not a byte of UTF-8.
            self.buffer.extend_from_slice(&[0xFF]);
        }
    }

    /// Passes over what was taken up to `place`; `false` when the source begins with something else. `first` are
    /// bytes whose digest is known, too, which do not end behind the place. Call it before anything else.
    ///
    /// # Errors
    /// As [`LineReader::next_block`].
    pub fn resume(
        &mut self,
        place: &InputPosition,
        first: Option<PrefixDigest>,
    ) -> Result<bool, InputError> {
        debug_assert!(
            first.is_none_or(|first| first.bytes <= place.bytes),
            "nothing behind the place is read to be compared: it would be kept"
        );
        let mut digest = Box::<Xxh3>::default();
        let mut total = 0;
        let checks: Vec<_> = first.into_iter().chain([place.prefix()]).collect();
        if place.bytes > 0 {
            self.source.trust();
        }
        while total < place.bytes {
            let known = self.buffer.len();
            let read = self.read_more()? as u64;
            if read == 0 {
                return Ok(false);
            }
            let over = (total + read).saturating_sub(place.bytes) as usize;
            let before = self.buffer.len() - over;
            if !hash(
                &mut digest,
                &mut total,
                &self.buffer[known..before],
                &checks,
            ) {
                return Ok(false);
            }
            if total < place.bytes {
                let mut scrap = LineBlock::default();
                let done = self.splitter.split(&self.buffer, Extent::More, &mut scrap);
                self.buffer.advance(done);
            } else {
                self.replay_to(before)?;
            }
        }
        debug_assert_eq!(
            total, place.bytes,
            "what was taken is read, and nothing behind it"
        );
        self.splitter.index = place.index;
        self.splitter.line = place.line;
        self.done = place.bytes;
        if self.hasher.is_some() {
            self.hasher = Some(digest);
        }
        Ok(true)
    }

    /// Takes the splitter over what is left in front of `place` in the buffer.
    fn replay_to(&mut self, place: usize) -> Result<(), InputError> {
        let mut replay = Replay::new();
        let mut is_all = false;
        while replay.run(&mut self.splitter, &self.buffer, place, is_all) == Replayed::Wants {
            is_all = self.read_more()? == 0;
        }
        self.buffer.advance(place);
        Ok(())
    }

    fn failed(&mut self, failure: SourceFailure) -> InputError {
        self.ended = true;
        let name = self.name.clone();
        match failure {
            SourceFailure::Format { format, remedy } => InputError::Format {
                name,
                format,
                remedy,
            },
            SourceFailure::Read(source) => InputError::Read {
                name,
                line: self.splitter.line,
                source,
            },
        }
    }

    /// Appends what one read brings; 0 at the end of the source.
    fn read_more(&mut self) -> Result<usize, InputError> {
        let known = self.buffer.len();
        let most = self
            .reading
            .read_bytes
            .map_or(READ_BYTES, NonZeroUsize::get);
        if self.buffer.capacity() - known < READ_BYTES_MIN.min(most) {
            // Doubling keeps the copies of a long unfinished record linear in its length.
            self.buffer.reserve(ALLOCATION_BYTES.max(known));
        }
        let offered = most.min(self.buffer.capacity() - known);
        self.buffer.resize(known + offered, 0);
        let outcome = self.source.read(&mut self.buffer[known..]);
        self.buffer
            .truncate(known + *outcome.as_ref().unwrap_or(&0));
        outcome.map_err(|failure| self.failed(failure))
    }

    /// Moves the finished records into a block.
    fn split(&mut self, extent: Extent) -> LineBlock {
        let mut block = LineBlock::default();
        let mut bytes = self.buffer.split();
        let done = self.splitter.split(&bytes, extent, &mut block);
        debug_assert!(done <= bytes.len());
        let mut front = bytes.split_to(done);
        self.buffer = bytes;
        if let Some(hasher) = &mut self.hasher {
            let mut taken = &front[..];
            if let Some(start) = self.splitter.discarded() {
                let (before, discarded) = taken.split_at(start.at);
                hasher.update(before);
                self.before_discarded = Some(InputPosition {
                    index: start.index,
                    line: start.line,
                    bytes: self.done + before.len() as u64,
                    digest: Digest::of(hasher),
                });
                taken = discarded;
            }
            hasher.update(taken);
        }
        self.done += done as u64;
        for at in std::mem::take(&mut block.spanning) {
            let range = &mut block.lines[at].range;
            range.end = range.start + super::document::compact(&mut front[range.clone()]);
        }
        block.bytes = front.freeze();
        block
    }
}

/// Whether `source` begins with `first`, decompressed and as UTF-8. However long that is, it takes a buffer of memory.
///
/// # Errors
/// When it cannot be read up to there.
pub(crate) fn begins_with<R: Read>(
    source: R,
    first: PrefixDigest,
    memory_bytes: u64,
) -> Result<bool, std::io::Error> {
    let decoded = Decompressor::new(source, decode::window_log_max(memory_bytes));
    let mut text = TextSource::new(decoded, false, false);
    text.trust();
    let mut buffer = vec![0; READ_BYTES];
    let mut digest = Box::<Xxh3>::default();
    let mut total = 0;
    while total < first.bytes {
        let read = match text.read(&mut buffer) {
            Ok(0) | Err(SourceFailure::Format { .. }) => return Ok(false),
            Ok(read) => read,
            Err(SourceFailure::Read(source)) => return Err(source),
        };
        if !hash(&mut digest, &mut total, &buffer[..read], &[first]) {
            return Ok(false);
        }
    }
    Ok(true)
}
