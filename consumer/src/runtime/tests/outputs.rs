//! Several outputs under one app: none of them takes the progress of another one for its own.

use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Lease, LeaseStore as _, OutputId, Progress, Swap};
use hydrant_core::stream::Start;

use super::*;
use crate::runtime::Summary;
use crate::runtime::testing::BrokerStream;

/// An output and the records in it.
struct LateLake {
    id: &'static str,
    keeps_progress: bool,
    log: Arc<OutputLog>,
}

impl LateLake {
    fn new(id: &'static str) -> Self {
        LateLake {
            id,
            keeps_progress: true,
            log: Arc::default(),
        }
    }

    /// Creates an output that does not track its progress.
    fn forgetful(id: &'static str) -> Self {
        LateLake {
            keeps_progress: false,
            ..LateLake::new(id)
        }
    }

    fn spec(&self, world: &mut World) -> RunSpec {
        if self.keeps_progress {
            world.spec(NamedStage::new(self.id, true, Exact::new(&self.log)))
        } else {
            world.spec(NamedStage::new(self.id, false, PlainStage::new(&self.log)))
        }
    }

    fn start(&self, world: &mut World) -> RunningWorker {
        RunningWorker::start(self.spec(world))
    }

    /// Runs to the end of the stream.
    async fn fill(&self, world: &mut World) -> Result<Summary> {
        self.fill_from(world, Start::Earliest).await
    }

    async fn fill_from(&self, world: &mut World, start: Start) -> Result<Summary> {
        let mut spec = self.spec(world);
        (spec.start, spec.exit_at_end) = (start, true);
        spec.idle = Duration::from_millis(50);
        RunningWorker::start(spec).ended().await
    }

    /// Checks that the output holds each record of the stream once.
    fn assert_exact(&self, world: &World) {
        let counts = self.log.counts();
        for record in world.stream.all() {
            assert_eq!(counts.get(&record), Some(&1), "{}: {record:?}", self.id);
        }
        assert_eq!(counts.len(), world.stream.all().len());
    }
}

fn assert_refused(answer: Result<Summary>, words: &[&str]) {
    match answer {
        Err(Error::Refused { message }) => {
            for word in words {
                assert!(message.contains(word), "`{word}` is missing in: {message}");
            }
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn filled(shards: u8, sees_deaths: bool) -> World {
    let world = World::new(shards, sees_deaths);
    for shard in world.stream.open_shards() {
        world.stream.append(shard.id.as_str(), 20, 0);
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_second_output_of_an_app_gets_everything_from_the_start() {
    for lakes in [
        [LateLake::new("one"), LateLake::new("two")],
        [LateLake::forgetful("one"), LateLake::forgetful("two")],
        [LateLake::new("one"), LateLake::forgetful("two")],
        [LateLake::forgetful("one"), LateLake::new("two")],
    ] {
        let mut world = filled(3, true);
        lakes[0].fill(&mut world).await.unwrap();
        lakes[1].fill(&mut world).await.unwrap();
        world.stream.append("a", 5, 0);
        lakes[1].fill(&mut world).await.unwrap();
        for lake in &lakes {
            if lake.keeps_progress {
                lake.fill(&mut world).await.unwrap();
                lake.assert_exact(&world);
            }
        }
        if !lakes[1].keeps_progress && lakes[0].keeps_progress {
            lakes[1].assert_exact(&world);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_made_again_starts_at_the_start() {
    for sees_deaths in [true, false] {
        let mut world = filled(2, sees_deaths);
        let worker = LateLake::new("first").start(&mut world);
        pass(Duration::from_secs(2)).await;
        // It dies with its leases held.
        drop(worker);
        let again = LateLake::new("made again");
        again.fill(&mut world).await.unwrap();
        again.assert_exact(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_that_lost_its_progress_does_not_get_that_of_the_ledger() {
    for start in [Start::Earliest, Start::At(0)] {
        let mut world = filled(2, true);
        LateLake::new("one").fill(&mut world).await.unwrap();
        let emptied = LateLake::new("one");
        let mut spec = emptied.spec(&mut world);
        spec.start = start;
        let worker = RunningWorker::start(spec);
        pass(Duration::from_secs(3)).await;
        worker.drained().await.unwrap();
        emptied.assert_exact(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn while_an_app_works_for_one_output_another_is_refused() {
    for sees_deaths in [true, false] {
        for first in [["one", "two"], ["two", "one"]] {
            let mut world = filled(2, sees_deaths);
            let [first, second] = first.map(LateLake::new);
            let worker = first.start(&mut world);
            pass(Duration::from_secs(2)).await;
            let words = [
                "app `app`",
                "lake one",
                "lake two",
                "--app NAME",
                "worker `w",
            ];
            let began = clock::now();
            assert_refused(second.fill(&mut world).await, &words);
            assert!(clock::now() - began < Duration::from_secs(5));
            assert!(second.log.records().is_empty());
            world.stream.append("b", 7, 0);
            pass(Duration::from_secs(2)).await;
            first.assert_exact(&world);
            worker.drained().await.unwrap();
            second.fill(&mut world).await.unwrap();
            second.assert_exact(&world);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_outputs_started_at_once_lose_and_double_nothing() {
    let mut both_refused = 0;
    for seed in 0..40 {
        let mut world = filled(1 + (seed % 4) as u8, seed % 2 == 0);
        world.seed = seed * 100;
        world
            .leases
            .change_faults(|faults| faults.write_time = Duration::from_millis(seed % 7 * 5));
        let lakes = [LateLake::new("one"), LateLake::new("two")];
        let workers = [lakes[0].start(&mut world), lakes[1].start(&mut world)];
        pass(Duration::from_secs(30)).await;
        let ended = workers.each_ref().map(RunningWorker::has_ended);
        assert!(ended.contains(&true), "seed {seed}: they share the shards");
        both_refused += u32::from(ended == [true, true]);
        for (worker, ended) in workers.into_iter().zip(ended) {
            if ended {
                assert_refused(worker.ended().await, &["lake one", "lake two"]);
            } else {
                worker.drained().await.unwrap();
            }
        }
        for lake in &lakes {
            lake.fill(&mut world).await.unwrap();
            lake.assert_exact(&world);
        }
    }
    assert_eq!(both_refused, 0, "one of them continues");
}

#[tokio::test(start_paused = true)]
async fn two_workers_of_a_second_output_find_its_end_together() {
    let mut world = filled(4, true);
    world.stream.split_into("a", "e", "f");
    world.stream.append("f", 9, 0);
    LateLake::new("one").fill(&mut world).await.unwrap();
    let second = LateLake::new("two");
    let workers = [(); 2].map(|()| {
        let mut spec = second.spec(&mut world);
        spec.exit_at_end = true;
        spec.idle = Duration::from_millis(50);
        RunningWorker::start(spec)
    });
    for worker in workers {
        worker.ended().await.unwrap();
    }
    second.assert_exact(&world);
}

#[tokio::test(start_paused = true)]
async fn a_second_output_works_on_parents_before_children_although_the_first_has_ended_them() {
    let mut world = filled(2, true);
    let first = LateLake::new("one");
    first.fill(&mut world).await.unwrap();
    world.stream.split_into("a", "c", "d");
    world.stream.append("c", 5, 0);
    world.stream.merge_into("d", "b", "e");
    world.stream.append("e", 5, 0);
    first.fill(&mut world).await.unwrap();
    assert_eq!(world.leases.to("a"), Position::End);
    // The stage asserts the order at each opening. The worker dies again and again.
    let second = LateLake::new("two");
    for _ in 0..10 {
        let before = second.log.records().len();
        let worker = second.start(&mut world);
        let deadline = clock::now() + Duration::from_secs(2);
        while second.log.records().len() == before && clock::now() < deadline {
            pass(Duration::from_millis(7)).await;
        }
        drop(worker);
    }
    second.fill(&mut world).await.unwrap();
    second.assert_exact(&world);
    assert_eq!(world.leases.to("a"), Position::End);
    first.fill(&mut world).await.unwrap();
    first.assert_exact(&world);
}

#[tokio::test(start_paused = true)]
async fn a_start_at_the_latest_record_leaves_out_nothing_that_came_after_it() {
    let mut world = filled(1, true);
    let lakes = [LateLake::new("one"), LateLake::new("two")];
    for lake in &lakes {
        let mut spec = lake.spec(&mut world);
        spec.start = Start::Latest;
        let worker = RunningWorker::start(spec);
        pass(Duration::from_secs(2)).await;
        world.stream.append("a", 1, 0);
        pass(Duration::from_secs(2)).await;
        worker.drained().await.unwrap();
        assert_eq!(lake.log.records().len(), 1);
    }
    // The shard was created while the app worked for the second output: the first one still gets all of it.
    world.stream.append("a", 3, 0);
    world.stream.split_into("a", "b", "c");
    world.stream.append("b", 4, 0);
    for (lake, records) in [(&lakes[1], 1 + 7), (&lakes[0], 1 + 1 + 7)] {
        let mut spec = lake.spec(&mut world);
        (spec.start, spec.exit_at_end) = (Start::Latest, true);
        RunningWorker::start(spec).ended().await.unwrap();
        assert_eq!(lake.log.records().len(), records, "{}", lake.id);
    }
}

#[tokio::test(start_paused = true)]
async fn rows_from_before_outputs_had_identities_are_continued() {
    for lake in [LateLake::new("one"), LateLake::forgetful("one")] {
        let mut world = filled(2, true);
        // Rows without an identity.
        let mut spec = if lake.keeps_progress {
            world.spec(Exact::new(&lake.log))
        } else {
            world.spec(PlainStage::new(&lake.log))
        };
        spec.exit_at_end = true;
        RunningWorker::start(spec).ended().await.unwrap();
        assert!(world.leases.rows().iter().all(|row| row.output().is_none()));
        world.stream.append("a", 5, 0);
        lake.fill(&mut world).await.unwrap();
        lake.assert_exact(&world);
        let names = world.leases.rows();
        assert!(
            names
                .iter()
                .all(|row| row.output().is_some_and(|output| output.id == "one"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_owner_of_another_output_is_fenced_when_its_row_is_taken_over() {
    let mut world = filled(1, false);
    let progress = Progress {
        to: p(11),
        output: Some(OutputId::new("one", "lake one")),
        ..Progress::default()
    };
    let row = Lease {
        owner: Some("silent".to_owned()),
        epoch: 4,
        progress: Some(progress),
        ..Lease::new("a".into())
    };
    assert_eq!(world.leases.swap(None, &row).await.unwrap(), Swap::Swapped);
    let second = LateLake::new("two");
    let worker = second.start(&mut world);
    pass(Duration::from_secs(8)).await;
    assert_eq!(world.leases.row("a"), Some(row), "it may be alive");
    pass(Duration::from_secs(8)).await;
    second.assert_exact(&world);
    assert!(world.leases.row("a").unwrap().epoch > 4);
    worker.drained().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn progress_that_a_broker_keeps_for_another_output_does_not_count() {
    for (id, records) in [("one", 8), ("two", 20)] {
        let mut world = filled(1, true);
        let lake = LateLake::forgetful(id);
        let broker = BrokerStream::around(Arc::clone(&world.stream) as _);
        broker.keep(
            "a",
            Progress {
                to: p(11),
                output: Some(OutputId::new("one", "lake one")),
                ..Progress::default()
            },
        );
        let mut spec = lake.spec(&mut world);
        spec.stream = Arc::clone(&broker) as _;
        broker.grant("a", 1).await;
        let worker = RunningWorker::start(spec);
        until("the records", || lake.log.records().len() == records).await;
        worker.drained().await.unwrap();
        assert_eq!(broker.to("a"), Some(p(19)));
    }
}

/// The rows of the app say more than an output that was put back from a backup has.
#[tokio::test(start_paused = true)]
async fn an_output_that_was_put_back_gets_what_it_lacks() {
    for sees_deaths in [true, false] {
        let mut world = filled(2, sees_deaths);
        let lake = LateLake::new("one");
        let empty = lake.log.backup();
        lake.fill(&mut world).await.unwrap();
        let backup = lake.log.backup();
        world.stream.append("a", 5, 0);
        world.stream.append("b", 5, 0);
        lake.fill(&mut world).await.unwrap();
        lake.log.put_back(&backup);
        lake.fill(&mut world).await.unwrap();
        lake.assert_exact(&world);
        // Since the backup shards have ended, and their children too.
        world.stream.split_into("a", "c", "d");
        world.stream.append("c", 5, 0);
        world.stream.merge_into("d", "b", "e");
        world.stream.append("e", 5, 0);
        lake.fill(&mut world).await.unwrap();
        for backup in [backup, empty] {
            lake.log.put_back(&backup);
            lake.fill(&mut world).await.unwrap();
            lake.assert_exact(&world);
        }
    }
}

/// Its owner died after it had written the end of the shard, and its death is not known for a lease time.
#[tokio::test(start_paused = true)]
async fn an_end_that_an_output_lacks_is_void_although_its_writer_may_live() {
    let mut world = filled(1, false);
    let lake = LateLake::new("one");
    lake.fill(&mut world).await.unwrap();
    let backup = lake.log.backup();
    world.stream.append("a", 5, 0);
    world.stream.split_into("a", "b", "c");
    world.stream.append("b", 5, 0);
    lake.fill(&mut world).await.unwrap();
    let row = world.leases.row("a").unwrap();
    let held = Lease {
        owner: Some("dead".to_owned()),
        counter: row.counter + 1,
        ..row.clone()
    };
    let swapped = world.leases.swap(Some(&row), &held).await.unwrap();
    assert_eq!(swapped, Swap::Swapped);
    lake.log.put_back(&backup);
    lake.fill(&mut world).await.unwrap();
    lake.assert_exact(&world);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_was_put_back_to_before_its_start_begins_there_again() {
    let mut world = filled(2, true);
    let lake = LateLake::new("one");
    let empty = lake.log.backup();
    lake.fill_from(&mut world, Start::Latest).await.unwrap();
    let skipped = world.stream.all();
    // A restart takes the start over into the row that it writes.
    for _ in 0..2 {
        world.stream.append("a", 5, 0);
        lake.fill_from(&mut world, Start::Latest).await.unwrap();
    }
    world.stream.split_into("a", "c", "d");
    world.stream.append("c", 5, 0);
    lake.fill_from(&mut world, Start::Latest).await.unwrap();
    let records = world.stream.all().len() - skipped.len();
    assert_eq!(lake.log.records().len(), records);
    lake.log.put_back(&empty);
    lake.fill_from(&mut world, Start::Latest).await.unwrap();
    let counts = lake.log.counts();
    for record in world.stream.all() {
        let expected = usize::from(!skipped.contains(&record));
        assert_eq!(
            counts.get(&record).copied().unwrap_or(0),
            expected,
            "{record:?}"
        );
    }
}
