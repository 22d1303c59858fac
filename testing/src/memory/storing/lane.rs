//! The writer of one worker: a lane a shard, of which one put is unconfirmed.
//!
//! What is queued for a shard goes into one put, for all sessions alike. A put that fails fails all of its appends, and
//! those queued behind it of the same origins are refused, so that the order of an origin is that of its appends. A put
//! is confirmed when the shard that took it is the one that was meant, or owns everything that lies in the put.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Error, Result};
use hydrant_core::hash::Routing;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::origin::WriterId;
use hydrant_core::position::{Position, Sequence};
use hydrant_core::shard::{Shard, ShardId};
use hydrant_core::stream::{Append, Appended, Begun, KeyRule, StreamWriter, Ticket};
use tokio::sync::Notify;

use super::super::state::StreamShared;
use super::REORDERS_WITHIN;
use super::log::ShardPut;

/// A put takes no more bytes of queued appends than this, but at least one append.
const PUT_BYTES: usize = 128 << 10;
/// A put takes no more appends than this.
const PUT_APPENDS_MAX: usize = 16;

/// What the stream answers to a put, and when.
#[derive(Debug)]
pub(in crate::memory) struct PutAnswer {
    pub(in crate::memory) until: Instant,
    /// The shard that took it, and its number there.
    pub(in crate::memory) result: Result<(Shard, Sequence)>,
}

/// The writer of one worker; clones share its lanes.
#[derive(Clone, Debug)]
pub(in crate::memory) struct StoringWriter {
    shared: Arc<StreamShared>,
    client: u64,
    lanes: Arc<Mutex<BTreeMap<ShardId, StoringLane>>>,
    changes: Arc<Notify>,
}

type AnswerSlot = Mutex<Option<Result<Appended>>>;
type LaneOrigin = (WriterId, ShardId);

#[derive(Debug, Default)]
struct StoringLane {
    /// The first hash of the shard.
    hash: u128,
    queue: VecDeque<Queued>,
    /// One put, which is unconfirmed.
    in_flight: VecDeque<InFlight>,
    /// Appends that failed, of which the sender does not know yet: what it hands in behind them is refused.
    failed: Vec<(LaneOrigin, Position, Weak<AnswerSlot>)>,
}

#[derive(Debug)]
struct Queued {
    append: Append,
    slot: Arc<AnswerSlot>,
}

#[derive(Debug)]
struct InFlight {
    answer: PutAnswer,
    put: Arc<ShardPut>,
    sent: Vec<Queued>,
}

impl Queued {
    fn origin(&self) -> Option<LaneOrigin> {
        origin_of(&self.append)
    }

    fn bytes(&self) -> usize {
        let batch = &self.append.batch;
        let records = self.append.record_indexes.iter();
        let records = records.map(|pick| &batch.records[*pick as usize]);
        records
            .map(|record| batch.payload(record).len() + batch.key(record).map_or(0, <[u8]>::len))
            .sum()
    }

    fn answer(self, result: Result<Appended>) {
        *lock(&self.slot) = Some(result);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn origin_of(append: &Append) -> Option<LaneOrigin> {
    let entry = append.entry.as_ref()?;
    Some((entry.writer, entry.shard.clone()))
}

/// An append whose predecessor failed.
fn out_of_order(shard: &ShardId, mark: Position, append: &Append) -> Error {
    Error::OutOfOrder {
        shard: shard.clone(),
        mark,
        from: append.entry.as_ref().map_or(mark, |entry| entry.from),
    }
}

impl StoringLane {
    /// Notes an append that failed.
    fn fail(&mut self, queued: Queued, error: Error) {
        if let (Some(origin), Some(entry)) = (queued.origin(), &queued.append.entry) {
            let failed = (origin, entry.from, Arc::downgrade(&queued.slot));
            self.failed.push(failed);
        }
        queued.answer(Err(error));
    }

    /// Up to where the shard has the origin of an append when one before it failed and its sender does not know yet.
    fn failed_before(&mut self, append: &Append) -> Option<Position> {
        if mutant::is(Mutant::QueuedBehindFailure) {
            return None;
        }
        self.failed.retain(|(_, _, slot)| {
            let slot = slot.upgrade();
            slot.is_some_and(|slot| lock(&slot).is_some())
        });
        let origin = origin_of(append)?;
        let mut failed = self.failed.iter();
        failed
            .find(|failed| failed.0 == origin)
            .map(|failed| failed.1)
    }

    /// Drops what is queued and nobody waits for any more: its session has ended, and the origin is another worker's.
    fn leave_to_successors(&mut self, shard: &ShardId) {
        let mut left = Vec::new();
        for queued in std::mem::take(&mut self.queue) {
            let origin = queued.origin();
            if Arc::strong_count(&queued.slot) == 1 {
                left.extend(origin);
            } else if origin.is_some_and(|origin| left.contains(&origin)) {
                let error = out_of_order(shard, Position::Begin, &queued.append);
                queued.answer(Err(error));
            } else {
                self.queue.push_back(queued);
            }
        }
    }

    /// Deals with the answer to the put under way, when it has come.
    fn take_answer(&mut self, shard: &ShardId, moment: Instant) -> bool {
        let answered = self.in_flight.iter();
        let mut answered = answered.map(|one| one.answer.until <= moment);
        let answered = answered.position(|has_come| has_come);
        let Some(under_way) = answered.and_then(|at| self.in_flight.remove(at)) else {
            return false;
        };
        let InFlight { answer, put, sent } = under_way;
        match answer.result {
            Ok((took, sequence)) => {
                let records_alone = mutant::is(Mutant::UnitsConfirmedWithRecords);
                let mut items = put.items.iter();
                let is_inside = items.all(|item| {
                    took.range.contains(item.route) || records_alone && !item.is_record
                });
                let is_unchecked = mutant::is(Mutant::AnsweringShardUnchecked);
                let is_confirmed = took.id == *shard || is_inside || is_unchecked;
                let by_entry = mutant::is(Mutant::EntriesConfirmedAlone);
                let mut record = 0;
                let end = put.items.len().saturating_sub(1) as u32;
                let mut failed = Vec::new();
                for queued in sent {
                    let append = &queued.append;
                    record += append.record_indexes.len() as u32;
                    let mut routes = append.routes.iter();
                    let is_own = by_entry && routes.all(|route| took.range.contains(*route));
                    if !is_confirmed && !is_own {
                        failed.push(queued);
                        continue;
                    }
                    let last = match (append.record_indexes.len(), append.units.len()) {
                        (0, 0) => None,
                        (0, _) => Some(Position::at(sequence, end)),
                        _ => Some(Position::at(sequence, record - 1)),
                    };
                    queued.answer(Ok(Appended {
                        shard: match is_unchecked {
                            true => shard.clone(),
                            false => took.id.clone(),
                        },
                        last,
                        duplicates: 0,
                    }));
                }
                if !is_confirmed {
                    let queue = std::mem::take(&mut self.queue);
                    for queued in failed.into_iter().chain(queue) {
                        let shard = shard.clone();
                        self.fail(queued, Error::Sealed { shard });
                    }
                }
            }
            Err(error) => {
                let after = match error.disposition() {
                    hydrant_core::Disposition::Retry { after } => after,
                    _ => Duration::ZERO,
                };
                for queued in sent {
                    let message = error.to_string();
                    self.fail(queued, Error::Unavailable { message, after });
                }
                for queued in std::mem::take(&mut self.queue) {
                    match self.failed_before(&queued.append) {
                        Some(mark) => {
                            let error = out_of_order(shard, mark, &queued.append);
                            queued.answer(Err(error));
                        }
                        None => self.queue.push_back(queued),
                    }
                }
            }
        }
        true
    }
}

impl StoringWriter {
    pub(in crate::memory) fn new(shared: &Arc<StreamShared>) -> Self {
        StoringWriter {
            shared: Arc::clone(shared),
            client: shared.client(),
            lanes: Arc::default(),
            changes: Arc::default(),
        }
    }

    /// Brings a lane on; answers when there is more to do.
    fn step(&self, shard: &ShardId) -> Option<Instant> {
        let mut lanes = lock(&self.lanes);
        let lane = lanes.entry(shard.clone()).or_default();
        let moment = clock::now();
        let mut has_changed = false;
        while lane.take_answer(shard, moment) {
            has_changed = true;
        }
        let unconfirmed_max = match mutant::is(Mutant::SeveralUnconfirmed) {
            true => 2,
            false => 1,
        };
        lane.leave_to_successors(shard);
        while lane.in_flight.len() < unconfirmed_max && !lane.queue.is_empty() {
            let under_way = self.send(lane.hash, &mut lane.queue);
            lane.in_flight.push_back(under_way);
            has_changed = true;
        }
        let until = lane.in_flight.iter().map(|one| one.answer.until).min();
        drop(lanes);
        if has_changed {
            self.changes.notify_waiters();
        }
        until
    }

    fn send(&self, hash: u128, queue: &mut VecDeque<Queued>) -> InFlight {
        let (mut sent, mut bytes) = (Vec::new(), 0);
        while let Some(next) = queue.front() {
            bytes += next.bytes();
            if !sent.is_empty() && (bytes > PUT_BYTES || sent.len() == PUT_APPENDS_MAX) {
                break;
            }
            sent.extend(queue.pop_front());
        }
        let appends: Vec<&Append> = sent.iter().map(|queued: &Queued| &queued.append).collect();
        let put = Arc::new(ShardPut::new(self.client, hash, &appends));
        InFlight {
            answer: self.shared.put(&put),
            put,
            sent,
        }
    }

    async fn answered(self, shard: ShardId, slot: Arc<AnswerSlot>) -> Result<Appended> {
        loop {
            let changed = self.changes.notified();
            let until = self.step(&shard);
            if let Some(result) = lock(&slot).take() {
                return result;
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = clock::sleep_until(until) => {}
            }
        }
    }
}

#[async_trait]
impl StreamWriter for StoringWriter {
    async fn submit(&self, shard: &ShardId, mut append: Append) -> Result<Ticket> {
        if mutant::is(Mutant::RecordsSentRaw) && append.record_indexes.len() == 1 {
            append.entry = None;
        }
        let (hash, queued_max) = {
            let mut state = self.shared.lock();
            let hash = state.shard(shard)?.shard().range.first;
            (hash, state.traits.queued_max)
        };
        lock(&self.lanes).entry(shard.clone()).or_default().hash = hash;
        let slot = Arc::new(AnswerSlot::default());
        let mut queued = Some(Queued {
            append,
            slot: Arc::clone(&slot),
        });
        loop {
            let changed = self.changes.notified();
            let until = self.step(shard);
            {
                let mut lanes = lock(&self.lanes);
                let lane = lanes.entry(shard.clone()).or_default();
                if lane.queue.len() < queued_max
                    && let Some(queued) = queued.take()
                {
                    match lane.failed_before(&queued.append) {
                        Some(mark) => {
                            let error = out_of_order(shard, mark, &queued.append);
                            queued.answer(Err(error));
                        }
                        None => lane.queue.push_back(queued),
                    }
                    break;
                }
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = clock::sleep_until(until) => {}
            }
        }
        // What is handed in is sent at once where nothing is unconfirmed.
        self.step(shard);
        Ok(self.clone().answered(shard.clone(), slot).boxed())
    }

    async fn begun(&self, _: &ShardId) -> Result<Vec<Begun>> {
        // Appends are not checked.
        Ok(Vec::new())
    }

    fn checks_appends(&self) -> bool {
        false
    }

    fn reorders_within(&self) -> Duration {
        REORDERS_WITHIN
    }

    fn routing(&self) -> Routing {
        self.shared.lock().traits.routing.clone()
    }

    fn keys(&self) -> KeyRule {
        KeyRule::Any
    }

    fn keeps_headers(&self) -> bool {
        false
    }

    fn record_bytes_max(&self) -> usize {
        self.shared.lock().traits.record_bytes_max
    }

    fn append_bytes_target(&self) -> usize {
        self.shared.lock().traits.append_bytes_target
    }
}
