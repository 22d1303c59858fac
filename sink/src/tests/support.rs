//! A shard of records, a lake on a disk that fails on demand, and what a reader finds in it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hydrant_core::batch::{Batch, Entry, RunBuilder, Span, Step};
use hydrant_core::clock::Clock;
use hydrant_core::disk::real::RealDisk;
use hydrant_core::disk::{Disk, DiskFile, Listed, Lock, LockKind, Open, SharedDisk, Stat, Watch};
use hydrant_core::lake::SharedLake;
use hydrant_core::lease::Progress;
use hydrant_core::stage::{Flush, Opened, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;
use hydrant_core::{
    Budget, Context, HashRange, Position, Random, Result, Sequence, Shard, ShardId, StreamId,
    Workers,
};

use crate::lake::{FileLake, Rebuild, TableNames};
use crate::spec::TableRules;
use crate::stage::{FlushRules, SinkStage};

/// 2026-11-21T00:00:00Z.
pub(crate) const NOW: i64 = 1_795_219_200_000_000;

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn wall_micros(&self) -> i64 {
        NOW
    }
}

/// What the disk does at its next changing calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies before the call.
    Before,
    /// The call is made and the process dies before its answer.
    After,
}

/// The operating system's disk, for a process that may die. Syncs are answered without being made: the process dies,
/// not the machine.
#[derive(Debug)]
pub(crate) struct MortalDisk {
    disk: RealDisk,
    calls: AtomicU64,
    death: u64,
    fault: Fault,
}

impl MortalDisk {
    /// Dies at changing call number `death`, counted from 0.
    pub(crate) fn dying(death: u64, fault: Fault) -> Arc<Self> {
        Arc::new(MortalDisk {
            disk: RealDisk::new(),
            calls: AtomicU64::new(0),
            death,
            fault,
        })
    }

    pub(crate) fn healthy() -> Arc<Self> {
        Self::dying(u64::MAX, Fault::Before)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.calls() > self.death
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead() {
            Err(io::Error::other("the process is dead"))
        } else {
            Ok(())
        }
    }

    async fn change<T>(&self, call: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let n = self.calls.fetch_add(1, Ordering::SeqCst);
        match n.cmp(&self.death) {
            std::cmp::Ordering::Less => call.await,
            std::cmp::Ordering::Equal if self.fault == Fault::After => {
                call.await?;
                Err(io::Error::other("the answer is lost"))
            }
            _ => Err(io::Error::other("the process is dead")),
        }
    }
}

#[derive(Debug)]
struct MortalFile {
    file: Arc<dyn DiskFile>,
    disk: Arc<MortalDisk>,
}

/// The disk of one process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessDisk(pub(crate) Arc<MortalDisk>);

#[async_trait]
impl DiskFile for MortalFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.disk.alive()?;
        self.file.read_at(offset, len).await
    }
    async fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> io::Result<()> {
        self.disk.change(self.file.write_at(offset, parts)).await
    }
    async fn sync(&self) -> io::Result<()> {
        self.disk.change(async { Ok(()) }).await
    }
    async fn len(&self) -> io::Result<u64> {
        self.disk.alive()?;
        self.file.len().await
    }
    async fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.change(self.file.truncate(len)).await
    }
}

#[async_trait]
impl Disk for ProcessDisk {
    async fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let opening = self.0.disk.open(path, how);
        let file = match how {
            Open::Read | Open::Write => {
                self.0.alive()?;
                opening.await?
            }
            _ => self.0.change(opening).await?,
        };
        Ok(Arc::new(MortalFile {
            file,
            disk: Arc::clone(&self.0),
        }))
    }
    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        self.0
            .change(async move { std::fs::create_dir_all(path) })
            .await
    }
    async fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.0.alive()?;
        self.0.disk.list(path).await
    }
    async fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.0.alive()?;
        self.0.disk.stat(path).await
    }
    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.change(self.0.disk.remove(path)).await
    }
    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.change(self.0.disk.remove_dir(path)).await
    }
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.change(self.0.disk.rename(from, to)).await
    }
    async fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.change(self.0.disk.rename_new(from, to)).await
    }
    async fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.change(self.0.disk.link_new(from, to)).await
    }
    async fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        self.0.change(async { Ok(()) }).await
    }
    async fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Box<dyn Lock>> {
        self.0.disk.lock(path, kind).await
    }
    async fn try_lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>> {
        self.0.disk.try_lock(path, kind).await
    }
    async fn watch(&self, path: &Path) -> io::Result<Box<dyn Watch>> {
        self.0.disk.watch(path).await
    }
}

/// A process' disk, clock, chance and memory.
pub(crate) fn context_on(disk: SharedDisk, seed: u64, budget: u64) -> Context {
    Context {
        disk,
        clock: Arc::new(FixedClock),
        random: Random::seeded(seed),
        workers: Workers::Inline,
        budget: Budget::new(budget),
    }
}

/// One process with its sink.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) context: Context,
    pub(crate) lake: SharedLake,
    pub(crate) stage: SinkStage,
}

pub(crate) fn stream_id() -> StreamId {
    StreamId::new("clean", "7f")
}

pub(crate) fn names() -> TableNames {
    TableNames::try_new("devices").unwrap()
}

pub(crate) fn shard(name: &str) -> Shard {
    Shard {
        id: ShardId::new(name),
        range: HashRange::ALL,
        parents: Vec::new(),
        closed: false,
    }
}

/// What a process is started with.
pub(crate) struct Start {
    pub(crate) disk: Arc<MortalDisk>,
    pub(crate) seed: u64,
    pub(crate) budget: u64,
    pub(crate) rules: TableRules,
    pub(crate) flush: FlushRules,
}

impl Default for Start {
    fn default() -> Self {
        Start {
            disk: MortalDisk::healthy(),
            seed: 1,
            budget: 64 << 20,
            rules: TableRules::default(),
            flush: FlushRules::default(),
        }
    }
}

impl Start {
    pub(crate) fn seed(seed: u64) -> Self {
        Start {
            seed,
            ..Start::default()
        }
    }

    pub(crate) async fn on(self, root: &Path) -> Result<Process> {
        self.with(root, |_, _| None).await
    }

    pub(crate) async fn with(
        self,
        root: &Path,
        rebuild: impl FnOnce(&SharedLake, &Context) -> Option<Arc<dyn Rebuild>>,
    ) -> Result<Process> {
        let disk: SharedDisk = Arc::new(ProcessDisk(self.disk));
        let context = context_on(disk, self.seed, self.budget);
        let lake: SharedLake = Arc::new(FileLake::open(root, &context).await?);
        let rebuild = rebuild(&lake, &context);
        let (stream, names) = (stream_id(), names());
        let stage = SinkStage::open(
            &lake, &context, &stream, &names, self.rules, self.flush, rebuild,
        );
        Ok(Process {
            stage: stage.await?,
            context,
            lake,
        })
    }
}

impl Process {
    /// The stage of a shard after what the lake knows, else after `Begin`.
    pub(crate) async fn claim(&self, name: &str) -> Result<(Box<dyn ShardStage>, Position)> {
        let resumed = self.stage.resume(&shard(name)).await?;
        let after = resumed.map_or(Position::Begin, |progress| progress.to);
        Ok((self.open_at(name, after).await?, after))
    }

    pub(crate) async fn open_at(&self, name: &str, after: Position) -> Result<Box<dyn ShardStage>> {
        let opened = Opened {
            claim: ClaimId {
                shard: ShardId::new(name),
                grant: 1,
            },
            shard: shard(name),
            after: Progress {
                to: after,
                ..Progress::default()
            },
            start: after,
            generation: 0,
            parents: Vec::new(),
        };
        self.stage.open(opened).await
    }
}

/// A batch of the records at offsets `first..`.
pub(crate) fn batch(first: u64, payloads: &[String]) -> Batch {
    let mut bytes = BytesMut::new();
    let mut records = Vec::new();
    let mut runs = RunBuilder::default();
    for (n, payload) in (first..).zip(payloads) {
        let span = |text: &str, bytes: &mut BytesMut| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(text.as_bytes());
            Span::new(start, text.len() as u32)
        };
        let key = Some(span(&format!("device-{n}"), &mut bytes));
        let payload = span(payload, &mut bytes);
        records.push(Entry {
            segment: 0,
            key,
            payload,
            stamp: NOW - 1_000_000,
        });
        runs.push(Sequence::from(n), 0, Step::Sequence, NOW);
    }
    let to = match payloads.len() as u64 {
        0 => Position::Begin,
        len => Position::offset(first + len - 1),
    };
    Batch {
        segments: Arc::new([bytes.freeze()]),
        records,
        runs: runs.finish(),
        to,
        ..Batch::default()
    }
}

/// The payload of the record at `n`: three days in turn, now and then one that is refused.
pub(crate) fn payload(n: u64) -> String {
    if n % 7 == 3 {
        return format!("{{\"n\":{n},\"broken\"");
    }
    format!(
        "{{\"n\":{n},\"time\":\"2026-11-{:02}T10:00:00Z\"}}",
        18 + n % 3
    )
}

pub(crate) fn payloads(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(payload).collect()
}

/// Pushes the records of `range` and publishes them.
pub(crate) async fn publish(
    shard: &mut Box<dyn ShardStage>,
    range: std::ops::Range<u64>,
) -> Result<Progress> {
    shard
        .push(Read::Batch(batch(range.start, &payloads(range))))
        .await?;
    shard.publish(Flush::Time).await
}

/// Every row and every dead letter that a lister finds, by the number of the record, with how often.
pub(crate) async fn found(root: &Path) -> BTreeMap<u64, u64> {
    let context = context_on(Arc::new(RealDisk::new()), 99, 1 << 20);
    let lake = FileLake::open_read(root, &context).await.unwrap();
    let mut found = BTreeMap::new();
    for row in rows_of(&lake, &names().data()).await {
        *found.entry(row["n"].as_u64().unwrap()).or_default() += 1;
    }
    for (prefix, column) in [(names().dead_letters(), "sequence")] {
        for row in rows_of(&lake, &prefix).await {
            let n: u64 = row[column].as_str().unwrap().parse().unwrap();
            *found.entry(n).or_default() += 1;
        }
    }
    found
}

/// The rows of all files under a prefix, as JSON. Binary columns are left out.
pub(crate) async fn rows_of(
    lake: &dyn hydrant_core::lake::Lake,
    prefix: &str,
) -> Vec<serde_json::Value> {
    use arrow_array::RecordBatch;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let mut rows = Vec::new();
    for object in lake.list(prefix, None).await.unwrap() {
        let body = lake.get(&object.key).await.unwrap().unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(body)
            .unwrap()
            .build()
            .unwrap();
        for batch in reader {
            let batch: RecordBatch = batch.unwrap();
            let keep: Vec<usize> = (0..batch.num_columns())
                .filter(|at| *batch.column(*at).data_type() != arrow_schema::DataType::Binary)
                .collect();
            let batch = batch.project(&keep).unwrap();
            let fields: Vec<_> = batch
                .schema()
                .fields()
                .iter()
                .map(|field| field.as_ref().clone())
                .collect();
            for row in 0..batch.num_rows() {
                let mut json = Vec::new();
                crate::encode::write_json_row(&fields, batch.columns(), row, &mut json).unwrap();
                rows.push(serde_json::from_slice(&json).unwrap());
            }
        }
    }
    rows
}

/// That the records of `range` are there, each once, and no others.
pub(crate) async fn assert_exactly_once(root: &Path, range: std::ops::Range<u64>) {
    let found = found(root).await;
    let wanted: BTreeMap<u64, u64> = range.map(|n| (n, 1)).collect();
    assert_eq!(found, wanted);
}

/// Every file below a directory, with its path relative to it.
pub(crate) fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                files.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}
