//! The rebuild of a vanished file from the stream.
//!
//! Owns how a committed interval is read and decoded a second time: from its own start to its own end, by its recorded
//! spec and its recorded time, through the transform that it went through. Promises the same rows or none: the caller
//! compares count and position digest. What the stream no longer has is said, and what is left of the files is made.
//! Refuses to rebuild a file without the transform or under another policy than before: what a policy redacts must not
//! come back.

use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::batch::AccountOf;
use hydrant_core::lake::SharedLake;
use hydrant_core::lease::Progress;
use hydrant_core::origin::WriterId;
use hydrant_core::stream::{OpenAt, Read, SharedStream};
use hydrant_core::transform::{self, Transform};
use hydrant_core::workers::contain;
use hydrant_core::{Batch, Budget, Context, Error, Interval, Permit, Position, Result, ShardId};
use tokio::sync::Mutex;

use super::buffer::{Buffer, StreamShard, TakeOutcome};
use super::interval::{conform, footer, untraced};
use super::upload::{EncodingRoom, PlannedFile, Uploader, Uploads};
use crate::lake::finisher::OR_GIVE_UP;
use crate::lake::requests::Requests;
use crate::lake::{Chain, ChainTip, Commit, Gap, Leftovers, Rebuild, Remade, TableNames};
use crate::schema::registry;
use crate::table::spec::Spec;

/// What the reader of a rebuild may hold. It does not come from the budget of the process: the shard that waits for the
/// rebuild may hold all of that, and frees it only afterwards.
const READER_BYTES: u64 = 16 << 20;

/// Rebuilds files by reading their interval again from the stream.
#[derive(Debug)]
pub struct SourceRebuild {
    stream: SharedStream,
    lake: SharedLake,
    context: Context,
    names: TableNames,
    behind: Option<Arc<dyn Transform>>,
    /// One interval at a time: it lies in memory outside the budget.
    one_at_a_time: Mutex<()>,
}

impl SourceRebuild {
    /// Rebuilds files of the table that is filled from `stream`. `behind` is the transform that records go through in
    /// this process before they reach the sink.
    pub fn new(
        stream: &SharedStream,
        lake: &SharedLake,
        context: &Context,
        names: &TableNames,
        behind: Option<Arc<dyn Transform>>,
    ) -> Self {
        SourceRebuild {
            stream: SharedStream::clone(stream),
            lake: SharedLake::clone(lake),
            context: context.clone(),
            names: names.clone(),
            behind,
            one_at_a_time: Mutex::new(()),
        }
    }

    /// Reads the interval of `commit` as it was before it was sealed.
    async fn read(
        &self,
        commit: &Commit,
        at: OpenAt,
        stream_shard: &StreamShard,
        spec: &Spec,
    ) -> Result<Box<Buffer>> {
        let interval = commit.interval();
        let (from, until) = (interval.from, interval.to);
        let (base, shard) = (Arc::new(spec.base.clone()), stream_shard.shard.clone());
        let buffer = Buffer::open(stream_shard, &spec.rules, &base, commit.opened, from, from)?;
        let mut buffer = Box::new(buffer.giving_up(&commit.faults));
        let mut reader = self
            .stream
            .reader(&stream_shard.shard, at, &Budget::new(READER_BYTES))
            .await?;
        while buffer.to < until {
            match reader.next().await? {
                Read::Batch(batch) => {
                    let (opened, behind) = (commit.opened, self.behind.clone());
                    let stream_shard = stream_shard.clone();
                    let taking = self.context.workers.run(move || -> Result<_> {
                        let batch = up_to(batch, until);
                        let batch = match behind {
                            None => batch,
                            Some(transform) => through(&*transform, batch, &stream_shard, opened)?,
                        };
                        let taken = buffer.take(&batch, 0, opened, u64::MAX, false)?;
                        Ok((buffer, taken))
                    });
                    let taken;
                    (buffer, taken) = taking.await??;
                    if taken != TakeOutcome::All {
                        return Err(self.gone(&shard, until));
                    }
                }
                Read::Idle { through } => {
                    buffer.advance_to(through.min(until));
                    // What was committed lay before the end of the stream.
                    if buffer.to < until {
                        return Err(self.gone(&shard, until));
                    }
                }
                Read::Gap { from, to, why, .. } => buffer.gap(from, to.min(until), why),
                Read::End { .. } => buffer.advance_to(until),
            }
        }
        debug_assert_eq!(buffer.to, until);
        Ok(buffer)
    }

    /// The last progress of the parents of a shard of which nothing was read before.
    async fn parents(
        &self,
        stream_shard: &StreamShard,
        from: &Progress,
    ) -> Result<Vec<(ShardId, Progress)>> {
        let mut parents = Vec::new();
        if from.to != Position::Begin {
            return Ok(parents);
        }
        let shards = self.stream.shards().await?;
        let Some(shard) = shards.get(&stream_shard.shard) else {
            return Ok(parents);
        };
        for parent in &shard.parents {
            let chain = Chain::new(&self.lake, &self.names, &stream_shard.stream, parent);
            if let ChainTip::Record(last) = chain.tip().await? {
                let progress = Progress {
                    to: last.commit.interval().to,
                    marks: last.commit.marks,
                    ..Progress::default()
                };
                parents.push((parent.clone(), progress));
            }
        }
        Ok(parents)
    }

    fn gone(&self, shard: &ShardId, until: Position) -> Error {
        Error::fatal(format!(
            "cannot decode the interval up to {until} of shard `{}` again: `{}` no longer holds the same records; \
             {OR_GIVE_UP}",
            shard,
            self.stream.url(),
        ))
    }
}

/// The part of a batch up to and including `until`.
fn up_to(mut batch: Batch, until: Position) -> Batch {
    if batch.to <= until {
        return batch;
    }
    let kept = batch
        .positions()
        .take_while(|(sequence, sub, _)| Position::at(*sequence, *sub) <= until)
        .count();
    batch.truncate(kept);
    batch.accounts.retain(|span| span.at <= until);
    batch.duplicates.retain(|(at, _)| *at <= until);
    batch.to = until;
    batch
}

/// Applies the transform of the same process to a batch. The account of the batch is not counted: the commit record has
/// the sums already.
fn through(
    transform: &dyn Transform,
    batch: Batch,
    stream_shard: &StreamShard,
    now: i64,
) -> Result<Batch> {
    let (stream, shard) = (&stream_shard.stream, &stream_shard.shard);
    let of = AccountOf {
        writer: WriterId(0),
        shard: shard.clone(),
    };
    let runs = batch.runs.clone();
    let transformed = transform.apply(batch, transform::Source { stream, shard, now })?;
    Ok(transformed.into_batch(of, &runs))
}

#[async_trait]
impl Rebuild for SourceRebuild {
    async fn rebuild(
        &self,
        commit: &Commit,
        from: Progress,
        files: &[(usize, String)],
        leftovers: &Arc<Leftovers>,
    ) -> Result<Remade> {
        let _one = self.one_at_a_time.lock().await;
        let interval_of = commit.interval();
        let key = files.first().map_or("", |(_, key)| key);
        if *self.stream.id() != commit.stream {
            return Err(Error::fatal(format!(
                "cannot rebuild `{key}`: it comes from stream `{}`, but this sink reads `{}`",
                commit.stream,
                self.stream.id(),
            )));
        }
        let spec_key = self.names.spec(&commit.spec);
        let Some(body) = self.lake.get(&spec_key).await? else {
            return Err(Error::fatal(format!(
                "`{spec_key}` is missing: specs are never removed; restore it"
            )));
        };
        let spec = Spec::from_body(&spec_key, &body)?;
        let policy = self.behind.as_ref().map(|transform| transform.digest());
        if spec.rules.policy.as_deref() != policy {
            let word = |policy: Option<&str>| {
                policy.map_or("no policy".to_owned(), |digest| {
                    format!("policy `{digest}`")
                })
            };
            return Err(Error::refused(format!(
                "cannot rebuild `{key}`: it was made under {}, but this process runs under {}; start the sink once more \
                 with the former",
                word(spec.rules.policy.as_deref()),
                word(policy),
            )));
        }
        let stream_shard = StreamShard::new(&commit.stream, &interval_of.shard);
        let at = OpenAt::After {
            parents: self.parents(&stream_shard, &from).await?,
            progress: from,
        };
        let buffer = self.read(commit, at, &stream_shard, &spec).await?;
        let schema = match spec.schema {
            0 => spec.base.clone(),
            number => registry::get(&self.lake, &self.names, number).await?,
        };
        let interval = Interval::new(interval_of.from, interval_of.to);
        let names = self.names.chain(&commit.stream, &stream_shard.shard);
        let metadata = footer(&stream_shard, interval, commit.schema);
        let opened = commit.opened;
        let broken = untraced(&stream_shard, interval);
        let conforming = self.context.workers.run(move || {
            contain(|| {
                let (decoded, facts) = buffer.seal();
                conform(facts, decoded, &schema, opened)
            })
        });
        let conformed = conforming.await?.unwrap_or(Err(broken))?;
        let gaps = new_gaps(&conformed.facts.gaps, &commit.gaps);
        let lacks_rows = !gaps.is_empty();
        let options = crate::encode::EncodeOptions::default();
        let uploads = Uploads::new(&self.lake, leftovers);
        let total = self.context.budget.total_bytes();
        let bytes = EncodingRoom::bytes_for(&options, total, u64::MAX);
        let room = EncodingRoom::new(&options, total, bytes, Permit::default());
        let uploader = Uploader {
            context: &self.context,
            options: &options,
            requests: &Requests::default(),
            uploads: &uploads,
            room: &room,
        };
        let gone = || self.gone(&interval_of.shard, interval.to);
        let choose = |plans: Vec<PlannedFile>| {
            let mut plans: Vec<Option<PlannedFile>> = plans.into_iter().map(Some).collect();
            let mut chosen = Vec::new();
            for (index, key) in files {
                let wanted = &commit.files[*index];
                // Without all records, partitions before this one may have no file, which the numbers of files follow.
                let found = match lacks_rows {
                    false => plans.get_mut(*index),
                    true => plans.iter_mut().find(|plan| {
                        let place =
                            |plan: &PlannedFile| (plan.kind, directory(&plan.key).to_owned());
                        let wanted = (wanted.kind, directory(&wanted.sealed.key).to_owned());
                        plan.as_ref().is_some_and(|plan| place(plan) == wanted)
                    }),
                };
                let Some(mut plan) = found.and_then(Option::take) else {
                    if lacks_rows {
                        continue;
                    }
                    return Err(gone());
                };
                if !lacks_rows && plan.key != wanted.sealed.key {
                    return Err(Error::fatal(format!(
                        "cannot rebuild `{}`: it became `{}`; the stream no longer holds the same records; {OR_GIVE_UP}",
                        wanted.sealed.key, plan.key,
                    )));
                }
                key.clone_into(&mut plan.key);
                chosen.push(plan);
            }
            Ok(chosen)
        };
        let uploading = conformed.upload(uploader, &names, metadata, choose);
        let (_, rebuilt) = uploading.await?;
        uploads.forget(&rebuilt);
        let file = |(_, key): &(usize, String)| {
            let mut rebuilt = rebuilt.iter();
            rebuilt.find(|file| file.sealed.key == *key).cloned()
        };
        Ok(Remade {
            files: files.iter().map(file).collect(),
            gaps,
        })
    }
}

/// The gaps that were not there when the record was made.
fn new_gaps(found: &[Gap], recorded: &[Gap]) -> Vec<Gap> {
    let is_new = |gap: &&Gap| {
        let mut recorded = recorded.iter();
        !recorded.any(|known| known.from <= gap.from && gap.to <= known.to)
    };
    found.iter().filter(is_new).cloned().collect()
}

/// The directory of a key.
fn directory(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(dir, _)| dir)
}
