//! What a stream holds, read through core's seam.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hydrant_core::stream::{OpenAt, Read, SharedStream};
use hydrant_core::{Context, Position, ShardMap};
use hydrant_producer::simulate::{Fleet, FleetSpec};
use hydrant_stream::Streams;
use serde_json::Value;

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamRecord {
    pub(crate) key: Option<String>,
    pub(crate) payload: Vec<u8>,
    pub(crate) stamp: i64,
}

/// Runs a future on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Opens `local:NAME` in `dir`.
pub(crate) async fn open(dir: &Path, name: &str) -> SharedStream {
    let context = Context::system(64 << 20).unwrap();
    let url = format!("local:{}", dir.join(name).display());
    Streams::default().open(&url, &context).await.unwrap()
}

/// All records of the stream, parents before children, each shard in its order.
pub(crate) fn records(dir: &Path, name: &str) -> Vec<StreamRecord> {
    block_on(async {
        let stream = open(dir, name).await;
        let context = Context::system(64 << 20).unwrap();
        records_of(&stream, &context).await
    })
}

/// Like [`records`], of an open stream.
pub(crate) async fn records_of(stream: &SharedStream, context: &Context) -> Vec<StreamRecord> {
    let map = stream.shards().await.unwrap();
    let mut all = Vec::new();
    for shard in by_lineage(&map) {
        let at = OpenAt::after(Position::Begin);
        let mut reader = stream.reader(&shard, at, &context.budget).await.unwrap();
        loop {
            match reader.next().await.unwrap() {
                Read::Batch(batch) => all.extend(batch.records.iter().map(|entry| {
                    StreamRecord {
                        key: batch
                            .key(entry)
                            .map(|key| String::from_utf8_lossy(key).into_owned()),
                        payload: batch.payload(entry).to_vec(),
                        stamp: entry.stamp,
                    }
                })),
                Read::Idle { .. } | Read::End { .. } => break,
                gap @ Read::Gap { .. } => panic!("{gap:?}"),
            }
        }
    }
    all
}

fn by_lineage(map: &ShardMap) -> Vec<hydrant_core::ShardId> {
    let mut done = BTreeSet::new();
    let mut order = Vec::new();
    while order.len() < map.all().len() {
        for shard in map.all() {
            if !done.contains(&shard.id) && shard.parents.iter().all(|one| done.contains(one)) {
                done.insert(shard.id.clone());
                order.push(shard.id.clone());
            }
        }
    }
    order
}

/// Each record of the fleet below `count` is stored once, byte for byte, under its device's key, and the
/// records of a device in their order.
pub(crate) fn assert_is_fleet(stored: &[StreamRecord], spec: &FleetSpec, count: u64) {
    let fleet = Fleet::try_new(spec).unwrap();
    let mut wanted: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for index in 0..count {
        let mut bytes = Vec::new();
        let meta = fleet.record(index, &mut bytes);
        let key = String::from_utf8_lossy(&bytes[meta.key]).into_owned();
        wanted.entry(key).or_default().push(bytes);
    }
    let mut found: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for record in stored {
        let key = record.key.clone().expect("every record has a key");
        found.entry(key).or_default().push(record.payload.clone());
    }
    assert_eq!(stored.len() as u64, count);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        wanted.keys().collect::<Vec<_>>()
    );
    for (key, records) in &wanted {
        let same = found[key] == *records;
        assert!(
            same,
            "device {key}: {} records where {} belong, or in another order",
            found[key].len(),
            records.len()
        );
    }
}

/// The members of a report that count.
pub(crate) fn counts(report: &Value) -> (u64, u64, u64, u64) {
    let count = |name: &str| report[name].as_u64().unwrap();
    (
        count("accepted"),
        count("stored"),
        count("duplicates"),
        count("next_index"),
    )
}
