//! The body of a frame: an index in columns, then hashes, keys, payloads and headers, compressed as one block.
//!
//! ```text
//! for each record   key length + 1, or 0 for no key   payload length   stamp minus the previous stamp (zigzag)
//! for each record   route hash, 16 bytes, little end first            only in a frame with explicit hashes
//! for each record   length of the headers                             only in a frame with headers
//! for each record   key bytes
//! for each record   payload bytes
//! for each record   headers, a block of `hydrant_core::headers`
//! ```
//!
//! In a frame with tombstones the payload's length is written plus 1, and 0 stands for a tombstone. Numbers are LEB128.
//! Decoding decompresses once into one segment; records point into it.

use bytes::Bytes;
use hydrant_core::Batch;
use hydrant_core::batch::{Entry, Span};
use hydrant_core::headers;
use hydrant_core::varint::{self, Reader};

use super::frame::{BodyColumns, Codec, FrameFault, RAW_BYTES_MAX};

const ZSTD_LEVEL: i32 = 1;
/// What a record without key, payload and stamp takes at most of the index.
const INDEX_BYTES: usize = 20;
/// What the length of a record's headers takes at most.
const LENGTH_BYTES: usize = 5;
/// What the index and the origin of a record take, unless its stamp is far from that of the record before.
pub(crate) const INDEX_BYTES_USUAL: u64 = 10;

impl BodyColumns {
    /// What the picked records need.
    pub(crate) fn of(batch: &Batch, record_indexes: &[u32], explicit: bool) -> Self {
        let mut all = record_indexes.iter().map(|pick| *pick as usize);
        BodyColumns {
            explicit,
            headers: !batch.headers.is_empty()
                && all.clone().any(|pick| !batch.headers(pick).is_empty()),
            tombstones: !batch.tombstones.is_empty() && all.any(|pick| batch.is_tombstone(pick)),
        }
    }

    /// What a record takes in a batch for them.
    pub(crate) fn entry_bytes(self) -> u64 {
        let headers = if self.headers { size_of::<Span>() } else { 0 };
        let tombstones = if self.tombstones { size_of::<u32>() } else { 0 };
        (headers + tombstones) as u64
    }
}

/// Lays out the picked records with these columns, of which `routes` is one; `None` when they exceed the largest body. The
/// picks are indices into the batch.
pub(crate) fn lay_out(
    batch: &Batch,
    record_indexes: &[u32],
    routes: &[u128],
    columns: BodyColumns,
) -> Option<Vec<u8>> {
    let (mut keys, mut payloads) = (0usize, 0usize);
    for pick in record_indexes {
        let entry = &batch.records[*pick as usize];
        keys += entry.key.map_or(0, |key| key.len as usize);
        payloads += entry.payload.len as usize;
    }
    let routes = if columns.explicit { routes } else { &[] };
    let hashes = routes.len() * 16;
    let (mut blocks, mut index_bytes) = (0, INDEX_BYTES);
    if columns.headers {
        let all = record_indexes
            .iter()
            .map(|pick| batch.headers(*pick as usize).len());
        blocks = all.sum();
        index_bytes += LENGTH_BYTES;
    }
    let data = keys + payloads + hashes + blocks;
    if data > RAW_BYTES_MAX {
        return None;
    }
    let most = data + record_indexes.len() * index_bytes;
    let mut out = Vec::with_capacity(most);
    let mut previous = 0i64;
    for pick in record_indexes {
        let entry = &batch.records[*pick as usize];
        let key = entry.key.map_or(0, |key| u64::from(key.len) + 1);
        varint::put_u64(&mut out, key);
        let payload = u64::from(entry.payload.len);
        let payload = match columns.tombstones {
            false => payload,
            true if batch.is_tombstone(*pick as usize) => 0,
            true => payload + 1,
        };
        varint::put_u64(&mut out, payload);
        varint::put_i64(&mut out, entry.stamp.wrapping_sub(previous));
        previous = entry.stamp;
    }
    for route in routes {
        out.extend_from_slice(&route.to_le_bytes());
    }
    if columns.headers {
        for pick in record_indexes {
            varint::put_u64(&mut out, batch.headers(*pick as usize).len() as u64);
        }
    }
    if keys > 0 {
        for pick in record_indexes {
            if let Some(key) = batch.key(&batch.records[*pick as usize]) {
                out.extend_from_slice(key);
            }
        }
    }
    for pick in record_indexes {
        out.extend_from_slice(batch.payload(&batch.records[*pick as usize]));
    }
    if columns.headers {
        for pick in record_indexes {
            out.extend_from_slice(batch.headers(*pick as usize));
        }
    }
    (out.len() <= RAW_BYTES_MAX).then_some(out)
}

/// Compresses a body; one that does not shrink is stored as it is.
pub(crate) fn compress(raw: Vec<u8>, codec: Codec) -> (Codec, Bytes) {
    let compressed = match codec {
        Codec::None => None,
        Codec::Lz4 => Some(lz4_flex::block::compress(&raw)),
        Codec::Zstd => zstd::bulk::compress(&raw, ZSTD_LEVEL).ok(),
    };
    match compressed {
        Some(compressed) if compressed.len() < raw.len() => (codec, compressed.into()),
        _ => (Codec::None, raw.into()),
    }
}

/// The inverse of [`compress`]; `raw_len` was checked against its limit.
pub(crate) fn decompress(body: &Bytes, codec: Codec, raw_len: usize) -> Result<Bytes, FrameFault> {
    let raw = match codec {
        Codec::None => Some(body.clone()),
        Codec::Lz4 => {
            let raw = lz4_flex::block::decompress(body, raw_len);
            raw.ok().map(Bytes::from)
        }
        Codec::Zstd => {
            let raw = zstd::bulk::decompress(body, raw_len);
            raw.ok().map(Bytes::from)
        }
    };
    raw.filter(|raw| raw.len() == raw_len).ok_or(FrameFault(
        "a frame's body does not decompress to its length",
    ))
}

/// Adds the records of a decompressed body to those of a batch, whose columns are the same, leaving out the first `skip`.
/// After an error the batch is as before.
pub(crate) fn read_index(
    raw: &[u8],
    count: u32,
    columns: BodyColumns,
    skip: u32,
    segment: u32,
    batch: &mut Batch,
) -> Result<(), FrameFault> {
    let before = batch.len();
    let read = read_columns(raw, count, columns, skip, segment, batch);
    if read.is_err() {
        batch.truncate(before);
    }
    read
}

fn read_columns(
    raw: &[u8],
    count: u32,
    columns: BodyColumns,
    skip: u32,
    segment: u32,
    batch: &mut Batch,
) -> Result<(), FrameFault> {
    const BROKEN: FrameFault = FrameFault("the index of a frame does not fit its body");
    let mut index = Reader::new(raw);
    let records = &mut batch.records;
    let first = records.len();
    let (mut keys, mut payloads, mut stamp) = (0u32, 0u32, 0i64);
    records.reserve(count as usize);
    // Offsets count from the first key and the first payload until those places are known.
    for nth in 0..count {
        let key = index.u32().map_err(|_| BROKEN)?;
        let mut payload = index.u32().map_err(|_| BROKEN)?;
        if columns.tombstones {
            match payload.checked_sub(1) {
                Some(len) => payload = len,
                None if nth >= skip => batch.tombstones.push(first as u32 + nth - skip),
                None => {}
            }
        }
        stamp = stamp.wrapping_add(index.i64().map_err(|_| BROKEN)?);
        let key = key.checked_sub(1).map(|len| Span::new(keys, len));
        records.push(Entry {
            segment,
            key,
            payload: Span::new(payloads, payload),
            stamp,
        });
        keys = keys
            .checked_add(key.map_or(0, |key| key.len))
            .ok_or(BROKEN)?;
        payloads = payloads.checked_add(payload).ok_or(BROKEN)?;
    }
    if columns.explicit {
        let bytes = index.take(count as usize * 16).map_err(|_| BROKEN)?;
        let all = bytes.as_chunks::<16>().0.iter();
        batch.hashes.extend(
            all.skip(skip as usize)
                .map(|hash| u128::from_le_bytes(*hash)),
        );
    }
    let mut blocks = 0u32;
    if columns.headers {
        for nth in 0..count {
            let len = index.u32().map_err(|_| BROKEN)?;
            if nth >= skip {
                batch.headers.push(Span::new(blocks, len));
            }
            blocks = blocks.checked_add(len).ok_or(BROKEN)?;
        }
    }
    let rest = index.rest().len();
    if keys as usize + payloads as usize + blocks as usize != rest {
        return Err(BROKEN);
    }
    let keys_at = (raw.len() - rest) as u32;
    let payloads_at = keys_at + keys;
    let headers_at = payloads_at + payloads;
    for entry in &mut records[first..] {
        if let Some(key) = &mut entry.key {
            key.start += keys_at;
        }
        entry.payload.start += payloads_at;
    }
    if skip > 0 {
        records.drain(first..first + (skip as usize).min(count as usize));
    }
    if columns.headers {
        for span in &mut batch.headers[first..] {
            span.start += headers_at;
            let block = &raw[span.start as usize..(span.start + span.len) as usize];
            if !headers::is_block(block) {
                return Err(FrameFault("the headers of a record are malformed"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hydrant_core::headers::put_header;
    use proptest::prelude::*;

    use super::*;

    /// Key, payload (`None` is a tombstone), stamp, names of headers.
    type Record = (Option<Vec<u8>>, Option<Vec<u8>>, i64, Vec<String>);

    fn batch(records: &[Record]) -> Batch {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            let span = Span::new(bytes.len() as u32, part.len() as u32);
            bytes.extend_from_slice(part);
            span
        };
        let mut batch = Batch::default();
        for (n, (key, payload, stamp, names)) in (0..).zip(records) {
            if payload.is_none() {
                batch.tombstones.push(n);
            }
            batch.records.push(Entry {
                segment: 0,
                key: key.as_deref().map(&mut put),
                payload: put(payload.as_deref().unwrap_or_default()),
                stamp: *stamp,
            });
            batch.headers.push(put(&block(names)));
        }
        batch.segments = vec![Bytes::from(bytes)].into();
        batch
    }

    fn block(names: &[String]) -> Vec<u8> {
        let mut block = Vec::new();
        for name in names {
            put_header(&mut block, name, (!name.is_empty()).then_some(b"v"));
        }
        block
    }

    /// The records of a batch, with the bytes of their headers in place of the names.
    fn records(batch: &Batch) -> Vec<(Record, Vec<u8>)> {
        let entries = batch.records.iter().enumerate();
        entries
            .map(|(n, entry)| {
                let payload = batch.payload(entry).to_vec();
                let key = batch.key(entry).map(<[u8]>::to_vec);
                let payload = (!batch.is_tombstone(n)).then_some(payload);
                let record = (key, payload, entry.stamp, Vec::new());
                (record, batch.headers(n).to_vec())
            })
            .collect()
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let names = prop::collection::vec("[a-c]{0,2}", 0..3);
        (
            any::<Option<Vec<u8>>>(),
            any::<Option<Vec<u8>>>(),
            any::<i64>(),
            names,
        )
    }

    proptest! {
        #[test]
        fn a_body_gives_its_records_back(
            all in prop::collection::vec(any_record(), 0..20),
            explicit in any::<bool>(),
            codec in prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(Codec::Zstd)],
            skip in 0usize..20,
        ) {
            let source = batch(&all);
            let record_indexes: Vec<u32> = (0..all.len() as u32).collect();
            let routes: Vec<u128> = record_indexes.iter().map(|n| u128::from(*n) << 99).collect();
            let columns = BodyColumns::of(&source, &record_indexes, explicit);
            let raw = lay_out(&source, &record_indexes, &routes, columns).unwrap();
            let raw_len = raw.len();
            let (used, body) = compress(raw, codec);
            let segment = decompress(&body, used, raw_len).unwrap();
            let skip = skip.min(all.len());
            let mut read = Batch::default();
            read_index(&segment, record_indexes.len() as u32, columns, skip as u32, 0, &mut read).unwrap();
            read.segments = vec![segment].into();
            prop_assert!(read.is_aligned());
            prop_assert_eq!(&records(&read)[..], &records(&source)[skip..]);
            let wanted = if explicit { &routes[skip..] } else { &[] };
            prop_assert_eq!(&read.hashes[..], wanted);
        }

        /// What needs no other columns is written as builds without them wrote it.
        #[test]
        fn a_body_without_headers_and_tombstones_is_as_before(
            all in prop::collection::vec(any::<(Option<Vec<u8>>, Vec<u8>, i64)>(), 0..9),
        ) {
            let (mut wanted, mut before) = (Vec::new(), 0i64);
            for (key, payload, stamp) in &all {
                varint::put_u64(&mut wanted, key.as_ref().map_or(0, |key| key.len() as u64 + 1));
                varint::put_u64(&mut wanted, payload.len() as u64);
                varint::put_i64(&mut wanted, stamp.wrapping_sub(before));
                before = *stamp;
            }
            let keys = all.iter().flat_map(|(key, ..)| key.iter().flatten());
            wanted.extend(keys);
            wanted.extend(all.iter().flat_map(|(_, payload, _)| payload));
            let all: Vec<Record> =
                all.into_iter().map(|(key, payload, stamp)| (key, Some(payload), stamp, Vec::new())).collect();
            let source = batch(&all);
            let record_indexes: Vec<u32> = (0..all.len() as u32).collect();
            let columns = BodyColumns::of(&source, &record_indexes, false);
            prop_assert_eq!(columns, BodyColumns::default());
            prop_assert_eq!(lay_out(&source, &record_indexes, &[], columns), Some(wanted));
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused(
            bytes in any::<Vec<u8>>(), count in 0u32..50, columns in any::<[bool; 3]>(), skip in 0u32..60, raw_len in 0usize..4096,
        ) {
            let [explicit, headers, tombstones] = columns;
            let columns = BodyColumns { explicit, headers, tombstones };
            let mut batch = Batch::default();
            let read = read_index(&bytes, count, columns, skip.min(count), 0, &mut batch);
            prop_assert!(batch.is_aligned());
            prop_assert!(read.is_ok() || batch.is_empty());
            let body = Bytes::from(bytes);
            batch.segments = vec![body.clone()].into();
            // Whatever was read lies within the bytes.
            drop(records(&batch));
            for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
                drop(decompress(&body, codec, raw_len));
            }
        }
    }
}
