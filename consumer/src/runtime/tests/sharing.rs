use hydrant_core::lease::{Lease, LeaseStore};

use super::*;

#[tokio::test(start_paused = true)]
async fn two_workers_share_the_shards_without_ping_pong() {
    for sees_deaths in [true, false] {
        let mut world = World::new(7, sees_deaths);
        for shard in ["a", "b", "c", "d", "e", "f", "g"] {
            world.stream.append(shard, 20, 0);
        }
        let first = RunningWorker::start(world.exact());
        pass(Duration::from_secs(3)).await;
        let second = RunningWorker::start(world.exact());
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
    let first = RunningWorker::start(world.exact());
    pass(Duration::from_secs(1)).await;
    let second = RunningWorker::start(world.exact());
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
    // The pauses between rounds are drawn, so several seeds are tried.
    for shards in 1..8 {
        let mut world = World::new(shards, false);
        let first = RunningWorker::start(world.exact());
        pass(Duration::from_secs(5)).await;
        drop(first);
        let died = clock::now();
        let _second = RunningWorker::start(world.exact());
        pass(Duration::from_millis(9950)).await;
        assert!(world.leases.rows().iter().all(|row| row.epoch == 1));
        until("take-over", || {
            world.leases.rows().iter().all(|row| row.epoch == 2)
        })
        .await;
        let took = clock::now() - died;
        assert!(took < Duration::from_millis(10_250), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_renew_stops_by_itself() {
    let mut world = World::new(1, false);
    let worker = RunningWorker::start(world.exact());
    pass(Duration::from_secs(2)).await;
    world
        .leases
        .change_faults(|faults| faults.writes_fail = true);
    pass(Duration::from_secs(15)).await;
    world.stream.append("a", 5, 0);
    pass(Duration::from_secs(2)).await;
    assert!(world.log.records().is_empty(), "it went on without a lease");
    world
        .leases
        .change_faults(|faults| faults.writes_fail = false);
    pass(Duration::from_secs(2)).await;
    world.assert_exact();
    worker.drained().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_hands_over_at_once() {
    let mut world = World::new(4, false);
    let first = RunningWorker::start(world.exact());
    pass(Duration::from_secs(2)).await;
    let second = RunningWorker::start(world.exact());
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

#[tokio::test(start_paused = true)]
async fn a_zombies_ledger_writes_are_fenced() {
    use hydrant_core::error::Error;
    use hydrant_core::lease::Progress;
    use hydrant_core::subscription::{Event, Subscription};

    use crate::runtime::leases::LeasedSubscription;

    let mut world = World::new(1, false);
    let mut start = |worker: &str| {
        let store = Arc::new(world.leases.clone());
        LeasedSubscription::start(world.plain(), worker.to_owned(), store)
    };
    let mut zombie = start("zombie").await.unwrap();
    let Event::Granted(old) = zombie.next().await.unwrap() else {
        panic!()
    };
    let progress = |offset| Progress {
        to: p(offset),
        ..Progress::default()
    };
    old.ledger.write(&progress(3)).await.unwrap();
    // Its coordinator stops, its task continues.
    drop(zombie);
    let mut second = start("second").await.unwrap();
    let Event::Granted(new) = second.next().await.unwrap() else {
        panic!()
    };
    assert_eq!(new.ledger.read().await.unwrap(), Some(progress(3)));
    let error = old.ledger.write(&progress(5)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Fenced { owner, .. } if owner.starts_with("second")),
        "{error}"
    );
    assert!(old.ledger.read().await.is_err());
    old.ledger.release().await.unwrap();
    assert_eq!(world.leases.to("a"), p(3));
    assert!(
        world
            .leases
            .row("a")
            .unwrap()
            .owner
            .unwrap()
            .starts_with("second")
    );
    new.ledger.write(&progress(7)).await.unwrap();
    new.ledger.release().await.unwrap();
    assert_eq!(world.leases.row("a").unwrap().progress, Some(progress(7)));
}

#[tokio::test(start_paused = true)]
async fn the_end_counts_what_other_workers_hold() {
    let mut world = World::new(4, true);
    for shard in ["a", "b", "c", "d"] {
        world.stream.append(shard, 10, 0);
    }
    let mut slow = Exact::new(&world.log);
    slow.every = Duration::from_secs(20);
    let began = clock::now();
    let other = RunningWorker::start(world.spec(slow));
    pass(Duration::from_secs(1)).await;
    world.stream.split_into("a", "e", "f");
    world.stream.append("e", 10, 0);
    let mut spec = world.exact();
    spec.exit_at_end = true;
    let summary = RunningWorker::start(spec).ended().await.unwrap();
    assert!(clock::now() - began > Duration::from_secs(18));
    assert!(
        summary.records < 50,
        "the other worker held shards to the end"
    );
    world.assert_exact();
    other.drained().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn children_wait_for_the_ends_of_all_parents_across_restarts() {
    let mut world = World::new(2, true);
    world.stream.append("a", 25, 0);
    world.stream.append("b", 25, 0);
    world.stream.split_into("a", "c", "d");
    world.stream.append("c", 5, 0);
    world.stream.append("d", 5, 0);
    world.stream.merge_into("d", "b", "e");
    world.stream.append("e", 5, 0);
    // Each worker dies as soon as something has moved; the stage asserts the order at each opening.
    for _ in 0..40 {
        let before = world.log.records().len();
        let worker = RunningWorker::start(world.exact());
        let deadline = clock::now() + Duration::from_secs(2);
        while world.log.records().len() == before && clock::now() < deadline {
            pass(Duration::from_millis(7)).await;
        }
        drop(worker);
    }
    let mut spec = world.exact();
    spec.exit_at_end = true;
    RunningWorker::start(spec).ended().await.unwrap();
    world.assert_exact();
    assert_eq!(world.leases.to("b"), Position::End);
}

/// The frozen worker was handed a shard that it had asked for, and never took it.
#[tokio::test(start_paused = true)]
async fn the_shards_reserved_for_a_frozen_worker_are_taken() {
    let mut world = World::new(4, false);
    let worker = RunningWorker::start(world.exact());
    pass(Duration::from_secs(3)).await;
    let rows = world.leases.rows();
    let silent = Some("silent".to_owned());
    let stopped = clock::now();
    for (row, owner, wanted) in [(&rows[0], silent.clone(), None), (&rows[1], None, silent)] {
        // The worker renews from time to time.
        let (epoch, counter) = (row.epoch + 1, row.counter + 100);
        let next = Lease {
            owner,
            wanted,
            epoch,
            counter,
            ..row.clone()
        };
        let now = world.leases.row(row.shard.as_str());
        world.leases.swap(now.as_ref(), &next).await.unwrap();
    }
    pass(Duration::from_secs(9)).await;
    assert!(world.leases.loads().contains_key("silent"));
    until("take-over", || {
        world.leases.loads().into_values().collect::<Vec<_>>() == [4]
    })
    .await;
    let took = clock::now() - stopped;
    assert!(took < Duration::from_secs(12), "{took:?}");
    world.assert_exact();
    worker.drained().await.unwrap();
}

/// Containers have one host name and one process id: a random suffix distinguishes their workers.
#[tokio::test(start_paused = true)]
async fn workers_of_one_name_are_two_workers() {
    let mut world = World::new(4, true);
    let mut workers = Vec::new();
    for _ in 0..2 {
        let mut spec = world.plain();
        spec.worker = "host".to_owned();
        workers.push(RunningWorker::start(spec));
    }
    until("each has two", || {
        world.leases.loads().values().copied().eq([2, 2])
    })
    .await;
    let loads = world.leases.loads();
    assert!(
        loads.keys().all(|name| name.starts_with("host-")),
        "{loads:?}"
    );
    for worker in workers {
        worker.drained().await.unwrap();
    }
}
