//! The writer: one committer task per shard, which makes groups of appends durable with one sync.
//!
//! Appends are encoded as soon as they are handed in, on worker threads unless they are small; the budget has the encoded
//! copies as well, but for one append that may always be on its way. The committer takes what is there, waits for the
//! shard's lock, drops what the marks know, writes the rest, and answers the tickets once the control file says that it
//! is durable. While one group is being synced the next one gathers.
//!
//! A group is acknowledged when the shard is not [fenced](fence_mark) after that, or ends behind the group.
//!
//! An append that fails leaves the marks where they were, so later appends of its origin are refused as out of order.
//! A full disk fails everything that is queued at that moment, in order, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use hydrant_core::disk::at_once;
use hydrant_core::hash::Routing;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::{Append, Appended, Begun, KeyRule, StreamWriter, Ticket};
use hydrant_core::{Error, HashRange, Overdraft, Permit, Result, Shard, ShardId, Workers, clock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::origin_starts;
use super::pending_append::{EncodedAppend, PendingAppend};
use super::retention;
use super::shard_log::{AppendGroup, LockedShard, ShardLog};
use crate::local::end::fence_mark;
use crate::local::format::control::ControlSlot;
use crate::local::format::dedup_state::DedupVerdict;
use crate::local::format::frame::{Codec, position_before};
use crate::local::stream_dir::StreamDir;

/// Key and payload bytes that wait for one shard: more would only grow the time to the acknowledgement, fewer would
/// leave the disk idle between two syncs.
const QUEUE_BYTES: u32 = 8 << 20;
/// Appends that wait for one shard, each of which may be small.
const QUEUE_APPENDS: usize = 1024;
/// Appends that are not larger are encoded where they are handed in: a hand-over to a worker thread would take longer.
const SMALL_BYTES: u64 = 8 << 10;
/// Appends of a process that are being encoded at once, well below the worker threads' queue.
const ENCODING_MAX: usize = 64;
/// A record of this size fits a frame with room for its key and index.
const RECORD_BYTES_MAX: usize = 8 << 20;
/// Large enough to compress well and to make a sync worth it, small enough to spread memory over many shards.
const APPEND_BYTES_TARGET: usize = 1 << 20;

/// Appends to the shards of one stream; shared by everybody who writes to it in this process.
#[derive(Debug)]
pub(crate) struct LocalWriter {
    stream_dir: Arc<StreamDir>,
    secret: [u8; 32],
    lanes: Mutex<BTreeMap<ShardId, Arc<AppendQueue>>>,
    encoding: Arc<Semaphore>,
    /// Of the encoded copies: who submits holds the records already.
    overdraft: Overdraft,
    /// Removes old data as long as this process writes.
    keeper: AbortHandle,
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// The way to one shard's committer.
#[derive(Debug)]
struct AppendQueue {
    shard: Shard,
    queue: mpsc::Sender<Pending>,
    room: Arc<Semaphore>,
    /// Held while an append waits for room, so that the order of calls stays.
    order: tokio::sync::Mutex<()>,
}

/// An append in the queue of its shard.
struct Pending {
    work: PendingAppend,
    /// Its frame, encoded when it was handed in or on its way over the worker threads.
    encoded: BoxFuture<'static, EncodedFrame>,
    answer: oneshot::Sender<Result<Appended>>,
    bytes: u64,
    /// The encoded bytes.
    copy: Permit,
    _room: OwnedSemaphorePermit,
}

/// An append's frame, with the memory that it takes.
type EncodedFrame = (Result<EncodedAppend>, Permit);

/// Encodes a frame; what it takes less than `copy` goes back.
async fn encode(
    workers: &Workers,
    work: PendingAppend,
    range: HashRange,
    codec: Codec,
    mut copy: Permit,
) -> EncodedFrame {
    let encoded = workers.run(move || work.encode(range, codec)).await;
    let encoded = encoded.flatten();
    copy.shrink_to(encoded.as_ref().map_or(0, EncodedAppend::frame_len));
    (encoded, copy)
}

impl LocalWriter {
    pub(crate) fn new(stream_dir: &Arc<StreamDir>, secret: [u8; 32]) -> Arc<Self> {
        Arc::new(LocalWriter {
            stream_dir: Arc::clone(stream_dir),
            secret,
            lanes: Mutex::new(BTreeMap::new()),
            encoding: Arc::new(Semaphore::new(ENCODING_MAX)),
            overdraft: Overdraft::default(),
            keeper: tokio::spawn(retention::keep(Arc::clone(stream_dir))).abort_handle(),
        })
    }

    async fn lane(&self, id: &ShardId) -> Result<Arc<AppendQueue>> {
        let known = |lanes: &BTreeMap<ShardId, Arc<AppendQueue>>| lanes.get(id).map(Arc::clone);
        if let Some(lane) = known(&self.lanes.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(lane);
        }
        let manifest = self.stream_dir.manifest().await?;
        let shard = manifest.shard(id)?;
        if shard.closed {
            return Err(Error::Sealed { shard: id.clone() });
        }
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = known(&lanes) {
            return Ok(lane);
        }
        // A closed shard takes no more appends: who holds its lane gets the last answers, and its committer ends.
        lanes.retain(|id, _| manifest.shard(id).is_ok_and(|shard| !shard.closed));
        let (queue, pending) = mpsc::channel(QUEUE_APPENDS);
        let committer = Committer {
            log: ShardLog::new(&self.stream_dir, shard),
            stream_dir: Arc::clone(&self.stream_dir),
            pending,
            dead: None,
        };
        drop(tokio::spawn(committer.run()));
        let lane = Arc::new(AppendQueue {
            shard: shard.clone(),
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES as usize)),
            order: tokio::sync::Mutex::new(()),
        });
        lanes.insert(id.clone(), Arc::clone(&lane));
        Ok(lane)
    }
}

#[async_trait]
impl StreamWriter for LocalWriter {
    async fn submit(&self, shard: &ShardId, append: Append) -> Result<Ticket> {
        let lane = self.lane(shard).await?;
        let work = PendingAppend::new(append);
        if let Some(run) = work.run() {
            let entered = self
                .stream_dir
                .runs
                .enter(&*self.stream_dir.ctx.disk, run)
                .await;
            self.stream_dir.unless_gone(entered).await?;
        }
        let bytes = work.bytes()?;
        let _turn = lane.order.lock().await;
        let wanted = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .clamp(1, QUEUE_BYTES);
        let room = Arc::clone(&lane.room).acquire_many_owned(wanted).await;
        let closed = || Error::fatal(format!("the committer of shard `{shard}` has ended"));
        let room = room.map_err(|_| closed())?;
        let slot = lane.queue.reserve().await.map_err(|_| closed())?;
        let budget = &self.stream_dir.ctx.budget;
        let size = work.encoded_bytes_max(bytes);
        let copy = budget.acquire_more(size, &self.overdraft).await;
        let (range, codec) = (lane.shard.range, self.stream_dir.settings.codec);
        let encoded = if size <= SMALL_BYTES {
            let frame = encode(&Workers::Inline, work.clone(), range, codec, copy).await;
            std::future::ready(frame).boxed()
        } else {
            let (work, workers) = (work.clone(), self.stream_dir.ctx.workers.clone());
            let slots = Arc::clone(&self.encoding);
            let encoding = tokio::spawn(async move {
                let _slot = slots.acquire_owned().await;
                encode(&workers, work, range, codec, copy).await
            });
            let ended = |_| {
                (
                    Err(Error::fatal("the encoding of an append was ended")),
                    Permit::default(),
                )
            };
            encoding
                .map(move |frame| frame.unwrap_or_else(ended))
                .boxed()
        };
        let (answer, result) = oneshot::channel();
        slot.send(Pending {
            work,
            encoded,
            answer,
            bytes,
            copy: Permit::default(),
            _room: room,
        });
        let shard = shard.clone();
        Ok(async move {
            result.await.unwrap_or_else(|_| {
                Err(Error::fatal(format!(
                    "the committer of shard `{shard}` has ended"
                )))
            })
        }
        .boxed())
    }

    async fn begun(&self, shard: &ShardId) -> Result<Vec<Begun>> {
        let manifest = self.stream_dir.manifest().await?;
        let begun = origin_starts::find(&self.stream_dir, manifest.shard(shard)?).await;
        self.stream_dir.unless_gone(begun).await
    }

    fn checks_appends(&self) -> bool {
        true
    }

    fn reorders_within(&self) -> Duration {
        Duration::ZERO
    }

    fn routing(&self) -> Routing {
        Routing::Keyed(self.secret)
    }

    fn keys(&self) -> KeyRule {
        KeyRule::Any
    }

    fn keeps_headers(&self) -> bool {
        true
    }

    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }

    fn append_bytes_target(&self) -> usize {
        APPEND_BYTES_TARGET
    }
}

struct Committer {
    log: ShardLog,
    stream_dir: Arc<StreamDir>,
    pending: mpsc::Receiver<Pending>,
    /// Why nothing can be appended any more.
    dead: Option<String>,
}

/// An append with what its encoding gave. That it cannot be encoded is said only by an open shard: a closed one says
/// that it is closed, which explains records that route elsewhere.
type ReadyAppend = (Pending, Result<EncodedAppend>);

/// An append with its outcome, once the group is durable.
struct CommitOutcome {
    pending: Pending,
    appended: Appended,
}

impl Committer {
    async fn run(mut self) {
        while let Some(first) = self.pending.recv().await {
            let linger = self.stream_dir.settings.linger();
            if !linger.is_zero() {
                clock::sleep(linger).await;
            }
            let mut group = vec![first];
            let mut bytes = group[0].bytes;
            while bytes < u64::from(QUEUE_BYTES)
                && let Ok(next) = self.pending.try_recv()
            {
                bytes += next.bytes;
                group.push(next);
            }
            self.log.metrics.queued_bytes.set(bytes as f64);
            let ready = encoded(group).await;
            // From the lock to the control file it is a row of short calls around one sync.
            let disk = Arc::clone(&self.stream_dir.ctx.disk);
            let work = async move {
                self.process(ready).await;
                self
            };
            self = at_once(&*disk, work).await;
        }
    }

    async fn process(&mut self, ready: Vec<ReadyAppend>) {
        if let Some(reason) = &self.dead {
            for (pending, _) in ready {
                answer(pending, Err(Error::fatal(reason.clone())));
            }
            return;
        }
        let mut held = match self.log.take().await {
            Ok(held) => held,
            Err(error) => {
                let error = self.log.unless_over(error);
                let error = self.stream_dir.explained(error).await;
                return self.fail(
                    ready.into_iter().map(|(pending, _)| pending).collect(),
                    &error,
                );
            }
        };
        let (outcomes, result) = write(&mut held, &self.stream_dir, ready).await;
        let reached = held.reached();
        drop(held);
        let result = self.unless_fenced(result, reached).await;
        match result {
            Ok(()) => outcomes.into_iter().for_each(|outcome| {
                answer(outcome.pending, Ok(outcome.appended));
            }),
            Err(error) => {
                let error = self.stream_dir.explained(error).await;
                self.fail(outcomes.into_iter().map(|o| o.pending).collect(), &error);
            }
        }
    }

    /// What became of a group, now that the control file speaks of it. If the shard was fenced meanwhile, its end says
    /// that: also of duplicates, whose first copies may lie past it.
    async fn unless_fenced(
        &mut self,
        result: Result<()>,
        reached: Option<(ControlSlot, u64)>,
    ) -> Result<()> {
        if mutant::is(Mutant::AcknowledgedPastFence)
            || !fence_mark::exists(&self.stream_dir, &self.log.shard.id).await?
        {
            return result;
        }
        let end = self.log.fence().await?;
        match (result, end, reached) {
            (Ok(()), Some(end), Some((control, base))) if end.covers(&control, base) => Ok(()),
            _ => Err(self.log.sealed()),
        }
    }

    /// Answers `group` with the error, and what is queued behind it when it would fail the same way.
    fn fail(&mut self, group: Vec<Pending>, error: &Error) {
        let mut failed = group;
        match error {
            Error::Full { .. } => {
                while let Ok(next) = self.pending.try_recv() {
                    failed.push(next);
                }
            }
            Error::Fatal { message } => self.dead = Some(message.clone()),
            _ => {}
        }
        for pending in failed {
            answer(pending, Err(error.clone()));
        }
    }
}

/// Waits for the frames of a group.
async fn encoded(group: Vec<Pending>) -> Vec<ReadyAppend> {
    let mut ready = Vec::with_capacity(group.len());
    for mut pending in group {
        let encoded;
        (encoded, pending.copy) = (&mut pending.encoded).await;
        ready.push((pending, encoded));
    }
    ready
}

/// Writes what is new of a group; answers refusals of single appends itself and hands the rest back with its outcomes.
async fn write(
    held: &mut LockedShard<'_>,
    stream_dir: &StreamDir,
    ready: Vec<ReadyAppend>,
) -> (Vec<CommitOutcome>, Result<()>) {
    let shard = held.log.shard.clone();
    let (salt, arrival) = (stream_dir.salt(), stream_dir.ctx.clock.wall_micros());
    let mut outcomes = Vec::with_capacity(ready.len());
    let known = match held.refuse_if_sealed().and_then(|()| held.known()) {
        Ok(known) => known,
        Err(error) => {
            let all = ready.into_iter();
            let refused = all.map(|(pending, _)| CommitOutcome::duplicate(pending, &shard.id, 0));
            return (refused.collect(), Err(error));
        }
    };
    let mut group = AppendGroup {
        next_offset: known.control.next_offset,
        arrival,
        ..AppendGroup::default()
    };
    let (mut undos, mut duplicates) = (Vec::new(), 0);
    for (pending, encoded) in ready {
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                answer(pending, Err(error));
                continue;
            }
        };
        let all = encoded.records();
        let verdict = match &encoded.claim {
            Some(claim) => known.marks.judge(claim, encoded.reaches_back),
            None => DedupVerdict::New,
        };
        let encoded = match verdict {
            DedupVerdict::New => Ok(encoded),
            DedupVerdict::Duplicate => {
                duplicates += all;
                let outcome = CommitOutcome::duplicate(pending, &shard.id, all);
                if mutant::is(Mutant::DuplicateAcknowledgedEarly) {
                    answer(outcome.pending, Ok(outcome.appended));
                } else {
                    outcomes.push(outcome);
                }
                continue;
            }
            DedupVerdict::OutOfOrder(mark) => Err(Error::OutOfOrder {
                shard: shard.id.clone(),
                mark,
                from: encoded.claim.map_or(mark, |claim| claim.from),
            }),
            DedupVerdict::Partial(marks) => {
                let (work, codec) = (pending.work.clone(), stream_dir.settings.codec);
                let (id, range) = (shard.id.clone(), shard.range);
                let rest = move || work.without(&marks, &id)?.encode(range, codec);
                // Here, since others wait for the shard's lock: the worker threads may be busy for long.
                Workers::Inline.run(rest).await.flatten()
            }
        };
        let admitted = encoded.and_then(|encoded| match &encoded.claim {
            Some(claim) => known.admit(&shard.id, claim).map(|()| encoded),
            None => Ok(encoded),
        });
        let encoded = match admitted {
            Ok(encoded) => encoded,
            Err(error) => {
                answer(pending, Err(error));
                continue;
            }
        };
        if let Some(claim) = &encoded.claim {
            undos.push(known.marks.apply(claim));
        }
        let (records, slots) = (encoded.records(), encoded.slots());
        let base = group.next_offset;
        group.bytes += encoded.frame_len();
        group.records += records;
        group.next_offset += slots;
        group.parts.extend(encoded.at(base, arrival, salt));
        duplicates += all - records;
        outcomes.push(CommitOutcome {
            pending,
            appended: Appended {
                shard: shard.id.clone(),
                last: (slots > 0).then(|| position_before(group.next_offset)),
                duplicates: all - records,
            },
        });
    }
    let (records, bytes) = (group.records, group.bytes);
    if bytes > 0
        && let Err(error) = held.commit(group).await
    {
        match (&error, held.known()) {
            _ if mutant::is(Mutant::MarksKeptAfterFailure) => {}
            (Error::Full { .. }, Ok(known)) => {
                let undos = undos.into_iter().rev();
                undos.for_each(|undo| known.marks.undo(undo));
            }
            _ => held.forget(),
        }
        return (outcomes, Err(error));
    }
    let metrics = &held.log.metrics;
    metrics.bytes.increment(bytes);
    metrics.records.increment(records);
    metrics.duplicates.increment(duplicates);
    metrics.group_appends.record(outcomes.len() as f64);
    (outcomes, Ok(()))
}

impl CommitOutcome {
    fn duplicate(pending: Pending, shard: &ShardId, duplicates: u64) -> Self {
        CommitOutcome {
            pending,
            appended: Appended {
                shard: shard.clone(),
                last: None,
                duplicates,
            },
        }
    }
}

fn answer(pending: Pending, outcome: Result<Appended>) {
    // Its submitter may have stopped waiting.
    drop(pending.answer.send(outcome));
}
