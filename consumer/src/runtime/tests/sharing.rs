use super::*;

#[tokio::test(start_paused = true)]
async fn two_workers_share_the_shards_without_ping_pong() {
    for sees_deaths in [true, false] {
        let mut world = World::new(7, sees_deaths);
        for shard in ["a", "b", "c", "d", "e", "f", "g"] {
            world.stream.append(shard, 20, 0);
        }
        let first = Worker::start(world.exact());
        pass(Duration::from_secs(3)).await;
        let second = Worker::start(world.exact());
        pass(Duration::from_secs(30)).await;
        let loads: Vec<_> = world.leases.loads().into_values().collect();
        assert!(loads == [3, 4] || loads == [4, 3], "{loads:?}");
        let epochs: Vec<_> = world.leases.rows().iter().map(|row| row.epoch).collect();
        pass(Duration::from_secs(60)).await;
        let later: Vec<_> = world.leases.rows().iter().map(|row| row.epoch).collect();
        assert_eq!(epochs, later, "leases moved although loads are equal");
        assert_eq!(epochs.iter().sum::<u64>(), 7 + 3, "more moved than needed");
        world.assert_exact();
        first.drained().await.unwrap();
        second.drained().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_workers_shards_are_taken_over_at_once_where_the_store_sees_deaths() {
    let mut world = World::new(4, true);
    let first = Worker::start(world.exact());
    pass(Duration::from_secs(1)).await;
    let second = Worker::start(world.exact());
    pass(Duration::from_secs(10)).await;
    drop(first);
    let died = clock::now();
    until("take-over", || {
        world.leases.loads().values().copied().collect::<Vec<_>>() == [4]
    })
    .await;
    assert!(
        clock::now() - died < Duration::from_millis(500),
        "{:?}",
        clock::now() - died
    );
    world.stream.append("a", 5, 0);
    pass(Duration::from_secs(2)).await;
    world.assert_exact();
    second.drained().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_workers_shards_are_taken_over_after_the_lease_time_by_own_clock() {
    let mut world = World::new(2, false);
    let first = Worker::start(world.exact());
    pass(Duration::from_secs(5)).await;
    drop(first);
    let died = clock::now();
    let _second = Worker::start(world.exact());
    pass(Duration::from_millis(9500)).await;
    assert!(world.leases.rows().iter().all(|row| row.epoch == 1));
    until("take-over", || {
        world.leases.rows().iter().all(|row| row.epoch == 2)
    })
    .await;
    assert!(
        clock::now() - died < Duration::from_secs(13),
        "{:?}",
        clock::now() - died
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_renew_stops_by_itself() {
    let mut world = World::new(1, false);
    let worker = Worker::start(world.exact());
    pass(Duration::from_secs(2)).await;
    world
        .leases
        .broken
        .store(true, std::sync::atomic::Ordering::SeqCst);
    pass(Duration::from_secs(15)).await;
    world.stream.append("a", 5, 0);
    pass(Duration::from_secs(2)).await;
    assert!(world.log.records().is_empty(), "it went on without a lease");
    world
        .leases
        .broken
        .store(false, std::sync::atomic::Ordering::SeqCst);
    pass(Duration::from_secs(2)).await;
    world.assert_exact();
    worker.drained().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_hands_over_at_once() {
    let mut world = World::new(4, false);
    let first = Worker::start(world.exact());
    pass(Duration::from_secs(2)).await;
    let second = Worker::start(world.exact());
    pass(Duration::from_secs(20)).await;
    first.drained().await.unwrap();
    let gone = clock::now();
    until("hand-over", || {
        world.leases.loads().values().copied().collect::<Vec<_>>() == [4]
    })
    .await;
    assert!(clock::now() - gone < Duration::from_secs(2));
    drop(second);
}
