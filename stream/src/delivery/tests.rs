//! Sessions against streams in memory, and what they send.

mod claims;
mod found;
mod room;
mod routes;
mod simulation;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::batch::{AccountOf, AccountSpan, Entry, RunBuilder, Span, Step};
use hydrant_core::origin::{Account, DeadLetter, Dropped, WriterId};
use hydrant_core::subscription::ClaimId;
use hydrant_core::transform::Transformed;
use hydrant_core::{
    Batch, Budget, Context, Error, Position, Random, Sequence, Shard, StreamId, Workers,
};

use hydrant_core::stream::{SharedStream, Stream};
use hydrant_testing::clock::ManualClock;
use hydrant_testing::memory::{MemoryStream, StreamFaults, StreamTraits, Withheld};

use self::found::{FoundRecords, check};
use super::session::LaneSession;
use super::{Keys, LaneLimits, Lanes, Session, Upstream};

const STREAM: &str = "in";
const HOUR: Duration = Duration::from_secs(3600);

/// What a stream of small appends and records says of itself.
pub(super) fn small() -> StreamTraits {
    StreamTraits {
        record_bytes_max: 200,
        append_bytes_target: 300,
        ..StreamTraits::default()
    }
}

/// A log that checks origins.
pub(super) fn log(shards: u32, random: Random) -> MemoryStream {
    let clock = Arc::new(ManualClock::new(1));
    let stream = MemoryStream::checking("out", shards, clock, random);
    stream.set_traits(small());
    stream
}

/// A log whose readers drop copies.
pub(super) fn storing_log(shards: u32, random: Random) -> MemoryStream {
    let clock = Arc::new(ManualClock::new(1));
    let stream = MemoryStream::storing("out", shards, clock, random);
    stream.set_traits(small());
    stream
}

/// Splits an open shard in the middle, or merges two neighbours.
pub(super) async fn reshard(stream: &MemoryStream, random: &Random) {
    let states = stream.states().await.unwrap().into_iter();
    let mut open: Vec<Shard> = states.map(|state| state.shard).collect();
    open.retain(|shard| !shard.closed);
    open.sort_by_key(|shard| shard.range.first);
    let admin = stream.admin();
    let at = random.below(open.len() as u64) as usize;
    if open.len() > 1 && random.below(2) == 0 {
        let at = at.min(open.len() - 2);
        admin.merge(&open[at].id, &open[at + 1].id).await.unwrap();
    } else if open.len() < 10 {
        admin.split(&open[at].id, None).await.unwrap();
    }
}

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
    /// No record: an account from further upstream with some dead letters and two drops.
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
                    dead_letters: (0..LETTERS)
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
                out.dead_letters.push((index, letter));
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

pub(super) const UNITS: u64 = 120;

pub(super) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
}

async fn lanes(
    output: &MemoryStream,
    keys: Keys,
    context: &Context,
) -> hydrant_core::Result<Lanes> {
    let output: SharedStream = Arc::new(output.clone());
    Lanes::open(output, keys, LaneLimits::default(), context).await
}

/// A log that checks, and a session into it from the beginning of `a`.
async fn log_and_session(shards: u32, seed: u64) -> (MemoryStream, LaneSession) {
    let random = Random::seeded(seed);
    let stream = log(shards, random.clone());
    let lanes = lanes(&stream, Keys::Replaced, &context(random))
        .await
        .unwrap();
    let session = lanes.session(upstream("a", Position::Begin)).await;
    (stream, session)
}

#[test]
fn one_seed_run_twice_gives_the_same_log() {
    let log = |seed| {
        let mut records = Vec::new();
        run(async {
            let (stream, mut session) = log_and_session(3, seed).await;
            let random = Random::seeded(seed);
            for at in 0..10 {
                reshard(&stream, &random).await;
                send(&mut session, seed, "a", at * 10, at * 10 + 10).await;
            }
            session.drain().await.unwrap();
            records = FoundRecords::read(&stream).await.records;
        });
        records
    };
    assert_eq!(log(5), log(5));
}

#[test]
fn a_shard_that_gets_nothing_from_a_batch_takes_the_next_one() {
    run(async {
        let (stream, mut session) = log_and_session(8, 1).await;
        for sequence in 0..UNITS {
            send(&mut session, 1, "a", sequence, sequence + 1).await;
            session.skip(Position::offset(sequence));
        }
        let to = session.drain().await.unwrap();
        assert_eq!(to, Position::offset(UNITS - 1));
        session.skip(Position::offset(UNITS + 5));
        let to = session.progress().await.unwrap();
        assert_eq!(to, Position::offset(UNITS + 5));
        check(&stream, 1, [UNITS, 0]).await;
    });
}

#[test]
fn what_is_unconfirmed_is_bounded() {
    run(async {
        let random = Random::seeded(2);
        let stream = log(2, random.clone());
        stream.set_faults(StreamFaults {
            full: 100,
            ..StreamFaults::default()
        });
        let output: SharedStream = Arc::new(stream.clone());
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
        assert!(tokio::time::timeout(HOUR, sending).await.is_err());
        assert_eq!(session.confirmed(), Position::Begin);
        stream.set_faults(StreamFaults::default());
        let to = session.drain().await.unwrap();
        assert!(to > Position::Begin);
        check(&stream, 2, [to.next_offset().unwrap(), 0]).await;
    });
}

/// Of sessions that need more memory than there is, one at a time overdraws. Its turn ends with its send.
#[test]
fn a_session_that_overdraws_lets_the_next_one_do_so() {
    run(async {
        let random = Random::seeded(3);
        let stream = log(2, random.clone());
        // What is sent is stored at the second or third try.
        stream.set_faults(StreamFaults {
            lost: 60,
            slow: 100,
            ..StreamFaults::default()
        });
        let context = context(random);
        let lanes = lanes(&stream, Keys::Replaced, &context).await.unwrap();
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
        assert!(tokio::time::timeout(HOUR, sending).await.is_ok());
        check(&stream, 3, [20, 20]).await;
    });
}

#[test]
fn a_transform_that_loses_count_is_refused_before_anything_is_sent() {
    run(async {
        let (_, session) = log_and_session(2, 3).await;
        let planner = session.planner();
        let wrongs: [fn(&mut Transformed); 4] = [
            |t| t.input -= 1,
            |t| drop(t.dead_letters.pop().unwrap()),
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
        for (at_call, tends) in [(0, false), (100, false), (0, true)] {
            let (stream, mut session) = log_and_session(2, 6).await;
            stream.set_faults(StreamFaults {
                fatal: 100,
                refused_at_call: at_call,
                slow: 100,
                ..StreamFaults::default()
            });
            let planner = session.planner();
            let batch = input(6, "a", 0, 30);
            let routes = planner.routes(&batch);
            let plan = planner.plan(transform(6, "a", batch), &routes, 0).unwrap();
            let sent = session.send(plan).await;
            if tends {
                // The next call reports what fails meanwhile.
                let tending = tokio::time::timeout(HOUR, session.tend());
                assert!(tending.await.is_err());
            }
            let error = match sent {
                Err(error) => error,
                Ok(()) => session.drain().await.unwrap_err(),
            };
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            stream.set_faults(StreamFaults::default());
            let error = session.drain().await.unwrap_err();
            assert!(error.to_string().contains("the output is gone"), "{error}");
            assert_eq!(session.confirmed(), Position::Begin);
        }
    });
}

#[test]
fn what_waits_for_room_is_handed_on_while_nothing_is_pushed() {
    run(async {
        let (stream, mut session) = log_and_session(1, 7).await;
        let only = stream.shards().await.unwrap().all()[0].id.clone();
        stream.withhold(Some((only, Withheld::Room)));
        send(&mut session, 7, "a", 0, 10).await;
        assert!(tokio::time::timeout(HOUR, session.tend()).await.is_err());
        stream.withhold(None);
        let moment = Duration::from_millis(50);
        assert!(tokio::time::timeout(moment, session.tend()).await.is_err());
        check(&stream, 7, [10, 0]).await;
        assert_eq!(session.confirmed(), Position::offset(9));
    });
}
