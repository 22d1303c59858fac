//! Every input reaches the stream whole.

use std::collections::BTreeMap;
use std::io::Write;

use hydrant_core::clock::{Clock, SystemClock};
use hydrant_producer::simulate::FleetSpec;

use crate::process::{RunningProducer, await_some, fails, produce, produce_piped, produce_saying};
use crate::stored::{StreamRecord, assert_is_fleet, block_on, counts, open, records};

#[test]
fn simulated_records_are_stored_as_the_simulator_makes_them() {
    let dir = tempfile::tempdir().unwrap();
    let before = SystemClock.wall_micros();
    let report = produce(
        dir.path(),
        &[
            "--to",
            "local:raw",
            "--simulate",
            "4000",
            "--devices",
            "37",
            "--seed",
            "5",
            "--malformed",
            "0.05",
            "--shards",
            "3",
            "--batch-bytes",
            "16KiB",
            "--report",
            "report.json",
        ],
    );
    let spec = FleetSpec {
        devices: 37,
        seed: 5,
        malformed_share: 0.05,
        ..FleetSpec::default()
    };
    let stored = records(dir.path(), "raw");
    assert_is_fleet(&stored, &spec, 4_000);
    assert!(stored.iter().all(|one| one.stamp >= before));
    assert_eq!(counts(&report), (4_000, 4_000, 0, 4_000));

    let bytes: usize = stored
        .iter()
        .map(|one| one.payload.len() + one.key.as_ref().unwrap().len())
        .sum();
    assert_eq!(report["bytes"], bytes);
    for (member, value) in [("url", "local:raw"), ("ended", "input")] {
        assert_eq!(report[member], value);
    }
    assert!(report["stream"].as_str().unwrap().starts_with("raw@"));
    assert!(report["name"].is_null());
    assert_eq!(report["keyless"], 0);
    assert_eq!(report["refused"], serde_json::json!({}));
    for member in ["seconds", "records_per_second", "megabytes_per_second"] {
        assert!(report[member].as_f64().unwrap() > 0.0, "{member}");
    }
    let latency = &report["latency_ms"];
    let quantiles: Vec<f64> = ["p50", "p90", "p99", "p999", "max"]
        .iter()
        .map(|name| latency[name].as_f64().unwrap())
        .collect();
    assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{quantiles:?}");
    let file = std::fs::read(dir.path().join("report.json")).unwrap();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&file).unwrap(),
        report
    );
    let shards = block_on(async {
        let stream = open(dir.path(), "raw").await;
        stream.shards().await.unwrap().open().count()
    });
    assert_eq!(shards, 3);
}

/// Lines, some without the key's field, some no JSON.
fn lines() -> Vec<String> {
    (0..2_500)
        .map(|n| match n % 50 {
            7 => format!("no json {n}"),
            8 => format!("{{\"other\":{n}}}"),
            _ => format!("{{\"n\":{n},\"device\":{{\"id\":\"d{}\"}}}}", n % 9),
        })
        .collect()
}

fn payloads<'a>(stored: impl IntoIterator<Item = &'a StreamRecord>) -> Vec<String> {
    stored
        .into_iter()
        .map(|one| String::from_utf8(one.payload.clone()).unwrap())
        .collect()
}

#[test]
fn a_compressed_file_is_stored_with_its_keys_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let lines = lines();
    let file = std::fs::File::create(dir.path().join("in.ndjson.gz")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gzip.write_all(lines.join("\r\n").as_bytes()).unwrap();
    gzip.finish().unwrap();
    let input = ["--input", "in.ndjson.gz", "--key", "device.id"];
    let report = produce(dir.path(), &[&["--to", "local:raw"][..], &input].concat());
    assert_eq!(counts(&report), (2_500, 2_500, 0, 2_500));
    assert_eq!(report["keyless"], 100);

    let stored = records(dir.path(), "raw");
    let mut by_key: BTreeMap<Option<String>, Vec<&StreamRecord>> = BTreeMap::new();
    for one in &stored {
        by_key.entry(one.key.clone()).or_default().push(one);
    }
    assert_eq!(by_key.len(), 10);
    for (key, found) in by_key {
        let mut found = payloads(found);
        let wanted = lines.iter().enumerate().filter(|(n, _)| {
            let has_key = n % 50 != 7 && n % 50 != 8;
            key == has_key.then(|| format!("d{}", n % 9))
        });
        let mut wanted: Vec<String> = wanted.map(|(_, line)| line.clone()).collect();
        if key.is_none() {
            // Records without key are spread over the shards.
            found.sort();
            wanted.sort();
        }
        assert_eq!(found, wanted, "{key:?}");
    }
}

#[test]
fn without_key_lines_are_spread_over_all_shards() {
    let dir = tempfile::tempdir().unwrap();
    let lines = lines();
    std::fs::write(dir.path().join("in"), lines.join("\n")).unwrap();
    let report = produce(dir.path(), &["--to", "local:raw", "--input", "in"]);
    assert_eq!(counts(&report), (2_500, 2_500, 0, 2_500));
    assert_eq!(report["keyless"], 2_500);
    let stored = records(dir.path(), "raw");
    assert!(stored.iter().all(|one| one.key.is_none()));
    let (mut found, mut wanted) = (payloads(&stored), lines);
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    let states = block_on(async { open(dir.path(), "raw").await.states().await.unwrap() });
    for state in states {
        assert!(state.records.unwrap() > 400, "{state:?}");
    }
}

#[test]
fn standard_input_is_stored_and_a_slow_pipe_does_not_wait_for_a_full_batch() {
    let dir = tempfile::tempdir().unwrap();
    let input = ["--to", "local:raw", "--input", "-", "--key", "k"];
    let report = produce_piped(dir.path(), &input, b"{\"k\":\"a\"}\n\n{\"k\":\"b\"}");
    assert_eq!(counts(&report), (2, 2, 0, 3));
    assert_eq!(records(dir.path(), "raw").len(), 2);

    let mut running = RunningProducer::start(dir.path(), &input);
    running.write(b"{\"k\":\"c\"}\n{\"k\":");
    await_some("a record from an open pipe", || {
        (records(dir.path(), "raw").len() == 3).then_some(())
    });
    running.write(b"\"d\"}\n");
    assert_eq!(counts(&running.finish()), (2, 2, 0, 2));
    let keys: Vec<_> = records(dir.path(), "raw")
        .into_iter()
        .map(|one| one.key)
        .collect();
    assert_eq!(keys.len(), 4);
}

#[test]
fn nothing_is_an_input_too() {
    let dir = tempfile::tempdir().unwrap();
    let report = produce_piped(dir.path(), &["--to", "local:raw", "--input", "-"], b"");
    assert_eq!(counts(&report), (0, 0, 0, 0));
    assert_eq!(report["latency_ms"]["max"], 0.0);
}

#[test]
fn lines_before_a_damaged_place_are_stored_and_the_producer_fails() {
    let dir = tempfile::tempdir().unwrap();
    let text: Vec<u8> = (0..60_000u64)
        .flat_map(|n| format!("{{\"n\":{}}}\n", n * 7_919 % 100_003).into_bytes())
        .collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    let whole = gzip.finish().unwrap();
    std::fs::write(dir.path().join("in.gz"), &whole[..whole.len() / 2]).unwrap();
    let said = fails(dir.path(), &["--to", "local:raw", "--input", "in.gz"], 1);
    let stored = records(dir.path(), "raw").len();
    assert!(stored > 1_000 && stored < 60_000, "{stored}");
    assert!(said.contains(&format!("in line {}", stored + 1)), "{said}");
}

#[test]
fn a_rate_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let report = produce(
        dir.path(),
        &[
            "--to",
            "local:raw",
            "--simulate",
            "301",
            "--rate",
            "1000",
            "--seed",
            "2",
        ],
    );
    assert_eq!(counts(&report), (301, 301, 0, 301));
    // The last record is due after 0.3 s; nothing is sent before it is due.
    assert!(report["seconds"].as_f64().unwrap() >= 0.3, "{report}");
    let spec = FleetSpec {
        seed: 2,
        ..FleetSpec::default()
    };
    assert_is_fleet(&records(dir.path(), "raw"), &spec, 301);
}

#[test]
fn each_input_that_fails_is_said_once_and_the_last_one_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("a.json", &b"{\"n\":1}\n"[..]),
        ("b.bz2", b"BZh91AY"),
        ("c.xz", b"\xFD7zXZ\0"),
    ] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let to = ["--to", "local:raw"];
    for (inputs, code, reported, end) in [
        (
            &["b.bz2"][..],
            64,
            &["b.bz2"][..],
            "b.bz2` looks like bzip2",
        ),
        (
            &["a.json", "b.bz2"],
            1,
            &["b.bz2"],
            "b.bz2` looks like bzip2",
        ),
        (
            &["b.bz2", "a.json"],
            1,
            &["b.bz2"],
            "one input was not read",
        ),
        (
            &["b.bz2", "c.xz"],
            64,
            &["b.bz2", "c.xz"],
            "2 inputs were not read",
        ),
        (&["*"], 1, &["b.bz2", "c.xz"], "2 inputs were not read"),
    ] {
        let inputs: Vec<&str> = inputs.iter().flat_map(|input| ["--input", input]).collect();
        let said = fails(dir.path(), &[&to[..], &inputs].concat(), code);
        let said = said.trim_end();
        let (before, last) = said.rsplit_once('\n').unwrap_or(("", said));
        for (n, name) in reported.iter().enumerate() {
            let words = format!("{name}` looks like");
            let is_last = n + 1 == reported.len();
            assert_eq!(last.matches(&words).count(), usize::from(is_last), "{said}");
            let logged = before.matches(&words).count();
            assert!(logged == 1 || is_last && logged == 0, "{said}");
        }
        assert!(
            last.starts_with("error: ") && last.contains(end),
            "{end}: {said}"
        );
    }
}

/// Who sends a log of plain text learns at once what becomes of it in a lake, and not of each file again.
#[test]
fn an_input_that_holds_no_json_objects_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("a.log", "127.0.0.1 - - \"GET / HTTP/1.1\" 200\n");
    write("b.log", "plain\n[1]\n");
    write("c.log", "# a header\n{\"a\":1}\n");
    let count = |input: &str| {
        let args = ["--to", "local:raw", "--input", input];
        let said = produce_saying(dir.path(), &args).1;
        said.matches("does not begin with JSON objects").count()
    };
    assert_eq!((count("a.log"), count("?.log"), count("c.log")), (1, 1, 0));
}
