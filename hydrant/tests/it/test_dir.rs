//! The directory of one case: runs the real binaries in it and counts what they left.
//!
//! It checks each answer for panics. A case that this machine cannot run calls [`skip`], which fails with
//! `HYDRANT_TEST_NO_SKIP=1`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, RecordBatch};
use serde_json::Value;

use crate::lake;
use crate::process::{NO_SKIP, Running, command};

/// The directory of one case; removed when it is dropped.
pub(crate) struct TestDir {
    dir: tempfile::TempDir,
}

/// The exit code and the output of a process that has ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let answer = Answer {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        assert_no_panic(&answer.err);
        answer
    }

    /// The only JSON value on standard output.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails the test unless the process ended with `code` and printed all of `words`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        let said = format!("{}{}", self.out, self.err);
        for word in words {
            assert!(said.contains(word), "`{word}` is missing in {self:?}");
        }
        self
    }
}

#[track_caller]
pub(crate) fn assert_no_panic(err: &str) {
    for word in ["panic", "internal fault at", "fault of hydrant"] {
        assert!(!err.contains(word), "{err}");
    }
}

/// The directory with the data of the stream in `dir`.
pub(crate) fn home(dir: &Path) -> PathBuf {
    let names = std::fs::read_dir(dir).expect("the stream's directory");
    let mut dirs = names.map(|entry| entry.expect("the directory reads").path());
    dirs.find(|path| path.is_dir()).expect("a home")
}

impl TestDir {
    pub(crate) fn new() -> Self {
        TestDir {
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory with the data of a stream.
    pub(crate) fn home(&self, stream: &str) -> PathBuf {
        home(&self.path(stream))
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        let parent = path.parent().expect("a parent");
        std::fs::create_dir_all(parent).expect("the directory can be made");
        std::fs::write(path, content).expect("the file can be written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.path(name)).expect("the file reads");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The contents of a file so far; empty when it does not exist yet.
    pub(crate) fn read_so_far(&self, name: &str) -> String {
        match self.path(name).exists() {
            true => self.read(name),
            false => String::new(),
        }
    }

    /// Runs a binary to its end.
    pub(crate) fn run(&self, name: &str, args: &[&str]) -> Answer {
        Answer::of(
            command(name, self.root(), args)
                .output()
                .expect("the binary starts"),
        )
    }

    /// Runs a binary to its end with `input` as standard input.
    pub(crate) fn feed(&self, name: &str, args: &[&str], input: &[u8]) -> Answer {
        let mut child = command(name, self.root(), args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        std::thread::scope(|scope| {
            // A process that refuses its input may close it early.
            scope.spawn(move || drop(stdin.write_all(input)));
            Answer::of(child.wait_with_output().expect("the process ends"))
        })
    }

    /// Starts a binary that runs until it is stopped; its messages go to `log`.
    pub(crate) fn start(&self, name: &str, args: &[&str], log: &str) -> Running {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Running::start(name, self.root(), &args, log)
    }

    /// Creates a stream.
    pub(crate) fn create(&self, url: &str, shards: u32) {
        let shards = shards.to_string();
        self.run(
            "hydrant",
            &["stream", "create", url, "--shards", &shards, "--json"],
        )
        .expect(0, &[]);
    }

    /// Creates a stream with small segments.
    pub(crate) fn create_small(&self, url: &str, shards: u32) {
        self.create(url, shards);
        let dir = url.strip_prefix("local:").expect("a local stream");
        let path = format!("{dir}/manifest.json");
        let mut manifest: Value = serde_json::from_str(&self.read(&path)).expect("JSON");
        manifest["settings"]["segment_bytes"] = 8192.into();
        self.write(&path, manifest.to_string());
    }

    /// Appends lines to a stream, one record each.
    pub(crate) fn put(&self, url: &str, lines: &[&str]) {
        let mut text = lines.join("\n");
        text.push('\n');
        self.feed(
            "hydrant",
            &["stream", "put", url, "--json"],
            text.as_bytes(),
        )
        .expect(0, &[]);
    }

    /// Sends simulated records, none of them malformed.
    pub(crate) fn simulate(&self, url: &str, records: u64, seed: u64) {
        let (records, seed) = (records.to_string(), seed.to_string());
        self.run(
            "hydrant-producer",
            &[
                "--to",
                url,
                "--simulate",
                &records,
                "--seed",
                &seed,
                "--devices",
                "20",
                "--malformed",
                "0",
            ],
        )
        .expect(0, &[]);
    }

    /// Runs the transform from `from` to `to`, to the end of `from`.
    pub(crate) fn transform(&self, from: &str, to: &str) -> Answer {
        let args = [&to_the_end(from, to)[..], &["--json"]].concat();
        self.run("hydrant-transform", &args)
    }

    /// Runs the sink from `from`, to its end.
    pub(crate) fn sink(&self, from: &str, lake: &str) -> Answer {
        let args = [&to_the_end(from, lake)[..], &["--json"]].concat();
        self.run("hydrant-sink", &args)
    }

    /// Verifies a lake, sound or not.
    pub(crate) fn verify(&self, lake: &str) -> Answer {
        self.run("hydrant", &["lake", "verify", lake, "--json"])
    }

    /// Verifies a lake that must be sound.
    pub(crate) fn sound(&self, lake: &str) -> Value {
        let verified = self.verify(lake).expect(0, &[]).json();
        assert_eq!(verified["ok"], true, "{verified}");
        verified
    }

    pub(crate) fn describe(&self, url: &str) -> Value {
        self.run("hydrant", &["stream", "describe", url, "--json"])
            .expect(0, &[])
            .json()
    }

    /// The number of records of each shard of a stream, in the order of the shards' names.
    pub(crate) fn stored(&self, url: &str) -> Vec<u64> {
        stored(&self.describe(url))
    }

    /// The batches of the table `events`.
    pub(crate) fn rows(&self, lake: &str) -> Vec<RecordBatch> {
        let files = lake::files(&self.path(&format!("{lake}/events")));
        files.iter().flat_map(|path| lake::batches(path)).collect()
    }

    /// The number of rows of the table `events` so far.
    pub(crate) fn rows_landed(&self, lake: &str) -> u64 {
        let rows = self.rows(lake);
        rows.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    /// The numbers in column `name` of the table `events`, sorted, without rows that have none.
    pub(crate) fn integers(&self, lake: &str, name: &str) -> Vec<i64> {
        let mut found = Vec::new();
        for batch in self.rows(lake) {
            let Some(column) = batch.column_by_name(name) else {
                continue;
            };
            let column = column.as_primitive::<arrow_array::types::Int64Type>();
            found.extend(column.iter().flatten());
        }
        found.sort_unstable();
        found
    }

    /// What is rescued in the rows of the table `events`, in the order of files and rows.
    pub(crate) fn rescued(&self, lake: &str) -> Vec<String> {
        let batches = self.rows(lake).into_iter();
        let texts = batches.flat_map(|batch| {
            let texts = lake::texts(&batch, "_rescued").iter().flatten();
            texts.map(str::to_owned).collect::<Vec<_>>()
        });
        texts.collect()
    }

    /// The dead letters of the table `events`, in the order of their positions.
    pub(crate) fn dead_letters(&self, lake: &str) -> Vec<DeadLetterRow> {
        let dir = self.path(&format!("{lake}/_hydrant/events/dead-letters"));
        let mut dead_letters = Vec::new();
        for batch in lake::files(&dir)
            .iter()
            .flat_map(|path| lake::batches(path))
        {
            let text = |name: &str, row: usize| lake::texts(&batch, name).value(row).to_owned();
            let payloads = batch.column_by_name("payload").expect("payloads");
            let payloads = payloads.as_binary::<i32>();
            let lengths = batch.column_by_name("length").expect("lengths");
            let lengths = lengths.as_primitive::<arrow_array::types::Int64Type>();
            for row in 0..batch.num_rows() {
                dead_letters.push(DeadLetterRow {
                    stream: text("stream", row),
                    shard: text("shard", row),
                    sequence: text("sequence", row).parse().expect("a number"),
                    stage: text("stage", row),
                    reason: text("reason", row),
                    detail: text("detail", row),
                    length: lengths.value(row),
                    payload: payloads.is_valid(row).then(|| payloads.value(row).to_vec()),
                });
            }
        }
        dead_letters.sort();
        dead_letters
    }

    /// Waits until `done`; fails the test after a minute.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let started = Instant::now();
        while !done() {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{what}: never; logs:{}",
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of a process and gives its exit code.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, process: &mut Running) -> Option<i32> {
        let mut ended = None;
        self.wait_until("the end of a process", || {
            ended = process.ended();
            ended.is_some()
        });
        ended.flatten()
    }

    /// The logs of all processes.
    pub(crate) fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in std::fs::read_dir(self.root()).expect("the directory reads") {
            let path = entry.expect("the directory reads").path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let bytes = std::fs::read(&path).expect("the log reads");
                let text = String::from_utf8_lossy(&bytes);
                write!(logs, "\n{}:\n{text}", path.display()).expect("text can be written");
            }
        }
        logs
    }
}

/// The arguments of a stage that ends at the end of its input.
pub(crate) fn to_the_end<'a>(from: &'a str, to: &'a str) -> [&'a str; 7] {
    [
        "--from",
        from,
        "--to",
        to,
        "--exit-at-end",
        "--idle",
        "50ms",
    ]
}

/// The number of records of each shard of a described stream.
pub(crate) fn stored(described: &Value) -> Vec<u64> {
    let shards = described["shards"].as_array().expect("shards");
    let records = shards.iter().map(|state| state["records"].as_u64());
    records.map(|records| records.expect("a count")).collect()
}

/// A dead letter of a lake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeadLetterRow {
    pub(crate) stream: String,
    pub(crate) shard: String,
    pub(crate) sequence: u64,
    pub(crate) stage: String,
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) length: i64,
    pub(crate) payload: Option<Vec<u8>>,
}

/// Reports that a case was skipped, or fails where no case may be.
pub(crate) fn skip(why: &str) {
    eprintln!("skipped: {why}");
    assert!(
        std::env::var_os(NO_SKIP).is_none_or(|value| value != "1"),
        "skipped, and HYDRANT_TEST_NO_SKIP=1 forbids it: {why}"
    );
}
