use async_trait::async_trait;
use hydrant_core::error::{Error, Result};
use hydrant_core::stage::{Opened, ShardStage};
use hydrant_testing::layer::StageLayer;

use super::*;

impl World {
    fn pinned(&mut self, digest: &str) -> RunSpec {
        let mut spec = self.plain();
        spec.pin = Some(digest.to_owned());
        spec
    }

    fn pin(&self) -> Option<hydrant_core::lease::Pin> {
        self.leases
            .row("a")
            .and_then(|row| row.progress)
            .and_then(|progress| progress.pin)
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_frees_the_policy() {
    let mut world = World::new(1, true);
    let worker = RunningWorker::start(world.pinned("old"));
    until("the pin", || world.pin().is_some()).await;
    world.stream.append("a", 10, 0);
    pass(Duration::from_secs(1)).await;
    worker.drained().await.unwrap();
    assert_eq!((world.pin(), world.leases.to("a")), (None, p(9)));

    let worker = RunningWorker::start(world.pinned("new"));
    until("the pin", || world.pin().is_some()).await;
    let pin = world.pin().unwrap();
    assert_eq!((pin.digest.as_str(), pin.after), ("new", p(9)));
    worker.drained().await.unwrap();
    assert_eq!(world.log.records().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_pin_is_in_the_ledger_before_the_first_output() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let worker = RunningWorker::start(world.pinned("old"));
    until("an output", || !world.log.records().is_empty()).await;
    assert_eq!(world.pin().unwrap().digest, "old");
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn after_a_death_only_the_same_policy_continues() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let worker = RunningWorker::start(world.pinned("old"));
    until("an output", || !world.log.records().is_empty()).await;
    drop(worker);
    pass(Duration::from_secs(1)).await;

    for mut spec in [world.pinned("new"), world.plain()] {
        spec.exit_at_end = true;
        let error = RunningWorker::start(spec).ended().await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused { message } if message.contains("old")),
            "{error}"
        );
    }
    let mut spec = world.pinned("old");
    spec.exit_at_end = true;
    RunningWorker::start(spec).ended().await.unwrap();
    assert_eq!(world.pin(), None);
    let mut spec = world.pinned("new");
    spec.exit_at_end = true;
    RunningWorker::start(spec).ended().await.unwrap();
    world.assert_complete();
}

/// Confirms everything before the error.
#[tokio::test(start_paused = true)]
async fn a_reader_that_fails_for_good_frees_the_policy() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let worker = RunningWorker::start(world.pinned("old"));
    until("all outputs", || world.log.records().len() == 10).await;
    world
        .stream
        .fail_reads("a", vec![Error::fatal("the disk is gone")]);
    let error = worker.ended().await.unwrap_err();
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    assert_eq!((world.pin(), world.leases.to("a")), (None, p(9)));
}

#[derive(Debug)]
struct NeverOpens(PlainStage);

#[async_trait]
impl StageLayer for NeverOpens {
    fn below(&self) -> &dyn Stage {
        &self.0
    }

    async fn open(&self, _claim: Opened) -> Result<Box<dyn ShardStage>> {
        Err(Error::refused("the output is not there"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_was_never_open_frees_the_policy() {
    let mut world = World::new(1, true);
    let mut spec = world.spec(Layered(NeverOpens(PlainStage::new(&Arc::default()))));
    spec.pin = Some("old".to_owned());
    let error = RunningWorker::start(spec).ended().await.unwrap_err();
    assert!(error.to_string().contains("is not there"), "{error}");
    assert_eq!(world.pin(), None);
}

#[tokio::test(start_paused = true)]
async fn a_successor_that_stops_before_its_predecessors_reach_frees_nothing() {
    let mut world = World::new(1, true);
    world.stream.batch_appends(1);
    let mut spec = world.pinned("old");
    spec.checkpoint = Some(Duration::from_secs(3600));
    world.stream.append("a", 10, 0);
    let worker = RunningWorker::start(spec);
    until("all outputs", || world.log.records().len() == 10).await;
    drop(worker);
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.leases.to("a"), Position::Begin);

    // The worker drains as soon as its stage is open: it has published nothing of what its predecessor sent.
    let opened = world.log.opened().len();
    let away = || Error::Unavailable {
        message: "away".to_owned(),
        after: Duration::from_secs(60),
    };
    world.stream.fail_reads("a", vec![away()]);
    let worker = RunningWorker::start(world.pinned("old"));
    until("the stage", || world.log.opened().len() > opened).await;
    worker.drained().await.unwrap();
    assert_eq!(world.pin().unwrap().digest, "old");
    assert!(
        RunningWorker::start(world.pinned("new"))
            .ended()
            .await
            .is_err()
    );
}
