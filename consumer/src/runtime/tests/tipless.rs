//! Streams that know neither their tips nor positions for times.

use std::collections::BTreeMap;

use hydrant_core::error::Error;
use hydrant_core::stream::Start;

use super::*;
use crate::runtime::Summary;
use crate::runtime::testing::TiplessStream;

impl World {
    /// A run over the stream without its tips.
    fn tipless(&mut self, stage: impl Stage + 'static) -> (Arc<Layered<TiplessStream>>, RunSpec) {
        let stream = TiplessStream::around(Arc::clone(&self.stream) as _);
        let mut spec = self.spec(stage);
        spec.stream = Arc::clone(&stream) as _;
        spec.exit_at_end = true;
        (stream, spec)
    }
}

/// Waits for the end of a run, which has to be found.
async fn ended(worker: RunningWorker) -> Summary {
    let ended = tokio::time::timeout(Duration::from_secs(600), worker.ended());
    ended.await.expect("the end is found").unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_worker_finds_the_end_of_a_stream_without_tips() {
    let mut world = World::new(3, true);
    world.stream.append("a", 40, 0);
    world.stream.append("b", 7, 0);
    world.stream.split_into("a", "low", "high");
    world.stream.append("low", 5, 0);
    let stage = Exact::new(&world.log);
    let (stream, spec) = world.tipless(stage);
    let summary = ended(RunningWorker::start(spec)).await;
    world.assert_exact();
    assert_eq!(summary.shards[&"b".into()].lag, Some(0));
    let (asked, _) = stream.asked();
    assert_eq!(
        asked, 4,
        "only the lag of open shards is asked for, once at the end"
    );
}

#[tokio::test(start_paused = true)]
async fn three_workers_find_the_end_of_a_stream_without_tips() {
    let mut world = World::new(7, true);
    for shard in "abcdefg".chars() {
        world.stream.append(&shard.to_string(), 30, 0);
    }
    let mut workers = Vec::new();
    for _ in 0..3 {
        let stage = Exact::new(&world.log);
        let (stream, mut spec) = world.tipless(stage);
        spec.idle = Duration::from_secs(4);
        workers.push((stream, RunningWorker::start(spec)));
    }
    pass(Duration::from_secs(3)).await;
    let loads = world.leases.loads();
    assert_eq!(loads.len(), 3, "each has some: {loads:?}");
    world.stream.append("d", 10, 0);
    for (stream, worker) in workers {
        ended(worker).await;
        let (asked, time) = stream.asked();
        // Those of others once an idle time, and all for the lag at the end.
        let most = 7 * (time.as_secs() / 4) + 7;
        assert!(asked <= most, "asked {asked} times in {time:?}");
    }
    world.assert_exact();
}

/// A reader that fails has not said whether anything is left.
#[tokio::test(start_paused = true)]
async fn a_stream_without_tips_does_not_end_while_its_reader_fails() {
    let mut world = World::new(1, true);
    world.stream.append("a", 5, 0);
    let stage = Exact::new(&world.log);
    let (_, mut spec) = world.tipless(stage);
    spec.idle = Duration::from_secs(5);
    let worker = RunningWorker::start(spec);
    until("the ledger", || world.leases.to("a") == p(4)).await;
    let away = Error::Unavailable {
        message: "away".to_owned(),
        after: Duration::from_secs(30),
    };
    world.stream.fail_reads("a", vec![away]);
    pass(Duration::from_millis(10)).await;
    world.stream.append("a", 5, 0);
    ended(worker).await;
    world.assert_exact();
}

/// What another worker has read and not published is not done.
#[tokio::test(start_paused = true)]
async fn a_stream_without_tips_does_not_end_before_another_worker_has_published() {
    let mut world = World::new(2, true);
    let mut slow = Exact::new(&world.log);
    slow.every = Duration::from_secs(140);
    let (_, mut first) = world.tipless(slow);
    first.exit_at_end = false;
    let first = RunningWorker::start(first);
    until("all shards", || {
        world.leases.loads().values().sum::<usize>() == 2
    })
    .await;
    let stage = Exact::new(&world.log);
    let (stream, second) = world.tipless(stage);
    let second = RunningWorker::start(second);
    until("a share", || world.leases.loads().len() == 2).await;
    let held: BTreeMap<_, _> = world.leases.loads();
    for shard in ["a", "b"] {
        world.stream.append(shard, 5, 0);
    }
    until("the second one's records", || {
        world.log.records().len() == 5
    })
    .await;
    pass(Duration::from_secs(100)).await;
    assert!(!second.has_ended(), "{held:?}: the other has not published");
    let (asked, time) = stream.asked();
    assert!(
        (10..=time.as_secs()).contains(&asked),
        "asked {asked} times in {time:?}, with an idle time of a second"
    );
    until("the first one's records", || {
        world.log.records().len() == 10
    })
    .await;
    ended(second).await;
    first.drained().await.unwrap();
    world.assert_exact();
}

#[tokio::test(start_paused = true)]
async fn a_start_is_kept_as_it_was_asked_for_until_a_record_was_read() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    for round in 0..3 {
        let stage = PlainStage::new(&world.log);
        let (_, mut spec) = world.tipless(stage);
        (spec.start, spec.exit_at_end) = (Start::Latest, round == 2);
        let worker = RunningWorker::start(spec);
        if round == 2 {
            ended(worker).await;
            continue;
        }
        until("the row", || world.leases.row("a").is_some()).await;
        pass(Duration::from_secs(2)).await;
        worker.drained().await.unwrap();
        let progress = world.leases.row("a").unwrap().progress.unwrap();
        let asked = Some(Start::At(10));
        assert_eq!((progress.to, progress.began), (Position::Begin, asked));
        if round == 1 {
            // Records that come while no worker runs come after the start.
            world.stream.append("a", 2, 0);
        }
    }
    let offsets: Vec<_> = world.log.records().iter().map(|(_, n)| *n).collect();
    assert_eq!(offsets, [10, 11]);
    let progress = world.leases.row("a").unwrap().progress.unwrap();
    assert_eq!((progress.to, progress.began), (p(11), Some(Start::At(10))));
}

/// Without a tip a successor has passed what its predecessor may have sent once nothing is left to read.
#[tokio::test(start_paused = true)]
async fn a_policy_is_freed_behind_what_a_dead_predecessor_may_have_sent() {
    let mut world = World::new(1, true);
    let pinned = |world: &mut World| {
        let stage = PlainStage::new(&world.log);
        let (_, mut spec) = world.tipless(stage);
        spec.pin = Some("old".to_owned());
        spec.exit_at_end = false;
        spec
    };
    let pin = |world: &World| {
        let progress = world.leases.row("a").and_then(|row| row.progress);
        progress.and_then(|progress| progress.pin)
    };
    world.stream.batch_appends(1);
    world.stream.append("a", 10, 0);
    let mut spec = pinned(&mut world);
    spec.checkpoint = Some(Duration::from_secs(3600));
    let worker = RunningWorker::start(spec);
    until("all outputs", || world.log.records().len() == 10).await;
    drop(worker);
    pass(Duration::from_secs(1)).await;
    // The next one stops before it has read anything.
    let away = hydrant_core::error::Error::Unavailable {
        message: "away".to_owned(),
        after: Duration::from_secs(60),
    };
    world.stream.fail_reads("a", vec![away]);
    let opened = world.log.opened().len();
    let spec = pinned(&mut world);
    let worker = RunningWorker::start(spec);
    until("the stage", || world.log.opened().len() > opened).await;
    worker.drained().await.unwrap();
    assert_eq!(pin(&world).unwrap().digest, "old");
    // The last one reads everything there is.
    let spec = pinned(&mut world);
    let worker = RunningWorker::start(spec);
    until("all outputs again", || world.log.records().len() == 20).await;
    pass(Duration::from_secs(2)).await;
    worker.drained().await.unwrap();
    assert_eq!((pin(&world), world.leases.to("a")), (None, p(9)));
}

/// A reader that found nothing more before the order may not have looked since the last record came.
#[tokio::test(start_paused = true)]
async fn an_order_to_finish_shortens_no_look_at_a_stream_without_tips() {
    let mut world = World::new(1, true);
    world.stream.append("a", 5, 0);
    let stage = Exact::new(&world.log);
    let (_, mut spec) = world.tipless(stage);
    spec.exit_at_end = false;
    let (finish, idle) = (spec.finish.clone(), spec.idle);
    let worker = RunningWorker::start(spec);
    pass(Duration::from_secs(30)).await;
    let ordered = clock::now();
    finish.give(Duration::from_millis(50));
    ended(worker).await;
    assert!(clock::now() - ordered >= idle);
    world.assert_exact();
}
