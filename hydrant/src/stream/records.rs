//! Putting records into a stream and looking at them.

use hydrant_consumer::config::ConsumerArgs;
use hydrant_consumer::copy::{CopyFormat, ShardLabel};
use hydrant_consumer::runtime;
use hydrant_consumer::wire::{self as consumer, CopyParts};
use hydrant_core::stream::Read;
use hydrant_core::{Error, Position, Result, Sequence};
use hydrant_process::Process;
use hydrant_process::config::{Layers, Problems};
use hydrant_producer::config::{Files, InputSpec};

use super::past_corrupt::CorruptShards;
use super::shard_of;
use crate::output::{CommandOutput, count_text, counted};

/// The format that `--json` asks for.
const JSON: &str = "json";

/// Appends the lines of standard input.
pub(super) async fn put(
    url: String,
    key: Option<String>,
    process: &Process,
    output: &CommandOutput,
) -> Result<()> {
    // Opened first: `put` makes no stream, which a mistyped name would.
    hydrant_stream::open(&url, &process.context).await?;
    let mut config = hydrant_producer::Config::new(url, InputSpec::Files(Files::new(["-"])));
    if let Some(key) = key {
        config = config.with_key(&key)?;
    }
    let shutdown = process.shutdown.clone();
    let report = hydrant_producer::run(config, &process.context, shutdown, None).await?;
    output.print(&report, || {
        let refused: u64 = report.refused.values().sum();
        format!(
            "{} stored, {} without key, {} refused",
            counted(report.stored, "record"),
            count_text(report.keyless),
            count_text(refused)
        )
    })
}

/// Prints one record: its payload, or with `--json` everything known of it.
pub(super) async fn get(
    url: &str,
    shard: &str,
    position: &str,
    process: &Process,
    output: &CommandOutput,
) -> Result<()> {
    let stream = hydrant_stream::open(url, &process.context).await?;
    let shard = shard_of(&stream, shard).await?;
    let Ok(Position::At { sequence, sub }) = position.parse() else {
        return Err(Error::refused(format!(
            "argument `POSITION`: `{position}` is not the position of a record: write a sequence number such as \
             `1234`, or `SEQUENCE.SUB`"
        )));
    };
    let wanted = Position::at(sequence, sub);
    let missing = |tip| match tip {
        Position::Begin => Error::refused(format!("shard `{shard}` is empty")),
        tip => Error::refused(format!(
            "shard `{shard}` has no record at position {wanted}: its last one is at {tip}"
        )),
    };
    let tip = stream.state(&shard).await?.tip;
    if wanted > tip {
        return Err(missing(tip));
    }
    let mut reader = stream.reader(&shard, &process.context.budget).await?;
    reader.open(before(sequence, sub)).await?;
    match reader.next().await? {
        Read::Batch(batch) if !batch.is_empty() && batch.position(0) == (sequence, sub) => {
            let mut text = Vec::new();
            let format = if output.is_json() {
                CopyFormat::Json
            } else {
                CopyFormat::Raw
            };
            let place = ShardLabel {
                stream: stream.id(),
                shard: &shard,
            };
            // Both formats take every record.
            format.write(&batch, &[0], place, &mut text);
            if !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            output.stdout().bytes(&text)
        }
        Read::Gap { why, .. } => Err(Error::refused(format!(
            "shard `{shard}` no longer has position {wanted}: {why}"
        ))),
        _ => Err(missing(tip)),
    }
}

/// The last position before a record.
fn before(sequence: Sequence, sub: u32) -> Position {
    if sub > 0 {
        return Position::at(sequence, sub - 1);
    }
    let (high, low) = (sequence.high(), sequence.low());
    match (high, low) {
        (0, 0) => Position::Begin,
        (high, 0) => Position::at(Sequence::from_parts(high - 1, u128::MAX), u32::MAX),
        (high, low) => Position::at(Sequence::from_parts(high, low - 1), u32::MAX),
    }
}

/// Prints records as they arrive. With an end, a corrupt shard is logged and the others are printed up to theirs; without
/// one, it waits until it is repaired.
pub(super) async fn tail(
    url: &str,
    start: &str,
    format: Option<String>,
    exit_at_end: bool,
    process: &Process,
    output: &CommandOutput,
) -> Result<()> {
    let format = format.unwrap_or_else(|| JSON.to_owned());
    if output.is_json() && format != JSON {
        return Err(Error::refused(format!(
            "flag `--format`: `{format}` contradicts `--json`: leave one of them out"
        )));
    }
    let args = ConsumerArgs {
        from: Some(url.to_owned()),
        start: Some(start.to_owned()),
        format: Some(format),
        wait: Some("0s".to_owned()),
        exit_at_end,
        ..ConsumerArgs::default()
    };
    let mut problems = Problems::new();
    let config = hydrant_consumer::config::Config::read(&args, &Layers::default(), &mut problems);
    problems.into_result()?;
    let config = config.ok_or_else(|| Error::fatal("`tail` was refused without a reason"))?;
    let parts = CopyParts {
        app: None,
        context: process.context.clone(),
        shutdown: process.shutdown.clone(),
        stdout: process.stdout.clone(),
    };
    let mut spec = consumer::prepare(parts, &config).await?;
    let corrupt = CorruptShards::default();
    if exit_at_end {
        spec.stream = corrupt.passed_in(spec.stream);
    }
    runtime::run(spec).await?;
    corrupt.into_result()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_before_a_record_excludes_only_what_is_before() {
        let p = |sequence: u64, sub| Position::at(Sequence::from(sequence), sub);
        assert_eq!(before(Sequence::from(0), 0), Position::Begin);
        assert_eq!(before(Sequence::from(7), 3), p(7, 2));
        assert_eq!(before(Sequence::from(7), 0), p(6, u32::MAX));
        assert_eq!(p(6, u32::MAX).next_offset(), Some(7));
        assert!(
            before(Sequence::from_parts(1, 0), 0) < Position::at(Sequence::from_parts(1, 0), 0)
        );
    }
}
