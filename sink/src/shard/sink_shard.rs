//! One shard on its way into the lake.
//!
//! Owns the open interval of a claim: when it is cut, and what is done with it. Promises that `to` is fixed before the
//! first byte is encoded, that at most one interval is not visible, that an interval with nothing in it leaves no
//! record, and that progress is reported only of what is visible. Refuses to go on after another owner took the slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::batch::Batch;
use hydrant_core::clock::{self, Instant};
use hydrant_core::lease::Progress;
use hydrant_core::stage::{Flush, ShardStage};
use hydrant_core::stream::Read;
use hydrant_core::workers::contain;
use hydrant_core::{Error, Interval, Permit, Position, Result};

use super::buffer::{Buffer, SealedInterval, StreamShard, TakeOutcome};
use super::context::SinkContext;
use super::interval::{conform, footer, untraced};
use super::pressure::Holder;
use super::totals::{self, PreparedCommit};
use super::upload::Uploads;
use crate::lake::{
    COMMIT_VERSION, Commit, CommitCounts, CommitFile, FileKind, PRODUCT, Publisher, ShardInterval,
};
use crate::table::dead_letter::StoredDeadLetter;

/// By how much an interval may grow before the budget is asked again, in parts of the batch that it takes.
const GROWTH: u64 = 4;

/// What an interval may grow by before the budget is asked again, and by all letters of earlier stages in the batch.
pub(crate) fn growth_bytes(batch: &Batch) -> u64 {
    let letters = batch.accounts.iter().flat_map(|span| &span.account.letters);
    let letters: u64 = letters.map(StoredDeadLetter::bytes_of).sum();
    batch.memory_bytes() * GROWTH + letters
}

/// One shard on its way into the lake.
#[derive(Debug)]
pub(crate) struct SinkShard {
    shared: Arc<SinkContext>,
    source: StreamShard,
    publisher: Publisher,
    /// The open interval; absent while there is nothing in it.
    buffer: Option<Box<Buffer>>,
    /// The bytes of the open interval.
    permit: Permit,
    /// What the open interval's decoder did not take, from this record on.
    rest: Option<(Batch, usize)>,
    /// What was pushed.
    to: Position,
    /// Since when something waits to be published.
    since: Option<Instant>,
    /// Whether the interval takes more memory than the budget had left.
    short: bool,
    ended: bool,
    holder: Holder,
}

impl SinkShard {
    /// The shard of `source`, after what `publisher` has published.
    pub(crate) fn new(shared: Arc<SinkContext>, source: StreamShard, publisher: Publisher) -> Self {
        SinkShard {
            source,
            to: publisher.to(),
            holder: shared.holders.enter(),
            shared,
            publisher,
            buffer: None,
            permit: Permit::default(),
            rest: None,
            since: None,
            short: false,
            ended: false,
        }
    }

    fn open_buffer(&mut self) -> Result<Box<Buffer>> {
        if let Some(buffer) = self.buffer.take() {
            return Ok(buffer);
        }
        let shared = &self.shared;
        let opened = shared.context.clock.wall_micros();
        let (from, base) = (self.publisher.to(), shared.registry.newest());
        let buffer = Buffer::open(&self.source, &shared.rules, &base, opened, from, self.to)?;
        Ok(Box::new(buffer))
    }

    /// Decodes a batch from record `start` on; its raw bytes go, and the permit becomes that of the decoded ones.
    ///
    /// Memory for what the interval may grow by is there before it grows: tiny records take many times their bytes. While
    /// the budget is spent one shard at a time grows, and then publishes.
    async fn feed(&mut self, mut batch: Batch, mut start: usize) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let context = &shared.context;
        let raw = std::mem::take(&mut batch.permit);
        let growth = growth_bytes(&batch);
        loop {
            let room = context.budget.acquire_more(growth, &shared.overdraft).await;
            let mut buffer = self.open_buffer()?;
            let arrived = context.clock.wall_micros();
            let decoding = context.workers.run(move || {
                let taken = buffer.take(&batch, start, arrived, growth);
                (buffer, batch, taken)
            });
            let (buffer, taken);
            (buffer, batch, taken) = decoding.await?;
            self.to = self.to.max(buffer.to());
            self.buffer = Some(buffer);
            let cut = match taken? {
                TakeOutcome::All => {
                    drop(batch);
                    // Of another budget it would be handed back and returned there.
                    drop(self.permit.merge(raw));
                    self.exchange(room);
                    return Ok(());
                }
                TakeOutcome::FullBefore(index) => {
                    self.exchange(room);
                    Some(index)
                }
                TakeOutcome::GrownBefore(index) => {
                    self.exchange(room);
                    start = index;
                    self.short.then_some(index)
                }
            };
            if let Some(index) = cut {
                batch.permit = raw;
                self.rest = Some((batch, index));
                return Ok(());
            }
        }
    }

    /// Holds exactly the bytes of the open interval, as far as the budget has them.
    fn exchange(&mut self, raw: Permit) {
        let wanted = self.buffer.as_ref().map_or(0, |buffer| buffer.bytes());
        // What is overdrawn is handed back and returned.
        drop(self.permit.merge(raw));
        self.permit.shrink_to(wanted);
        let missing = wanted.saturating_sub(self.permit.bytes());
        self.short = match (missing, self.shared.context.budget.try_acquire(missing)) {
            (0, _) => false,
            (_, Some(more)) => {
                drop(self.permit.merge(more));
                false
            }
            (_, None) => true,
        };
        self.holder.set(wanted);
    }

    /// Publishes the open interval.
    async fn publish_interval(&mut self, why: Flush) -> Result<()> {
        let Some(buffer) = self.buffer.take() else {
            return Ok(());
        };
        if buffer.is_empty() {
            self.exchange(Permit::default());
            return Ok(());
        }
        self.publisher.check_owner()?;
        let started = clock::now();
        let shared = Arc::clone(&self.shared);
        let (source, interval) = (
            self.source.clone(),
            Interval::new(buffer.from(), buffer.to()),
        );
        let cutting = shared.context.workers.run(move || contain(|| buffer.cut()));
        let cut = cutting.await?.ok_or_else(|| untraced(&source, interval))?;
        let latencies = cut.latencies.clone();
        let stagings = Uploads::new(&self.shared.leftovers);
        let staged = self.stage(cut, &stagings).await?;
        // What is staged lies on the disk: memory is free before the record is put.
        self.permit = Permit::default();
        self.exchange(Permit::default());
        self.publisher.publish(&staged.commit).await?;
        stagings.done();
        shared.totals.add(&staged.commit);
        let (now, took) = (shared.context.clock.wall_micros(), started.elapsed());
        totals::record(&staged, why, latencies, now, took);
        let commit = staged.commit;
        tracing::debug!(
            shard = %self.source.shard,
            slot = commit.slot,
            to = %self.publisher.to(),
            rows = commit.counts.rows,
            letters = commit.counts.letters(),
            why = why.as_str(),
            "published",
        );
        Ok(())
    }

    /// Stages the files of a cut interval and writes the record that names them.
    async fn stage(&self, cut: SealedInterval, stagings: &Uploads) -> Result<PreparedCommit> {
        let shared = &self.shared;
        let schema = if cut.decoded.rows() > 0 {
            shared.registry.settle(cut.decoded.schema()).await?
        } else {
            Arc::clone(&cut.base)
        };
        let number = if cut.decoded.rows() > 0 {
            schema.number()
        } else {
            0
        };
        let spec = shared.put_spec(&cut, number).await?;
        let metadata = footer(&cut, number);
        let (interval, names) = (
            Interval::new(cut.from, cut.to),
            self.publisher.chain().names().clone(),
        );
        let SealedInterval {
            source,
            opened,
            decoded,
            positions,
            letters,
            mut faults,
            mut counts,
            ..
        } = cut;
        let time = shared.context.clock.wall_micros();
        let conforming = shared
            .context
            .workers
            .run(move || conform(source, interval, decoded, positions, letters, &schema, time));
        let ready = conforming.await??;
        let (lake, context, options) = (&shared.lake, &shared.context, &shared.rules.encode);
        let staging = ready.stage(stagings, lake, context, options, &names, metadata);
        let (ready, files) = staging.await?;
        let mut reasons: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for letter in &ready.letters {
            let reason = Arc::clone(&letter.letter.reason);
            *reasons.entry(reason).or_default() += 1;
        }
        counts.own_letters += ready.refused;
        counts.rows = ready.rows();
        counts.untimed_rows = ready.untimed_rows();
        faults.extend(ready.faults);
        check_files(&files, &counts)?;
        let commit = Commit {
            origins: cut.origins,
            gaps: cut.gaps,
            faults,
            event_times: cut.event_times,
            stamps: cut.stamps,
            ..self.record(interval, files, counts, spec, number, opened)
        };
        Ok(PreparedCommit { commit, reasons })
    }

    fn record(
        &self,
        interval: Interval,
        files: Vec<CommitFile>,
        counts: CommitCounts,
        spec: String,
        schema: u64,
        opened: i64,
    ) -> Commit {
        Commit {
            version: COMMIT_VERSION,
            slot: self.publisher.next_slot(),
            stream: self.source.stream.clone(),
            intervals: vec![ShardInterval {
                shard: self.source.shard.clone(),
                from: interval.from,
                to: interval.to,
            }],
            nonce: self.shared.context.random.identity(),
            end: interval.to == Position::End,
            files,
            counts,
            origins: Vec::new(),
            gaps: Vec::new(),
            faults: Vec::new(),
            spec,
            schema,
            marks: Vec::new(),
            event_times: None,
            stamps: None,
            opened,
            product: PRODUCT.to_owned(),
        }
    }

    /// Says in the lake that nothing follows; children begin after that.
    async fn publish_end(&mut self) -> Result<()> {
        if self.publisher.to() != Position::End {
            let interval = Interval::new(self.publisher.to(), Position::End);
            let opened = self.shared.context.clock.wall_micros();
            let record = self.record(
                interval,
                Vec::new(),
                CommitCounts::default(),
                String::new(),
                0,
                opened,
            );
            self.publisher.publish(&record).await?;
        }
        self.to = Position::End;
        Ok(())
    }
}

/// Rows and letters lie in files, no more and no fewer than were counted.
fn check_files(files: &[CommitFile], counts: &CommitCounts) -> Result<()> {
    let rows = |kind| -> u64 {
        files
            .iter()
            .filter(|file| file.kind == kind)
            .map(|file| file.rows)
            .sum()
    };
    let found = (rows(FileKind::Rows), rows(FileKind::DeadLetters));
    if found == (counts.rows, counts.letters()) {
        return Ok(());
    }
    Err(Error::fatal(format!(
        "{} rows and {} dead letters became {} and {} in files, which is a fault of hydrant",
        counts.rows,
        counts.letters(),
        found.0,
        found.1,
    )))
}

#[async_trait]
impl ShardStage for SinkShard {
    async fn push(&mut self, read: Read) -> Result<()> {
        if self.ended {
            return Err(Error::fatal("records after the end of a shard"));
        }
        while let Some((batch, start)) = self.rest.take() {
            self.publish_interval(Flush::Size).await?;
            self.feed(batch, start).await?;
        }
        let before = self.to;
        match read {
            Read::Batch(batch) if batch.is_empty() && batch.accounts.is_empty() => {
                self.to = self.to.max(batch.to);
            }
            Read::Batch(batch) => self.feed(batch, 0).await?,
            Read::Idle { through } => self.to = self.to.max(through),
            Read::Gap { from, to, why } => {
                tracing::warn!(shard = %self.source.shard, %from, %to, why, "records are lost");
                let mut buffer = self.open_buffer()?;
                buffer.gap(from, to, why);
                self.to = self.to.max(to);
                self.buffer = Some(buffer);
            }
            Read::End { .. } => self.ended = true,
        }
        if let Some(buffer) = &mut self.buffer
            && self.rest.is_none()
        {
            buffer.pass(self.to);
        }
        if self.to > before || self.ended {
            self.since.get_or_insert_with(clock::now);
        }
        Ok(())
    }

    fn due(&self, now: Instant) -> Option<Flush> {
        let since = self.since?;
        if self.ended {
            return Some(Flush::End);
        }
        let input = self
            .buffer
            .as_ref()
            .map_or(0, |buffer| buffer.input_bytes());
        if self.rest.is_some() || input >= self.shared.flush.bytes {
            return Some(Flush::Size);
        }
        if now.saturating_duration_since(since) >= self.shared.flush.interval {
            return Some(Flush::Time);
        }
        let pressed = self.shared.context.budget.is_pressed() && self.holder.is_largest();
        (self.short || pressed).then_some(Flush::Memory)
    }

    fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.shared.flush.interval)
    }

    async fn publish(&mut self, why: Flush) -> Result<Progress> {
        let all = matches!(why, Flush::Revoke | Flush::Drain | Flush::End);
        loop {
            self.publish_interval(why).await?;
            let Some((batch, start)) = self.rest.take() else {
                break;
            };
            self.feed(batch, start).await?;
            if !all {
                break;
            }
        }
        if self.ended {
            self.publish_end().await?;
        }
        self.since = self.buffer.as_ref().map(|_| clock::now());
        // What an open interval holds is not visible; holes before it are passed with it.
        let to = if self.buffer.is_some() {
            self.publisher.to()
        } else {
            self.to
        };
        Ok(Progress {
            to,
            ..Progress::default()
        })
    }
}
