//! Broken variants of the pipeline, as decorators at its seams: each breaks one step of the protocols.

mod lake;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use hydrant_core::clock::Instant;
use hydrant_core::disk::{self, Disk, DiskFile, Open, SharedDisk};
use hydrant_core::hash;
use hydrant_core::lake::SharedLake;
use hydrant_core::lease::Progress;
use hydrant_core::mutant::Mutant;
use hydrant_core::stage::{Flush, Opened, Output, ShardStage, Stage};
use hydrant_core::stream::{Read, SharedStream, Stream};
use hydrant_core::{Batch, Permit, Position, Result, Shard, ShardId, ShardMap};
use hydrant_testing::layer::{DiskLayer, Layered, StageLayer, StreamLayer};

use self::lake::VariantLake;

/// A broken variant: what is wrong in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrokenVariant {
    /// A wrong decision inside a crate.
    Inside(Mutant),
    /// Files become visible before the commit record is put.
    PublishedBeforeRecord,
    /// The ledger is written before the output is confirmed.
    LedgerBeforeOutput,
    /// The sink's files become visible only after the next commit record.
    LedgerBeforeReveal,
    /// Commit records are renamed to their names.
    RenamedRecords,
    /// Commit records are written under their final names, which are created exclusively.
    ExclusiveRecords,
    /// No directory is synced.
    DirectoriesNotSynced,
    /// A process that finds a name does not sync its directory.
    ObserversDoNotSync,
    /// Shards do not know their parents.
    ChildrenBeforeParents,
    /// Unpublished records are kept when the stage is opened again.
    BuffersKept,
    /// Each partition of an interval is published separately.
    PartitionAlone,
    /// The files of a commit record of another owner are not revealed.
    FoundUnfinished,
    /// A commit record of the same interval is mistaken for an own one.
    MineByInterval,
    /// The uploads of a commit record are removed as leftovers before they are revealed.
    CleanedBeforeFinish,
    /// Several writers use one origin.
    OriginsReused,
    /// The route of a record depends on the worker that sends it.
    RoutedByWorker,
    /// A file is rebuilt without a check whether it exists.
    RebuiltWithoutLook,
    /// A file is rebuilt without a rebuild record.
    RebuiltUnclaimed,
    /// The control file names a durable end before the sync has returned.
    DurableEndBeforeSync,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BrokenVariant {
    pub(super) fn mutant(self) -> Option<Mutant> {
        match self {
            BrokenVariant::Inside(mutant) => Some(mutant),
            BrokenVariant::BuffersKept => Some(Mutant::BuffersKept),
            _ => None,
        }
    }

    pub(super) fn disk(self, inner: SharedDisk) -> SharedDisk {
        match self {
            BrokenVariant::RenamedRecords
            | BrokenVariant::ExclusiveRecords
            | BrokenVariant::DirectoriesNotSynced
            | BrokenVariant::ObserversDoNotSync
            | BrokenVariant::DurableEndBeforeSync => Arc::new(Layered(VariantDisk {
                how: self,
                inner,
                state: Arc::default(),
            })),
            _ => inner,
        }
    }

    pub(super) fn lake(self, inner: SharedLake) -> SharedLake {
        Arc::new(Layered(VariantLake {
            how: self,
            inner,
            uploads: Arc::default(),
            late: Mutex::default(),
        }))
    }

    /// The stage of the worker with this name.
    pub(super) fn stage(self, inner: Arc<dyn Stage>, worker: &str) -> Arc<dyn Stage> {
        match self {
            BrokenVariant::LedgerBeforeOutput
            | BrokenVariant::BuffersKept
            | BrokenVariant::RoutedByWorker
            | BrokenVariant::Inside(Mutant::FromOfReader) => Arc::new(Layered(VariantStage {
                how: self,
                inner,
                worker: worker.to_owned(),
                kept: Arc::default(),
            })),
            _ => inner,
        }
    }

    pub(super) fn stream(self, inner: SharedStream) -> SharedStream {
        match self {
            BrokenVariant::ChildrenBeforeParents => Arc::new(Layered(Orphans(inner))),
            _ => inner,
        }
    }
}

#[derive(Debug)]
struct VariantDisk {
    how: BrokenVariant,
    inner: SharedDisk,
    state: Arc<Mutex<DiskState>>,
}

#[derive(Debug, Default)]
struct DiskState {
    /// Directories in which this process has made a name since it synced them.
    touched: BTreeSet<PathBuf>,
    /// Segments whose sync is owed, by shard directory.
    owed: BTreeMap<PathBuf, Arc<dyn DiskFile>>,
}

impl VariantDisk {
    fn touch(&self, path: &Path) {
        let home = path.parent().map(Path::to_owned);
        lock(&self.state).touched.extend(home);
    }
}

fn is_record(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "commits")
}

#[async_trait]
impl DiskLayer for VariantDisk {
    fn below(&self) -> &dyn Disk {
        &*self.inner
    }

    async fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        if matches!(how, Open::Create | Open::CreateNew) {
            self.touch(path);
        }
        let inner = self.inner.open(path, how).await?;
        if self.how != BrokenVariant::DurableEndBeforeSync {
            return Ok(inner);
        }
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        let is_control = path.file_name().is_some_and(|name| name == "control");
        if !is_segment && !is_control {
            return Ok(inner);
        }
        Ok(Arc::new(LateSync {
            inner,
            home: path.parent().map(Path::to_owned).unwrap_or_default(),
            is_control,
            state: Arc::clone(&self.state),
        }))
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.touch(from);
        self.touch(to);
        self.inner.rename(from, to).await
    }

    async fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let renamed = self.inner.rename_new(from, to).await;
        if renamed.is_ok() {
            self.touch(from);
            self.touch(to);
        }
        renamed
    }

    async fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.how {
            BrokenVariant::RenamedRecords if is_record(to) => {
                let body = disk::read_file(&*self.inner, from)
                    .await?
                    .unwrap_or_default();
                self.inner.rename(from, to).await?;
                // The caller removes its temporary file.
                let again = self.inner.open(from, Open::CreateNew).await?;
                again.write_at(0, vec![body]).await
            }
            BrokenVariant::ExclusiveRecords if is_record(to) => {
                let body = disk::read_file(&*self.inner, from)
                    .await?
                    .unwrap_or_default();
                let file = self.inner.open(to, Open::CreateNew).await?;
                file.write_at(0, vec![body]).await?;
                file.sync().await
            }
            _ => {
                let linked = self.inner.link_new(from, to).await;
                if linked.is_ok() {
                    self.touch(to);
                } else {
                    // Creating the temporary file does not count as creating the name.
                    let home = to.parent().unwrap_or(Path::new("/")).to_owned();
                    lock(&self.state).touched.remove(&home);
                }
                linked
            }
        }
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let touched = lock(&self.state).touched.remove(path);
        match self.how {
            BrokenVariant::DirectoriesNotSynced => Ok(()),
            BrokenVariant::ObserversDoNotSync if !touched => Ok(()),
            _ => self.inner.sync_dir(path).await,
        }
    }

    fn at_once(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        work
    }

    fn apart(&self, _place: &Path) -> Option<SharedDisk> {
        // The disk stays broken.
        None
    }

    fn by_umask(&self) -> Option<SharedDisk> {
        // Modes do not matter here, and the disk stays broken.
        None
    }
}

/// A segment whose sync is delayed until its control file is written, or that control file.
#[derive(Debug)]
struct LateSync {
    inner: Arc<dyn DiskFile>,
    home: PathBuf,
    is_control: bool,
    state: Arc<Mutex<DiskState>>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DiskFile for LateSync {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.inner.read_at(offset, len).await
    }
    async fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> io::Result<()> {
        self.inner.write_at(offset, parts).await?;
        if self.is_control {
            let owed = lock(&self.state).owed.remove(&self.home);
            if let Some(segment) = owed {
                self.inner.sync().await?;
                segment.sync().await?;
            }
        }
        Ok(())
    }
    async fn sync(&self) -> io::Result<()> {
        if self.is_control {
            return self.inner.sync().await;
        }
        let segment = Arc::clone(&self.inner);
        lock(&self.state).owed.insert(self.home.clone(), segment);
        Ok(())
    }
    async fn len(&self) -> io::Result<u64> {
        self.inner.len().await
    }
    async fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len).await
    }
}

#[derive(Debug)]
struct VariantStage {
    how: BrokenVariant,
    inner: Arc<dyn Stage>,
    worker: String,
    kept: Arc<Mutex<BTreeMap<ShardId, Vec<Batch>>>>,
}

#[async_trait]
impl StageLayer for VariantStage {
    fn below(&self) -> &dyn Stage {
        &*self.inner
    }

    fn output(&self) -> Option<Output> {
        let output = self.inner.output()?;
        let asks_the_ledger = self.how == BrokenVariant::Inside(Mutant::FromOfReader);
        Some(Output {
            keeps_progress: output.keeps_progress && !asks_the_ledger,
            ..output
        })
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        let resumed = self.inner.resume(shard).await?;
        Ok(match self.how {
            BrokenVariant::Inside(Mutant::FromOfReader) => None,
            _ => resumed,
        })
    }

    async fn open(&self, claim: Opened) -> Result<Box<dyn ShardStage>> {
        let (shard, after) = (claim.shard.id.clone(), claim.after.to);
        let mut inner = self.inner.open(claim).await?;
        if self.how == BrokenVariant::BuffersKept {
            let kept = lock(&self.kept).remove(&shard).unwrap_or_default();
            for batch in kept {
                inner.push(Read::Batch(batch)).await?;
            }
        }
        Ok(Box::new(VariantShard {
            how: self.how,
            inner,
            shard,
            worker: self.worker.clone(),
            pushed: after,
            kept: Arc::clone(&self.kept),
        }))
    }
}

struct VariantShard {
    how: BrokenVariant,
    inner: Box<dyn ShardStage>,
    shard: ShardId,
    worker: String,
    pushed: Position,
    kept: Arc<Mutex<BTreeMap<ShardId, Vec<Batch>>>>,
}

/// A copy of the records, without the permit.
fn copy_of(batch: &Batch) -> Batch {
    Batch {
        segments: Arc::clone(&batch.segments),
        records: batch.records.clone(),
        hashes: batch.hashes.clone(),
        headers: batch.headers.clone(),
        tombstones: batch.tombstones.clone(),
        arrivals: batch.arrivals.clone(),
        runs: batch.runs.clone(),
        origins: batch.origins.clone(),
        accounts: batch.accounts.clone(),
        accounts_records: batch.accounts_records.clone(),
        to: batch.to,
        marks: batch.marks.clone(),
        duplicates: batch.duplicates.clone(),
        permit: Permit::default(),
    }
}

/// Hashes of the records' keys and the worker's name.
fn routes_of(batch: &Batch, worker: &str) -> Vec<u128> {
    let key = |entry| batch.key(entry).unwrap_or_default();
    let entries = batch.records.iter();
    entries
        .map(|entry| hash::identity(&[key(entry), worker.as_bytes()]))
        .collect()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ShardStage for VariantShard {
    async fn push(&mut self, mut read: Read) -> Result<()> {
        if let (BrokenVariant::RoutedByWorker, Read::Batch(batch)) = (self.how, &mut read) {
            batch.hashes = routes_of(batch, &self.worker);
        }
        self.pushed = match &read {
            Read::Batch(batch) => batch.to,
            Read::Idle { through } => self.pushed.max(*through),
            Read::Gap { to, .. } => *to,
            Read::End { .. } => self.pushed,
        };
        if let (BrokenVariant::BuffersKept, Read::Batch(batch)) = (self.how, &read) {
            let copy = copy_of(batch);
            lock(&self.kept)
                .entry(self.shard.clone())
                .or_default()
                .push(copy);
        }
        self.inner.push(read).await
    }
    fn due(&self, now: Instant) -> Option<Flush> {
        self.inner.due(now)
    }
    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }
    fn outlives_a_failed_push(&self) -> bool {
        self.inner.outlives_a_failed_push()
    }
    async fn settle(&mut self) {
        self.inner.settle().await;
    }
    async fn changed(&mut self) {
        self.inner.changed().await;
    }
    async fn publish(&mut self, why: Flush) -> Result<Progress> {
        let progress = self.inner.publish(why).await?;
        if let Some(kept) = lock(&self.kept).get_mut(&self.shard) {
            kept.retain(|batch| batch.to > progress.to);
        }
        if self.how == BrokenVariant::LedgerBeforeOutput && progress.to != Position::End {
            return Ok(Progress {
                to: self.pushed.max(progress.to),
                ..progress
            });
        }
        Ok(progress)
    }
}

/// A stream whose shards have no parents.
#[derive(Debug)]
struct Orphans(SharedStream);

#[async_trait]
impl StreamLayer for Orphans {
    fn below(&self) -> &dyn Stream {
        &*self.0
    }

    async fn shards(&self) -> Result<ShardMap> {
        let map = self.0.shards().await?;
        let orphan = |shard: &Shard| Shard {
            parents: Vec::new(),
            ..shard.clone()
        };
        Ok(ShardMap::new(map.all().iter().map(orphan).collect()))
    }
}
