//! What each part of a fence is good for: without it, these fail.

use std::time::Duration;

use hydrant_core::Position;
use hydrant_core::admin::Trim;
use hydrant_core::stream::Read;
use hydrant_testing::disk::{Loss, Moment, Op, SimWorld};

use super::super::fixture::*;
use super::{
    FEW, IN_TIME, MANY, OTHERS, Sender, Stopped, TRIMMED, both, breakpoint, made, names, opened,
    stopped, stored_now,
};

const ENDS: Duration = Duration::from_secs(20);

/// Who waits while another one fences the shard does not wait for as long once more.
#[tokio::test(start_paused = true)]
async fn a_waiter_sees_that_another_one_has_fenced_the_shard() {
    let Stopped {
        world, mut second, ..
    } = stopped(Op::Sync, ".seg", Moment::Before).await;
    let third = opened(&world, "third", 4).await;
    let mut third = Sender::of(third, "third", OTHERS + 500).await;
    let fences = tokio::spawn(async move { second.send(FEW).await.unwrap() });
    hydrant_core::clock::sleep(Duration::from_secs(2)).await;
    assert!(!fences.is_finished());
    let waits = tokio::time::timeout(Duration::from_secs(1), third.send(FEW));
    waits.await.unwrap().unwrap();
    fences.await.unwrap();
}

/// A writer has the answer that its records are stored, a fencer that was on its way marks the shard and dies, and nobody
/// appends any more: those who read see to it that they are given what is stored.
#[tokio::test(start_paused = true)]
async fn readers_complete_a_fence_when_no_process_appends() {
    for waits_already in [true, false] {
        let Stopped {
            world,
            mut second,
            appends,
            ..
        } = stopped(Op::WriteAt, ".seg", Moment::Before).await;
        let stream = opened(&world, "reader", 7).await;
        let mut all = Vec::new();
        let mut waits = None;
        if waits_already {
            let mut reader = reader(&stream, &first(), Position::Begin).await;
            all.extend(read_all(&mut reader).await);
            waits = Some(reader);
        }
        let caught = world.set_breakpoint(breakpoint("second", Op::Open, "/fence", Moment::Before));
        let fences = tokio::spawn(async move { second.send(FEW).await });
        caught.await.unwrap();
        world.resume("first");
        appends.await.unwrap();
        let marked =
            world.set_breakpoint(breakpoint("second", Op::SyncDir, "000000", Moment::Before));
        world.resume("second");
        marked.await.unwrap();
        world.kill("second");
        fences.abort();
        let ends = async {
            let mut parent = match waits {
                Some(reader) => reader,
                None => reader(&stream, &first(), Position::Begin).await,
            };
            loop {
                match parent.next().await.unwrap() {
                    Read::Batch(batch) => all.extend(numbers(&batch)),
                    Read::End { children, .. } => break children,
                    _ => {}
                }
            }
        };
        let children = tokio::time::timeout(ENDS, ends).await;
        assert_eq!(children.expect("a reader waits without end").len(), 1);
        let all = all.into_iter().map(|(_, n)| n).filter(|n| *n < TRIMMED);
        assert_eq!(all.collect::<Vec<_>>(), both(3 * FEW, 0));
    }
}

/// A holder has died when its new segment had a name and the control file did not say so. The next one stands still
/// while it makes that good, is fenced, and wakes up.
#[tokio::test(start_paused = true)]
async fn who_recovers_a_fenced_shard_late_takes_nothing_back() {
    let world = SimWorld::new(1);
    made(&world).await;
    let second = opened(&world, "second", 3).await;
    let mut second = Sender::of(second, "second", OTHERS).await;
    let stream = opened(&world, "first", 2).await;
    let mut sender = Sender::of(stream, "first", 0).await;
    sender.send(FEW).await.unwrap();
    let control = "000000/control";
    let caught = world.set_breakpoint(breakpoint("first", Op::WriteAt, control, Moment::Before));
    let appends = tokio::spawn(async move { sender.send(MANY).await });
    caught.await.unwrap();
    world.kill("first");
    appends.abort();
    let caught = world.set_breakpoint(breakpoint("third", Op::WriteAt, control, Moment::Before));
    let late = world.clone();
    let recovers = tokio::spawn(async move { opened(&late, "third", 5).await });
    caught.await.unwrap();
    second.send(FEW).await.unwrap();
    world.resume("third");
    recovers.await.unwrap();
    assert_eq!(stored_now(&world).await, both(FEW + MANY, FEW));
    world.power_cut(Loss::Everything);
    assert_eq!(stored_now(&world).await, both(FEW + MANY, FEW));
}

/// The holder has died with frames past the durable end. Who takes the lock copies them into the next segment, stands
/// still before it has a name, and is fenced by one that makes the same.
#[tokio::test(start_paused = true)]
async fn a_writer_that_recovers_beside_a_fencer_sends_to_the_child() {
    let Stopped {
        world,
        mut second,
        appends,
        ..
    } = stopped(Op::WriteAt, "000000/control", Moment::Before).await;
    let third = opened(&world, "third", 4).await;
    let mut third = Sender::of(third, "third", OTHERS + 500).await;
    let caught = world.set_breakpoint(breakpoint(
        "third",
        Op::RenameNew,
        "000000/",
        Moment::Before,
    ));
    let recovers = tokio::spawn(async move { third.send(FEW).await });
    world.kill("first");
    appends.abort();
    caught.await.unwrap();
    second.send(FEW).await.unwrap();
    world.resume("third");
    recovers.await.unwrap().unwrap();
    let mut wanted = both(3 * FEW, FEW);
    wanted.extend(OTHERS + 501..=OTHERS + 500 + FEW);
    assert_eq!(stored_now(&world).await, wanted);
}

/// What a fenced holder and a dead fencer leave past the end counts for nothing when the shard is trimmed, and goes.
#[tokio::test(start_paused = true)]
async fn what_lies_past_the_end_goes_with_the_next_trim_and_nothing_else() {
    let world = SimWorld::new(1);
    made(&world).await;
    let second = opened(&world, "second", 3).await;
    let mut second = Sender::of(second, "second", OTHERS).await;
    let stream = opened(&world, "first", 2).await;
    let mut sender = Sender::of(stream, "first", 0).await;
    sender.send(FEW).await.unwrap();
    let before = names(&world, "shards/000000").await;
    let caught = world.set_breakpoint(breakpoint(
        "first",
        Op::RenameNew,
        "000000/",
        Moment::Before,
    ));
    let appends = tokio::spawn(async move { sender.send(MANY).await.unwrap() });
    caught.await.unwrap();
    second.send(FEW).await.unwrap();
    world.resume("first");
    appends.await.unwrap();
    let is_data = |(name, _): &&(String, u64)| name.ends_with(".seg");
    let kept: Vec<_> = before.iter().filter(is_data).cloned().collect();
    let found = names(&world, "shards/000000").await;
    let found: Vec<_> = found.iter().filter(is_data).cloned().collect();
    assert_eq!(found.len(), kept.len() + 1, "{found:?}");
    let bytes = kept.iter().map(|(_, bytes)| bytes).sum();
    let admin = second.stream.admin();
    admin
        .trim(Some(&first()), Trim::ToBytes(bytes))
        .await
        .unwrap();
    let left = names(&world, "shards/000000").await;
    let left: Vec<_> = left.iter().filter(is_data).cloned().collect();
    assert_eq!(left, kept);
    assert_eq!(stored_now(&world).await, both(FEW + MANY, FEW));
}

/// Two fencers copy the same frames; one dies before its copy has a name.
#[tokio::test(start_paused = true)]
async fn what_a_dead_fencer_has_begun_goes_with_the_next_trim() {
    let world = SimWorld::new(1);
    made(&world).await;
    let second = opened(&world, "second", 3).await;
    let mut second = Sender::of(second, "second", OTHERS).await;
    let third = opened(&world, "third", 4).await;
    let mut third = Sender::of(third, "third", OTHERS + 500).await;
    let stream = opened(&world, "first", 2).await;
    let mut sender = Sender::of(stream, "first", 0).await;
    sender.send(FEW).await.unwrap();
    let control = "000000/control";
    let caught = world.set_breakpoint(breakpoint("first", Op::WriteAt, control, Moment::Before));
    let appends = tokio::spawn(async move { sender.send(FEW).await.unwrap() });
    caught.await.unwrap();
    let caught = world.set_breakpoint(breakpoint(
        "third",
        Op::RenameNew,
        "000000/",
        Moment::Before,
    ));
    let fences = tokio::spawn(async move { third.send(FEW).await });
    tokio::time::timeout(IN_TIME, caught)
        .await
        .unwrap()
        .unwrap();
    world.kill("third");
    fences.abort();
    second.send(FEW).await.unwrap();
    world.resume("first");
    appends.await.unwrap();
    let drafts = async || {
        let names = names(&world, "shards/000000").await;
        names
            .iter()
            .filter(|(name, _)| name.ends_with(".tmp"))
            .count()
    };
    assert_eq!(drafts().await, 1);
    let admin = second.stream.admin();
    let nothing = Trim::After(Position::Begin);
    admin.trim(Some(&first()), nothing).await.unwrap();
    assert_eq!(drafts().await, 0);
    assert_eq!(stored_now(&world).await, both(2 * FEW, FEW));
}

/// The power is cut when the manifest says that the shard has ended: its mark must be there as well, or no process asks the
/// manifest.
#[tokio::test(start_paused = true)]
async fn a_shard_that_has_ended_is_marked_also_after_a_power_cut() {
    let Stopped {
        world, mut second, ..
    } = stopped(Op::WriteAt, ".seg", Moment::Before).await;
    second.send(FEW).await.unwrap();
    world.power_cut(Loss::Everything);
    let left = names(&world, "shards/000000").await;
    assert!(left.iter().any(|(name, _)| name == "fence"), "{left:?}");
    let stream = opened(&world, "reader", 7).await;
    let ends = async {
        let mut parent = reader(&stream, &first(), Position::Begin).await;
        while !matches!(parent.next().await.unwrap(), Read::End { .. }) {}
    };
    tokio::time::timeout(ENDS, ends).await.unwrap();
}
