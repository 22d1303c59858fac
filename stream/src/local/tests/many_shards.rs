//! What hundreds of shards cost a process: hand-overs to threads, syncs and open files are counted, not timed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use hydrant_core::batch::{RunBuilder, Step};
use hydrant_core::disk::{Disk, DiskFile, Listed, Lock, LockKind, Open, SharedDisk, Stat, Watch};
use hydrant_core::origin::WriterId;
use hydrant_core::stream::{Read, StreamWriter};
use hydrant_core::{Position, Sequence, ShardId, clock};
use hydrant_testing::disk::SimWorld;
use tokio::sync::Semaphore;

use super::fixture::*;
use crate::CreateOptions;
use crate::delivery::{Keys, Upstream, deliver_into};

const SHARDS: u64 = 300;
/// Threads for disk calls.
const THREADS: usize = 8;

/// What a process asked of its disk.
#[derive(Debug, Default)]
struct Counts {
    /// Calls, and rows of calls that follow one another.
    hand_overs: AtomicUsize,
    syncs: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

tokio::task_local! {
    static AT_ONCE: ();
}

#[derive(Debug)]
struct CountingDisk {
    inner: SharedDisk,
    counts: Arc<Counts>,
    threads: Arc<Semaphore>,
}

#[derive(Debug)]
struct CountedFile {
    inner: Arc<dyn DiskFile>,
    counts: Arc<Counts>,
}

impl Counts {
    fn call(&self) {
        if AT_ONCE.try_with(|()| ()).is_err() {
            self.hand_overs.fetch_add(1, SeqCst);
        }
    }

    fn take(&self) -> (usize, usize) {
        (self.hand_overs.swap(0, SeqCst), self.syncs.swap(0, SeqCst))
    }
}

impl Drop for CountedFile {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl DiskFile for CountedFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.counts.call();
        self.inner.read_at(offset, len).await
    }
    async fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> io::Result<()> {
        self.counts.call();
        self.inner.write_at(offset, parts).await
    }
    async fn sync(&self) -> io::Result<()> {
        self.counts.call();
        self.counts.syncs.fetch_add(1, SeqCst);
        self.inner.sync().await
    }
    async fn len(&self) -> io::Result<u64> {
        self.counts.call();
        self.inner.len().await
    }
    async fn truncate(&self, len: u64) -> io::Result<()> {
        self.counts.call();
        self.inner.truncate(len).await
    }
}

#[async_trait]
impl Disk for CountingDisk {
    fn at_once(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        let (counts, threads) = (Arc::clone(&self.counts), Arc::clone(&self.threads));
        let work = self.inner.at_once(AT_ONCE.scope((), work).boxed());
        async move {
            counts.call();
            let _thread = threads.acquire().await.unwrap();
            work.await;
        }
        .boxed()
    }
    async fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        self.counts.call();
        let inner = self.inner.open(path, how).await?;
        let open = self.counts.open.fetch_add(1, SeqCst) + 1;
        self.counts.most_open.fetch_max(open, SeqCst);
        let counts = Arc::clone(&self.counts);
        Ok(Arc::new(CountedFile { inner, counts }))
    }
    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.counts.call();
        self.inner.create_dir_all(path).await
    }
    async fn make_dirs(&self, path: &Path) -> io::Result<()> {
        self.counts.call();
        self.inner.make_dirs(path).await
    }
    async fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.counts.call();
        self.inner.list(path).await
    }
    async fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.counts.call();
        self.inner.stat(path).await
    }
    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.counts.call();
        self.inner.remove(path).await
    }
    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.counts.call();
        self.inner.remove_dir(path).await
    }
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.counts.call();
        self.inner.rename(from, to).await
    }
    async fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.counts.call();
        self.inner.rename_new(from, to).await
    }
    async fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.counts.call();
        self.inner.link_new(from, to).await
    }
    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.counts.call();
        self.counts.syncs.fetch_add(1, SeqCst);
        self.inner.sync_dir(path).await
    }
    async fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Box<dyn Lock>> {
        self.counts.call();
        self.inner.lock(path, kind).await
    }
    async fn try_lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>> {
        self.counts.call();
        self.inner.try_lock(path, kind).await
    }
    async fn watch(&self, path: &Path) -> io::Result<Box<dyn Watch>> {
        self.counts.call();
        self.inner.watch(path).await
    }
}

fn shard(n: u64) -> ShardId {
    ShardId::new(format!("{n:06}"))
}

/// One record to each shard, at once.
async fn append_to_each(writer: &Arc<dyn StreamWriter>, ranges: &[u128]) {
    let appends = (0..SHARDS).map(|n| {
        let mut one = plain(&[n]);
        one.routes = [ranges[n as usize]].into();
        one.explicit = true;
        async move { append(writer, &shard(n), one).await }.boxed()
    });
    let appends: Vec<_> = appends.collect();
    for appended in futures::future::join_all(appends).await {
        appended.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_costs_one_hand_over_when_it_is_written_or_read_and_nothing_when_it_is_idle() {
    let world = SimWorld::new(1);
    let counts = Arc::new(Counts::default());
    let disk = CountingDisk {
        inner: world.process("a").shared(),
        counts: Arc::clone(&counts),
        threads: Arc::new(Semaphore::new(THREADS)),
    };
    let ctx = context_on(Arc::new(disk), 1);
    let options = CreateOptions::with_shards(SHARDS as u32);
    let stream = create("local:/events", options, &ctx).await.unwrap();
    let map = stream.shards().await.unwrap();
    let ranges: Vec<u128> = map.all().iter().map(|shard| shard.range.first).collect();
    let writer = stream.writer().await.unwrap();
    let mut readers = Vec::new();
    for n in 0..SHARDS {
        readers.push(reader(&stream, &shard(n), Position::Begin).await);
    }
    append_to_each(&writer, &ranges).await;
    for reader in &mut readers {
        assert_eq!(next_batch(reader).await.len(), 1);
        assert!(matches!(reader.next().await.unwrap(), Read::Idle { .. }));
    }
    counts.take();
    counts.most_open.store(0, SeqCst);

    append_to_each(&writer, &ranges).await;
    assert_eq!(counts.take(), (SHARDS as usize, SHARDS as usize));
    let reading = readers
        .iter_mut()
        .map(|reader| async move { next_batch(reader).await.len() }.boxed());
    let reading: Vec<_> = reading.collect();
    let read: usize = futures::future::join_all(reading).await.into_iter().sum();
    assert_eq!(read as u64, SHARDS);
    assert_eq!(counts.take(), (SHARDS as usize, 0));
    // Control file and segment.
    let most = counts.most_open.load(SeqCst);
    assert!(most <= 2 * THREADS, "{most} files were open at once");

    let waiting = readers.iter_mut().map(|reader| {
        async move {
            assert!(matches!(reader.next().await.unwrap(), Read::Idle { .. }));
            tokio::time::timeout(Duration::from_secs(600), reader.next()).await
        }
        .boxed()
    });
    let waiting: Vec<_> = waiting.collect();
    for waited in futures::future::join_all(waiting).await {
        assert!(waited.is_err(), "nothing was appended");
    }
    clock::sleep(Duration::from_secs(600)).await;
    assert_eq!(counts.take(), (0, 0), "idle shards cost nothing");
    assert_eq!(counts.open.load(SeqCst), 0, "idle shards have no file open");
}

/// A task has a turn of so many steps. Its end does not say that a shard has no room.
#[tokio::test(start_paused = true)]
async fn a_batch_over_many_shards_is_handed_in_at_once() {
    let ctx = context_on(SimWorld::new(1).process("a").shared(), 1);
    let options = CreateOptions::with_shards(SHARDS as u32);
    let output = create("local:/events", options, &ctx).await.unwrap();
    let delivery = deliver_into(&output, Keys::Kept, &ctx).await.unwrap();
    let mut session = delivery
        .open(Upstream {
            writer: WriterId::of_name("sender"),
            claim: None,
            stream: output.id().clone(),
            shard: "a".into(),
            start: Position::Begin,
            after: Position::Begin,
            unit_route: 0,
            stage: "transform".into(),
        })
        .await
        .unwrap();
    let map = output.shards().await.unwrap();
    let batch_from = |first: u64| {
        let mut batch = Arc::into_inner(batch(&(0..SHARDS).collect::<Vec<_>>())).unwrap();
        let mut runs = RunBuilder::default();
        (first..first + SHARDS).for_each(|n| runs.push(Sequence::from(n), 0, Step::Sequence, 0));
        batch.runs = runs.finish();
        batch.hashes = map.all().iter().map(|shard| shard.range.first).collect();
        batch.to = Position::offset(first + SHARDS - 1);
        batch
    };
    let first = session.planner().plan_records(batch_from(0)).unwrap();
    session.send(first).await.unwrap();
    session.drain().await.unwrap();
    let second = session.planner().plan_records(batch_from(SHARDS)).unwrap();
    session.send(second).await.unwrap();
    // Nobody asks the session for anything meanwhile.
    clock::sleep(Duration::from_secs(60)).await;
    let states = output.states().await.unwrap();
    let stored: u64 = states.iter().filter_map(|state| state.records).sum();
    assert_eq!(stored, 2 * SHARDS);
}
