//! Exactly once across restarts, draining, and resharding on the way.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use hydrant_producer::simulate::FleetSpec;
use serde_json::Value;

use crate::process::{
    RunningProducer, await_some, fails, fails_piped, ledger_index, produce, produce_piped,
};
use crate::stored::{assert_is_fleet, counts, records};

const LEDGER: &[&str] = &[
    "--to",
    "local:raw",
    "--name",
    "edge",
    "--ledger",
    "ledger.json",
];

fn with_ledger<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [LEDGER, more].concat()
}

/// Waits until the ledger is beyond `index`.
fn progress(dir: &Path, index: u64) -> u64 {
    await_some("the ledger to move on", || {
        ledger_index(&dir.join("ledger.json")).filter(|now| *now > index)
    })
}

#[test]
fn kill_dash_nine_and_restart_store_each_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let args = with_ledger(&[
        "--simulate",
        "24000",
        "--devices",
        "100",
        "--rate",
        "16000",
        "--batch-bytes",
        "8KiB",
    ]);
    let mut index = 0;
    for _ in 0..3 {
        let mut running = RunningProducer::start(dir.path(), &args);
        index = progress(dir.path(), index);
        assert!(!running.has_ended(), "it ended before it was killed");
        running.kill();
    }
    let report = produce(dir.path(), &args);
    let (accepted, stored, duplicates, next_index) = counts(&report);
    assert_eq!((accepted, next_index), (24_000 - index, 24_000));
    assert_eq!(stored + duplicates, accepted);
    assert_eq!(report["name"], "edge");
    let spec = FleetSpec {
        devices: 100,
        ..FleetSpec::default()
    };
    assert_is_fleet(&records(dir.path(), "raw"), &spec, 24_000);
    assert_eq!(counts(&produce(dir.path(), &args)), (0, 0, 0, 24_000));
}

/// Many files are noted in the ledger at once, each before its first record can be in the stream, and never of a record
/// before the stream has it.
#[test]
fn kill_dash_nine_over_many_small_files_stores_each_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("in");
    std::fs::create_dir(&files).unwrap();
    let name = |n: usize| format!("{n:03}.log");
    for n in 0..400 {
        let text = format!(
            "{{\"file\":\"{0}\",\"n\":0}}\n{{\"file\":\"{0}\",\"n\":1}}\n",
            name(n)
        );
        std::fs::write(files.join(name(n)), text).unwrap();
    }
    let args = with_ledger(&["--input", "in/*.log"]);
    let path = dir.path().join("ledger.json");
    let (mut index, mut is_ahead) = (0, false);
    for _ in 0..4 {
        let mut running = RunningProducer::start(dir.path(), &args);
        index = progress(dir.path(), index + 20);
        assert!(!running.has_ended(), "it ended before it was killed");
        running.kill();
        let mut stored: BTreeMap<String, u64> = BTreeMap::new();
        for record in records(dir.path(), "raw") {
            let record: Value = serde_json::from_slice(&record.payload).unwrap();
            let file = record["file"].as_str().unwrap();
            *stored.entry(file.to_owned()).or_default() += 1;
        }
        let ledger: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for entry in ledger["files"].as_array().unwrap() {
            let file = Path::new(entry["path"].as_str().unwrap())
                .file_name()
                .unwrap();
            let found = stored.remove(file.to_str().unwrap()).unwrap_or(0);
            assert!(found >= entry["index"].as_u64().unwrap(), "{entry}");
            is_ahead |= found == 0;
        }
        assert!(
            stored.is_empty(),
            "the ledger does not know these: {stored:?}"
        );
    }
    assert!(is_ahead, "the ledger was written for each file by itself");
    produce(dir.path(), &args);
    let mut all: Vec<Vec<u8>> = records(dir.path(), "raw")
        .into_iter()
        .map(|one| one.payload)
        .collect();
    all.sort();
    assert_eq!(all.len(), 800);
    all.dedup();
    assert_eq!(all.len(), 800);
    assert_eq!(counts(&produce(dir.path(), &args)), (0, 0, 0, 800));
}

#[test]
fn what_the_ledger_has_not_noted_is_sent_again_and_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let args = with_ledger(&["--simulate", "900", "--devices", "10"]);
    produce(dir.path(), &args);
    let path = dir.path().join("ledger.json");
    let ledger = std::fs::read_to_string(&path).unwrap();
    let older = ledger.replace("\"next_index\": 900", "\"next_index\": 250");
    assert_ne!(ledger, older);
    std::fs::write(&path, older).unwrap();
    let more = with_ledger(&["--simulate", "1000", "--devices", "10"]);
    assert_eq!(counts(&produce(dir.path(), &more)), (750, 100, 650, 1_000));
    let spec = FleetSpec {
        devices: 10,
        ..FleetSpec::default()
    };
    assert_is_fleet(&records(dir.path(), "raw"), &spec, 1_000);
}

#[test]
fn a_file_that_grows_continues_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.ndjson");
    std::fs::write(&path, "{\"n\":0}\n\n{\"n\":1}\n").unwrap();
    let args = with_ledger(&["--input", "in.ndjson"]);
    assert_eq!(counts(&produce(dir.path(), &args)), (2, 2, 0, 3));
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"{\"n\":2}\n").unwrap();
    assert_eq!(counts(&produce(dir.path(), &args)), (1, 1, 0, 4));
    assert_eq!(records(dir.path(), "raw").len(), 3);
}

#[test]
fn lines_piped_again_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let args = with_ledger(&["--input", "-"]);
    assert_eq!(
        counts(&produce_piped(dir.path(), &args, b"1\n2\n")),
        (2, 2, 0, 2)
    );
    assert_eq!(
        counts(&produce_piped(dir.path(), &args, b"1\n2\n3\n")),
        (1, 1, 0, 3)
    );
    assert_eq!(
        counts(&produce_piped(dir.path(), &args, b"1\n2\n3\n{\"cut\":")),
        (0, 0, 0, 3)
    );
    for other in [&b"1\n3\n3\n4\n"[..], b"1\n2\n"] {
        let said = fails_piped(dir.path(), &args, other, 64);
        assert!(
            said.contains("does not begin with the lines that its ledger records (lines: 3)"),
            "{said}"
        );
    }
    assert_eq!(records(dir.path(), "raw").len(), 3);
}

#[test]
fn another_ledger_of_the_same_name_is_never_taken_for_a_repetition() {
    let dir = tempfile::tempdir().unwrap();
    produce_piped(
        dir.path(),
        &with_ledger(&["--input", "-"]),
        b"head\nmonday\n",
    );
    std::fs::remove_file(dir.path().join("ledger.json")).unwrap();
    let report = produce_piped(
        dir.path(),
        &with_ledger(&["--input", "-"]),
        b"head\ntuesday\n",
    );
    assert_eq!(counts(&report), (2, 2, 0, 2));
    assert_eq!(records(dir.path(), "raw").len(), 4);
}

#[test]
fn a_signal_drains_an_endless_fleet_and_a_silent_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let args = with_ledger(&["--simulate", "0", "--devices", "20", "--rate", "4000"]);
    let running = RunningProducer::start(dir.path(), &args);
    progress(dir.path(), 0);
    let second = fails(dir.path(), &args, 64);
    assert!(second.contains("another producer"), "{second}");
    let report = running.terminate();
    let (accepted, stored, _, next_index) = counts(&report);
    assert_eq!((accepted, accepted), (stored, next_index));
    assert_eq!(report["ended"], "drained");
    assert_eq!(
        ledger_index(&dir.path().join("ledger.json")),
        Some(next_index)
    );
    let spec = FleetSpec {
        devices: 20,
        ..FleetSpec::default()
    };
    assert_is_fleet(&records(dir.path(), "raw"), &spec, next_index);

    let silent = RunningProducer::start(dir.path(), &["--to", "local:pipe", "--input", "-"]);
    await_some("the stream to be made", || {
        dir.path().join("pipe/manifest.json").exists().then_some(())
    });
    assert_eq!(counts(&silent.terminate()), (0, 0, 0, 0));
}
