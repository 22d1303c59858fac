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
use hydrant_core::lease::Progress;
use hydrant_core::stream::{Append, OpenAt, Read, SharedStream, Stream, StreamWriter, Ticket};
use hydrant_core::{
    Batch, Context, Error, Position, Random, Result, Shard, ShardId, ShardMap, clock,
};
use hydrant_testing::disk::SimDisk;
use hydrant_testing::layer::{Layered, StreamLayer, WriterLayer};
use hydrant_testing::trace::Trace;
use tokio::task::JoinSet;

use super::plan::Log;
use super::streams::SimStreams;

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
    acked: Option<AckWitness>,
    /// One in this many appends, or its answer, is lost; 0 for none.
    loss: u64,
    random: Random,
}

impl Acks {
    pub(super) fn new(
        inner: SharedStream,
        acked: Option<AckWitness>,
        loss: u64,
        random: &Random,
    ) -> Layered<Self> {
        Layered(Acks {
            inner,
            acked,
            loss,
            random: random.clone(),
        })
    }
}

#[async_trait]
impl StreamLayer for Acks {
    fn below(&self) -> &dyn Stream {
        &*self.inner
    }

    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        Ok(Arc::new(Layered(AckWriter {
            inner: self.inner.writer().await?,
            acked: self.acked.clone(),
            loss: self.loss,
            random: self.random.clone(),
        })))
    }
}

#[derive(Debug)]
struct AckWriter {
    inner: Arc<dyn StreamWriter>,
    acked: Option<AckWitness>,
    loss: u64,
    random: Random,
}

#[async_trait]
impl WriterLayer for AckWriter {
    fn below(&self) -> &dyn StreamWriter {
        &*self.inner
    }

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
        let acked = self.acked.clone();
        Ok(async move {
            let answer = ticket.await;
            if lost {
                return Err(unavailable());
            }
            let Some(acked) = acked else {
                return answer;
            };
            acked
                .trace
                .event(format_args!("append {what:?}: {answer:?}"));
            if answer.is_ok() && acked.disk.is_alive() {
                let mut indexes = acked.indexes.lock().unwrap_or_else(PoisonError::into_inner);
                for origin in origins.iter().flat_map(|origins| origins.iter()) {
                    indexes.extend(index_of(origin.position()));
                }
            }
            answer
        }
        .boxed())
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

/// The accounts of a log.
#[derive(Debug, Default)]
pub(super) struct StoredUnits {
    /// Stream, shard and position of each record that was given up.
    pub(super) dead_letters: Vec<(String, String, Position)>,
    /// How many records of each upstream shard are answered for.
    pub(super) answered: BTreeMap<String, u64>,
}

/// Notes what readers were given, and compares it with the log; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct ReaderWitness {
    memory: Arc<Mutex<ReaderMemory>>,
}

#[derive(Debug, Default)]
struct ReaderMemory {
    seen: BTreeMap<RecordPlace, u64>,
    /// The position up to which each shard was read, and the marks there.
    read_to: BTreeMap<(String, ShardId), Progress>,
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
        let read_to = memory.read_to.entry((stream, shard.clone())).or_default();
        if read_to.to < batch.to {
            *read_to = progress_of(batch);
        }
    }

    fn note_gap(&self, log: Log, shard: &ShardId, to: Position) {
        let key = (log.url().to_owned(), shard.clone());
        let mut memory = self.lock();
        let memory = &mut *memory;
        let read_to = memory.read_to.entry(key.clone()).or_default();
        read_to.to = to.max(read_to.to);
        let gone_to = memory.gone_to.entry(key).or_default();
        *gone_to = to.max(*gone_to);
    }

    fn note_end(&self, log: Log, shard: &ShardId, marks: Vec<u8>) {
        let key = (log.url().to_owned(), shard.clone());
        let mut memory = self.lock();
        memory.read_to.entry(key.clone()).or_default().marks = marks;
        let read_to = memory
            .read_to
            .get(&key)
            .map_or(Position::Begin, |read| read.to);
        memory.ended.entry(key).or_insert(read_to);
    }

    /// Where reading goes on.
    fn after(&self, log: Log, shard: &Shard, map: &ShardMap) -> OpenAt {
        let memory = self.lock();
        let read_to = |shard: &Shard| {
            let key = (log.url().to_owned(), shard.id.clone());
            memory.read_to.get(&key).cloned().unwrap_or_default()
        };
        let parents = shard.parents.iter().filter_map(|parent| map.get(parent));
        OpenAt::After {
            progress: read_to(shard),
            parents: parents
                .map(|parent| (parent.id.clone(), ended(read_to(parent))))
                .collect(),
        }
    }

    /// Whether a shard was read to its end.
    fn has_ended(&self, log: Log, shard: &ShardId) -> bool {
        let key = (log.url().to_owned(), shard.clone());
        self.lock().ended.contains_key(&key)
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
            let read_to = memory
                .read_to
                .get(&key)
                .map_or(Position::Begin, |read| read.to);
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

/// What is stored when a batch was taken.
fn progress_of(batch: &Batch) -> Progress {
    let marks = batch.marks.as_ref().map(|marks| marks.at(batch.to));
    Progress {
        to: batch.to,
        marks: marks.unwrap_or_default(),
        ..Progress::default()
    }
}

/// The final progress of a shard that was read this far.
fn ended(read_to: Progress) -> Progress {
    Progress {
        to: Position::End,
        ..read_to
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
pub(super) async fn watch(
    streams: SimStreams,
    context: Context,
    given: ReaderWitness,
    left: u64,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    for log in [Log::Raw, Log::Clean] {
        let (streams, context, given) = (streams.clone(), context.clone(), given.clone());
        tasks.spawn(async move { watch_stream(log, streams, context, given, left).await });
    }
    match tasks.join_next().await {
        Some(Ok(ended)) => ended,
        _ => Ok(()),
    }
}

/// Reads along in all shards of a stream, without end; leaves one in so many calls of a reader, 0 for none, and starts
/// again with another one. Where readers deduplicate a child waits for its parents' ends.
pub(super) async fn watch_stream(
    log: Log,
    streams: SimStreams,
    context: Context,
    given: ReaderWitness,
    left: u64,
) -> Result<()> {
    let stream = streams.open(log, &context).await?;
    let mut watched = BTreeSet::new();
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    loop {
        let map = Arc::new(stream.shards().await?);
        for shard in map.all() {
            let mut parents = shard.parents.iter();
            let may_begin =
                !streams.dedup_at_readers() || parents.all(|parent| given.has_ended(log, parent));
            if may_begin && watched.insert(shard.id.clone()) {
                let (stream, context) = (SharedStream::clone(&stream), context.clone());
                let (given, shard, map) = (given.clone(), shard.clone(), Arc::clone(&map));
                tasks.spawn(async move {
                    loop {
                        let at = given.after(log, &shard, &map);
                        if follow(log, &shard.id, at, &stream, &given, left, &context).await? {
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
    at: OpenAt,
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
            Some(Read::End { marks, .. }) => {
                given.note_end(log, shard, marks);
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

/// Everything that a stream holds, as a reader is given it who begins at the beginning.
pub(super) async fn read_all(
    log: Log,
    streams: &SimStreams,
    context: &Context,
) -> Result<(StoredRecords, StoredUnits)> {
    let stream = streams.open(log, context).await?;
    let (mut all, mut units) = (BTreeMap::new(), StoredUnits::default());
    let map = stream.shards().await?;
    let mut final_progress: BTreeMap<ShardId, Progress> = BTreeMap::new();
    // The names of shards rise with their birth: parents come first.
    for shard in map.all() {
        let parents = shard.parents.iter().filter_map(|parent| {
            let progress = final_progress.get(parent)?.clone();
            Some((parent.clone(), ended(progress)))
        });
        let at = OpenAt::After {
            progress: Progress::default(),
            parents: parents.collect(),
        };
        let mut reader = stream.reader(&shard.id, at, &context.budget).await?;
        let read_to = final_progress.entry(shard.id.clone()).or_default();
        loop {
            match reader.next().await? {
                Read::Batch(batch) => {
                    for (position, seen) in records_of(&batch) {
                        all.insert((log.url().to_owned(), shard.id.clone(), position), seen);
                    }
                    *read_to = progress_of(&batch);
                    for span in batch.accounts {
                        let dead_letters = span.account.dead_letters.iter();
                        units.dead_letters.extend(dead_letters.map(|letter| {
                            let at = Position::at(letter.sequence, letter.sub);
                            (letter.stream.to_string(), letter.shard.to_string(), at)
                        }));
                        let shard = span.entry.shard.to_string();
                        *units.answered.entry(shard).or_default() += span.account.input;
                    }
                }
                Read::End { marks, .. } => {
                    read_to.marks = marks;
                    break;
                }
                Read::Idle { .. } => break,
                Read::Gap { .. } => {}
            }
        }
    }
    Ok((all, units))
}
