//! An output stream in memory that follows the rules of an idempotent log, with faults as data.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use hydrant_core::clock;
use hydrant_core::hash::Routing;
use hydrant_core::lease::Progress;
use hydrant_core::origin::{Account, Dropped, WriterId};
use hydrant_core::stream::{
    Append, Appended, Assignment, Begun, Behind, ClaimedRange, Join, KeyRule, OpenAt, ShardReader,
    ShardState, Start, Stream, StreamWriter, Ticket, Unit, UnitKind,
};
use hydrant_core::{
    Budget, Error, HashRange, Position, Random, Result, Sequence, Shard, ShardId, ShardMap,
    StreamId,
};

/// A stored record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelRecord {
    pub(super) origin_shard: ShardId,
    pub(super) sequence: Sequence,
    pub(super) key: Option<Vec<u8>>,
    pub(super) route: u128,
    pub(super) explicit: bool,
}

type ModelMarks = BTreeMap<(WriterId, ShardId), Position>;

#[derive(Debug)]
pub(super) struct ModelShard {
    pub(super) shard: Shard,
    pub(super) log: Vec<ModelRecord>,
    pub(super) accounts: Vec<Account>,
    segments: Vec<(HashRange, ModelMarks)>,
}

/// Chances of faults, of 100.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// The append is lost.
    pub(super) lost: u64,
    /// The append is stored and its answer is lost.
    pub(super) answer_lost: u64,
    /// The append is answered as lost and stored later.
    pub(super) late: u64,
    /// The disk is full.
    pub(super) full: u64,
    /// The call itself fails instead of the ticket.
    pub(super) refused_at_call: u64,
    /// The output fails for good.
    pub(super) fatal: u64,
    /// The map shows the state before the newest change.
    pub(super) stale_map: u64,
}

/// What an append says of its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HandedIn {
    pub(super) shard: ShardId,
    pub(super) low: Position,
    pub(super) claims: Vec<ClaimedRange>,
}

pub(super) struct ModelState {
    pub(super) shards: Vec<ModelShard>,
    pub(super) faults: Faults,
    /// What this shard is handed waits for room.
    pub(super) full_shard: Option<ShardId>,
    /// This shard answers nothing.
    pub(super) silent_shard: Option<ShardId>,
    /// A child takes what is handed to its parent, as far as it owns all of it.
    pub(super) children_take: bool,
    pub(super) reorders_within: Duration,
    pub(super) routing: Routing,
    /// What the stream says of itself; it checks in any case.
    pub(super) checks_appends: bool,
    pub(super) handed_in: Vec<HandedIn>,
    late: Vec<(ShardId, Append)>,
    previous_map: Option<ShardMap>,
}

/// The stream; clones share it.
#[derive(Clone)]
pub(super) struct ModelStream {
    id: StreamId,
    pub(super) model: Arc<Mutex<ModelState>>,
    random: Random,
    record_bytes_max: usize,
    pub(super) append_bytes: usize,
}

impl std::fmt::Debug for ModelStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ModelStream")
    }
}

impl ModelStream {
    pub(super) fn new(shards: u32, random: Random) -> Self {
        let shards = HashRange::even(shards).into_iter().enumerate();
        let shards = shards
            .map(|(n, range)| {
                ModelShard::new(n, range, Vec::new(), vec![(range, ModelMarks::new())])
            })
            .collect();
        ModelStream {
            id: StreamId::new("out", "1"),
            model: Arc::new(Mutex::new(ModelState {
                shards,
                faults: Faults::default(),
                full_shard: None,
                silent_shard: None,
                children_take: false,
                reorders_within: Duration::ZERO,
                routing: Routing::Keyed([7; 32]),
                checks_appends: true,
                handed_in: Vec::new(),
                late: Vec::new(),
                previous_map: None,
            })),
            random,
            record_bytes_max: 200,
            append_bytes: 300,
        }
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&mut ModelState) -> T) -> T {
        f(&mut self.model.lock().unwrap())
    }

    fn chance(&self, of_100: u64) -> bool {
        self.random.below(100) < of_100
    }
}

impl ModelShard {
    fn new(
        number: usize,
        range: HashRange,
        parents: Vec<ShardId>,
        segments: Vec<(HashRange, ModelMarks)>,
    ) -> Self {
        ModelShard {
            shard: Shard {
                id: ShardId::new(format!("{number:04}")),
                range,
                parents,
                closed: false,
            },
            log: Vec::new(),
            accounts: Vec::new(),
            segments,
        }
    }
}

impl ModelState {
    fn map(&self) -> ShardMap {
        ShardMap::new(self.shards.iter().map(|s| s.shard.clone()).collect())
    }

    /// The open shards, by their first hashes.
    fn open(&self) -> Vec<usize> {
        let mut open: Vec<usize> = (0..self.shards.len())
            .filter(|n| !self.shards[*n].shard.closed)
            .collect();
        open.sort_by_key(|n| self.shards[*n].shard.range.first);
        open
    }

    /// Splits an open shard in the middle, or merges two open neighbours.
    pub(super) fn reshard(&mut self, random: &Random) {
        let open = self.open().len();
        let at = random.below(open as u64) as usize;
        if open > 1 && random.below(2) == 0 {
            self.merge(at.min(open - 2));
        } else if open < 12 {
            self.split(at);
        }
    }

    /// Merges this open shard and the next one.
    pub(super) fn merge(&mut self, at: usize) {
        self.previous_map = Some(self.map());
        let open = self.open();
        let (low, high) = (open[at], open[at + 1]);
        let range = self.shards[low].shard.range;
        let range = range.join(self.shards[high].shard.range).unwrap();
        let mut segments = self.shards[low].segments.clone();
        segments.extend(self.shards[high].segments.clone());
        let parents = [low, high].map(|n| self.shards[n].shard.id.clone());
        for n in [low, high] {
            self.shards[n].shard.closed = true;
        }
        let child = ModelShard::new(self.shards.len(), range, parents.to_vec(), segments);
        self.shards.push(child);
    }

    /// Splits this open shard.
    pub(super) fn split(&mut self, at: usize) {
        self.previous_map = Some(self.map());
        let (open, count) = (self.open(), self.shards.len());
        let parent = &mut self.shards[open[at]];
        parent.shard.closed = true;
        let range = parent.shard.range;
        let (low, high) = range.split(range.middle().unwrap()).unwrap();
        let segments = parent.segments.clone();
        let id = parent.shard.id.clone();
        for (n, range) in [low, high].into_iter().enumerate() {
            let restricted = segments
                .iter()
                .filter_map(|(segment, marks)| Some((segment.intersect(range)?, marks.clone())));
            let restricted = restricted.collect();
            let child = ModelShard::new(count + n, range, vec![id.clone()], restricted);
            self.shards.push(child);
        }
    }

    pub(super) fn land_late(&mut self) {
        for (shard, append) in std::mem::take(&mut self.late) {
            // Its writer no longer waits for the answer; the log decides as always.
            drop(self.append(&shard, append));
        }
    }

    /// The shard that takes an append which is handed in for another one.
    fn owner(&self, id: &ShardId, append: &Append) -> ShardId {
        let units = append.units.iter().map(|unit| unit.route);
        let routes: Vec<u128> = append.routes.iter().copied().chain(units).collect();
        let all_in = |shard: &&ModelShard| {
            let range = shard.shard.range;
            shard.shard.parents.contains(id) && routes.iter().all(|route| range.contains(*route))
        };
        let mut shards = self.shards.iter();
        let child = shards.find(all_in).filter(|_| self.children_take);
        child.map_or(id.clone(), |child| child.shard.id.clone())
    }

    fn append(&mut self, id: &ShardId, append: Append) -> Result<Appended> {
        let id = &self.owner(id, &append);
        let shard = self.shards.iter_mut().find(|s| s.shard.id == *id).unwrap();
        if shard.shard.closed {
            return Err(Error::Sealed { shard: id.clone() });
        }
        let entry = append.entry.unwrap();
        let name = (entry.writer, entry.shard.clone());
        let mark_of = |marks: &ModelMarks| {
            let mark = marks.get(&name).copied().unwrap_or_default();
            mark.max(entry.low)
        };
        for (_, marks) in &shard.segments {
            let mark = mark_of(marks);
            if entry.from > mark {
                return Err(Error::OutOfOrder {
                    shard: id.clone(),
                    mark,
                    from: entry.from,
                });
            }
        }
        let segments = &shard.segments;
        let seen = |route: u128, position: Position| {
            let segment = segments.iter().find(|(range, _)| range.contains(route));
            position <= mark_of(&segment.expect("routed into its shard").1)
        };
        let mut duplicates = 0;
        let mut input = append.input.unwrap_or_else(|| append.picks.len() as u64);
        let mut kept = Vec::new();
        let records = append.picks.iter().zip(append.routes.iter());
        assert_eq!(append.picks.len(), append.routes.len());
        assert_eq!(append.picks.len(), entry.origins.len() as usize);
        for ((pick, route), origin) in records.zip(entry.origins.iter()) {
            assert!(origin.position() <= entry.to);
            if seen(*route, origin.position()) {
                duplicates += 1;
                input -= 1;
                continue;
            }
            let record = &append.batch.records[*pick as usize];
            kept.push(ModelRecord {
                origin_shard: entry.shard.clone(),
                sequence: origin.sequence,
                key: append.batch.key(record).map(<[u8]>::to_vec),
                route: *route,
                explicit: append.explicit,
            });
        }
        let mut account = Account {
            records: kept.len() as u64,
            ..Account::default()
        };
        for unit in append.units.iter().cloned() {
            assert!(unit.origin.position() <= entry.to);
            let count = Unit::count(&unit);
            if seen(unit.route, unit.origin.position()) {
                input -= count;
                continue;
            }
            match unit.what {
                UnitKind::Letter(letter) => account.letters.push(letter),
                UnitKind::Dropped { rule, count } => account.dropped.push(Dropped { rule, count }),
            }
        }
        account.input = input;
        assert!(account.balances(), "{account:?}");
        if account.input > 0 {
            shard.accounts.push(account);
        }
        shard.log.extend(kept);
        for (_, marks) in &mut shard.segments {
            let mark = mark_of(marks).max(entry.to);
            marks.insert(name.clone(), mark);
        }
        Ok(Appended {
            shard: id.clone(),
            last: None,
            duplicates,
        })
    }
}

fn unavailable() -> Error {
    Error::Unavailable {
        message: "no answer".to_owned(),
        after: Duration::ZERO,
    }
}

#[async_trait]
impl StreamWriter for ModelStream {
    async fn submit(&self, shard: &ShardId, append: Append) -> Result<Ticket> {
        while self.with(|model| model.full_shard.as_ref() == Some(shard)) {
            clock::sleep(Duration::from_millis(1)).await;
        }
        let faults = self.with(|model| model.faults);
        let result = self.with(|model| {
            model.handed_in.push(HandedIn {
                shard: shard.clone(),
                low: append
                    .entry
                    .as_ref()
                    .map_or(Position::Begin, |entry| entry.low),
                claims: append.claims.clone(),
            });
            if self.chance(20) {
                model.land_late();
            }
            if self.chance(faults.full) {
                return Err(Error::Full { path: "log".into() });
            }
            if self.chance(faults.fatal) {
                return Err(Error::refused("the output is gone"));
            }
            if self.chance(faults.lost) {
                return Err(unavailable());
            }
            if self.chance(faults.late) {
                model.late.push((shard.clone(), append));
                return Err(unavailable());
            }
            let result = model.append(shard, append);
            if self.chance(faults.answer_lost) {
                return Err(unavailable());
            }
            result
        });
        let result = match result {
            Err(error) if self.chance(faults.refused_at_call) => return Err(error),
            result => result,
        };
        if self.chance(10) {
            tokio::task::yield_now().await;
        }
        let delay = Duration::from_millis(self.random.below(20));
        let (model, shard) = (self.clone(), shard.clone());
        Ok(async move {
            clock::sleep(delay).await;
            while model.with(|model| model.silent_shard.as_ref() == Some(&shard)) {
                clock::sleep(Duration::from_millis(1)).await;
            }
            result
        }
        .boxed())
    }

    async fn begun(&self, _: &ShardId) -> Result<Vec<Begun>> {
        // The model knows no starts.
        Ok(Vec::new())
    }

    fn checks_appends(&self) -> bool {
        self.with(|model| model.checks_appends)
    }

    fn reorders_within(&self) -> Duration {
        self.with(|model| model.reorders_within)
    }

    fn routing(&self) -> Routing {
        self.with(|model| model.routing.clone())
    }

    fn keys(&self) -> KeyRule {
        KeyRule::Any
    }

    fn keeps_headers(&self) -> bool {
        true
    }

    fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    fn append_bytes_target(&self) -> usize {
        self.append_bytes
    }
}

#[async_trait]
impl Stream for ModelStream {
    fn id(&self) -> &StreamId {
        &self.id
    }

    fn url(&self) -> &str {
        "model:out"
    }

    async fn shards(&self) -> Result<ShardMap> {
        let stale = self.with(|model| self.chance(model.faults.stale_map));
        self.with(|model| match &model.previous_map {
            Some(previous) if stale => Ok(previous.clone()),
            _ => Ok(model.map()),
        })
    }

    async fn shards_changed(&self) -> Result<()> {
        std::future::pending().await
    }

    async fn states(&self) -> Result<Vec<ShardState>> {
        Ok(Vec::new())
    }

    async fn state(&self, _: &ShardId) -> Result<ShardState> {
        Err(Error::fatal("the model is only written"))
    }

    async fn behind(&self, _: &ShardId, _: &Progress) -> Result<Behind> {
        Err(Error::fatal("the model is only written"))
    }

    async fn start(&self, _: &ShardId, _: Start) -> Result<Progress> {
        Ok(Progress::default())
    }

    async fn reader(&self, _: &ShardId, _: OpenAt, _: &Budget) -> Result<Box<dyn ShardReader>> {
        Err(Error::fatal("the model is only written"))
    }

    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        Ok(Arc::new(self.clone()))
    }

    async fn assignment(&self, _: &Join) -> Result<Assignment> {
        Err(Error::fatal("the model is only written"))
    }
}
