//! A vanished file, made again from the stream.
//!
//! Owns how a committed interval is read and decoded a second time: from its own start to its own end, by its recorded
//! spec and its recorded time. Promises the same rows or none: the caller compares count and position digest. Refuses
//! to make up what the stream no longer holds.

use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::lake::SharedLake;
use hydrant_core::stream::{Read, SharedStream};
use hydrant_core::{Context, Error, Interval, Position, Result};
use tokio::sync::Mutex;

use crate::buffer::{Buffer, Source, Taken};
use crate::interval::{conform, footer_of, stage_one};
use crate::lake::{Commit, CommitFile, Rebuild, TableNames};
use crate::schema::registry;
use crate::spec::Spec;

/// Reads intervals again from the stream that they came from.
#[derive(Debug)]
pub struct SourceRebuild {
    stream: SharedStream,
    lake: SharedLake,
    context: Context,
    names: TableNames,
    /// One interval at a time: it lies in memory outside the budget.
    one_at_a_time: Mutex<()>,
}

impl SourceRebuild {
    /// For the table that is filled from `stream`.
    pub fn new(
        stream: &SharedStream,
        lake: &SharedLake,
        context: &Context,
        names: &TableNames,
    ) -> Self {
        SourceRebuild {
            stream: SharedStream::clone(stream),
            lake: SharedLake::clone(lake),
            context: context.clone(),
            names: names.clone(),
            one_at_a_time: Mutex::new(()),
        }
    }

    /// The interval as it was before it was cut, and the schema of its files.
    async fn read(&self, commit: &Commit, source: &Source, spec: &Spec) -> Result<Box<Buffer>> {
        let (rules, base) = spec.rules(&self.names.spec(&commit.spec))?;
        let interval = commit.interval(&commit.nonce)?;
        let (from, until) = (interval.from, interval.to);
        let base = Arc::new(base);
        let mut buffer = Box::new(Buffer::open(
            source,
            &rules,
            &base,
            commit.opened,
            from,
            from,
        )?);
        let mut reader = self
            .stream
            .reader(&source.shard, &self.context.budget)
            .await?;
        reader.open(from).await?;
        while buffer.to() < until {
            match reader.next().await? {
                Read::Batch(batch) => {
                    let opened = commit.opened;
                    let taking = self.context.workers.run(move || {
                        let taken = buffer.take(&batch, 0, until, opened);
                        (buffer, taken)
                    });
                    let taken;
                    (buffer, taken) = taking.await?;
                    match taken? {
                        Taken::All => {}
                        Taken::Beyond => buffer.pass(until),
                        Taken::FullBefore(_) => return Err(self.gone(source, until)),
                    }
                }
                Read::Idle { through } => buffer.pass(through.min(until)),
                Read::Gap { from, to, why } => buffer.gap(from, to.min(until), why),
                Read::End { .. } => buffer.pass(until),
            }
        }
        Ok(buffer)
    }

    fn gone(&self, source: &Source, until: Position) -> Error {
        Error::fatal(format!(
            "the interval up to {until} of shard `{}` cannot be decoded again: `{}` does not hold what it held",
            source.shard,
            self.stream.url(),
        ))
    }
}

#[async_trait]
impl Rebuild for SourceRebuild {
    async fn rebuild(&self, commit: &Commit, file: usize, key: &str) -> Result<CommitFile> {
        let _one = self.one_at_a_time.lock().await;
        let interval = commit.interval(key)?;
        if *self.stream.id() != commit.stream {
            return Err(Error::fatal(format!(
                "`{key}` is to be made again from `{}`, but this sink reads `{}`",
                commit.stream,
                self.stream.id(),
            )));
        }
        let spec_key = self.names.spec(&commit.spec);
        let Some(body) = self.lake.get(&spec_key).await? else {
            return Err(Error::fatal(format!(
                "`{spec_key}` is missing: specs are never removed"
            )));
        };
        let spec = Spec::from_body(&spec_key, &body)?;
        let source = Source::new(&commit.stream, &interval.shard);
        let buffer = self.read(commit, &source, &spec).await?;
        let schema = match spec.schema {
            0 => spec.rules(&spec_key)?.1,
            number => registry::get(&self.lake, &self.names, number).await?,
        };
        let interval = Interval::new(interval.from, interval.to);
        let names = self.names.chain(&commit.stream, &source.shard);
        let metadata = footer_of(&source, interval, commit.schema);
        let gone = self.gone(&source, interval.to);
        let opened = commit.opened;
        let plans = self.context.workers.run(move || {
            let cut = buffer.cut();
            conform(
                &source,
                cut.decoded,
                cut.positions,
                cut.letters,
                &schema,
                opened,
            )?
            .plan(&names, interval, &metadata)
        });
        let mut plan = plans.await??.into_iter().nth(file).ok_or(gone)?;
        if plan.key != commit.files[file].sealed.key {
            return Err(Error::fatal(format!(
                "`{}` became `{}` when it was made again: the source does not hold what it held",
                commit.files[file].sealed.key, plan.key,
            )));
        }
        key.clone_into(&mut plan.key);
        let options = crate::encode::EncodeOptions::default();
        stage_one(&self.lake, &self.context, &options, plan).await
    }
}
