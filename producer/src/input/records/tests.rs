//! What the line reader promises, against a naive splitter and damaged sources.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;

use super::reader::READ_BYTES_MIN;
use super::*;
use crate::input::InputError;

/// Gives `sizes` bytes at a time, round and round, with an interruption before each.
struct Dribble {
    bytes: Cursor<Vec<u8>>,
    sizes: Vec<usize>,
    turn: usize,
    interrupt: bool,
}

impl Dribble {
    fn new(bytes: Vec<u8>, sizes: Vec<usize>) -> Self {
        Self {
            bytes: Cursor::new(bytes),
            sizes,
            turn: 0,
            interrupt: false,
        }
    }
}

impl Read for Dribble {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.interrupt = !self.interrupt;
        if self.interrupt {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let size = self.sizes[self.turn % self.sizes.len()].clamp(1, into.len().max(1));
        self.turn += 1;
        let offered = size.min(into.len());
        self.bytes.read(&mut into[..offered])
    }
}

/// Fails after its bytes.
struct Torn(Cursor<Vec<u8>>);

impl Read for Torn {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::Error::other("cable pulled")),
            read => Ok(read),
        }
    }
}

/// What became of the records of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LineCounts {
    taken: u64,
    empty: u64,
    refused: u64,
}

fn counts<R: Read>(reader: &LineReader<R>, lines: usize, refused: usize) -> LineCounts {
    let (taken, refused) = (lines as u64, refused as u64);
    LineCounts {
        taken,
        empty: reader.next_index() - taken - refused,
        refused,
    }
}

type ReadRecords = (Vec<(u64, Vec<u8>)>, Vec<RefusedLine>, LineCounts);

fn read_all<R: Read>(
    reader: &mut LineReader<R>,
) -> Result<ReadRecords, Box<(ReadRecords, InputError)>> {
    let mut lines = Vec::new();
    let mut refused = Vec::new();
    loop {
        match reader.next_block() {
            Ok(None) => {
                let counts = counts(reader, lines.len(), refused.len());
                return Ok((lines, refused, counts));
            }
            Ok(Some(block)) => {
                assert!(!block.lines.is_empty() || !block.refused.is_empty());
                for line in &block.lines {
                    lines.push((line.number, block.bytes[line.range.clone()].to_vec()));
                }
                refused.extend(block.refused);
            }
            Err(failure) => {
                let counts = counts(reader, lines.len(), refused.len());
                return Err(Box::new(((lines, refused, counts), failure)));
            }
        }
    }
}

fn reader<R: Read>(source: R, line_bytes_max: usize) -> LineReader<R> {
    LineReader::new("test.ndjson", source, ReadOptions::lines(line_bytes_max))
}

fn read_as(
    format: RecordFormat,
    source: impl Read,
) -> Result<ReadRecords, Box<(ReadRecords, InputError)>> {
    let reading = ReadOptions {
        format,
        ..ReadOptions::lines(1 << 20)
    };
    read_all(&mut LineReader::new("test.ndjson", source, reading))
}

fn read_bytes(bytes: &[u8]) -> ReadRecords {
    read_all(&mut reader(bytes, 1 << 20)).unwrap()
}

/// The same by splitting the whole text at once.
fn naive(bytes: &[u8], line_bytes_max: usize) -> ReadRecords {
    let mut pieces: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    if pieces.last().is_some_and(|last| last.is_empty()) {
        pieces.pop();
    }
    let mut seen = (Vec::new(), Vec::new(), LineCounts::default());
    for (number, piece) in (1..).zip(pieces) {
        let content = piece.trim_ascii();
        let whole = piece.trim_ascii_start().len();
        if content.is_empty() {
            seen.2.empty += 1;
        } else if content.len() > line_bytes_max || whole > line_bytes_max + 1 {
            seen.2.refused += 1;
            seen.1.push(RefusedLine {
                number,
                index: number - 1,
                length: whole as u64,
                is_damaged: false,
            });
        } else {
            seen.2.taken += 1;
            seen.0.push((number, content.to_vec()));
        }
    }
    seen
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

/// Text with many line ends of both kinds, never beginning like a signature.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        5 => proptest::collection::vec(b' '..=b'~', 0..24),
        1 => (0usize..400).prop_map(|length| vec![b'x'; length]),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| {
        let mut text = b"{".to_vec();
        text.extend(pieces.concat());
        text
    })
}

#[test]
fn a_line_of_blank_space_beyond_the_limit_is_empty_however_it_is_read() {
    let text = [b"{}\n".as_slice(), &[b' '; 40], b"\r\r\n{}\n"].concat();
    for size in 1..50 {
        let mut reader = reader(Dribble::new(text.clone(), vec![size]), 4);
        assert_eq!(read_all(&mut reader).unwrap(), naive(&text, 4), "{size}");
    }
}

proptest! {
    #[test]
    fn lines_equal_those_of_a_naive_splitter(
        text in text(),
        sizes in proptest::collection::vec(1usize..300, 1..8),
        line_bytes_max in 0usize..80,
    ) {
        let mut reader = reader(Dribble::new(text.clone(), sizes), line_bytes_max);
        let seen = read_all(&mut reader).unwrap();
        prop_assert_eq!(seen, naive(&text, line_bytes_max));
    }

    #[test]
    fn compression_does_not_change_lines(
        text in text(),
        more in text(),
        sizes in proptest::collection::vec(1usize..300, 1..8),
    ) {
        let whole = [&text[..], &more[..]].concat();
        let expected = naive(&whole, 100);
        let two_members = [gzip(&text), gzip(&more)].concat();
        let two_frames = [zstd(&text), zstd(&more)].concat();
        for coded in [gzip(&whole), zstd(&whole), two_members, two_frames] {
            let mut reader = reader(Dribble::new(coded, sizes.clone()), 100);
            prop_assert_eq!(read_all(&mut reader).unwrap(), expected.clone());
        }
    }

    #[test]
    fn arbitrary_bytes_end_without_panic(bytes: Vec<u8>, lead in 0usize..4) {
        let leads = [&b""[..], b"\x1F\x8B\x08\0", b"\x28\xB5\x2F\xFD", b"\xEF\xBB\xBF"];
        let mut source = leads[lead].to_vec();
        source.extend(bytes);
        let _outcome = read_all(&mut reader(&source[..], 64)).is_ok();
    }
}

#[test]
fn blocks_are_large_and_share_memory_across_reads() {
    let text = b"{\"device\":1234567,\"value\":20.5}\n".repeat(100_000);
    let mut reader = reader(&text[..], 1_024);
    let mut blocks = 0;
    let mut lines = 0;
    while let Some(block) = reader.next_block().unwrap() {
        blocks += 1;
        lines += block.lines.len();
    }
    assert_eq!(lines, 100_000);
    assert!(blocks <= text.len() / READ_BYTES_MIN + 1, "{blocks}");
}

#[test]
fn a_slow_pipe_hands_out_its_first_line_at_once() {
    let mut reader = reader(
        Dribble::new(b"{}\n{\"a\":1}\n".to_vec(), vec![1, 2, 100]),
        1_024,
    );
    let block = reader.next_block().unwrap().unwrap();
    assert_eq!(
        block.lines,
        [RecordRange {
            range: 0..2,
            number: 1,
            index: 0
        }]
    );
    assert_eq!(&block.bytes[..], b"{}\n");
}

#[test]
fn a_line_longer_than_a_block_is_whole() {
    let long = vec![b'y'; 3 * (1 << 20) + 17];
    let text = [b"first\n", &long[..], b"\nlast"].concat();
    let (lines, refused, _) = read_all(&mut reader(&text[..], 4 << 20)).unwrap();
    assert_eq!(refused, []);
    assert_eq!(
        lines,
        [(1, b"first".to_vec()), (2, long), (3, b"last".to_vec())]
    );
}

#[test]
fn a_too_long_line_is_refused_with_its_number_and_not_kept_in_memory() {
    let long = vec![b'y'; 3 * (1 << 20)];
    let text = [b"first\n\n", &long[..], b"\r\nlast\n", &long[..]].concat();
    let mut reader = reader(&text[..], 1_000);
    let (lines, refused, counts) = read_all(&mut reader).unwrap();
    assert_eq!(lines, [(1, b"first".to_vec()), (4, b"last".to_vec())]);
    let length = long.len() as u64;
    assert_eq!(
        refused,
        [
            RefusedLine {
                number: 3,
                index: 2,
                length: length + 1,
                is_damaged: false,
            },
            RefusedLine {
                number: 5,
                index: 4,
                length,
                is_damaged: false,
            }
        ]
    );
    assert_eq!((counts.taken, counts.empty, counts.refused), (2, 1, 2));
}

#[test]
fn the_limit_counts_neither_line_end_nor_carriage_return() {
    let text = b"12345\n12345\r\n123456\n123456\r\n12345\r";
    let (lines, refused, _) = read_all(&mut reader(&text[..], 5)).unwrap();
    assert_eq!(
        lines.iter().map(|line| line.0).collect::<Vec<_>>(),
        [1, 2, 5]
    );
    assert!(lines.iter().all(|line| line.1 == b"12345"));
    assert_eq!(
        refused.iter().map(|line| line.number).collect::<Vec<_>>(),
        [3, 4]
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    assert_eq!(read_bytes(b"\xEF\xBB\xBF{}\n{}").0[0], (1, b"{}".to_vec()));
    assert_eq!(
        read_bytes(&gzip(b"\xEF\xBB\xBF{}\n{}")).0[0],
        (1, b"{}".to_vec())
    );
    // Of files that were joined, each may have had one.
    assert_eq!(read_bytes(b"{}\n\xEF\xBB\xBF{}").0[1], (2, b"{}".to_vec()));
}

#[test]
fn nothing_gives_no_line() {
    for nothing in [&b""[..], &gzip(b""), &zstd(b"")] {
        let mut reader = reader(nothing, 10);
        assert!(reader.next_block().unwrap().is_none());
        assert!(reader.next_block().unwrap().is_none());
    }
}

#[test]
fn lines_before_a_damaged_place_are_handed_out() {
    let text: Vec<u8> = (0..50_000)
        .flat_map(|n| format!("{{\"n\":{}}}\n", n * 7_919).into_bytes())
        .collect();
    let (gzipped, zstded) = (gzip(&text), zstd(&text));
    let expected = naive(&text, 100).0;
    let cuts = [
        (gzipped[..gzipped.len() / 2].to_vec(), "gzip"),
        (zstded[..zstded.len() - 5].to_vec(), "zstd"),
    ];
    for (source, name) in cuts {
        let ((lines, ..), failure) = *read_all(&mut reader(&source[..], 100)).unwrap_err();
        assert!(
            !lines.is_empty() && lines.len() < expected.len(),
            "{name}: {}",
            lines.len()
        );
        assert_eq!(lines[..], expected[..lines.len()]);
        let InputError::Read { name, line, .. } = failure else {
            panic!("{failure}")
        };
        assert_eq!(
            (name.as_str(), line),
            ("test.ndjson", lines.len() as u64 + 1)
        );
    }
}

#[test]
fn a_failing_source_is_an_error_once_and_then_the_end() {
    let mut reader = reader(Torn(Cursor::new(b"{}\n{\"cut\":".to_vec())), 100);
    assert_eq!(reader.next_block().unwrap().unwrap().lines.len(), 1);
    let failure = reader.next_block().unwrap_err();
    let message = failure.to_string();
    assert!(
        message.contains("`test.ndjson`") && message.contains("line 2"),
        "{message}"
    );
    let reason = std::error::Error::source(&failure).unwrap();
    assert_eq!(reason.to_string(), "cable pulled");
    assert!(reader.next_block().unwrap().is_none());
}

#[test]
fn other_formats_are_refused_by_name_with_a_remedy() {
    let mut tar = [0; 1_024];
    for (at, text) in [
        (0, &b"a.json"[..]),
        (100, b"0000644"),
        (257, b"ustar  "),
        (512, b"{}\n"),
    ] {
        tar[at..at + text.len()].copy_from_slice(text);
    }
    let sources: &[(&[u8], &str)] = &[
        (b"BZh91AY", "bzip2"),
        (b"\xFD7zXZ\0\0", "xz"),
        (b"\x04\x22\x4D\x18aaaa", "lz4"),
        (b"PK\x03\x04aaaa", "zip"),
        (b"7z\xBC\xAF\x27\x1C\0", "7z"),
        (b"\x1F\x9D\x90", "compress"),
        (b"\xFF\x06\0\0sNaPpY", "Snappy"),
        (b"PAR1aaaa", "Parquet"),
        (b"Obj\x01aaaa", "Avro"),
        (b"ARROW1\0\0", "Arrow"),
        (b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR", "binary data"),
        (b"\x0A\x05\x08\x96\x01\x12\x03abc", "binary data"),
        (&tar, "a tar archive"),
        (&gzip(&gzip(b"{}")), "compressed again"),
        (&gzip(b"PAR1aaaa"), "Parquet"),
    ];
    for (source, word) in sources {
        for format in [RecordFormat::Auto, RecordFormat::Ndjson, RecordFormat::Json] {
            let failure = read_as(format, *source).unwrap_err().1;
            assert!(matches!(failure, InputError::Format { .. }), "{failure}");
            assert!(failure.to_string().contains(word), "{failure}");
        }
    }
}

#[test]
fn text_that_begins_like_a_signature_stays_text() {
    for text in [&b"B"[..], b"BZ\n", b"PAR\nx", b"P", b"(x\n"] {
        assert_eq!(read_bytes(text), naive(text, 100));
    }
}

mod coded;
mod cuts;
mod damage;
mod formats;
mod fuzz;
mod nuls;
mod resumed;

/// A source that grows: between its pieces it has an end.
struct GrowingSource(Vec<Vec<u8>>);

impl Read for GrowingSource {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.0.first_mut() else {
            return Ok(0);
        };
        let read = piece.len().min(into.len());
        into[..read].copy_from_slice(&piece[..read]);
        piece.drain(..read);
        if piece.is_empty() && (read == 0 || self.0.get(1).is_some_and(|next| !next.is_empty())) {
            self.0.remove(0);
        }
        Ok(read)
    }
}

#[test]
fn a_character_that_a_growing_source_has_half_of_continues_when_it_grows() {
    let text = "{\"s\":\"\u{1F600}\"}\n{\"n\":2}\n";
    for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(to_bytes).collect();
        for cut in 12..=18 {
            let (start, rest) = bytes.split_at(cut);
            let pieces = [start.to_vec(), Vec::new(), Vec::new(), rest.to_vec()];
            let reading = ReadOptions {
                grows: true,
                at_end: AtEnd::Wait,
                remembers: true,
                ..ReadOptions::lines(1_024)
            };
            let mut reader = LineReader::new("t", GrowingSource(pieces.to_vec()), reading);
            let mut lines = Vec::new();
            for _ in 0..4 {
                if let Some(block) = reader.next_block().unwrap() {
                    lines.extend(
                        block
                            .lines
                            .iter()
                            .map(|line| block.bytes[line.range.clone()].to_vec()),
                    );
                }
            }
            let wanted: Vec<_> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
            assert_eq!(lines, wanted, "cut at {cut}");
            let mut whole = LineReader::new("t", &bytes[..], reading);
            while whole.next_block().unwrap().is_some() {}
            assert_eq!(reader.position(), whole.position(), "cut at {cut}");
            // Nothing follows: what is cut is a record, and not a valid one.
            let mut cut_off = LineReader::new("t", &bytes[..14], reading);
            assert!(cut_off.next_block().unwrap().is_none());
            let block = cut_off.finish().unwrap().unwrap();
            assert_eq!(&block.bytes[block.lines[0].range.clone()], b"{\"s\":\"");
        }
    }
}

#[test]
fn what_was_taken_for_text_is_text_when_more_of_it_is_there() {
    let mut bytes = b"{\"n\":1}\n".to_vec();
    let reading = ReadOptions {
        remembers: true,
        ..ReadOptions::lines(1_024)
    };
    let mut first = LineReader::new("t", Cursor::new(bytes.clone()), reading);
    while first.next_block().unwrap().is_some() {}
    let place = first.position().unwrap();
    bytes.extend([1; 900]);
    bytes.extend(b"\n{\"n\":3}\n");
    assert!(reader::begins_with(&bytes[..], place.prefix(), 0).unwrap());
    for other in [&bytes[1..], &bytes[..4]] {
        assert!(!reader::begins_with(other, place.prefix(), 0).unwrap());
    }
    let mut again = LineReader::new("t", &bytes[..], reading);
    assert!(again.resume(&place, None).unwrap());
    let (lines, ..) = read_all(&mut again).unwrap();
    assert_eq!((lines.len(), &lines[1].1[..]), (2, &b"{\"n\":3}"[..]));
}
