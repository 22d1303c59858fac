//! Sends records that no table can hold through producer, transform and sink.

use std::collections::BTreeMap;

use hydrant_core::limits::DEPTH_MAX;

use crate::test_dir::{DeadLetterRow, TestDir};

/// A mark in every bad record; it may come out only in the payload of the sink's dead letters.
const MARK: &str = "RAWMARK";
const DEPTH: usize = 10_000;

/// A record and its expected outcome.
struct RecordCase {
    record: Vec<u8>,
    fate: RecordOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordOutcome {
    Row,
    /// A dead letter of this stage, for this reason.
    DeadLetter(&'static str, &'static str),
    /// The producer refuses it, for this reason.
    Refused(&'static str),
}

fn case(record: impl Into<Vec<u8>>, fate: RecordOutcome) -> RecordCase {
    let record = record.into();
    RecordCase { record, fate }
}

/// `n` is the number of the line.
fn good(n: usize) -> RecordCase {
    let record = format!(r#"{{"device_id":"d{}","n":{n},"ok":true}}"#, n % 3);
    case(record, RecordOutcome::Row)
}

pub(super) fn nested(open: &str, close: &str) -> Vec<u8> {
    let mut record = br#"{"secret":"RAWMARK","a":"#.to_vec();
    record.extend(open.repeat(DEPTH).bytes());
    record.extend(b"1");
    record.extend(close.repeat(DEPTH).bytes());
    record.push(b'}');
    record
}

/// Good and bad records in turn.
fn cases() -> Vec<RecordCase> {
    let transform = |reason| RecordOutcome::DeadLetter("transform", reason);
    let sink = |reason| RecordOutcome::DeadLetter("sink", reason);
    let mut huge = br#"{"device_id":"d1","secret":"RAWMARK","blob":""#.to_vec();
    huge.extend(std::iter::repeat_n(b'x', 10 << 20));
    huge.extend(b"\"}");
    let mut not_utf8 = br#"{"device_id":"d1","secret":"RAWMARK"#.to_vec();
    not_utf8.extend(b"\xff\xfe\"}");
    let bad = [
        case(
            r#"{"device_id":"d1","secret":"RAWMARK""#,
            transform("malformed_json"),
        ),
        case(r#"{"secret":"RAWMARK",,}"#, transform("malformed_json")),
        case("RAWMARK is not JSON", transform("malformed_json")),
        case("RAWMARK   {}", transform("malformed_json")),
        case("{\"secret\":\"RAWMARK\"}\u{1}", transform("malformed_json")),
        case(
            r#"{"secret":"RAWMARK"} and {"n":1}"#,
            transform("malformed_json"),
        ),
        case(
            r#"{"secret":"RAWMARK","n":NaN}"#,
            transform("malformed_json"),
        ),
        case(
            r#"{"secret":"RAWMARK","n":-Infinity}"#,
            transform("malformed_json"),
        ),
        case(
            r#"{"secret":"RAWMARK","n":01}"#,
            transform("malformed_json"),
        ),
        case(
            r#"{"secret":"RAWMARK","s":"\ud800"}"#,
            transform("lone_surrogate"),
        ),
        case(not_utf8, transform("not_utf8")),
        case(nested("[", "]"), RecordOutcome::Refused("too_deep")),
        case(nested("{\"a\":", "}"), RecordOutcome::Refused("too_deep")),
        case(r#"["RAWMARK",2]"#, sink("not_an_object")),
        case(r#""RAWMARK""#, sink("not_an_object")),
        case("null", sink("not_an_object")),
        case(r#"{"secret":"RAWMARK","n":8,"n":9}"#, sink("duplicate_key")),
        case(r#"{"n":40,"n":41}"#, sink("duplicate_key")),
        case(huge, RecordOutcome::Refused("line_too_long")),
    ];
    let mut cases = vec![good(0)];
    for case in bad {
        cases.push(case);
        let n = cases.len();
        cases.push(good(n));
    }
    cases
}

#[test]
fn bad_records_become_dead_letters_with_reason_and_place_and_the_good_ones_rows() {
    let place = TestDir::new();
    let cases = cases();
    let lines: Vec<&[u8]> = cases.iter().map(|case| case.record.as_slice()).collect();
    place.write("in.ndjson", lines.join(&b'\n'));
    place.create("local:raw", 1);

    let sent = place
        .run(
            "hydrant-producer",
            &[
                "--to",
                "local:raw",
                "--input",
                "in.ndjson",
                "--key",
                "device_id",
                "--json",
            ],
        )
        .expect(0, &["it exceeds `--record-bytes`", "64 levels"]);
    let transformed = place.transform("local:raw", "local:clean").expect(0, &[]);
    let landed = place.sink("local:clean", "file:lake").expect(0, &[]);

    // The raw shard holds the records in the order of the lines, without the refused ones.
    let (mut rows, mut dead_letters) = (Vec::new(), BTreeMap::new());
    let mut refused = BTreeMap::<&str, u64>::new();
    let mut sequence = 0u64;
    for (line, case) in cases.iter().enumerate() {
        match case.fate {
            RecordOutcome::Refused(reason) => {
                *refused.entry(reason).or_default() += 1;
                let named = format!("line={}", line + 1);
                assert!(sent.err.contains(&named), "{named}: {}", sent.err);
                continue;
            }
            RecordOutcome::Row => rows.push(line as i64),
            RecordOutcome::DeadLetter(stage, reason) => {
                dead_letters.insert(sequence, (stage, reason, &case.record));
            }
        }
        sequence += 1;
    }
    let report = sent.json();
    assert_eq!(report["stored"], sequence, "{report}");
    assert_eq!(report["refused"], serde_json::json!(refused), "{report}");

    assert_eq!(place.integers("lake", "n"), rows);
    let found = place.dead_letters("lake");
    let (of_transform, of_sink): (Vec<&DeadLetterRow>, Vec<&DeadLetterRow>) =
        found.iter().partition(|letter| letter.stage == "transform");
    for letter in &of_transform {
        let (stage, reason, record) = dead_letters[&letter.sequence];
        assert_eq!(
            (stage, reason),
            ("transform", letter.reason.as_str()),
            "{letter:?}"
        );
        assert!(letter.stream.starts_with("raw@"), "{letter:?}");
        assert_eq!(letter.length, record.len() as i64, "{letter:?}");
        assert_eq!(
            letter.payload, None,
            "an unscanned payload is in a dead letter"
        );
        // The raw stream still gives the record to every user who may read it.
        let (shard, at) = (letter.shard.as_str(), letter.sequence.to_string());
        let got = place.run("hydrant", &["stream", "get", "local:raw", shard, &at]);
        assert_eq!(got.code, Some(0), "{got:?}");
    }
    // The sink's dead letters hold its input, in order.
    let wanted = dead_letters.values().filter(|(stage, ..)| *stage == "sink");
    let wanted: Vec<(&str, &[u8])> = wanted
        .map(|(_, reason, bytes)| (*reason, bytes.as_slice()))
        .collect();
    let got = of_sink.iter().map(|letter| {
        assert!(letter.stream.starts_with("clean@"), "{letter:?}");
        (
            letter.reason.as_str(),
            letter.payload.as_deref().expect("a scanned payload"),
        )
    });
    assert_eq!(got.collect::<Vec<_>>(), wanted);
    assert_eq!(of_transform.len() + of_sink.len(), dead_letters.len());

    let verified = place.sound("file:lake");
    assert_eq!(verified["input"], sequence, "{verified}");
    assert_eq!(verified["rows"], rows.len(), "{verified}");
    assert_eq!(verified["dead_letters"], dead_letters.len(), "{verified}");
    assert_eq!(verified["origins"][0]["input"], sequence, "{verified}");
    for answer in [&sent, &transformed, &landed] {
        assert!(!answer.err.contains(MARK), "{}", answer.err);
        assert!(!answer.out.contains(MARK), "{}", answer.out);
    }
    for letter in &found {
        assert!(!letter.detail.contains(MARK), "{letter:?}");
    }
}

/// An object is a row whatever it holds, also in a table without columns.
#[test]
fn an_object_without_values_is_a_row() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.put("local:raw", &["{}"]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    place.put("local:raw", &[r#"{"n":1}"#, "{}"]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let verified = place.sound("file:lake");
    assert_eq!(
        (&verified["rows"], &verified["dead_letters"]),
        (&3.into(), &0.into())
    );
}

/// What no column takes is in `_rescued` or, where the table says so, in a dead letter with the reason.
#[test]
fn a_value_that_no_column_takes_is_rescued_or_a_dead_letter() {
    let odd = [
        (r#"{"":1}"#, "bad_key"),
        (r#"{"N":1}"#, "key_case_conflict"),
        (
            r#"{"n":123456789012345678901234567890}"#,
            "integer_overflow",
        ),
        (r#"{"x":1e999}"#, "number_out_of_range"),
        (r#"{"n":"text"}"#, "type_conflict"),
        (r#"{"Date":[{"a": 1}]}"#, "reserved_column"),
        (r#"{"_rescued":{}}"#, "reserved_column"),
    ];
    for (setting, rescues) in [("rescue", true), ("dead-letter", false)] {
        let place = TestDir::new();
        place.create("local:raw", 1);
        place.put("local:raw", &[r#"{"n":1}"#]);
        place.sink("local:raw", "file:lake").expect(0, &[]);
        let records: Vec<&str> = odd.iter().map(|(record, _)| *record).collect();
        place.put("local:raw", &records);
        place.write(
            "hydrant.toml",
            format!("[sink]\non-conflict = \"{setting}\"\n"),
        );
        let sink = ["--from", "local:raw", "--to", "file:lake", "--exit-at-end"];
        place
            .run(
                "hydrant-sink",
                &[&sink[..], &["--config", "hydrant.toml"]].concat(),
            )
            .expect(0, &[]);
        let dead_letters = place.dead_letters("lake");
        let rescued = place.rescued("lake");
        if rescues {
            let records = records.iter().map(|record| record.replace(": ", ":"));
            assert_eq!(rescued, records.collect::<Vec<_>>());
            assert_eq!(dead_letters.len(), 0);
        } else {
            assert_eq!(rescued.len(), 0);
            let found = dead_letters.iter().map(|letter| letter.reason.as_str());
            let wanted = odd.iter().map(|(_, reason)| *reason);
            assert!(found.eq(wanted), "{dead_letters:?}");
        }
        place.sound("file:lake");
    }
}

/// Personal data in a key is replaced before a reader can see it, also in a record that cannot be read.
#[test]
fn a_key_with_personal_data_does_not_reach_the_letter_of_its_record() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.write(
        "in.ndjson",
        "{\"device_id\":\"rawmark@example.com\",\"n\":1}\n{\"device_id\":\"rawmark@example.com\",\"n\":1,\"n\":2}\n",
    );
    place
        .run(
            "hydrant-producer",
            &[
                "--to",
                "local:raw",
                "--input",
                "in.ndjson",
                "--key",
                "device_id",
            ],
        )
        .expect(0, &[]);
    let transformed = place.transform("local:raw", "local:clean").expect(0, &[]);
    let landed = place.sink("local:clean", "file:lake").expect(0, &[]);
    assert_eq!(place.integers("lake", "n"), [1]);
    let dead_letters = place.dead_letters("lake");
    assert_eq!(dead_letters.len(), 1, "{dead_letters:?}");
    assert_eq!(dead_letters[0].reason, "duplicate_key");
    let payload = String::from_utf8_lossy(dead_letters[0].payload.as_deref().expect("a payload"));
    assert!(payload.contains("[EMAIL]"), "{payload}");
    for text in [&transformed.err, &landed.err, &*payload] {
        assert!(!text.contains("rawmark"), "{text}");
    }
    for file in crate::lake::files(&place.path("lake")) {
        let bytes = std::fs::read(&file).expect("the file reads");
        assert!(
            !bytes.windows(7).any(|bytes| bytes == b"rawmark"),
            "{}",
            file.display()
        );
    }
}

/// Records as deep as records may nest pass every stage and every command that reads them.
#[test]
fn the_deepest_records_become_rows() {
    let place = TestDir::new();
    let deepest = |name: &str, open: &str, close: &str| {
        let times = (DEPTH_MAX - 1) / open.matches(['[', '{']).count();
        let (open, close) = (open.repeat(times), close.repeat(times));
        format!("{{\"device_id\":\"d1\",\"{name}\":{open}1{close}}}")
    };
    let records = [
        deepest("lists", "[", "]"),
        deepest("objects", "{\"a\":", "}"),
        deepest("both", "[{\"a\":", "}]"),
    ];
    place.write("in.ndjson", records.join("\n"));
    place.create("local:raw", 1);
    let producer = [
        "--to",
        "local:raw",
        "--input",
        "in.ndjson",
        "--key",
        "device_id",
    ];
    place.run("hydrant-producer", &producer).expect(0, &[]);
    place.transform("local:raw", "local:clean").expect(0, &[]);
    place
        .sink("local:clean", "file:lake")
        .expect(0, &["\"rows\":3"]);
    place
        .run("hydrant", &["lake", "verify", "file:lake"])
        .expect(0, &[]);
    let head = place
        .run("hydrant", &["lake", "head", "file:lake"])
        .expect(0, &[]);
    assert_eq!(head.out.lines().count(), records.len(), "{head:?}");
    for (line, record) in head.out.lines().zip(&records) {
        let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
        let rescued = row.as_object_mut().unwrap().remove("_rescued").unwrap();
        let rescued: serde_json::Value = serde_json::from_str(rescued.as_str().unwrap()).unwrap();
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        assert_eq!(row["device_id"], record["device_id"]);
        for (name, value) in rescued.as_object().unwrap() {
            assert_eq!(
                *value, record[name],
                "readers take no column as deep as this"
            );
        }
    }
}
