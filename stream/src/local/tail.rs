//! The reader of one shard: from any offset to the durable end, and on as it moves.
//!
//! Small frames are gathered into one batch, large ones come alone. The budget's bytes are acquired before anything is
//! read; what was asked for too much goes back at once. At the durable end the reader waits for a change of the
//! control file. It never looks at bytes past the durable end, and never waits for a writer's lock ([`super::observe`]).
//! The end of a closed shard is that of the [manifest](super::end), which is watched as well: a shard is fenced without
//! its control file. The directory is listed when a segment is entered and when its end is first asked for, not for each
//! chunk. Whoever wants the next chunk decoded while it works on this one asks from a task of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::disk::{Open, Watch, at_once};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::{Read, ShardReader};
use hydrant_core::{Budget, Error, Permit, Position, Result, Shard, clock};

use super::chunk::{Chunk, Decoded, Frame};
use super::control::{Control, ControlFile};
use super::end::{self, Durable, End};
use super::frame::{Fault, HEADER_BYTES, Header};
use super::metrics::ReadMetrics;
use super::observe::{Seen, observe};
use super::place::Place;
use super::segment::{self, Listed, Segment, Walk};
use super::skips::Skips;
use super::work::position_before;

/// Stored bytes that are read at once, and decompressed bytes that are gathered into one batch, unless the first frame
/// is larger.
const CHUNK_BYTES_MAX: u64 = 1 << 20;
/// The same with the smallest budgets.
const CHUNK_BYTES_MIN: u64 = 64 << 10;
/// Chunks that fit into a budget, so that one reader does not hold it alone.
const CHUNKS_PER_BUDGET: u64 = 32;
/// How often a reader looks whether a lock is free whose holder it needs: a freed lock tells nobody.
const HOLDER_CHECK: Duration = Duration::from_millis(250);

/// Reads one shard.
#[derive(Debug)]
pub(super) struct TailReader {
    source: Arc<Source>,
    metrics: ReadMetrics,
    watch: Option<Box<dyn Watch>>,
    /// Of the directory in which the manifest is replaced; there once there was something to wait for.
    manifest: Option<Box<dyn Watch>>,
    opened: Option<Opened>,
}

/// What is read, and with which means.
#[derive(Debug)]
struct Source {
    place: Arc<Place>,
    shard: Shard,
    budget: Budget,
}

#[derive(Clone, Debug)]
struct Opened {
    dir: PathBuf,
    control_file: ControlFile,
    /// The first offset that was not handed on.
    next: u64,
    cursor: Option<Cursor>,
    /// What the control file said last, or the manifest of a shard that has ended.
    control: Control,
    /// Where it ends, if the manifest says so.
    end: Option<End>,
    /// Somebody is to decide where it ends.
    is_undecided: bool,
    /// Whether the end of what is there was told.
    idle: bool,
    /// Whether everything was read of a shard that has ended before this reader.
    ended: bool,
}

/// A place between two frames.
#[derive(Clone, Debug)]
struct Cursor {
    segment: Segment,
    at: u64,
    /// Where the segment ends, once it is known to be finished: that never changes.
    end: Option<u64>,
    skips: Arc<Skips>,
}

/// What became of the control file since it was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refreshed {
    /// It was written.
    Moved,
    /// Nothing.
    Same,
    /// It cannot be read now.
    Torn,
}

/// Where reading goes on.
enum Next {
    /// At this frame.
    Frame(Cursor, Header, u64),
    /// After offsets that are lost.
    Lost(u64, String),
    /// In a segment that was removed meanwhile.
    Removed,
}

/// What is next.
enum Fetched {
    Chunk(Stored),
    /// After offsets that are lost.
    Lost(u64, String),
    /// In a segment that was removed meanwhile.
    Removed,
}

/// Frames as they are stored.
struct Stored {
    /// Where they begin.
    cursor: Cursor,
    chunk: Chunk,
    bytes: u64,
    /// For them and for what they hold.
    permit: Permit,
}

impl TailReader {
    pub(super) fn new(place: &Arc<Place>, shard: &Shard, budget: &Budget) -> Self {
        TailReader {
            metrics: ReadMetrics::new(&place.stream.name, &shard.id),
            source: Arc::new(Source {
                place: Arc::clone(place),
                shard: shard.clone(),
                budget: budget.clone(),
            }),
            watch: None,
            manifest: None,
            opened: None,
        }
    }

    /// Waits for a change, and takes it in.
    async fn wait(&mut self) -> Result<()> {
        let (Some(watch), Some(opened)) = (&mut self.watch, &mut self.opened) else {
            return Err(unopened());
        };
        let (place, shard) = (&self.source.place, &self.source.shard.id);
        let disk = &*place.ctx.disk;
        let is_closing = opened.control.sealing && !opened.control.sealed;
        let watches_anew = self.manifest.is_none() || is_closing;
        if watches_anew {
            let watched = disk.watch(&place.dir).await;
            self.manifest = Some(watched.map_err(|e| Error::io("watch", &place.dir, e))?);
        }
        let stale = mutant::is(Mutant::EndedOnStaleControl);
        if is_closing && place.manifest().await?.shard(shard)?.closed {
            // What was appended between the last look and this reshard is read first: the reshard under way then may have
            // been another one, which died.
            if stale || self.source.refresh(opened).await? != Refreshed::Torn {
                opened.ended = opened.next >= opened.control.next_offset;
                return Ok(());
            }
        }
        // What happened before it was watched is not told.
        if watches_anew && self.source.refresh(opened).await? == Refreshed::Moved {
            return Ok(());
        }
        let Some(manifest) = &mut self.manifest else {
            return Err(unopened());
        };
        let undecided = opened.is_undecided;
        // All arms only wait.
        tokio::select! {
            biased;
            () = watch.changed() => {}
            () = manifest.changed() => {}
            () = clock::sleep(HOLDER_CHECK), if undecided => {
                // Whoever was to decide may be dead.
                let file = &opened.control_file;
                end::decided(place, &self.source.shard, file).await?;
            }
        }
        self.source.refresh(opened).await?;
        Ok(())
    }
}

fn unopened() -> Error {
    Error::fatal("a reader is read before it is opened")
}

impl Source {
    /// The control file as if everything written were durable; only a mutant asks for it.
    async fn written(&self, dir: &Path, mut control: Control) -> Result<Control> {
        let disk = &*self.place.ctx.disk;
        let segments = segment::list(disk, dir).await?;
        let Some(newest) = segments.last().filter(|s| s.number == control.active) else {
            return Ok(control);
        };
        let (number, base) = (newest.number, newest.base);
        let Some(segment) = Segment::open(disk, dir, number, base, Open::Read).await? else {
            return Ok(control);
        };
        let none = Skips::default();
        let from = control.durable_bytes;
        let mut walk = Walk::new(&segment, self.place.salt(), from, newest.len, &none);
        while let Some(Ok((_, header))) = walk.next().await? {
            control.durable_bytes = walk.at();
            control.next_offset = header.next_offset();
        }
        Ok(control)
    }

    /// What the shard's end is for a reader after a position. A living writer is not waited for, unless a power cut has
    /// taken back what the control file said and it is about to make that good.
    async fn look(
        &self,
        file: &ControlFile,
        watch: &mut Box<dyn Watch>,
        after: Position,
    ) -> Result<(Option<Control>, Option<End>)> {
        let covers = |control: &Control| {
            let next = after.next_offset();
            after == Position::End || next.is_some_and(|next| next <= control.next_offset)
        };
        loop {
            match observe(&self.place, &self.shard, file, |_| false).await {
                Ok(Seen::Settled(control)) => return Ok((control, None)),
                Ok(Seen::Ended(control, end)) => return Ok((Some(control), Some(end))),
                Ok(Seen::Busy(Some(control))) if covers(&control) => {
                    return Ok((Some(control), None));
                }
                Ok(Seen::Busy(_)) => {}
                Ok(Seen::Unrecovered(Some(control))) if covers(&control) => {
                    return Ok((Some(control), None));
                }
                Ok(Seen::Unrecovered(_)) => return Err(self.unrecovered()),
                // A full disk takes no new segment and is read up to where that is certain.
                Err(full @ Error::Full { .. }) => {
                    match end::durable(&self.place, &self.shard, file).await? {
                        Durable::Moving(Some(control)) if covers(&control) => {
                            return Ok((Some(control), None));
                        }
                        Durable::Final(control, end) => return Ok((Some(control), Some(end))),
                        _ => return Err(full),
                    }
                }
                Err(error) => return Err(error),
            }
            // Both arms only wait.
            tokio::select! {
                biased;
                () = watch.changed() => {}
                () = clock::sleep(HOLDER_CHECK) => {}
            }
        }
    }

    /// A power cut or a death took back what is to be read, until a process makes that good which may.
    fn unrecovered(&self) -> Error {
        Error::Unavailable {
            message: format!(
                "shard `{}` of `{}` is not recovered yet, which takes the right to write it: open the stream once as its \
                 owner",
                self.shard.id,
                self.place.dir.display()
            ),
            after: HOLDER_CHECK,
        }
    }

    /// Reads the control file again.
    async fn refresh(&self, opened: &mut Opened) -> Result<Refreshed> {
        let file = &opened.control_file;
        let found = end::durable(&self.place, &self.shard, file).await?;
        opened.is_undecided = matches!(found, Durable::Undecided);
        let (control, end) = match found {
            Durable::Moving(Some(control)) => (control, None),
            Durable::Final(control, end) => (control, Some(end)),
            // What is known is certain; it may be all.
            Durable::Undecided => return Ok(Refreshed::Same),
            // Torn while it is written, or by a power cut: the writer or a recovery makes it good.
            Durable::Moving(None) => return Ok(Refreshed::Torn),
        };
        if control.deleted || control.incarnation != self.place.incarnation {
            return Err(self.place.gone());
        }
        let moved = control.counter != opened.control.counter || end != opened.end;
        let disk = &*self.place.ctx.disk;
        if !moved && !opened.control_file.is_current(disk).await? {
            return Err(self.place.gone());
        }
        (opened.control, opened.end) = (control, end);
        if mutant::is(Mutant::ReadersPastDurableEnd) {
            opened.control = self.written(&opened.dir, control).await?;
        }
        Ok(match moved {
            true => Refreshed::Moved,
            false => Refreshed::Same,
        })
    }

    /// The segments of the shard, as far as they are of it.
    async fn segments(&self, opened: &Opened) -> Result<Vec<Listed>> {
        let mut segments = segment::list(&*self.place.ctx.disk, &opened.dir).await?;
        segments.retain(|listed| opened.end.is_none_or(|end| end.includes(listed)));
        Ok(segments)
    }

    /// Finds the frame that holds the next offset.
    async fn locate(&self, opened: &Opened) -> Result<Option<Cursor>> {
        let (disk, next) = (&*self.place.ctx.disk, opened.next);
        let segments = self.segments(opened).await?;
        let Some(listed) = segments.iter().rev().find(|s| s.base <= next) else {
            return Ok(None);
        };
        let (number, base) = (listed.number, listed.base);
        let Some(segment) = Segment::open(disk, &opened.dir, number, base, Open::Read).await?
        else {
            return Ok(None);
        };
        let head = segment.head(self.place.incarnation).await?;
        let skips = Arc::new(Skips::read(&self.place.ctx, &opened.dir).await?);
        let mut cursor = Cursor {
            segment,
            at: head.len,
            end: None,
            skips,
        };
        let Some(end) = self.end_of(opened, &mut cursor).await? else {
            return Ok(None);
        };
        let mut walk = Walk::new(
            &cursor.segment,
            self.place.salt(),
            head.len,
            end,
            &cursor.skips,
        );
        let mut at = head.len;
        while let Some(step) = walk.next().await? {
            let (found, header) = step.map_err(|fault| cursor.segment.corrupt(walk.at(), fault))?;
            at = found;
            if header.next_offset() > next {
                break;
            }
            at = walk.at();
        }
        cursor.at = at;
        Ok(Some(cursor))
    }

    /// The durable end of the cursor's segment; `None` when the one after it was removed, and so itself.
    async fn end_of(&self, opened: &Opened, cursor: &mut Cursor) -> Result<Option<u64>> {
        if cursor.segment.number == opened.control.active {
            return Ok(Some(opened.control.durable_bytes));
        }
        if cursor.end.is_none()
            && let Some(follower) = self.follower(opened, &cursor.segment).await?
        {
            let head = follower.head(self.place.incarnation).await?;
            cursor.end = Some(head.previous_bytes);
        }
        Ok(cursor.end)
    }

    /// The segment after this one; `None` when it was removed.
    async fn follower(&self, opened: &Opened, segment: &Segment) -> Result<Option<Segment>> {
        let disk = &*self.place.ctx.disk;
        let segments = self.segments(opened).await?;
        let follower = segments.iter().find(|s| s.number == segment.number + 1);
        match follower {
            Some(s) => Segment::open(disk, &opened.dir, s.number, s.base, Open::Read).await,
            None => Ok(None),
        }
    }

    /// The next frame to read, given that the control file knows one.
    async fn next_frame(&self, opened: &Opened) -> Result<Next> {
        let mut cursor = match &opened.cursor {
            Some(cursor) => cursor.clone(),
            None => match self.locate(opened).await? {
                Some(cursor) => cursor,
                None => return Ok(Next::Removed),
            },
        };
        loop {
            while let Some(skip) = cursor.skips.at(cursor.segment.number, cursor.at) {
                cursor.at = skip.to_byte;
            }
            let Some(end) = self.end_of(opened, &mut cursor).await? else {
                return Ok(Next::Removed);
            };
            if cursor.at < end {
                let bytes = cursor.segment.read(cursor.at, HEADER_BYTES).await?;
                let header = Header::decode(&bytes, self.place.salt());
                let header = header.and_then(|header| {
                    let cut = cursor.at + header.frame_len() > end;
                    if cut {
                        Err(Fault("a frame is cut short"))
                    } else {
                        Ok(header)
                    }
                });
                let header = match header {
                    Ok(header) => header,
                    Err(fault) => {
                        // Corrupt bytes stop the reader, unless an operator has skipped them meanwhile.
                        let (number, at) = (cursor.segment.number, cursor.at);
                        let skips = Skips::read(&self.place.ctx, &opened.dir).await?;
                        if skips.at(number, at).is_none() {
                            return Err(cursor.segment.corrupt(at, fault));
                        }
                        cursor.skips = Arc::new(skips);
                        continue;
                    }
                };
                if header.base > opened.next {
                    let why = lost_because(&cursor, opened.next);
                    return match why {
                        Some(why) => Ok(Next::Lost(header.base, why)),
                        None => Err(cursor
                            .segment
                            .corrupt(cursor.at, Fault("offsets are missing"))),
                    };
                }
                if header.next_offset() > opened.next {
                    return Ok(Next::Frame(cursor, header, end));
                }
                cursor.at += header.frame_len();
                continue;
            }
            if cursor.segment.number == opened.control.active {
                return match lost_because(&cursor, opened.next) {
                    Some(why) => Ok(Next::Lost(opened.control.next_offset, why)),
                    None => Err(cursor.segment.corrupt(end, Fault("offsets are missing"))),
                };
            }
            let Some(segment) = self.follower(opened, &cursor.segment).await? else {
                return Ok(Next::Removed);
            };
            cursor.at = segment.head(self.place.incarnation).await?.len;
            cursor.segment = segment;
            cursor.end = None;
        }
    }

    /// Finds the next frame and reads it, with those behind it that fit into the same batch.
    async fn fetch(&self, opened: &Opened) -> Result<Fetched> {
        let (cursor, first, end) = match self.next_frame(opened).await? {
            Next::Frame(cursor, first, end) => (cursor, first, end),
            Next::Lost(next, why) => return Ok(Fetched::Lost(next, why)),
            Next::Removed => return Ok(Fetched::Removed),
        };
        let most = self.budget.total_bytes() / CHUNKS_PER_BUDGET;
        let most = most.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let alone = Chunk::cost(&first);
        // Neighbours resemble one another: what would not fit into the batch is not read in vain.
        let alike = (most / alone.max(1)).saturating_mul(first.frame_len());
        let alike = alike.saturating_add(alike / 8);
        let stored = first
            .frame_len()
            .max((end - cursor.at).min(most).min(alike));
        let raw = if stored == first.frame_len() {
            alone
        } else {
            alone.max(most)
        };
        let permit = self.budget.acquire(stored + raw).await;
        let bytes = cursor.segment.read(cursor.at, stored as usize).await?;
        let chunk = self.frames(opened, &cursor, &bytes, raw);
        if chunk.is_empty() {
            let fault = Fault("a frame changed while it was read");
            return Err(cursor.segment.corrupt(cursor.at, fault));
        }
        Ok(Fetched::Chunk(Stored {
            cursor,
            chunk,
            bytes: stored,
            permit,
        }))
    }

    /// Decodes the slots from offset `next` on; answers where they end as well.
    async fn decode(&self, stored: Stored, next: u64) -> Result<(Decoded, Cursor)> {
        let Stored {
            mut cursor,
            chunk,
            bytes,
            mut permit,
        } = stored;
        let workers = &self.place.ctx.workers;
        let decoded = workers.run(move || chunk.decode(next)).await?;
        let mut decoded = decoded.map_err(|fault| cursor.segment.corrupt(cursor.at, fault))?;
        let shared = if decoded.shares_stored_bytes {
            bytes
        } else {
            0
        };
        permit.shrink_to(decoded.cost + shared);
        decoded.batch.permit = permit;
        cursor.at += decoded.stored_bytes;
        Ok((decoded, cursor))
    }

    /// The frames that stand one after another at the beginning of `bytes`, up to `raw` bytes of memory.
    fn frames(&self, opened: &Opened, at: &Cursor, bytes: &Bytes, raw: u64) -> Chunk {
        let mut chunk = Chunk::default();
        let mut from = 0usize;
        let mut expected = None;
        while let Ok(header) = Header::decode(&bytes[from..], self.place.salt()) {
            let len = header.frame_len() as usize;
            let in_order = match expected {
                None => header.next_offset() > opened.next,
                Some(base) => header.base == base,
            };
            let skipped = at
                .skips
                .at(at.segment.number, at.at + from as u64)
                .is_some();
            if !in_order || skipped || from + len > bytes.len() || !chunk.takes(&header, raw) {
                break;
            }
            chunk.push(Frame {
                header,
                bytes: bytes.slice(from + HEADER_BYTES..from + len),
            });
            expected = Some(header.next_offset());
            from += len;
        }
        chunk
    }
}

/// Why the offset is lost that should stand before the cursor.
fn lost_because(cursor: &Cursor, offset: u64) -> Option<String> {
    let covers =
        |skip: &&super::skips::Skip| skip.first_offset <= offset && offset < skip.next_offset;
    cursor
        .skips
        .skips
        .iter()
        .find(covers)
        .map(|skip| skip.why.clone())
}

#[async_trait]
impl ShardReader for TailReader {
    async fn open(&mut self, after: Position) -> Result<()> {
        let Source { place, shard, .. } = &*self.source;
        let disk = &*place.ctx.disk;
        let dir = place.shard_dir(&shard.id);
        let Some(control_file) = ControlFile::open_to_read(disk, &dir).await? else {
            return Err(place.gone());
        };
        let path = control_file.path();
        // Watched before it is read, so that no change is missed.
        let watch = disk.watch(path).await;
        let mut watch = watch.map_err(|e| Error::io("watch", path, e))?;
        let (control, end) = self.source.look(&control_file, &mut watch, after).await?;
        let Some(control) = control else {
            return Err(Error::Corrupt {
                path: path.to_owned(),
                offset: 0,
                detail: "no slot is intact: appending to the shard mends it".to_owned(),
            });
        };
        if control.deleted || control.incarnation != place.incarnation {
            return Err(place.gone());
        }
        let next = match after {
            Position::End => Some(control.next_offset),
            after => after
                .next_offset()
                .filter(|next| *next <= control.next_offset),
        };
        let next = next.ok_or_else(|| {
            Error::fatal(format!(
                "position {after} lies after the end of shard `{}`, which is {}: the stream was restored from an older copy, or the progress belongs to another stream",
                shard.id,
                position_before(control.next_offset)
            ))
        })?;
        self.watch = Some(watch);
        self.opened = Some(Opened {
            dir,
            control_file,
            next,
            cursor: None,
            control,
            end,
            is_undecided: false,
            idle: false,
            ended: after == Position::End,
        });
        Ok(())
    }

    async fn next(&mut self) -> Result<Read> {
        loop {
            let source = &self.source;
            let opened = self.opened.as_mut().ok_or_else(unopened)?;
            if opened.ended {
                let manifest = source.place.manifest().await?;
                let children = manifest.shards.children(&source.shard.id);
                return Ok(Read::End {
                    children: children.map(|child| child.id.clone()).collect(),
                });
            }
            let control = opened.control;
            if opened.next < control.first_offset {
                let why = "the stream's retention has passed".to_owned();
                self.metrics.gap();
                return Ok(opened.lose(control.first_offset, why));
            }
            if opened.next >= control.next_offset {
                if source.refresh(opened).await? == Refreshed::Moved {
                    continue;
                }
                if opened.control.sealed {
                    opened.ended = true;
                } else if opened.idle {
                    self.wait().await?;
                } else {
                    opened.idle = true;
                    let through = position_before(opened.next);
                    return Ok(Read::Idle { through });
                }
                continue;
            }
            let (fetching, seen) = (Arc::clone(source), opened.clone());
            let fetch = async move { fetching.fetch(&seen).await };
            let decoded = match at_once(&*source.place.ctx.disk, fetch).await {
                Ok(Fetched::Chunk(stored)) => source.decode(stored, opened.next).await,
                Ok(Fetched::Removed) => {
                    opened.cursor = None;
                    if source.refresh(opened).await? != Refreshed::Moved {
                        return Err(Error::Corrupt {
                            path: opened.dir.clone(),
                            offset: 0,
                            detail: format!("no segment holds offset {}", opened.next),
                        });
                    }
                    continue;
                }
                Ok(Fetched::Lost(next, why)) => {
                    self.metrics.gap();
                    return Ok(opened.lose(next, why));
                }
                Err(error) => Err(error),
            };
            if decoded.is_err() {
                // An operator may have the place skipped before the next call.
                opened.cursor = None;
            }
            let (decoded, cursor) = decoded?;
            opened.next = decoded.next_offset;
            opened.idle = false;
            opened.cursor = Some(cursor);
            let lag = opened.control.next_offset.saturating_sub(opened.next);
            let records = decoded.batch.len() as u64;
            self.metrics.read(records, decoded.stored_bytes, lag);
            return Ok(Read::Batch(decoded.batch));
        }
    }
}

impl Opened {
    /// Goes on after offsets that are lost.
    fn lose(&mut self, next: u64, why: String) -> Read {
        let from = position_before(self.next);
        self.next = next;
        self.cursor = None;
        Read::Gap {
            from,
            to: position_before(next),
            why,
        }
    }
}
