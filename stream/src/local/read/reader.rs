//! The reader of one shard: from any offset to the durable end, and on as it moves.
//!
//! Small frames are gathered into one batch, large ones come alone. The budget's bytes are acquired before anything is
//! read; what was asked for too much goes back at once. At the durable end the reader waits for a change of the
//! control file. It never looks at bytes past the durable end, and never waits for a writer's lock ([`observe`]).
//! The end of a closed shard is that of the manifest ([`durable`]), which is watched as well: a shard is fenced without
//! its control file. A caller that wants the next chunk decoded while it works on this one asks from a task of its own.
//!
//! A stream may have many more shards than a process may open files: a reader has its files open only while a thread works
//! on them. It looks for the next frame at once, on one thread, and reads what is there if that is little; a reader that
//! waits costs nothing.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use hydrant_core::disk::{Open, Watch, at_once};
use hydrant_core::stream::{Read, ShardReader};
use hydrant_core::{Budget, Error, Permit, Position, Result, Shard, clock};

use super::seek::{LogCursor, NextFrame, OpenedShard, ShardSource};
use super::wrong;
use crate::local::end::durable_end::{Durable, durable};
use crate::local::end::fence::decided;
use crate::local::format::chunk::{DecodedChunk, Frame, FrameChunk};
use crate::local::format::control::ControlFile;
use crate::local::format::frame::{CUT_SHORT, FrameFault, HEADER_BYTES, Header, position_before};
use crate::local::format::segment;
use crate::local::metrics::ReadMetrics;
use crate::local::stream_dir::{HOLDER_CHECK, StreamDir};
use crate::local::write::observe::{Sight, observe};

/// Stored bytes that are read at once, and decompressed bytes that are gathered into one batch, unless the first frame
/// is larger.
const CHUNK_BYTES_MAX: u64 = 1 << 20;
/// The same with the smallest budgets.
const CHUNK_BYTES_MIN: u64 = 64 << 10;
/// Chunks that fit into a budget, so that one reader does not hold it alone.
const CHUNKS_PER_BUDGET: u64 = 32;
/// Stored bytes that are read where they are found, without asking what they take: hundreds of readers may do so at
/// once.
const LITTLE: u64 = 4 << 10;
/// The memory for that.
const LITTLE_ROOM: u64 = 16 << 10;

/// Reads one shard.
#[derive(Debug)]
pub(crate) struct TailReader {
    source: Arc<ShardSource>,
    metrics: ReadMetrics,
    watches: ReaderWatches,
    /// The control file or the manifest may have changed since they were looked at.
    moved: bool,
    opened: OpenedShard,
}

/// What notifies a reader of changes.
#[derive(Debug)]
struct ReaderWatches {
    control: Box<dyn Watch>,
    /// Of the directory in which the manifest is replaced.
    manifest: Box<dyn Watch>,
}

/// What is done next.
enum ReadStep {
    /// Everything is read.
    Wait,
    /// This is handed on, of so many bytes that were read.
    Decoded(LogCursor, Box<DecodedChunk>, u64),
    /// What is there takes memory first.
    Read(LogCursor, Header, u64),
    /// Offsets are lost, up to this one.
    Lost(u64, String),
}

impl TailReader {
    /// A reader of what comes after a position.
    pub(crate) async fn open(
        stream_dir: &Arc<StreamDir>,
        shard: &Shard,
        after: Position,
        budget: &Budget,
    ) -> Result<Self> {
        let source = Arc::new(ShardSource {
            stream_dir: Arc::clone(stream_dir),
            shard: shard.clone(),
            dir: stream_dir.shard_dir(&shard.id),
            budget: budget.clone(),
        });
        let path = ControlFile::path(&source.dir);
        // Watched before they are read, so that no change is missed.
        let mut watches = ReaderWatches {
            control: watch(stream_dir, &path).await?,
            manifest: watch(stream_dir, &stream_dir.dir).await?,
        };
        let found = source.look(&mut watches, after).await;
        let Durable { control, end, .. } = stream_dir.unless_gone(found).await?;
        let Some(control) = control else {
            let detail = "no slot is intact: appending to the shard mends it";
            return Err(Error::corrupt(&path, 0, detail));
        };
        let next = match after {
            Position::End => Some(control.next_offset),
            after => after
                .next_offset()
                .filter(|next| *next <= control.next_offset),
        };
        let next = next.ok_or_else(|| {
            Error::fatal(format!(
                "position {after} lies after the end of shard `{}`, which is {}: the stream was restored from an older \
                 copy, or the progress belongs to another stream",
                shard.id,
                position_before(control.next_offset)
            ))
        })?;
        Ok(TailReader {
            metrics: ReadMetrics::new(&stream_dir.stream.name, &shard.id),
            source,
            watches,
            moved: false,
            opened: OpenedShard {
                next,
                cursor: None,
                control,
                end,
                is_undecided: false,
                idle: false,
                ended: after == Position::End,
            },
        })
    }

    /// Whether the control file or the manifest may have changed since they were looked at.
    fn may_have_moved(&mut self) -> bool {
        let changed = self.watches.changed().now_or_never();
        self.moved |= changed.is_some();
        self.moved
    }

    /// Finds what comes next, on one thread, and reads it if it is little.
    async fn step(&mut self) -> Result<ReadStep> {
        let (source, mut opened) = (Arc::clone(&self.source), self.opened.clone());
        let permit = source.budget.try_acquire(LITTLE_ROOM);
        let room = permit.as_ref().map_or(0, Permit::bytes);
        let disk = Arc::clone(&source.stream_dir.ctx.disk);
        let stepping = async move {
            let step = source.step(&mut opened, room).await;
            let step = source.stream_dir.unless_gone(step).await;
            (opened, step)
        };
        let (opened, step) = at_once(&*disk, stepping).await;
        self.opened = opened;
        let mut step = step?;
        self.moved = false;
        if let (ReadStep::Decoded(_, decoded, read), Some(permit)) = (&mut step, permit) {
            decoded.hold(permit, *read);
        }
        Ok(step)
    }

    /// Waits for a change.
    async fn wait(&mut self) -> Result<()> {
        let (source, watches, opened) = (&self.source, &mut self.watches, &self.opened);
        // All arms only wait.
        tokio::select! {
            biased;
            () = watches.changed() => {}
            () = clock::sleep(HOLDER_CHECK), if opened.is_undecided => {
                // The one who was to decide may be dead.
                source.decide().await?;
            }
            () = wrong::writes(source, opened) => {}
        }
        self.moved = true;
        Ok(())
    }
}

impl ReaderWatches {
    /// Resolves when one of both may have changed since the last call.
    async fn changed(&mut self) {
        // Both arms only wait.
        tokio::select! {
            biased;
            () = self.control.changed() => {}
            () = self.manifest.changed() => {}
        }
    }
}

async fn watch(stream_dir: &StreamDir, path: &Path) -> Result<Box<dyn Watch>> {
    let watched = stream_dir.ctx.disk.watch(path).await;
    watched.map_err(|e| stream_dir.failed("watch", path, e))
}

impl ShardSource {
    /// What the shard's end is for a reader after a position. A living writer is not waited for, unless a power cut has
    /// taken back what the control file said and it is about to make that good.
    async fn look(
        self: &Arc<Self>,
        watches: &mut ReaderWatches,
        after: Position,
    ) -> Result<Durable> {
        loop {
            let source = Arc::clone(self);
            let looking = async move { source.try_look(after).await };
            if let Some(found) = at_once(&*self.stream_dir.ctx.disk, looking).await? {
                return Ok(found);
            }
            // Both arms only wait.
            tokio::select! {
                biased;
                () = watches.changed() => {}
                () = clock::sleep(HOLDER_CHECK) => {}
            }
        }
    }

    /// As [`ShardSource::look`]; `None` when a writer has to be waited for.
    async fn try_look(&self, after: Position) -> Result<Option<Durable>> {
        let covers = |found: &Durable| {
            let known = found.control.filter(|_| !found.is_undecided);
            let next = after.next_offset();
            found.end.is_some()
                || known.is_some_and(|control| {
                    after == Position::End || next.is_some_and(|next| next <= control.next_offset)
                })
        };
        let file = self.control_file().await?;
        match observe(&self.stream_dir, &self.shard, &file, |_| false).await {
            Ok((found, Sight::Recovered)) if !found.is_undecided => Ok(Some(found)),
            Ok((found, _)) if covers(&found) => Ok(Some(found)),
            Ok((_, Sight::Unrecovered)) => Err(self.stream_dir.unrecovered(&self.shard.id)),
            Ok(_) => Ok(None),
            // A full disk takes no new segment and is read up to where that is certain.
            Err(full @ Error::Full { .. }) => {
                let found = durable(&self.stream_dir, &self.shard, &file).await?;
                covers(&found).then_some(Some(found)).ok_or(full)
            }
            Err(error) => Err(error),
        }
    }

    /// The control file, open for one look.
    async fn control_file(&self) -> Result<ControlFile> {
        self.stream_dir
            .control_file(&self.shard.id, Open::Read)
            .await
    }

    /// Reads the control file again, and looks for a fence after that; whether more is known than before. Torn while it is
    /// written, or by a power cut: the writer or a recovery makes it good.
    async fn refresh(&self, opened: &mut OpenedShard) -> Result<bool> {
        let file = self.control_file().await?;
        let found = durable(&self.stream_dir, &self.shard, &file).await?;
        opened.is_undecided = found.is_undecided;
        // What is known is certain; it may be all.
        let Some(control) = found.control.filter(|_| !found.is_undecided) else {
            return Ok(false);
        };
        let control = wrong::seen(self, opened, control, found.end.is_some()).await?;
        let moved = control.counter != opened.control.counter || found.end != opened.end;
        (opened.control, opened.end) = (control, found.end);
        Ok(moved)
    }

    /// Decides where a fenced shard ends, if no other process is about to.
    async fn decide(self: &Arc<Self>) -> Result<()> {
        let source = Arc::clone(self);
        let deciding = async move {
            let file = source.control_file().await?;
            decided(&source.stream_dir, &source.shard, &file).await
        };
        at_once(&*self.stream_dir.ctx.disk, deciding)
            .await
            .map(drop)
    }

    /// Finds what comes next.
    async fn step(&self, opened: &mut OpenedShard, room: u64) -> Result<ReadStep> {
        loop {
            if opened.next >= opened.control.next_offset {
                let moved = self.refresh(opened).await?;
                if opened.next >= opened.control.next_offset {
                    opened.ended = !moved && opened.control.sealed;
                    // Nothing is new: what woke this reader may be that the stream is gone.
                    self.stream_dir.manifest().await?;
                    return Ok(ReadStep::Wait);
                }
            }
            if opened.next < opened.control.first_offset {
                let why = "removed by the stream's retention or by a trim".to_owned();
                return Ok(ReadStep::Lost(opened.control.first_offset, why));
            }
            match self.next_frame(opened).await? {
                NextFrame::Removed => {
                    opened.cursor = None;
                    if !self.refresh(opened).await? {
                        let detail = format!("no segment holds offset {}", opened.next);
                        return Err(Error::corrupt(&self.dir, 0, detail));
                    }
                }
                NextFrame::Lost(next, why) => return Ok(ReadStep::Lost(next, why)),
                NextFrame::Frame(segment, cursor, first, end) => {
                    let stored = end - cursor.at;
                    if stored > LITTLE || stored + FrameChunk::cost(&first) > room {
                        return Ok(ReadStep::Read(cursor, first, end));
                    }
                    let bytes = segment.read(cursor.at, stored as usize).await?;
                    let chunk = self.frames(opened, &cursor, &bytes, room - stored);
                    return match chunk.and_then(|chunk| chunk.decode(opened.next)) {
                        Ok(decoded) => Ok(ReadStep::Decoded(cursor, Box::new(decoded), stored)),
                        Err(fault) => {
                            // An operator may have the place skipped before the next call.
                            opened.cursor = None;
                            Err(segment.corrupt(cursor.at, fault))
                        }
                    };
                }
            }
        }
    }

    /// Reads and decodes from a frame on; `None` when its segment was removed.
    async fn read(
        self: &Arc<Self>,
        opened: &OpenedShard,
        at: &LogCursor,
        first: Header,
        end: u64,
    ) -> Result<Option<DecodedChunk>> {
        let most = self.budget.total_bytes() / CHUNKS_PER_BUDGET;
        let most = most.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let alone = FrameChunk::cost(&first);
        // Frames tend to be of similar size: do not read more than will fit in the batch.
        let alike = (most / alone.max(1)).saturating_mul(first.frame_len());
        let alike = alike.saturating_add(alike / 8);
        let stored = first.frame_len().max((end - at.at).min(most).min(alike));
        let raw = if stored == first.frame_len() {
            alone
        } else {
            alone.max(most)
        };
        let permit = self.budget.acquire(stored + raw).await;
        let (source, from) = (Arc::clone(self), at.clone());
        let reading = async move {
            match source.segment(from.number, from.base).await? {
                Some(segment) => segment.read(from.at, stored as usize).await.map(Some),
                None => Ok(None),
            }
        };
        let Some(bytes) = at_once(&*self.stream_dir.ctx.disk, reading).await? else {
            return Ok(None);
        };
        let path = self.dir.join(segment::name(at.number, at.base));
        let chunk = self.frames(opened, at, &bytes, raw);
        let (workers, next) = (&self.stream_dir.ctx.workers, opened.next);
        let decode = move || chunk.and_then(|chunk| chunk.decode(next));
        let decoded = workers.run(decode).await?;
        let mut decoded = decoded.map_err(|fault| segment::corrupt(&path, at.at, fault))?;
        decoded.hold(permit, stored);
        Ok(Some(decoded))
    }

    /// The frames that stand one after another at the beginning of `bytes`, up to `raw` bytes of memory.
    fn frames(
        &self,
        opened: &OpenedShard,
        at: &LogCursor,
        bytes: &Bytes,
        raw: u64,
    ) -> Result<FrameChunk, FrameFault> {
        let mut chunk = FrameChunk::default();
        let mut from = 0usize;
        let mut expected = None;
        while let Ok(header) = Header::decode(&bytes[from..], self.stream_dir.salt()) {
            let len = header.frame_len() as usize;
            let in_order = match expected {
                None => header.next_offset() > opened.next,
                Some(base) => header.base == base,
            };
            let skipped = at.skips.at(at.number, at.at + from as u64).is_some();
            let is_cut = from + len > bytes.len();
            if is_cut && chunk.is_empty() {
                return Err(CUT_SHORT);
            }
            if !in_order || skipped || is_cut || !chunk.takes(&header, raw) {
                break;
            }
            chunk.push(Frame {
                header,
                bytes: bytes.slice(from + HEADER_BYTES..from + len),
            });
            expected = Some(header.next_offset());
            from += len;
        }
        match chunk.is_empty() {
            true => Err(FrameFault("a frame changed while it was read")),
            false => Ok(chunk),
        }
    }
}

#[async_trait]
impl ShardReader for TailReader {
    async fn next(&mut self) -> Result<Read> {
        loop {
            let opened = &self.opened;
            if opened.ended {
                let ShardSource {
                    stream_dir, shard, ..
                } = &*self.source;
                let manifest = stream_dir.manifest().await?;
                let children = manifest.shards.children(&shard.id);
                return Ok(Read::End {
                    children: children.map(|child| child.id.clone()).collect(),
                    marks: Vec::new(),
                });
            }
            let is_at_tip = opened.next >= opened.control.next_offset;
            if is_at_tip && !opened.control.sealed && !self.may_have_moved() {
                if !std::mem::replace(&mut self.opened.idle, true) {
                    let through = position_before(self.opened.next);
                    return Ok(Read::Idle { through });
                }
                self.wait().await?;
                continue;
            }
            let step = self.step().await?;
            let opened = &mut self.opened;
            let (cursor, decoded) = match step {
                ReadStep::Wait => continue,
                ReadStep::Lost(next, why) => {
                    self.metrics.gaps.increment(1);
                    let from = position_before(opened.next);
                    (opened.next, opened.cursor) = (next, None);
                    opened.idle = false;
                    return Ok(Read::Gap {
                        from,
                        to: position_before(next),
                        why,
                        marks: Vec::new(),
                    });
                }
                ReadStep::Decoded(cursor, decoded, _) => (cursor, *decoded),
                ReadStep::Read(cursor, first, end) => {
                    let read = self.source.read(opened, &cursor, first, end).await;
                    let read = self.source.stream_dir.unless_gone(read).await;
                    // After an error an operator may have the place skipped before the next call.
                    opened.cursor = None;
                    match read? {
                        Some(decoded) => (cursor, decoded),
                        None => continue,
                    }
                }
            };
            opened.next = decoded.next_offset;
            opened.idle = false;
            opened.cursor = Some(LogCursor {
                at: cursor.at + decoded.stored_bytes,
                ..cursor
            });
            let lag = opened.control.next_offset.saturating_sub(opened.next);
            let records = decoded.batch.len() as u64;
            let metrics = &self.metrics;
            metrics.records.increment(records);
            metrics.bytes.increment(decoded.stored_bytes);
            metrics.lag.set(lag as f64);
            return Ok(Read::Batch(decoded.batch));
        }
    }
}
