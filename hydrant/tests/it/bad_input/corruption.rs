//! A segment with a corrupt byte.

use std::fs;
use std::path::PathBuf;

use crate::test_dir::TestDir;

const SHARDS: u32 = 2;
const RECORDS: u64 = 1_200;
const RUNS: u64 = 8;

/// A stream with a flipped bit in the middle of a closed segment of its first shard.
fn damaged() -> (TestDir, PathBuf, Vec<u8>) {
    let place = TestDir::new();
    place.create_small("local:raw", SHARDS);
    // Each run appends most of a segment.
    for seed in 0..RUNS {
        place.simulate("local:raw", RECORDS / RUNS, seed);
    }
    let entries =
        fs::read_dir(place.home("raw").join("shards/000000")).expect("the shard's directory");
    let mut segments: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the directory reads").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    assert!(segments.len() > 3, "{segments:?}");
    let segment = segments.swap_remove(1);
    let intact = fs::read(&segment).expect("the segment reads");
    let mut bytes = intact.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&segment, bytes).expect("the segment can be written");
    (place, segment, intact)
}

#[test]
fn readers_name_file_and_byte_and_other_shards_continue() {
    let (place, segment, intact) = damaged();
    let file = segment
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let words = [
        "corrupt data in",
        file.as_str(),
        "at byte",
        "hydrant stream repair",
    ];
    let stored = place.stored("local:raw");
    for _ in 0..2 {
        let answer = place.sink("local:raw", "file:lake").expect(1, &words);
        let told = "the next start reads all other records again";
        assert!(answer.err.contains(told), "{}", answer.err);
        let reports = answer.err.matches("corrupt data in").count();
        assert_eq!(reports, 2, "when it happens and at the end: {}", answer.err);
        let last = answer.err.lines().next_back().expect("a last line");
        assert!(last.contains("corrupt data in"), "{last}");
        let silent = ["--from", "local:raw", "--exit-at-end", "--log-level", "off"];
        let answer = place.run("hydrant-consumer", &silent).expect(1, &words);
        assert_eq!(answer.err.matches("corrupt data in").count(), 1);
    }
    let verified = place.sound("file:lake");
    let chains = verified["chains"].as_array().expect("chains");
    let rows = |shard: &str| {
        let chain = chains.iter().find(|chain| chain["shard"] == shard);
        chain.map_or(0, |chain| chain["rows"].as_u64().expect("rows"))
    };
    assert_eq!(rows("000001"), stored[1], "{verified}");
    assert!(rows("000000") > 0, "what lies before is read: {verified}");
    assert!(rows("000000") < stored[0], "{verified}");
    place
        .run(
            "hydrant-consumer",
            &["--from", "local:raw", "--exit-at-end", "--idle", "50ms"],
        )
        .expect(1, &words);
    // With the file restored, nothing is missing.
    fs::write(&segment, intact).expect("the segment can be written");
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let verified = place.sound("file:lake");
    assert_eq!(verified["rows"], RECORDS, "{verified}");
    assert_eq!(verified["warnings"], serde_json::json!([]), "{verified}");
}

#[test]
fn tail_prints_what_can_be_read_and_names_the_corrupt_shard() {
    let (place, segment, _) = damaged();
    let file = segment.file_name().expect("a name").to_string_lossy();
    let words = [
        "skipping the rest of the corrupt shard",
        "shard=000000",
        &*file,
        "at byte",
        "hydrant stream repair",
    ];
    let before = place.stored("local:raw");
    // Children of a corrupt shard are read as well.
    place
        .run("hydrant", &["stream", "split", "local:raw", "000000"])
        .expect(0, &[]);
    place.simulate("local:raw", 200, 9);
    let stored = place.stored("local:raw");
    for start in ["earliest", "2001-01-01T00:00:00Z"] {
        let args = [
            "stream",
            "tail",
            "local:raw",
            "--start",
            start,
            "--exit-at-end",
        ];
        let tail = place.run("hydrant", &args);
        let out = tail.out.clone();
        tail.expect(1, &words);
        let printed = |shard: &str| {
            let shard = format!("\"shard\":\"{shard}\",\"sequence\"");
            out.lines().filter(|line| line.contains(&shard)).count() as u64
        };
        let found = ["000000", "000001", "000002", "000003"].map(printed);
        assert!(found[0] > 0 && found[0] < before[0], "{found:?}");
        assert_eq!(found[1..], stored[1..], "{start}");
    }
}

/// A run without end stalls at the shard and continues once the shard is repaired.
#[test]
fn a_repair_makes_a_gap_that_the_lake_records() {
    let (place, segment, _) = damaged();
    let stored = place.stored("local:raw");
    let mut sink = place.start(
        "hydrant-sink",
        &[
            "--from",
            "local:raw",
            "--to",
            "file:lake",
            "--flush-interval",
            "50ms",
        ],
        "sink.log",
    );
    place.wait_until("the shard is stalled", || {
        place.read("sink.log").contains("the shard is stalled")
    });
    // The other shard continues, also with records that arrive later.
    place.simulate("local:raw", 200, 9);
    let came = place.stored("local:raw")[1];
    assert!(came > stored[1], "the shard got none of them");
    place.wait_until("the rows of the other shard", || {
        let found = place.verify("file:lake").json();
        found["chains"].as_array().is_some_and(|chains| {
            let mut chains = chains.iter();
            chains.any(|chain| chain["shard"] == "000001" && chain["rows"] == came)
        })
    });
    assert_eq!(sink.ended(), None, "{}", place.logs());
    assert_eq!(
        sink.terminate(),
        Some(1),
        "the sink reports the corrupt shard"
    );

    place
        .run("hydrant", &["stream", "repair", "local:raw", "000000"])
        .expect(64, &["--skip"]);
    let repair = [
        "stream",
        "repair",
        "local:raw",
        "000000",
        "--skip",
        "--json",
    ];
    place.run("hydrant", &repair).expect(0, &[]);
    place.run("hydrant", &repair).expect(0, &[]);
    place
        .sink("local:raw", "file:lake")
        .expect(0, &["the stream no longer has these records"]);
    let verified = place.sound("file:lake");
    let rows = verified["rows"].as_u64().expect("rows");
    let warnings = verified["warnings"].as_array().expect("warnings");
    let gaps: Vec<_> = warnings
        .iter()
        .filter(|warning| warning["kind"] == "gap")
        .collect();
    assert_eq!(gaps.len(), 1, "{verified}");
    place
        .run("hydrant", &["lake", "verify", "file:lake"])
        .expect(
            0,
            &["sound, but records were removed from the stream before they were read, in 1 gap"],
        );
    let detail = gaps[0]["detail"].as_str().expect("a detail");
    let file = segment.file_name().expect("a name").to_string_lossy();
    assert!(
        detail.contains(&*file) && detail.contains("were lost"),
        "{detail}"
    );
    // Exactly the records of the gap are missing: `the records in (479, 497] were lost ...`.
    let (from, rest) = detail
        .strip_prefix("the records in (")
        .and_then(|rest| rest.split_once(", "))
        .expect("an interval");
    let to = rest.split_once(']').expect("an interval").0;
    let number = |text: &str| text.parse::<u64>().expect("a position");
    assert_eq!(
        rows + number(to) - number(from),
        RECORDS + 200,
        "{verified}"
    );
}

#[test]
fn garbage_in_the_manifest_is_refused_by_name() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    let manifest = place.read("raw/manifest.json");
    for (content, word) in [
        ("garbage".to_owned(), "manifest.json"),
        (manifest.replace("\"format\": ", "\"format\": 99"), "99"),
    ] {
        place.write("raw/manifest.json", &content);
        {
            let args = &["--from", "local:raw", "--to", "file:lake", "--exit-at-end"][..];
            let sink = place.run("hydrant-sink", args);
            assert!(matches!(sink.code, Some(1 | 64)), "{sink:?}");
            assert!(sink.err.contains(word), "{sink:?}");
        }
        let producer = place.run(
            "hydrant-producer",
            &["--to", "local:raw", "--simulate", "1"],
        );
        assert!(matches!(producer.code, Some(1 | 64)), "{producer:?}");
        assert!(producer.err.contains(word), "{producer:?}");
        assert_eq!(place.read("raw/manifest.json"), content);
    }
}
