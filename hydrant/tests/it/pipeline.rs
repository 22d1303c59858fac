//! The pipeline as processes: a producer with a ledger, two transforms and two sinks on eight shards. The tests decide
//! what happens to them; the oracle reads only the Parquet files and dead letters that they leave.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hydrant_core::Context;
use hydrant_core::lease::Lease;
use hydrant_core::stream::{Assignment, Join};
use hydrant_producer::simulate::{Fleet, FleetSpec};
use hydrant_stream::Streams;
use serde_json::Value;

use crate::lake::{self, TableRow};
use crate::process::{Running, run};

const SHARDS: &str = "8";
const SEED: u64 = 7;
const DEVICES: u64 = 1_000;

const TRANSFORM: [&str; 4] = ["--from", "local:raw", "--to", "local:clean"];
const SINK: [&str; 8] = [
    "--from",
    "local:clean",
    "--to",
    "file:lake",
    "--flush-interval",
    "1s",
    "--config",
    "hydrant.toml",
];

/// Times are real ones, keys are data, and no message fits its column.
const CONFIG: &str = "[sink.columns]\nevent_time = \"TIMESTAMP\"\nmessage = \"BIGINT\"\n\
                      notify = \"MAP(VARCHAR, BOOLEAN)\"\n";

/// A process and how it was started.
pub(crate) struct PipelineProcess {
    binary: &'static str,
    log: String,
    dir: PathBuf,
    args: Vec<String>,
    pub(crate) process: Running,
}

impl PipelineProcess {
    fn start(binary: &'static str, n: usize, dir: &Path, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let log = format!("{binary}-{n}.log");
        PipelineProcess {
            process: Running::start(binary, dir, &args, &log),
            binary,
            log,
            dir: dir.to_owned(),
            args,
        }
    }

    pub(crate) fn binary(&self) -> &'static str {
        self.binary
    }

    pub(crate) fn kill_and_start_again(&mut self) {
        self.process.kill();
        self.process = Running::start(self.binary, &self.dir, &self.args, &self.log);
    }

    /// Fails the test unless the exit code is 0.
    #[track_caller]
    pub(crate) fn assert_ended_well(&self, code: Option<i32>) {
        let log = self.dir.join(&self.log);
        assert_eq!(code, Some(0), "see {}", log.display());
    }
}

/// The name of the transform or sink number `n`, from 1 on. In the rows of leases a draw follows it.
pub(crate) fn worker_name(n: usize) -> String {
    format!("number-{n}")
}

/// All processes of the pipeline.
pub(crate) struct ProcessPipeline {
    dir: PathBuf,
    records: u64,
    pub(crate) producer: PipelineProcess,
    pub(crate) transforms: [PipelineProcess; 2],
    pub(crate) sinks: [PipelineProcess; 2],
}

impl ProcessPipeline {
    /// Starts all processes in a directory; the producer sends `rate` records per second.
    pub(crate) fn start(dir: &Path, records: u64, rate: u64) -> Self {
        for stream in ["local:raw", "local:clean"] {
            let create = ["stream", "create", stream, "--shards", SHARDS];
            run("hydrant", dir, &create);
        }
        std::fs::write(dir.join("hydrant.toml"), CONFIG).expect("the configuration is written");
        let texts = [records, DEVICES, SEED, rate].map(|number| number.to_string());
        let [sent, devices, seed, rate] = &texts;
        let producer = [
            "--to",
            "local:raw",
            "--simulate",
            sent,
            "--devices",
            devices,
            "--seed",
            seed,
            "--name",
            "fleet",
            "--ledger",
            "ledger.json",
            "--rate",
            rate,
            "--report",
            "report.json",
        ];
        let worker = |binary, n, args: &[&str]| {
            let name = worker_name(n);
            let args = [args, &["--worker-name", &name]].concat();
            PipelineProcess::start(binary, n, dir, &args)
        };
        let transform = |n| worker("hydrant-transform", n, &TRANSFORM);
        let sink = |n| worker("hydrant-sink", n, &SINK);
        ProcessPipeline {
            dir: dir.to_owned(),
            records,
            producer: PipelineProcess::start("hydrant-producer", 1, dir, &producer),
            transforms: [transform(1), transform(2)],
            sinks: [sink(1), sink(2)],
        }
    }

    /// Waits for the end of the producer, drains the others, carries the rest to the lake, and checks every record:
    /// each is in the lake or among the dead letters, once and in order.
    pub(crate) fn end(mut self, producer_has: Duration) {
        let deadline = Instant::now() + producer_has;
        let mut code = None;
        until(deadline, "the end of the producer", || {
            code = self.producer.process.ended();
            code.is_some()
        });
        self.producer.assert_ended_well(code.flatten());
        for worker in self.transforms.iter_mut().chain(&mut self.sinks) {
            let code = worker.process.terminate();
            worker.assert_ended_well(code);
        }
        for worker in [&self.transforms[0], &self.sinks[0]] {
            let args = worker.args.iter().map(String::as_str);
            let args: Vec<&str> = args.chain(["--exit-at-end"]).collect();
            run(worker.binary, &self.dir, &args);
        }
        check(&self.dir, self.records);
    }
}

/// The output of `hydrant stream describe`.
pub(crate) fn describe(dir: &Path, stream: &str) -> Value {
    let text = run("hydrant", dir, &["stream", "describe", stream, "--json"]);
    serde_json::from_str(&text).expect("JSON")
}

/// The shards of a description.
pub(crate) fn shards(described: &Value) -> Vec<&Value> {
    let shards = described["shards"].as_array();
    shards.expect("shards").iter().collect()
}

/// The number of records of a stream.
pub(crate) fn records(dir: &Path, stream: &str) -> u64 {
    let described = describe(dir, stream);
    let counts = shards(&described).into_iter();
    let counts = counts.map(|state| state["records"].as_u64());
    counts.map(|count| count.expect("a count")).sum()
}

/// The lease rows of an app.
pub(crate) fn leases(dir: &Path, stream: &str, app: &str) -> Vec<Lease> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let context = Context::system(1 << 20).expect("a context");
        let url = format!("local:{}", dir.join(stream).display());
        let stream = Streams::default().open(&url, &context).await;
        let join = Join::new(app, "test", &context.budget);
        match stream.expect("the stream opens").assignment(&join).await {
            Ok(Assignment::Leases(leases)) => leases.list().await.expect("the leases"),
            _ => panic!("no leases"),
        }
    })
}

/// Waits until `reached`.
pub(crate) fn until(deadline: Instant, what: &str, mut reached: impl FnMut() -> bool) {
    while !reached() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The files below a directory of the lake, and those that a test took away from there and stored below `taken`.
fn files(dir: &Path, below: &str) -> Vec<PathBuf> {
    let tops = ["lake", "taken"].into_iter();
    tops.flat_map(|top| lake::files(&dir.join(top).join(below)))
        .collect()
}

/// Checks that each record is in the lake or among the dead letters, once and in order. What was taken away counts where it
/// was, and must be counted as expired.
fn check(dir: &Path, records: u64) {
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

    let mut rows = lake::rows(&dir.join("lake/events"));
    let taken = lake::rows(&dir.join("taken/events"));
    assert_eq!(verified["expired"]["rows"], taken.len(), "{verified}");
    assert_eq!(verified["lost"]["files"], 0, "{verified}");
    rows.extend(taken);
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

    // Each malformed record is a dead letter, once, at its position in the raw stream.
    let mut dead_letters: HashMap<(String, String, i64), u32> = HashMap::new();
    let mut letters_by_shard: BTreeMap<String, u64> = BTreeMap::new();
    for path in files(dir, "_hydrant/events/dead-letters") {
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
                *dead_letters.entry(key).or_default() += 1;
                *letters_by_shard
                    .entry(shards.value(row).to_owned())
                    .or_default() += 1;
            }
        }
    }
    assert!(
        dead_letters.values().all(|count| *count == 1),
        "a dead letter is doubled"
    );
    assert_eq!(
        dead_letters.len() as u64,
        malformed,
        "dead letters and malformed records differ"
    );

    // The lake accounts for the records of each raw shard.
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
    check_rescued(dir);
    check_order(rows, &fleet);
    eprintln!(
        "{} rows and {malformed} dead letters, each once, in order",
        records - malformed
    );
}

/// Checks that what no column took is in the rows and counted once, and that declared times and maps are in the files.
fn check_rescued(dir: &Path) {
    let mut rescued = 0;
    for path in files(dir, "events") {
        for batch in lake::batches(&path) {
            let texts = lake::texts(&batch, "_rescued");
            rescued += texts.iter().flatten().count() as u64;
            let text = |name: &str| {
                batch
                    .column_by_name(name)
                    .map(|column| column.data_type().to_string())
            };
            let kind = text("event_time").expect("a declared column is in every file");
            assert!(kind.starts_with("Timestamp"), "{kind}");
            let kind = text("notify").unwrap_or("Map".to_owned());
            assert!(kind.starts_with("Map"), "{kind}");
        }
    }
    let stats = run("hydrant", dir, &["lake", "stats", "file:lake", "--json"]);
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    let counts = stats["rescued"].as_array().expect("counts");
    let counted: u64 = counts
        .iter()
        .filter_map(|count| count["values"].as_u64())
        .sum();
    assert!(
        counts.iter().all(|count| count["path"] == "message"),
        "{counts:?}"
    );
    assert_eq!(
        counted, rescued,
        "rescued values and those that commit records count"
    );
    assert!(
        rescued > 0,
        "every message is a text, and the column takes numbers"
    );
}

/// Checks that `seq` of each device rises from interval to interval along the lineage of shards, and from row to row in
/// a file. Shards are numbered in the order of their creation, so that their names sort along every lineage.
fn check_order(mut rows: Vec<TableRow>, fleet: &Fleet) {
    rows.sort();
    let mut done: HashMap<u64, i64> = HashMap::new();
    for interval in rows.chunk_by(|a, b| a.file == b.file) {
        let mut newest: HashMap<u64, i64> = HashMap::new();
        for row in interval {
            // Do not use `device_id`: the transform replaced those with personal data.
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
