//! The publish of one interval, beside the filling of the next one.
//!
//! Owns the way of an interval from its last record to the reveal of its files, in a task of its own. Promises that the
//! publisher of the chain is in here for all of that time: so one interval of a shard is under way, no other takes a
//! slot before its files are visible, and its memory is held until they are uploaded. Dropping it ends the task; the
//! uploads that no record can name are then thrown away. Refuses to decide when an interval ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use hydrant_core::clock;
use hydrant_core::stage::Flush;
use hydrant_core::workers::contain;
use hydrant_core::{Error, Interval, Permit, Position, Result};
use tokio::task::JoinSet;

use super::buffer::{Buffer, IntervalFacts, StreamShard};
use super::context::SinkContext;
use super::interval::{ConformedInterval, conform, footer, untraced};
use super::pressure::PublishingBytes;
use super::upload::{EncodingRoom, Uploader, Uploads};
use crate::decode::DecodedRows;
use crate::lake::{COMMIT_VERSION, Commit, CommitCounts, PRODUCT, Publisher, ShardInterval};

/// An interval that is being published.
#[derive(Debug)]
pub(crate) struct Publishing {
    /// Why it ended.
    why: Flush,
    /// The one task; empty once it has ended.
    task: JoinSet<Ended>,
    ended: Option<Ended>,
}

/// The memory of an interval's rows, which they take until the files are uploaded: what the budget gave, what it did not
/// have, and the entry among the shards that hold something.
pub(crate) type IntervalMemory = (Permit, Permit, PublishingBytes);

/// A publish that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The publisher of the chain; `None` after a panic.
    pub(crate) publisher: Option<Publisher>,
    /// Whether all files of the interval are visible.
    pub(crate) result: Result<()>,
}

impl Publishing {
    /// Begins to publish an interval that is not empty and begins where the chain ends.
    pub(crate) fn start(
        shared: &Arc<SinkContext>,
        stream_shard: &StreamShard,
        publisher: Publisher,
        buffer: Box<Buffer>,
        memory: IntervalMemory,
        why: Flush,
    ) -> Self {
        debug_assert_eq!(buffer.from(), publisher.to);
        let mut publish = Publish {
            shared: Arc::clone(shared),
            stream_shard: stream_shard.clone(),
            publisher,
            why,
        };
        let mut task = JoinSet::new();
        task.spawn(async move {
            let result = publish.interval(buffer, memory).await;
            Ended {
                publisher: Some(publish.publisher),
                result,
            }
        });
        Publishing {
            why,
            task,
            ended: None,
        }
    }

    /// Why the interval ended.
    pub(crate) fn why(&self) -> Flush {
        self.why
    }

    /// Whether [`Self::ended`] has resolved.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Waits for the end of the publish. Cancel-safe.
    pub(crate) async fn ended(&mut self) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(match self.task.join_next().await {
            Some(Ok(ended)) => ended,
            // The hook of panics has logged it.
            _ => Ended {
                publisher: None,
                result: Err(Error::panicked("the publish of an interval")),
            },
        });
    }

    /// Takes the end of the publish, if it has ended.
    pub(crate) fn take_ended(&mut self) -> Option<Ended> {
        self.ended.take()
    }
}

/// What an interval is published with.
struct Publish {
    shared: Arc<SinkContext>,
    stream_shard: StreamShard,
    publisher: Publisher,
    why: Flush,
}

impl Publish {
    async fn interval(&mut self, buffer: Box<Buffer>, memory: IntervalMemory) -> Result<()> {
        let started = clock::now();
        let shared = Arc::clone(&self.shared);
        let interval = Interval::new(buffer.from(), buffer.to);
        let budget = &shared.context.budget;
        let (options, total) = (&shared.rules.encode, budget.total_bytes());
        let (copy, files) = buffer.publishing_bytes();
        let files = EncodingRoom::bytes_for(options, total, files);
        // What the open intervals hold becomes free by publishing only, which therefore may exceed the budget.
        let overdraft = &shared.publishing_overdraft;
        let room = budget.acquire_more(files.max(copy), overdraft).await;
        let room = EncodingRoom::new(options, total, files, room);
        let sealing = shared
            .context
            .workers
            .run(move || contain(|| buffer.seal()));
        let sealed = sealing
            .await?
            .ok_or_else(|| untraced(&self.stream_shard, interval))?;
        let latencies = sealed.1.latencies.clone();
        let uploads = Uploads::new(&shared.lake, &shared.finisher.leftovers);
        let (commit, reasons) = self.prepare(sealed, &uploads, &room).await?;
        // The uploaded files need no memory any more.
        drop((memory, room));
        uploads.name();
        self.publisher.publish(&commit).await?;
        uploads.forget(&commit.files);
        let ages = latencies.ages(shared.context.clock.wall_micros());
        let took = started.elapsed();
        shared.totals.add(&commit, &reasons, self.why, ages, took);
        tracing::debug!(
            shard = %self.stream_shard.shard,
            slot = commit.slot,
            to = %self.publisher.to,
            rows = commit.counts.rows,
            dead_letters = commit.counts.dead_letters(),
            why = self.why.as_str(),
            "published",
        );
        Ok(())
    }

    /// Uploads the files of a sealed interval and writes the record that names them. Returns how many dead letters have
    /// each reason too.
    async fn prepare(
        &self,
        (decoded, facts): (DecodedRows, IntervalFacts),
        uploads: &Uploads,
        room: &EncodingRoom,
    ) -> Result<(Commit, BTreeMap<Arc<str>, u64>)> {
        let shared = &self.shared;
        let (schema, number) = match decoded.rows() {
            0 => (Arc::clone(&facts.base), 0),
            _ => {
                let schema = shared.registry.ensure(decoded.schema()).await?;
                let number = schema.number;
                (schema, number)
            }
        };
        let spec = shared.put_spec(&facts.base, number).await?;
        let metadata = footer(&facts.stream_shard, facts.interval, number);
        let names = self.publisher.chain.names.clone();
        let time = shared.context.clock.wall_micros();
        let workers = &shared.context.workers;
        let looking = Arc::clone(shared);
        let conforming = workers.run(move || {
            let conformed = conform(facts, decoded, &schema, time)?;
            let said = conformed.warnings(&looking.value_warnings, &looking.rules, &schema);
            Ok::<_, Error>((conformed, said))
        });
        let (conformed, said) = conforming.await??;
        for said in said {
            tracing::warn!(table = shared.names.table(), "{said}");
        }
        let uploader = Uploader {
            context: &shared.context,
            options: &shared.rules.encode,
            requests: &shared.finisher.requests,
            uploads,
            room,
        };
        let uploading = conformed.upload(uploader, &names, metadata, Ok);
        let (conformed, files) = uploading.await?;
        let (rows, untimed_rows) = (conformed.rows(), conformed.untimed_rows());
        let rescued = conformed.rescued();
        let ConformedInterval {
            mut facts,
            refused,
            faults,
            ..
        } = conformed;
        let mut reasons: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for dead_letter in &facts.dead_letters {
            let reason = Arc::clone(&dead_letter.entry.reason);
            *reasons.entry(reason).or_default() += 1;
        }
        facts.faults.extend(faults);
        let (shard, publisher) = (&self.stream_shard, &self.publisher);
        let bare = record(shared, shard, publisher, facts.interval, facts.opened);
        let commit = Commit {
            files,
            counts: CommitCounts {
                own_dead_letters: facts.counts.own_dead_letters + refused,
                rows,
                untimed_rows,
                ..facts.counts
            },
            rescued,
            origins: facts.origins,
            gaps: facts.gaps,
            faults: facts.faults,
            spec,
            schema: number,
            marks: facts.marks.unwrap_or(bare.marks),
            event_times: facts.event_times,
            stamps: facts.stamps,
            ..bare
        };
        if let Some((what, held, counted)) = commit.miscounted().next() {
            return Err(Error::fatal(format!(
                "{counted} {what} were counted, but the files hold {held}, which is a fault of hydrant"
            )));
        }
        Ok((commit, reasons))
    }
}

/// The record of an interval without rows or files, for the next slot, with the marks of the one before.
pub(crate) fn record(
    shared: &SinkContext,
    stream_shard: &StreamShard,
    publisher: &Publisher,
    interval: Interval,
    opened: i64,
) -> Commit {
    Commit {
        version: COMMIT_VERSION,
        slot: publisher.next_slot(),
        stream: stream_shard.stream.clone(),
        intervals: [ShardInterval {
            shard: stream_shard.shard.clone(),
            from: interval.from,
            to: interval.to,
        }],
        nonce: shared.context.random.identity(),
        end: interval.to == Position::End,
        files: Vec::new(),
        counts: CommitCounts::default(),
        rescued: Vec::new(),
        origins: Vec::new(),
        gaps: Vec::new(),
        faults: Vec::new(),
        spec: String::new(),
        schema: 0,
        marks: publisher.marks.clone(),
        event_times: None,
        stamps: None,
        opened,
        made: shared.context.clock.wall_micros(),
        product: PRODUCT.to_owned(),
    }
}
