//! Uploads under way: how many at once, how often a file is encoded for them, and what is left of them.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::clock;
use hydrant_core::stage::{Flush, ShardStage, Stage as _};
use hydrant_core::stream::Read;
use hydrant_testing::disk::{Op, Rule, SimWorld};
use hydrant_testing::memory::MemoryLake;

use super::beside::{PUT, push};
use super::fault::columns_encoded;
use super::owners::{OwnersPlan, all_vanished, between};
use super::slow_lake::{Events, LakeEvent, slowed};
use super::support::*;
use crate::lake::requests::{REVEALS_MAX, UPLOADS_MAX};
use crate::verify::{Depth, verify};

/// A process whose lake in memory takes its time for each write, put and reveal.
async fn in_memory(world: &SimWorld) -> (SinkProcess, Events) {
    let mut process = ProcessSetup::named(world, "a").run().await.unwrap();
    process.lake = Arc::new(MemoryLake::new());
    let events = slowed(&mut process, PUT).await;
    (process, events)
}

/// Records of as many days, which become as many files.
async fn push_days(shard: &mut Box<dyn ShardStage>, first: u64, days: u64) {
    let day = |n: u64| {
        let (month, day) = (1 + n / 28, 1 + n % 28);
        format!("{{\"n\":{n},\"time\":\"2026-{month:02}-{day:02}T10:00:00Z\"}}")
    };
    let records: Vec<String> = (0..days).map(day).collect();
    let batch = batch(first, &records);
    shard.push(Read::Batch(batch)).await.unwrap();
}

/// The most uploads and the most reveals at a time.
fn most_at_once(events: &[LakeEvent]) -> (usize, usize) {
    let (mut uploads, mut reveals, mut most) = (0, 0, (0, 0));
    for event in events {
        match event {
            LakeEvent::Began(_) => uploads += 1,
            LakeEvent::Wrote(..) => uploads -= 1,
            LakeEvent::Revealing(_) => reveals += 1,
            LakeEvent::Revealed(_) => reveals -= 1,
            _ => {}
        }
        most = (uploads.max(most.0), reveals.max(most.1));
    }
    most
}

/// Latency is paid once for many files, up to the number of requests that all shards share.
#[tokio::test(start_paused = true)]
async fn the_files_of_all_intervals_are_uploaded_together() {
    const FILES: u64 = 64;
    for shards in 1..=2 {
        let world = world(1);
        let (process, events) = in_memory(&world).await;
        let mut claimed = Vec::new();
        for n in 0..shards {
            let (mut shard, _) = process.claim(&format!("{n:06}")).await.unwrap();
            push_days(&mut shard, 0, FILES).await;
            claimed.push(shard);
        }
        let publishes = claimed.iter_mut().map(|shard| shard.publish(Flush::Drain));
        for progress in futures::future::join_all(publishes).await {
            progress.unwrap();
        }
        assert_eq!(most_at_once(&events.all()), (UPLOADS_MAX, REVEALS_MAX));
        let report = verify(&process.lake, &names(), Depth::default()).await;
        let report = report.unwrap();
        assert!(report.is_good(), "{report:?}");
        assert_eq!(report.units.rows, shards * FILES);
    }
}

/// A record is visible as soon as its own files are: the uploads of other shards are not before it.
#[tokio::test(start_paused = true)]
async fn a_reveal_waits_for_no_upload() {
    let world = world(1);
    let (process, events) = in_memory(&world).await;
    let (mut quick, _) = process.claim("quick").await.unwrap();
    // The schema and the spec are in the lake from here on.
    for first in 0..2 {
        push_days(&mut quick, first, 1).await;
        quick.publish(Flush::Drain).await.unwrap();
    }
    push_days(&mut quick, 2, 1).await;
    let mut others = Vec::new();
    for n in 0..6 {
        let (mut shard, _) = process.claim(&format!("{n:06}")).await.unwrap();
        push_days(&mut shard, 0, 64).await;
        others.push(shard);
    }
    quick.publish(Flush::Time).await.unwrap();
    for shard in &mut others {
        shard.publish(Flush::Time).await.unwrap();
    }
    let began = clock::now();
    quick.changed().await;
    assert!(
        clock::now() - began <= 3 * PUT,
        "an upload, a record and a reveal"
    );
    assert!(most_at_once(&events.all()).0 == UPLOADS_MAX);
    let left = others.iter_mut().map(|shard| shard.publish(Flush::Drain));
    for progress in futures::future::join_all(left).await {
        progress.unwrap();
    }
}

/// How many columns are encoded for an interval.
async fn encoded(plan: OwnersPlan, rule: Option<Rule>) -> u64 {
    let world = world(1);
    let (process, _) = between(&world, "a", plan).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    if let Some(rule) = rule {
        world.fail(rule);
    }
    let before = columns_encoded();
    publish(&mut shard, 0..6).await.unwrap();
    assert_exactly_once(&world, 0..6, "").await;
    assert!(process.lake.list_uploads().await.unwrap().is_empty());
    columns_encoded() - before
}

/// A lake that refuses uploads or a disk that is full costs requests and no computation.
#[tokio::test(start_paused = true)]
async fn a_file_is_encoded_once_however_often_its_upload_is_refused() {
    let once = encoded(OwnersPlan::default(), None).await;
    assert!(once > 0);
    let refusing = OwnersPlan {
        refuse_uploads: 20,
        ..OwnersPlan::default()
    };
    assert_eq!(encoded(refusing, None).await, once);
    let full = Rule {
        kind: ErrorKind::StorageFull,
        times: Some(20),
        ..Rule::once(Op::WriteAt, "staging")
    };
    assert_eq!(encoded(OwnersPlan::default(), Some(full)).await, once);
}

/// An upload that exists before its creation is answered for is thrown away when nothing waits for that answer any more.
#[tokio::test(start_paused = true)]
async fn a_publish_that_is_dropped_while_uploads_begin_leaves_none() {
    let world = world(1);
    let plan = OwnersPlan {
        upload_delay: PUT,
        ..OwnersPlan::default()
    };
    let (process, _) = between(&world, "a", plan).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    push(&mut shard, 0..6).await;
    shard.publish(Flush::Time).await.unwrap();
    while process.lake.list_uploads().await.unwrap().len() < 3 {
        clock::sleep(PUT / 10).await;
    }
    drop(shard);
    clock::sleep(2 * PUT).await;
    assert!(process.lake.list_uploads().await.unwrap().is_empty());
}

/// The first write fails, and what it leaves cannot be removed for so many attempts.
fn stuck(world: &SimWorld) {
    world.fail(Rule {
        kind: ErrorKind::StorageFull,
        ..Rule::once(Op::WriteAt, "staging")
    });
    world.fail(Rule::once(Op::Remove, "staging"));
}

/// An upload that failed and could not be thrown away is thrown away later, although another one took its place.
#[tokio::test(start_paused = true)]
async fn an_upload_that_was_stuck_is_removed_after_all() {
    let world = world(1);
    let (process, lake) = between(&world, "a", OwnersPlan::default()).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    stuck(&world);
    lake.plan.lock().await.refuse_discards = 1;
    publish(&mut shard, 0..6).await.unwrap();
    clock::sleep(Duration::from_secs(1)).await;
    assert!(process.lake.list_uploads().await.unwrap().is_empty());
    assert_exactly_once(&world, 0..6, "").await;
}

/// The same of the upload of a file that is made again: the sink cleans up what stays of it.
#[tokio::test(start_paused = true)]
async fn an_upload_of_a_rebuild_that_was_stuck_is_removed_after_all() {
    let world = world(1);
    all_vanished(&world, &payloads(0..6)).await;
    let (heir, lake) = between(&world, "b", OwnersPlan::default()).await;
    // The listing of uploads, which would find it, was made before.
    heir.claim("000001").await.unwrap();
    stuck(&world);
    lake.plan.lock().await.refuse_discards = 2;
    heir.stage
        .resume(&super::support::shard("000000"))
        .await
        .unwrap();
    clock::sleep(Duration::from_secs(1)).await;
    assert_eq!(heir.lake.list_uploads().await.unwrap().len(), 1);
    heir.claim("000000").await.unwrap();
    assert!(heir.lake.list_uploads().await.unwrap().is_empty());
    assert_exactly_once(&world, 0..6, "").await;
}

/// The lake refuses the record that chooses a rebuilt file: the upload goes when the next attempt has chosen another one.
#[tokio::test(start_paused = true)]
async fn an_upload_of_a_rebuild_that_no_record_chose_is_removed_after_all() {
    let world = world(1);
    all_vanished(&world, &payloads(0..6)).await;
    let (heir, _) = between(&world, "b", OwnersPlan::default()).await;
    // The listing of uploads, which would find them, was made before.
    heir.claim("000001").await.unwrap();
    world.fail(Rule {
        kind: ErrorKind::PermissionDenied,
        ..Rule::once(Op::LinkNew, "rebuild")
    });
    let id = super::support::shard("000000");
    heir.stage.resume(&id).await.unwrap_err();
    assert!(!heir.lake.list_uploads().await.unwrap().is_empty());
    heir.claim("000000").await.unwrap();
    assert!(heir.lake.list_uploads().await.unwrap().is_empty());
    assert_exactly_once(&world, 0..6, "").await;
}
