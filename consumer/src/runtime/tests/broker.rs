use hydrant_core::stream::Start;

use super::*;
use crate::runtime::testing::BrokerStream;

impl World {
    fn brokered(&mut self, stage: impl Stage + 'static) -> (Arc<BrokerStream>, RunSpec) {
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
        broker.lose("a", grant);
        // An answer to an old grant does not count.
        broker.lose("a", grant.saturating_sub(1));
    }
    broker.grant("a", 20).await;
    let worker = RunningWorker::start(spec);
    until("the records", || world.log.records().len() == 30).await;
    broker.lose("a", 19);
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
        broker.revoke("a", 1, clock::now() + Duration::from_secs(10));
        pass(Duration::from_secs(11)).await;
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
    world.stream.split("a", "b", "c");
    world.stream.append("b", 4, 0);
    until("the parent's end", || broker.to("a") == Some(Position::End)).await;
    broker.grant("b", 2).await;
    until("the records", || world.log.records().len() == 4).await;
    worker.drained().await.unwrap();
    assert_eq!(broker.to("b"), Some(p(3)));
}
