//! The kill test: producer, two transforms and two sinks as processes on eight shards, `kill -9` again and again while
//! both streams are split and merged. The oracle reads Parquet and dead letters only.
//!
//! Short by default. The long run:
//! `HYDRANT_KILL_RECORDS=2000000 HYDRANT_KILL_SECONDS=60 cargo test --release --workspace kill_test -- --nocapture`

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use hydrant_producer::simulate::{Fleet, FleetSpec};
use serde_json::Value;

use crate::lake::{self, Row};
use crate::process::{Running, run};

const SHARDS: usize = 8;
pub(crate) const SEED: u64 = 7;
pub(crate) const DEVICES: u64 = 1_000;

/// A process that is killed and started again.
struct Role {
    kind: &'static str,
    binary: &'static str,
    log: String,
    args: Vec<String>,
    process: Running,
    finished: bool,
}

impl Role {
    fn start(
        kind: &'static str,
        binary: &'static str,
        n: usize,
        dir: &Path,
        args: &[&str],
    ) -> Self {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let log = format!("{kind}-{n}.log");
        let process = Running::start(binary, dir, &args, &log);
        Role {
            kind,
            binary,
            log,
            args,
            process,
            finished: false,
        }
    }

    fn kill_and_start_again(&mut self, dir: &Path) {
        self.process.kill();
        self.process = Running::start(self.binary, dir, &self.args, &self.log);
    }
}

/// A number that the environment may set.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What `hydrant stream describe` says.
pub(crate) fn describe(dir: &Path, stream: &str) -> Value {
    let text = run("hydrant", dir, &["stream", "describe", stream, "--json"]);
    serde_json::from_str(&text).expect("JSON")
}

/// The shards of a description.
pub(crate) fn shards(described: &Value) -> Vec<&Value> {
    described["shards"]
        .as_array()
        .expect("shards")
        .iter()
        .collect()
}

/// Splits the first open shard, then merges the last two open neighbours.
fn reshard(dir: &Path, stream: &str) {
    let open = |described: &Value| -> Vec<(u128, String)> {
        let mut open: Vec<(u128, String)> = shards(described)
            .iter()
            .filter(|state| state["shard"]["closed"] == false)
            .map(|state| {
                let first = state["shard"]["range"]["first"].as_str().expect("a hash");
                let id = state["shard"]["id"].as_str().expect("an id");
                (first.parse().expect("a hash"), id.to_owned())
            })
            .collect();
        open.sort();
        open
    };
    let before = open(&describe(dir, stream));
    run("hydrant", dir, &["stream", "split", stream, &before[0].1]);
    let (a, b) = (&before[before.len() - 2].1, &before[before.len() - 1].1);
    run("hydrant", dir, &["stream", "merge", stream, a, b]);
}

#[test]
fn kill_test_loses_and_doubles_nothing() {
    let records = setting("HYDRANT_KILL_RECORDS", 150_000);
    let seconds = setting("HYDRANT_KILL_SECONDS", 18);
    let kept = std::env::var_os("HYDRANT_KILL_DIR");
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = kept.as_ref().map_or(temporary.path(), Path::new);
    for stream in ["local:raw", "local:clean"] {
        run(
            "hydrant",
            dir,
            &["stream", "create", stream, "--shards", &SHARDS.to_string()],
        );
    }
    // The producer is to live through the whole time: it is throttled to finish a little before its end.
    let rate = (records * 10 / (seconds * 9)).max(1).to_string();
    let count = records.to_string();
    let (devices, seed) = (DEVICES.to_string(), SEED.to_string());
    let producer = [
        "--to",
        "local:raw",
        "--simulate",
        &count,
        "--devices",
        &devices,
        "--seed",
        &seed,
        "--name",
        "kill",
        "--ledger",
        "ledger.json",
        "--rate",
        &rate,
        "--report",
        "report.json",
    ];
    let transform = ["--from", "local:raw", "--to", "local:clean"];
    let sink = [
        "--from",
        "local:clean",
        "--to",
        "file:lake",
        "--flush-interval",
        "1s",
    ];
    let mut roles = [
        Role::start("producer", "hydrant-producer", 1, dir, &producer),
        Role::start("transform", "hydrant-transform", 1, dir, &transform),
        Role::start("transform", "hydrant-transform", 2, dir, &transform),
        Role::start("sink", "hydrant-sink", 1, dir, &sink),
        Role::start("sink", "hydrant-sink", 2, dir, &sink),
    ];
    let mut killed: BTreeMap<&str, u32> = BTreeMap::new();
    let mut resharded = 0;
    let started = Instant::now();
    let mut turn = 0;
    // An even walk over the processes, so that a short run kills each kind often enough.
    let order = [0, 1, 3, 0, 2, 4, 0, 1, 3, 2, 4];
    while started.elapsed() < Duration::from_secs(seconds) {
        let next = started + Duration::from_secs(seconds).mul_f64(f64::from(turn + 1) / 13.0);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let role = &mut roles[order[turn as usize % order.len()]];
        if !role.finished && role.process.ended().is_none() {
            role.kill_and_start_again(dir);
            *killed.entry(role.kind).or_default() += 1;
        } else if let Some(code) = role.process.ended() {
            assert_eq!(
                code,
                Some(0),
                "{} ended by itself: see {}",
                role.kind,
                role.log
            );
            role.finished = true;
        }
        if turn % 5 == 2 {
            reshard(dir, "local:raw");
            reshard(dir, "local:clean");
            resharded += 1;
        }
        turn += 1;
    }
    eprintln!("killed {killed:?}, resharded each stream {resharded} times");
    assert!(resharded >= 2, "resharded only {resharded} times");
    for kind in ["producer", "transform", "sink"] {
        assert!(
            killed.get(kind).is_some_and(|n| *n >= 3),
            "{kind} was killed too rarely: {killed:?}"
        );
    }
    while roles[0].process.ended().is_none() {
        assert!(
            started.elapsed() < Duration::from_secs(seconds * 20 + 60),
            "the producer hangs"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        roles[0].process.ended(),
        Some(Some(0)),
        "see producer-1.log in {}",
        dir.display()
    );
    for role in &mut roles[1..] {
        assert_eq!(
            role.process.terminate(),
            Some(0),
            "{} does not drain: see {}",
            role.kind,
            role.log
        );
    }
    let finish = |binary: &str, args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--exit-at-end"]).collect();
        run(binary, dir, &args);
    };
    finish("hydrant-transform", &transform);
    finish("hydrant-sink", &sink);
    check(dir, records);
}

/// Each record is in the lake or among the dead letters, once and in order.
pub(crate) fn check(dir: &Path, records: u64) {
    let report: Value =
        serde_json::from_slice(&std::fs::read(dir.join("report.json")).expect("the report reads"))
            .expect("JSON");
    eprintln!("producer: {report}");
    let verified = run("hydrant", dir, &["lake", "verify", "file:lake", "--json"]);
    let verified: Value = serde_json::from_str(&verified).expect("JSON");
    assert_eq!(verified["ok"], true, "{verified}");

    let fleet = Fleet::try_new(&FleetSpec {
        seed: SEED,
        devices: DEVICES,
        ..FleetSpec::default()
    })
    .expect("a valid fleet");
    let mut record = Vec::new();
    let mut malformed = 0u64;
    let is_malformed: Vec<bool> = (0..records)
        .map(|index| {
            record.clear();
            let spoiled = fleet.record(index, &mut record).malformed;
            malformed += u64::from(spoiled);
            spoiled
        })
        .collect();

    let rows = lake::rows(&dir.join("lake/events"));
    let mut found = vec![0u32; records as usize];
    for row in &rows {
        let index = usize::try_from(row.index).expect("an index that was sent");
        assert!(index < found.len(), "index {index} was never sent");
        found[index] += 1;
    }
    let (mut lost, mut doubled) = (Vec::new(), Vec::new());
    for (index, count) in found.iter().enumerate() {
        match (count, is_malformed[index]) {
            (1, false) | (0, true) => {}
            (0, false) => lost.push(index),
            _ => doubled.push(index),
        }
    }
    assert!(
        lost.is_empty() && doubled.is_empty(),
        "{} lost (first {:?}), {} doubled (first {:?})",
        lost.len(),
        &lost[..lost.len().min(5)],
        doubled.len(),
        &doubled[..doubled.len().min(5)]
    );

    // Each malformed record is a dead letter, once, at its own place in the raw stream.
    let mut letters: HashMap<(String, String, i64), u32> = HashMap::new();
    let mut letters_by_shard: BTreeMap<String, u64> = BTreeMap::new();
    for path in lake::files(&dir.join("lake/_hydrant/events/dead-letters")) {
        for batch in lake::batches(&path) {
            let (shards, sequences) = (
                lake::texts(&batch, "shard"),
                lake::texts(&batch, "sequence"),
            );
            for row in 0..batch.num_rows() {
                let key = (
                    shards.value(row).to_owned(),
                    sequences.value(row).to_owned(),
                    0,
                );
                *letters.entry(key).or_default() += 1;
                *letters_by_shard
                    .entry(shards.value(row).to_owned())
                    .or_default() += 1;
            }
        }
    }
    assert!(
        letters.values().all(|count| *count == 1),
        "a dead letter is doubled"
    );
    assert_eq!(
        letters.len() as u64,
        malformed,
        "dead letters and malformed records differ"
    );

    // What each raw shard holds is in the lake's accounts, shard by shard.
    let raw = describe(dir, "local:raw");
    let mut accounted: BTreeMap<String, u64> = BTreeMap::new();
    for origin in verified["origins"].as_array().expect("origins") {
        let shard = origin["shard"].as_str().expect("a shard").to_owned();
        *accounted.entry(shard).or_default() += origin["input"].as_u64().expect("a count");
    }
    for state in shards(&raw) {
        let id = state["shard"]["id"].as_str().expect("an id");
        let stored = state["records"].as_u64().expect("a count");
        assert_eq!(
            accounted.get(id).copied().unwrap_or(0),
            stored,
            "raw shard {id}"
        );
    }
    check_order(rows, &fleet);
    eprintln!(
        "{} rows and {malformed} dead letters, each once, in order",
        records - malformed
    );
}

/// Per device `seq` rises from interval to interval along the lineage of shards, and from row to row in a file. Shards
/// are numbered in order of birth, so that their names sort along every lineage.
fn check_order(mut rows: Vec<Row>, fleet: &Fleet) {
    rows.sort();
    let mut done: HashMap<u64, i64> = HashMap::new();
    for interval in rows.chunk_by(|a, b| a.file == b.file) {
        let mut newest: HashMap<u64, i64> = HashMap::new();
        for row in interval {
            // Not by `device_id`: some hold personal data, which the transform replaced.
            let (device, seq) = fleet.device_and_seq(row.index.unsigned_abs());
            assert_eq!(row.seq.unsigned_abs(), seq, "{row:?}");
            let before = done.get(&device).copied().unwrap_or(-1);
            assert!(
                row.seq > before,
                "{row:?} of device {device} comes after seq {before}"
            );
            let newest = newest.entry(device).or_insert(-1);
            *newest = row.seq.max(*newest);
        }
        done.extend(newest);
    }
}
