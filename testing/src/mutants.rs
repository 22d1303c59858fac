//! The conformance suites must fail on implementations that break a promise.

mod readers;

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;

use super::clock::ManualClock;
use super::conformance_stream::Harness;
use super::layer::{Layered, StreamLayer, WriterLayer};
use super::memory::{MemoryLake, MemoryLeases, MemoryStream};
use super::{conformance_lake, conformance_lease, conformance_stream};
use hydrant_core::budget::{Budget, Permit};
use hydrant_core::error::Result;
use hydrant_core::lake::{Lake, Object, Put, Reveal, Sealed, SharedLake, Upload};
use hydrant_core::lease::{
    Generations, Lease, LeaseStore, Pace, Progress, Reprocess, Swap, WorkerRegistration,
};
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{
    Append, Begun, Behind, OpenAt, Read, ShardReader, SharedStream, Start, Stream, StreamWriter,
    Ticket,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Break {
    Nothing,
    ForgetsItself,
    SkipsABatch,
    TellsIdleForever,
    LosesWhenDropped,
    IgnoresTheBudget,
    HoldsNoPermit,
    StartsAlwaysAtBegin,
    ForgetsOrigins,
    ForgetsAccounts,
    TakesHoles,
    IgnoresLow,
    IgnoresOpen,
    ClosesNothing,
    RunsPastTheEnd,
    HidesBeginnings,
    IsNeverBehind,
    PassesTheRecordAsked,
    IsIdleAhead,
    IsSilentBehindAGap,
    ForgetsHeaders,
    EmptiesTombstones,
}

const ALL: [Break; 21] = [
    Break::ForgetsItself,
    Break::SkipsABatch,
    Break::TellsIdleForever,
    Break::LosesWhenDropped,
    Break::IgnoresTheBudget,
    Break::HoldsNoPermit,
    Break::StartsAlwaysAtBegin,
    Break::ForgetsOrigins,
    Break::ForgetsAccounts,
    Break::TakesHoles,
    Break::IgnoresLow,
    Break::IgnoresOpen,
    Break::ClosesNothing,
    Break::RunsPastTheEnd,
    Break::HidesBeginnings,
    Break::IsNeverBehind,
    Break::PassesTheRecordAsked,
    Break::IsIdleAhead,
    Break::IsSilentBehindAGap,
    Break::ForgetsHeaders,
    Break::EmptiesTombstones,
];

#[derive(Clone, Debug)]
struct Broken<T> {
    inner: T,
    how: Break,
}

#[async_trait]
impl Harness for Break {
    async fn create(&self, shards: u32) -> SharedStream {
        let clock = Arc::new(ManualClock::new(1));
        let inner = Arc::new(MemoryStream::new("memory", shards, clock));
        Arc::new(Layered(Broken { inner, how: *self }))
    }

    async fn reopen(&self, stream: SharedStream) -> SharedStream {
        match self {
            Break::ForgetsItself => self.create(1).await,
            _ => stream,
        }
    }
}

#[async_trait]
impl StreamLayer for Broken<Arc<MemoryStream>> {
    fn below(&self) -> &dyn Stream {
        &*self.inner
    }

    async fn behind(&self, shard: &ShardId, after: &Progress) -> Result<Behind> {
        match self.how {
            Break::IsNeverBehind => Ok(Behind::Done),
            _ => self.inner.behind(shard, after).await,
        }
    }

    async fn start(&self, shard: &ShardId, start: Start) -> Result<Progress> {
        match self.how {
            Break::StartsAlwaysAtBegin => Ok(Progress::default()),
            _ => self.inner.start(shard, start).await,
        }
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        let budget = match self.how {
            Break::IgnoresTheBudget => &Budget::new(1 << 40),
            _ => budget,
        };
        let at = match (self.how, at) {
            (Break::IgnoresOpen, _) => OpenAt::after(Position::Begin),
            (Break::PassesTheRecordAsked, OpenAt::At(record)) => OpenAt::after(record),
            (_, at) => at,
        };
        let inner = self.inner.reader(shard, at, budget).await?;
        Ok(Box::new(Broken {
            inner: (inner, 0),
            how: self.how,
        }))
    }

    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        Ok(Arc::new(Layered(self.clone())))
    }
}

#[async_trait]
impl WriterLayer for Broken<Arc<MemoryStream>> {
    fn below(&self) -> &dyn StreamWriter {
        &*self.inner
    }

    async fn submit(&self, shard: &ShardId, mut append: Append) -> Result<Ticket> {
        if let Some(entry) = &mut append.entry {
            match self.how {
                Break::TakesHoles => entry.from = Position::Begin,
                Break::IgnoresLow => entry.low = Position::Begin,
                _ => {}
            }
        }
        match self.how {
            Break::ForgetsOrigins => append.entry = None,
            Break::ForgetsAccounts => append.input = None,
            Break::ClosesNothing => {
                let map = self.inner.shards().await?;
                let closed = map.get(shard).is_some_and(|shard| shard.closed);
                let open = map.open().next().map(|shard| shard.id.clone());
                if let (true, Some(open)) = (closed, open) {
                    return self.inner.submit(&open, append).await;
                }
            }
            _ => {}
        }
        self.inner.submit(shard, append).await
    }

    async fn begun(&self, shard: &ShardId) -> Result<Vec<Begun>> {
        match self.how {
            Break::HidesBeginnings => Ok(Vec::new()),
            _ => self.inner.begun(shard).await,
        }
    }
}

#[async_trait]
impl ShardReader for Broken<(Box<dyn ShardReader>, u32)> {
    async fn next(&mut self) -> Result<Read> {
        let (inner, batches) = &mut self.inner;
        if self.how == Break::TellsIdleForever {
            return match inner.next().now_or_never() {
                Some(read) => read,
                None => Ok(Read::Idle {
                    through: Position::Begin,
                }),
            };
        }
        let mut read = inner.next().await?;
        if let Read::Batch(batch) = &mut read {
            *batches += 1;
            match self.how {
                Break::SkipsABatch if *batches == 2 => return inner.next().await,
                Break::LosesWhenDropped => tokio::task::yield_now().await,
                Break::HoldsNoPermit => batch.permit = Permit::default(),
                Break::ForgetsHeaders => batch.headers.clear(),
                Break::EmptiesTombstones => batch.tombstones.clear(),
                _ => {}
            }
        }
        match (self.how, read) {
            (Break::IsIdleAhead, Read::Idle { .. }) => Ok(Read::Idle {
                through: Position::offset(1 << 40),
            }),
            (Break::IsSilentBehindAGap, gap @ Read::Gap { .. }) => {
                // What is behind it is answered as if its end had been said.
                *batches = u32::MAX;
                Ok(gap)
            }
            (Break::IsSilentBehindAGap, Read::Idle { .. }) if *batches == u32::MAX => {
                inner.next().await
            }
            (Break::RunsPastTheEnd, Read::End { .. }) => Ok(Read::Idle {
                through: Position::End,
            }),
            (_, read) => Ok(read),
        }
    }
}

async fn fails(suite: impl Future<Output = ()>) -> bool {
    AssertUnwindSafe(suite).catch_unwind().await.is_err()
}

#[tokio::test(start_paused = true)]
async fn the_stream_suite_catches_each_broken_promise() {
    conformance_stream::conforms(&Break::Nothing).await;
    for how in ALL {
        let limit = std::time::Duration::from_secs(3600);
        let suite = conformance_stream::conforms(&how);
        let caught = tokio::time::timeout(limit, fails(suite)).await;
        assert!(caught.unwrap_or(true), "{how:?} was not caught");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum BreakLake {
    ReplacesObjects,
    HidesTheWinner,
    ReplacesFiles,
    RevealsWhatVanished,
    ShowsUploads,
    SharesUploads,
    ListsBackwards,
    ListsAll,
    IgnoresAfter,
    IgnoresRanges,
    DeletesOne,
    KeepsWhatIsDiscarded,
}

#[derive(Debug)]
struct BrokenLake(MemoryLake, BreakLake);

#[async_trait]
impl Lake for BrokenLake {
    fn url(&self) -> &str {
        self.0.url()
    }

    async fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        if self.1 == BreakLake::ReplacesObjects {
            self.0.delete(key).await?;
        }
        let put = self.0.put_new(key, body.clone()).await?;
        Ok(match put {
            Put::Exists(_) if self.1 == BreakLake::HidesTheWinner => Put::Exists(body),
            put => put,
        })
    }

    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>> {
        if self.1 == BreakLake::SharesUploads {
            for (upload, found) in self.0.list_uploads().await? {
                if found == key {
                    self.0.discard(&upload).await?;
                }
            }
        }
        if self.1 == BreakLake::ShowsUploads {
            self.0.put_new(key, Bytes::new()).await?;
        }
        self.0.upload(key).await
    }

    async fn reveal(&self, sealed: &Sealed) -> Result<Reveal> {
        if self.1 == BreakLake::ReplacesFiles {
            self.0.delete(&sealed.key).await?;
        }
        match self.0.reveal(sealed).await? {
            Reveal::Vanished if self.1 == BreakLake::RevealsWhatVanished => Ok(Reveal::Already),
            reveal => Ok(reveal),
        }
    }

    async fn discard(&self, upload: &str) -> Result<()> {
        match self.1 {
            BreakLake::KeepsWhatIsDiscarded => Ok(()),
            _ => self.0.discard(upload).await,
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.0.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        match self.1 {
            BreakLake::IgnoresRanges => self.0.get(key).await,
            _ => self.0.get_range(key, range).await,
        }
    }
    async fn head(&self, key: &str) -> Result<Option<Object>> {
        self.0.head(key).await
    }
    async fn page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<Object>> {
        let (after, most) = match self.1 {
            BreakLake::ListsAll => (after, usize::MAX),
            BreakLake::IgnoresAfter if most < 1_000 => ("", most),
            _ => (after, most),
        };
        let mut objects = self.0.page(prefix, after, most).await?;
        if self.1 == BreakLake::ListsBackwards {
            objects.reverse();
        }
        Ok(objects)
    }

    async fn list_dirs(&self, prefix: &str) -> Result<Vec<String>> {
        self.0.list_dirs(prefix).await
    }

    async fn list_uploads(&self) -> Result<Vec<(String, String)>> {
        self.0.list_uploads().await
    }

    async fn tidy(&self, prefix: &str) -> Result<()> {
        self.0.tidy(prefix).await
    }
    async fn delete_many(&self, keys: &[String]) -> Result<()> {
        match self.1 {
            BreakLake::DeletesOne => self.0.delete_many(&keys[..1]).await,
            _ => self.0.delete_many(keys).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_lake_suite_catches_each_broken_promise() {
    use BreakLake::*;
    for how in [
        ReplacesObjects,
        HidesTheWinner,
        ReplacesFiles,
        RevealsWhatVanished,
        ShowsUploads,
        SharesUploads,
        ListsBackwards,
        ListsAll,
        IgnoresAfter,
        IgnoresRanges,
        DeletesOne,
        KeepsWhatIsDiscarded,
    ] {
        let make = async || Arc::new(BrokenLake(MemoryLake::new(), how)) as SharedLake;
        assert!(
            fails(conformance_lake::conforms(make)).await,
            "{how:?} was not caught"
        );
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum BreakLeases {
    ComparesNothing,
    ComparesEpochsOnly,
    ForgetsProgress,
    ForgetsGenerations,
    KeepsRowsApart,
    BuriesTheLiving,
    RemovesUnseen,
}

#[derive(Debug)]
struct BrokenLeases(MemoryLeases, BreakLeases);

#[async_trait]
impl LeaseStore for BrokenLeases {
    async fn register(&self, worker: &str) -> Result<Box<dyn WorkerRegistration>> {
        self.0.register(worker).await
    }

    async fn list(&self) -> Result<Vec<Lease>> {
        self.0.list().await
    }

    async fn swap(&self, seen: Option<&Lease>, next: &Lease) -> Result<Swap> {
        let mut next = next.clone();
        if self.1 == BreakLeases::ForgetsProgress {
            next.progress = None;
        }
        let rows = self.0.list().await?;
        let there = rows.iter().find(|row| row.shard == next.shard);
        let overlooked = match self.1 {
            BreakLeases::ComparesNothing => true,
            BreakLeases::ComparesEpochsOnly => {
                there.map(|row| row.epoch) == seen.map(|row| row.epoch)
            }
            _ => false,
        };
        self.0
            .swap(if overlooked { there } else { seen }, &next)
            .await
    }

    async fn remove(&self, seen: &Lease) -> Result<Swap> {
        if self.1 != BreakLeases::RemovesUnseen {
            return self.0.remove(seen).await;
        }
        let rows = self.0.list().await?;
        match rows.iter().find(|row| row.shard == seen.shard) {
            Some(row) => self.0.remove(row).await,
            None => Ok(Swap::Swapped),
        }
    }

    fn pace(&self) -> Pace {
        self.0.pace()
    }

    async fn generations(&self) -> Result<Generations> {
        match self.1 {
            BreakLeases::ForgetsGenerations => Ok(Generations::default()),
            _ => self.0.generations().await,
        }
    }

    async fn reprocess(&self, what: &Reprocess) -> Result<Generations> {
        self.0.reprocess(what).await
    }

    async fn is_gone(&self, worker: &str) -> Result<bool> {
        match self.1 {
            BreakLeases::BuriesTheLiving => Ok(true),
            _ => self.0.is_gone(worker).await,
        }
    }

    async fn changed(&self) {
        self.0.changed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_suite_catches_each_broken_promise() {
    use BreakLeases::*;
    for how in [
        ComparesNothing,
        ComparesEpochsOnly,
        ForgetsProgress,
        ForgetsGenerations,
        KeepsRowsApart,
        BuriesTheLiving,
        RemovesUnseen,
    ] {
        let make = async || {
            let one = MemoryLeases::new();
            let two = match how {
                KeepsRowsApart => MemoryLeases::new(),
                _ => one.clone(),
            };
            let broken = |leases| Arc::new(BrokenLeases(leases, how)) as Arc<dyn LeaseStore>;
            (broken(one), broken(two))
        };
        assert!(
            fails(conformance_lease::conforms(make)).await,
            "{how:?} was not caught"
        );
    }
}
