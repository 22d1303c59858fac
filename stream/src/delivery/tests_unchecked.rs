//! Sessions into a log that does not check at append: its readers drop copies by what the sessions claim.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hydrant_core::clock;
use hydrant_core::lease::Progress;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::{OpenAt, Read, SharedStream, Stream};
use hydrant_core::{Budget, Position, Random, Shard, ShardId};
use hydrant_testing::clock::ManualClock;
use hydrant_testing::memory::{MemoryStream, StreamFaults};

use super::session::LaneSession;
use super::tests::{Fate, UNITS, context, fate, input, key, run, transform, upstream};
use super::{Keys, LaneLimits, Lanes, Session};

/// The upstream shards.
const SHARDS: [&str; 2] = ["a", "b"];
/// Longer than anything that was sent takes to land.
const ALL_LANDED: Duration = Duration::from_secs(200);
/// Longer than what was acknowledged takes to be placed.
const PLACED: Duration = Duration::from_secs(6);

/// One process of a worker, with its own view of the map.
struct UncheckedWorker {
    /// Which upstream shard it sends.
    of: usize,
    session: LaneSession,
    next: u64,
}

/// What happens in a run.
#[derive(Clone, Copy)]
struct Script {
    faults: StreamFaults,
    /// A successor sends only when everything that was acknowledged before is in its place.
    takes_wait: bool,
    reshards: bool,
    limits: LaneLimits,
}

impl Script {
    fn drawn(random: &Random) -> Self {
        Script {
            faults: StreamFaults {
                lost: random.below(12),
                answer_lost: random.below(12),
                late: random.below(12),
                throttled: random.below(8),
                placed_late: random.below(2) * random.below(70),
            },
            takes_wait: random.below(2) == 0,
            reshards: random.below(4) > 0,
            limits: LaneLimits {
                bytes: 200 + random.below(4000) as usize,
                appends: 1 + random.below(16) as usize,
            },
        }
    }

    /// Whether the order of a key holds across a takeover.
    fn keeps_order(&self) -> bool {
        self.takes_wait || self.faults.placed_late == 0
    }
}

struct UncheckedWorld {
    seed: u64,
    random: Random,
    script: Script,
    stream: MemoryStream,
    checkpoints: [Position; 2],
    workers: Vec<UncheckedWorker>,
}

impl UncheckedWorld {
    fn new(seed: u64) -> Self {
        let random = Random::seeded(seed);
        let clock = Arc::new(ManualClock::new(1));
        let shards = 1 + random.below(4) as u32;
        UncheckedWorld {
            seed,
            script: Script::drawn(&random),
            stream: MemoryStream::storing("out", shards, clock, random.clone()),
            random,
            checkpoints: [Position::Begin; 2],
            workers: Vec::new(),
        }
    }

    async fn start(&mut self, of: usize) {
        if self.script.takes_wait {
            clock::sleep(PLACED).await;
        }
        let output: SharedStream = Arc::new(self.stream.clone());
        let context = context(self.random.clone());
        let lanes = Lanes::open(output, Keys::Replaced, self.script.limits, &context);
        let after = self.checkpoints[of];
        let lanes = lanes.await.unwrap();
        let session = lanes.session(upstream(SHARDS[of], after));
        self.workers.push(UncheckedWorker {
            of,
            session: session.await,
            next: after.next_offset().unwrap(),
        });
    }

    /// Lets a worker of this shard go on; makes one if there is none.
    async fn go_on(&mut self, of: usize, drains: bool) {
        let mut at: Vec<usize> = (0..self.workers.len()).collect();
        at.retain(|n| self.workers[*n].of == of);
        if at.is_empty() {
            return self.start(of).await;
        }
        let at = at[self.random.below(at.len() as u64) as usize];
        let (seed, random) = (self.seed, self.random.clone());
        let worker = &mut self.workers[at];
        if worker.next < UNITS && random.below(3) > 0 {
            let end = (worker.next + 1 + random.below(9)).min(UNITS);
            let planner = worker.session.planner();
            let batch = input(seed, SHARDS[of], worker.next, end);
            let routes = planner.routes(&batch);
            let plan = planner.plan(transform(seed, SHARDS[of], batch), &routes, 0);
            worker.session.send(plan.unwrap()).await.unwrap();
            worker.next = end;
        }
        let to = if drains {
            worker.session.drain().await.unwrap()
        } else {
            worker.session.progress().await.unwrap()
        };
        self.checkpoints[of] = self.checkpoints[of].max(to);
    }

    async fn reshard(&self) {
        let map = self.stream.shards().await.unwrap();
        let mut open: Vec<Shard> = map.open().cloned().collect();
        open.sort_by_key(|shard| shard.range.first);
        let admin = self.stream.admin();
        let at = self.random.below(open.len() as u64) as usize;
        if open.len() > 1 && self.random.below(2) == 0 {
            let at = at.min(open.len() - 2);
            admin.merge(&open[at].id, &open[at + 1].id).await.unwrap();
        } else if open.len() < 10 {
            admin.split(&open[at].id, None).await.unwrap();
        }
    }

    /// Owners, successors and zombies against a log that loses, delays, reorders and reshards; in the end everything is
    /// confirmed.
    async fn play(&mut self) {
        self.stream.set_faults(self.script.faults);
        for step in 0..3000 {
            if self.checkpoints == [Position::offset(UNITS - 1); 2] {
                break;
            }
            let is_calm = step >= 500;
            if step == 500 {
                self.stream.set_faults(StreamFaults::default());
            }
            let of = self.random.below(2) as usize;
            match self.random.below(if is_calm { 30 } else { 40 }) {
                30..33 if self.script.reshards => self.reshard().await,
                33 | 34 if !self.workers.is_empty() => {
                    let victim = self.random.below(self.workers.len() as u64);
                    drop(self.workers.swap_remove(victim as usize));
                }
                35 if self.workers.len() < 6 => self.start(of).await,
                36 => clock::sleep(Duration::from_millis(self.random.below(9000))).await,
                _ => {
                    let drains = is_calm || self.random.below(8) == 0;
                    self.go_on(of, drains).await;
                    clock::sleep(Duration::from_millis(self.random.below(50))).await;
                }
            }
        }
        let seed = self.seed;
        let all = [Position::offset(UNITS - 1); 2];
        assert_eq!(self.checkpoints, all, "seed {seed} did not end");
        // Zombies wake up at the end and do their worst.
        for of in 0..SHARDS.len() {
            while let Some(at) = self.workers.iter().position(|worker| worker.of == of) {
                if self.workers[at].next == UNITS {
                    let mut worker = self.workers.swap_remove(at);
                    worker.session.drain().await.unwrap();
                } else {
                    self.go_on(of, true).await;
                }
            }
        }
        clock::sleep(ALL_LANDED).await;
    }
}

/// What the readers of a stream hand on.
#[derive(Default)]
struct FoundRecords {
    /// Records, in the order of shards after their parents.
    records: Vec<(ShardId, u64)>,
    letters: BTreeMap<String, u32>,
    dropped: BTreeMap<String, u64>,
    /// Copies that they dropped.
    duplicates: u64,
}

/// Reads each shard to its tip or end, with what the readers of its parents knew.
async fn read(stream: &MemoryStream) -> FoundRecords {
    let map = stream.shards().await.unwrap();
    let budget = Budget::new(1 << 30);
    let mut ends: BTreeMap<ShardId, (Shard, Progress)> = BTreeMap::new();
    let mut found = FoundRecords::default();
    // Children are named after their parents.
    for shard in map.all() {
        let parents = shard.parents.iter().map(|parent| ends[parent].clone());
        let at = OpenAt::After {
            progress: Progress::default(),
            parents: parents.collect(),
        };
        let mut reader = stream.reader(&shard.id, at, &budget).await.unwrap();
        loop {
            match reader.next().await.unwrap() {
                Read::Batch(batch) => found.take(&batch),
                Read::Idle { .. } => break,
                Read::End { marks, .. } => {
                    let end = Progress {
                        to: Position::End,
                        marks,
                        ..Progress::default()
                    };
                    ends.insert(shard.id.clone(), (shard.clone(), end));
                    break;
                }
                gap @ Read::Gap { .. } => panic!("{gap:?}"),
            }
        }
    }
    found
}

impl FoundRecords {
    fn take(&mut self, batch: &hydrant_core::Batch) {
        for n in 0..batch.len() {
            let (entry, origin) = batch.origin(n).expect("each record has an origin");
            let sequence = origin.sequence.offset().unwrap();
            self.records.push((entry.shard.clone(), sequence));
        }
        for span in &batch.accounts {
            assert!(span.account.balances(), "{:?}", span.account);
            for letter in &span.account.letters {
                let place = format!("{} {} {}", letter.shard, letter.sequence, letter.reason);
                *self.letters.entry(place).or_default() += 1;
            }
            for dropped in &span.account.dropped {
                let rule = dropped.rule.to_string();
                *self.dropped.entry(rule).or_default() += dropped.count;
            }
        }
        self.duplicates += batch.duplicates.iter().map(|(_, count)| count).sum::<u64>();
    }

    /// Each unit once, and a key's records in their order.
    fn check(&self, seed: u64, keeps_order: bool) {
        let mut counts: BTreeMap<(&str, u64), u32> = BTreeMap::new();
        let mut last: BTreeMap<(&str, String), u64> = BTreeMap::new();
        for (shard, sequence) in &self.records {
            *counts.entry((shard.as_str(), *sequence)).or_default() += 1;
            if let Some(key) = key(*sequence, shard.as_str()) {
                let before = last.insert((shard.as_str(), key), *sequence);
                let in_order = before.is_none_or(|before| before < *sequence);
                assert!(
                    in_order || !keeps_order,
                    "{seed}: {sequence} after {before:?}"
                );
            }
        }
        let (mut noise, mut early, mut letters) = (0, 0, 0);
        for shard in SHARDS {
            for sequence in 0..UNITS {
                let count = counts.get(&(shard, sequence)).copied().unwrap_or_default();
                let wanted = match fate(seed, sequence) {
                    Fate::Kept | Fate::Rekeyed | Fate::TooLarge => 1,
                    Fate::Letter => {
                        letters += 1;
                        0
                    }
                    Fate::Dropped => {
                        noise += 1;
                        0
                    }
                    Fate::Account => {
                        (letters, early) = (letters + 3, early + 2);
                        0
                    }
                };
                assert_eq!(count, wanted, "{seed}: {shard} {sequence}");
            }
        }
        assert!(self.letters.values().all(|count| *count == 1), "{seed}");
        let dropped = |rule| self.dropped.get(rule).copied().unwrap_or_default();
        let found = (dropped("noise"), dropped("early"), self.letters.len());
        assert_eq!(found, (noise, early, letters), "{seed}");
    }
}

/// Plays a seed and judges what readers find; answers how many copies they dropped.
async fn simulate(seed: u64) -> u64 {
    let mut world = UncheckedWorld::new(seed);
    world.play().await;
    let found = read(&world.stream).await;
    found.check(seed, world.script.keeps_order());
    found.duplicates
}

#[test]
fn readers_find_each_unit_once_and_in_order_whatever_happens() {
    let mut copies = 0;
    for seed in 0..60 {
        run(async { copies += simulate(seed).await });
    }
    assert!(copies > 1000, "only {copies} copies were dropped");
}

/// The seeds up to this one with which a broken variant is looked for.
const SEEDS: u64 = 300;

/// Whether a run fails, or does not end.
fn fails(playing: impl Future<Output = u64>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let hours = Duration::from_secs(36_000);
    runtime.unwrap().block_on(async {
        let played = tokio::time::timeout(hours, AssertUnwindSafe(playing).catch_unwind());
        !matches!(played.await, Ok(Ok(_)))
    })
}

#[test]
fn a_sender_that_breaks_a_rule_is_caught() {
    let mut survivors = Vec::new();
    for broken in [
        Mutant::StartAsLow,
        Mutant::NewestAsLow,
        Mutant::NewestRoutedFirst,
        Mutant::UnitsByLane,
        Mutant::ConfirmedWhenSent,
        Mutant::SeveralUnconfirmed,
        Mutant::AnsweringShardUnchecked,
        Mutant::QueuedBehindFailure,
    ] {
        let caught = (0..SEEDS).find(|seed| mutant::with(Some(broken), || fails(simulate(*seed))));
        survivors.extend(caught.is_none().then_some(broken));
    }
    // A log that checks refuses an append whose predecessor is missing: no other one may look as if it had none.
    let checked = |seed| async move {
        super::tests::simulate(seed).await;
        seed
    };
    let broken = Mutant::FromConfirmed;
    let caught = (0..SEEDS).find(|seed| mutant::with(Some(broken), || fails(checked(*seed))));
    survivors.extend(caught.is_none().then_some(broken));
    assert!(survivors.is_empty(), "{survivors:?} were not caught");
}
