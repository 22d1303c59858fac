//! What dead letters take in memory on their way into the log and out of it, against what is counted.

use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::Position;
use hydrant_core::origin::{DeadLetter, Origin};
use hydrant_core::stream::{Append, Unit, UnitKind};
use hydrant_core::{HashRange, Sequence};
use hydrant_fuzz::memory;

use super::super::fixture::tracked;
use crate::Codec;
use crate::local::format::chunk::{Frame, FrameChunk};
use crate::local::format::frame::{HEADER_BYTES, Header};
use crate::local::write::pending_append::PendingAppend;

const LETTERS: u64 = 10_000;
const SALT: u64 = 7;
/// What takes memory beside the dead letters.
const REST: u64 = 2 << 10;

/// An append of which nothing but dead letters is left.
fn dead_letters() -> Append {
    let stream: Arc<str> = "raw@0123456789abcdef".into();
    let (stage, reason): (Arc<str>, Arc<str>) = ("transform".into(), "malformed_json".into());
    let shard = hydrant_core::ShardId::from("000000");
    let unit = |n: u64| Unit {
        origin: Origin {
            sequence: Sequence::from(n),
            sub: 0,
            index: 0,
        },
        route: 0,
        what: UnitKind::DeadLetter(DeadLetter {
            stream: Arc::clone(&stream),
            shard: shard.clone(),
            sequence: Sequence::from(n),
            sub: 0,
            key: None,
            stage: Arc::clone(&stage),
            reason: Arc::clone(&reason),
            detail: String::new(),
            length: 2,
            time: 1_700_000_000_000_000,
        }),
    };
    let to = Position::offset(LETTERS);
    Append {
        input: Some(LETTERS),
        units: Arc::new((0..LETTERS).map(unit).collect()),
        ..tracked("app", Position::Begin, Position::Begin, to, &[])
    }
}

/// The lanes count the dead letters until they are stored, the log counts what it encodes: there is no third copy.
#[test]
fn an_append_of_letters_takes_what_is_counted() {
    let append = dead_letters();
    let (work, taken) = memory(|| PendingAppend::new(append));
    assert!(taken.peak_bytes <= REST, "{taken:?} to submit letters");
    let counted = work.encoded_bytes_max(0);
    let (encoded, taken) = memory(|| work.encode(HashRange::ALL, Codec::default()).unwrap());
    let frame = encoded.frame_len();
    assert!(frame <= counted, "{frame} bytes of {counted}");
    assert!(taken.peak_bytes <= counted + REST, "{taken:?} of {counted}");
    assert!(taken.held_bytes <= frame + REST, "{taken:?} of {frame}");
    let (_parts, taken) = memory(|| encoded.at(0, 0, SALT));
    assert!(taken.peak_bytes <= REST, "{taken:?} to write a frame");
}

/// A reader holds memory for dead letters before it decodes them, and no less than they take until the batch is dropped.
#[test]
fn a_batch_of_letters_takes_what_is_counted() {
    let work = PendingAppend::new(dead_letters());
    let encoded = work.encode(HashRange::ALL, Codec::default()).unwrap();
    let bytes = Bytes::from(encoded.at(0, 0, SALT).concat());
    let header = Header::decode(&bytes, SALT).unwrap();
    let counted = FrameChunk::cost(&header);
    let mut chunk = FrameChunk::default();
    chunk.push(Frame {
        header,
        bytes: bytes.slice(HEADER_BYTES..),
    });
    let (decoded, taken) = memory(|| chunk.decode(0).unwrap());
    assert_eq!(
        decoded.batch.accounts[0].account.dead_letters.len() as u64,
        LETTERS
    );
    assert!(taken.peak_bytes <= counted + REST, "{taken:?} of {counted}");
    let held = decoded.cost;
    assert!(taken.held_bytes <= held + REST, "{taken:?} of {held}");
    assert!(held <= counted, "{held} of {counted}");
}
