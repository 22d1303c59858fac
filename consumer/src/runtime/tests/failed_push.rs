//! A push that fails ends the run with its own cause, whatever becomes of what was pushed before.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use hydrant_core::clock::Instant;
use hydrant_core::lease::Progress;
use hydrant_core::shard::Shard;
use hydrant_core::stage::{Flush, Opened, Scope, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::{Error, Result};

use super::*;
use crate::runtime::Summary;

/// Takes one batch, fails at the next one with `cause`, and publishes nothing.
#[derive(Clone, Debug)]
struct FailingStage {
    cause: fn() -> Error,
    publishes: Arc<AtomicUsize>,
    pushes: usize,
}

#[async_trait]
impl Stage for FailingStage {
    fn scope(&self) -> Scope {
        Scope::Shard
    }

    async fn resume(&self, _shard: &Shard) -> Result<Option<Progress>> {
        Ok(None)
    }

    async fn published_to(&self, _shard: &Shard) -> Result<Option<Position>> {
        Ok(None)
    }

    async fn open(&self, _claim: Opened) -> Result<Box<dyn ShardStage>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl ShardStage for FailingStage {
    async fn push(&mut self, _read: Read) -> Result<()> {
        self.pushes += 1;
        match self.pushes {
            1 => Ok(()),
            _ => Err((self.cause)()),
        }
    }

    fn due(&self, _now: Instant) -> Option<Flush> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    async fn publish(&mut self, _why: Flush) -> Result<Progress> {
        self.publishes.fetch_add(1, Ordering::SeqCst);
        Err(Error::fatal("the session has failed"))
    }

    fn outlives_a_failed_push(&self) -> bool {
        true
    }
}

/// Runs two batches into the stage; answers how the run ended, if it did, and how often the stage was to publish.
async fn run_with(cause: fn() -> Error) -> (Option<Result<Summary>>, usize) {
    let mut world = World::new(1, true);
    let publishes = Arc::new(AtomicUsize::new(0));
    let stage = FailingStage {
        cause,
        publishes: Arc::clone(&publishes),
        pushes: 0,
    };
    let spec = world.spec(stage);
    world.stream.append("a", 5, 0);
    let worker = RunningWorker::start(spec);
    pass(Duration::from_secs(1)).await;
    world.stream.append("a", 5, 0);
    let ended = tokio::time::timeout(Duration::from_secs(5), worker.ended()).await;
    (ended.ok(), publishes.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_failed_push_ends_the_run_with_its_cause() {
    let (ended, publishes) = run_with(|| Error::refused("the cause")).await;
    let error = ended.expect("the run ends").unwrap_err();
    assert_eq!(error.to_string(), "the cause");
    assert_eq!(publishes, 1, "what was pushed before was to be published");
}

#[tokio::test(start_paused = true)]
async fn a_push_that_was_fenced_publishes_nothing() {
    let fenced = || Error::Fenced {
        app: "app".to_owned(),
        shard: "a".into(),
        owner: "other".to_owned(),
    };
    let (_, publishes) = run_with(fenced).await;
    assert_eq!(publishes, 0);
}
