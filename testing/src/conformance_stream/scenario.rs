//! Sending and reading in the words of the checks.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::PATIENCE;
use crate::must;
use hydrant_core::batch::{Batch, Entry, RunBuilder, Span, Step};
use hydrant_core::budget::Budget;
use hydrant_core::error::Result;
use hydrant_core::hash;
use hydrant_core::origin::{DeadLetter, Origin, OriginEntry, WriterId};
use hydrant_core::position::{Position, Sequence};
use hydrant_core::shard::{HashRange, ShardId};
use hydrant_core::stream::{
    Append, Appended, ClaimedRange, OpenAt, Read, ShardReader, SharedStream, StreamWriter, Ticket,
    Unit, UnitKind,
};

/// More than any check needs.
pub(super) const AMPLE_BYTES: u64 = 64 << 20;

/// A record to send, or one that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) key: Option<String>,
    pub(super) payload: String,
    pub(super) stamp: i64,
}

/// A record that was read, with what the stream added.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) message: Message,
    pub(super) position: Position,
    pub(super) arrival: i64,
}

/// `count` records with keys, told apart by `name`.
pub(super) fn messages(name: &str, count: usize) -> Vec<Message> {
    let message = |n| Message {
        key: Some(format!("{name}-{}", n % 5)),
        payload: format!("{{\"from\":\"{name}\",\"n\":{n}}}"),
        stamp: 1_700_000_000_000_000 + n as i64,
    };
    (0..count).map(message).collect()
}

pub(super) fn route(message: &Message) -> u128 {
    message
        .key
        .as_ref()
        .map_or(0, |key| hash::route_of_key(key.as_bytes()))
}

pub(super) fn writer_id() -> WriterId {
    WriterId::of_name("conformance")
}

/// An append of these messages without origins.
pub(super) fn append(messages: &[Message]) -> Append {
    let (mut bytes, mut records, mut runs) = (BytesMut::new(), Vec::new(), RunBuilder::default());
    for (n, message) in messages.iter().enumerate() {
        let mut put = |text: &str| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(text.as_bytes());
            Span::new(start, text.len() as u32)
        };
        records.push(Entry {
            segment: 0,
            key: message.key.as_deref().map(&mut put),
            payload: put(&message.payload),
            stamp: message.stamp,
        });
        runs.push(Sequence::from(n as u64), 0, Step::Sequence, 0);
    }
    let batch = Batch {
        segments: Arc::from([Bytes::from(bytes)]),
        records,
        runs: runs.finish(),
        ..Batch::default()
    };
    Append {
        batch: Arc::new(batch),
        record_indexes: (0..messages.len() as u32).collect(),
        routes: messages.iter().map(route).collect(),
        explicit: messages.iter().any(|message| message.key.is_none()),
        ..Append::default()
    }
}

/// The same append with origins: message `n` comes from upstream offset `first + n`, and the append covers
/// `(first - 1, first + len - 1]`, or as far as `to` when that is given.
pub(super) fn from_origin(
    messages: &[Message],
    first: u64,
    low: Option<u64>,
    to: Option<u64>,
) -> Append {
    let origin = |offset| Origin {
        sequence: Sequence::from(offset),
        sub: 0,
        index: 0,
    };
    let before = |offset: u64| {
        offset
            .checked_sub(1)
            .map_or(Position::Begin, Position::offset)
    };
    let last = to.unwrap_or_else(|| first + messages.len() as u64 - 1);
    Append {
        entry: Some(OriginEntry {
            writer: writer_id(),
            shard: "upstream".into(),
            low: low.map_or(Position::Begin, Position::offset),
            from: before(first),
            to: Position::offset(last),
            origins: (first..).take(messages.len()).map(origin).collect(),
            start: Position::Begin,
            account: None,
        }),
        claims: vec![ClaimedRange {
            range: HashRange::ALL,
            from: before(first),
        }],
        ..append(messages)
    }
}

/// The same append, with all records routed into `range`.
pub(super) fn routed_into(range: HashRange, append: Append) -> Append {
    Append {
        routes: vec![range.first; append.record_indexes.len()].into(),
        explicit: true,
        ..append
    }
}

/// A dead letter from an upstream offset.
pub(super) fn letter(offset: u64, route: u128) -> Unit {
    let sequence = Sequence::from(offset);
    Unit {
        origin: Origin {
            sequence,
            sub: 0,
            index: 0,
        },
        route,
        what: UnitKind::DeadLetter(DeadLetter {
            stream: "raw@1".into(),
            shard: "upstream".into(),
            sequence,
            sub: 0,
            key: None,
            stage: "transform".into(),
            reason: "malformed_json".into(),
            detail: "at byte 3".to_owned(),
            length: 10,
            time: 5,
        }),
    }
}

pub(super) async fn only_shard(stream: &SharedStream) -> ShardId {
    let map = must(stream.shards().await, "read the shard map");
    let open: Vec<_> = map.open().collect();
    assert_eq!(open.len(), 1, "one shard was asked for");
    open[0].id.clone()
}

pub(super) async fn submit(
    writer: &dyn StreamWriter,
    shard: &ShardId,
    append: Append,
) -> Result<Ticket> {
    let submitted = tokio::time::timeout(PATIENCE, writer.submit(shard, append)).await;
    submitted.expect("an append was never taken")
}

pub(super) async fn try_send(
    writer: &dyn StreamWriter,
    shard: &ShardId,
    append: Append,
) -> Result<Appended> {
    let ticket = submit(writer, shard, append).await?;
    let acknowledged = tokio::time::timeout(PATIENCE, ticket).await;
    acknowledged.expect("an append was never acknowledged")
}

pub(super) async fn send(writer: &dyn StreamWriter, shard: &ShardId, append: Append) -> Appended {
    must(try_send(writer, shard, append).await, "append")
}

/// Where the origin of [`from_origin`] began in a shard, as far as its writer says.
pub(super) async fn began(writer: &dyn StreamWriter, shard: &ShardId) -> Vec<Position> {
    let begun = writer.begun(shard).await.expect("beginnings are answered");
    let mut starts = Vec::new();
    for one in begun {
        assert_eq!(
            (one.writer, one.upstream.as_str()),
            (writer_id(), "upstream")
        );
        starts.push(one.start);
    }
    starts.dedup();
    starts
}

pub(super) async fn writer(stream: &SharedStream) -> Arc<dyn StreamWriter> {
    must(stream.writer().await, "make a writer")
}

pub(super) async fn reader_with(
    stream: &SharedStream,
    shard: &ShardId,
    after: Position,
    budget: &Budget,
) -> Box<dyn ShardReader> {
    open(stream, shard, OpenAt::after(after), budget).await
}

pub(super) async fn open(
    stream: &SharedStream,
    shard: &ShardId,
    at: OpenAt,
    budget: &Budget,
) -> Box<dyn ShardReader> {
    must(stream.reader(shard, at, budget).await, "open a reader")
}

pub(super) async fn reader(
    stream: &SharedStream,
    shard: &ShardId,
    after: Position,
) -> Box<dyn ShardReader> {
    reader_with(stream, shard, after, &Budget::new(AMPLE_BYTES)).await
}

pub(super) async fn next(reader: &mut dyn ShardReader) -> Read {
    let read = tokio::time::timeout(PATIENCE, reader.next()).await;
    must(read.expect("a reader never answered"), "read")
}

/// The records of a batch.
pub(super) fn found(batch: &Batch) -> Vec<Found> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let records = batch.records.iter().zip(batch.positions());
    let found: Vec<Found> = records
        .map(|(entry, (sequence, sub, arrival))| Found {
            message: Message {
                key: batch.key(entry).map(text),
                payload: text(batch.payload(entry)),
                stamp: entry.stamp,
            },
            position: Position::at(sequence, sub),
            arrival,
        })
        .collect();
    assert_eq!(found.len(), batch.len(), "runs do not cover all records");
    for pair in found.windows(2) {
        assert!(pair[0].position < pair[1].position, "{pair:?}");
    }
    if let Some(last) = found.last() {
        assert!(
            last.position <= batch.to,
            "{:?} is after the batch's end {}",
            last,
            batch.to
        );
    }
    found
}

/// Reads `count` records, or up to the tip when `None`; answers also what ended the reading.
pub(super) async fn read(
    reader: &mut dyn ShardReader,
    count: Option<usize>,
) -> (Vec<Found>, Option<Read>) {
    let mut all: Vec<Found> = Vec::new();
    while count.is_none_or(|count| all.len() < count) {
        match next(reader).await {
            Read::Batch(batch) => all.extend(found(&batch)),
            Read::Idle { .. } if count.is_some() => {}
            other => return (all, Some(other)),
        }
    }
    (all, None)
}

/// All records of a shard after a position, up to its tip or end.
pub(super) async fn read_all(
    stream: &SharedStream,
    shard: &ShardId,
    after: Position,
) -> Vec<Found> {
    let mut reader = reader(stream, shard, after).await;
    read(&mut *reader, None).await.0
}

pub(super) fn sent(found: &[Found]) -> Vec<Message> {
    found.iter().map(|one| one.message.clone()).collect()
}
