//! Sends files as users have them through `hydrant-producer` into a stream and out again.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::test_dir::{Answer, TestDir};

impl TestDir {
    /// Runs the producer with these additional flags.
    fn produce(&self, flags: &[&str]) -> Answer {
        let args = ["--to", "local:raw", "--shards", "1", "--json"];
        self.run("hydrant-producer", &[&args[..], flags].concat())
    }

    /// The payloads in the stream, in order.
    fn sent(&self) -> Vec<String> {
        let tail = ["stream", "tail", "local:raw", "--start", "earliest"];
        let flags = ["--exit-at-end", "--format", "ndjson"];
        let answer = self
            .run("hydrant", &[&tail[..], &flags].concat())
            .expect(0, &[]);
        answer.out.lines().map(str::to_owned).collect()
    }
}

fn json(texts: &[String]) -> Vec<Value> {
    let parsed = texts.iter().map(|text| serde_json::from_str(text));
    parsed.map(|value| value.expect("JSON")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    let unit = |unit: u16| {
        if big {
            unit.to_be_bytes()
        } else {
            unit.to_le_bytes()
        }
    };
    text.encode_utf16().flat_map(unit).collect()
}

/// A frame that decoders skip.
fn skippable(len: u32) -> Vec<u8> {
    let mut frame = 0x184D_2A53_u32.to_le_bytes().to_vec();
    frame.extend(len.to_le_bytes());
    frame.extend(vec![7; len as usize]);
    frame
}

#[test]
fn three_records_are_three_however_they_are_written() {
    let ndjson = "{\"a\":1}\n{\"a\":2,\"s\":\"x\\n}{\"}\n{\"a\":3}\n";
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).expect("memory");
    let half = ndjson.len() / 2;
    let two_members = [
        gzip(&ndjson.as_bytes()[..half]),
        gzip(&ndjson.as_bytes()[half..]),
    ]
    .concat();
    let frames = [
        skippable(4),
        zstd(&ndjson.as_bytes()[..half]),
        skippable(0),
        zstd(&ndjson.as_bytes()[half..]),
        skippable(9),
    ];
    let with_mark = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("lines", ndjson.into()),
        ("no end of line", ndjson.trim_end().into()),
        ("carriage returns", ndjson.replace('\n', "\r\n").into()),
        ("blank lines", ndjson.replace('\n', "\n\n  \n\r\n").into()),
        ("concatenated", r#"{"a":1}{"a":2,"s":"x\n}{"}{"a":3}"#.into()),
        ("separated by spaces", r#"{"a":1} {"a":2,"s":"x\n}{"} {"a":3}"#.into()),
        ("an array", r#"[{"a":1},{"a":2,"s":"x\n}{"},{"a":3}]"#.into()),
        ("an array of lines", "[\n{\"a\":1},\n{\"a\":2,\"s\":\"x\\n}{\"},\n{\"a\":3}\n]\n".into()),
        (
            "pretty-printed",
            "{\n  \"a\": 1\n}\n{\n  \"a\": 2,\n  \"s\": \"x\\n}{\"\n}\n{\n  \"a\": 3\n}\n".into(),
        ),
        (
            "a pretty-printed array",
            "[\n  {\n    \"a\": 1\n  },\n  {\n    \"a\": 2,\n    \"s\": \"x\\n}{\"\n  },\n  {\n    \"a\": 3\n  }\n]".into(),
        ),
        ("a byte order mark", with_mark(b"\xef\xbb\xbf", ndjson.into())),
        ("UTF-16, little", with_mark(b"\xff\xfe", utf16(ndjson, false))),
        ("UTF-16, big", with_mark(b"\xfe\xff", utf16(ndjson, true))),
        ("gzip", gzip(ndjson.as_bytes())),
        ("gzip of two members", two_members.clone()),
        ("gzip with padding", [two_members, vec![0; 1000]].concat()),
        ("gzip of an empty member", [gzip(b""), gzip(ndjson.as_bytes()), gzip(b"")].concat()),
        ("zstd", zstd(ndjson.as_bytes())),
        ("zstd of several frames", frames.concat()),
    ];
    let mut wrong = String::new();
    for (name, bytes) in cases {
        let place = TestDir::new();
        place.write("in", bytes);
        let answer = place.produce(&["--input", "in"]);
        let decodes = name.starts_with("UTF-16");
        if decodes && answer.code == Some(64) && answer.err.contains("UTF-16") {
            continue;
        }
        if answer.code != Some(0) {
            wrong += &format!("{name}: {answer:?}\n");
            continue;
        }
        let found = json(&place.sent());
        let a: Vec<_> = found.iter().map(|record| record["a"].as_i64()).collect();
        if a != [Some(1), Some(2), Some(3)] || found[1]["s"] != "x\n}{" {
            wrong += &format!("{name}: {found:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn nothing_is_nothing() {
    for empty in [
        &b""[..],
        b"\n",
        b"\n\n\r\n  \n",
        &gzip(b""),
        &gzip(b"\n"),
        b"[]",
        b" [ ] \n",
        b"\xef\xbb\xbf",
    ] {
        let place = TestDir::new();
        place.write("in", empty);
        let report = place.produce(&["--input", "in"]).expect(0, &[]).json();
        assert_eq!(report["stored"], 0, "{empty:?}: {report}");
        assert_eq!(
            report["refused"],
            serde_json::json!({}),
            "{empty:?}: {report}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_its_name_and_what_was_read_is_kept() {
    let ndjson: String = (0..20_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let whole = gzip(ndjson.as_bytes());
    let place = TestDir::new();
    place.write("in", &whole[..whole.len() - 9]);
    let answer = place.produce(&["--input", "in"]);
    assert!(matches!(answer.code, Some(1 | 64)), "{answer:?}");
    assert!(answer.err.contains("/in`"), "{answer:?}");
    let kept = json(&place.sent());
    assert!((1..=20_000).contains(&kept.len()));
    for (n, record) in kept.iter().enumerate() {
        assert_eq!(record["n"], n);
    }

    for (bytes, name) in [
        (&b"BZh91AY&SY\x00\x00"[..], "bzip2"),
        (b"\xfd7zXZ\x00\x00\x04", "xz"),
        (b"PK\x03\x04\x14\x00\x00\x00", "zip"),
        (b"PAR1\x15\x04\x15\x10", "Parquet"),
    ] {
        let place = TestDir::new();
        place.write("in", [bytes, &[0; 64]].concat());
        let answer = place.produce(&["--input", "in"]).expect(64, &["/in`"]);
        let said = answer.err.to_lowercase();
        assert!(said.contains(&name.to_lowercase()), "{name}: {said}");
    }
}

#[test]
fn a_growing_file_is_sent_whole_and_once() {
    let place = TestDir::new();
    let ledger = ["--input", "in", "--name", "n", "--ledger", "l"];
    place.write("in", "{\"n\":1}\n{\"n\":2,\"s\":\"hal");
    assert_eq!(place.produce(&ledger).expect(0, &[]).json()["stored"], 1);
    place.write("in", "{\"n\":1}\n{\"n\":2,\"s\":\"half\"}\n{\"n\":3}\n");
    assert_eq!(place.produce(&ledger).expect(0, &[]).json()["stored"], 2);
    assert_eq!(place.produce(&ledger).expect(0, &[]).json()["stored"], 0);
    let wanted = [r#"{"n":1}"#, r#"{"n":2,"s":"half"}"#, r#"{"n":3}"#];
    assert_eq!(place.sent(), wanted);
}

/// Each rewritten file is read from its start, or refused; no line is skipped silently.
#[test]
fn a_file_that_was_replaced_is_not_taken_for_a_grown_one() {
    let first = "{\"boot\":1}\n{\"n\":2}\n{\"n\":3}\n";
    let rewritten = [
        (
            "the same first line",
            "{\"boot\":1}\n{\"n\":4}\n{\"n\":5}\n{\"n\":6}\n{\"n\":7}\n",
        ),
        (
            "another first line",
            "{\"boot\":2}\n{\"n\":4}\n{\"n\":5}\n{\"n\":6}\n",
        ),
        ("shorter", "{\"boot\":1}\n{\"n\":4}\n"),
        ("as long", "{\"boot\":1}\n{\"n\":8}\n{\"n\":9}\n"),
    ];
    for (name, second) in rewritten {
        for in_place in [false, true] {
            let place = TestDir::new();
            let ledger = ["--input", "in", "--name", "n", "--ledger", "l"];
            place.write("in", first);
            place.produce(&ledger).expect(0, &[]);
            if !in_place {
                std::fs::rename(place.path("in"), place.path("in.1")).expect("renamed");
            }
            place.write("in", second);
            let answer = place.produce(&ledger);
            if answer.code == Some(64) {
                assert!(answer.err.contains("/in`"), "{name}: {answer:?}");
                continue;
            }
            assert_eq!(answer.code, Some(0), "{name}: {answer:?}");
            let wanted: Vec<&str> = first.lines().chain(second.lines()).collect();
            assert_eq!(place.sent(), wanted, "{name}, in place: {in_place}");
        }
    }
}

/// The producer refuses records that a later stage would set aside, and names their lines.
#[test]
fn the_limits_of_later_stages_are_those_of_the_producer() {
    let place = TestDir::new();
    let depth = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    let text = |bytes: usize| format!(r#"{{"s":"{}"}}"#, "x".repeat(bytes - 8));
    let fit = [text(1 << 20), depth(64)];
    let unfit = [text((1 << 20) + 1), depth(65)];
    let lines: Vec<&str> = fit
        .iter()
        .zip(&unfit)
        .flat_map(|(fit, unfit)| [fit.as_str(), unfit])
        .collect();
    place.write("in", lines.join("\n") + "\n");
    let answer = place
        .produce(&["--input", "in"])
        .expect(0, &["line=2", "line=4"]);
    assert_eq!(answer.json()["stored"], 2, "{answer:?}");
    place.transform("local:raw", "local:clean").expect(0, &[]);
    place.sink("local:clean", "file:lake").expect(0, &[]);
    let verified = place.sound("file:lake");
    assert_eq!(
        (&verified["rows"], &verified["dead_letters"]),
        (&2.into(), &0.into())
    );

    let larger = place.produce(&["--input", "in", "--record-bytes", "2MiB"]);
    assert_eq!(larger.expect(0, &[]).json()["stored"], 3);
}
