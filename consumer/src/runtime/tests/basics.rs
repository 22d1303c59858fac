use std::collections::BTreeMap;

use super::*;
use hydrant_core::admin::{Retention, Trim};
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{LeaseStore as _, Progress, Reprocess};
use hydrant_core::shard::ShardId;
use hydrant_core::shutdown::Phase;
use hydrant_core::stream::{SharedStream, Start, Stream};
use hydrant_testing::layer::StreamLayer;

use crate::runtime::run_spec::OnCorrupt;

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_the_end_with_everything_published_and_released() {
    let mut world = World::new(3, true);
    for shard in ["a", "b"] {
        world.stream.append(shard, 35, 0);
    }
    let mut spec = world.exact();
    spec.exit_at_end = true;
    let began = clock::now();
    let summary = RunningWorker::start(spec).ended().await.unwrap();
    assert!(
        clock::now() - began < Duration::from_secs(3),
        "{:?}",
        clock::now() - began
    );
    world.assert_exact();
    assert_eq!((summary.records, summary.gaps), (70, 0));
    assert_eq!(summary.shards.len(), 3);
    assert_eq!(summary.shards[&"a".into()].lag, Some(0));
    assert_eq!(world.leases.to("a"), p(34));
    assert!(world.leases.rows().iter().all(|row| row.owner.is_none()));
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_the_last_append_to_be_old() {
    let mut world = World::new(1, true);
    let mut spec = world.exact();
    spec.exit_at_end = true;
    let worker = RunningWorker::start(spec);
    for _ in 0..10 {
        pass(Duration::from_millis(700)).await;
        assert!(!worker.has_ended());
        world.stream.append("a", 1, 0);
    }
    worker.ended().await.unwrap();
    world.assert_exact();
}

#[tokio::test(start_paused = true)]
async fn a_run_ordered_to_finish_publishes_everything_and_ends() {
    let mut world = World::new(2, true);
    world.stream.append("a", 30, 0);
    let mut stage = Exact::new(&world.log);
    stage.every = Duration::from_secs(3600);
    let spec = world.spec(stage);
    let finish = spec.finish.clone();
    let worker = RunningWorker::start(spec);
    pass(Duration::from_secs(60)).await;
    assert!(world.log.records().is_empty() && !worker.has_ended());
    let began = clock::now();
    finish.give(Duration::from_millis(50));
    let summary = worker.ended().await.unwrap();
    assert!(clock::now() - began < Duration::from_secs(1));
    assert_eq!(summary.records, 30);
    world.assert_exact();
    assert_eq!(world.leases.to("a"), p(29));
}

#[tokio::test(start_paused = true)]
async fn a_drain_publishes_everything_and_releases() {
    let mut world = World::new(2, true);
    world.stream.append("a", 30, 0);
    let mut stage = Exact::new(&world.log);
    stage.every = Duration::from_secs(3600);
    let worker = RunningWorker::start(world.spec(stage));
    pass(Duration::from_secs(5)).await;
    assert!(world.log.records().is_empty());
    worker.drained().await.unwrap();
    world.assert_exact();
    assert_eq!(world.leases.to("a"), p(29));
    assert!(world.leases.rows().iter().all(|row| row.owner.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_the_process_stops_at_once() {
    let mut world = World::new(1, true);
    world.stream.append("a", 1, 0);
    let mut stage = Exact::new(&world.log);
    stage.slow = Duration::from_secs(3600);
    let worker = RunningWorker::start(world.spec(stage));
    pass(Duration::from_secs(1)).await;
    worker.shutdown.advance(Phase::Draining);
    pass(Duration::from_secs(5)).await;
    assert!(!worker.has_ended());
    let began = clock::now();
    worker.shutdown.advance(Phase::Aborting);
    let error = worker.ended().await.unwrap_err();
    assert!(error.to_string().contains("stopped at once"), "{error}");
    assert!(clock::now() - began < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn latest_is_fixed_at_the_first_start() {
    let mut world = World::new(2, true);
    world.stream.append("a", 10, 0);
    let mut spec = world.plain();
    spec.start = Start::Latest;
    let worker = RunningWorker::start(spec);
    until("the rows", || world.leases.rows().len() == 2).await;
    drop(worker);
    // Records that come while no worker runs are not skipped.
    world.stream.append("a", 5, 0);
    world.stream.append("b", 5, 0);
    let mut spec = world.plain();
    (spec.start, spec.exit_at_end) = (Start::Latest, true);
    RunningWorker::start(spec).ended().await.unwrap();
    let offsets: Vec<_> = world
        .log
        .records()
        .iter()
        .filter(|r| r.0.as_str() == "a")
        .map(|r| r.1)
        .collect();
    assert_eq!(offsets, [10, 11, 12, 13, 14]);
    assert_eq!(world.log.records().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn latest_skips_no_record_of_a_child_created_after_the_start() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let mut spec = world.plain();
    spec.start = Start::Latest;
    let worker = RunningWorker::start(spec);
    until("the row", || world.leases.rows().len() == 1).await;
    drop(worker);
    world.stream.append("a", 2, 0);
    world.stream.split_into("a", "b", "c");
    world.stream.append("b", 3, 0);
    let mut spec = world.plain();
    (spec.start, spec.exit_at_end) = (Start::Latest, true);
    RunningWorker::start(spec).ended().await.unwrap();
    let count = |shard: &str| {
        world
            .log
            .records()
            .iter()
            .filter(|r| r.0.as_str() == shard)
            .count()
    };
    assert_eq!((count("a"), count("b")), (2, 3));
}

/// Two reshards lie between two runs of the app; the stream still has all shards.
#[tokio::test(start_paused = true)]
async fn latest_skips_no_record_of_shards_two_reshards_away() {
    for merges in [false, true] {
        let mut world = World::new(1, true);
        world.stream.append("a", 10, 0);
        let latest = |world: &mut World| {
            let spec = world.plain();
            RunSpec {
                start: Start::Latest,
                exit_at_end: true,
                ..spec
            }
        };
        let first = latest(&mut world);
        RunningWorker::start(first).ended().await.unwrap();
        world.stream.split_into("a", "b", "c");
        world.stream.append("b", 1, 0);
        match merges {
            true => world.stream.merge_into("b", "c", "d"),
            false => world.stream.split_into("b", "d", "e"),
        }
        world.stream.append("d", 3, 0);
        let second = latest(&mut world);
        RunningWorker::start(second).ended().await.unwrap();
        let read = world.log.records();
        let of_d = read
            .iter()
            .filter(|record| record.0.as_str() == "d")
            .count();
        assert_eq!((read.len(), of_d), (4, 3), "merges: {merges}");
    }
}

/// The parent's row is of the generation before, but the app has begun there.
#[tokio::test(start_paused = true)]
async fn latest_skips_no_record_of_a_child_created_after_a_reprocess() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let mut spec = world.plain();
    (spec.start, spec.exit_at_end) = (Start::Latest, true);
    RunningWorker::start(spec).ended().await.unwrap();
    let again = BTreeMap::from([("a".into(), Progress::starting(p(7)))]);
    world
        .leases
        .reprocess(&Reprocess::Only(again))
        .await
        .unwrap();
    world.stream.split_into("a", "b", "c");
    world.stream.append("b", 3, 0);
    let mut spec = world.plain();
    (spec.start, spec.exit_at_end) = (Start::Latest, true);
    RunningWorker::start(spec).ended().await.unwrap();
    let read = world.log.records();
    let of_b = read
        .iter()
        .filter(|record| record.0.as_str() == "b")
        .count();
    assert_eq!((read.len(), of_b), (5, 3), "{read:?}");
}

/// Its parent came and went while no worker of the app ran.
#[tokio::test(start_paused = true)]
async fn latest_skips_no_record_of_a_grandchild_whose_parent_never_had_a_row() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let mut spec = world.plain();
    spec.start = Start::Latest;
    let worker = RunningWorker::start(spec);
    until("the row", || world.leases.rows().len() == 1).await;
    drop(worker);
    world.stream.split_into("a", "b", "c");
    world.stream.split_into("b", "d", "e");
    for gone in ["a", "b"] {
        world.stream.forget(gone);
    }
    world.stream.append("d", 3, 0);
    let mut spec = world.plain();
    (spec.start, spec.exit_at_end) = (Start::Latest, true);
    RunningWorker::start(spec).ended().await.unwrap();
    let read = world.log.records();
    assert_eq!(read, (0..3).map(|n| ("d".into(), n)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn latest_skips_what_lay_in_children_before_the_app() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    world.stream.split_into("a", "b", "c");
    world.stream.append("b", 3, 0);
    let mut spec = world.plain();
    (spec.start, spec.exit_at_end) = (Start::Latest, true);
    RunningWorker::start(spec).ended().await.unwrap();
    assert!(world.log.records().is_empty());
    assert_eq!(world.leases.to("a"), Position::End);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_counted_and_passed() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let kept = Trim::After(p(3));
    world.stream.trim(Some(&"a".into()), kept).await.unwrap();
    let mut spec = world.exact();
    spec.exit_at_end = true;
    let summary = RunningWorker::start(spec).ended().await.unwrap();
    assert_eq!((summary.gaps, summary.records), (1, 6));
}

#[tokio::test(start_paused = true)]
async fn progress_of_an_output_reaches_the_ledger_without_new_records() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    world.log.overtake("a", 0, 9);
    let mut spec = world.exact();
    spec.exit_at_end = true;
    RunningWorker::start(spec).ended().await.unwrap();
    assert_eq!(world.leases.to("a"), p(9));
    world.assert_exact();
}

#[tokio::test(start_paused = true)]
async fn a_superseded_shard_continues_after_the_winner() {
    let mut world = World::new(1, true);
    let mut stage = Exact::new(&world.log);
    stage.every = Duration::from_secs(5);
    let mut spec = world.spec(stage);
    spec.exit_at_end = true;
    spec.idle = Duration::from_secs(2);
    world.stream.append("a", 20, 0);
    let worker = RunningWorker::start(spec);
    pass(Duration::from_millis(500)).await;
    world.log.overtake("a", 0, 11);
    worker.ended().await.unwrap();
    world.assert_exact();
    let starts: Vec<_> = world
        .log
        .opened()
        .iter()
        .map(|opened| opened.after.to)
        .collect();
    assert_eq!(starts, [Position::Begin, p(11)]);
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_of_output_reader_or_store_is_retried() {
    let unavailable = || Error::Unavailable {
        message: "away".to_owned(),
        after: Duration::ZERO,
    };
    let mut world = World::new(1, true);
    world.stream.append("a", 100, 0);
    world
        .stream
        .fail_reads("a", vec![unavailable(), unavailable()]);
    let stage = Exact::new(&world.log);
    stage
        .failures
        .lock()
        .unwrap()
        .extend([unavailable(), unavailable(), unavailable()]);
    let mut spec = world.spec(stage);
    spec.exit_at_end = true;
    let worker = RunningWorker::start(spec);
    until("a lease", || {
        world.leases.row("a").is_some_and(|row| row.owner.is_some())
    })
    .await;
    world
        .leases
        .change_faults(|faults| faults.writes_fail = true);
    pass(Duration::from_secs(3)).await;
    world
        .leases
        .change_faults(|faults| faults.writes_fail = false);
    worker.ended().await.unwrap();
    world.assert_exact();
    assert_eq!(world.leases.to("a"), p(99));
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_of_one_shard_drains_the_run() {
    let mut world = World::new(2, true);
    world.stream.append("a", 30, 0);
    world.stream.append("b", 30, 0);
    world.stream.batch_appends(30);
    world
        .stream
        .fail_reads("b", vec![Error::fatal("broken for good")]);
    let worker = RunningWorker::start(world.exact());
    let error = worker.ended().await.unwrap_err();
    assert_eq!(error.to_string(), "broken for good");
    let of_a = world
        .log
        .records()
        .iter()
        .filter(|r| r.0.as_str() == "a")
        .count() as u64;
    assert_eq!(
        world.leases.to("a"),
        if of_a == 0 {
            Position::Begin
        } else {
            p(of_a - 1)
        }
    );
    assert!(world.leases.rows().iter().all(|row| row.owner.is_none()));
}

#[tokio::test(start_paused = true)]
async fn corrupt_data_stalls_its_shard_until_it_is_repaired() {
    let corrupt = || Error::Corrupt {
        path: "x".into(),
        offset: 3,
        detail: "torn".to_owned(),
    };
    let mut world = World::new(2, true);
    world.stream.append("a", 30, 0);
    world.stream.fail_reads("b", vec![corrupt(), corrupt()]);
    let worker = RunningWorker::start(world.exact());
    pass(Duration::from_secs(2)).await;
    world.stream.append("a", 10, 0);
    world.stream.append("b", 5, 0);
    pass(Duration::from_secs(2)).await;
    assert_eq!(world.log.records().len(), 40);
    pass(Duration::from_secs(10)).await;
    world.assert_exact();
    worker.drained().await.unwrap();

    world
        .stream
        .fail_reads("b", (0..100).map(|_| corrupt()).collect());
    let worker = RunningWorker::start(world.exact());
    pass(Duration::from_secs(2)).await;
    assert!(matches!(worker.drained().await, Err(Error::Corrupt { .. })));
}

/// Who takes it over finds the damage itself.
#[tokio::test(start_paused = true)]
async fn a_stalled_shard_that_is_handed_over_does_not_fail_its_former_worker() {
    let mut world = World::new(1, true);
    let torn = |_| Error::Corrupt {
        path: "x".into(),
        offset: 3,
        detail: "torn".to_owned(),
    };
    world.stream.fail_reads("a", (0..100).map(torn).collect());
    let stage = Exact::new(&world.log);
    let (broker, spec) = world.brokered(stage);
    broker.grant("a", 1).await;
    let worker = RunningWorker::start(spec);
    pass(Duration::from_secs(2)).await;
    broker
        .revoke("a", 1, clock::now() + Duration::from_secs(60))
        .await;
    worker.drained().await.unwrap();
}

/// Everything that can be read is published before the run ends with the error.
#[tokio::test(start_paused = true)]
async fn corrupt_data_does_not_keep_other_shards_from_their_end() {
    let mut world = World::new(3, true);
    world.stream.append("b", 10, 0);
    let corrupt = |_| Error::Corrupt {
        path: "x".into(),
        offset: 3,
        detail: "torn".to_owned(),
    };
    world
        .stream
        .fail_reads("b", (0..100).map(corrupt).collect());
    // A child of the corrupt shard never begins.
    world.stream.split_into("b", "b1", "b2");
    world.stream.append("b1", 10, 0);
    world.stream.append("a", 500, 0);
    world.stream.append("c", 500, 0);
    let mut spec = world.exact();
    spec.exit_at_end = true;
    let ended = RunningWorker::start(spec).ended().await;
    assert!(matches!(ended, Err(Error::Corrupt { .. })), "{ended:?}");
    assert_eq!(world.log.records().len(), 1_000);
}

/// Does not find where a time is in shard `b`.
#[derive(Debug)]
struct CorruptBeforeTime(SharedStream);

#[async_trait::async_trait]
impl StreamLayer for CorruptBeforeTime {
    fn below(&self) -> &dyn Stream {
        &*self.0
    }

    async fn start(&self, shard: &ShardId, start: Start) -> Result<Progress> {
        match shard.as_str() {
            "b" => Err(Error::Corrupt {
                path: "x".into(),
                offset: 3,
                detail: "torn".to_owned(),
            }),
            _ => self.0.start(shard, start).await,
        }
    }
}

/// A run that passes corrupt data meets it already where it looks for its start.
#[tokio::test(start_paused = true)]
async fn corrupt_data_before_the_start_ends_its_shard_alone() {
    let mut world = World::new(2, true);
    world.stream.append("a", 50, 0);
    world.stream.append("b", 10, 0);
    let corrupt = |_| Error::Corrupt {
        path: "x".into(),
        offset: 3,
        detail: "torn".to_owned(),
    };
    world
        .stream
        .fail_reads("b", (0..100).map(corrupt).collect());
    let mut spec = world.exact();
    spec.stream = Arc::new(Layered(CorruptBeforeTime(SharedStream::clone(
        &spec.stream,
    ))));
    spec.start = Start::At(0);
    spec.on_corrupt = OnCorrupt::EndShard;
    spec.keeps_progress = false;
    spec.exit_at_end = true;
    let ended = RunningWorker::start(spec).ended().await;
    assert!(matches!(ended, Err(Error::Corrupt { .. })), "{ended:?}");
    assert_eq!(world.log.records().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_superseded_shard_of_an_output_without_progress_continues_where_the_error_says() {
    let mut world = World::new(1, true);
    world.stream.append("a", 20, 0);
    let stage = PlainStage::new(&world.log);
    let superseded = Error::Superseded {
        shard: "a".into(),
        after: p(15),
    };
    stage.failures.lock().unwrap().push(superseded);
    let mut spec = world.spec(stage);
    spec.exit_at_end = true;
    RunningWorker::start(spec).ended().await.unwrap();
    let starts: Vec<_> = world
        .log
        .opened()
        .iter()
        .map(|opened| opened.after.to)
        .collect();
    assert_eq!(starts, [Position::Begin, p(15)]);
    assert_eq!(world.leases.to("a"), p(19));
}
