//! One shard on its way into the lake.
//!
//! Owns the open interval of a claimed shard: when it is sealed, and how it is published. Promises that `to` is fixed
//! before the first byte is encoded, that at most one interval is not visible, that an empty interval leaves no record,
//! and that progress covers only what is visible. Refuses to continue after another owner took the slot.

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

/// How often the bytes of a batch an interval may grow by before the budget is asked again.
const GROWTH: u64 = 4;

/// The bytes that an interval may grow by before the budget is asked again. All dead letters of earlier stages in the
/// batch are part of them.
pub(crate) fn growth_bytes(batch: &Batch) -> u64 {
    let dead_letters = batch.accounts.iter().flat_map(|span| &span.account.letters);
    let dead_letters: u64 = dead_letters.map(StoredDeadLetter::bytes_of).sum();
    batch.memory_bytes() * GROWTH + dead_letters
}

/// One shard on its way into the lake.
#[derive(Debug)]
pub(crate) struct SinkShard {
    shared: Arc<SinkContext>,
    stream_shard: StreamShard,
    publisher: Publisher,
    /// The open interval; absent while there is nothing in it.
    buffer: Option<Box<Buffer>>,
    /// The permit for the memory of the open interval.
    permit: Permit,
    /// The batch that did not fit into the open interval, and the index of its first record that is left.
    rest: Option<(Batch, usize)>,
    /// The position up to which batches were pushed.
    to: Position,
    /// When the oldest input that is not published was pushed.
    since: Option<Instant>,
    /// Whether the interval takes more memory than its permit covers.
    short: bool,
    ended: bool,
    holder: Holder,
}

impl SinkShard {
    /// The shard `stream_shard`, after what `publisher` has published.
    pub(crate) fn new(
        shared: Arc<SinkContext>,
        stream_shard: StreamShard,
        publisher: Publisher,
    ) -> Self {
        SinkShard {
            stream_shard,
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
        let buffer = Buffer::open(
            &self.stream_shard,
            &shared.rules,
            &base,
            opened,
            from,
            self.to,
        )?;
        Ok(Box::new(buffer))
    }

    /// Decodes a batch from record `start` on. The raw bytes are freed, and the permit covers the decoded ones instead.
    ///
    /// The interval grows only within a permit that it has already: tiny records take many times their bytes. While the
    /// budget is spent, one shard at a time grows and then publishes.
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
            let full_at = match taken? {
                TakeOutcome::All => {
                    drop(batch);
                    // A permit of another budget is handed back by `merge` and returned there.
                    drop(self.permit.merge(raw));
                    self.resize_permit(room);
                    return Ok(());
                }
                TakeOutcome::Full { next: index } => {
                    self.resize_permit(room);
                    Some(index)
                }
                TakeOutcome::Grown { next: index } => {
                    self.resize_permit(room);
                    start = index;
                    self.short.then_some(index)
                }
            };
            if let Some(index) = full_at {
                batch.permit = raw;
                self.rest = Some((batch, index));
                return Ok(());
            }
        }
    }

    /// Makes the permit cover exactly the bytes of the open interval, as far as the budget has them.
    fn resize_permit(&mut self, raw: Permit) {
        let wanted = self.buffer.as_ref().map_or(0, |buffer| buffer.bytes());
        // An overdrawn permit is handed back by `merge` and returned.
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
        debug_assert!(self.short || self.permit.bytes() >= wanted);
        self.holder.set(wanted);
    }

    /// Publishes the open interval.
    async fn publish_interval(&mut self, why: Flush) -> Result<()> {
        let Some(buffer) = self.buffer.take() else {
            return Ok(());
        };
        if buffer.is_empty() {
            self.resize_permit(Permit::default());
            return Ok(());
        }
        self.publisher.check_owner()?;
        debug_assert_eq!(buffer.from(), self.publisher.to());
        let started = clock::now();
        let shared = Arc::clone(&self.shared);
        let (stream_shard, interval) = (
            self.stream_shard.clone(),
            Interval::new(buffer.from(), buffer.to()),
        );
        let sealing = shared
            .context
            .workers
            .run(move || contain(|| buffer.seal()));
        let sealed = sealing
            .await?
            .ok_or_else(|| untraced(&stream_shard, interval))?;
        let latencies = sealed.latencies.clone();
        let uploads = Uploads::new(&self.shared.leftovers);
        let prepared = self.prepare(sealed, &uploads).await?;
        // The uploaded files need no memory any more: it is freed before the record is put.
        self.permit = Permit::default();
        self.resize_permit(Permit::default());
        self.publisher.publish(&prepared.commit).await?;
        uploads.forget();
        shared.totals.add(&prepared.commit);
        let (now, took) = (shared.context.clock.wall_micros(), started.elapsed());
        totals::record(&prepared, why, latencies, now, took);
        let commit = prepared.commit;
        tracing::debug!(
            shard = %self.stream_shard.shard,
            slot = commit.slot,
            to = %self.publisher.to(),
            rows = commit.counts.rows,
            dead_letters = commit.counts.dead_letters(),
            why = why.as_str(),
            "published",
        );
        Ok(())
    }

    /// Uploads the files of a sealed interval and writes the record that names them.
    async fn prepare(&self, sealed: SealedInterval, uploads: &Uploads) -> Result<PreparedCommit> {
        let shared = &self.shared;
        let schema = if sealed.decoded.rows() > 0 {
            shared.registry.ensure(sealed.decoded.schema()).await?
        } else {
            Arc::clone(&sealed.base)
        };
        let number = if sealed.decoded.rows() > 0 {
            schema.number()
        } else {
            0
        };
        let spec = shared.put_spec(&sealed, number).await?;
        let metadata = footer(&sealed, number);
        let (interval, names) = (
            Interval::new(sealed.from, sealed.to),
            self.publisher.chain().names().clone(),
        );
        let SealedInterval {
            stream_shard,
            opened,
            decoded,
            positions,
            dead_letters,
            mut faults,
            mut counts,
            ..
        } = sealed;
        let time = shared.context.clock.wall_micros();
        let conforming = shared.context.workers.run(move || {
            conform(
                stream_shard,
                interval,
                decoded,
                positions,
                dead_letters,
                &schema,
                time,
            )
        });
        let conformed = conforming.await??;
        let (lake, context, options) = (&shared.lake, &shared.context, &shared.rules.encode);
        let uploading = conformed.upload(uploads, lake, context, options, &names, metadata);
        let (conformed, files) = uploading.await?;
        let mut reasons: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for dead_letter in &conformed.dead_letters {
            let reason = Arc::clone(&dead_letter.entry.reason);
            *reasons.entry(reason).or_default() += 1;
        }
        counts.own_dead_letters += conformed.refused;
        counts.rows = conformed.rows();
        counts.untimed_rows = conformed.untimed_rows();
        faults.extend(conformed.faults);
        check_files(&files, &counts)?;
        let commit = Commit {
            origins: sealed.origins,
            gaps: sealed.gaps,
            faults,
            event_times: sealed.event_times,
            stamps: sealed.stamps,
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
            stream: self.stream_shard.stream.clone(),
            intervals: vec![ShardInterval {
                shard: self.stream_shard.shard.clone(),
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

    /// Records in the lake that the shard has ended. Its children start after that.
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

/// Checks that the files hold exactly the rows and dead letters that were counted.
fn check_files(files: &[CommitFile], counts: &CommitCounts) -> Result<()> {
    let rows = |kind| -> u64 {
        files
            .iter()
            .filter(|file| file.kind == kind)
            .map(|file| file.rows)
            .sum()
    };
    let found = (rows(FileKind::Rows), rows(FileKind::DeadLetters));
    if found == (counts.rows, counts.dead_letters()) {
        return Ok(());
    }
    Err(Error::fatal(format!(
        "{} rows and {} dead letters were counted, but the files hold {} and {}, which is a fault of hydrant",
        counts.rows,
        counts.dead_letters(),
        found.0,
        found.1,
    )))
}

#[async_trait]
impl ShardStage for SinkShard {
    async fn push(&mut self, read: Read) -> Result<()> {
        if self.ended {
            return Err(Error::fatal(
                "the reader returned records after the end of the shard",
            ));
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
            Read::Gap { from, to, why, .. } => {
                tracing::warn!(shard = %self.stream_shard.shard, %from, %to, why, "records are lost");
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
            buffer.advance_to(self.to);
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
        // An open interval is not visible; progress does not pass it.
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
