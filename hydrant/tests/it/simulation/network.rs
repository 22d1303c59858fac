//! A remote stream as a process reaches it: each call passes the machine's disk, where the faults of a plan apply.
//!
//! A process whose streams are remote makes no disk calls for them. So each call makes one disk call before the request
//! and one after the answer: at these the process dies, hangs, or loses the request or the answer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use hydrant_core::disk::SharedDisk;
use hydrant_core::lease::{
    Generations, Lease, LeaseStore, Pace, Progress, Reprocess, Swap, WorkerRegistration,
};
use hydrant_core::stream::{
    Append, Assignment, Begun, Behind, Join, OpenAt, Read, ShardReader, ShardState, SharedStream,
    Start, Stream, StreamWriter, Ticket,
};
use hydrant_core::{Budget, Error, Random, Result, ShardId, ShardMap};
use hydrant_testing::conformance_stream::DropsCopies;
use hydrant_testing::disk::SimWorld;
use hydrant_testing::layer::{Layered, StreamLayer, WriterLayer};
use hydrant_testing::memory::{MemoryHarness, MemoryLeases};
use hydrant_testing::{conformance_lease, conformance_stream};

use super::witness::Acks;

/// A remote stream or store, and the disk of the machine that calls it.
#[derive(Debug)]
pub(super) struct Remote<T> {
    inner: T,
    disk: SharedDisk,
}

impl<T> Remote<T> {
    pub(super) fn new(inner: T, disk: &SharedDisk) -> Self {
        Remote {
            inner,
            disk: SharedDisk::clone(disk),
        }
    }

    async fn cross(&self) -> Result<()> {
        cross(&self.disk).await
    }
}

/// Makes the disk call of a request or of an answer.
async fn cross(disk: &SharedDisk) -> Result<()> {
    let crossed = disk.stat(Path::new("/network")).await;
    crossed.map(drop).map_err(|error| Error::Unavailable {
        message: format!("no answer: {error}"),
        after: Duration::ZERO,
    })
}

#[async_trait]
impl StreamLayer for Remote<SharedStream> {
    fn below(&self) -> &dyn Stream {
        &*self.inner
    }

    async fn shards(&self) -> Result<ShardMap> {
        self.cross().await?;
        self.inner.shards().await
    }

    async fn states(&self) -> Result<Vec<ShardState>> {
        self.cross().await?;
        self.inner.states().await
    }

    async fn state(&self, shard: &ShardId) -> Result<ShardState> {
        self.cross().await?;
        self.inner.state(shard).await
    }

    async fn behind(&self, shard: &ShardId, after: &Progress) -> Result<Behind> {
        self.cross().await?;
        self.inner.behind(shard, after).await
    }

    async fn start(&self, shard: &ShardId, start: Start) -> Result<Progress> {
        self.cross().await?;
        self.inner.start(shard, start).await
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        self.cross().await?;
        let reader = self.inner.reader(shard, at, budget).await?;
        Ok(Box::new(Remote::new(reader, &self.disk)))
    }

    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        let writer = self.inner.writer().await?;
        Ok(Arc::new(Layered(Remote::new(writer, &self.disk))))
    }

    async fn assignment(&self, join: &Join) -> Result<Assignment> {
        self.cross().await?;
        Ok(match self.inner.assignment(join).await? {
            Assignment::Leases(leases) => {
                Assignment::Leases(Arc::new(Remote::new(leases, &self.disk)))
            }
            Assignment::Broker(broker) => Assignment::Broker(broker),
        })
    }

    async fn apps(&self) -> Result<Vec<String>> {
        self.cross().await?;
        self.inner.apps().await
    }

    async fn app_progress(&self, app: &str) -> Result<Vec<Lease>> {
        self.cross().await?;
        self.inner.app_progress(app).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ShardReader for Remote<Box<dyn ShardReader>> {
    async fn next(&mut self) -> Result<Read> {
        // A read stays in the reader until it is answered: a dropped call has read nothing.
        cross(&self.disk).await?;
        self.inner.next().await
    }
}

#[async_trait]
impl WriterLayer for Remote<Arc<dyn StreamWriter>> {
    fn below(&self) -> &dyn StreamWriter {
        &*self.inner
    }

    async fn submit(&self, shard: &ShardId, append: Append) -> Result<Ticket> {
        // An append is queued at once: the order of an origin is that of its appends.
        let ticket = self.inner.submit(shard, append).await?;
        let disk = SharedDisk::clone(&self.disk);
        Ok(async move {
            // The sender learns of a failure when its writer does, and submits nothing in between.
            let crossed = cross(&disk).await;
            let answer = ticket.await;
            crossed?;
            answer
        }
        .boxed())
    }

    async fn begun(&self, shard: &ShardId) -> Result<Vec<Begun>> {
        self.cross().await?;
        self.inner.begun(shard).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LeaseStore for Remote<Arc<dyn LeaseStore>> {
    async fn register(&self, worker: &str) -> Result<Box<dyn WorkerRegistration>> {
        self.cross().await?;
        self.inner.register(worker).await
    }
    async fn list(&self) -> Result<Vec<Lease>> {
        self.cross().await?;
        self.inner.list().await
    }
    async fn swap(&self, seen: Option<&Lease>, next: &Lease) -> Result<Swap> {
        self.cross().await?;
        let swapped = self.inner.swap(seen, next).await?;
        self.cross().await?;
        Ok(swapped)
    }
    async fn remove(&self, seen: &Lease) -> Result<Swap> {
        self.cross().await?;
        let removed = self.inner.remove(seen).await?;
        self.cross().await?;
        Ok(removed)
    }
    fn pace(&self) -> Pace {
        self.inner.pace()
    }
    async fn generations(&self) -> Result<Generations> {
        self.cross().await?;
        self.inner.generations().await
    }
    async fn reprocess(&self, what: &Reprocess) -> Result<Generations> {
        self.cross().await?;
        self.inner.reprocess(what).await
    }
    async fn is_gone(&self, worker: &str) -> Result<bool> {
        self.cross().await?;
        self.inner.is_gone(worker).await
    }
    async fn changed(&self) {
        self.inner.changed().await;
    }
}

/// What lies between a process of the simulation and its streams breaks no promise while nothing fails.
#[tokio::test(start_paused = true)]
async fn remote_streams_and_stores_conform() {
    let disk = SimWorld::new(1).process("a").shared();
    for drops_copies in [DropsCopies::AtAppend, DropsCopies::AtReader] {
        let around = |stream| {
            let remote = Arc::new(Layered(Remote::new(stream, &disk)));
            Arc::new(Acks::new(remote, None, 0, &Random::seeded(1))) as SharedStream
        };
        let harness = MemoryHarness {
            drops_copies,
            around,
        };
        conformance_stream::conforms(&harness).await;
    }
    conformance_lease::conforms(async || {
        let leases = MemoryLeases::new();
        [leases.clone(), leases]
            .map(|leases| Arc::new(leases) as Arc<dyn LeaseStore>)
            .map(|leases| Arc::new(Remote::new(leases, &disk)) as Arc<dyn LeaseStore>)
            .into()
    })
    .await;
}
