//! Fences beside other troubles: a full disk, a slow one, damaged data, late fencers.

use std::time::Duration;

use hydrant_core::testing::disk::{Moment, Op, SimWorld};

use super::super::fixture::*;
use super::{FEW, OTHERS, Sender, made, names, opened, snare};

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
    let caught = world.snare(snare("first", Op::WriteAt, control, Moment::Before));
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
