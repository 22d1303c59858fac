//! What sessions hand in, to whom and when: claims, checkpoints, and the order between a shard and its children.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::batch::{Entry, RunBuilder, Span, Step};
use hydrant_core::clock;
use hydrant_core::marks::TagEntry;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::stream::{SharedStream, Stream};
use hydrant_core::{Batch, HashRange, Position, Random, Sequence, ShardId};

use hydrant_testing::memory::{MemoryStream, Withheld};

use super::{context, log, run, storing_log, upstream};
use crate::delivery::session::LaneSession;
use crate::delivery::{Keys, LaneLimits, Lanes, Session};

/// More than an answer takes.
const ANSWERED: Duration = Duration::from_millis(100);

async fn session(stream: &MemoryStream, after: Position) -> LaneSession {
    let output: SharedStream = Arc::new(stream.clone());
    let context = context(Random::seeded(2));
    let lanes = Lanes::open(output, Keys::Replaced, LaneLimits::default(), &context);
    let lanes = lanes.await.unwrap();
    lanes.session(upstream("a", after)).await
}

/// What the last append in this shard says of its origin.
fn last(stream: &MemoryStream, shard: &str) -> TagEntry {
    let mut tags = stream.tags(&shard.into());
    tags.pop().unwrap()
}

/// From where it claims each range.
fn claims(tag: &TagEntry) -> Vec<(HashRange, Position)> {
    let claims = tag.claims.iter();
    claims.map(|claim| (claim.range, claim.from)).collect()
}

/// How many records a shard of a log that checks has.
async fn stored(stream: &MemoryStream, shard: &str) -> u64 {
    let state = stream.state(&shard.into()).await;
    state.map_or(0, |state| state.records.unwrap())
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

/// A session from the beginning into a log, which checks or leaves copies to its readers, of so many shards.
async fn world(checks: bool, shards: u32) -> (MemoryStream, Vec<HashRange>, LaneSession) {
    let stream = match checks {
        true => log(shards, Random::seeded(1)),
        false => storing_log(shards, Random::seeded(1)),
    };
    let session = session(&stream, Position::Begin).await;
    (stream, HashRange::even(shards), session)
}

fn claim(range: HashRange, from: u64) -> (HashRange, Position) {
    (range, Position::offset(from))
}

async fn merge(stream: &MemoryStream) {
    let admin = stream.admin();
    let [a, b] = ["000001", "000002"].map(ShardId::from);
    admin.merge(&a, &b).await.unwrap();
}

/// Whether a test kills a broken variant.
fn kills<T: Future<Output = ()>>(broken: Mutant, test: impl FnOnce() -> T) -> bool {
    let playing = std::panic::AssertUnwindSafe(|| run(test()));
    mutant::with(Some(broken), || std::panic::catch_unwind(playing).is_err())
}

async fn each_part_of_a_merged_shard_has_its_own_claim() {
    let (stream, halves, mut session) = world(false, 2).await;
    send(&mut session, halves[0].first, 0, 3).await;
    send(&mut session, halves[1].first, 3, 6).await;
    session.drain().await.unwrap();
    merge(&stream).await;
    // The merged shard takes it for its parent, and the session learns of it.
    send(&mut session, halves[1].last, 6, 9).await;
    assert_eq!(session.drain().await.unwrap(), Position::offset(8));
    assert_eq!(claims(&last(&stream, "000003")), [claim(halves[1], 5)]);
    send(&mut session, halves[1].last, 9, 12).await;
    session.drain().await.unwrap();
    let of_each = [claim(halves[0], 2), claim(halves[1], 8)];
    assert_eq!(claims(&last(&stream, "000003")), of_each);
    // From here on the shard is one.
    send(&mut session, 0, 12, 13).await;
    session.drain().await.unwrap();
    let of_all = [claim(HashRange::ALL, 11)];
    assert_eq!(claims(&last(&stream, "000003")), of_all);
}

#[test]
fn claims_are_never_the_least_over_a_merged_range() {
    run(each_part_of_a_merged_shard_has_its_own_claim());
    assert!(kills(
        Mutant::LeastFrom,
        each_part_of_a_merged_shard_has_its_own_claim
    ));
}

async fn what_a_child_took_counts_in_its_range() {
    let (stream, _, mut session) = world(false, 1).await;
    send(&mut session, 0, 0, 3).await;
    session.drain().await.unwrap();
    let admin = stream.admin();
    admin.split(&"000001".into(), None).await.unwrap();
    let halves = HashRange::even(2);
    // All of it lies in the lower child, which takes it for its parent.
    send(&mut session, halves[0].last, 3, 6).await;
    assert_eq!(session.drain().await.unwrap(), Position::offset(5));
    assert_eq!(claims(&last(&stream, "000002")), [claim(HashRange::ALL, 2)]);
    send(&mut session, halves[1].first, 6, 9).await;
    session.drain().await.unwrap();
    assert_eq!(
        claims(&last(&stream, "000003")),
        [claim(halves[1], 2)],
        "nothing of it was read there"
    );
    send(&mut session, 0, 9, 12).await;
    session.drain().await.unwrap();
    assert_eq!(claims(&last(&stream, "000002")), [claim(halves[0], 5)]);
}

#[test]
fn what_another_shard_took_counts_in_its_range_alone() {
    run(what_a_child_took_counts_in_its_range());
    assert!(kills(
        Mutant::CreditBeyondShard,
        what_a_child_took_counts_in_its_range
    ));
}

async fn a_child_waits_for_what_is_under_way() {
    let (stream, halves, mut session) = world(true, 2).await;
    stream.withhold(Some(("000001".into(), Withheld::Answers)));
    send(&mut session, halves[0].first, 0, 3).await;
    work(&mut session).await;
    merge(&stream).await;
    send(&mut session, halves[1].first, 3, 6).await;
    work(&mut session).await;
    assert_eq!(
        stored(&stream, "000003").await,
        0,
        "something may overtake what is under way to a parent"
    );
    // What is sent meanwhile is routed by the map of before, and waits as well.
    send(&mut session, halves[0].last, 6, 9).await;
    work(&mut session).await;
    let waits = (stored(&stream, "000003").await, session.confirmed());
    assert_eq!(waits, (0, Position::Begin));
    stream.withhold(None);
    assert_eq!(session.drain().await.unwrap(), Position::offset(8));
    assert_eq!(stored(&stream, "000003").await, 6);
}

#[test]
fn a_child_gets_nothing_while_something_is_under_way_to_its_parent() {
    run(a_child_waits_for_what_is_under_way());
    assert!(kills(
        Mutant::NewLaneBesideOld,
        a_child_waits_for_what_is_under_way
    ));
}

/// At the end of its shard an origin ends in each shard that the session wrote into, behind everything of it.
#[test]
fn an_origin_ends_in_the_shards_that_have_it() {
    run(async {
        let (stream, thirds, mut session) = world(false, 3).await;
        send(&mut session, thirds[0].first, 0, 3).await;
        send(&mut session, thirds[1].first, 3, 6).await;
        session.end().await.unwrap();
        assert_eq!(session.drain().await.unwrap(), Position::offset(5));
        for (shard, range, from) in [("000001", thirds[0], 2), ("000002", thirds[1], 5)] {
            let end = last(&stream, shard);
            assert_eq!(claims(&end), [claim(range, from)]);
            assert_eq!(end.claims[0].to, Position::End);
        }
        assert!(stream.tags(&"000003".into()).is_empty());
    });
}

/// A shard that ends without a record has no lane, and nothing to wait for.
#[test]
fn the_end_of_an_empty_shard_waits_for_nothing() {
    run(async {
        let (_, _, mut session) = world(false, 2).await;
        session.end().await.unwrap();
        assert!(session.is_idle());
    });
}

#[test]
fn a_shard_without_room_holds_up_its_own_lane_alone() {
    run(async {
        let (stream, halves, mut session) = world(true, 2).await;
        stream.withhold(Some(("000001".into(), Withheld::Room)));
        let sending = async {
            for n in 0..20 {
                let half = halves[n as usize % 2];
                send(&mut session, half.first, n, n + 1).await;
            }
            work(&mut session).await;
        };
        let sent = tokio::time::timeout(Duration::from_secs(60), sending).await;
        sent.expect("a session waits for one shard alone");
        assert_eq!(stored(&stream, "000001").await, 0);
        assert_eq!(stored(&stream, "000002").await, 10);
        assert_eq!(session.confirmed(), Position::Begin);
        stream.withhold(None);
        assert_eq!(session.drain().await.unwrap(), Position::offset(19));
        assert_eq!(stored(&stream, "000001").await, 10);
        assert_eq!(stored(&stream, "000002").await, 10);
    });
}

async fn a_checkpoint_ages() {
    let (stream, _, mut first) = world(false, 1).await;
    send(&mut first, 0, 0, 10).await;
    let after = first.drain().await.unwrap();
    let mut session = session(&stream, after).await;
    send(&mut session, 0, 10, 13).await;
    session.drain().await.unwrap();
    assert_eq!(
        last(&stream, "000001").low,
        None,
        "it may be not placed yet"
    );
    clock::sleep(Duration::from_secs(5)).await;
    send(&mut session, 0, 13, 16).await;
    session.drain().await.unwrap();
    assert_eq!(last(&stream, "000001").low, Some(after));
}

#[test]
fn a_checkpoint_is_claimed_when_it_is_old() {
    run(a_checkpoint_ages());
    assert!(kills(Mutant::StartAsLow, a_checkpoint_ages));
    assert!(kills(Mutant::NewestAsLow, a_checkpoint_ages));
}
