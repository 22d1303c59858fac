//! The witness: remembers what was acknowledged to producers, and what readers were given.
//!
//! Both survive every fault, as they do outside of the machine: an acknowledgement counts once given, and a reader may
//! have passed on a record.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use hydrant_core::admin::Admin;
use hydrant_core::hash::Routing;
use hydrant_core::lease::{Lease, Progress};
use hydrant_core::stream::{
    Append, Assignment, Begun, Behind, Join, KeyRule, OpenAt, Read, ShardReader, ShardState,
    SharedStream, Start, Stream, StreamWriter, Ticket,
};
use hydrant_core::{
    Batch, Budget, Context, Error, Position, Random, Result, ShardId, ShardMap, StreamId, clock,
};
use hydrant_testing::disk::SimDisk;
use hydrant_testing::trace::Trace;
use tokio::task::JoinSet;

use super::plan::Log;
use super::roles;

/// Notes the indexes of the records that were acknowledged to a producer.
#[derive(Clone, Debug)]
pub(super) struct AckWitness {
    pub(super) indexes: Arc<Mutex<BTreeSet<u64>>>,
    pub(super) disk: SimDisk,
    pub(super) trace: Trace,
}

/// The index of a record: its position in the input of the producer.
pub(super) fn index_of(position: Position) -> Option<u64> {
    position.next_offset().and_then(|next| next.checked_sub(1))
}

/// A stream that notes what it acknowledges to its writers, and loses requests and answers.
#[derive(Debug)]
pub(super) struct Acks {
    inner: SharedStream,
    told: Option<AckWitness>,
    /// One in this many appends, or its answer, is lost; 0 for none.
    loss: u64,
    random: Random,
}

impl Acks {
    pub(super) fn new(
        inner: SharedStream,
        told: Option<AckWitness>,
        loss: u64,
        random: &Random,
    ) -> Self {
        Acks {
            inner,
            told,
            loss,
            random: random.clone(),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Stream for Acks {
    fn id(&self) -> &StreamId {
        self.inner.id()
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
    async fn shards(&self) -> Result<ShardMap> {
        self.inner.shards().await
    }
    async fn shards_changed(&self) -> Result<()> {
        self.inner.shards_changed().await
    }
    async fn states(&self) -> Result<Vec<ShardState>> {
        self.inner.states().await
    }
    async fn state(&self, shard: &ShardId) -> Result<ShardState> {
        self.inner.state(shard).await
    }
    fn states_every(&self) -> Duration {
        self.inner.states_every()
    }
    async fn behind(&self, shard: &ShardId, after: &Progress) -> Result<Behind> {
        self.inner.behind(shard, after).await
    }
    async fn start(&self, shard: &ShardId, start: Start) -> Result<Progress> {
        self.inner.start(shard, start).await
    }
    fn before(&self, record: Position) -> Option<Position> {
        self.inner.before(record)
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        self.inner.reader(shard, at, budget).await
    }
    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        Ok(Arc::new(AckWriter {
            inner: self.inner.writer().await?,
            told: self.told.clone(),
            loss: self.loss,
            random: self.random.clone(),
        }))
    }
    async fn assignment(&self, join: &Join) -> Result<Assignment> {
        self.inner.assignment(join).await
    }
    async fn apps(&self) -> Result<Vec<String>> {
        self.inner.apps().await
    }
    async fn app_progress(&self, app: &str) -> Result<Vec<Lease>> {
        self.inner.app_progress(app).await
    }

    fn admin(&self) -> Admin {
        self.inner.admin()
    }
}

#[derive(Debug)]
struct AckWriter {
    inner: Arc<dyn StreamWriter>,
    told: Option<AckWitness>,
    loss: u64,
    random: Random,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StreamWriter for AckWriter {
    async fn submit(&self, shard: &ShardId, append: Append) -> Result<Ticket> {
        let lost = self.loss > 0 && self.random.below(self.loss) == 0;
        let after = Duration::from_millis(self.random.below(200));
        let unavailable = move || Error::Unavailable {
            message: "no answer".to_owned(),
            after,
        };
        if lost && self.random.below(2) == 0 {
            return Ok(async move { Err(unavailable()) }.boxed());
        }
        let entry = append.entry.as_ref();
        let origins = entry.map(|entry| entry.origins.clone());
        let what = entry.map(|entry| {
            let indexes = entry.origins.iter().map(|origin| origin.position());
            let indexes: Vec<_> = indexes.filter_map(index_of).collect();
            format!("({}, {}] of {indexes:?} for {shard}", entry.from, entry.to)
        });
        let ticket = self.inner.submit(shard, append).await?;
        let told = self.told.clone();
        Ok(async move {
            let answer = ticket.await;
            if lost {
                return Err(unavailable());
            }
            let Some(told) = told else {
                return answer;
            };
            told.trace
                .event(format_args!("append {what:?}: {answer:?}"));
            if answer.is_ok() && told.disk.is_alive() {
                let mut indexes = told.indexes.lock().unwrap_or_else(PoisonError::into_inner);
                for origin in origins.iter().flat_map(|origins| origins.iter()) {
                    indexes.extend(index_of(origin.position()));
                }
            }
            answer
        }
        .boxed())
    }
    async fn begun(&self, shard: &ShardId) -> Result<Vec<Begun>> {
        self.inner.begun(shard).await
    }
    fn reorders_within(&self) -> Duration {
        self.inner.reorders_within()
    }
    fn routing(&self) -> Routing {
        self.inner.routing()
    }
    fn keys(&self) -> KeyRule {
        self.inner.keys()
    }
    fn keeps_headers(&self) -> bool {
        self.inner.keeps_headers()
    }
    fn record_bytes_max(&self) -> usize {
        self.inner.record_bytes_max()
    }
    fn append_bytes_target(&self) -> usize {
        self.inner.append_bytes_target()
    }
}

/// A record of a stream: stream, shard and position.
pub(super) type RecordPlace = (String, ShardId, Position);

/// The record at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// A digest of key, payload and origin.
    pub(super) digest: u64,
    /// The shard and position of its origin.
    pub(super) origin: Option<(ShardId, Position)>,
    pub(super) payload: Vec<u8>,
}

/// The contents of a log.
pub(super) type StoredRecords = BTreeMap<RecordPlace, Seen>;

/// Notes what readers were given, and compares it with the log; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct ReaderWitness {
    memory: Arc<Mutex<ReaderMemory>>,
}

#[derive(Debug, Default)]
struct ReaderMemory {
    seen: BTreeMap<RecordPlace, u64>,
    /// The position up to which each shard was read.
    read_to: BTreeMap<(String, ShardId), Position>,
    /// The position up to which a reader got a gap.
    gone_to: BTreeMap<(String, ShardId), Position>,
    /// The position at which a reader got the end of the shard.
    ended: BTreeMap<(String, ShardId), Position>,
    faults: Vec<String>,
}

impl ReaderWitness {
    fn lock(&self) -> MutexGuard<'_, ReaderMemory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, log: Log, shard: &ShardId, batch: &Batch) {
        let mut memory = self.lock();
        let stream = log.url().to_owned();
        for (position, seen) in records_of(batch) {
            let place = (stream.clone(), shard.clone(), position);
            if let Some(before) = memory.seen.insert(place, seen.digest)
                && before != seen.digest
            {
                let fault = format!("{stream} {shard} {position}: a reader was given two records");
                memory.faults.push(fault);
            }
        }
        let to = memory.read_to.entry((stream, shard.clone())).or_default();
        *to = batch.to.max(*to);
    }

    fn note_gap(&self, log: Log, shard: &ShardId, to: Position) {
        let key = (log.url().to_owned(), shard.clone());
        let mut memory = self.lock();
        let memory = &mut *memory;
        for known in [&mut memory.read_to, &mut memory.gone_to] {
            let known = known.entry(key.clone()).or_default();
            *known = to.max(*known);
        }
    }

    fn note_end(&self, log: Log, shard: &ShardId) {
        let key = (log.url().to_owned(), shard.clone());
        let mut memory = self.lock();
        let read_to = memory.read_to.get(&key).copied().unwrap_or_default();
        memory.ended.entry(key).or_insert(read_to);
    }

    fn after(&self, log: Log, shard: &ShardId) -> Position {
        let key = (log.url().to_owned(), shard.clone());
        self.lock().read_to.get(&key).copied().unwrap_or_default()
    }

    /// Compares the notes with the final contents of the logs; `retained` when retention may have removed the oldest
    /// records.
    pub(super) fn judge(&self, stored: &StoredRecords, retained: bool) -> Vec<String> {
        let memory = self.lock();
        let mut faults = memory.faults.clone();
        // Retention removes the oldest records.
        let mut first_kept: BTreeMap<(&str, &ShardId), Position> = BTreeMap::new();
        for (stream, shard, position) in stored.keys() {
            first_kept.entry((stream, shard)).or_insert(*position);
            let key = (stream.clone(), shard.clone());
            let read_to = memory.read_to.get(&key).copied().unwrap_or_default();
            let place = (stream.clone(), shard.clone(), *position);
            // A power cut may bring back what retention removed.
            let gone_to = memory.gone_to.get(&key).filter(|_| retained);
            let was_gone = gone_to.is_some_and(|gone_to| position <= gone_to);
            if *position <= read_to && !was_gone && !memory.seen.contains_key(&place) {
                faults.push(format!("a reader skipped {place:?}"));
            }
            if memory.ended.get(&key).is_some_and(|ended| position > ended) {
                faults.push(format!("a reader got the end before {place:?}"));
            }
        }
        for (place, digest) in &memory.seen {
            let (stream, shard, position) = place;
            let kept = first_kept.get(&(stream.as_str(), shard));
            let what = match stored.get(place) {
                Some(stored) if stored.digest == *digest => continue,
                Some(_) => "is another record now",
                None if retained && kept.is_none_or(|first| position < first) => continue,
                None => "has vanished",
            };
            faults.push(format!(
                "{stream} {shard} {position} was given to a reader and {what}"
            ));
        }
        faults
    }
}

/// The records of a batch with their positions.
pub(super) fn records_of(batch: &Batch) -> Vec<(Position, Seen)> {
    let mut origins = Vec::new();
    for span in &batch.origins {
        let from = span.entry.origins.iter().skip(span.skip as usize);
        let taken = from.take((span.records.end - span.records.start) as usize);
        origins.extend(taken.map(|origin| (span.entry.shard.clone(), origin.position())));
    }
    let places = batch.positions();
    places
        .zip(&batch.records)
        .enumerate()
        .map(|(n, ((sequence, sub, _), entry))| {
            let origin = origins.get(n).cloned();
            let payload = batch.payload(entry).to_vec();
            let mut hash = DefaultHasher::new();
            (batch.key(entry), &payload, &origin).hash(&mut hash);
            let digest = hash.finish();
            let seen = Seen {
                digest,
                origin,
                payload,
            };
            (Position::at(sequence, sub), seen)
        })
        .collect()
}

/// Reads along in all shards of both streams, see [`watch_stream`].
pub(super) async fn watch(context: Context, given: ReaderWitness, left: u64) -> Result<()> {
    let mut tasks = JoinSet::new();
    for log in [Log::Raw, Log::Clean] {
        let (context, given) = (context.clone(), given.clone());
        tasks.spawn(async move { watch_stream(log, context, given, left).await });
    }
    match tasks.join_next().await {
        Some(Ok(ended)) => ended,
        _ => Ok(()),
    }
}

/// Reads along in all shards of a stream, without end. Drops one in this many calls of a reader, 0 for none, and starts
/// again with a new reader.
pub(super) async fn watch_stream(
    log: Log,
    context: Context,
    given: ReaderWitness,
    left: u64,
) -> Result<()> {
    let stream = roles::open(log, &context).await?;
    let mut watched = BTreeSet::new();
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    loop {
        for shard in stream.shards().await?.all() {
            if watched.insert(shard.id.clone()) {
                let (stream, context) = (SharedStream::clone(&stream), context.clone());
                let (given, shard) = (given.clone(), shard.id.clone());
                tasks.spawn(async move {
                    loop {
                        if follow(log, &shard, &stream, &given, left, &context).await? {
                            return Ok(());
                        }
                    }
                });
            }
        }
        while let Some(ended) = tasks.try_join_next() {
            if let Ok(Err(error)) = ended {
                return Err(error);
            }
        }
        clock::sleep(std::time::Duration::from_millis(300)).await;
    }
}

/// Reads to the end, or until a call is dropped; answers whether it reached the end.
async fn follow(
    log: Log,
    shard: &ShardId,
    stream: &SharedStream,
    given: &ReaderWitness,
    left: u64,
    context: &Context,
) -> Result<bool> {
    let random = &context.random;
    let polls = || match left {
        0 => None,
        left => (random.below(left) == 0).then(|| random.below(40)),
    };
    let at = OpenAt::after(given.after(log, shard));
    let opening = stream.reader(shard, at, &context.budget);
    let mut reader = match or_leave(polls(), opening).await {
        Some(opened) => opened?,
        None => return Ok(false),
    };
    loop {
        match or_leave(polls(), reader.next()).await.transpose()? {
            Some(Read::Batch(batch)) => given.note(log, shard, &batch),
            Some(Read::Gap { to, .. }) => given.note_gap(log, shard, to),
            Some(Read::Idle { .. }) => {}
            Some(Read::End { .. }) => {
                given.note_end(log, shard);
                return Ok(true);
            }
            None => return Ok(false),
        }
    }
}

/// Awaits a future, or drops it after this many polls.
async fn or_leave<T>(polls: Option<u64>, future: impl Future<Output = T>) -> Option<T> {
    let Some(mut left) = polls else {
        return Some(future.await);
    };
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        let poll = future.as_mut().poll(context);
        if poll.is_pending() && left == 0 {
            return Poll::Ready(None);
        }
        left = left.saturating_sub(1);
        poll.map(Some)
    })
    .await
}

/// Reads everything that a stream holds.
pub(super) async fn read_all(log: Log, context: &Context) -> Result<StoredRecords> {
    let stream = roles::open(log, context).await?;
    let mut all = BTreeMap::new();
    for shard in stream.shards().await?.all() {
        let at = OpenAt::after(Position::Begin);
        let mut reader = stream.reader(&shard.id, at, &context.budget).await?;
        loop {
            match reader.next().await? {
                Read::Batch(batch) => {
                    for (position, seen) in records_of(&batch) {
                        all.insert((log.url().to_owned(), shard.id.clone(), position), seen);
                    }
                }
                Read::Idle { .. } | Read::End { .. } => break,
                Read::Gap { .. } => {}
            }
        }
    }
    Ok(all)
}
