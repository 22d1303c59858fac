//! Everything of the log that reads bytes from a disk, fuzzed: see `docs/fuzzing.md`.
//!
//! A fuzzer never meets a checksum, so each check makes the right one for the bytes that it was given, and tries them as
//! they are too. What is accepted writes itself again, and reads itself again.

use bytes::Bytes;
use hydrant_core::HashRange;
use hydrant_core::headers::is_block;
use hydrant_core::lease::{Generations, Lease};
use hydrant_core::varint::Reader;
use hydrant_fuzz::{FuzzRandom, Target};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::format::chunk::{Frame, FrameChunk};
use super::format::control::{ControlSlot, SLOT_BYTES};
use super::format::dedup_state::DedupState;
use super::format::frame::{BodyColumns, Codec, HEADER_BYTES, Header, RAW_BYTES_MAX};
use super::format::manifest::Manifest;
use super::format::segment::{self, FIXED_BYTES, Head};
use crate::StreamUrl;

/// The bytes at the front of `input`, with their checksum in the last four.
fn summed<const N: usize>(input: &[u8]) -> Option<[u8; N]> {
    let mut bytes: [u8; N] = *input.first_chunk()?;
    let crc = crc32c::crc32c(&bytes[..N - 4]);
    bytes[N - 4..].copy_from_slice(&crc.to_le_bytes());
    Some(bytes)
}

/// The columns that these flags of a frame name.
fn columns(flags: u8) -> BodyColumns {
    BodyColumns {
        explicit: flags & 2 != 0,
        headers: flags & 4 != 0,
        tombstones: flags & 8 != 0,
    }
}

fn header(random: &mut FuzzRandom) -> Header {
    let raw_len = random.u32(0..5_000);
    let codec = [Codec::None, Codec::Lz4, Codec::Zstd][random.usize(0..3)];
    Header {
        codec,
        account: random.bool(),
        columns: columns(random.u8(..)),
        base: random.u64(..),
        records: random.u32(0..=raw_len / 3),
        arrival: random.i64(..),
        meta_len: random.u32(0..5_000),
        body_len: if codec == Codec::None {
            raw_len
        } else {
            random.u32(0..5_000)
        },
        raw_len,
        meta_crc: random.u32(..),
        body_crc: random.u32(..),
    }
}

#[test]
fn frame_headers_are_refused_or_come_back() {
    let make = |random: &mut FuzzRandom| header(random).encode(random.u64(..)).to_vec();
    Target::new("log-headers")
        .made_by(&make)
        .bytes_max(200)
        .run(|input| {
            assert!(Header::decode(input, 0).is_err() || input.len() >= HEADER_BYTES);
            let Some(bytes) = summed::<HEADER_BYTES>(input) else {
                return "short";
            };
            let salt = u64::from_le_bytes(*bytes[48..].first_chunk().expect("64 bytes hold 56"));
            match Header::decode(&bytes, salt) {
                Ok(header) => {
                    assert_eq!(header.encode(salt)[..56], bytes[..56]);
                    assert!(header.next_offset() >= header.base);
                    assert!(header.frame_len() >= HEADER_BYTES as u64);
                    "header"
                }
                Err(fault) => fault.0,
            }
        });
}

/// Frames whose checksums are right and whose contents are anything: `codec, flags, meta length, records, skip`, then
/// the origin entry and the body.
#[test]
fn the_contents_of_frames_are_refused_or_fit() {
    let make = |random: &mut FuzzRandom| {
        let records = random.u8(0..5);
        let mut input = vec![
            random.u8(0..3),
            random.u8(0..16),
            0,
            records,
            random.u8(0..3),
        ];
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for _ in 0..records {
            let (key, payload) = (random.u8(0..5), random.u8(0..5));
            index.extend([key, payload, random.u8(0..128)]);
            data.extend(std::iter::repeat_n(
                b'x',
                usize::from(key.saturating_sub(1) + payload),
            ));
        }
        if random.bool() {
            index.extend(std::iter::repeat_n(7, 16 * usize::from(records)));
        }
        if random.bool() {
            // A header `x` without a value each, or nothing.
            let mut blocks: Vec<u8> = Vec::new();
            for _ in 0..records {
                let block: &[u8] = if random.bool() { b"\x01x\0" } else { b"" };
                index.push(block.len() as u8);
                blocks.extend(block);
            }
            data.extend(blocks);
        }
        input.extend(index);
        input.extend(data);
        input
    };
    let fixed = 5;
    let target = Target::new("log-frames").made_by(&make);
    target.memory(RAW_BYTES_MAX + (2 << 20), 512).run(|input| {
        let Some((head, rest)) = input.split_at_checked(fixed) else {
            return "short";
        };
        let meta_len = usize::from(head[2]).min(rest.len());
        let (meta, body) = rest.split_at(meta_len);
        let codec = [Codec::None, Codec::Lz4, Codec::Zstd][usize::from(head[0] % 3)];
        let raw_len = match codec {
            Codec::None => body.len(),
            _ => usize::from(head[0]) << (head[1] % 17),
        };
        let header = Header {
            codec,
            account: head[1] & 1 != 0,
            columns: columns(head[1]),
            base: 10,
            records: u32::from(head[3]),
            arrival: 0,
            meta_len: meta.len() as u32,
            body_len: body.len() as u32,
            raw_len: raw_len as u32,
            meta_crc: crc32c::crc32c(meta),
            body_crc: crc32c::crc32c(body),
        };
        // As the header of every frame is checked before its contents are read.
        let header = match Header::decode(&header.encode(1), 1) {
            Ok(header) => header,
            Err(fault) => return fault.0,
        };
        let mut chunk = FrameChunk::default();
        chunk.push(Frame {
            header,
            bytes: Bytes::copy_from_slice(rest),
        });
        match chunk.decode(10 + u64::from(head[4])) {
            Ok(decoded) => {
                let batch = &decoded.batch;
                assert!(batch.records.len() <= header.records as usize);
                assert_eq!(
                    batch.hashes.len(),
                    if header.columns.explicit {
                        batch.records.len()
                    } else {
                        0
                    }
                );
                assert!(batch.is_aligned());
                // Every record lies within what was read.
                for (n, entry) in batch.records.iter().enumerate() {
                    let _both = (batch.key(entry), batch.payload(entry));
                    assert!(is_block(batch.headers(n)));
                }
                match (
                    batch.headers.iter().any(|span| span.len > 0),
                    batch.tombstones.is_empty(),
                ) {
                    (false, true) => "frame",
                    (false, false) => "tombstones",
                    (true, true) => "headers",
                    (true, false) => "both",
                }
            }
            Err(fault) => fault.0,
        }
    });
}

#[test]
fn control_slots_are_refused_or_come_back() {
    let make = |random: &mut FuzzRandom| {
        let control = ControlSlot {
            counter: random.u64(..),
            incarnation: random.u128(..),
            sealing: random.bool(),
            next_offset: random.u64(..),
            newest_arrival: random.i64(..),
            ..ControlSlot::default()
        };
        control.encode().to_vec()
    };
    Target::new("log-controls")
        .made_by(&make)
        .bytes_max(300)
        .run(|input| {
            let _as_it_is = ControlSlot::decode(input);
            let bytes = summed::<SLOT_BYTES>(input)?;
            let control = ControlSlot::decode(&bytes)?;
            assert_eq!(ControlSlot::decode(&control.encode()), Some(control));
            Some(())
        });
}

#[test]
fn segment_heads_are_refused_or_come_back() {
    let make = |random: &mut FuzzRandom| {
        let mut head = Head {
            incarnation: 7,
            number: random.u64(..),
            base: random.u64(..),
            previous_bytes: random.u64(..),
            previous_newest: random.i64(..),
            records_before: random.u64(..),
            len: 0,
        };
        head.encode(&DedupState::new(HashRange::ALL)).to_vec()
    };
    Target::new("log-heads")
        .made_by(&make)
        .bytes_max(300)
        .run(|input| {
            let _as_it_is = Head::decode(input, 7);
            let Some(bytes) = summed::<FIXED_BYTES>(input) else {
                return "short";
            };
            match Head::decode(&bytes, 7) {
                Ok((mut head, ..)) => {
                    let encoded = head.encode(&DedupState::new(HashRange::ALL));
                    assert_eq!(Head::decode(&encoded, 7).map(|read| read.0), Ok(head));
                    "head"
                }
                Err(fault) => fault.0,
            }
        });
}

#[test]
fn marks_are_refused_or_come_back() {
    let make = |random: &mut FuzzRandom| {
        let mut out = vec![random.u8(0..3)];
        out.extend(std::iter::repeat_n(random.u8(..), 16));
        out.extend([1, b's', random.u8(1..3)]);
        if random.bool() {
            out.extend([5, 0, 1, 0, 9, 0]);
        }
        hydrant_core::varint::put_u128(&mut out, u128::MAX);
        out.extend([0, 1, 0, random.u8(0..128), 0]);
        out
    };
    let ranges = [HashRange::ALL, HashRange { first: 3, last: 9 }];
    Target::new("log-marks").made_by(&make).run(|input| {
        ranges.map(|range| {
            let marks = DedupState::decode(&mut Reader::new(input), range).ok()?;
            let mut out = Vec::new();
            marks.encode(&mut out);
            assert_eq!(DedupState::decode(&mut Reader::new(&out), range), Ok(marks));
            Some(())
        })
    });
}

/// Whether it is read; what is read writes itself, and reads itself again.
fn comes_back<T>(input: &[u8]) -> Result<T, String>
where
    T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug,
{
    let read = |bytes: &[u8]| serde_json::from_slice::<T>(bytes);
    let value = read(input).map_err(|error| {
        let message = error.to_string();
        assert!(!message.is_empty());
        message
            .chars()
            .filter(|c| c.is_alphabetic())
            .take(40)
            .collect::<String>()
    })?;
    let body = serde_json::to_vec(&value).expect("it has a form in JSON");
    assert_eq!(read(&body).expect("it wrote itself"), value);
    Ok(value)
}

#[test]
fn manifests_are_refused_or_come_back() {
    Target::new("log-manifests")
        .tokens(&[
            "\"format\":1",
            "\"format\":3",
            "\"shards\":[",
            "\"range\":{",
            "\"first\":\"0\"",
            "\"closed\":true",
            "\"parents\":[",
            "340282366920938463463374607431768211455",
        ])
        .run(|input| {
            let manifest = comes_back::<Manifest>(input)?;
            let (incarnation, secret) = (manifest.incarnation().is_ok(), manifest.secret().is_ok());
            for shard in manifest.shards.all() {
                assert!(
                    manifest.shard(&shard.id).is_ok(),
                    "`{}` is there and not found",
                    shard.id
                );
            }
            Ok::<_, String>((incarnation, secret))
        });
}

#[test]
fn lease_rows_are_refused_or_come_back() {
    Target::new("log-leases")
        .tokens(&[
            "\"shard\":",
            "\"epoch\":",
            "\"counter\":",
            "\"owner\":",
            "null",
            "\"begin\"",
            "\"end\"",
            "\"pin\":",
        ])
        .run(|input| {
            (
                comes_back::<Lease>(input).map(drop),
                comes_back::<Generations>(input).map(drop),
            )
        });
}

#[test]
fn names_are_refused_or_come_back() {
    Target::new("log-names")
        .tokens(&[
            "0000000001-00000000000000000000.seg",
            "local:",
            "./",
            "//",
            "kafka:",
        ])
        .bytes_max(300)
        .run(|input| {
            let text = String::from_utf8_lossy(input);
            let segment = segment::parse(&text);
            if let Some((number, base)) = segment {
                assert_eq!(segment::name(number, base), text);
            }
            let url = text.parse::<StreamUrl>();
            if let Ok(url) = &url {
                assert_eq!(
                    &StreamUrl::parse(&url.to_string()).expect("it wrote itself"),
                    url
                );
            }
            (segment.is_some(), url.is_ok())
        });
}
