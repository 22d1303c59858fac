//! Fences beside other troubles: a full disk, a slow one, damaged data, late fencers.

use std::time::Duration;

use bytes::Bytes;
use hydrant_core::admin::Trim;
use hydrant_core::disk::{Disk, Open};
use hydrant_core::{Error, Position, Workers};
use hydrant_testing::disk::{Moment, Op, SimWorld};

use super::super::fixture::*;
use super::{FEW, OTHERS, Sender, Stopped, URL, breakpoint, made, names, opened, stopped};

/// A fence that copies frames begins a segment, and there is no room for it.
#[tokio::test(start_paused = true)]
async fn fences_on_a_full_disk_leave_no_drafts() {
    let world = SimWorld::new(1);
    made(&world).await;
    let second = opened(&world, "second", 3).await;
    let mut second = Sender::of(second, "second", OTHERS).await;
    let stream = opened(&world, "first", 2).await;
    let mut sender = Sender::of(stream, "first", 0).await;
    sender.send(FEW).await.unwrap();
    let control = "000000/control";
    let caught = world.set_breakpoint(breakpoint("first", Op::WriteAt, control, Moment::Before));
    let _appends = tokio::spawn(async move { sender.send(FEW).await.unwrap() });
    caught.await.unwrap();
    world.set_quota(Some(world.used_bytes() + 300));
    let sends = tokio::spawn(async move { second.send(FEW).await.unwrap() });
    hydrant_core::clock::sleep(Duration::from_secs(30)).await;
    assert!(!sends.is_finished());
    let mut left = names(&world, "shards/000000").await;
    left.retain(|(name, _)| name.ends_with(".tmp"));
    assert!(left.len() < 2, "{left:?}");
    world.set_quota(None);
    sends.await.unwrap();
}

/// A frame is damaged, so that no process can close a marked shard before it is repaired.
#[tokio::test(start_paused = true)]
async fn a_damaged_shard_that_is_half_fenced_is_repaired() {
    let Stopped {
        world,
        mut second,
        appends,
        ..
    } = stopped(Op::Sync, ".seg", Moment::Before).await;
    let mut segments = names(&world, "shards/000000").await;
    segments.retain(|(name, _)| name.ends_with(".seg"));
    let probe = world.process("probe");
    let shard = home(&probe, "/data/events").await.join("shards/000000");
    let path = shard.join(&segments.last().unwrap().0);
    let file = probe.open(&path, Open::Write).await.unwrap();
    let bytes = file.read_at(0, 1 << 20).await.unwrap();
    let frames = bytes.windows(4).enumerate().filter(|(_, w)| *w == b"HYDf");
    let frames: Vec<u64> = frames.map(|(at, _)| at as u64).collect();
    // The last one was never durable.
    let hit = frames[frames.len() - 2] + 20;
    let wrong = Bytes::from_static(&[0xff; 4]);
    file.write_at(hit, vec![wrong]).await.unwrap();
    file.sync().await.unwrap();
    let refused = second.send(FEW).await.unwrap_err();
    assert!(refused.to_string().contains("repair"), "{refused}");
    world.kill("first");
    appends.abort();
    let stream = opened(&world, "operator", 5).await;
    let unread = match opened_after(&stream, &first(), Position::Begin).await {
        Ok(mut reader) => loop {
            match reader.next().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        },
        Err(error) => error,
    };
    assert!(matches!(unread, Error::Corrupt { .. }), "{unread}");
    let lost = stream.admin().repair(&first()).await.unwrap();
    assert_eq!(lost.len(), 1, "{lost:?}");
    let mut others = Sender::of(stream, "second", OTHERS).await;
    others.send(FEW).await.unwrap();
}

/// A fencer that has only made the mark comes back when others have closed the shard and all of it was removed.
#[tokio::test(start_paused = true)]
async fn a_late_fencer_of_a_shard_that_was_trimmed_sends_to_the_child() {
    let Stopped {
        world,
        mut second,
        appends,
        ..
    } = stopped(Op::Sync, ".seg", Moment::Before).await;
    let third = opened(&world, "third", 4).await;
    let mut third = Sender::of(third, "third", OTHERS + 500).await;
    let caught = world.set_breakpoint(breakpoint(
        "third",
        Op::SyncDir,
        "shards/000000",
        Moment::After,
    ));
    let late = tokio::spawn(async move { third.send(FEW).await });
    caught.await.unwrap();
    second.send(FEW).await.unwrap();
    world.resume("first");
    appends.await.unwrap();
    let admin = second.stream.admin();
    admin.trim(Some(&first()), Trim::ToBytes(0)).await.unwrap();
    world.resume("third");
    late.await.unwrap().unwrap();
}

/// No process can close a marked shard while the manifest's lock is stuck: those that only look do not try again and again.
#[tokio::test(start_paused = true)]
async fn a_reader_makes_no_children_while_the_manifest_is_held() {
    let Stopped {
        world, mut second, ..
    } = stopped(Op::Sync, ".seg", Moment::Before).await;
    let caught = world.set_breakpoint(breakpoint(
        "second",
        Op::Rename,
        "manifest.json",
        Moment::Before,
    ));
    let fences = tokio::spawn(async move { second.send(FEW).await.unwrap() });
    caught.await.unwrap();
    let mut makes = world.set_breakpoint(breakpoint(
        "reader",
        Op::Open,
        "shards/000002",
        Moment::Before,
    ));
    let stream = opened(&world, "reader", 7).await;
    let mut reader = reader(&stream, &first(), Position::Begin).await;
    for _ in 0..20 {
        drop(reader.next().await.unwrap());
    }
    assert!(makes.try_recv().is_err(), "it has made a child");
    world.resume("second");
    fences.await.unwrap();
}

/// What is left of an append that is stored in part is encoded under the shard's lock, which others wait for.
#[tokio::test(start_paused = true)]
async fn an_append_that_is_stored_in_part_waits_for_no_worker() {
    let world = SimWorld::new(1);
    made(&world).await;
    let mut context = context_on(world.process("busy").shared(), 2);
    context.workers = Workers::threads(1).unwrap();
    let stream = open(URL, &context).await.unwrap();
    let (writer, shard) = (stream.writer().await.unwrap(), first());
    append(&writer, &shard, interval("w", 0, 0, 6))
        .await
        .unwrap();
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let workers = context.workers.clone();
    let job = tokio::spawn(async move { workers.run(move || gate.recv()).await });
    let wait = Duration::from_secs(10);
    let part = append(&writer, &shard, interval("w", 0, 0, 9));
    let part = tokio::time::timeout(wait, part).await.unwrap().unwrap();
    assert_eq!(part.duplicates, 6);
    drop(release);
    assert!(job.await.unwrap().unwrap().is_err());
}
