//! Owners, successors and zombies that send into a log, which checks origins or leaves copies to its readers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hydrant_core::clock;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::SharedStream;
use hydrant_core::{Position, Random};
use hydrant_testing::memory::{MemoryStream, StreamFaults, StreamTraits};

use super::found::{FoundRecords, SHARDS};
use super::{UNITS, context, input, log, reshard, run, small, storing_log, transform, upstream};
use crate::delivery::session::LaneSession;
use crate::delivery::{Keys, LaneLimits, Lanes, Session};

/// Longer than anything that was sent takes to land.
const ALL_LANDED: Duration = Duration::from_secs(200);
/// Longer than what was acknowledged takes to be placed.
const PLACED: Duration = Duration::from_secs(6);

/// The way of one upstream shard through a process, with the process's view of the map.
struct SendingWorker {
    /// Which upstream shard it sends.
    of: usize,
    process: u64,
    lanes: Lanes,
    session: LaneSession,
    next: u64,
}

/// What happens in a run.
#[derive(Clone, Copy)]
struct SenderScript {
    /// Whether the log checks origins.
    checks: bool,
    faults: StreamFaults,
    /// A successor sends only when everything that was acknowledged before is in its place.
    takes_wait: bool,
    reshards: bool,
    /// Sessions of one process share a writer.
    shares: bool,
    queued_max: usize,
    limits: LaneLimits,
}

impl SenderScript {
    fn drawn(checks: bool, random: &Random) -> Self {
        let faults = StreamFaults {
            lost: random.below(12),
            answer_lost: random.below(12),
            late: random.below(12),
            stale_map: random.below(60),
            ..StreamFaults::default()
        };
        SenderScript {
            checks,
            faults: match checks {
                true => StreamFaults {
                    full: random.below(4),
                    refused_at_call: random.below(80),
                    slow: 100,
                    crowded: random.below(12),
                    ..faults
                },
                false => StreamFaults {
                    throttled: random.below(8),
                    placed_late: random.below(2) * random.below(70),
                    ..faults
                },
            },
            takes_wait: random.below(2) == 0,
            reshards: random.below(4) > 0,
            shares: random.below(2) == 0,
            queued_max: 1 << random.below(7),
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

struct SenderWorld {
    seed: u64,
    random: Random,
    script: SenderScript,
    stream: MemoryStream,
    checkpoints: [Position; 2],
    workers: Vec<SendingWorker>,
    processes: u64,
}

impl SenderWorld {
    fn new(checks: bool, seed: u64) -> Self {
        let random = Random::seeded(seed);
        let shards = 1 + random.below(4) as u32;
        let stream = match checks {
            true => log(shards, random.clone()),
            false => storing_log(shards, random.clone()),
        };
        let script = SenderScript::drawn(checks, &random);
        stream.set_traits(StreamTraits {
            queued_max: script.queued_max,
            ..small()
        });
        SenderWorld {
            seed,
            script,
            stream,
            random,
            checkpoints: [Position::Begin; 2],
            workers: Vec::new(),
            processes: 0,
        }
    }

    /// A process that may begin to send this shard: one that sends the other alone, or a new one.
    async fn process(&mut self, of: usize) -> (u64, Lanes) {
        let is_free = |one: &&SendingWorker| {
            let mut workers = self.workers.iter();
            workers.all(|other| other.process != one.process || other.of != of)
        };
        let shared = self.workers.iter().find(is_free);
        if let Some(worker) = shared.filter(|_| self.script.shares) {
            return (worker.process, worker.lanes.clone());
        }
        self.processes += 1;
        let output: SharedStream = Arc::new(self.stream.clone());
        let context = context(self.random.clone());
        let lanes = Lanes::open(output, Keys::Replaced, self.script.limits, &context);
        (self.processes, lanes.await.unwrap())
    }

    async fn start(&mut self, of: usize) {
        if self.script.takes_wait {
            clock::sleep(PLACED).await;
        }
        let after = self.checkpoints[of];
        let (process, lanes) = self.process(of).await;
        let session = lanes.session(upstream(SHARDS[of], after)).await;
        self.workers.push(SendingWorker {
            of,
            process,
            lanes,
            session,
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
            if end == UNITS {
                worker.session.end().await.unwrap();
            }
        }
        let to = if drains {
            worker.session.drain().await.unwrap()
        } else {
            worker.session.progress().await.unwrap()
        };
        // Any owner may write the ledger here; it never goes back.
        self.checkpoints[of] = self.checkpoints[of].max(to);
    }

    /// What readers find; of a log that checks, everything up to the checkpoints.
    async fn check(&self) -> FoundRecords {
        let found = FoundRecords::read(&self.stream).await;
        let confirmed = self.checkpoints.map(|to| to.next_offset().unwrap());
        found.check(self.seed, confirmed, self.script.keeps_order());
        found
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
                self.stream.set_faults(StreamFaults {
                    slow: self.script.faults.slow,
                    ..StreamFaults::default()
                });
            }
            let of = self.random.below(2) as usize;
            match self.random.below(if is_calm { 30 } else { 40 }) {
                30..33 if self.script.reshards => reshard(&self.stream, &self.random).await,
                33 | 34 if !self.workers.is_empty() => {
                    let victim = self.random.below(self.workers.len() as u64);
                    drop(self.workers.swap_remove(victim as usize));
                }
                35 if self.workers.len() < 6 => self.start(of).await,
                36 => clock::sleep(Duration::from_millis(self.random.below(9000))).await,
                _ => {
                    let drains = is_calm || self.random.below(8) == 0;
                    self.go_on(of, drains).await;
                    if self.script.checks && step % 4 == 0 {
                        self.check().await;
                    }
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

/// Plays a seed and judges what readers find; answers how many copies they dropped.
async fn simulate(checks: bool, seed: u64) -> u64 {
    let mut world = SenderWorld::new(checks, seed);
    world.play().await;
    world.check().await.duplicates
}

/// How many seeds a test plays: `usual`, or as many as `HYDRANT_SIMULATION_SEEDS` says.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let wanted = std::env::var("HYDRANT_SIMULATION_SEEDS");
    0..wanted.map_or(usual, |text| text.parse().expect("a number of seeds"))
}

#[test]
fn each_unit_is_in_a_log_that_checks_once_and_in_order_whatever_happens() {
    for seed in seeds(50) {
        run(async {
            simulate(true, seed).await;
        });
    }
}

#[test]
fn readers_find_each_unit_once_and_in_order_whatever_happens() {
    let mut copies = 0;
    for seed in seeds(60) {
        run(async { copies += simulate(false, seed).await });
    }
    assert!(
        copies > 10 * seeds(60).end,
        "only {copies} copies were dropped"
    );
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
    for (broken, checks) in [
        (Mutant::StartAsLow, false),
        (Mutant::NewestAsLow, false),
        (Mutant::NewestRoutedFirst, false),
        (Mutant::UnitsByLane, false),
        (Mutant::ConfirmedWhenSent, false),
        (Mutant::SeveralUnconfirmed, false),
        (Mutant::AnsweringShardUnchecked, false),
        (Mutant::EntriesConfirmedAlone, false),
        (Mutant::UnitsConfirmedWithRecords, false),
        (Mutant::GapHeld, false),
        (Mutant::MarksBeforeTheEnd, false),
        (Mutant::QueuedBehindFailure, false),
        (Mutant::ParkedBehindFailure, false),
        // A log that checks refuses an append whose predecessor is missing: no other one may look as if it had none.
        (Mutant::FromConfirmed, true),
    ] {
        let mut seeds = 0..SEEDS;
        let caught =
            seeds.find(|seed| mutant::with(Some(broken), || fails(simulate(checks, *seed))));
        survivors.extend(caught.is_none().then_some(broken));
    }
    assert!(survivors.is_empty(), "{survivors:?} were not caught");
}
