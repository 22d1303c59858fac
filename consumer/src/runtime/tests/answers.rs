//! A source that takes a claim back hears when nothing of it is left.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use hydrant_core::clock::Instant;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::Progress;
use hydrant_core::shard::Shard;
use hydrant_core::stage::{Flush, Opened, Scope, ShardStage};
use hydrant_core::stream::Read;

use super::*;

/// A claim that is lost while its task cannot be stopped, since it computes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_claim_is_answered_when_its_half_of_the_stage_is_gone() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let (go_on, gate) = std::sync::mpsc::channel();
    let stage = Computing {
        gate: Arc::new(Mutex::new(gate)),
        ..Computing::default()
    };
    let (at_work, is_left) = (Arc::clone(&stage.at_work), Arc::clone(&stage.is_left));
    let (broker, spec) = world.brokered(stage);
    broker.grant("a", 1).await;
    let worker = RunningWorker::start(spec);
    until("the push", || at_work.load(Ordering::SeqCst)).await;
    let asked = broker.asked();
    let mut left = broker.lose("a", 1);
    until("the supervisor has heard it", || broker.asked() > asked).await;
    assert!((&mut left).now_or_never().is_none(), "it still computes");
    go_on.send(()).unwrap();
    left.await;
    assert!(is_left.load(Ordering::SeqCst));
    // What it does not know is gone already.
    broker.lose("a", 1).await;
    worker.drained().await.unwrap();
}

/// A claim that waits for the task of the shard's former claim has no task: it is answered when it is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_without_a_task_is_answered_at_once_or_when_it_is_given_back() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let (go_on, gate) = std::sync::mpsc::channel();
    let stage = Computing {
        gate: Arc::new(Mutex::new(gate)),
        ..Computing::default()
    };
    let at_work = Arc::clone(&stage.at_work);
    let (broker, spec) = world.brokered(stage);
    broker.grant("a", 1).await;
    let worker = RunningWorker::start(spec);
    until("the push", || at_work.load(Ordering::SeqCst)).await;
    let first = broker.lose("a", 1);
    broker.grant("a", 2).await;
    broker.lose("a", 2).await;
    broker.grant("a", 3).await;
    let until = clock::now() + Duration::from_secs(60);
    broker.revoke("a", 3, until).await;
    assert_eq!(broker.released(), [3]);
    go_on.send(()).unwrap();
    first.await;
    worker.drained().await.unwrap();
}

/// Records of a lost claim must not be in a transaction that another claim is committing.
#[tokio::test(start_paused = true)]
async fn a_lost_claim_is_answered_when_no_publish_may_hold_its_records() {
    let mut world = World::new(2, true);
    let mut stage = Together::new(&world.log);
    stage.slow = Duration::from_secs(5);
    let publishing = Arc::clone(&stage.publishing);
    let (broker, spec) = world.brokered(stage);
    broker.grant("a", 1).await;
    broker.grant("b", 2).await;
    let worker = RunningWorker::start(spec);
    pass(Duration::from_secs(1)).await;
    world.stream.append("b", 1, 0);
    until("the publish of `b`", || publishing.load(Ordering::SeqCst)).await;
    world.stream.append("a", 1, 0);
    pass(Duration::from_secs(1)).await;
    let lost = clock::now();
    broker.lose("a", 1).await;
    assert!(!publishing.load(Ordering::SeqCst), "it is over");
    assert!(clock::now() - lost >= Duration::from_secs(3));
    assert_eq!(world.log.committed("a"), None);
    broker.grant("a", 3).await;
    pass(Duration::from_secs(20)).await;
    world.assert_exact();
    worker.drained().await.unwrap();
}

/// What a task had pushed may be in the transaction although the task has ended.
#[tokio::test(start_paused = true)]
async fn a_claim_whose_task_has_ended_is_answered_when_no_publish_may_hold_its_records() {
    let mut world = World::new(3, true);
    let mut stage = Together::new(&world.log);
    stage.slow = Duration::from_secs(5);
    let publishing = Arc::clone(&stage.publishing);
    let (broker, spec) = world.brokered(stage);
    for (shard, grant) in [("a", 1), ("b", 2), ("c", 3)] {
        broker.grant(shard, grant).await;
    }
    let worker = RunningWorker::start(spec);
    pass(Duration::from_secs(1)).await;
    world.stream.append("b", 1, 0);
    until("the publish of `b`", || publishing.load(Ordering::SeqCst)).await;
    for is_held in [true, false] {
        broker.held.store(is_held, Ordering::SeqCst);
        world.stream.append("a", 1, 0);
        world.stream.append("c", 1, 0);
        // Before they are due, and wait for the publish themselves.
        pass(Duration::from_millis(10)).await;
    }
    assert!(publishing.load(Ordering::SeqCst));
    let revoked = broker.revoke("c", 3, clock::now());
    broker.lose("a", 1).await;
    assert!(!publishing.load(Ordering::SeqCst), "it is over");
    revoked.await;
    drop(worker);
}

/// A source gives away what it takes back when the subscription is gone.
#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_at_once_answers_before_it_leaves() {
    let mut world = World::new(1, true);
    world.stream.append("a", 10, 0);
    let mut stage = Exact::new(&world.log);
    stage.slow = Duration::from_secs(3600);
    let (broker, spec) = world.brokered(stage);
    broker.grant("a", 1).await;
    let worker = RunningWorker::start(spec);
    pass(Duration::from_secs(1)).await;
    let until = clock::now() + Duration::from_secs(60);
    let left = broker.revoke("a", 1, until);
    pass(Duration::from_secs(1)).await;
    broker.awaited.lock().unwrap().push(left);
    let shutdown = worker.shutdown.clone();
    shutdown.advance(hydrant_core::shutdown::Phase::Aborting);
    worker.ended().await.unwrap_err();
    assert!(broker.awaited.lock().unwrap().is_empty());
}

/// A stage whose first push computes until the test lets it continue.
#[derive(Clone, Debug)]
struct Computing {
    gate: Arc<Mutex<std::sync::mpsc::Receiver<()>>>,
    at_work: Arc<AtomicBool>,
    is_left: Arc<AtomicBool>,
}

impl Default for Computing {
    fn default() -> Self {
        let (_, gate) = std::sync::mpsc::channel();
        Computing {
            gate: Arc::new(Mutex::new(gate)),
            at_work: Arc::default(),
            is_left: Arc::default(),
        }
    }
}

#[async_trait]
impl Stage for Computing {
    fn scope(&self) -> Scope {
        Scope::Shard
    }

    async fn resume(&self, _shard: &Shard) -> Result<Option<Progress>> {
        Ok(None)
    }

    async fn published_to(&self, _shard: &Shard) -> Result<Option<Position>> {
        Ok(None)
    }

    async fn open(&self, _opened: Opened) -> Result<Box<dyn ShardStage>> {
        Ok(Box::new(ComputingShard(self.clone())))
    }
}

struct ComputingShard(Computing);

impl Drop for ComputingShard {
    fn drop(&mut self) {
        self.0.is_left.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl ShardStage for ComputingShard {
    async fn push(&mut self, _read: Read) -> Result<()> {
        if self.0.at_work.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let gate = self.0.gate.lock().unwrap();
        // The other tasks of this thread go on.
        let opened = tokio::task::block_in_place(|| gate.recv());
        opened.map_err(|_| Error::fatal("the test is over"))
    }

    fn due(&self, _now: Instant) -> Option<Flush> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    async fn publish(&mut self, _why: Flush) -> Result<Progress> {
        Ok(Progress::default())
    }
}
