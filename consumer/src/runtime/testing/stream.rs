use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use hydrant_core::batch::{Batch, Entry, RunBuilder, Span, Step};
use hydrant_core::budget::Budget;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{LeaseStore, Progress};
use hydrant_core::position::Position;
use hydrant_core::shard::{HashRange, Shard, ShardId, ShardMap, StreamId};
use hydrant_core::stream::{
    Assignment, Behind, Join, OpenAt, Read, ShardReader, ShardState, Start, Stream, StreamWriter,
};
use tokio::sync::Notify;

#[derive(Debug, Clone)]
struct ShardRecords {
    shard: Shard,
    records: Vec<Bytes>,
    kept_after: Position,
}

#[derive(Debug)]
struct StreamRecords {
    logs: Mutex<BTreeMap<ShardId, ShardRecords>>,
    appended: Notify,
    resharded: Notify,
    errors: Mutex<BTreeMap<ShardId, Vec<Error>>>,
    batch_records: AtomicU64,
}

/// A stream in memory whose positions are offsets.
#[derive(Debug)]
pub(crate) struct ScriptedStream {
    id: StreamId,
    logs: Arc<StreamRecords>,
    leases: Arc<dyn LeaseStore>,
}

impl ScriptedStream {
    /// Shards `a`, `b`, ... under leases.
    pub(crate) fn new(shards: u8, leases: Arc<dyn LeaseStore>) -> Arc<Self> {
        let logs = HashRange::even(u32::from(shards))
            .into_iter()
            .zip(b'a'..)
            .map(|(range, name)| {
                let id = ShardId::new(char::from(name).to_string());
                let shard = Shard {
                    id: id.clone(),
                    range,
                    parents: vec![],
                    closed: false,
                };
                (
                    id,
                    ShardRecords {
                        shard,
                        records: vec![],
                        kept_after: Position::Begin,
                    },
                )
            })
            .collect();
        Arc::new(ScriptedStream {
            id: StreamId::new("memory", "1"),
            logs: Arc::new(StreamRecords {
                logs: Mutex::new(logs),
                appended: Notify::new(),
                resharded: Notify::new(),
                errors: Mutex::new(BTreeMap::new()),
                batch_records: AtomicU64::new(10),
            }),
            leases,
        })
    }

    /// Limits batches to this many records.
    pub(crate) fn batch_records(&self, records: u64) {
        self.logs.batch_records.store(records, Ordering::SeqCst);
    }

    /// Appends `count` records of `bytes` bytes; each starts with its shard and offset.
    pub(crate) fn append(&self, shard: &str, count: usize, bytes: usize) {
        let mut logs = self.logs.logs.lock().unwrap();
        let log = logs.get_mut(&ShardId::from(shard)).unwrap();
        assert!(!log.shard.closed);
        for _ in 0..count {
            let mut text = format!("{shard}:{}", log.records.len());
            while text.len() < bytes {
                text.push('.');
            }
            log.records.push(text.into());
        }
        drop(logs);
        self.logs.appended.notify_waiters();
    }

    /// Appends one record with these bytes.
    pub(crate) fn append_payload(&self, shard: &str, payload: &'static [u8]) {
        let mut logs = self.logs.logs.lock().unwrap();
        logs.get_mut(&ShardId::from(shard))
            .unwrap()
            .records
            .push(payload.into());
        drop(logs);
        self.logs.appended.notify_waiters();
    }

    fn close(logs: &mut BTreeMap<ShardId, ShardRecords>, id: &str) -> HashRange {
        let log = logs.get_mut(&ShardId::from(id)).unwrap();
        log.shard.closed = true;
        log.shard.range
    }

    fn add(
        logs: &mut BTreeMap<ShardId, ShardRecords>,
        id: &str,
        range: HashRange,
        parents: &[&str],
    ) {
        let parents = parents
            .iter()
            .map(|parent| ShardId::from(*parent))
            .collect();
        let shard = Shard {
            id: id.into(),
            range,
            parents,
            closed: false,
        };
        logs.insert(
            id.into(),
            ShardRecords {
                shard,
                records: vec![],
                kept_after: Position::Begin,
            },
        );
    }

    /// Splits `id` into two children.
    pub(crate) fn split(&self, id: &str, low: &str, high: &str) {
        let mut logs = self.logs.logs.lock().unwrap();
        let range = Self::close(&mut logs, id);
        let (a, b) = range.split(range.middle().unwrap()).unwrap();
        Self::add(&mut logs, low, a, &[id]);
        Self::add(&mut logs, high, b, &[id]);
        drop(logs);
        self.logs.appended.notify_waiters();
        self.logs.resharded.notify_waiters();
    }

    /// Adds a shard without parents, as a partition is added to a topic.
    pub(crate) fn add_partition(&self, id: &str) {
        let mut logs = self.logs.logs.lock().unwrap();
        Self::add(&mut logs, id, HashRange::ALL, &[]);
        drop(logs);
        self.logs.resharded.notify_waiters();
    }

    /// Forgets a shard, all of whose records have passed retention.
    pub(crate) fn forget(&self, id: &str) {
        let mut logs = self.logs.logs.lock().unwrap();
        logs.remove(&ShardId::from(id));
        drop(logs);
        self.logs.resharded.notify_waiters();
    }

    /// Merges two shards into one child.
    pub(crate) fn merge(&self, a: &str, b: &str, child: &str) {
        let mut logs = self.logs.logs.lock().unwrap();
        let (x, y) = (Self::close(&mut logs, a), Self::close(&mut logs, b));
        Self::add(&mut logs, child, x.join(y).unwrap(), &[a, b]);
        drop(logs);
        self.logs.appended.notify_waiters();
        self.logs.resharded.notify_waiters();
    }

    /// Returns the open shards.
    pub(crate) fn open_shards(&self) -> Vec<Shard> {
        let logs = self.logs.logs.lock().unwrap();
        logs.values()
            .filter(|log| !log.shard.closed)
            .map(|log| log.shard.clone())
            .collect()
    }

    /// Removes the records before `offset`.
    pub(crate) fn trim(&self, shard: &str, offset: u64) {
        let mut logs = self.logs.logs.lock().unwrap();
        let log = logs.get_mut(&ShardId::from(shard)).unwrap();
        log.kept_after = Position::offset(offset - 1);
    }

    /// Makes the next reads of `shard` fail with `errors`, last first.
    pub(crate) fn fail_reads(&self, shard: &str, errors: Vec<Error>) {
        self.logs
            .errors
            .lock()
            .unwrap()
            .insert(shard.into(), errors);
        self.logs.appended.notify_waiters();
    }

    /// Returns everything that was ever appended.
    pub(crate) fn all(&self) -> Vec<(ShardId, u64)> {
        let logs = self.logs.logs.lock().unwrap();
        logs.values()
            .flat_map(|log| (0..log.records.len() as u64).map(|n| (log.shard.id.clone(), n)))
            .collect()
    }
}

fn state(log: &ShardRecords) -> ShardState {
    ShardState {
        shard: log.shard.clone(),
        tip: Some(tip(log)),
        kept_after: log.kept_after,
        records: None,
        bytes: None,
        newest_arrival: None,
    }
}

fn tip(log: &ShardRecords) -> Position {
    match log.records.len() as u64 {
        0 => Position::Begin,
        n => Position::offset(n - 1),
    }
}

#[async_trait]
impl Stream for ScriptedStream {
    fn id(&self) -> &StreamId {
        &self.id
    }

    fn url(&self) -> &str {
        "memory:"
    }

    async fn shards(&self) -> Result<ShardMap> {
        let logs = self.logs.logs.lock().unwrap();
        Ok(ShardMap::new(
            logs.values().map(|log| log.shard.clone()).collect(),
        ))
    }

    async fn shards_changed(&self) -> Result<()> {
        self.logs.resharded.notified().await;
        Ok(())
    }

    async fn states(&self) -> Result<Vec<ShardState>> {
        let logs = self.logs.logs.lock().unwrap();
        Ok(logs.values().map(state).collect())
    }

    async fn state(&self, shard: &ShardId) -> Result<ShardState> {
        let logs = self.logs.logs.lock().unwrap();
        let log = logs.get(shard).ok_or_else(|| Error::NotFound {
            message: format!("the stream has no shard `{shard}`"),
        })?;
        Ok(state(log))
    }

    async fn behind(&self, shard: &ShardId, after: &Progress) -> Result<Behind> {
        let logs = self.logs.logs.lock().unwrap();
        let log = logs.get(shard).ok_or_else(|| Error::NotFound {
            message: format!("the stream has no shard `{shard}`"),
        })?;
        let done = after.to.next_offset().unwrap_or(u64::MAX);
        let left = (log.records.len() as u64).saturating_sub(done);
        let ended = after.to == Position::End;
        Ok(match (left, log.shard.closed && !ended) {
            (0, false) => Behind::Done,
            (left, _) => Behind::Records(left),
        })
    }

    async fn start(&self, shard: &ShardId, start: Start) -> Result<Progress> {
        let logs = self.logs.logs.lock().unwrap();
        Ok(Progress::starting(match start {
            Start::Earliest => Position::Begin,
            Start::Latest => tip(&logs[shard]),
            // Records arrive at the time that their offset says.
            Start::At(time) if time <= 0 => Position::Begin,
            Start::At(time) => Position::offset(time as u64 - 1).min(tip(&logs[shard])),
        }))
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        let OpenAt::After { progress, .. } = at else {
            return Err(Error::fatal("no test looks at a record"));
        };
        Ok(Box::new(ScriptedReader {
            shard: shard.clone(),
            logs: Arc::clone(&self.logs),
            budget: budget.clone(),
            after: progress.to,
            told_idle: false,
        }))
    }

    async fn writer(&self) -> Result<Arc<dyn StreamWriter>> {
        Err(Error::fatal("tests append directly"))
    }

    async fn assignment(&self, _join: &Join) -> Result<Assignment> {
        Ok(Assignment::Leases(Arc::clone(&self.leases)))
    }
}

#[derive(Debug)]
struct ScriptedReader {
    shard: ShardId,
    logs: Arc<StreamRecords>,
    budget: Budget,
    after: Position,
    told_idle: bool,
}

enum NextRead {
    Records(Vec<Bytes>, u64),
    Read(Box<Read>),
    Wait,
}

impl ScriptedReader {
    fn look(&self) -> Result<NextRead> {
        let failure = self
            .logs
            .errors
            .lock()
            .unwrap()
            .get_mut(&self.shard)
            .and_then(Vec::pop);
        if let Some(error) = failure {
            return Err(error);
        }
        let logs = self.logs.logs.lock().unwrap();
        let log = &logs[&self.shard];
        if self.after < log.kept_after {
            return Ok(NextRead::Read(Box::new(Read::Gap {
                from: self.after,
                to: log.kept_after,
                why: "retention passed".to_owned(),
                marks: Vec::new(),
            })));
        }
        let next = self.after.next_offset().unwrap_or(u64::MAX);
        let most = self.logs.batch_records.load(Ordering::SeqCst) as usize;
        let records: Vec<_> = log
            .records
            .iter()
            .skip(next as usize)
            .take(most)
            .cloned()
            .collect();
        Ok(if !records.is_empty() {
            NextRead::Records(records, next)
        } else if log.shard.closed {
            let children = logs
                .values()
                .filter(|log| log.shard.parents.contains(&self.shard));
            NextRead::Read(Box::new(Read::End {
                children: children.map(|log| log.shard.id.clone()).collect(),
                marks: Vec::new(),
            }))
        } else if self.told_idle {
            NextRead::Wait
        } else {
            NextRead::Read(Box::new(Read::Idle {
                through: self.after,
            }))
        })
    }
}

#[async_trait]
impl ShardReader for ScriptedReader {
    async fn next(&mut self) -> Result<Read> {
        loop {
            let logs = Arc::clone(&self.logs);
            let appended = logs.appended.notified();
            match self.look()? {
                NextRead::Wait => appended.await,
                NextRead::Read(read) => {
                    self.told_idle = matches!(*read, Read::Idle { .. });
                    if let Read::Gap { to, .. } = &*read {
                        self.after = *to;
                    }
                    return Ok(*read);
                }
                NextRead::Records(segments, first) => {
                    let bytes: usize = segments.iter().map(Bytes::len).sum();
                    let permit = self.budget.acquire(bytes as u64).await;
                    self.told_idle = false;
                    let mut runs = RunBuilder::default();
                    let mut records = Vec::new();
                    for (n, segment) in segments.iter().enumerate() {
                        // It arrived at the time that its offset says.
                        let offset = first + n as u64;
                        runs.push(offset.into(), 0, Step::Sequence, offset as i64);
                        let payload = Span::new(0, segment.len() as u32);
                        records.push(Entry {
                            segment: n as u32,
                            key: None,
                            payload,
                            stamp: 0,
                        });
                    }
                    self.after = Position::offset(first + segments.len() as u64 - 1);
                    return Ok(Read::Batch(Batch {
                        segments: segments.into(),
                        records,
                        runs: runs.finish(),
                        to: self.after,
                        permit,
                        ..Batch::default()
                    }));
                }
            }
        }
    }
}
