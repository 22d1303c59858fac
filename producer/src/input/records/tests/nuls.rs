//! Runs of NULs in a file: at its end, where they are written over, and before something, where they are blank.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use super::*;
use crate::input::files::file::FileTail;

const FOLLOWED: ReadOptions = ReadOptions {
    grows: true,
    remembers: true,
    at_end: AtEnd::Wait,
    format: RecordFormat::Auto,
    ..ReadOptions::lines(1 << 10)
};

fn next<R: Read>(reader: &mut LineReader<R>) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        assert!(block.refused.is_empty());
        let text = |line: &RecordRange| String::from_utf8(block.bytes[line.range.clone()].to_vec());
        seen.extend(block.lines.iter().map(|line| text(line).unwrap()));
    }
    seen
}

fn preallocated(bytes: &[u8], length: u64) -> (tempfile::NamedTempFile, File) {
    let named = tempfile::NamedTempFile::new().unwrap();
    let file = OpenOptions::new().write(true).open(named.path()).unwrap();
    file.set_len(length).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    (named, file)
}

/// Each line arrives once while it is written over NULs, in this process and in one that resumes, whatever the encoding
/// and however many NULs are left.
#[test]
fn what_is_written_over_nuls_is_read_once() {
    let lines: Vec<String> = (0..13).map(|n| format!("{{\"n\":{n}}}")).collect();
    for (width, big, mark) in [
        (1, false, false),
        (2, false, true),
        (2, true, true),
        (2, false, false),
        (2, true, false),
        (4, false, true),
        (4, true, true),
        (4, false, false),
        (4, true, false),
    ] {
        let code = |text: &str, mark| match width {
            1 => text.as_bytes().to_vec(),
            _ => coded::coded(text, width, big, mark),
        };
        let whole = code(&format!("{}\n", lines.join("\n")), mark);
        // Fewer than the next line needs, as many, and many more.
        for more in [1, 3, 9, 64, 4_096] {
            let (named, file) = preallocated(&[], (more * width) as u64);
            let mut reader = LineReader::new("t", FileTail::open(named.path()).unwrap(), FOLLOWED);
            let mut resumed: Vec<String> = Vec::new();
            let mut at = 0;
            let mut place: Option<InputPosition> = None;
            for (n, line) in lines.iter().enumerate() {
                let bytes = code(&format!("{line}\n"), mark && n == 0);
                let length = file.metadata().unwrap().len();
                let end = (at + bytes.len()) as u64;
                // Half of the line comes first, which is not the half of a character.
                let half = bytes.len() / 2 / width * width;
                file.write_all_at(&bytes[..half], at as u64).unwrap();
                assert!(next(&mut reader).is_empty(), "{width} {big} {more}");
                file.write_all_at(&bytes[half..], at as u64 + half as u64)
                    .unwrap();
                if length < end {
                    file.set_len(end + (more * width) as u64).unwrap();
                }
                assert_eq!(next(&mut reader), [line.as_str()], "{width} {big} {more}");
                if n % 3 == 0 {
                    let tail = FileTail::open(named.path()).unwrap();
                    let mut again = LineReader::new("t", tail, FOLLOWED);
                    if let Some(place) = &place {
                        assert!(again.resume(place, None).unwrap(), "{width} {big} {more}");
                    }
                    resumed.extend(next(&mut again));
                    place = again.position();
                }
                at += bytes.len();
            }
            assert_eq!(resumed, lines, "{width} {big} {more}");
            assert_eq!(&std::fs::read(named.path()).unwrap()[..whole.len()], whole);
        }
    }
}

/// What a truncation left before a writer continued is blank space, wherever reads end in it.
#[test]
fn nuls_before_something_are_blank() {
    for length in [1, 15, 16, 1_000, 300_000, 700_001] {
        let (named, file) = preallocated(b"{\"n\":1}\n", 8 + length);
        let mut reader = LineReader::new("t", FileTail::open(named.path()).unwrap(), FOLLOWED);
        assert_eq!(next(&mut reader), ["{\"n\":1}"]);
        file.write_all_at(b"{\"n\":2}\n\0\0", 8 + length).unwrap();
        assert_eq!(next(&mut reader), ["{\"n\":2}"], "{length}");
        let place = reader.position().unwrap();
        assert_eq!((place.index, place.bytes), (2, 16 + length));
        let mut whole = LineReader::new("t", FileTail::open(named.path()).unwrap(), FOLLOWED);
        assert_eq!(next(&mut whole).len(), 2);
        assert_eq!(whole.position(), Some(place), "{length}");
    }
}

/// At the true end, too: the last record is sent without them, and what comes in their place later is sent then.
#[test]
fn nuls_at_the_end_are_not_taken_with_the_last_record() {
    for at_end in [AtEnd::Wait, AtEnd::Send] {
        let reading = ReadOptions {
            at_end,
            grows: false,
            ..FOLLOWED
        };
        let (named, file) = preallocated(b"{\"n\":1}\n{\"n\":2}", 500);
        let mut first = LineReader::new("t", FileTail::open(named.path()).unwrap(), reading);
        let mut seen = next(&mut first);
        file.write_all_at(b"\n{\"n\":3}\n", 15).unwrap();
        let mut second = LineReader::new("t", FileTail::open(named.path()).unwrap(), reading);
        assert!(second.resume(&first.position().unwrap(), None).unwrap());
        seen.extend(next(&mut second));
        assert_eq!(seen, ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"], "{at_end:?}");
    }
}

/// A file that is made much longer before it is written is not read to its end at each look.
#[test]
fn what_the_file_system_keeps_no_bytes_for_is_not_read() {
    let (named, file) = preallocated(b"{\"n\":1}\n", 1 << 38);
    let mut reader = LineReader::new("t", FileTail::open(named.path()).unwrap(), FOLLOWED);
    assert_eq!(next(&mut reader).len(), 1);
    file.write_all_at(b"{\"n\":2}\n", 8).unwrap();
    assert_eq!(next(&mut reader), ["{\"n\":2}"]);
}

/// The last byte of a compressed file may be a zero, and zeros may stand behind it.
#[test]
fn zeros_of_a_compressed_file_are_read() {
    for coded in [gzip(b"{\"n\":1}\n"), zstd(b"{\"n\":1}\n")] {
        for zeros in [0, 1, 16, 512] {
            let length = (coded.len() + zeros) as u64;
            let (named, _) = preallocated(&coded, length);
            let mut tail = FileTail::open(named.path()).unwrap();
            let mut bytes = Vec::new();
            assert_eq!(tail.read_to_end(&mut bytes).unwrap() as u64, length);
        }
    }
}
