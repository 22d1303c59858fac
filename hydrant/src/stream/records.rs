//! Puts records into a stream, and prints them.

use hydrant_consumer::config::{Config, ConsumerArgs};
use hydrant_consumer::copy::CopyFormat;
use hydrant_consumer::runtime::{self, OnCorrupt};
use hydrant_consumer::wire::{self as consumer, CopyParts};
use hydrant_core::stream::{OpenAt, Read, SharedStream};
use hydrant_core::{Batch, Budget, Error, Position, Result, ShardId};
use hydrant_process::config::{Layers, Problems};
use hydrant_producer::config::{Files, InputSpec};
use hydrant_producer::key::KeyTemplate;

use super::{StreamCommands, TailArgs, shard_of};
use crate::output::{count_text, counted};

/// The name of the format that `--json` selects.
const JSON: &str = "json";

impl StreamCommands<'_> {
    /// Appends the lines of standard input.
    pub(super) async fn put(&self, url: String, key: Option<String>) -> Result<()> {
        // Open the stream first: `put` must not create one under a mistyped name.
        self.open(&url).await?;
        let input = InputSpec::Files(Files::new(["-"]));
        let config = hydrant_producer::Config {
            streams: self.streams.clone(),
            key: key.map(|key| KeyTemplate::parse(&key)).transpose()?,
            ..hydrant_producer::Config::new(url, input)
        };
        let (context, shutdown) = (&self.process.context, self.process.shutdown.clone());
        let report = hydrant_producer::run(config, context, shutdown, None).await?;
        self.output.print(&report, || {
            let refused: u64 = report.refused.values().sum();
            format!(
                "{} stored, {} without key, {} refused",
                counted(report.stored, "record"),
                count_text(report.keyless),
                count_text(refused)
            )
        })
    }

    /// Prints one record: its payload, or with `--json` also its position, key and times.
    pub(super) async fn get(&self, url: &str, shard: &str, position: &str) -> Result<()> {
        let stream = self.open(url).await?;
        let shard = shard_of(&stream, shard).await?;
        let Ok(Position::At { sequence, sub }) = position.parse() else {
            return Err(Error::refused(format!(
                "argument `POSITION`: `{position}` is not the position of a record: write a sequence number such as \
                 `1234`, or `SEQUENCE.SUB`"
            )));
        };
        let wanted = Position::at(sequence, sub);
        let batch = record_at(&stream, &shard, wanted, &self.process.context.budget).await?;
        let mut text = Vec::new();
        let format = match self.output.is_json() {
            true => CopyFormat::Json,
            false => CopyFormat::Raw,
        };
        // Both formats take every record.
        format.write(&batch, &[0], (stream.id(), &shard), &mut text);
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        self.output.stdout().bytes(&text)
    }

    /// Prints records as they arrive. With `exit_at_end`, a corrupt shard is logged and the other shards are printed to
    /// their ends; without it, the command waits until the shard is repaired.
    pub(super) async fn tail(&self, args: TailArgs) -> Result<()> {
        let format = args.format.unwrap_or_else(|| JSON.to_owned());
        if self.output.is_json() && format != JSON {
            return Err(Error::refused(format!(
                "flag `--format`: `{format}` contradicts `--json`: leave one of them out"
            )));
        }
        let exit_at_end = args.exit_at_end;
        let args = ConsumerArgs {
            from: Some(args.url),
            start: Some(args.start),
            format: Some(format),
            wait: Some("0s".to_owned()),
            exit_at_end,
            ..ConsumerArgs::default()
        };
        let mut problems = Problems::new();
        let config = Config::read(&args, self.streams, &Layers::default(), &mut problems);
        problems.into_result()?;
        let config = config
            .ok_or_else(|| Error::fatal("`tail` was refused without a reason: report this"))?;
        let parts = CopyParts {
            app: None,
            context: self.process.context.clone(),
            shutdown: self.process.shutdown.clone(),
            stdout: self.process.stdout.clone(),
        };
        let (mut spec, _tally) = consumer::prepare(parts, config).await?;
        if exit_at_end {
            spec.on_corrupt = OnCorrupt::EndShard;
        }
        runtime::run(spec).await.map(drop)
    }
}

/// A batch that begins with the record at `wanted`.
async fn record_at(
    stream: &SharedStream,
    shard: &ShardId,
    wanted: Position,
    budget: &Budget,
) -> Result<Batch> {
    let missing = |tip| match tip {
        Some(Position::Begin) => Error::refused(format!("shard `{shard}` is empty")),
        Some(tip) => Error::refused(format!(
            "shard `{shard}` has no record at position {wanted}: its last one is at {tip}"
        )),
        None => Error::refused(format!(
            "shard `{shard}` has no record at position {wanted}"
        )),
    };
    let tip = stream.state(shard).await?.tip;
    if tip.is_some_and(|tip| wanted > tip) {
        return Err(missing(tip));
    }
    let mut reader = stream.reader(shard, OpenAt::At(wanted), budget).await?;
    match reader.next().await? {
        Read::Batch(batch) if !batch.is_empty() => {
            let (sequence, sub) = batch.position(0);
            match Position::at(sequence, sub) == wanted {
                true => Ok(batch),
                false => Err(missing(tip)),
            }
        }
        Read::Gap { why, .. } => Err(Error::refused(format!(
            "shard `{shard}` no longer has position {wanted}: {why}"
        ))),
        _ => Err(missing(tip)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use hydrant_core::Random;
    use hydrant_core::batch::{Entry, Span};
    use hydrant_core::clock::SystemClock;
    use hydrant_core::stream::Append;
    use hydrant_testing::memory::MemoryStream;

    use super::*;

    /// Its numbers are not dense, and it knows neither its last one nor the one before another.
    #[tokio::test(start_paused = true)]
    async fn a_record_is_found_in_a_stream_that_cannot_compute_positions() {
        let clock = Arc::new(SystemClock);
        let stream = MemoryStream::storing("memory", 1, clock, Random::seeded(1));
        let stream: SharedStream = Arc::new(stream);
        let shard = stream.shards().await.unwrap().all()[0].id.clone();
        let (budget, writer) = (Budget::new(1 << 20), stream.writer().await.unwrap());
        let entry = |n| Entry {
            segment: 0,
            key: Some(Span::new(n, 1)),
            payload: Span::new(n, 1),
            stamp: 0,
        };
        let batch = Batch {
            segments: Arc::from([Bytes::from_static(b"abcde")]),
            records: (0..5).map(entry).collect(),
            ..Batch::default()
        };
        let batch = Arc::new(batch);
        for n in 0..5 {
            let append = Append {
                batch: Arc::clone(&batch),
                record_indexes: [n].into(),
                routes: [0].into(),
                ..Append::default()
            };
            let ticket = writer.submit(&shard, append).await.unwrap();
            ticket.await.unwrap();
        }
        let begin = OpenAt::after(Position::Begin);
        let mut reader = stream.reader(&shard, begin, &budget).await.unwrap();
        let mut positions = Vec::new();
        while let Read::Batch(batch) = reader.next().await.unwrap() {
            positions.extend(batch.positions().map(|(at, sub, _)| Position::at(at, sub)));
        }
        assert_eq!(positions.len(), 5);
        assert_eq!(stream.state(&shard).await.unwrap().tip, None);
        for (wanted, payload) in positions.iter().zip(b"abcde") {
            let found = record_at(&stream, &shard, *wanted, &budget).await.unwrap();
            assert_eq!(found.payload(&found.records[0]), [*payload]);
        }
        let past = Position::at(hydrant_core::Sequence::MAX, 0);
        let refused = record_at(&stream, &shard, past, &budget).await.unwrap_err();
        assert!(refused.to_string().contains("no record"), "{refused}");
    }
}
