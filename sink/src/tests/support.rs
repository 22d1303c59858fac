//! A shard of records, processes with a lake on one simulated disk, and what a reader finds in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hydrant_core::admin::Trim;
use hydrant_core::batch::{Batch, Entry, RunBuilder, Span, Step};
use hydrant_core::clock;
use hydrant_core::disk::SharedDisk;
use hydrant_core::lake::{Lake, SharedLake};
use hydrant_core::lease::Progress;
use hydrant_core::stage::{Flush, Opened, ShardStage, Stage};
use hydrant_core::stream::{OpenAt, Read, ShardReader, SharedStream, Stream};
use hydrant_core::subscription::ClaimId;
use hydrant_core::transform::Transform;
use hydrant_core::{
    Budget, Context, HashRange, Position, Random, Result, Sequence, Shard, ShardId, StreamId,
    Workers,
};
use hydrant_testing::clock::ManualClock;
use hydrant_testing::disk::{Death, Loss, Moment, SimDisk, SimWorld};
use hydrant_testing::layer::StreamLayer;
use hydrant_testing::memory::MemoryStream;
use hydrant_testing::trace::Trace;

use super::slow_lake::{Events, LakeEvent};
use crate::SourceRebuild;
use crate::lake::{FileLake, Rebuild, TableNames};
use crate::schema::{Column, TableSchema};
use crate::shard::flush_rules::FlushRules;
use crate::table::spec::TableRules;
use crate::table_sink::TableSink;
use crate::verify::{Depth, ProblemKind, TableReport, verify};

/// 2026-11-21T00:00:00Z.
pub(crate) const NOW: i64 = 1_795_219_200_000_000;

/// In microseconds.
pub(crate) const DAY: i64 = 86_400_000_000;

/// How a process dies at a call.
pub(crate) const DEATHS: [(Moment, Death); 4] = [
    (Moment::Before, Death::Kill),
    (Moment::After, Death::Kill),
    (Moment::After, Death::PowerCut(Loss::Everything)),
    (Moment::After, Death::PowerCut(Loss::Some)),
];

/// The directory of the lake.
pub(crate) const LAKE: &str = "/lake";

/// A machine with an empty disk.
pub(crate) fn world(seed: u64) -> SimWorld {
    SimWorld::with(seed, Arc::new(ManualClock::new(NOW)), Trace::new())
}

/// The disk, clock, randomness and memory of a process.
pub(crate) fn context_on(disk: SharedDisk, seed: u64, budget: u64) -> Context {
    Context {
        disk,
        clock: Arc::new(ManualClock::new(NOW)),
        random: Random::seeded(seed),
        workers: Workers::Inline,
        budget: Budget::new(budget),
    }
}

/// Runs a process until it is done or dead.
pub(crate) async fn live<T>(disk: SimDisk, process: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = disk.died() => None,
        done = process => Some(done),
    }
}

/// One process with its sink.
#[derive(Debug)]
pub(crate) struct SinkProcess {
    pub(crate) context: Context,
    pub(crate) lake: SharedLake,
    pub(crate) stage: TableSink,
}

pub(crate) fn stream_id() -> StreamId {
    StreamId::new("clean", "memory")
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

/// The setup of a process.
pub(crate) struct ProcessSetup {
    pub(crate) disk: SimDisk,
    pub(crate) seed: u64,
    pub(crate) budget: u64,
    pub(crate) workers: Workers,
    pub(crate) rules: TableRules,
    pub(crate) flush: FlushRules,
    /// What its clock shows when it starts.
    pub(crate) now: i64,
    /// What lies before its lake.
    pub(crate) before_lake: Option<Box<dyn FnOnce(SharedLake) -> SharedLake + Send>>,
}

impl ProcessSetup {
    /// The default setup of a process with this name.
    pub(crate) fn named(world: &SimWorld, name: &str) -> Self {
        let seed = name
            .bytes()
            .fold(7, |seed, byte| seed * 31 + u64::from(byte));
        ProcessSetup {
            disk: world.process(name),
            seed,
            budget: 64 << 20,
            workers: Workers::Inline,
            rules: TableRules::default(),
            flush: FlushRules::default(),
            now: NOW,
            before_lake: None,
        }
    }

    pub(crate) async fn run(self) -> Result<SinkProcess> {
        self.with(|_, _| None).await
    }

    /// Starts the process with a rebuild of vanished files.
    pub(crate) async fn with(
        self,
        rebuild: impl FnOnce(&SharedLake, &Context) -> Option<Arc<dyn Rebuild>>,
    ) -> Result<SinkProcess> {
        let context = Context {
            workers: self.workers,
            clock: Arc::new(ManualClock::new(self.now)),
            ..context_on(self.disk.shared(), self.seed, self.budget)
        };
        let mut lake: SharedLake = Arc::new(FileLake::open(Path::new(LAKE), &context).await?);
        if let Some(before) = self.before_lake {
            lake = before(lake);
        }
        let rebuild = rebuild(&lake, &context);
        let (stream, names) = (stream_id(), names());
        let stage = TableSink::open(
            &lake, &context, &stream, &names, self.rules, self.flush, rebuild,
        );
        Ok(SinkProcess {
            stage: stage.await?,
            context,
            lake,
        })
    }
}

impl SinkProcess {
    /// Opens the sink again, on the lake of this process.
    pub(crate) async fn stage_on(&self, stream: SharedStream) -> Result<TableSink> {
        let (rules, flush) = (TableRules::default(), FlushRules::default());
        self.stage_with(stream, rules, flush).await
    }

    /// The same, with other rules.
    pub(crate) async fn stage_with(
        &self,
        stream: SharedStream,
        rules: TableRules,
        flush: FlushRules,
    ) -> Result<TableSink> {
        let (lake, context, names) = (&self.lake, &self.context, names());
        let rebuild = Arc::new(SourceRebuild::new(&stream, lake, context, &names, None));
        TableSink::open(
            lake,
            context,
            &stream_id(),
            &names,
            rules,
            flush,
            Some(rebuild),
        )
        .await
    }

    /// Opens a shard after the position that the lake holds, else after `Begin`.
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

/// The payload of the record at `n`: two days in turn; some are refused, some have a value that its column does not take, and
/// the keys of an object are data.
pub(crate) fn payload(n: u64) -> String {
    if n % 7 == 3 {
        return format!("{{\"n\":{n},\"broken\"");
    }
    let v = ["1.5", "2", "\"odd\"", "[]"][n as usize % 4];
    let (day, device) = (19 + n % 2, n % 9);
    format!(
        "{{\"n\":{n},\"time\":\"2026-11-{day:02}T10:00:00Z\",\"v\":{v},\"m\":{{\"dev00{device}\":{{\"n\":{n}}}}}}}"
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
    shard.publish(Flush::Drain).await
}

/// The lake, opened for reading only.
pub(crate) async fn looker(world: &SimWorld) -> SharedLake {
    let context = context_on(world.process("looker").shared(), 99, 1 << 20);
    Arc::new(
        FileLake::open_read(Path::new(LAKE), &context)
            .await
            .unwrap(),
    )
}

/// Verifies the whole table, at the time of the records.
pub(crate) async fn check(lake: &SharedLake) -> TableReport {
    let depth = Depth {
        now: Some(NOW),
        ..Depth::default()
    };
    verify(lake, &names(), depth).await.unwrap()
}

/// The kinds of problems of a table.
pub(crate) fn kinds(report: &TableReport) -> Vec<ProblemKind> {
    let mut kinds: Vec<ProblemKind> = report.problems.iter().map(|problem| problem.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// The kind of each warning.
pub(crate) fn warned(report: &TableReport) -> Vec<ProblemKind> {
    report.warnings.iter().map(|warning| warning.kind).collect()
}

/// Changes an object.
pub(crate) async fn replace(lake: &SharedLake, key: &str, body: impl Into<Bytes>) {
    lake.delete(key).await.unwrap();
    lake.put_new(key, body.into()).await.unwrap();
}

/// The keys of the files that readers see, dead letters included.
pub(crate) async fn visible(lake: &SharedLake) -> Vec<String> {
    let mut keys = Vec::new();
    for prefix in [names().data(), names().dead_letters()] {
        let objects = lake.list(&prefix).await.unwrap();
        keys.extend(objects.into_iter().map(|object| object.key));
    }
    keys
}

/// How often each record is a row or a dead letter in a listing, by its number. A lake without a directory holds none.
pub(crate) async fn found(world: &SimWorld) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    let disk = world.process("looker").shared();
    if disk.stat(Path::new(LAKE)).await.unwrap().is_none() {
        return found;
    }
    let lake = looker(world).await;
    for row in rows_of(&*lake, &names().data()).await {
        assert_whole(&row);
        *found.entry(row["n"].as_u64().unwrap()).or_default() += 1;
    }
    for row in rows_of(&*lake, &names().dead_letters()).await {
        let n: u64 = row["sequence"].as_str().unwrap().parse().unwrap();
        *found.entry(n).or_default() += 1;
    }
    found
}

/// The rows of all files under a prefix, as JSON. Binary columns are left out.
pub(crate) async fn rows_of(lake: &dyn Lake, prefix: &str) -> Vec<serde_json::Value> {
    use arrow_array::RecordBatch;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let mut rows = Vec::new();
    for object in lake.list(prefix).await.unwrap() {
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
            for row in 0..batch.num_rows() {
                let mut json = Vec::new();
                crate::encode::write_json_row(
                    batch.schema().fields(),
                    batch.columns(),
                    row,
                    &mut json,
                )
                .unwrap();
                rows.push(serde_json::from_slice(&json).unwrap());
            }
        }
    }
    rows
}

/// Asserts that a row with what was rescued of it is its record, if it is one of [`payload`].
fn assert_whole(row: &serde_json::Value) {
    let Some(n) = row["n"].as_u64().filter(|_| row["m"].is_object()) else {
        return;
    };
    let mut wanted: serde_json::Value = serde_json::from_str(&payload(n)).unwrap();
    let mut found = row.clone();
    let fields = found.as_object_mut().unwrap();
    if let Some(rescued) = fields.remove("_rescued") {
        let rescued = serde_json::from_str(rescued.as_str().unwrap()).unwrap();
        let serde_json::Value::Object(rescued) = rescued else {
            panic!("{row}")
        };
        for (name, value) in rescued {
            match (
                fields
                    .get_mut(&name)
                    .and_then(|field| field.as_object_mut()),
                value,
            ) {
                (Some(field), serde_json::Value::Object(others)) => field.extend(others),
                (_, value) => drop(fields.insert(name, value)),
            }
        }
    }
    for record in [&mut wanted, &mut found] {
        // An integer may lie in a column of doubles.
        if let Some(number) = record["v"].as_f64() {
            record["v"] = number.into();
        }
    }
    assert_eq!(found, wanted);
}

/// Asserts that the lake holds each record of `range` once, and no others.
pub(crate) async fn assert_exactly_once(
    world: &SimWorld,
    range: impl Iterator<Item = u64>,
    what: &str,
) {
    let found = found(world).await;
    let wanted: BTreeMap<u64, u64> = range.map(|n| (n, 1)).collect();
    assert_eq!(found, wanted, "{what}");
}

/// A stream whose shard `000000` holds the records `0..len`, in appends of seven, each of which is read as a batch.
pub(crate) fn stream_with(len: u64, payload: fn(u64) -> String) -> MemoryStream {
    let id = stream_id();
    let stream = MemoryStream::new(&id.name, 0, Arc::new(ManualClock::new(NOW)));
    stream.batch_appends(1);
    stream.add_partition("000000");
    fill(&stream, "000000", len, payload);
    stream
}

/// Appends the records `0..len` to a shard, seven at a time.
pub(crate) fn fill(stream: &MemoryStream, shard: &str, len: u64, payload: fn(u64) -> String) {
    for first in (0..len).step_by(7) {
        let payloads: Vec<String> = (first..len.min(first + 7)).map(payload).collect();
        stream.append_batch(shard, batch(first, &payloads));
    }
}

pub(crate) fn stream_of(len: u64) -> SharedStream {
    Arc::new(stream_with(len, payload))
}

/// A stream of which the records up to `last` were removed.
pub(crate) async fn trimmed(last: u64) -> SharedStream {
    let stream = stream_with(40, payload);
    let trim = Trim::After(Position::offset(last));
    stream.admin().trim(None, trim).await.unwrap();
    Arc::new(stream)
}

/// A stream whose batches come every so often. Readers that are opened, and the batches, are events.
#[derive(Debug)]
pub(crate) struct PacedStream {
    pub(crate) below: SharedStream,
    pub(crate) every: Duration,
    pub(crate) events: Events,
}

#[derive(Debug)]
struct PacedReader {
    below: Box<dyn ShardReader>,
    every: Duration,
    events: Events,
}

#[async_trait]
impl ShardReader for PacedReader {
    async fn next(&mut self) -> Result<Read> {
        clock::sleep(self.every).await;
        let read = self.below.next().await?;
        if let Read::Batch(batch) = &read {
            let first = batch.position(0).0.offset().unwrap();
            self.events.add(LakeEvent::Read(first));
        }
        Ok(read)
    }
}

#[async_trait]
impl StreamLayer for PacedStream {
    fn below(&self) -> &dyn Stream {
        &*self.below
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        self.events.add(LakeEvent::Opened(Box::new(at.clone())));
        Ok(Box::new(PacedReader {
            below: self.below.reader(shard, at, budget).await?,
            every: self.every,
            events: self.events.clone(),
        }))
    }
}

impl ProcessSetup {
    /// Starts the process with a rebuild of vanished files from `stream`.
    pub(crate) async fn over(self, stream: SharedStream) -> Result<SinkProcess> {
        self.behind(stream, None).await
    }

    /// The same, with a transform in the same process.
    pub(crate) async fn behind(
        mut self,
        stream: SharedStream,
        behind: Option<Arc<dyn Transform>>,
    ) -> Result<SinkProcess> {
        self.rules.policy = behind
            .as_ref()
            .map(|transform| transform.digest().to_owned());
        self.with(|lake, context| {
            Some(Arc::new(SourceRebuild::new(
                &stream,
                lake,
                context,
                &names(),
                behind,
            )))
        })
        .await
    }
}

impl TableSchema {
    /// The column of this exact name.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}
