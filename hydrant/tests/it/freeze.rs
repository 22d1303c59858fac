//! The freeze test: SIGSTOP stops a transform inside an append and a sink at a random moment, and the other worker of
//! each continues when the lease time is over; then it stops the producer. Before that, it stops transforms inside
//! appends again and again, and SIGCONT wakes them once the other transform has fenced their shards. Processes that
//! describe or read a stream never wait for a stopped one. After SIGCONT nothing is lost or doubled: the oracle is that
//! of the kill test.
//!
//! Short by default. The long run:
//! `HYDRANT_FREEZE_ROUNDS=20 HYDRANT_FREEZE_SECONDS=300 HYDRANT_FREEZE_APPENDS=20 HYDRANT_FREEZE_ANSWER_SECONDS=2 \
//! cargo test --release --workspace freeze_test -- --nocapture`

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::pipeline::{ProcessPipeline, describe, leases, records, shards, until, worker_name};
use crate::process::{Running, command, setting};
use crate::test_dir::home;

/// The lease time of transforms and sinks.
const LEASE_TIME: Duration = Duration::from_secs(10);
/// How long a producer is stopped.
const PRODUCER_STANDS: Duration = Duration::from_secs(3);
/// Records per second: few enough for the tests that run beside this one.
const RATE: u64 = 2_000;

/// The stages whose workers share an app: the stream that they read and the name of the app.
const STAGES: [(&str, &str); 2] = [("raw", "hydrant-transform"), ("clean", "hydrant-sink")];

fn a_random_moment() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = now.map_or(0, |now| now.subsec_nanos() % 1_500);
    std::thread::sleep(Duration::from_millis(u64::from(millis)));
}

/// The number of commits of the sinks.
fn commits(dir: &Path) -> usize {
    let mut found = 0;
    let mut left = vec![dir.join("lake/_hydrant/events/commits")];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(entry.path()),
                _ => found += 1,
            }
        }
    }
    found
}

/// Checks that a new reader gets its first record in time, and that both streams are described in time.
fn all_answer(dir: &Path, within: Duration, when: &str) {
    for stream in ["local:raw", "local:clean"] {
        let began = Instant::now();
        describe(dir, stream);
        let took = began.elapsed();
        assert!(took < within, "{when}: `describe {stream}` took {took:?}");
        for (binary, args) in [
            (
                "hydrant",
                &["stream", "tail", stream, "--start", "earliest"][..],
            ),
            ("hydrant-consumer", &["--from", stream][..]),
        ] {
            let began = Instant::now();
            let mut reader = command(binary, dir, args)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("the reader starts");
            let stdout = reader.stdout.take().expect("its output");
            let (told, first) = mpsc::channel();
            std::thread::spawn(move || {
                // The test may have stopped waiting.
                drop(told.send(BufReader::new(stdout).lines().next()));
            });
            let read = first.recv_timeout(within);
            drop(reader.kill());
            drop(reader.wait());
            let took = began.elapsed();
            assert!(
                matches!(read, Ok(Some(Ok(_)))),
                "{when}: {binary} {args:?} has nothing after {took:?}"
            );
        }
    }
}

/// The shard whose lock a process holds, found in `/proc/locks` by the inode of the lock file.
fn held_shard(worker: u32, dir: &Path, stream: &str) -> Option<String> {
    let mut shards = BTreeMap::new();
    for entry in std::fs::read_dir(home(&dir.join(stream)).join("shards")).ok()? {
        let entry = entry.ok()?;
        if let Ok(lock) = std::fs::metadata(entry.path().join("lock")) {
            let shard = entry.file_name().to_string_lossy().into_owned();
            shards.insert(lock.ino().to_string(), shard);
        }
    }
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let worker = worker.to_string();
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, holder, file, ..] if holder == worker => {
                shards.get(file.rsplit(':').next()?).cloned()
            }
            _ => None,
        }
    })
}

fn is_stopped(worker: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('T'))
}

/// Stops a worker while it holds the lock of a shard of its output, and answers which.
fn stop_inside_an_append(worker: &Running, dir: &Path, stream: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(
            Instant::now() < deadline,
            "worker never appends to {stream}"
        );
        if held_shard(worker.id(), dir, stream).is_none() {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        worker.signal("-STOP");
        until(deadline, "it stops", || is_stopped(worker.id()));
        if let Some(shard) = held_shard(worker.id(), dir, stream) {
            return shard;
        }
        worker.signal("-CONT");
    }
}

/// The number of records in the children of a shard, once it is closed.
fn taken_over(dir: &Path, stream: &str, parent: &str) -> u64 {
    let described = describe(dir, &format!("local:{stream}"));
    let is_child = |state: &&&serde_json::Value| {
        let parents = state["shard"]["parents"].as_array();
        parents.is_some_and(|parents| parents.iter().any(|id| id == parent))
    };
    let all = shards(&described);
    let counts = all.iter().filter(is_child).map(|state| &state["records"]);
    counts.map(|count| count.as_u64().expect("a count")).sum()
}

/// What each stage has put out so far.
fn arrived(dir: &Path) -> [u64; 2] {
    [records(dir, "local:clean"), commits(dir) as u64]
}

#[test]
fn freeze_test_stops_no_other_process_and_loses_and_doubles_nothing() {
    let rounds = setting("HYDRANT_FREEZE_ROUNDS", 1);
    let appends = setting("HYDRANT_FREEZE_APPENDS", 2);
    let stands = Duration::from_secs(setting("HYDRANT_FREEZE_SECONDS", 16));
    let within = Duration::from_secs(setting("HYDRANT_FREEZE_ANSWER_SECONDS", 10));
    // By then the lease time is over and the other workers work.
    let grace = Duration::from_secs(setting("HYDRANT_FREEZE_GRACE_SECONDS", 20));
    assert!(stands > LEASE_TIME, "too short for a take-over");
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path();
    // Send enough records for rounds that take longer.
    let seconds = (rounds * stands.as_secs()) + (rounds + appends) * 2 * LEASE_TIME.as_secs();
    let count = RATE * seconds;
    let pipeline = ProcessPipeline::start(dir, count, RATE);
    let stages = [&pipeline.transforms, &pipeline.sinks];
    let soon = || Instant::now() + Duration::from_secs(60);
    for (stream, app) in STAGES {
        until(soon(), "both workers of each app have shards", || {
            let rows = leases(dir, stream, app);
            let owners: BTreeSet<_> = rows.iter().filter_map(|row| row.owner.clone()).collect();
            let has_shards = |n| {
                let name = format!("{}-", worker_name(n));
                owners.iter().any(|owner| owner.starts_with(&name))
            };
            has_shards(1) && has_shards(2) && owners.len() == 2
        });
    }
    for append in 0..appends {
        let worker = &pipeline.transforms[(append % 2) as usize].process;
        let shard = stop_inside_an_append(worker, dir, "clean");
        let stopped = Instant::now();
        let what = format!("records continue past shard {shard}, whose holder is stopped");
        until(stopped + LEASE_TIME + grace, &what, || {
            taken_over(dir, "clean", &shard) > 0
        });
        eprintln!("append {append}: continued after {:?}", stopped.elapsed());
        worker.signal("-CONT");
    }
    for round in 0..rounds {
        let chosen = (round % 2) as usize;
        a_random_moment();
        let shard = stop_inside_an_append(&pipeline.transforms[chosen].process, dir, "clean");
        let stopped = Instant::now();
        let signal_all = |signal| stages.map(|stage| stage[chosen].process.signal(signal));
        pipeline.sinks[chosen].process.signal("-STOP");
        all_answer(dir, within, "a transform and a sink are stopped");
        let frozen = format!("{}-", worker_name(chosen + 1));
        for (stream, app) in STAGES {
            let what = format!("{app} continues without its worker {frozen}");
            until(stopped + LEASE_TIME + grace, &what, || {
                leases(dir, stream, app).iter().all(|row| {
                    let owner = row.owner.as_ref();
                    row.has_ended() || owner.is_some_and(|owner| !owner.starts_with(&frozen))
                })
            });
        }
        let what = format!("records continue past shard {shard}, whose holder is stopped");
        until(stopped + LEASE_TIME + grace, &what, || {
            taken_over(dir, "clean", &shard) > 0
        });
        eprintln!("round {round}: taken over after {:?}", stopped.elapsed());
        let before = arrived(dir);
        until(soon(), "records arrive behind both stages", || {
            let now = arrived(dir);
            now[0] > before[0] && now[1] > before[1]
        });
        std::thread::sleep(stands.saturating_sub(stopped.elapsed()));
        all_answer(dir, within, "a transform and a sink are still stopped");
        signal_all("-CONT");
        a_random_moment();
        pipeline.producer.process.signal("-STOP");
        all_answer(dir, within, "the producer is stopped");
        std::thread::sleep(PRODUCER_STANDS);
        pipeline.producer.process.signal("-CONT");
    }
    pipeline.end(Duration::from_secs(count / RATE * 4 + 60));
}
