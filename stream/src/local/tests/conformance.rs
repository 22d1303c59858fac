//! The suites of the seams, on the embedded log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use hydrant_core::Budget;
use hydrant_core::lease::LeaseStore;
use hydrant_core::stream::{Assignment, Join, SharedStream};
use hydrant_testing::disk::{Loss, SimWorld};
use hydrant_testing::{conformance_lease, conformance_stream};

use super::fixture::{context, context_on, options, url};
use crate::local::tests::fixture::{create, open};

/// Streams on a disk that loses what was not synced when their process dies.
struct Simulated {
    world: SimWorld,
    made: AtomicU64,
}

impl Simulated {
    fn context(&self) -> hydrant_core::Context {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        let disk = self.world.process(&format!("process-{n}"));
        context_on(disk.shared(), n)
    }
}

#[async_trait]
impl conformance_stream::Harness for Simulated {
    async fn create(&self, shards: u32) -> SharedStream {
        let ctx = self.context();
        let url = format!("local:/data/stream-{}", self.made.load(Ordering::Relaxed));
        create(&url, options(shards), &ctx).await.unwrap()
    }

    async fn reopen(&self, stream: SharedStream) -> SharedStream {
        self.world.power_cut(Loss::Some);
        open(stream.url(), &self.context()).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_keeps_what_streams_promise_on_a_disk_that_forgets() {
    for seed in 0..4 {
        let harness = Simulated {
            world: SimWorld::new(seed),
            made: AtomicU64::new(0),
        };
        conformance_stream::conforms(&harness).await;
    }
}

/// Streams in a real directory.
struct Real {
    dirs: std::sync::Mutex<Vec<tempfile::TempDir>>,
}

#[async_trait]
impl conformance_stream::Harness for Real {
    async fn create(&self, shards: u32) -> SharedStream {
        let dir = tempfile::tempdir().unwrap();
        let url = url(&dir);
        self.dirs.lock().unwrap().push(dir);
        create(&url, options(shards), &context(1)).await.unwrap()
    }

    async fn reopen(&self, stream: SharedStream) -> SharedStream {
        open(stream.url(), &context(2)).await.unwrap()
    }
}

#[tokio::test]
async fn the_log_keeps_what_streams_promise_on_a_real_disk() {
    let dirs = std::sync::Mutex::new(Vec::new());
    conformance_stream::conforms(&Real { dirs }).await;
}

pub(super) async fn leases(stream: &SharedStream) -> Arc<dyn LeaseStore> {
    let join = Join::new("app", "worker", &Budget::new(1 << 20));
    match stream.assignment(&join).await.unwrap() {
        Assignment::Leases(leases) => leases,
        Assignment::Broker(_) => panic!("no broker here"),
    }
}

#[tokio::test]
async fn leases_keep_what_lease_stores_promise() {
    let dirs = std::sync::Mutex::new(Vec::new());
    conformance_lease::conforms(async || {
        let dir = tempfile::tempdir().unwrap();
        let a = create(&url(&dir), options(1), &context(1)).await.unwrap();
        let b = open(&url(&dir), &context(2)).await.unwrap();
        dirs.lock().unwrap().push(dir);
        (leases(&a).await, leases(&b).await)
    })
    .await;
}
