//! Lanes against a model of the log: each unit once, order per key, accounts that balance, checkpoints that hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::batch::{AccountOf, AccountSpan, Entry, RunBuilder, Span, Step};
use hydrant_core::origin::{Account, DeadLetter, Dropped, WriterId};
use hydrant_core::subscription::ClaimId;
use hydrant_core::transform::Transformed;
use hydrant_core::{
    Batch, Budget, Context, Error, Position, Random, Sequence, ShardId, StreamId, Workers,
};

use super::model::{Faults, ModelStream};
use super::session::LaneSession;
use super::{Keys, LaneLimits, Lanes, Session, Upstream};

const STREAM: &str = "in";

pub(super) fn context(random: Random) -> Context {
    Context {
        disk: Arc::new(hydrant_core::disk::real::RealDisk::new()),
        clock: Arc::new(hydrant_core::clock::SystemClock),
        random,
        workers: Workers::Inline,
        budget: Budget::new(1 << 20),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Rekeyed,
    Letter,
    Dropped,
    TooLarge,
    /// No record: an account from further upstream with some letters and two drops.
    Account,
}

pub(super) fn fate(seed: u64, sequence: u64) -> Fate {
    match Random::seeded(seed ^ (sequence << 20)).below(12) {
        0 => Fate::Rekeyed,
        1 => Fate::Letter,
        2 => Fate::Dropped,
        3 => Fate::TooLarge,
        4 => Fate::Account,
        _ => Fate::Kept,
    }
}

pub(super) fn key(sequence: u64, shard: &str) -> Option<String> {
    let n = sequence % 7;
    (n != 3).then(|| format!("{shard}-key-{n}"))
}

pub(super) fn letter(stream: &str, shard: &str, sequence: u64) -> DeadLetter {
    DeadLetter {
        stream: stream.into(),
        shard: shard.into(),
        sequence: Sequence::from(sequence),
        sub: 0,
        key: None,
        stage: "transform".into(),
        reason: "malformed_json".into(),
        detail: String::new(),
        length: 3,
        time: 0,
    }
}

/// Letters of one account together exceed an append.
const LETTERS: usize = 3;

fn early_letter(shard: &str, sequence: u64, n: usize) -> DeadLetter {
    DeadLetter {
        reason: format!("reason-{n}").into(),
        ..letter("raw", shard, sequence)
    }
}

/// The units of `(after, through]` as a batch of upstream shard `shard`.
pub(super) fn input(seed: u64, shard: &str, from: u64, end: u64) -> Batch {
    let mut bytes = Vec::new();
    let mut records = Vec::new();
    let mut runs = RunBuilder::default();
    let mut accounts = Vec::new();
    for sequence in from..end {
        if fate(seed, sequence) == Fate::Account {
            accounts.push(AccountSpan {
                at: Position::offset(sequence),
                entry: AccountOf {
                    writer: WriterId::of_name("before"),
                    shard: "first".into(),
                },
                account: Account {
                    input: 8,
                    records: 3,
                    letters: (0..LETTERS)
                        .map(|n| early_letter(shard, sequence, n))
                        .collect(),
                    dropped: vec![Dropped {
                        rule: "early".into(),
                        count: 2,
                    }],
                },
            });
            continue;
        }
        let key = key(sequence, shard).map(|key| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(key.as_bytes());
            Span::new(start, key.len() as u32)
        });
        let size = if fate(seed, sequence) == Fate::TooLarge {
            250
        } else {
            30 + sequence as u32 % 40
        };
        let start = bytes.len() as u32;
        bytes.resize(bytes.len() + size as usize, b'x');
        records.push(Entry {
            segment: 0,
            key,
            payload: Span::new(start, size),
            stamp: 0,
        });
        runs.push(Sequence::from(sequence), 0, Step::Sequence, 0);
    }
    Batch {
        segments: Arc::from([Bytes::from(bytes)]),
        records,
        runs: runs.finish(),
        accounts,
        to: Position::offset(end - 1),
        ..Batch::default()
    }
}

pub(super) fn transform(seed: u64, shard: &str, mut batch: Batch) -> Transformed {
    let mut out = Transformed {
        input: batch.len() as u32,
        ..Transformed::default()
    };
    let mut segments = batch.segments.to_vec();
    segments.push(Bytes::from_static(b"[EMAIL]"));
    batch.segments = segments.into();
    let mut runs = RunBuilder::default();
    let positions: Vec<_> = batch.positions().collect();
    let mut records = Vec::new();
    for (index, (entry, (sequence, sub, arrival))) in
        batch.records.iter().zip(positions).enumerate()
    {
        let index = index as u32;
        let fate = fate(seed, sequence.offset().unwrap());
        match fate {
            Fate::Letter => {
                let letter = letter(STREAM, shard, sequence.offset().unwrap());
                out.letters.push((index, letter));
                continue;
            }
            Fate::Dropped => {
                out.dropped.push((index, "noise".into()));
                continue;
            }
            _ => {}
        }
        let mut entry = *entry;
        let rekeyed = fate == Fate::Rekeyed && entry.key.is_some();
        if rekeyed {
            entry.segment = 1;
            entry.key = Some(Span::new(0, 7));
            entry.payload = Span::new(0, 7);
        }
        records.push(entry);
        out.sources.push(index);
        out.rekeyed.push(rekeyed);
        runs.push(sequence, sub, Step::Sequence, arrival);
    }
    batch.records = records;
    batch.runs = runs.finish();
    out.batch = batch;
    out
}

pub(super) fn claim(shard: &str) -> ClaimId {
    ClaimId {
        shard: shard.into(),
        grant: 1,
    }
}

pub(super) fn upstream(shard: &str, after: Position) -> Upstream {
    let stream = StreamId::new(STREAM, "1");
    Upstream {
        writer: WriterId::of_app("app", 1, &stream),
        claim: Some(claim(shard)),
        stream,
        shard: shard.into(),
        start: Position::Begin,
        after,
        unit_route: hydrant_core::hash::route_of_key(shard.as_bytes()),
        stage: "transform".into(),
    }
}

async fn send(session: &mut LaneSession, seed: u64, shard: &str, from: u64, end: u64) {
    send_batch(session, seed, shard, input(seed, shard, from, end)).await;
}

async fn send_batch(session: &mut LaneSession, seed: u64, shard: &str, batch: Batch) {
    let planner = session.planner();
    let routes = planner.routes(&batch);
    let plan = planner
        .plan(transform(seed, shard, batch), &routes, 0)
        .unwrap();
    session.send(plan).await.unwrap();
}

/// What the output holds, checked against the input up to `end` of each shard.
fn check(stream: &ModelStream, seed: u64, shards: &[&str], through: &[Option<u64>]) {
    stream.with(|model| {
        let mut records: BTreeMap<(ShardId, u64), u32> = BTreeMap::new();
        let mut orders: BTreeMap<(ShardId, String), u64> = BTreeMap::new();
        let mut letters: BTreeMap<(String, String, u64, String), u32> = BTreeMap::new();
        let mut early: u64 = 0;
        let mut noise: u64 = 0;
        for shard in &model.shards {
            for record in &shard.log {
                let sequence = record.sequence.offset().unwrap();
                let name = record.origin_shard.as_str();
                *records
                    .entry((record.origin_shard.clone(), sequence))
                    .or_default() += 1;
                assert!(
                    record.explicit || record.key.is_none(),
                    "routes of keys are stored"
                );
                assert!(shard.shard.range.contains(record.route));
                if let Some(key) = key(sequence, name) {
                    // Shards are numbered in the order of their making, so parents come before children.
                    let last = orders
                        .entry((record.origin_shard.clone(), key))
                        .or_insert(0);
                    assert!(*last <= sequence, "seed {seed}: {sequence} after {last}");
                    *last = sequence;
                }
                let redacted = fate(seed, sequence) == Fate::Rekeyed && record.key.is_some();
                assert_eq!(
                    redacted,
                    record.key.as_deref() == Some(b"[EMAIL]".as_slice())
                );
            }
            for account in &shard.accounts {
                assert!(account.balances());
                for letter in &account.letters {
                    let place = (
                        letter.stream.to_string(),
                        letter.shard.to_string(),
                        letter.sequence.offset().unwrap(),
                        letter.reason.to_string(),
                    );
                    *letters.entry(place).or_default() += 1;
                }
                for dropped in &account.dropped {
                    match &*dropped.rule {
                        "early" => early += dropped.count,
                        _ => noise += dropped.count,
                    }
                }
            }
        }
        let (mut early_wanted, mut noise_wanted) = (0, 0);
        for (shard, through) in shards.iter().zip(through) {
            let Some(through) = through else { continue };
            for sequence in 0..=*through {
                let count = records.get(&((*shard).into(), sequence)).copied();
                let given_up = |stream: &str, reason: &str| {
                    let place = (
                        stream.to_owned(),
                        (*shard).to_owned(),
                        sequence,
                        reason.to_owned(),
                    );
                    letters.get(&place).copied()
                };
                let wrong = format!("seed {seed}: {shard} {sequence}");
                match fate(seed, sequence) {
                    Fate::Kept | Fate::Rekeyed => assert_eq!(count, Some(1), "{wrong}"),
                    Fate::Letter => {
                        assert_eq!(given_up(STREAM, "malformed_json"), Some(1), "{wrong}");
                    }
                    Fate::TooLarge => {
                        assert_eq!(given_up("in@1", "record_too_large"), Some(1), "{wrong}");
                    }
                    Fate::Dropped => noise_wanted += 1,
                    Fate::Account => {
                        for n in 0..LETTERS {
                            let reason = format!("reason-{n}");
                            assert_eq!(given_up("raw", &reason), Some(1), "{wrong}");
                        }
                        early_wanted += 2;
                    }
                }
            }
        }
        assert!(records.values().all(|count| *count == 1), "seed {seed}");
        assert!(letters.values().all(|count| *count == 1), "seed {seed}");
        assert!(
            early >= early_wanted && noise >= noise_wanted,
            "seed {seed}"
        );
        let all = through.iter().all(|through| *through == Some(UNITS - 1));
        if all {
            assert_eq!((early, noise), (early_wanted, noise_wanted), "seed {seed}");
        }
    });
}

pub(super) const UNITS: u64 = 120;

struct Worker {
    session: LaneSession,
    next: u64,
}

/// Runs two upstream shards with owners, successors and zombies against a log that fails and reshards.
pub(super) async fn simulate(seed: u64) {
    let random = Random::seeded(seed);
    let stream = ModelStream::new(1 + random.below(4) as u32, random.clone());
    let shards = ["a", "b"];
    let mut checkpoints = [Position::Begin; 2];
    let mut workers: Vec<(usize, Worker)> = Vec::new();
    let context = context(random.clone());
    stream.with(|model| {
        model.faults = Faults {
            lost: random.below(15),
            answer_lost: random.below(15),
            late: random.below(10),
            full: random.below(4),
            refused_at_call: random.below(80),
            stale_map: random.below(60),
            fatal: 0,
        };
    });
    // Each process has its own view of the map.
    let limits = LaneLimits {
        bytes: 200 + random.below(2000) as usize,
        appends: 1 + random.below(12) as usize,
    };
    for step in 0..4000 {
        if checkpoints
            .iter()
            .all(|c| *c == Position::offset(UNITS - 1))
        {
            break;
        }
        if step == 600 {
            // From here on nothing fails, so that the run ends.
            stream.with(|model| model.faults = Faults::default());
        }
        match random.below(if step < 600 { 40 } else { 30 }) {
            30..33 => {
                if stream.with(|model| model.shards.len()) < 30 {
                    stream.with(|model| model.reshard(&random));
                }
            }
            33 | 34 => {
                // A kill: whatever was on its way is forgotten.
                if !workers.is_empty() {
                    let victim = random.below(workers.len() as u64) as usize;
                    drop(workers.swap_remove(victim));
                }
            }
            35 => stream.with(|model| model.land_late()),
            36 => {
                // A zombie stays and another worker takes over.
                let which = random.below(2) as usize;
                if workers.len() < 6 {
                    start(&mut workers, which, &stream, &context, limits, checkpoints).await;
                }
            }
            _ => {
                let which = random.below(2) as usize;
                let Some(at) = pick(&workers, which, &random) else {
                    start(&mut workers, which, &stream, &context, limits, checkpoints).await;
                    continue;
                };
                let worker = &mut workers[at].1;
                let shard = shards[which];
                if worker.next < UNITS && random.below(3) > 0 {
                    let end = (worker.next + 1 + random.below(9)).min(UNITS);
                    send(&mut worker.session, seed, shard, worker.next, end).await;
                    worker.next = end;
                }
                let to = if random.below(8) == 0 || step >= 600 {
                    worker.session.drain().await.unwrap()
                } else {
                    worker.session.progress().await.unwrap()
                };
                // Any owner may write the ledger in this model; it never goes back.
                checkpoints[which] = checkpoints[which].max(to);
                let through = checkpoints.map(|c| c.sequence().and_then(Sequence::offset));
                if step % 4 > 0 {
                    continue;
                }
                check(&stream, seed, &shards, &through);
            }
        }
    }
    assert_eq!(
        checkpoints,
        [Position::offset(UNITS - 1); 2],
        "seed {seed} did not end"
    );
    let through = [Some(UNITS - 1); 2];
    check(&stream, seed, &shards, &through);
    // Zombies wake up at the end and do their worst.
    for (which, worker) in &mut workers {
        if worker.next < UNITS {
            send(
                &mut worker.session,
                seed,
                shards[*which],
                worker.next,
                UNITS,
            )
            .await;
        }
        worker.session.drain().await.unwrap();
    }
    stream.with(|model| model.land_late());
    check(&stream, seed, &shards, &through);
}

fn pick(workers: &[(usize, Worker)], which: usize, random: &Random) -> Option<usize> {
    let of: Vec<usize> = (0..workers.len())
        .filter(|n| workers[*n].0 == which)
        .collect();
    (!of.is_empty()).then(|| of[random.below(of.len() as u64) as usize])
}

async fn start(
    workers: &mut Vec<(usize, Worker)>,
    which: usize,
    stream: &ModelStream,
    context: &Context,
    limits: LaneLimits,
    checkpoints: [Position; 2],
) {
    let output: hydrant_core::stream::SharedStream = Arc::new(stream.clone());
    let lanes = Lanes::open(output, Keys::Replaced, limits, context)
        .await
        .unwrap();
    let after = checkpoints[which];
    let session = lanes.session(upstream(["a", "b"][which], after)).await;
    let next = after.next_offset().unwrap();
    workers.push((which, Worker { session, next }));
}

pub(super) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
}

#[test]
fn each_unit_is_in_the_output_once_and_in_order_whatever_happens() {
    for seed in 0..50 {
        run(simulate(seed));
    }
}

#[test]
fn one_seed_run_twice_gives_the_same_log() {
    let log = |seed| {
        let random = Random::seeded(seed);
        let stream = ModelStream::new(3, random.clone());
        let stream_of_run = stream.clone();
        run(async move {
            let context = context(random.clone());
            let output: hydrant_core::stream::SharedStream = Arc::new(stream_of_run.clone());
            let lanes = Lanes::open(output, Keys::Replaced, LaneLimits::default(), &context)
                .await
                .unwrap();
            let mut session = lanes.session(upstream("a", Position::Begin)).await;
            for at in 0..10 {
                stream_of_run.with(|model| model.reshard(&random));
                send(&mut session, seed, "a", at * 10, at * 10 + 10).await;
            }
            session.drain().await.unwrap();
        });
        stream.with(|model| {
            let logs = model.shards.iter().map(|shard| shard.log.clone());
            logs.collect::<Vec<_>>()
        })
    };
    assert_eq!(log(5), log(5));
}

#[test]
fn a_shard_that_gets_nothing_from_a_batch_takes_the_next_one() {
    run(async {
        let random = Random::seeded(1);
        let stream = ModelStream::new(8, random.clone());
        let output: hydrant_core::stream::SharedStream = Arc::new(stream.clone());
        let lanes = Lanes::open(
            output,
            Keys::Replaced,
            LaneLimits::default(),
            &context(random),
        )
        .await
        .unwrap();
        let mut session = lanes.session(upstream("a", Position::Begin)).await;
        for sequence in 0..UNITS {
            send(&mut session, 1, "a", sequence, sequence + 1).await;
            session.skip(Position::offset(sequence));
        }
        let to = session.drain().await.unwrap();
        assert_eq!(to, Position::offset(UNITS - 1));
        session.skip(Position::offset(UNITS + 5));
        let to = session.progress().await.unwrap();
        assert_eq!(to, Position::offset(UNITS + 5));
        check(&stream, 1, &["a", "b"], &[Some(UNITS - 1), None]);
    });
}

#[test]
fn what_is_unconfirmed_is_bounded() {
    run(async {
        let random = Random::seeded(2);
        let stream = ModelStream::new(2, random.clone());
        stream.with(|model| model.faults.full = 100);
        let output: hydrant_core::stream::SharedStream = Arc::new(stream.clone());
        let limits = LaneLimits {
            bytes: 1 << 20,
            appends: 4,
        };
        let lanes = Lanes::open(output, Keys::Replaced, limits, &context(random))
            .await
            .unwrap();
        let mut session = lanes.session(upstream("a", Position::Begin)).await;
        let sending = async {
            for at in 0..6 {
                send(&mut session, 2, "a", at * 10, at * 10 + 10).await;
            }
        };
        let hour = std::time::Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, sending).await.is_err());
        assert_eq!(session.confirmed(), Position::Begin);
        stream.with(|model| model.faults.full = 0);
        let to = session.drain().await.unwrap();
        assert!(to > Position::Begin);
        check(
            &stream,
            2,
            &["a", "b"],
            &[to.sequence().unwrap().offset(), None],
        );
    });
}

/// Of sessions that need more memory than there is, one at a time overdraws. Its turn ends with its send.
#[test]
fn a_session_that_overdraws_lets_the_next_one_do_so() {
    run(async {
        let random = Random::seeded(3);
        let stream = ModelStream::new(2, random.clone());
        // What is sent is stored at the second or third try.
        stream.with(|model| model.faults.lost = 60);
        let output: hydrant_core::stream::SharedStream = Arc::new(stream.clone());
        let context = context(random);
        let lanes = Lanes::open(output, Keys::Replaced, LaneLimits::default(), &context)
            .await
            .unwrap();
        let [little, as_little] = [(); 2].map(|()| context.budget.try_acquire(1).unwrap());
        let all = context.budget.total_bytes() - context.budget.held_bytes();
        let _spent = context.budget.try_acquire(all - 2048).unwrap();
        let batch = |shard, permit| Batch {
            permit,
            ..input(3, shard, 0, 20)
        };
        let (mut a, mut b) = (
            lanes.session(upstream("a", Position::Begin)).await,
            lanes.session(upstream("b", Position::Begin)).await,
        );
        let sending = async {
            send_batch(&mut a, 3, "a", batch("a", little)).await;
            // Meanwhile the first session is not polled.
            send_batch(&mut b, 3, "b", batch("b", as_little)).await;
        };
        let hour = std::time::Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, sending).await.is_ok());
        check(&stream, 3, &["a", "b"], &[Some(19), Some(19)]);
    });
}

#[test]
fn a_transform_that_loses_count_is_refused_before_anything_is_sent() {
    run(async {
        let random = Random::seeded(3);
        let stream = ModelStream::new(2, random.clone());
        let output: hydrant_core::stream::SharedStream = Arc::new(stream.clone());
        let lanes = Lanes::open(
            output,
            Keys::Replaced,
            LaneLimits::default(),
            &context(random),
        )
        .await
        .unwrap();
        let session = lanes.session(upstream("a", Position::Begin)).await;
        let planner = session.planner();
        let wrongs: [fn(&mut Transformed); 4] = [
            |t| t.input -= 1,
            |t| drop(t.letters.pop().unwrap()),
            |t| t.dropped[0].0 = t.sources[0],
            |t| t.sources[0] = 1000,
        ];
        for wrong in wrongs {
            let batch = input(3, "a", 0, 60);
            let routes = planner.routes(&batch);
            let mut transformed = transform(3, "a", batch);
            wrong(&mut transformed);
            let error = planner.plan(transformed, &routes, 0).unwrap_err();
            assert!(matches!(error, Error::Fatal { .. }));
        }
    });
}

#[test]
fn a_failure_for_good_ends_the_session_with_its_own_error() {
    run(async {
        for at_call in [0, 100] {
            let random = Random::seeded(6);
            let stream = ModelStream::new(2, random.clone());
            stream.with(|model| {
                model.faults.fatal = 100;
                model.faults.refused_at_call = at_call;
            });
            let output: hydrant_core::stream::SharedStream = Arc::new(stream.clone());
            let lanes = Lanes::open(
                output,
                Keys::Replaced,
                LaneLimits::default(),
                &context(random),
            )
            .await
            .unwrap();
            let mut session = lanes.session(upstream("a", Position::Begin)).await;
            let planner = session.planner();
            let batch = input(6, "a", 0, 30);
            let routes = planner.routes(&batch);
            let plan = planner.plan(transform(6, "a", batch), &routes, 0).unwrap();
            let sent = session.send(plan).await;
            let error = match sent {
                Err(error) => error,
                Ok(()) => session.drain().await.unwrap_err(),
            };
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            stream.with(|model| model.faults = Faults::default());
            let error = session.drain().await.unwrap_err();
            assert!(error.to_string().contains("the output is gone"), "{error}");
            assert_eq!(session.confirmed(), Position::Begin);
        }
    });
}
