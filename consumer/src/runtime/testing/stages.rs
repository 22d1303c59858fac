use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
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
    committed: Mutex<BTreeMap<ShardId, Progress>>,
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
            .map(|place| place.to)
    }

    /// Another owner publishes up to `to`, records included.
    pub(crate) fn overtake(&self, shard: &str, first: u64, last: u64) {
        let id = ShardId::from(shard);
        let mut records = self.records.lock().unwrap();
        records.extend((first..=last).map(|n| (id.clone(), n)));
        self.committed
            .lock()
            .unwrap()
            .insert(id, Progress::starting(Position::offset(last)));
    }

    /// A copy of what the output holds now.
    pub(crate) fn backup(&self) -> OutputLog {
        OutputLog {
            records: Mutex::new(self.records()),
            committed: Mutex::new(self.committed.lock().unwrap().clone()),
            opened: Mutex::default(),
        }
    }

    /// Puts the output back to what a copy holds.
    pub(crate) fn put_back(&self, backup: &OutputLog) {
        *self.records.lock().unwrap() = backup.records();
        let committed = backup.committed.lock().unwrap().clone();
        *self.committed.lock().unwrap() = committed;
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

/// Takes over the place behind a read, with its marks, as an output does that stores both.
fn follow(place: &mut Progress, read: &Read) {
    match read {
        Read::Batch(batch) => {
            place.to = batch.to;
            if let Some(marks) = &batch.marks {
                place.marks = marks.at(batch.to);
            }
        }
        Read::Idle { through } => place.to = place.to.max(*through),
        Read::Gap { to, marks, .. } => {
            place.to = *to;
            place.marks.clone_from(marks);
        }
        Read::End { marks, .. } => {
            place.to = Position::End;
            place.marks.clone_from(marks);
        }
    }
}

/// What an output answers of a place that it stored.
fn stored(place: &Progress) -> Progress {
    Progress {
        to: place.to,
        marks: place.marks.clone(),
        ..Progress::default()
    }
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

    async fn published_to(&self, _shard: &Shard) -> Result<Option<Position>> {
        Ok(None)
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
        Ok(committed.get(&shard.id).map(stored))
    }

    async fn published_to(&self, shard: &Shard) -> Result<Option<Position>> {
        Ok(self.log.committed(shard.id.as_str()))
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
            place: opened.after,
            held: Vec::new(),
            deadline: None,
        }))
    }
}

struct ExactShard {
    stage: Exact,
    shard: ShardId,
    from: Position,
    place: Progress,
    held: Vec<Batch>,
    deadline: Option<Instant>,
}

#[async_trait]
impl ShardStage for ExactShard {
    async fn push(&mut self, read: Read) -> Result<()> {
        follow(&mut self.place, &read);
        match read {
            Read::Batch(batch) => self.held.push(batch),
            Read::Idle { .. } => return Ok(()),
            Read::Gap { .. } | Read::End { .. } => {}
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
        let other = committed.get(&self.shard).map(|place| place.to);
        if let Some(after) = other.filter(|to| *to != self.from) {
            return Err(Error::Superseded {
                shard: self.shard.clone(),
                after,
            });
        }
        for batch in self.held.drain(..) {
            records.extend(offsets(&self.shard, &batch));
        }
        committed.insert(self.shard.clone(), self.place.clone());
        self.from = self.place.to;
        self.deadline = None;
        Ok(stored(&self.place))
    }
}

/// The first and last place of a half, and the batches between them.
type Half = (Progress, Progress, Vec<Batch>);

/// A stage that commits what all claims of a worker pushed in one transaction.
#[derive(Clone)]
pub(crate) struct Together {
    pub(crate) log: Arc<OutputLog>,
    /// A publish fails when this draws 0.
    pub(crate) chance: Option<(hydrant_core::Random, u64)>,
    /// A publish takes this long.
    pub(crate) slow: Duration,
    /// A publish is under way.
    pub(crate) publishing: Arc<AtomicBool>,
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
            slow: Duration::from_millis(3),
            publishing: Arc::default(),
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
        Ok(committed.get(&shard.id).map(stored))
    }

    async fn published_to(&self, shard: &Shard) -> Result<Option<Position>> {
        Ok(self.log.committed(shard.id.as_str()))
    }

    async fn open(&self, opened: Opened) -> Result<Box<dyn ShardStage>> {
        self.log.opened.lock().unwrap().push(opened.clone());
        let half = (opened.after.clone(), opened.after, Vec::new());
        let mut open = self.open.lock().unwrap();
        open.insert(opened.claim.clone(), half);
        drop(open);
        Ok(Box::new(TogetherShard {
            stage: self.clone(),
            claim: opened.claim,
            deadline: None,
        }))
    }

    async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        self.publishing.store(true, Ordering::SeqCst);
        clock::sleep(self.slow).await;
        self.publishing.store(false, Ordering::SeqCst);
        let unlucky = self
            .chance
            .as_ref()
            .is_some_and(|(random, odds)| random.below(*odds) == 0);
        let mut open = self.open.lock().unwrap();
        let poisoned = std::mem::take(&mut *self.poisoned.lock().unwrap());
        let mut committed = self.log.committed.lock().unwrap();
        let beaten = open.iter().any(|(claim, (from, ..))| {
            let known = committed.get(&claim.shard).map(|place| place.to);
            known.unwrap_or_default() != from.to
        });
        if unlucky || poisoned || beaten {
            // The stage is as simple as it may be: it does not remember which halves were open at an abort.
            for (from, place, batches) in open.values_mut() {
                batches.clear();
                place.clone_from(from);
            }
            let message = "the transaction was aborted".to_owned();
            return Err(Error::Unavailable {
                message,
                after: Duration::ZERO,
            });
        }
        let mut records = self.log.records.lock().unwrap();
        let mut published = Vec::new();
        for (claim, (from, place, batches)) in open.iter_mut() {
            for batch in batches.drain(..) {
                records.extend(offsets(&claim.shard, &batch));
            }
            committed.insert(claim.shard.clone(), place.clone());
            from.clone_from(place);
            published.push((claim.clone(), stored(place)));
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
        if left.is_some_and(|(from, place, _)| from.to != place.to) {
            *self.stage.poisoned.lock().unwrap() = true;
        }
    }
}

#[async_trait]
impl ShardStage for TogetherShard {
    async fn push(&mut self, read: Read) -> Result<()> {
        let mut open = self.stage.open.lock().unwrap();
        let (_, place, held) = open.get_mut(&self.claim).unwrap();
        if matches!(read, Read::Idle { .. }) {
            return Ok(());
        }
        follow(place, &read);
        if let Read::Batch(batch) = read {
            held.push(batch);
        }
        self.deadline
            .get_or_insert(clock::now() + Duration::from_millis(50));
        Ok(())
    }

    fn due(&self, now: Instant) -> Option<Flush> {
        let open = self.stage.open.lock().unwrap();
        let waits = open
            .get(&self.claim)
            .is_some_and(|(from, place, _)| from.to != place.to);
        self.deadline
            .filter(|deadline| *deadline <= now && waits)
            .map(|_| Flush::Time)
    }

    fn deadline(&self) -> Option<Instant> {
        let open = self.stage.open.lock().unwrap();
        let waits = open
            .get(&self.claim)
            .is_some_and(|(from, place, _)| from.to != place.to);
        self.deadline.filter(|_| waits)
    }

    async fn publish(&mut self, _why: Flush) -> Result<Progress> {
        Err(Error::fatal("its scope is the worker"))
    }
}
