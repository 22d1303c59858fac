//! What the clones of one stream in memory share: its shards, its apps, and what happens to what is sent to it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use hydrant_core::clock::{self, Instant, SharedClock};
use hydrant_core::error::{Error, Result};
use hydrant_core::hash::Routing;
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::random::Random;
use hydrant_core::shard::{HashRange, Shard, ShardId, ShardMap, StreamId};
use hydrant_core::stream::{Append, Behind, ShardState, Start, Ticket};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::leases::MemoryLeases;
use super::shard::{AppendMarks, MemoryShard};
use super::storing::{Landing, PutAnswer, REORDERS_WITHIN, ShardPut, StoredLog};

/// The longest time that an answer takes.
const ANSWER_MS: u64 = 20;
/// What was given up lands within this time.
const LANDS_WITHIN: Duration = Duration::from_secs(60);

/// What happens to what is sent: chances, of 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFaults {
    /// It is lost.
    pub lost: u64,
    /// It is stored, and the answer is lost.
    pub answer_lost: u64,
    /// It is answered as lost, and lands up to a minute later.
    pub late: u64,
    /// It is refused because too much is sent.
    pub throttled: u64,
    /// It is acknowledged, and placed behind what other clients send in the next seconds, by a stream that stores what
    /// comes.
    pub placed_late: u64,
    /// It is refused because there is no room for it.
    pub full: u64,
    /// It is refused for good.
    pub fatal: u64,
    /// A stream that checks refuses in the call itself what it refuses.
    pub refused_at_call: u64,
    /// The answer of a stream that checks takes some time, as that of one that stores always does.
    pub slow: u64,
    /// The call of a stream that checks waits for room for some time, before it has taken anything.
    pub crowded: u64,
    /// A reading of the map shows the one before the newest change.
    pub stale_map: u64,
}

/// What a stream says of itself.
#[derive(Clone, Debug)]
pub struct StreamTraits {
    /// Where records go.
    pub routing: Routing,
    /// The largest record.
    pub record_bytes_max: usize,
    /// The size worth aiming at.
    pub append_bytes_target: usize,
    /// Appends to a shard that wait in a stream that stores what comes; the next one waits for room.
    pub queued_max: usize,
}

impl Default for StreamTraits {
    fn default() -> Self {
        // As those of the embedded log.
        StreamTraits {
            routing: Routing::Keyed([7; 32]),
            record_bytes_max: 1 << 20,
            append_bytes_target: 64 << 10,
            queued_max: 64,
        }
    }
}

/// What a shard of a stream that checks withholds from those who append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// What it is handed waits for room.
    Room,
    /// It takes what it is handed and answers nothing.
    Answers,
}

/// Where copies are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DedupMode {
    /// It checks origins at append.
    AtAppend,
    /// It stores what comes as it comes.
    AtReader,
}

/// One shard, by the way of its stream.
#[derive(Debug)]
pub(super) enum MemoryShardLog {
    Checked(MemoryShard),
    Stored(StoredLog),
}

impl MemoryShardLog {
    pub(super) fn shard(&self) -> &Shard {
        match self {
            MemoryShardLog::Checked(log) => &log.shard,
            MemoryShardLog::Stored(log) => &log.shard,
        }
    }

    fn shard_mut(&mut self) -> &mut Shard {
        match self {
            MemoryShardLog::Checked(log) => &mut log.shard,
            MemoryShardLog::Stored(log) => &mut log.shard,
        }
    }

    pub(super) fn state(&self) -> ShardState {
        match self {
            MemoryShardLog::Checked(log) => log.state(),
            MemoryShardLog::Stored(log) => log.state(),
        }
    }

    pub(super) fn behind(&self, after: &Progress, now: i64) -> Behind {
        match self {
            MemoryShardLog::Checked(log) => log.behind(after),
            MemoryShardLog::Stored(log) => log.behind(after, now),
        }
    }

    pub(super) fn start(&self, start: Start, now: i64) -> Progress {
        match self {
            MemoryShardLog::Checked(log) => Progress::starting(log.start(start)),
            // It has no position for a time: the start is kept as it was asked for.
            MemoryShardLog::Stored(_) => Progress {
                began: Some(match start {
                    Start::Latest => Start::At(now),
                    start => start,
                }),
                ..Progress::default()
            },
        }
    }

    pub(super) fn trim(&mut self, can_go: impl FnMut(Position, i64, u64) -> bool) -> u64 {
        match self {
            MemoryShardLog::Checked(log) => log.trim(can_go),
            MemoryShardLog::Stored(log) => log.trim(can_go),
        }
    }
}

#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) shards: BTreeMap<ShardId, MemoryShardLog>,
    pub(super) apps: BTreeMap<String, MemoryLeases>,
    pub(super) map_version: u64,
    /// A batch holds no more appends than this, where appends are checked.
    pub(super) batch_appends: usize,
    /// With what the next reads of a shard fail, last first.
    pub(super) read_errors: BTreeMap<ShardId, Vec<Error>>,
    /// Shards that ever were.
    opened: u64,
    pub(super) traits: StreamTraits,
    pub(super) withheld: Option<(ShardId, Withheld)>,
    faults: StreamFaults,
    /// As it was before the newest change.
    previous_map: Option<ShardMap>,
    landings: Vec<Landing>,
    late_appends: Vec<LateAppend>,
    clients: u64,
}

/// An append that was answered as lost, and lands all the same in a stream that checks.
#[derive(Debug)]
struct LateAppend {
    due: Instant,
    shard: ShardId,
    append: Append,
}

/// What the clones of one stream share.
#[derive(Debug)]
pub(super) struct StreamShared {
    pub(super) id: StreamId,
    pub(super) url: String,
    pub(super) mode: DedupMode,
    clock: SharedClock,
    random: Random,
    state: Mutex<StreamState>,
    changes: Notify,
    origin_gaps: AtomicU64,
}

impl StreamShared {
    pub(super) fn new(
        name: &str,
        shards: u32,
        clock: SharedClock,
        random: Random,
        mode: DedupMode,
    ) -> Self {
        let shared = StreamShared {
            id: StreamId::new(name, "memory"),
            url: format!("memory:{name}"),
            mode,
            clock,
            random,
            state: Mutex::new(StreamState {
                shards: BTreeMap::new(),
                apps: BTreeMap::new(),
                map_version: 0,
                batch_appends: usize::MAX,
                read_errors: BTreeMap::new(),
                opened: 0,
                traits: StreamTraits::default(),
                withheld: None,
                faults: StreamFaults::default(),
                previous_map: None,
                landings: Vec::new(),
                late_appends: Vec::new(),
                clients: 0,
            }),
            changes: Notify::new(),
            origin_gaps: AtomicU64::new(0),
        };
        let ranges = HashRange::even(shards).into_iter().take(shards as usize);
        for range in ranges {
            shared.open(&mut shared.lock(), range, Vec::new(), &[], None);
        }
        shared
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, StreamState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state with everything in its place that is due.
    pub(super) fn landed(&self) -> MutexGuard<'_, StreamState> {
        self.landed_at(clock::now())
    }

    pub(super) fn land_everything(&self) {
        drop(self.landed_at(clock::now() + LANDS_WITHIN));
    }

    fn landed_at(&self, moment: Instant) -> MutexGuard<'_, StreamState> {
        let mut state = self.lock();
        let now = self.now();
        let mut has_changed = false;
        for log in state.shards.values_mut() {
            if let MemoryShardLog::Stored(log) = log {
                has_changed |= log.land(moment, now);
            }
        }
        while let Some(at) = state.landings.iter().position(|one| one.due <= moment) {
            let landing = state.landings.remove(at);
            if let Some(log) = state.owner(landing.put.hash) {
                log.place(landing.put, &self.random, now);
                has_changed = true;
            }
        }
        while let Some(at) = state.late_appends.iter().position(|one| one.due <= moment) {
            let late = state.late_appends.remove(at);
            if let Ok(log) = state.checked(&late.shard) {
                // Its sender no longer waits for the answer; the log decides as always.
                drop(log.append(late.append, now));
                has_changed = true;
            }
        }
        if has_changed {
            self.changes.notify_waiters();
        }
        state
    }

    /// When something else will be in its place.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let state = self.lock();
        let reserved = state.shards.values().filter_map(|log| match log {
            MemoryShardLog::Checked(_) => None,
            MemoryShardLog::Stored(log) => log.next_due(),
        });
        let landings = state.landings.iter().map(|landing| landing.due);
        let late = state.late_appends.iter().map(|late| late.due);
        reserved.chain(landings).chain(late).min()
    }

    /// Wall time.
    pub(super) fn now(&self) -> i64 {
        self.clock.wall_micros()
    }

    /// Resolves at the next change.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changes.notified()
    }

    pub(super) fn notify(&self) {
        self.changes.notify_waiters();
    }

    pub(super) fn client(&self) -> u64 {
        let mut state = self.lock();
        state.clients += 1;
        state.clients
    }

    pub(super) fn set_faults(&self, faults: StreamFaults) {
        self.lock().faults = faults;
    }

    fn chance(&self, of_100: u64) -> bool {
        of_100 > 0 && self.random.below(100) < of_100
    }

    /// The map as it is read: sometimes that of before.
    pub(super) fn map(&self) -> ShardMap {
        let state = self.lock();
        match &state.previous_map {
            Some(previous) if self.chance(state.faults.stale_map) => previous.clone(),
            _ => state.map(),
        }
    }

    /// Why something that is sent is not taken, by chance, and when it lands all the same.
    fn refusal(&self, faults: &StreamFaults) -> Option<(Error, Option<Instant>)> {
        if self.chance(faults.full) {
            return Some((Error::Full { path: "log".into() }, None));
        }
        if self.chance(faults.fatal) {
            return Some((Error::refused("the output is gone"), None));
        }
        if self.chance(faults.throttled) {
            let refused = Error::Unavailable {
                message: "too much is sent".to_owned(),
                after: Duration::from_millis(50),
            };
            return Some((refused, None));
        }
        if self.chance(faults.lost) {
            return Some((unanswered("no answer"), None));
        }
        if self.chance(faults.late) {
            let within = LANDS_WITHIN.as_millis() as u64 >> self.random.below(12);
            let due = clock::now() + Duration::from_millis(self.random.below(within));
            return Some((unanswered("no answer"), Some(due)));
        }
        None
    }

    /// Takes an append of a stream that checks, and decides what becomes of it: the outer result is that of the call.
    pub(super) async fn append(
        self: &Arc<Self>,
        shard: &ShardId,
        append: Append,
    ) -> Result<Ticket> {
        self.given(shard, Withheld::Room).await;
        let crowded = self.lock().faults.crowded;
        if self.chance(crowded) {
            clock::sleep(Duration::from_millis(self.random.below(ANSWER_MS))).await;
        }
        let (result, delay, is_at_call) = {
            let mut state = self.landed();
            let faults = state.faults;
            let now = self.now();
            let result = match self.refusal(&faults) {
                None => state.checked(shard)?.append(append, now),
                Some((error, lands)) => {
                    state.late_appends.extend(lands.map(|due| LateAppend {
                        due,
                        shard: shard.clone(),
                        append,
                    }));
                    Err(error)
                }
            };
            let result = match result {
                Ok(_) if self.chance(faults.answer_lost) => Err(unanswered("no answer")),
                result => result,
            };
            let delay = self.chance(faults.slow);
            let delay = delay.then(|| Duration::from_millis(self.random.below(ANSWER_MS)));
            let is_at_call = result.is_err() && self.chance(faults.refused_at_call);
            (result, delay, is_at_call)
        };
        self.notify();
        if is_at_call && let Err(error) = result {
            return Err(error);
        }
        let (shared, shard) = (Arc::clone(self), shard.clone());
        Ok(async move {
            if let Some(delay) = delay {
                clock::sleep(delay).await;
            }
            shared.given(&shard, Withheld::Answers).await;
            result
        }
        .boxed())
    }

    /// Waits while a shard withholds this.
    async fn given(&self, shard: &ShardId, what: Withheld) {
        loop {
            let changed = self.changed();
            let withheld = self.lock().withheld.clone();
            if withheld != Some((shard.clone(), what)) {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn count_gaps(&self, gaps: u64) {
        self.origin_gaps.fetch_add(gaps, Ordering::Relaxed);
    }

    pub(super) fn origin_gaps(&self) -> u64 {
        self.origin_gaps.load(Ordering::Relaxed)
    }

    /// Closes `parents` and opens children, by their names or by the next numbers.
    pub(super) fn reshard<const N: usize>(
        &self,
        mut state: MutexGuard<'_, StreamState>,
        parents: &[ShardId],
        children: [(HashRange, Option<ShardId>); N],
    ) -> Result<[ShardId; N]> {
        state.changes_map();
        let mut known = Vec::new();
        for parent in parents {
            known.extend(self.close(&mut state, parent)?);
        }
        let children = children
            .map(|(range, name)| self.open(&mut state, range, parents.to_vec(), &known, name));
        drop(state);
        self.notify();
        Ok(children)
    }

    /// Opens a shard. `known` is what a stream that checks knows, part by part.
    fn open(
        &self,
        state: &mut StreamState,
        range: HashRange,
        parents: Vec<ShardId>,
        known: &[(HashRange, AppendMarks)],
        name: Option<ShardId>,
    ) -> ShardId {
        state.opened += 1;
        let id = name.unwrap_or_else(|| ShardId::new(format!("{:06}", state.opened)));
        let shard = Shard {
            id: id.clone(),
            range,
            parents,
            closed: false,
        };
        let parts = known.iter();
        let parts = parts.filter_map(|(part, marks)| Some((part.intersect(range)?, marks.clone())));
        let mut segments: Vec<_> = parts.collect();
        if segments.is_empty() {
            segments.push((range, AppendMarks::new()));
        }
        let log = match self.mode {
            DedupMode::AtAppend => MemoryShardLog::Checked(MemoryShard::new(shard, segments)),
            DedupMode::AtReader => MemoryShardLog::Stored(StoredLog::new(shard, &self.random)),
        };
        state.shards.insert(id.clone(), log);
        id
    }

    /// Closes an open shard; answers what it knew.
    fn close(
        &self,
        state: &mut StreamState,
        id: &ShardId,
    ) -> Result<Vec<(HashRange, AppendMarks)>> {
        let log = state.open_shard(id)?;
        log.shard_mut().closed = true;
        Ok(match log {
            MemoryShardLog::Checked(log) => log.segments.clone(),
            MemoryShardLog::Stored(log) => {
                // What was acknowledged lies in the shard that answered.
                log.land_all(self.now());
                Vec::new()
            }
        })
    }

    /// Takes a put of a stream that stores what comes, and decides what becomes of it.
    pub(super) fn put(&self, put: &Arc<ShardPut>) -> PutAnswer {
        let mut state = self.landed();
        let faults = state.faults;
        let moment = clock::now();
        let until = moment + Duration::from_millis(self.random.below(ANSWER_MS));
        let failed = |error| PutAnswer {
            until,
            result: Err(error),
        };
        if let Some((error, lands)) = self.refusal(&faults) {
            if let Some(due) = lands {
                let put = Arc::clone(put);
                state.landings.push(Landing { due, put });
                // Readers wait for the next change that they know of.
                self.changes.notify_waiters();
            }
            return failed(error);
        }
        let now = self.now();
        let is_late = self.chance(faults.placed_late);
        let Some(log) = state.owner(put.hash) else {
            return failed(unanswered("no shard owns the hash"));
        };
        let sequence = if is_late {
            let within = REORDERS_WITHIN.as_millis() as u64 / 2;
            let due = moment + Duration::from_millis(self.random.below(within));
            log.reserve(Arc::clone(put), &self.random, due)
        } else {
            log.place(Arc::clone(put), &self.random, now)
        };
        let took = log.shard.clone();
        self.changes.notify_waiters();
        if self.chance(faults.answer_lost) {
            return failed(unanswered("no answer"));
        }
        PutAnswer {
            until,
            result: Ok((took, sequence)),
        }
    }
}

fn unanswered(message: &str) -> Error {
    Error::Unavailable {
        message: message.to_owned(),
        after: Duration::ZERO,
    }
}

impl StreamState {
    /// The map is about to change.
    pub(super) fn changes_map(&mut self) {
        self.previous_map = Some(self.map());
        self.map_version += 1;
    }

    pub(super) fn map(&self) -> ShardMap {
        let shards = self.shards.values().map(|log| log.shard().clone());
        ShardMap::new(shards.collect())
    }

    pub(super) fn shard(&mut self, id: &ShardId) -> Result<&mut MemoryShardLog> {
        self.shards.get_mut(id).ok_or_else(|| Error::NotFound {
            message: format!("the stream has no shard `{id}`"),
        })
    }

    pub(super) fn open_shard(&mut self, id: &ShardId) -> Result<&mut MemoryShardLog> {
        let log = self.shard(id)?;
        match log.shard().closed {
            false => Ok(log),
            true => Err(Error::refused(format!("shard `{id}` is closed"))),
        }
    }

    /// The failure that a test ordered for the next read of a shard.
    pub(super) fn fail_read(&mut self, id: &ShardId) -> Result<()> {
        let failure = self.read_errors.get_mut(id).and_then(Vec::pop);
        failure.map_or(Ok(()), Err)
    }

    /// A shard of a stream that checks.
    pub(super) fn checked(&mut self, id: &ShardId) -> Result<&mut MemoryShard> {
        match self.shard(id)? {
            MemoryShardLog::Checked(log) => Ok(log),
            MemoryShardLog::Stored(_) => Err(Error::fatal("the stream does not check appends")),
        }
    }

    /// A shard of a stream that stores what comes.
    pub(super) fn stored(&mut self, id: &ShardId) -> Result<&mut StoredLog> {
        match self.shard(id)? {
            MemoryShardLog::Checked(_) => Err(Error::fatal("the stream checks appends")),
            MemoryShardLog::Stored(log) => Ok(log),
        }
    }

    /// The open shard that owns a hash.
    fn owner(&mut self, hash: u128) -> Option<&mut StoredLog> {
        self.shards.values_mut().find_map(|log| match log {
            MemoryShardLog::Stored(log) if !log.shard.closed && log.shard.range.contains(hash) => {
                Some(log)
            }
            _ => None,
        })
    }
}
