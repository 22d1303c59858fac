//! Fuzzes the byte and text forms of the vocabulary: see `docs/fuzzing.md`.

use hydrant_fuzz::{FuzzRandom, Target};

use crate::headers::{is_block, put_header, read_headers};
use crate::marks::ReaderMarks;
use crate::origin::{OriginEntry, WriterId};
use crate::position::{Position, Sequence};
use crate::shard::HashRange;
use crate::varint::{self, Reader};

#[test]
fn origin_entries_are_refused_or_come_back() {
    let make = |random: &mut FuzzRandom| {
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
fn headers_are_refused_or_come_back() {
    let make = |random: &mut FuzzRandom| {
        let mut block = Vec::new();
        for _ in 0..random.usize(0..4) {
            let value = vec![random.u8(..); random.usize(0..5)];
            let value = random.bool().then_some(&value[..]);
            put_header(
                &mut block,
                ["", "a", "trace", "\u{fc}"][random.usize(0..4)],
                value,
            );
        }
        block
    };
    Target::new("core-headers").made_by(&make).run(|input| {
        let all: Vec<_> = read_headers(input).collect();
        let broken = all.iter().filter(|header| header.is_err()).count();
        assert_eq!(broken, usize::from(!is_block(input)));
        assert!(all.iter().rev().skip(1).all(|header| header.is_ok()));
        let mut block = Vec::new();
        for header in all.iter().flatten() {
            put_header(&mut block, header.name, header.value);
        }
        // Numbers have longer forms too: what is written again has the shortest ones.
        assert!(block.len() <= input.len());
        let again: Vec<_> = read_headers(&block).collect();
        assert_eq!(again[..], all[..all.len() - broken]);
        (broken, again.len().min(3))
    });
}

#[test]
fn marks_are_refused_or_come_back() {
    let make = |random: &mut FuzzRandom| {
        let mut out = vec![1];
        varint::put_position(&mut out, Position::offset(random.u64(0..300)));
        for hash in [10, 99] {
            varint::put_u128(&mut out, hash + u128::from(random.u64(0..3)));
        }
        let origins = random.u64(0..3);
        varint::put_u64(&mut out, origins);
        for origin in 0..origins {
            match origin > 0 && random.bool() {
                true => out.push(0),
                false => {
                    out.push(1);
                    out.extend([random.u8(0..3); 16]);
                }
            }
            varint::put_bytes(&mut out, &[b'0' + random.u8(0..3)]);
            let segments = random.u64(1..4);
            varint::put_u64(&mut out, segments);
            for segment in 1..=segments {
                if segment < segments {
                    varint::put_u128(&mut out, u128::from(random.u64(0..40)));
                }
                let islands = random.u64(0..3);
                let ended = random.u64(0..2);
                varint::put_u64(&mut out, islands << 1 | ended);
                if ended == 1 {
                    varint::put_i64(&mut out, random.i64(-3..3));
                }
                for _ in 0..=2 * islands {
                    varint::put_u64(&mut out, random.u64(0..80));
                }
            }
        }
        out
    };
    Target::new("core-marks").made_by(&make).run(|input| {
        let marks = ReaderMarks::decode(input).ok()?;
        let mut out = Vec::new();
        marks.encode(&mut out);
        assert_eq!(ReaderMarks::decode(&out).as_ref(), Ok(&marks));
        // A child of all hashes knows the same, and one of a part is one whose bytes are read.
        let mut whole = Vec::new();
        let parents = std::slice::from_ref(&marks);
        let child = ReaderMarks::of_child(HashRange::ALL, parents);
        assert_eq!(child.origins(), marks.origins());
        let part = HashRange {
            first: 20,
            last: 40,
        };
        let child = ReaderMarks::of_child(part, parents);
        child.encode(&mut whole);
        assert_eq!(ReaderMarks::decode(&whole).as_ref(), Ok(&child));
        Some((marks.origins().min(3), out.len() / 8))
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
