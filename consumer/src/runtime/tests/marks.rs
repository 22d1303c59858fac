//! Marks come back with the position that they belong to, whatever opens the next reader.

use async_trait::async_trait;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::Progress;
use hydrant_core::shard::{Shard, ShardId};
use hydrant_core::stream::Start;
use hydrant_testing::layer::StageLayer;

use super::*;
use crate::runtime::testing::MarkedStream;

impl World {
    /// A run over readers that fail when they are opened with marks of another place.
    fn marked(&mut self, stage: impl Stage + 'static) -> (Arc<Layered<MarkedStream>>, RunSpec) {
        let stream = MarkedStream::around(Arc::clone(&self.stream) as _);
        let mut spec = self.spec(stage);
        spec.stream = Arc::clone(&stream) as _;
        spec.exit_at_end = true;
        (stream, spec)
    }
}

fn away() -> Error {
    Error::Unavailable {
        message: "away".to_owned(),
        after: Duration::ZERO,
    }
}

fn places(stream: &MarkedStream, shard: &str) -> Vec<Position> {
    let opened = stream.opened().into_iter();
    opened
        .filter(|(id, _)| *id == ShardId::from(shard))
        .map(|(_, to)| to)
        .collect()
}

/// A reader fails behind each record, and opens again with the marks there.
#[tokio::test(start_paused = true)]
async fn a_reader_that_failed_is_opened_again_with_the_marks_of_its_last_read() {
    const RECORDS: u64 = 20;
    let mut world = World::new(1, true);
    world.stream.batch_appends(1);
    let stage = PlainStage::new(&world.log);
    let (stream, spec) = world.marked(stage);
    let worker = RunningWorker::start(spec);
    for n in 0..RECORDS {
        world.stream.append("a", 1, 0);
        until("the record", || world.log.records().len() as u64 > n).await;
        world.stream.fail_reads("a", vec![away()]);
        until("the next reader", || places(&stream, "a").contains(&p(n))).await;
    }
    worker.ended().await.unwrap();
    world.assert_exact();
}

/// The next attempt begins after the last publish, wherever that was, also where it was inside of a batch.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_failed_is_made_again_with_the_marks_of_what_is_published() {
    for (batch, publishes) in [(1, 1), (3, 2), (7, 5)] {
        let mut world = World::new(1, true);
        world.stream.batch_appends(batch);
        let mut stage = Exact::new(&world.log);
        stage.records_max = publishes;
        // Every other publish fails, and its attempt with it.
        let failures = Arc::clone(&stage.failures);
        let (stream, spec) = world.marked(stage);
        let worker = RunningWorker::start(spec);
        for _ in 0..10 {
            let before = stream.opened().len();
            failures.lock().unwrap().push(away());
            world.stream.append("a", 10, 0);
            until("another attempt", || stream.opened().len() > before).await;
        }
        worker.ended().await.unwrap();
        world.assert_exact();
        assert!(places(&stream, "a").len() > 10);
    }
}

/// Memory is short for so long that what was read ahead is given back, and read again.
#[tokio::test(start_paused = true)]
async fn reads_that_were_dropped_are_made_again_with_the_marks_of_what_was_handed_out() {
    let mut world = World::new(8, true);
    for shard in "abcdefgh".chars() {
        world.stream.append(&shard.to_string(), 40, 1000);
    }
    world.stream.batch_appends(4);
    let mut stage = Exact::new(&world.log);
    stage.slow = Duration::from_secs(5);
    let (stream, mut spec) = world.marked(stage);
    spec.context = context(3, 20 << 10);
    RunningWorker::start(spec).ended().await.unwrap();
    world.assert_exact();
    let opened = stream.opened();
    let again = opened.iter().filter(|(_, to)| *to != Position::Begin);
    assert!(again.count() > 8, "{opened:?}");
}

/// Workers that die, drain and take over, of an output with and without progress of its own.
#[tokio::test(start_paused = true)]
async fn a_successor_begins_with_the_marks_of_its_predecessor() {
    for keeps_progress in [true, false] {
        let mut world = World::new(1, true);
        world.stream.batch_appends(3);
        for round in 0..6 {
            let (stream, mut spec) = match keeps_progress {
                true => {
                    let stage = Exact::new(&world.log);
                    world.marked(stage)
                }
                false => {
                    let stage = PlainStage::new(&world.log);
                    world.marked(stage)
                }
            };
            spec.exit_at_end = false;
            spec.checkpoint = Some(Duration::ZERO);
            let worker = RunningWorker::start(spec);
            let before = world.leases.to("a");
            world.stream.append("a", 5, 0);
            until("progress", || world.leases.to("a") > before).await;
            match round % 2 {
                0 => drop(worker),
                _ => drop(worker.drained().await.unwrap()),
            }
            let arrival = world.leases.row("a").unwrap().progress.unwrap().arrival;
            let to = world.leases.to("a").next_offset().unwrap() as i64 - 1;
            assert_eq!(arrival, Some(to), "the arrival says how much time is lost");
            let wanted = places(&stream, "a");
            assert_eq!(wanted[0] == Position::Begin, round == 0, "{wanted:?}");
        }
        world.assert_complete();
    }
}

/// An output that answers how far it is, and keeps no marks.
#[derive(Debug)]
struct Markless(Exact);

#[async_trait]
impl StageLayer for Markless {
    fn below(&self) -> &dyn Stage {
        &self.0
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        let resumed = self.0.resume(shard).await?;
        Ok(resumed.map(|resumed| Progress {
            marks: Vec::new(),
            ..resumed
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn marks_that_the_output_does_not_keep_come_from_the_ledger_of_the_same_place() {
    let mut world = World::new(1, true);
    for round in 1..4 {
        let stage = Layered(Markless(Exact::new(&world.log)));
        let (stream, mut spec) = world.marked(stage);
        spec.exit_at_end = false;
        let worker = RunningWorker::start(spec);
        world.stream.append("a", 5, 0);
        until("the records", || world.log.records().len() == 5 * round).await;
        worker.drained().await.unwrap();
        let begun = match round {
            1 => Position::Begin,
            round => p(5 * (round as u64 - 1) - 1),
        };
        assert_eq!(places(&stream, "a"), [begun]);
    }
    world.assert_exact();
}

/// Children begin with what their parents' readers knew at their ends: split, merged, and past a shard without records.
#[tokio::test(start_paused = true)]
async fn children_begin_with_the_final_marks_of_their_parents() {
    for keeps_progress in [true, false] {
        let mut world = World::new(2, true);
        world.stream.append("a", 10, 0);
        world.stream.append("b", 3, 0);
        world.stream.split_into("a", "low", "high");
        world.stream.append("low", 4, 0);
        // `high` ends without a record.
        world.stream.merge_into("high", "b", "both");
        world.stream.split_into("both", "left", "right");
        world.stream.append("right", 4, 0);
        let (stream, spec) = match keeps_progress {
            true => {
                let stage = Exact::new(&world.log);
                world.marked(stage)
            }
            false => {
                let stage = PlainStage::new(&world.log);
                world.marked(stage)
            }
        };
        RunningWorker::start(spec).ended().await.unwrap();
        world.assert_exact();
        assert_eq!(stream.opened().len(), 7);
        let row = world.leases.row("right").unwrap();
        let progress = row.progress.unwrap();
        let marks = String::from_utf8(progress.marks).unwrap();
        assert_eq!(
            (marks.as_str(), progress.arrival),
            ("b@2 a@9 right@3 ", Some(3))
        );
    }
}

/// The source has lost the rows of parents that it no longer lists; an output that knows its own progress has them.
#[tokio::test(start_paused = true)]
async fn parents_that_the_source_forgot_are_asked_of_the_output() {
    for start in [Start::Earliest, Start::Latest] {
        children_are_read_from_their_beginning(start).await;
    }
}

/// Whose rows are gone: the output knows that it had the parent, so the children are not new to it.
async fn children_are_read_from_their_beginning(start: Start) {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let stage = Exact::new(&world.log);
    let (_, mut spec) = world.marked(NamedStage::new("1", true, stage));
    spec.exit_at_end = false;
    let worker = RunningWorker::start(spec);
    until("the records", || world.log.records().len() == 10).await;
    world.stream.split_into("a", "low", "high");
    until("the end", || world.leases.to("a") == Position::End).await;
    drop(worker);
    world.leases.take_away("a");
    for child in ["low", "high"] {
        world.leases.take_away(child);
        world.stream.append(child, 2, 0);
    }
    let stage = Exact::new(&world.log);
    let (stream, mut spec) = world.marked(NamedStage::new("1", true, stage));
    stream.forget("a");
    spec.start = start;
    RunningWorker::start(spec).ended().await.unwrap();
    world.assert_exact();
    assert_eq!(places(&stream, "low"), [Position::Begin]);
    assert!(world.leases.row("a").is_none());
}

/// A parent that the map has no more is not done while a worker may have records of it that are not published.
#[tokio::test(start_paused = true)]
async fn children_of_a_shard_that_is_gone_wait_for_its_holder() {
    let mut world = World::new(2, true);
    world.stream.append("a", 10, 0);
    world.stream.append("b", 10, 0);
    let mut stage = Exact::new(&world.log);
    (stage.every, stage.slow) = (Duration::from_secs(3600), Duration::from_secs(60));
    let (stream, mut spec) = world.marked(stage);
    spec.exit_at_end = false;
    let worker = RunningWorker::start(spec);
    until("both shards", || stream.opened().len() == 2).await;
    pass(Duration::from_secs(1)).await;
    world.stream.merge_into("a", "b", "both");
    for parent in ["a", "b"] {
        stream.forget(parent);
    }
    world.stream.append("both", 5, 0);
    // While the ends are published, and after it with the marks of both.
    pass(Duration::from_secs(30)).await;
    assert!(world.log.records().is_empty());
    until("the child", || !places(&stream, "both").is_empty()).await;
    worker.drained().await.unwrap();
    world.assert_exact();
}

/// Past a parent that is gone a child begins with the last marks that are known.
#[tokio::test(start_paused = true)]
async fn a_child_of_a_shard_that_was_not_read_to_its_end_begins_with_the_last_marks() {
    let mut world = World::new(1, true);
    world.stream.append("a", 5, 0);
    let stage = PlainStage::new(&world.log);
    let (_, mut spec) = world.marked(stage);
    spec.exit_at_end = false;
    let worker = RunningWorker::start(spec);
    until("the ledger", || world.leases.to("a") == p(4)).await;
    drop(worker);
    world.stream.append("a", 5, 0);
    world.stream.split_into("a", "low", "high");
    world.stream.append("low", 5, 0);
    let stage = PlainStage::new(&world.log);
    let (stream, spec) = world.marked(stage);
    stream.forget_after("a", p(4));
    RunningWorker::start(spec).ended().await.unwrap();
    assert_eq!(world.log.records().len(), 10);
    let progress = world.leases.row("low").unwrap().progress.unwrap();
    assert_eq!(progress.marks, b"a@4 low@4 ");
}

/// Without the marks of its parent a child would let copies through.
#[tokio::test(start_paused = true)]
async fn a_child_whose_parent_lost_its_row_is_not_read_without_marks() {
    let mut world = World::new(1, true);
    world.stream.append("a", 5, 0);
    world.stream.split_into("a", "low", "high");
    world.stream.append("low", 5, 0);
    let stage = PlainStage::new(&world.log);
    let (_, spec) = world.marked(stage);
    RunningWorker::start(spec).ended().await.unwrap();
    // `high` had no records, so that it begins only now.
    assert_eq!(world.leases.to("high"), Position::Begin);
    world.leases.take_away("a");
    world.stream.append("high", 5, 0);
    let stage = PlainStage::new(&world.log);
    let (stream, spec) = world.marked(stage);
    stream
        .forgives
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let error = RunningWorker::start(spec).ended().await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("lost its lease row for shard `a`"),
        "{error}"
    );
    assert_eq!(world.log.records().len(), 10);
}
