//! The sink as a stage: batches of a shard in, intervals in the lake out.
//!
//! Owns when an interval is cut and what is done with it. Promises that `to` is fixed before the first byte is encoded,
//! that a shard has at most one interval that is not visible, that an interval with nothing in it leaves no record, and
//! that progress is told only of what is visible. Refuses to go on after another owner took the slot: the shard's stage
//! is dropped and opened again after the winner's position.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::batch::Batch;
use hydrant_core::clock::{self, Instant};
use hydrant_core::lake::SharedLake;
use hydrant_core::lease::Progress;
use hydrant_core::stage::{Flush, Opened, Scope, ShardStage, Stage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::ClaimId;
use hydrant_core::{Context, Error, Interval, Permit, Position, Result, Shard, StreamId};
use serde::Serialize;

use crate::buffer::{Buffer, Cut, Source, Taken};
use crate::interval::{conform, footer, stage_all};
use crate::lake::{
    COMMIT_VERSION, Chain, Commit, CommitFile, Counts, FileKind, Finisher, PRODUCT, Publisher,
    Rebuild, ShardInterval, TableNames, persist,
};
use crate::pressure::{Holder, Holders};
use crate::schema::registry::Registry;
use crate::spec::TableRules;

/// Payload bytes after which an interval is cut.
pub const FLUSH_BYTES: u64 = 128 << 20;

/// The age at which an interval is cut.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(60);

/// Digests of specs known to be in the lake; a process uses a handful.
const SPECS_KNOWN_MAX: usize = 1024;

/// When intervals are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushRules {
    /// Payload bytes after which an interval is cut. Default: 128 MiB. Raise it for larger files. Cost: memory.
    pub bytes: u64,
    /// The age at which an interval is cut. Default: 60 s. Raise it for fewer files. Cost: rows appear later.
    pub interval: Duration,
}

impl Default for FlushRules {
    fn default() -> Self {
        FlushRules {
            bytes: FLUSH_BYTES,
            interval: FLUSH_INTERVAL,
        }
    }
}

/// What a stage has published since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Rows.
    pub rows: u64,
    /// Dead letters, its own and those of the stages before.
    pub dead_letters: u64,
    /// Units dropped by the stages before.
    pub dropped: u64,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Commit records.
    pub commits: u64,
}

/// Counts what a stage publishes.
#[derive(Debug, Default)]
pub struct Totals {
    counts: [AtomicU64; 6],
}

impl Totals {
    fn add(&self, commit: &Commit) {
        let amounts = [
            commit.counts.rows,
            commit.counts.letters(),
            commit.counts.dropped_units(),
            commit.files.len() as u64,
            commit.files.iter().map(|file| file.sealed.size).sum(),
            1,
        ];
        for (count, amount) in self.counts.iter().zip(amounts) {
            count.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// What was published so far.
    pub fn published(&self) -> Published {
        let [rows, dead_letters, dropped, files, bytes, commits] =
            std::array::from_fn(|n| self.counts[n].load(Ordering::Relaxed));
        Published {
            rows,
            dead_letters,
            dropped,
            files,
            bytes,
            commits,
        }
    }
}

/// What all shards of a stage share.
#[derive(Debug)]
struct Shared {
    lake: SharedLake,
    context: Context,
    stream: StreamId,
    names: TableNames,
    rules: TableRules,
    flush: FlushRules,
    registry: Registry,
    finisher: Finisher,
    holders: Holders,
    specs: Mutex<HashSet<String>>,
    totals: Arc<Totals>,
}

/// The sink of one stream into one table.
#[derive(Clone, Debug)]
pub struct SinkStage {
    shared: Arc<Shared>,
}

impl SinkStage {
    /// Opens the table. Files that vanished before they were visible are made again by `rebuild`.
    ///
    /// # Errors
    /// Refused when the stored schema contradicts the rules.
    pub async fn open(
        lake: &SharedLake,
        context: &Context,
        stream: &StreamId,
        names: &TableNames,
        rules: TableRules,
        flush: FlushRules,
        rebuild: Option<Arc<dyn Rebuild>>,
    ) -> Result<Self> {
        let (declared, layout) = (rules.first_schema()?, rules.layout()?);
        let (columns_max, random) = (rules.columns_max, &context.random);
        let registry = Registry::open(lake, names, declared, &layout, columns_max, random).await?;
        Ok(SinkStage {
            shared: Arc::new(Shared {
                lake: SharedLake::clone(lake),
                context: context.clone(),
                stream: stream.clone(),
                names: names.clone(),
                rules,
                flush,
                registry,
                finisher: Finisher::new(rebuild, &context.random),
                holders: Holders::default(),
                specs: Mutex::default(),
                totals: Arc::default(),
            }),
        })
    }

    /// The schemas of the table.
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// What it publishes.
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.shared.totals)
    }

    fn chain(&self, shard: &Shard) -> Chain {
        let shared = &self.shared;
        Chain::new(&shared.lake, &shared.names, &shared.stream, &shard.id)
    }
}

#[async_trait]
impl Stage for SinkStage {
    fn scope(&self) -> Scope {
        Scope::Shard
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        let claimed = Publisher::resume(&self.chain(shard), &self.shared.finisher).await?;
        Ok(claimed.map(|claimed| Progress {
            to: claimed.to,
            pin: None,
            marks: claimed.marks,
        }))
    }

    async fn open(&self, opened: Opened) -> Result<Box<dyn ShardStage>> {
        let Opened {
            shard,
            after,
            start,
            ..
        } = opened;
        let finisher = self.shared.finisher.clone();
        let publisher = Publisher::open(self.chain(&shard), finisher, start, after.to).await?;
        Ok(Box::new(SinkShard {
            source: Source::new(&self.shared.stream, &shard.id),
            to: publisher.to(),
            holder: self.shared.holders.enter(),
            shared: Arc::clone(&self.shared),
            publisher,
            buffer: None,
            permit: Permit::default(),
            rest: None,
            since: None,
            short: false,
            ended: false,
        }))
    }

    async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        Err(Error::fatal("the sink publishes each shard by itself"))
    }
}

/// One shard on its way into the lake.
#[derive(Debug)]
struct SinkShard {
    shared: Arc<Shared>,
    source: Source,
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
    async fn feed(&mut self, mut batch: Batch, start: usize) -> Result<()> {
        let mut buffer = self.open_buffer()?;
        let context = &self.shared.context;
        let arrived = context.clock.wall_micros();
        let raw = std::mem::take(&mut batch.permit);
        let decoding = context.workers.run(move || {
            let taken = buffer.take(&batch, start, arrived);
            (buffer, batch, taken)
        });
        let (buffer, mut batch, taken) = decoding.await?;
        self.to = self.to.max(buffer.to());
        self.buffer = Some(buffer);
        match taken? {
            Taken::All => {
                drop(batch);
                self.exchange(raw);
            }
            Taken::FullBefore(index) => {
                batch.permit = raw;
                self.rest = Some((batch, index));
                self.exchange(Permit::default());
            }
        }
        Ok(())
    }

    /// Holds exactly the bytes of the open interval, as far as the budget has them. It never waits here: whoever would
    /// free bytes may wait for this shard.
    fn exchange(&mut self, raw: Permit) {
        let wanted = self.buffer.as_ref().map_or(0, |buffer| buffer.bytes());
        // Of another budget it would be handed back and returned there.
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
        let cut = shared.context.workers.run(move || buffer.cut()).await?;
        let latencies = cut.latencies.clone();
        let commit = self.stage(cut).await?;
        // What is staged lies on the disk: memory is free before the record is put.
        self.permit = Permit::default();
        self.exchange(Permit::default());
        self.publisher.publish(&commit).await?;
        shared.totals.add(&commit);
        let shard = self.source.shard.to_string();
        let now = shared.context.clock.wall_micros();
        for (age, rows) in latencies.ages(now) {
            let count = usize::try_from(rows).unwrap_or(usize::MAX);
            metrics::histogram!("hydrant_sink_latency_seconds", "shard" => shard.clone())
                .record_many(age, count);
        }
        let labels = [("shard", shard.clone())];
        metrics::counter!("hydrant_sink_rows_total", &labels).increment(commit.counts.rows);
        metrics::counter!("hydrant_sink_files_total", &labels).increment(commit.files.len() as u64);
        metrics::counter!("hydrant_sink_bytes_total", &labels)
            .increment(commit.files.iter().map(|file| file.sealed.size).sum());
        metrics::counter!("hydrant_sink_flushes_total", "shard" => shard.clone(), "reason" => why.as_str())
            .increment(1);
        metrics::histogram!("hydrant_sink_publish_seconds", "shard" => shard)
            .record(started.elapsed().as_secs_f64());
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
    async fn stage(&self, cut: Cut) -> Result<Commit> {
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
        let Cut {
            source,
            opened,
            decoded,
            positions,
            letters,
            mut counts,
            ..
        } = cut;
        let time = shared.context.clock.wall_micros();
        let planning = shared.context.workers.run(move || {
            let ready = conform(&source, decoded, positions, letters, &schema, time)?;
            for letter in &ready.letters {
                let reason = letter.letter.reason.to_string();
                metrics::counter!("hydrant_sink_dead_letters_total", "reason" => reason)
                    .increment(1);
            }
            let (rows, refused) = (ready.rows, ready.refused);
            Ok::<_, Error>((ready.plan(&names, interval, &metadata)?, rows, refused))
        });
        let (plans, rows, refused) = planning.await??;
        let files = stage_all(&shared.lake, &shared.context, &shared.rules.encode, plans).await?;
        counts.own_letters += refused;
        counts.rows = rows;
        check_files(&files, &counts)?;
        Ok(Commit {
            origins: cut.origins,
            gaps: cut.gaps,
            stamps: cut.stamps,
            ..self.record(interval, files, counts, spec, number, opened)
        })
    }

    fn record(
        &self,
        interval: Interval,
        files: Vec<CommitFile>,
        counts: Counts,
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
            spec,
            schema,
            marks: Vec::new(),
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
                Counts::default(),
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
fn check_files(files: &[CommitFile], counts: &Counts) -> Result<()> {
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

impl Shared {
    async fn put_spec(&self, cut: &Cut, schema: u64) -> Result<String> {
        let (digest, body) = self.rules.spec(&cut.base, schema).to_body();
        let known = |digest: &str| self.specs().contains(digest);
        if !known(&digest) {
            let key = self.names.spec(&digest);
            let put = persist("put a spec", &self.context.random, || {
                self.lake.put_new(&key, body.clone())
            });
            put.await?;
            let mut specs = self.specs();
            if specs.len() >= SPECS_KNOWN_MAX {
                specs.clear();
            }
            specs.insert(digest.clone());
        }
        Ok(digest)
    }

    fn specs(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.specs.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            pin: None,
            marks: Vec::new(),
        })
    }
}
