//! What sessions hand in, to whom and when: claims, checkpoints, and the order between a shard and its children.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::batch::{Entry, RunBuilder, Span, Step};
use hydrant_core::clock;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::{ClaimedRange, SharedStream};
use hydrant_core::{Batch, HashRange, Position, Random, Sequence, ShardId};

use super::model::{HandedIn, ModelStream};
use super::session::LaneSession;
use super::tests::{context, run, upstream};
use super::{Keys, LaneLimits, Lanes, Session};

/// More than an answer takes.
const ANSWERED: Duration = Duration::from_millis(100);

async fn session(stream: &ModelStream, after: Position) -> LaneSession {
    let output: SharedStream = Arc::new(stream.clone());
    let context = context(Random::seeded(2));
    let lanes = Lanes::open(output, Keys::Replaced, LaneLimits::default(), &context);
    let lanes = lanes.await.unwrap();
    lanes.session(upstream("a", after)).await
}

fn last(stream: &ModelStream) -> HandedIn {
    stream
        .with(|model| model.handed_in.last().cloned())
        .unwrap()
}

/// Lets a session work for a while without an end to wait for.
async fn work(session: &mut LaneSession) {
    for _ in 0..20 {
        session.progress().await.unwrap();
        clock::sleep(ANSWERED / 20).await;
    }
    session.progress().await.unwrap();
}

/// Sends records of one hash at these upstream positions.
async fn send(session: &mut LaneSession, hash: u128, from: u64, end: u64) {
    let mut runs = RunBuilder::default();
    (from..end).for_each(|n| runs.push(Sequence::from(n), 0, Step::Sequence, 0));
    let empty = Entry {
        segment: 0,
        key: None,
        payload: Span::default(),
        stamp: 0,
    };
    let records = (end - from) as usize;
    let batch = Batch {
        segments: Arc::from([Bytes::new()]),
        records: vec![empty; records],
        runs: runs.finish(),
        hashes: vec![hash; records],
        to: Position::offset(end - 1),
        ..Batch::default()
    };
    let planner = session.planner();
    session
        .send(planner.plan_records(batch).unwrap())
        .await
        .unwrap();
}

/// Everything of the model is in `numbers` shards; answers these, with a session from the beginning.
async fn world(numbers: u32) -> (ModelStream, Vec<HashRange>, LaneSession) {
    let stream = ModelStream::new(numbers, Random::seeded(1));
    let session = session(&stream, Position::Begin).await;
    (stream, HashRange::even(numbers), session)
}

fn claim(range: HashRange, from: u64) -> ClaimedRange {
    ClaimedRange {
        range,
        from: Position::offset(from),
    }
}

/// Whether a test falls with a broken variant.
fn falls<T: Future<Output = ()>>(broken: Mutant, test: impl FnOnce() -> T) -> bool {
    let playing = std::panic::AssertUnwindSafe(|| run(test()));
    mutant::with(Some(broken), || std::panic::catch_unwind(playing).is_err())
}

async fn each_part_of_a_merged_shard_has_its_own_claim() {
    let (stream, halves, mut session) = world(2).await;
    send(&mut session, halves[0].first, 0, 3).await;
    send(&mut session, halves[1].first, 3, 6).await;
    session.drain().await.unwrap();
    stream.with(|model| model.merge(0));
    send(&mut session, halves[1].last, 6, 9).await;
    assert_eq!(session.drain().await.unwrap(), Position::offset(8));
    let handed = last(&stream);
    assert_eq!(handed.shard, ShardId::from("0002"));
    assert_eq!(handed.claims, [claim(halves[0], 2), claim(halves[1], 5)]);
    // From here on the shard is one.
    send(&mut session, 0, 9, 10).await;
    session.drain().await.unwrap();
    assert_eq!(last(&stream).claims, [claim(HashRange::ALL, 8)]);
}

#[test]
fn claims_are_never_the_least_over_a_merged_range() {
    run(each_part_of_a_merged_shard_has_its_own_claim());
    assert!(falls(
        Mutant::LeastFrom,
        each_part_of_a_merged_shard_has_its_own_claim
    ));
}

async fn what_a_child_took_counts_in_its_range() {
    let (stream, _, mut session) = world(1).await;
    send(&mut session, 0, 0, 3).await;
    session.drain().await.unwrap();
    stream.with(|model| {
        model.split(0);
        model.children_take = true;
    });
    let halves = HashRange::even(2);
    // All of it lies in the lower child, which takes it for its parent.
    send(&mut session, halves[0].last, 3, 6).await;
    assert_eq!(session.drain().await.unwrap(), Position::offset(5));
    assert_eq!(last(&stream).shard, ShardId::from("0000"));
    send(&mut session, halves[1].first, 6, 9).await;
    session.drain().await.unwrap();
    let handed = last(&stream);
    assert_eq!(handed.shard, ShardId::from("0002"));
    assert_eq!(
        handed.claims,
        [claim(halves[1], 2)],
        "nothing of it was read there"
    );
    send(&mut session, 0, 9, 12).await;
    session.drain().await.unwrap();
    assert_eq!(last(&stream).claims, [claim(halves[0], 5)]);
    stream.with(|model| {
        assert_eq!(
            model.shards.iter().map(|one| one.log.len()).sum::<usize>(),
            12
        )
    });
}

#[test]
fn what_another_shard_took_counts_in_its_range_alone() {
    run(what_a_child_took_counts_in_its_range());
    assert!(falls(
        Mutant::CreditBeyondShard,
        what_a_child_took_counts_in_its_range
    ));
}

async fn a_child_waits_for_what_is_under_way() {
    let (stream, halves, mut session) = world(2).await;
    stream.with(|model| model.silent_shard = Some("0000".into()));
    send(&mut session, halves[0].first, 0, 3).await;
    work(&mut session).await;
    stream.with(|model| model.merge(0));
    send(&mut session, halves[1].first, 3, 6).await;
    work(&mut session).await;
    let to_child = || {
        stream.with(|model| {
            let handed = model.handed_in.iter();
            handed
                .filter(|one| one.shard == ShardId::from("0002"))
                .count()
        })
    };
    assert_eq!(
        to_child(),
        0,
        "something may overtake what is under way to a parent"
    );
    // What is sent meanwhile is routed by the map of before, and waits as well.
    send(&mut session, halves[0].last, 6, 9).await;
    work(&mut session).await;
    assert_eq!((to_child(), session.confirmed()), (0, Position::Begin));
    stream.with(|model| model.silent_shard = None);
    assert_eq!(session.drain().await.unwrap(), Position::offset(8));
    assert_eq!(to_child(), 2);
}

#[test]
fn a_child_gets_nothing_while_something_is_under_way_to_its_parent() {
    run(a_child_waits_for_what_is_under_way());
    assert!(falls(
        Mutant::NewLaneBesideOld,
        a_child_waits_for_what_is_under_way
    ));
}

#[test]
fn a_shard_without_room_holds_up_its_own_lane_alone() {
    run(async {
        let (stream, halves, mut session) = world(2).await;
        stream.with(|model| model.full_shard = Some("0000".into()));
        let sending = async {
            for n in 0..20 {
                let half = halves[n as usize % 2];
                send(&mut session, half.first, n, n + 1).await;
            }
            work(&mut session).await;
        };
        let sent = tokio::time::timeout(Duration::from_secs(60), sending).await;
        sent.expect("a session waits for one shard alone");
        let stored = |n: usize| stream.with(|model| model.shards[n].log.len());
        assert_eq!((stored(0), stored(1)), (0, 10));
        assert_eq!(session.confirmed(), Position::Begin);
        stream.with(|model| model.full_shard = None);
        assert_eq!(session.drain().await.unwrap(), Position::offset(19));
        assert_eq!((stored(0), stored(1)), (10, 10));
    });
}

async fn a_checkpoint_ages() {
    let (stream, _, mut first) = world(1).await;
    send(&mut first, 0, 0, 10).await;
    let after = first.drain().await.unwrap();
    stream.with(|model| model.reorders_within = Duration::from_secs(5));
    let mut session = session(&stream, after).await;
    send(&mut session, 0, 10, 13).await;
    session.drain().await.unwrap();
    assert_eq!(
        last(&stream).low,
        Position::Begin,
        "it may be not placed yet"
    );
    clock::sleep(Duration::from_secs(5)).await;
    send(&mut session, 0, 13, 16).await;
    session.drain().await.unwrap();
    assert_eq!(last(&stream).low, after);
}

#[test]
fn a_checkpoint_is_claimed_when_it_is_old() {
    run(a_checkpoint_ages());
    assert!(falls(Mutant::StartAsLow, a_checkpoint_ages));
    assert!(falls(Mutant::NewestAsLow, a_checkpoint_ages));
}
