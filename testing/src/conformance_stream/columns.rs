//! What only some records have: headers, and no payload.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Harness;
use super::scenario::*;
use hydrant_core::batch::{Batch, Span};
use hydrant_core::headers::put_header;
use hydrant_core::position::Position;
use hydrant_core::stream::{Append, Read};

/// Key, payload (`None` of a tombstone), headers as a block.
type Form = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

/// Reading from any position finds the headers of each record in their order, and a tombstone as one, beside records that have
/// neither, and beside one whose payload is empty. Left out where the writer says that there is no room for them.
pub(super) async fn headers_and_tombstones_come_back(harness: &dyn Harness) {
    let stream = harness.create(1).await;
    let (shard, writer) = (only_shard(&stream).await, writer(&stream).await);
    if !writer.keeps_headers() {
        return;
    }
    let mut wanted = Vec::new();
    for (n, record_indexes) in [
        &[0, 1, 2, 3, 4, 5, 6, 7][..],
        // None of them has headers, or none is a tombstone.
        &[0, 1, 4],
        &[2, 3, 6],
        &[0, 4],
        &[7],
        &[4, 5, 6],
    ]
    .into_iter()
    .enumerate()
    {
        let append = with_columns(append(&messages(&format!("m{n}"), 8)), record_indexes);
        wanted.extend(
            record_indexes
                .iter()
                .map(|pick| form(&append.batch, *pick as usize)),
        );
        send(&*writer, &shard, append).await;
    }
    let all = forms_after(&stream, &shard, Position::Begin, wanted.len()).await;
    let found: Vec<_> = all.iter().map(|(_, form)| form.clone()).collect();
    assert_eq!(found, wanted);
    for (n, (after, _)) in all.iter().enumerate() {
        let rest = forms_after(&stream, &shard, *after, wanted.len() - n - 1).await;
        assert_eq!(rest[..], all[n + 1..], "after {after}");
    }
}

/// Of eight records 1, 3, 5 and 7 are a tombstone, empty, a tombstone with headers, and empty with headers; 2 and 6 have
/// headers too.
fn with_columns(append: Append, record_indexes: &[u32]) -> Append {
    let old = &append.batch;
    let mut bytes = BytesMut::from(&old.segments[0][..]);
    let (mut records, mut headers) = (old.records.clone(), Vec::new());
    for (n, record) in records.iter_mut().enumerate() {
        if n % 2 == 1 {
            record.payload = Span::new(record.payload.start, 0);
        }
        let mut block = Vec::new();
        if [2, 5, 6, 7].contains(&n) {
            put_header(&mut block, "trace", Some(format!("id-{n}").as_bytes()));
            put_header(&mut block, "trace", None);
            put_header(&mut block, "", Some(b"\xff"));
        }
        headers.push(Span::new(bytes.len() as u32, block.len() as u32));
        bytes.extend_from_slice(&block);
    }
    let batch = Batch {
        segments: Arc::from([Bytes::from(bytes)]),
        records,
        headers,
        tombstones: vec![1, 5],
        runs: old.runs.clone(),
        ..Batch::default()
    };
    assert!(batch.is_aligned());
    let routes: Vec<u128> = record_indexes
        .iter()
        .map(|n| append.routes[*n as usize])
        .collect();
    Append {
        batch: Arc::new(batch),
        record_indexes: record_indexes.into(),
        routes: routes.into(),
        ..append
    }
}

fn form(batch: &Batch, index: usize) -> Form {
    let entry = &batch.records[index];
    let payload = batch.payload(entry).to_vec();
    (
        batch.key(entry).map(<[u8]>::to_vec),
        (!batch.is_tombstone(index)).then_some(payload),
        batch.headers(index).to_vec(),
    )
}

async fn forms_after(
    stream: &hydrant_core::stream::SharedStream,
    shard: &hydrant_core::shard::ShardId,
    after: Position,
    count: usize,
) -> Vec<(Position, Form)> {
    let mut reader = reader(stream, shard, after).await;
    let mut all = Vec::new();
    while all.len() < count {
        if let Read::Batch(batch) = next(&mut *reader).await {
            assert!(batch.is_aligned(), "{batch:?}");
            let positions = batch.positions().enumerate();
            all.extend(
                positions
                    .map(|(n, (sequence, sub, _))| (Position::at(sequence, sub), form(&batch, n))),
            );
        }
    }
    assert_eq!(all.len(), count);
    all
}
