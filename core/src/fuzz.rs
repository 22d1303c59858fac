//! The byte and text forms of the vocabulary, fuzzed: see `docs/fuzzing.md`.

use hydrant_fuzz::{Random, Target};

use crate::origin::{OriginEntry, WriterId};
use crate::position::{Position, Sequence};
use crate::varint::{self, Reader};

#[test]
fn origin_entries_are_refused_or_come_back() {
    let make = |random: &mut Random| {
        let mut out = vec![random.u8(..); 16];
        varint::put_bytes(&mut out, b"000001");
        for _ in 0..3 {
            varint::put_position(&mut out, Position::offset(random.u64(0..300)));
        }
        varint::put_u64(&mut out, random.u64(0..3));
        let origins: Vec<u8> = (0..random.usize(0..8)).map(|_| random.u8(0..4)).collect();
        varint::put_bytes(&mut out, &origins);
        out.extend([random.u8(0..4), 2, 1, 1, 1, b'r', 1, 0, 0]);
        out
    };
    Target::new("core-origins").made_by(&make).run(|input| {
        let mut reader = Reader::new(input);
        let entry = OriginEntry::decode(&mut reader).ok()?;
        let count = entry.origins.iter().count();
        assert_eq!(count, entry.origins.len() as usize);
        let mut out = Vec::new();
        entry.encode(&mut out);
        let mut reader = Reader::new(&out);
        assert_eq!(OriginEntry::decode(&mut reader).as_ref(), Ok(&entry));
        assert!(reader.is_empty());
        Some((entry.account.is_some(), count.min(3)))
    });
}

#[test]
fn numbers_of_bytes_are_refused_or_come_back() {
    Target::new("core-varints").bytes_max(64).run(|input| {
        let mut reader = Reader::new(input);
        let (small, signed) = (reader.u64(), reader.i64());
        let (large, position) = (reader.u128(), reader.position());
        let mut out = Vec::new();
        if let (Ok(small), Ok(signed)) = (small, signed) {
            varint::put_u64(&mut out, small);
            varint::put_i64(&mut out, signed);
            let mut again = Reader::new(&out);
            assert_eq!((again.u64(), again.i64()), (Ok(small), Ok(signed)));
        }
        if let (Ok(large), Ok(position)) = (large, position) {
            out.clear();
            varint::put_u128(&mut out, large);
            varint::put_position(&mut out, position);
            let mut again = Reader::new(&out);
            assert_eq!((again.u128(), again.position()), (Ok(large), Ok(position)));
        }
        (
            small.is_ok(),
            signed.is_ok(),
            large.is_ok(),
            position.is_ok(),
        )
    });
}

#[test]
fn positions_and_writers_are_refused_or_come_back() {
    let longest = Sequence::MAX.to_string();
    Target::new("core-positions")
        .tokens(&[
            "begin", "end", ".", "+", "-", &longest, "p000000", "b", "z", "0x",
        ])
        .bytes_max(300)
        .run(|input| {
            let text = String::from_utf8_lossy(input);
            let position = text.parse::<Position>();
            if let Ok(position) = &position {
                assert_eq!(position.to_string().parse(), Ok(*position));
                let digits = |byte: u8| byte.is_ascii_digit() || byte == b'.';
                let word = ["begin", "end"].contains(&&*text);
                assert!(word || text.bytes().all(digits), "`{text}` is a position");
            }
            let name = Position::from_name(&text);
            if let Some(position) = name {
                assert_eq!(position.name(), text);
            }
            let writer = serde_json::from_value::<WriterId>(text.as_ref().into());
            if let Ok(writer) = &writer {
                assert_eq!(writer.to_string(), text, "one writer has one name");
            }
            (position.is_ok(), name.is_some(), writer.is_ok())
        });
}
