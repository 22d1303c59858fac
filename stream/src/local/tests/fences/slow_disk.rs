//! A disk whose syncs take longer than a process is waited for that stands still.

use std::time::Duration;

use hydrant_testing::disk::SimWorld;

use super::{FEW, IN_TIME, OTHERS, Sender, both, made, opened, stored_now};

/// Appends of each of two writers.
const APPENDS: u64 = 20;

/// Two writers append to the same shard, and each sync takes up to this long; answers how many shards there are then.
async fn shards_after_syncs_of(seed: u64, most: Duration) -> usize {
    let world = SimWorld::new(seed);
    made(&world).await;
    let mut writers = Vec::new();
    for (name, from) in [("first", 0), ("second", OTHERS)] {
        let stream = opened(&world, name, seed + from).await;
        writers.push(Sender::of(stream, name, from).await);
    }
    world.set_sync_time(most);
    let sends = writers.into_iter().map(|mut writer| {
        tokio::spawn(async move {
            for _ in 0..APPENDS {
                writer.send(FEW).await.unwrap();
            }
        })
    });
    for sends in sends.collect::<Vec<_>>() {
        sends.await.unwrap();
    }
    world.set_sync_time(Duration::ZERO);
    let all = both(APPENDS * FEW, APPENDS * FEW);
    assert_eq!(stored_now(&world).await, all, "seed {seed}, {most:?}");
    let stream = opened(&world, "judge", 9).await;
    stream.shards().await.unwrap().all().len()
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_costs_no_shards() {
    for seed in 1..4 {
        for secs in [3, 6, 9] {
            let shards = shards_after_syncs_of(seed, Duration::from_secs(secs)).await;
            assert_eq!(shards, 1, "seed {seed}, {secs} s");
        }
    }
}

/// A disk that is of no use costs shards, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_minutes_to_sync_loses_and_doubles_nothing() {
    let shards = shards_after_syncs_of(1, Duration::from_secs(120)).await;
    assert!(shards > 1);
}

/// One sync of a process that lives never ends, such as that of a disk that is gone for it alone.
#[tokio::test(start_paused = true)]
async fn a_process_that_lives_while_its_disk_hangs_is_fenced_after_half_a_minute() {
    let world = SimWorld::new(1);
    made(&world).await;
    let second = opened(&world, "second", 3).await;
    let mut second = Sender::of(second, "second", OTHERS).await;
    let stream = opened(&world, "first", 2).await;
    let mut first = Sender::of(stream, "first", 0).await;
    first.send(FEW).await.unwrap();
    world.set_sync_time(Duration::from_secs(10_000));
    let hangs = tokio::spawn(async move { first.send(FEW).await.unwrap() });
    hydrant_core::clock::sleep(Duration::from_secs(1)).await;
    world.set_sync_time(Duration::ZERO);
    let began = tokio::time::Instant::now();
    second.send(FEW).await.unwrap();
    let took = began.elapsed();
    let wanted = Duration::from_secs(28)..Duration::from_secs(30) + IN_TIME;
    assert!(wanted.contains(&took), "it took {took:?}");
    assert!(!hangs.is_finished());
    hangs.await.unwrap();
    assert_eq!(stored_now(&world).await, both(2 * FEW, FEW));
}
