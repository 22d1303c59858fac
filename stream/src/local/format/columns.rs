//! The body of a frame: an index in columns, then hashes, keys and payloads, compressed as one block.
//!
//! ```text
//! for each record   key length + 1, or 0 for no key   payload length   stamp minus the previous stamp (zigzag)
//! for each record   route hash, 16 bytes, little end first            only in a frame with explicit hashes
//! for each record   key bytes
//! for each record   payload bytes
//! ```
//!
//! Numbers are LEB128. Decoding decompresses once into one segment; records point into it.

use bytes::Bytes;
use hydrant_core::Batch;
use hydrant_core::batch::{Entry, Span};
use hydrant_core::varint::{self, Reader};

use super::frame::{Codec, FrameFault, RAW_BYTES_MAX};

const ZSTD_LEVEL: i32 = 1;
/// What a record without key, payload and stamp takes at most of the index.
const INDEX_BYTES: usize = 20;
/// What the index and the origin of a record take, unless its stamp is far from that of the record before.
pub(crate) const INDEX_BYTES_USUAL: u64 = 10;

/// Lays out the picked records; `None` when they exceed the largest body. The picks are indices into the batch.
pub(crate) fn lay_out(batch: &Batch, picks: &[u32], routes: Option<&[u128]>) -> Option<Vec<u8>> {
    let (mut keys, mut payloads) = (0usize, 0usize);
    for pick in picks {
        let entry = &batch.records[*pick as usize];
        keys += entry.key.map_or(0, |key| key.len as usize);
        payloads += entry.payload.len as usize;
    }
    let hashes = routes.map_or(0, |routes| routes.len() * 16);
    let most = keys + payloads + hashes + picks.len() * INDEX_BYTES;
    if keys + payloads + hashes > RAW_BYTES_MAX {
        return None;
    }
    let mut out = Vec::with_capacity(most);
    let mut previous = 0i64;
    for pick in picks {
        let entry = &batch.records[*pick as usize];
        let key = entry.key.map_or(0, |key| u64::from(key.len) + 1);
        varint::put_u64(&mut out, key);
        varint::put_u64(&mut out, u64::from(entry.payload.len));
        varint::put_i64(&mut out, entry.stamp.wrapping_sub(previous));
        previous = entry.stamp;
    }
    for route in routes.into_iter().flatten() {
        out.extend_from_slice(&route.to_le_bytes());
    }
    if keys > 0 {
        for pick in picks {
            if let Some(key) = batch.key(&batch.records[*pick as usize]) {
                out.extend_from_slice(key);
            }
        }
    }
    for pick in picks {
        out.extend_from_slice(batch.payload(&batch.records[*pick as usize]));
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
    const BROKEN: FrameFault = FrameFault("a frame's body does not decompress to its length");
    let raw = match codec {
        Codec::None => body.clone(),
        Codec::Lz4 => lz4_flex::block::decompress(body, raw_len)
            .map_err(|_| BROKEN)?
            .into(),
        Codec::Zstd => zstd::bulk::decompress(body, raw_len)
            .map_err(|_| BROKEN)?
            .into(),
    };
    (raw.len() == raw_len).then_some(raw).ok_or(BROKEN)
}

/// Reads the index of a decompressed body, leaving out its first `skip` records.
pub(crate) fn read_index(
    raw: &[u8],
    count: u32,
    explicit: bool,
    skip: u32,
    segment: u32,
    records: &mut Vec<Entry>,
    hashes: &mut Vec<u128>,
) -> Result<(), FrameFault> {
    const BROKEN: FrameFault = FrameFault("the index of a frame does not fit its body");
    let mut index = Reader::new(raw);
    let first = records.len();
    let (mut keys, mut payloads, mut stamp) = (0u32, 0u32, 0i64);
    records.reserve(count as usize);
    // Offsets count from the first key and the first payload until those places are known.
    for _ in 0..count {
        let key = index.u32().map_err(|_| BROKEN)?;
        let payload = index.u32().map_err(|_| BROKEN)?;
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
    if explicit {
        let bytes = index.take(count as usize * 16).map_err(|_| BROKEN)?;
        let all = bytes.as_chunks::<16>().0.iter();
        hashes.extend(
            all.skip(skip as usize)
                .map(|hash| u128::from_le_bytes(*hash)),
        );
    }
    let rest = index.rest().len();
    if keys as usize + payloads as usize != rest {
        return Err(BROKEN);
    }
    let keys_at = (raw.len() - rest) as u32;
    let payloads_at = keys_at + keys;
    for entry in &mut records[first..] {
        if let Some(key) = &mut entry.key {
            key.start += keys_at;
        }
        entry.payload.start += payloads_at;
    }
    if skip > 0 {
        records.drain(first..first + (skip as usize).min(count as usize));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Record = (Option<Vec<u8>>, Vec<u8>, i64);

    fn batch(records: &[Record]) -> Batch {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            let span = Span::new(bytes.len() as u32, part.len() as u32);
            bytes.extend_from_slice(part);
            span
        };
        let records = records
            .iter()
            .map(|(key, payload, stamp)| Entry {
                segment: 0,
                key: key.as_deref().map(&mut put),
                payload: put(payload),
                stamp: *stamp,
            })
            .collect();
        Batch {
            segments: vec![Bytes::from(bytes)].into(),
            records,
            ..Batch::default()
        }
    }

    proptest! {
        #[test]
        fn a_body_gives_its_records_back(
            records in prop::collection::vec(any::<Record>(), 0..20),
            routes in prop::option::of(Just(())),
            codec in prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(Codec::Zstd)],
            skip in 0usize..20,
        ) {
            let source = batch(&records);
            let picks: Vec<u32> = (0..records.len() as u32).collect();
            let routes: Option<Vec<u128>> = routes.map(|()| picks.iter().map(|n| u128::from(*n) << 99).collect());
            let raw = lay_out(&source, &picks, routes.as_deref()).unwrap();
            let raw_len = raw.len();
            let (used, body) = compress(raw, codec);
            let segment = decompress(&body, used, raw_len).unwrap();
            let skip = skip.min(records.len());
            let (mut entries, mut hashes) = (Vec::new(), Vec::new());
            read_index(&segment, picks.len() as u32, routes.is_some(), skip as u32, 0, &mut entries, &mut hashes).unwrap();
            let read = Batch { segments: vec![segment].into(), records: entries, ..Batch::default() };
            let again: Vec<Record> = read
                .records
                .iter()
                .map(|e| (read.key(e).map(<[u8]>::to_vec), read.payload(e).to_vec(), e.stamp))
                .collect();
            prop_assert_eq!(&again[..], &records[skip..]);
            if let Some(routes) = routes {
                prop_assert_eq!(&hashes[..], &routes[skip..]);
            }
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused(
            bytes in any::<Vec<u8>>(), count in 0u32..50, explicit in any::<bool>(), skip in 0u32..60, raw_len in 0usize..4096,
        ) {
            let (mut entries, mut hashes) = (Vec::new(), Vec::new());
            if read_index(&bytes, count, explicit, skip, 0, &mut entries, &mut hashes).is_ok() {
                for entry in &entries {
                    prop_assert!((entry.payload.start + entry.payload.len) as usize <= bytes.len());
                }
            }
            let body = Bytes::from(bytes);
            for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
                drop(decompress(&body, codec, raw_len));
            }
        }
    }
}
