use super::*;
use hydrant_core::stage::Flush;

/// Eight shards of 40 records of 1 KiB each, with room for 20.
async fn with_a_tiny_budget(stage: impl Stage + 'static, world: &mut World) {
    for shard in "abcdefgh".chars() {
        world.stream.append(&shard.to_string(), 40, 1000);
    }
    let mut spec = world.spec(stage);
    spec.context = context(3, 20 << 10);
    spec.exit_at_end = true;
    let budget = spec.context.budget.clone();
    tokio::time::timeout(Duration::from_secs(300), RunningWorker::start(spec).ended())
        .await
        .expect("the run does not hang")
        .unwrap();
    assert_eq!(budget.held_bytes(), 0);
    world.assert_exact();
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_holds_records_for_long_is_made_to_publish_under_pressure() {
    let mut world = World::new(8, true);
    let mut stage = Exact::new(&world.log);
    (stage.every, stage.records_max) = (Duration::from_secs(3600), usize::MAX);
    with_a_tiny_budget(stage, &mut world).await;
}

/// A stage that needs as many bytes again before it takes a batch, as one that writes new records does.
#[derive(Debug)]
struct Copying {
    inner: Exact,
    budget: std::sync::OnceLock<hydrant_core::Budget>,
}

struct CopyingShard {
    inner: Box<dyn hydrant_core::stage::ShardStage>,
    budget: hydrant_core::Budget,
}

#[async_trait::async_trait]
impl Stage for Copying {
    fn scope(&self) -> hydrant_core::stage::Scope {
        self.inner.scope()
    }
    async fn resume(
        &self,
        shard: &hydrant_core::Shard,
    ) -> hydrant_core::Result<Option<hydrant_core::lease::Progress>> {
        self.inner.resume(shard).await
    }
    async fn published_to(
        &self,
        shard: &hydrant_core::Shard,
    ) -> hydrant_core::Result<Option<Position>> {
        self.inner.published_to(shard).await
    }
    async fn open(
        &self,
        claim: hydrant_core::stage::Opened,
    ) -> hydrant_core::Result<Box<dyn hydrant_core::stage::ShardStage>> {
        let budget = self.budget.get().unwrap().clone();
        Ok(Box::new(CopyingShard {
            inner: self.inner.open(claim).await?,
            budget,
        }))
    }
    async fn publish_all(
        &self,
        why: Flush,
    ) -> hydrant_core::Result<
        Vec<(
            hydrant_core::subscription::ClaimId,
            hydrant_core::lease::Progress,
        )>,
    > {
        self.inner.publish_all(why).await
    }
}

#[async_trait::async_trait]
impl hydrant_core::stage::ShardStage for CopyingShard {
    async fn push(&mut self, read: hydrant_core::stream::Read) -> hydrant_core::Result<()> {
        let _copy = match &read {
            hydrant_core::stream::Read::Batch(batch) => {
                Some(self.budget.acquire(batch.permit.bytes()).await)
            }
            _ => None,
        };
        self.inner.push(read).await
    }
    fn due(&self, now: clock::Instant) -> Option<Flush> {
        self.inner.due(now)
    }
    fn deadline(&self) -> Option<clock::Instant> {
        self.inner.deadline()
    }
    async fn publish(&mut self, why: Flush) -> hydrant_core::Result<hydrant_core::lease::Progress> {
        self.inner.publish(why).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_that_needs_memory_does_not_wait_for_its_own_prefetch() {
    let mut world = World::new(1, true);
    world.stream.append("a", 100, 1000);
    world.stream.batch_appends(5);
    let mut inner = Exact::new(&world.log);
    inner.records_max = 5;
    let stage = Arc::new(Copying {
        inner,
        budget: std::sync::OnceLock::new(),
    });
    let mut spec = world.plain();
    spec.stage = Arc::clone(&stage) as _;
    // Two batches and a half fit: the reads made ahead leave no room for the copy.
    spec.context = context(3, 12 << 10);
    stage.budget.set(spec.context.budget.clone()).unwrap();
    spec.exit_at_end = true;
    tokio::time::timeout(Duration::from_secs(300), RunningWorker::start(spec).ended())
        .await
        .expect("the run does not hang")
        .unwrap();
    world.assert_exact();
}
