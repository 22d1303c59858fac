//! Faults as data: decorators that let calls of a seam fail by a seeded plan.
//!
//! A call fails before its effect, or after it (the answer is lost, and the caller cannot know), or late. A
//! [`FaultPlan`] is shared by the decorators of one simulation, counts what it did, and can be switched off so that a
//! run may come to its end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;

use super::trace::Trace;
use crate::budget::Budget;
use crate::clock;
use crate::error::{Error, Result};
use crate::lake::{Lake, Object, Put, Reveal, Sealed, SharedLake, Staging};
use crate::lease::{Enlisted, Generations, Lease, LeaseStore, Reprocess, Swap};
use crate::position::Position;
use crate::random::Random;
use crate::shard::{ShardId, ShardMap, StreamId};
use crate::stream::{
    Append, Assignment, Read, ShardReader, ShardState, SharedStream, Start, Stream, StreamAdmin,
    StreamWriter, Ticket,
};

/// How often calls fail, in a hundred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chances {
    /// The call does nothing and fails.
    pub before: u64,
    /// The call has its effect and fails: its answer is lost.
    pub after: u64,
    /// The call is late.
    pub late: u64,
    /// How late at most.
    pub late_max: Duration,
}

/// Decides which calls fail; cheap to clone.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    chances: Chances,
    random: Random,
    trace: Trace,
    on: Arc<AtomicBool>,
    injected: Arc<AtomicU64>,
}

impl FaultPlan {
    /// A plan drawn from `seed`; faults are told to `trace`.
    pub fn new(seed: u64, chances: Chances, trace: Trace) -> Self {
        FaultPlan {
            chances,
            random: Random::seeded(seed),
            trace,
            on: Arc::new(AtomicBool::new(true)),
            injected: Arc::default(),
        }
    }

    /// From now on nothing fails.
    pub fn stop(&self) {
        self.on.store(false, Ordering::SeqCst);
    }

    /// How many faults there were.
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::SeqCst)
    }

    fn strikes(&self, chance: u64, what: &str, call: impl fmt::Display) -> bool {
        if !self.on.load(Ordering::SeqCst) || self.random.below(100) >= chance {
            return false;
        }
        self.injected.fetch_add(1, Ordering::SeqCst);
        self.trace.event(format_args!("fault: {call} {what}"));
        true
    }

    async fn delay(&self, call: impl fmt::Display) {
        if self.strikes(self.chances.late, "is late", &call) {
            let micros = u64::try_from(self.chances.late_max.as_micros()).unwrap_or(u64::MAX);
            clock::sleep(Duration::from_micros(self.random.below(micros))).await;
        }
    }

    /// Calls `operation`, or not, and answers, or not.
    pub async fn call<T>(
        &self,
        call: &str,
        operation: impl AsyncFnOnce() -> Result<T>,
    ) -> Result<T> {
        self.delay(call).await;
        if self.strikes(self.chances.before, "is not done", call) {
            return Err(lost(call));
        }
        let answer = operation().await;
        if answer.is_ok() && self.strikes(self.chances.after, "loses its answer", call) {
            return Err(lost(call));
        }
        answer
    }
}

fn lost(call: &str) -> Error {
    Error::Unavailable {
        message: format!("`{call}` was not answered"),
        after: Duration::ZERO,
    }
}

/// A lake whose calls fail by a plan.
#[derive(Clone, Debug)]
pub struct FaultyLake {
    inner: SharedLake,
    plan: FaultPlan,
}

impl FaultyLake {
    /// Decorates a lake.
    pub fn new(inner: SharedLake, plan: FaultPlan) -> Self {
        FaultyLake { inner, plan }
    }
}

#[derive(Debug)]
struct FaultyStaging {
    inner: Box<dyn Staging>,
    plan: FaultPlan,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Staging for FaultyStaging {
    fn upload(&self) -> &str {
        self.inner.upload()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        // A part that was written and not answered makes the staging useless: it fails before only.
        if self
            .plan
            .strikes(self.plan.chances.before, "is not done", "write")
        {
            return Err(lost("write"));
        }
        self.inner.write(bytes).await
    }

    async fn seal(self: Box<Self>) -> Result<Sealed> {
        let FaultyStaging { inner, plan } = *self;
        plan.call("seal", async || inner.seal().await).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Lake for FaultyLake {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        self.plan
            .call("put_new", async || self.inner.put_new(key, body).await)
            .await
    }

    async fn stage(&self, key: &str) -> Result<Box<dyn Staging>> {
        let inner = self
            .plan
            .call("stage", async || self.inner.stage(key).await)
            .await?;
        let plan = self.plan.clone();
        Ok(Box::new(FaultyStaging { inner, plan }))
    }

    async fn reveal(&self, sealed: &Sealed) -> Result<Reveal> {
        self.plan
            .call("reveal", async || self.inner.reveal(sealed).await)
            .await
    }

    async fn discard(&self, upload: &str) -> Result<()> {
        self.plan
            .call("discard", async || self.inner.discard(upload).await)
            .await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.plan
            .call("get", async || self.inner.get(key).await)
            .await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>> {
        self.plan
            .call("size", async || self.inner.size(key).await)
            .await
    }

    async fn visit(&self, prefix: &str, seen: &mut (dyn FnMut(Object) + Send)) -> Result<()> {
        // Answered in part is answered: it fails before only.
        if self
            .plan
            .strikes(self.plan.chances.before, "is not done", "visit")
        {
            return Err(lost("visit"));
        }
        self.inner.visit(prefix, seen).await
    }

    async fn list(&self, prefix: &str, limit: Option<usize>) -> Result<Vec<Object>> {
        self.plan
            .call("list", async || self.inner.list(prefix, limit).await)
            .await
    }

    async fn list_dirs(&self, prefix: &str) -> Result<Vec<String>> {
        self.plan
            .call("list_dirs", async || self.inner.list_dirs(prefix).await)
            .await
    }

    async fn list_staged(&self) -> Result<Vec<(String, String)>> {
        self.plan
            .call("list_staged", async || self.inner.list_staged().await)
            .await
    }

    async fn tidy(&self, prefix: &str) -> Result<()> {
        self.plan
            .call("tidy", async || self.inner.tidy(prefix).await)
            .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.plan
            .call("delete", async || self.inner.delete(key).await)
            .await
    }
}

/// A lease store whose calls fail by a plan.
#[derive(Clone, Debug)]
pub struct FaultyLeases {
    inner: Arc<dyn LeaseStore>,
    plan: FaultPlan,
}

impl FaultyLeases {
    /// Decorates a lease store.
    pub fn new(inner: Arc<dyn LeaseStore>, plan: FaultPlan) -> Self {
        FaultyLeases { inner, plan }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LeaseStore for FaultyLeases {
    async fn enlist(&self, worker: &str) -> Result<Box<dyn Enlisted>> {
        self.plan
            .call("enlist", async || self.inner.enlist(worker).await)
            .await
    }

    async fn list(&self) -> Result<Vec<Lease>> {
        self.plan
            .call("list leases", async || self.inner.list().await)
            .await
    }

    async fn swap(&self, seen: Option<&Lease>, next: &Lease) -> Result<Swap> {
        self.plan
            .call("swap", async || self.inner.swap(seen, next).await)
            .await
    }

    async fn generations(&self) -> Result<Generations> {
        self.plan
            .call("generations", async || self.inner.generations().await)
            .await
    }

    async fn reprocess(&self, what: &Reprocess) -> Result<Generations> {
        self.plan
            .call("reprocess", async || self.inner.reprocess(what).await)
            .await
    }

    async fn is_gone(&self, worker: &str) -> Result<bool> {
        self.plan
            .call("is_gone", async || self.inner.is_gone(worker).await)
            .await
    }

    async fn changed(&self) {
        self.inner.changed().await;
    }
}

/// A stream whose calls, readers, writers and leases fail by a plan. Its administration does not.
#[derive(Clone, Debug)]
pub struct FaultyStream {
    inner: SharedStream,
    plan: FaultPlan,
}

impl FaultyStream {
    /// Decorates a stream.
    pub fn new(inner: SharedStream, plan: FaultPlan) -> Self {
        FaultyStream { inner, plan }
    }
}

#[derive(Debug)]
struct FaultyReader {
    inner: Box<dyn ShardReader>,
    plan: FaultPlan,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ShardReader for FaultyReader {
    async fn open(&mut self, after: Position) -> Result<()> {
        self.plan
            .call("open", async || self.inner.open(after).await)
            .await
    }

    async fn next(&mut self) -> Result<Read> {
        // A read whose answer was lost would be a lost record: reading fails before its effect only.
        self.plan.delay("next").await;
        if self
            .plan
            .strikes(self.plan.chances.before, "is not done", "next")
        {
            return Err(lost("next"));
        }
        self.inner.next().await
    }
}

#[derive(Debug)]
struct FaultyWriter {
    inner: Arc<dyn StreamWriter>,
    plan: FaultPlan,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StreamWriter for FaultyWriter {
    async fn submit(&self, shard: &ShardId, append: Append) -> Result<Ticket> {
        let plan = self.plan.clone();
        if plan.strikes(plan.chances.before, "is not taken", "submit") {
            return Err(lost("submit"));
        }
        let ticket = self.inner.submit(shard, append).await?;
        let answer = async move {
            plan.delay("append").await;
            let answer = ticket.await;
            if answer.is_ok() && plan.strikes(plan.chances.after, "loses its answer", "append") {
                return Err(lost("append"));
            }
            answer
        };
        Ok(answer.boxed())
    }

    fn routing_secret(&self) -> [u8; 32] {
        self.inner.routing_secret()
    }

    fn record_bytes_max(&self) -> usize {
        self.inner.record_bytes_max()
    }

    fn append_bytes_target(&self) -> usize {
        self.inner.append_bytes_target()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Stream for FaultyStream {
    fn id(&self) -> &StreamId {
        self.inner.id()
    }

    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn shards(&self) -> Result<ShardMap> {
        self.plan
            .call("shards", async || self.inner.shards().await)
            .await
    }

    async fn shards_changed(&self) -> Result<()> {
        self.inner.shards_changed().await
    }

    async fn states(&self) -> Result<Vec<ShardState>> {
        self.plan
            .call("states", async || self.inner.states().await)
            .await
    }

    async fn state(&self, shard: &ShardId) -> Result<ShardState> {
        self.plan
            .call("state", async || self.inner.state(shard).await)
            .await
    }

    async fn start(&self, shard: &ShardId, start: Start) -> Result<Position> {
        self.plan
            .call("start", async || self.inner.start(shard, start).await)
            .await
    }

    async fn reader(&self, shard: &ShardId, budget: &Budget) -> Result<Box<dyn ShardReader>> {
        let inner = self
            .plan
            .call("reader", async || self.inner.reader(shard, budget).await)
            .await?;
        let plan = self.plan.clone();
        Ok(Box::new(FaultyReader { inner, plan }))
    }

    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        let inner = self
            .plan
            .call("writer", async || self.inner.writer().await)
            .await?;
        let plan = self.plan.clone();
        Ok(Arc::new(FaultyWriter { inner, plan }))
    }

    async fn assignment(&self, app: &str) -> Result<Assignment> {
        let plan = self.plan.clone();
        Ok(
            match self
                .plan
                .call("assignment", async || self.inner.assignment(app).await)
                .await?
            {
                Assignment::Leases(inner) => {
                    Assignment::Leases(Arc::new(FaultyLeases { inner, plan }))
                }
                broker @ Assignment::Broker(_) => broker,
            },
        )
    }

    async fn apps(&self) -> Result<Vec<String>> {
        self.plan
            .call("apps", async || self.inner.apps().await)
            .await
    }

    fn admin(&self) -> Option<Arc<dyn StreamAdmin>> {
        self.inner.admin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::clock::ManualClock;
    use crate::testing::conformance_stream::{self, Harness};
    use crate::testing::memory::{MemoryLake, MemoryLeases, MemoryStream};
    use crate::testing::{conformance_lake, conformance_lease};

    fn plan(before: u64, after: u64) -> FaultPlan {
        let chances = Chances {
            before,
            after,
            late: 30,
            late_max: Duration::from_millis(20),
        };
        FaultPlan::new(1, chances, Trace::new())
    }

    struct Faulty(FaultPlan);

    #[async_trait]
    impl Harness for Faulty {
        async fn create(&self, shards: u32) -> SharedStream {
            let clock = Arc::new(ManualClock::new(0));
            let inner = Arc::new(MemoryStream::new("memory", shards, clock));
            Arc::new(FaultyStream::new(inner, self.0.clone()))
        }

        async fn reopen(&self, stream: SharedStream) -> SharedStream {
            stream
        }
    }

    #[tokio::test(start_paused = true)]
    async fn decorators_that_only_delay_conform() {
        let plan = plan(0, 0);
        conformance_stream::conforms(&Faulty(plan.clone())).await;
        conformance_lake::conforms(async || {
            Arc::new(FaultyLake::new(Arc::new(MemoryLake::new()), plan.clone())) as SharedLake
        })
        .await;
        conformance_lease::conforms(async || {
            let leases = MemoryLeases::new();
            let faulty = |leases| {
                Arc::new(FaultyLeases::new(Arc::new(leases), plan.clone())) as Arc<dyn LeaseStore>
            };
            (faulty(leases.clone()), faulty(leases))
        })
        .await;
        assert!(plan.injected() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_fails_before_or_after_its_effect_until_the_plan_stops() {
        let body = Bytes::from_static(b"x");
        let (lake, never) = (MemoryLake::new(), plan(100, 0));
        let faulty = FaultyLake::new(Arc::new(lake.clone()), never.clone());
        assert!(faulty.put_new("k", body.clone()).await.is_err());
        assert_eq!(lake.get("k").await.unwrap(), None);
        let faulty = FaultyLake::new(Arc::new(lake.clone()), plan(0, 100));
        assert!(faulty.put_new("k", body.clone()).await.is_err());
        assert_eq!(lake.get("k").await.unwrap(), Some(body.clone()));
        never.stop();
        let faulty = FaultyLake::new(Arc::new(lake), never);
        assert_eq!(
            faulty.put_new("k", body.clone()).await.unwrap(),
            Put::Exists(body)
        );
    }
}
