//! A stream in a temporary directory, and appends to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::batch::{Entry, Span};
use hydrant_core::clock::SystemClock;
use hydrant_core::disk::real::RealDisk;
use hydrant_core::disk::{Disk, SharedDisk};
use hydrant_core::origin::{Origin, OriginEntry, WriterId};
use hydrant_core::stream::{
    Append, Appended, ClaimedRange, OpenAt, Read, ShardReader, SharedStream, StreamWriter,
};
use hydrant_core::{
    Batch, Budget, Context, Error, HashRange, Position, Random, Result, Sequence, ShardId, Workers,
    hash,
};

use crate::local::{self, format::home};
use crate::{CreateOptions, StreamUrl, Streams};

/// A process: a disk and chance of its own.
pub(super) fn context(seed: u64) -> Context {
    context_on(Arc::new(RealDisk::new()), seed)
}

/// A process on this disk.
pub(super) fn context_on(disk: SharedDisk, seed: u64) -> Context {
    Context {
        disk,
        clock: Arc::new(SystemClock),
        random: Random::seeded(seed),
        workers: Workers::Inline,
        budget: Budget::new(64 << 20),
    }
}

/// The URL of a stream in a directory.
pub(super) fn url(dir: &tempfile::TempDir) -> String {
    format!("local:{}/events", dir.path().display())
}

/// The home of the stream in a directory.
pub(super) async fn home(disk: &dyn Disk, dir: impl AsRef<Path>) -> PathBuf {
    let names = disk.list(dir.as_ref()).await.unwrap();
    let mut homes = names.iter().filter(|listed| home::is_name(&listed.name));
    let found = homes.next().expect("the stream has a home");
    assert!(homes.next().is_none(), "{names:?}");
    dir.as_ref().join(&found.name)
}

/// Opens the stream of a URL.
pub(crate) async fn open(url: &str, ctx: &Context) -> Result<SharedStream> {
    Streams::default().open(url, ctx).await
}

/// Makes a stream with options of which some are not settings, and opens it.
pub(crate) async fn create(
    url: &str,
    options: CreateOptions,
    ctx: &Context,
) -> Result<SharedStream> {
    let parsed = StreamUrl::parse(url)?;
    let dir = parsed.directory().expect("a local stream");
    if local::create(dir, &options, ctx).await? {
        return open(url, ctx).await;
    }
    Err(Error::refused(format!("stream `{url}` exists already")))
}

/// Deletes the stream of a URL.
pub(crate) async fn delete(url: &str, ctx: &Context) -> Result<()> {
    Streams::default().delete(url, ctx).await
}

/// A stream of small segments.
pub(super) fn options(shards: u32) -> CreateOptions {
    CreateOptions {
        segment_bytes: 4096,
        ..CreateOptions::with_shards(shards)
    }
}

/// The key of record `n`.
pub(super) fn key(n: u64) -> String {
    format!("device-{}", n % 16)
}

/// The payload of record `n`.
pub(super) fn payload(n: u64) -> String {
    format!("{{\"n\":{n},\"text\":\"some telemetry of a device\"}}")
}

/// The records `numbers` as one batch.
pub(super) fn batch(numbers: &[u64]) -> Arc<Batch> {
    let mut bytes = Vec::new();
    let mut put = |text: String| {
        let span = Span::new(bytes.len() as u32, text.len() as u32);
        bytes.extend_from_slice(text.as_bytes());
        span
    };
    let records = numbers
        .iter()
        .map(|n| Entry {
            segment: 0,
            key: Some(put(key(*n))),
            payload: put(payload(*n)),
            stamp: *n as i64,
        })
        .collect();
    Arc::new(Batch {
        segments: vec![Bytes::from(bytes)].into(),
        records,
        ..Batch::default()
    })
}

/// An append without an origin.
pub(super) fn plain(numbers: &[u64]) -> Append {
    Append {
        batch: batch(numbers),
        record_indexes: (0..numbers.len() as u32).collect(),
        routes: numbers.iter().map(|n| route(*n)).collect(),
        explicit: false,
        ..Append::default()
    }
}

/// The route of record `n`.
pub(super) fn route(n: u64) -> u128 {
    hash::route_of_key(key(n).as_bytes())
}

/// An append of `numbers`, which come from these offsets of an upstream shard, that completes `(from, to]`.
pub(super) fn tracked(
    writer: &str,
    low: Position,
    from: Position,
    to: Position,
    numbers: &[u64],
) -> Append {
    let origin = |n: &u64| Origin {
        sequence: Sequence::from(*n),
        sub: 0,
        index: 0,
    };
    Append {
        entry: Some(OriginEntry {
            writer: WriterId::of_name(writer),
            shard: "upstream".into(),
            low,
            from,
            to,
            origins: numbers.iter().map(origin).collect(),
            start: Position::Begin,
            account: None,
        }),
        claims: vec![ClaimedRange {
            range: HashRange::ALL,
            from,
        }],
        ..plain(numbers)
    }
}

/// The records after `from` up to `to`, as the appends of one writer make them.
pub(super) fn interval(writer: &str, low: u64, from: u64, to: u64) -> Append {
    let numbers: Vec<u64> = (from + 1..=to).collect();
    let p = |n: u64| {
        if n == 0 {
            Position::Begin
        } else {
            Position::offset(n)
        }
    };
    tracked(writer, p(low), p(from), p(to), &numbers)
}

/// Appends and waits.
pub(super) async fn append(
    writer: &Arc<dyn StreamWriter>,
    shard: &ShardId,
    append: Append,
) -> Result<Appended> {
    writer.submit(shard, append).await?.await
}

/// The record numbers of a batch, with their positions.
pub(super) fn numbers(batch: &Batch) -> Vec<(u64, u64)> {
    batch
        .positions()
        .zip(&batch.records)
        .map(|((sequence, _, _), entry)| {
            let n = entry.stamp as u64;
            assert_eq!(batch.payload(entry), payload(n).as_bytes());
            assert_eq!(batch.key(entry), Some(key(n).as_bytes()));
            (sequence.offset().unwrap(), n)
        })
        .collect()
}

/// A reader after a position.
pub(super) async fn reader(
    stream: &SharedStream,
    shard: &ShardId,
    after: Position,
) -> Box<dyn ShardReader> {
    opened_after(stream, shard, after).await.unwrap()
}

/// A reader after a position, unless it cannot be opened there.
pub(super) async fn opened_after(
    stream: &SharedStream,
    shard: &ShardId,
    after: Position,
) -> hydrant_core::Result<Box<dyn ShardReader>> {
    let budget = Budget::new(8 << 20);
    stream.reader(shard, OpenAt::after(after), &budget).await
}

/// Everything up to the tip or the end.
pub(super) async fn read_all(reader: &mut Box<dyn ShardReader>) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    loop {
        match reader.next().await.unwrap() {
            Read::Batch(batch) => all.extend(numbers(&batch)),
            Read::Idle { .. } | Read::End { .. } => return all,
            gap @ Read::Gap { .. } => panic!("{gap:?}"),
        }
    }
}

/// What comes next, past the tip: the system may signal an append after its acknowledgement.
pub(super) async fn next_batch(reader: &mut Box<dyn ShardReader>) -> Batch {
    loop {
        match reader.next().await.unwrap() {
            Read::Batch(batch) => return batch,
            Read::Idle { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The record numbers of a shard from the beginning.
pub(super) async fn stored(stream: &SharedStream, shard: &ShardId) -> Vec<u64> {
    let mut reader = reader(stream, shard, Position::Begin).await;
    let all = read_all(&mut reader).await;
    all.into_iter().map(|(_, n)| n).collect()
}

/// The first shard.
pub(super) fn first() -> ShardId {
    "000000".into()
}

/// A runtime like that of tests in paused time, for those that run inside something else.
pub(super) fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}
