use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::batch::Batch;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId};
use hydrant_core::stage::{Flush, Opened, Scope, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;

/// The records that came out, over all workers.
#[derive(Debug, Default)]
pub(crate) struct OutputLog {
    records: Mutex<Vec<(ShardId, u64)>>,
    /// The progress that an output tracks, by shard.
    committed: Mutex<BTreeMap<ShardId, Position>>,
    opened: Mutex<Vec<Opened>>,
}

impl OutputLog {
    pub(crate) fn records(&self) -> Vec<(ShardId, u64)> {
        self.records.lock().unwrap().clone()
    }

    pub(crate) fn opened(&self) -> Vec<Opened> {
        self.opened.lock().unwrap().clone()
    }

    pub(crate) fn committed(&self, shard: &str) -> Option<Position> {
        self.committed
            .lock()
            .unwrap()
            .get(&ShardId::from(shard))
            .copied()
    }

    /// Another owner publishes up to `to`, records included.
    pub(crate) fn overtake(&self, shard: &str, first: u64, last: u64) {
        let id = ShardId::from(shard);
        let mut records = self.records.lock().unwrap();
        records.extend((first..=last).map(|n| (id.clone(), n)));
        self.committed
            .lock()
            .unwrap()
            .insert(id, Position::offset(last));
    }

    /// How often each record came out.
    pub(crate) fn counts(&self) -> BTreeMap<(ShardId, u64), usize> {
        let mut counts = BTreeMap::new();
        for record in self.records() {
            *counts.entry(record).or_default() += 1;
        }
        counts
    }
}

fn offsets(shard: &ShardId, batch: &Batch) -> Vec<(ShardId, u64)> {
    let prefix = format!("{shard}:");
    batch
        .records
        .iter()
        .zip(batch.positions())
        .map(|(entry, (sequence, ..))| {
            let offset = sequence.offset().unwrap();
            let text = String::from_utf8(batch.payload(entry).to_vec()).unwrap();
            let text = text
                .trim_end_matches('.')
                .strip_prefix(&prefix)
                .unwrap()
                .to_owned();
            assert_eq!(text.parse(), Ok(offset), "a record at another's position");
            (shard.clone(), offset)
        })
        .collect()
}

/// A stage that hands records out as they come and does not track progress: at least once.
#[derive(Clone)]
pub(crate) struct PlainStage {
    pub(crate) log: Arc<OutputLog>,
    /// How long after the first push it publishes.
    pub(crate) every: Duration,
    /// The errors with which the next publishes fail, last first.
    pub(crate) failures: Arc<Mutex<Vec<Error>>>,
}

impl fmt::Debug for PlainStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}

impl PlainStage {
    pub(crate) fn new(log: &Arc<OutputLog>) -> Self {
        PlainStage {
            log: Arc::clone(log),
            every: Duration::from_millis(20),
            failures: Arc::default(),
        }
    }
}

#[async_trait]
impl Stage for PlainStage {
    fn scope(&self) -> Scope {
        Scope::Shard
    }

    async fn resume(&self, _shard: &Shard) -> Result<Option<Progress>> {
        Ok(None)
    }

    async fn knows(&self, _shard: &Shard) -> Result<bool> {
        Ok(false)
    }

    async fn open(&self, opened: Opened) -> Result<Box<dyn ShardStage>> {
        self.log.opened.lock().unwrap().push(opened.clone());
        Ok(Box::new(PlainShard {
            stage: self.clone(),
            shard: opened.shard.id,
            to: opened.after.to,
            deadline: None,
        }))
    }

    async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        Err(Error::fatal("its scope is the shard"))
    }
}

struct PlainShard {
    stage: PlainStage,
    shard: ShardId,
    to: Position,
    deadline: Option<Instant>,
}

#[async_trait]
impl ShardStage for PlainShard {
    async fn push(&mut self, read: Read) -> Result<()> {
        match read {
            Read::Batch(batch) => {
                let new = offsets(&self.shard, &batch);
                self.stage.log.records.lock().unwrap().extend(new);
                self.to = batch.to;
            }
            Read::Idle { through } => self.to = self.to.max(through),
            Read::Gap { to, .. } => self.to = to,
            Read::End { .. } => self.to = Position::End,
        }
        self.deadline.get_or_insert(clock::now() + self.stage.every);
        Ok(())
    }

    fn due(&self, now: Instant) -> Option<Flush> {
        self.deadline
            .filter(|deadline| *deadline <= now)
            .map(|_| Flush::Time)
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    async fn publish(&mut self, _why: Flush) -> Result<Progress> {
        if let Some(error) = self.stage.failures.lock().unwrap().pop() {
            return Err(error);
        }
        self.deadline = None;
        Ok(Progress {
            to: self.to,
            ..Progress::default()
        })
    }
}

/// A stage that holds records until they are published by compare-and-set on the output's own progress: exactly once.
#[derive(Clone)]
pub(crate) struct Exact {
    pub(crate) log: Arc<OutputLog>,
    pub(crate) every: Duration,
    /// How many held records make it publish.
    pub(crate) records_max: usize,
    /// A publish takes this long.
    pub(crate) slow: Duration,
    pub(crate) failures: Arc<Mutex<Vec<Error>>>,
}

impl fmt::Debug for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exact")
    }
}

impl Exact {
    pub(crate) fn new(log: &Arc<OutputLog>) -> Self {
        Exact {
            log: Arc::clone(log),
            every: Duration::from_millis(200),
            records_max: 50,
            slow: Duration::from_millis(5),
            failures: Arc::default(),
        }
    }
}

#[async_trait]
impl Stage for Exact {
    fn scope(&self) -> Scope {
        Scope::Shard
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        let committed = self.log.committed.lock().unwrap();
        Ok(committed.get(&shard.id).map(|to| Progress {
            to: *to,
            ..Progress::default()
        }))
    }

    async fn knows(&self, shard: &Shard) -> Result<bool> {
        Ok(self.log.committed(shard.id.as_str()).is_some())
    }

    async fn open(&self, opened: Opened) -> Result<Box<dyn ShardStage>> {
        self.log.opened.lock().unwrap().push(opened.clone());
        for parent in &opened.parents {
            let ended = self.log.committed(parent.as_str()) == Some(Position::End);
            assert!(
                ended,
                "{} was opened before its parent {parent} had ended",
                opened.shard.id
            );
        }
        Ok(Box::new(ExactShard {
            stage: self.clone(),
            shard: opened.shard.id,
            from: opened.after.to,
            to: opened.after.to,
            held: Vec::new(),
            deadline: None,
        }))
    }

    async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        Err(Error::fatal("its scope is the shard"))
    }
}

struct ExactShard {
    stage: Exact,
    shard: ShardId,
    from: Position,
    to: Position,
    held: Vec<Batch>,
    deadline: Option<Instant>,
}

#[async_trait]
impl ShardStage for ExactShard {
    async fn push(&mut self, read: Read) -> Result<()> {
        match read {
            Read::Batch(batch) => {
                self.to = batch.to;
                self.held.push(batch);
            }
            Read::Idle { through } => {
                self.to = self.to.max(through);
                return Ok(());
            }
            Read::Gap { to, .. } => self.to = to,
            Read::End { .. } => self.to = Position::End,
        }
        self.deadline.get_or_insert(clock::now() + self.stage.every);
        Ok(())
    }

    fn due(&self, now: Instant) -> Option<Flush> {
        if self.held.iter().map(Batch::len).sum::<usize>() >= self.stage.records_max {
            return Some(Flush::Size);
        }
        self.deadline
            .filter(|deadline| *deadline <= now)
            .map(|_| Flush::Time)
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    async fn publish(&mut self, _why: Flush) -> Result<Progress> {
        clock::sleep(self.stage.slow).await;
        if let Some(error) = self.stage.failures.lock().unwrap().pop() {
            return Err(error);
        }
        let mut records = self.stage.log.records.lock().unwrap();
        let mut committed = self.stage.log.committed.lock().unwrap();
        if let Some(after) = committed.get(&self.shard).filter(|to| **to != self.from) {
            return Err(Error::Superseded {
                shard: self.shard.clone(),
                after: *after,
            });
        }
        for batch in self.held.drain(..) {
            records.extend(offsets(&self.shard, &batch));
        }
        committed.insert(self.shard.clone(), self.to);
        self.from = self.to;
        self.deadline = None;
        Ok(Progress {
            to: self.to,
            ..Progress::default()
        })
    }
}

/// The first and last position of a half, and the batches between them.
type Half = (Position, Position, Vec<Batch>);

/// A stage that commits what all claims of a worker pushed in one transaction.
#[derive(Clone)]
pub(crate) struct Together {
    pub(crate) log: Arc<OutputLog>,
    /// A publish fails when this draws 0.
    pub(crate) chance: Option<(hydrant_core::Random, u64)>,
    open: Arc<Mutex<BTreeMap<ClaimId, Half>>>,
    poisoned: Arc<Mutex<bool>>,
}

impl fmt::Debug for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Together")
    }
}

impl Together {
    /// For one worker.
    pub(crate) fn new(log: &Arc<OutputLog>) -> Self {
        Together {
            log: Arc::clone(log),
            chance: None,
            open: Arc::default(),
            poisoned: Arc::default(),
        }
    }
}

#[async_trait]
impl Stage for Together {
    fn scope(&self) -> Scope {
        Scope::Worker
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        let committed = self.log.committed.lock().unwrap();
        Ok(committed.get(&shard.id).map(|to| Progress {
            to: *to,
            ..Progress::default()
        }))
    }

    async fn knows(&self, shard: &Shard) -> Result<bool> {
        Ok(self.log.committed(shard.id.as_str()).is_some())
    }

    async fn open(&self, opened: Opened) -> Result<Box<dyn ShardStage>> {
        self.log.opened.lock().unwrap().push(opened.clone());
        let to = opened.after.to;
        self.open
            .lock()
            .unwrap()
            .insert(opened.claim.clone(), (to, to, Vec::new()));
        Ok(Box::new(TogetherShard {
            stage: self.clone(),
            claim: opened.claim,
            deadline: None,
        }))
    }

    async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        clock::sleep(Duration::from_millis(3)).await;
        let unlucky = self
            .chance
            .as_ref()
            .is_some_and(|(random, odds)| random.below(*odds) == 0);
        let mut open = self.open.lock().unwrap();
        let poisoned = std::mem::take(&mut *self.poisoned.lock().unwrap());
        let mut committed = self.log.committed.lock().unwrap();
        let beaten = open.iter().any(|(claim, (from, ..))| {
            committed
                .get(&claim.shard)
                .copied()
                .unwrap_or(Position::Begin)
                != *from
        });
        if unlucky || poisoned || beaten {
            // The stage is as simple as it may be: it does not remember which halves were open at an abort.
            for (from, to, batches) in open.values_mut() {
                batches.clear();
                *to = *from;
            }
            let message = "the transaction was aborted".to_owned();
            return Err(Error::Unavailable {
                message,
                after: Duration::ZERO,
            });
        }
        let mut records = self.log.records.lock().unwrap();
        let mut published = Vec::new();
        for (claim, (from, to, batches)) in open.iter_mut() {
            for batch in batches.drain(..) {
                records.extend(offsets(&claim.shard, &batch));
            }
            committed.insert(claim.shard.clone(), *to);
            *from = *to;
            published.push((
                claim.clone(),
                Progress {
                    to: *to,
                    ..Progress::default()
                },
            ));
        }
        Ok(published)
    }
}

struct TogetherShard {
    stage: Together,
    claim: ClaimId,
    deadline: Option<Instant>,
}

impl Drop for TogetherShard {
    fn drop(&mut self) {
        let left = self.stage.open.lock().unwrap().remove(&self.claim);
        if left.is_some_and(|(from, to, _)| from != to) {
            *self.stage.poisoned.lock().unwrap() = true;
        }
    }
}

#[async_trait]
impl ShardStage for TogetherShard {
    async fn push(&mut self, read: Read) -> Result<()> {
        let mut open = self.stage.open.lock().unwrap();
        let (_, to, held) = open.get_mut(&self.claim).unwrap();
        match read {
            Read::Batch(batch) => {
                *to = batch.to;
                held.push(batch);
            }
            Read::Idle { .. } => return Ok(()),
            Read::Gap { to: lost, .. } => *to = lost,
            Read::End { .. } => *to = Position::End,
        }
        self.deadline
            .get_or_insert(clock::now() + Duration::from_millis(50));
        Ok(())
    }

    fn due(&self, now: Instant) -> Option<Flush> {
        let open = self.stage.open.lock().unwrap();
        let waits = open
            .get(&self.claim)
            .is_some_and(|(from, to, _)| from != to);
        self.deadline
            .filter(|deadline| *deadline <= now && waits)
            .map(|_| Flush::Time)
    }

    fn deadline(&self) -> Option<Instant> {
        let open = self.stage.open.lock().unwrap();
        let waits = open
            .get(&self.claim)
            .is_some_and(|(from, to, _)| from != to);
        self.deadline.filter(|_| waits)
    }

    async fn publish(&mut self, _why: Flush) -> Result<Progress> {
        Err(Error::fatal("its scope is the worker"))
    }
}
