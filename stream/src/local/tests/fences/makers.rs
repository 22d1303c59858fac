//! Processes that make children beside one another: none touches what another one made.

use std::sync::Arc;
use std::time::Duration;

use hydrant_testing::disk::{Moment, Op, Rule, SimWorld};

use super::super::fixture::*;
use super::{
    FEW, OTHERS, Sender, Stopped, URL, both, breakpoint, made, names, opened, stopped, stored_now,
};

/// A fencer that comes too late stands still while it removes its child. Meanwhile the name is taken by another one.
#[tokio::test(start_paused = true)]
async fn a_child_that_took_a_freed_name_is_not_removed() {
    let Stopped {
        world, mut second, ..
    } = stopped(Op::Sync, ".seg", Moment::Before).await;
    let third = opened(&world, "third", 4).await;
    let mut third = Sender::of(third, "third", OTHERS + 500).await;
    // Both fence at once.
    let caught = world.set_breakpoint(breakpoint(
        "second",
        Op::Lock,
        "manifest.lock",
        Moment::Before,
    ));
    let fences = tokio::spawn(async move {
        second.send(FEW).await.unwrap();
        second
    });
    caught.await.unwrap();
    let caught = world.set_breakpoint(breakpoint(
        "third",
        Op::Lock,
        "manifest.lock",
        Moment::Before,
    ));
    let loses = tokio::spawn(async move { third.send(FEW).await.unwrap() });
    caught.await.unwrap();
    world.resume("second");
    let mut second = fences.await.unwrap();
    let removes = breakpoint("third", Op::RemoveDir, "shards/000002", Moment::Before);
    let caught = world.set_breakpoint(removes);
    world.resume("third");
    caught.await.unwrap();
    let admin = second.stream.admin();
    let children = admin.split(&"000001".into(), None).await.unwrap();
    assert!(children.contains(&"000002".into()), "{children:?}");
    second.send(FEW).await.unwrap();
    world.resume("third");
    loses.await.unwrap();
    let mut wanted = both(2 * FEW, 2 * FEW);
    wanted.extend(OTHERS + 501..=OTHERS + 500 + FEW);
    assert_eq!(stored_now(&world).await, wanted);
}

/// A maker stands still between making its child's lock file and locking it, so that the child looks like that of a dead
/// process. It continues while that is removed.
#[tokio::test(start_paused = true)]
async fn a_child_is_not_removed_while_its_maker_goes_on() {
    let world = SimWorld::new(1);
    let context = context_on(world.process("maker").shared(), 1);
    drop(create(URL, options(2), &context).await.unwrap());
    let second = opened(&world, "second", 3).await;
    let third = opened(&world, "third", 4).await;
    let lock = "shards/000002/lock";
    let caught = world.set_breakpoint(breakpoint("third", Op::Lock, lock, Moment::Before));
    let splits = tokio::spawn(async move {
        let admin = third.admin();
        admin.split(&"000001".into(), None).await.unwrap()
    });
    caught.await.unwrap();
    let admin = second.admin();
    let made = admin.split(&first(), None).await.unwrap();
    let caught = world.set_breakpoint(breakpoint("second", Op::Remove, lock, Moment::Before));
    let again = tokio::spawn(async move { admin.split(&made[0], None).await.unwrap() });
    caught.await.unwrap();
    let caught = world.set_breakpoint(breakpoint(
        "third",
        Op::Lock,
        "manifest.lock",
        Moment::Before,
    ));
    world.resume("third");
    caught.await.unwrap();
    world.resume("second");
    again.await.unwrap();
    world.resume("third");
    splits.await.unwrap();
    let stream = opened(&world, "judge", 9).await;
    let map = stream.shards().await.unwrap();
    assert_eq!((map.all().len(), map.open().count()), (8, 5));
    for shard in map.all() {
        assert_eq!(stored(&stream, &shard.id).await, Vec::<u64>::new());
    }
    let writer = stream.writer().await.unwrap();
    for shard in map.open() {
        let here: Vec<u64> = (1..=40)
            .filter(|n| shard.range.contains(route(*n)))
            .collect();
        append(&writer, &shard.id, plain(&here)).await.unwrap();
    }
}

/// There is room for a child, and none for the manifest that would name it.
#[tokio::test(start_paused = true)]
async fn a_child_that_cannot_be_named_is_removed() {
    let Stopped {
        world, mut second, ..
    } = stopped(Op::Sync, ".seg", Moment::Before).await;
    world.fail(Rule {
        kind: std::io::ErrorKind::StorageFull,
        ..Rule::always(Op::WriteAt, "manifest.json")
    });
    let sends = tokio::spawn(async move { second.send(FEW).await.unwrap() });
    hydrant_core::clock::sleep(Duration::from_secs(60)).await;
    assert!(!sends.is_finished());
    let left = names(&world, "shards").await;
    assert!(left.len() < 4, "{left:?}");
    world.heal();
    sends.await.unwrap();
}

/// A manifest whose replacement was not said to be durable may be there all the same: its children stay.
#[tokio::test(start_paused = true)]
async fn a_child_that_may_have_been_named_stays() {
    for moment in [Moment::Before, Moment::After] {
        for (op, path) in [(Op::Rename, "manifest.json"), (Op::SyncDir, "events")] {
            let world = SimWorld::new(1);
            made(&world).await;
            let second = opened(&world, "second", 3).await;
            let caught = world.set_breakpoint(breakpoint(
                "second",
                Op::Lock,
                "manifest.lock",
                Moment::Before,
            ));
            let stream = Arc::clone(&second);
            let splits = tokio::spawn(async move {
                let admin = stream.admin();
                drop(admin.split(&first(), None).await);
            });
            caught.await.unwrap();
            world.fail(Rule {
                moment,
                ..Rule::once(op, path)
            });
            world.resume("second");
            splits.await.unwrap();
            world.heal();
            let stream = opened(&world, "judge", 9).await;
            let mut sender = Sender::of(stream, "judge", 0).await;
            sender.send(FEW).await.unwrap();
            assert_eq!(stored_now(&world).await, both(FEW, 0), "{op:?} {moment:?}");
        }
    }
}
