use std::sync::atomic::Ordering;

use hydrant_core::Error;
use hydrant_core::lease::Progress;
use hydrant_core::stream::Start;

use super::*;
use crate::runtime::testing::{BrokerStream, MarkedStream};

impl World {
    pub(super) fn brokered(
        &mut self,
        stage: impl Stage + 'static,
    ) -> (Arc<Layered<BrokerStream>>, RunSpec) {
        let broker = BrokerStream::around(Arc::clone(&self.stream) as _);
        let mut spec = self.spec(stage);
        spec.stream = Arc::clone(&broker) as _;
        (broker, spec)
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_holds_all_finds_the_end_by_itself() {
    let mut world = World::new(2, true);
    world.stream.append("a", 10, 0);
    world.stream.append("b", 10, 0);
    let stage = Exact::new(&world.log);
    let (broker, mut spec) = world.brokered(stage);
    spec.exit_at_end = true;
    broker.grant("a", 1).await;
    let worker = RunningWorker::start(spec);
    pass(Duration::from_secs(20)).await;
    assert!(!worker.has_ended(), "the progress of `b` is unknown");
    broker.grant("b", 2).await;
    worker.ended().await.unwrap();
    world.assert_exact();
    assert_eq!(broker.released().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_shard_granted_again_at_once_is_worked_on_by_one_task() {
    let mut world = World::new(1, true);
    world.stream.append("a", 30, 0);
    let stage = Exact::new(&world.log);
    let (broker, spec) = world.brokered(stage);
    for grant in 1..20 {
        broker.grant("a", grant).await;
        drop(broker.lose("a", grant));
        // An answer to an old grant does not count.
        drop(broker.lose("a", grant.saturating_sub(1)));
    }
    broker.grant("a", 20).await;
    let worker = RunningWorker::start(spec);
    until("the records", || world.log.records().len() == 30).await;
    broker.lose("a", 19).await;
    world.stream.append("a", 5, 0);
    pass(Duration::from_secs(3)).await;
    world.assert_exact();
    let drained = tokio::time::timeout(Duration::from_secs(60), worker.drained()).await;
    drained.expect("the last task hears of the drain").unwrap();
    assert_eq!(broker.released(), [20]);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_shard_is_published_and_given_back_in_time_or_cut_off() {
    for (slow, given_back) in [
        (Duration::from_millis(5), true),
        (Duration::from_secs(60), false),
    ] {
        let mut world = World::new(1, true);
        let mut stage = Exact::new(&world.log);
        (stage.every, stage.slow) = (Duration::from_secs(3600), slow);
        let (broker, spec) = world.brokered(stage);
        world.stream.append("a", 10, 0);
        broker.grant("a", 1).await;
        let worker = RunningWorker::start(spec);
        pass(Duration::from_secs(1)).await;
        let until = clock::now() + Duration::from_secs(10);
        broker.revoke("a", 1, until).await;
        assert_eq!(clock::now() < until, given_back, "it is answered at once");
        assert!(broker.released().len() == 1 || !given_back);
        pass(Duration::from_secs(1)).await;
        assert_eq!(world.log.records().len(), if given_back { 10 } else { 0 });
        assert_eq!(broker.released().len(), usize::from(given_back));
        pass(Duration::from_secs(100)).await;
        assert_eq!(
            world.log.records().len(),
            if given_back { 10 } else { 0 },
            "after the cut"
        );
        drop(worker);
    }
}

#[tokio::test(start_paused = true)]
async fn latest_is_written_down_at_once_and_not_asked_for_newer_shards() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let stage = Exact::new(&world.log);
    let (broker, mut spec) = world.brokered(stage);
    spec.start = Start::Latest;
    broker.grant("a", 1).await;
    let worker = RunningWorker::start(spec);
    until("the start", || broker.to("a") == Some(p(9))).await;
    world.stream.split_into("a", "b", "c");
    world.stream.append("b", 4, 0);
    until("the parent's end", || broker.to("a") == Some(Position::End)).await;
    broker.grant("b", 2).await;
    until("the records", || world.log.records().len() == 4).await;
    worker.drained().await.unwrap();
    assert_eq!(broker.to("b"), Some(p(3)));
}

/// The broker adds a partition while the app has no worker: what came into it meanwhile is new, though the app starts at
/// the latest record.
#[tokio::test(start_paused = true)]
async fn a_partition_that_was_added_between_two_runs_is_read_from_its_beginning() {
    let mut world = World::new(2, true);
    world.stream.append("a", 10, 0);
    let stage = PlainStage::new(&world.log);
    let (broker, mut spec) = world.brokered(stage);
    spec.start = Start::Latest;
    broker.grant("a", 1).await;
    let worker = RunningWorker::start(spec);
    until("the start", || broker.to("a") == Some(p(9))).await;
    worker.drained().await.unwrap();
    world.stream.add_partition("added");
    world.stream.append("added", 4, 0);
    let stage = PlainStage::new(&world.log);
    let mut spec = world.spec(stage);
    spec.start = Start::Latest;
    let broker = broker.again();
    spec.stream = Arc::clone(&broker) as _;
    for (shard, grant) in [("a", 2), ("added", 3)] {
        broker.grant(shard, grant).await;
    }
    let worker = RunningWorker::start(spec);
    until("the records", || world.log.records().len() == 4).await;
    worker.drained().await.unwrap();
    assert_eq!(
        (broker.to("a"), broker.to("added")),
        (Some(p(9)), Some(p(3)))
    );
}

/// The output commits the offsets with its records: a read of the ledger would begin elsewhere than the output, a write would
/// move the offsets back.
#[tokio::test(start_paused = true)]
async fn a_silent_ledger_is_neither_read_nor_written_and_the_claim_is_given_back() {
    for is_silent in [true, false] {
        let mut world = World::new(2, true);
        let stage = Exact::new(&world.log);
        let failures = Arc::clone(&stage.failures);
        let stage = match is_silent {
            true => NamedStage::committing("cluster", stage),
            false => NamedStage::new("cluster", true, stage),
        };
        let (broker, spec) = world.brokered(stage);
        for (shard, grant) in [("a", 1), ("b", 2)] {
            world.stream.append(shard, 30, 0);
            broker.keep(shard, Progress::starting(p(999)));
            broker.grant(shard, grant).await;
        }
        let worker = RunningWorker::start(spec);
        until("the records", || world.log.records().len() == 60).await;
        // A failed attempt and an owner that was faster begin after what the output says.
        failures.lock().unwrap().push(Error::Unavailable {
            message: "away".to_owned(),
            after: Duration::ZERO,
        });
        world.stream.append("a", 10, 0);
        until("more records", || world.log.records().len() == 70).await;
        pass(Duration::from_secs(5)).await;
        let left = broker.revoke("b", 2, clock::now() + Duration::from_secs(10));
        left.await;
        worker.drained().await.unwrap();
        world.assert_exact();
        assert_eq!(broker.ledger_touched() == 0, is_silent);
        assert_eq!(broker.to("a") == Some(p(999)), is_silent);
        assert_eq!(broker.released(), [2, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_that_commits_progress_is_refused_where_leases_share_the_shards() {
    let mut world = World::new(1, true);
    let stage = NamedStage::committing("cluster", Exact::new(&world.log));
    let spec = world.spec(stage);
    let error = RunningWorker::start(spec).ended().await.unwrap_err();
    assert!(error.to_string().contains("shared by leases"), "{error}");
}

/// An app that begins at the latest record has nothing yet: what the partitions hold is not for it.
#[tokio::test(start_paused = true)]
async fn the_first_run_at_the_latest_record_leaves_out_what_there_is() {
    let mut world = World::new(2, true);
    for shard in ["a", "b"] {
        world.stream.append(shard, 10, 0);
    }
    let stage = PlainStage::new(&world.log);
    let (broker, _) = world.brokered(PlainStage::new(&world.log));
    let mut spec = world.spec(stage);
    spec.start = Start::Latest;
    let broker = broker.again();
    spec.stream = Arc::clone(&broker) as _;
    let worker = RunningWorker::start(spec);
    for (shard, grant) in [("a", 1), ("b", 2)] {
        broker.grant(shard, grant).await;
        until("the start", || broker.to(shard) == Some(p(9))).await;
    }
    worker.drained().await.unwrap();
    assert!(world.log.records().is_empty());
}

/// Reader errors, failed attempts, revokes and losses: each time the claim seeks on the one client, and nothing stays
/// behind.
#[tokio::test(start_paused = true)]
async fn a_thousand_readers_leave_nothing_behind_on_one_client() {
    const READERS: u64 = 1000;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    // Other tests run in the same process, so only a thread for each reader stands out. Linux alone lists the threads.
    let threads =
        || std::fs::read_dir("/proc/self/task").map_or(0, |threads| threads.count() as u64);
    let before = (tasks(), threads());
    let mut world = World::new(2, true);
    world.stream.batch_appends(3);
    let mut stage = Exact::new(&world.log);
    stage.records_max = 5;
    let failures = Arc::clone(&stage.failures);
    let mut spec = world.spec(stage);
    // Its readers fail when they are opened with marks of another place.
    let broker = BrokerStream::around(MarkedStream::around(spec.stream));
    spec.stream = Arc::clone(&broker) as _;
    let budget = spec.context.budget.clone();
    for (shard, grant) in [("a", 1), ("b", 2)] {
        broker.grant(shard, grant).await;
    }
    let worker = RunningWorker::start(spec);
    let away = || hydrant_core::error::Error::Unavailable {
        message: "away".to_owned(),
        after: Duration::ZERO,
    };
    let client = Arc::clone(&broker.client);
    let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::SeqCst);
    let (mut round, mut grant) = (0, 2);
    while count(&client.seeks) < READERS {
        let seeks = count(&client.seeks);
        match round % 4 {
            0 | 1 => world.stream.fail_reads("a", vec![away()]),
            2 => {
                failures.lock().unwrap().push(away());
                world.stream.append("a", 4, 0);
            }
            _ => {
                drop(match grant % 2 {
                    0 => broker.lose("b", grant),
                    _ => broker.revoke("b", grant, clock::now() + Duration::from_secs(10)),
                });
                grant += 1;
                broker.grant("b", grant).await;
                world.stream.append("b", 2, 0);
            }
        }
        until("another reader", || count(&client.seeks) > seeks).await;
        assert!(count(&client.readers) <= 2, "a claim has one reader");
        round += 1;
    }
    until("the records", || {
        world.log.records().len() == world.stream.all().len()
    })
    .await;
    assert!(count(&client.partitions) <= 2);
    assert!(threads() < before.1 + READERS / 4, "readers have threads");
    worker.drained().await.unwrap();
    world.assert_exact();
    assert_eq!(
        count(&client.clients),
        1,
        "everything was read with the group's client"
    );
    assert_eq!((count(&client.readers), count(&client.partitions)), (0, 0));
    assert_eq!(budget.held_bytes(), 0);
    assert_eq!(tasks(), before.0, "tasks are left");
    // Those that were lost are the broker's; each other claim was given back once.
    let mut released = broker.released();
    released.sort_unstable();
    let revoked = (3..grant).filter(|grant| grant % 2 == 1);
    let wanted: Vec<u64> = [1].into_iter().chain(revoked).chain([grant]).collect();
    assert_eq!(released, wanted);
}
