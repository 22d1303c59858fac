//! Hundreds of shards on one machine: workers take all of them, take them over from a dead worker and give them back in
//! seconds, with few open files. `hydrant-stream` counts the cost of a shard.
//!
//! `HYDRANT_MANY_SHARDS=1000 cargo test --release --workspace many_shards -- --nocapture` tries more.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::pipeline::{leases, records, until};
use crate::process::{Running, binary, run, setting};
use crate::test_dir::{Answer, TestDir};

const APP: &str = "many";
/// The most time for taking all shards, for taking all over, and for giving all back.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn many_shards_are_taken_taken_over_and_given_back_in_time() {
    let count = usize::try_from(setting("HYDRANT_MANY_SHARDS", 600)).expect("a number of shards");
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for (stream, shards) in [("local:raw", count), ("local:out", 8)] {
        let shards = shards.to_string();
        run(
            "hydrant",
            dir,
            &["stream", "create", stream, "--shards", &shards],
        );
    }
    let sent = (count * 20).to_string();
    run(
        "hydrant-producer",
        dir,
        &["--to", "local:raw", "--simulate", &sent],
    );
    let start = |name: &str| {
        let args = ["--from", "local:raw", "--to", "local:out", "--app", APP];
        let args: Vec<_> = [&args[..], &["--worker-name", name]].concat();
        let args: Vec<_> = args.into_iter().map(str::to_owned).collect();
        Running::start(
            "hydrant-consumer",
            dir,
            &args,
            &format!("consumer-{name}.log"),
        )
    };
    let shards_of = |name: &str| {
        let rows = leases(dir, "raw", APP);
        let mine = rows.iter().filter(|row| {
            let owner = row.owner.as_ref();
            owner.is_some_and(|owner| owner.starts_with(name))
        });
        mine.count()
    };
    let began = Instant::now();
    let mut first = start("first");
    until(began + PATIENCE, "all shards are taken", || {
        shards_of("first-") == count
    });
    eprintln!("{count} shards taken in {:?}", began.elapsed());
    let mut second = start("second");
    // The second worker asks for shards one by one; kill the first one meanwhile.
    until(
        Instant::now() + PATIENCE,
        "the second one has shards",
        || shards_of("second-") > 0,
    );
    let began = Instant::now();
    first.kill();
    until(began + PATIENCE, "all shards are taken over", || {
        shards_of("second-") == count
    });
    eprintln!("taken over in {:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(second.terminate(), Some(0), "see consumer-second.log");
    let took = began.elapsed();
    eprintln!("given back in {took:?}");
    assert!(took < PATIENCE, "the drain took {took:?}");
    assert!(
        leases(dir, "raw", APP)
            .iter()
            .all(|row| row.owner.is_none())
    );
    let all = [
        "--from",
        "local:raw",
        "--to",
        "local:out",
        "--app",
        APP,
        "--exit-at-end",
    ];
    run("hydrant-consumer", dir, &all);
    let copied = records(dir, "local:out");
    assert_eq!(copied.to_string(), sent, "each record once");
}

/// Runs `hydrant run` in a process that may open this many files.
fn run_with_files(place: &TestDir, files: u32) -> Answer {
    // Both limits: the soft one cannot be raised above the hard one.
    let limited = format!("ulimit -n {files} && exec \"$0\" run run.toml");
    let mut command = Command::new("sh");
    command.args(["-c", &limited]).arg(binary("hydrant"));
    let command = command.current_dir(place.root());
    Answer::of(command.output().expect("the shell starts"))
}

#[test]
fn few_open_files_are_enough_for_many_shards() {
    const RECORDS: u64 = 20_000;
    let place = TestDir::new();
    for stream in ["local:data/raw", "local:data/clean"] {
        place.create(stream, 128);
    }
    let config =
        format!("[run]\ndir = \"data\"\nexit-at-end = true\n[producer]\nsimulate = {RECORDS}\n");
    place.write("run.toml", config);
    run_with_files(&place, 100).expect(64, &["may open 100 files", "ulimit -Hn"]);
    run_with_files(&place, 256).expect(0, &[]);
    place.sound("file:data/lake");
    let dead_letters = place.dead_letters("data/lake").len() as u64;
    assert_eq!(place.rows_landed("data/lake") + dead_letters, RECORDS);
}
