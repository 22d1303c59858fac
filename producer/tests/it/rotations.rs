//! What becomes of files that were read and are not where they were at the next start: whatever rotated them, their
//! rest is sent, nothing is sent twice, and what cannot be found again is reported.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::files::{LEDGER, append, gzip, run, stored};
use crate::process::{RunningProducer, await_some, ledger_index, produce};

fn lines(numbers: NumberRange) -> String {
    numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

type NumberRange = std::ops::RangeInclusive<u32>;

/// The numbers that the stream holds, in order, as runs.
fn numbers(dir: &Path) -> Vec<NumberRange> {
    let mut runs: Vec<NumberRange> = Vec::new();
    for one in stored(dir) {
        let value: Value = serde_json::from_str(&one).unwrap();
        let Some(n) = value["n"].as_u64().map(|n| u32::try_from(n).unwrap()) else {
            continue;
        };
        match runs.last_mut() {
            Some(run) if run.end() + 1 == n => *run = *run.start()..=n,
            _ => runs.push(n..=n),
        }
    }
    runs
}

/// Whether the file system knows when files were made.
#[allow(
    clippy::print_stderr,
    reason = "the reason for a skipped test is printed"
)]
fn knows_births(path: &Path) -> bool {
    let knows = fs::metadata(path).unwrap().created().is_ok();
    if !knows {
        eprintln!("skipped: the file system knows no birth times");
    }
    knows
}

fn entries(dir: &Path) -> Vec<Value> {
    let text = fs::read(dir.join("ledger.json")).unwrap();
    let ledger: Value = serde_json::from_slice(&text).unwrap();
    ledger["files"].as_array().unwrap().clone()
}

#[test]
fn what_is_compressed_while_its_original_is_still_there_is_sent_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("app.log"), &lines(1..=5));
    let packed = gzip(lines(1..=5).as_bytes());
    fs::write(path("app.log.gz"), &packed).unwrap();
    if !knows_births(&path("app.log")) {
        return;
    }
    run(dir.path(), &["--input", "app.log*"]);
    assert_eq!(numbers(dir.path()), [1..=5]);
    // One that is not finished is looked at later, and is not a failure.
    append(&path("app.log"), &lines(6..=9));
    let packed = gzip(lines(1..=9).as_bytes());
    for length in [packed.len() / 2, packed.len() - 4, 4] {
        fs::remove_file(path("app.log.gz")).unwrap();
        fs::write(path("app.log.gz"), &packed[..length]).unwrap();
        let said = run(dir.path(), &["--input", "app.log*"]);
        assert!(said.contains("being made"), "{said}");
        assert_eq!(numbers(dir.path()), [1..=9]);
    }
    // The rest is in the compressed one, and the original goes.
    fs::write(path("app.log.gz"), gzip(lines(1..=12).as_bytes())).unwrap();
    fs::remove_file(path("app.log")).unwrap();
    for _ in 0..2 {
        run(dir.path(), &["--input", "app.log*"]);
        assert_eq!(numbers(dir.path()), [1..=12]);
    }
}

#[test]
fn the_rest_of_a_copy_is_read_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("app.log"), &lines(1..=3));
    run(dir.path(), &["--input", "app.log"]);
    append(&path("app.log"), &lines(4..=5_000));
    fs::copy(path("app.log"), path("app.log.1")).unwrap();
    fs::write(path("app.log"), lines(20_001..=20_002)).unwrap();
    let slowly = [LEDGER, &["--input", "app.log", "--rate", "1000"]].concat();
    let running = RunningProducer::start(dir.path(), &slowly);
    await_some("a part of the rest to be noted", || {
        ledger_index(&path("ledger.json")).filter(|noted| *noted > 3)
    });
    running.kill();
    let before = stored(dir.path()).len();
    assert!(before < 5_000, "{before}");
    for _ in 0..2 {
        run(dir.path(), &["--input", "app.log"]);
        assert_eq!(numbers(dir.path()), [1..=5_000, 20_001..=20_002]);
    }
}

/// What happens between two runs to a file of which three records were taken.
struct RotationCase {
    name: &'static str,
    input: &'static str,
    first: &'static str,
    change: fn(&Path),
    wanted: &'static [NumberRange],
    says: &'static str,
}

#[test]
fn a_file_that_no_input_leads_to_any_more_is_read_to_its_end_or_missed_with_a_warning() {
    let turns = [
        RotationCase {
            name: "compressed, with a dated name",
            input: "app-*.log",
            first: "app-1.log",
            change: |dir| {
                let path = dir.join("app-1.log");
                append(&path, &lines(4..=5));
                fs::write(dir.join("app-1.log.gz"), gzip(&fs::read(&path).unwrap())).unwrap();
                fs::remove_file(path).unwrap();
                append(&dir.join("app-2.log"), &lines(100..=101));
            },
            wanted: &[1..=5, 100..=101],
            says: "is a copy",
        },
        RotationCase {
            name: "renamed, and nothing took its path",
            input: "app*.log",
            first: "app.log",
            change: |dir| {
                append(&dir.join("app.log"), &lines(4..=5));
                fs::rename(dir.join("app.log"), dir.join("app.log.1")).unwrap();
                append(&dir.join("app2.log"), &lines(100..=101));
            },
            wanted: &[1..=5, 100..=101],
            says: "was renamed",
        },
        RotationCase {
            name: "the link leads to the next one",
            input: "cur.log",
            first: "x-1.log",
            change: |dir| {
                append(&dir.join("x-1.log"), &lines(4..=5));
                fs::remove_file(dir.join("cur.log")).unwrap();
                append(&dir.join("x-2.log"), &lines(100..=101));
                std::os::unix::fs::symlink("x-2.log", dir.join("cur.log")).unwrap();
            },
            wanted: &[1..=5, 100..=101],
            says: "",
        },
        RotationCase {
            name: "renamed twice, read between",
            input: "app.log",
            first: "app.log",
            change: |dir| {
                fs::rename(dir.join("app.log"), dir.join("app.log.1")).unwrap();
                append(&dir.join("app.log"), &lines(50..=51));
                run(dir, &["--input", "app.log"]);
                append(&dir.join("app.log.1"), &lines(4..=5));
                fs::rename(dir.join("app.log.1"), dir.join("app.log.2")).unwrap();
                fs::rename(dir.join("app.log"), dir.join("app.log.1")).unwrap();
                append(&dir.join("app.log"), &lines(100..=101));
            },
            wanted: &[1..=3, 50..=51, 4..=5, 100..=101],
            says: "was renamed",
        },
        RotationCase {
            name: "gone",
            input: "app-*.log",
            first: "app-1.log",
            change: |dir| {
                fs::remove_file(dir.join("app-1.log")).unwrap();
                append(&dir.join("app-2.log"), &lines(100..=101));
            },
            wanted: &[1..=3, 100..=101],
            says: "is gone",
        },
    ];
    for RotationCase {
        name,
        input,
        first,
        change,
        wanted,
        says,
    } in turns
    {
        let dir = tempfile::tempdir().unwrap();
        append(&dir.path().join(first), &lines(1..=3));
        if input == "cur.log" {
            std::os::unix::fs::symlink(first, dir.path().join(input)).unwrap();
        }
        run(dir.path(), &["--input", input]);
        change(dir.path());
        let said = run(dir.path(), &["--input", input]);
        assert_eq!(numbers(dir.path()), wanted, "{name}: {said}");
        let is_reported = |line: &&str| line.contains(says) && line.contains(first);
        assert!(
            says.is_empty() || said.lines().any(|line| is_reported(&line)),
            "{name}: {said}"
        );
        // It is reported once.
        let said = run(dir.path(), &["--input", input]);
        assert!(!said.contains("is gone"), "{name}: {said}");
        assert_eq!(numbers(dir.path()), wanted, "{name}");
    }
}

#[test]
fn a_file_whose_input_is_not_given_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("a.log"), &lines(1..=3));
    append(&path("b.log"), &lines(10..=11));
    run(dir.path(), &["--input", "a.log"]);
    append(&path("a.log"), &lines(4..=5));
    fs::rename(path("a.log"), path("a.log.1")).unwrap();
    let said = run(dir.path(), &["--input", "b.log"]);
    assert!(!said.contains("a.log"), "{said}");
    assert_eq!(numbers(dir.path()), [1..=3, 10..=11]);
    append(&path("a.log"), &lines(6..=6));
    run(dir.path(), &["--input", "./a.log"]);
    assert_eq!(numbers(dir.path()), [1..=3, 10..=11, 4..=6]);
}

#[test]
fn a_copy_of_which_more_was_taken_from_its_original_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("app.log"), &lines(1..=1_000));
    if !knows_births(&path("app.log")) {
        return;
    }
    run(dir.path(), &["--input", "app.log*"]);
    append(&path("app.log"), &lines(1_001..=1_001));
    fs::copy(path("app.log"), path("app.log.1")).unwrap();
    append(&path("app.log"), &lines(1_002..=1_003));
    run(dir.path(), &["--input", "app.log"]);
    fs::write(path("app.log"), lines(2_001..=2_003)).unwrap();
    for _ in 0..2 {
        run(dir.path(), &["--input", "app.log*"]);
        assert_eq!(numbers(dir.path()), [1..=1_003, 2_001..=2_003]);
    }
    // Compressed later, and counted up.
    fs::write(
        path("app.log.2.gz"),
        gzip(&fs::read(path("app.log.1")).unwrap()),
    )
    .unwrap();
    fs::remove_file(path("app.log.1")).unwrap();
    run(dir.path(), &["--input", "app.log*"]);
    assert_eq!(numbers(dir.path()), [1..=1_003, 2_001..=2_003]);
}

#[test]
fn of_several_files_that_may_be_the_copy_the_one_that_was_made_of_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let start = "{\"start\":1}\n";
    append(
        &path("app.log-20261101"),
        &(start.to_owned() + &lines(900..=903)),
    );
    append(&path("app.log"), start);
    if !knows_births(&path("app.log")) {
        return;
    }
    // Made of what the file held before it was looked at first.
    append(
        &path("app.log-20261122"),
        &(start.to_owned() + &lines(800..=803)),
    );
    run(dir.path(), &["--input", "app.log"]);
    append(&path("app.log"), &lines(1..=3));
    fs::copy(path("app.log"), path("app.log-20261128")).unwrap();
    fs::write(path("app.log"), start.to_owned() + &lines(40..=41)).unwrap();
    fs::copy(path("app.log"), path("app.log-20261129")).unwrap();
    fs::write(path("app.log"), lines(50..=51)).unwrap();
    run(dir.path(), &["--input", "app.log"]);
    assert_eq!(numbers(dir.path()), [1..=3, 50..=51]);
}

#[test]
fn the_copy_of_a_file_goes_before_another_one_that_begins_like_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let boot = "{\"boot\":1}\n";
    append(&path("app.log"), boot);
    run(dir.path(), &["--input", "app.log"]);
    append(&path("app.log"), &lines(1..=3));
    fs::write(
        path("app.log.1.gz"),
        gzip(&fs::read(path("app.log")).unwrap()),
    )
    .unwrap();
    fs::remove_file(path("app.log")).unwrap();
    append(&path("app.log"), &(boot.to_owned() + &lines(50..=51)));
    run(dir.path(), &["--input", "app.log"]);
    assert_eq!(numbers(dir.path()), [1..=3, 50..=51]);
    assert_eq!(
        stored(dir.path())
            .iter()
            .filter(|one| one.contains("boot"))
            .count(),
        2
    );
}

#[test]
fn an_older_ledger_costs_repetitions_and_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("a.log"), &lines(1..=3));
    run(dir.path(), &["--input", "*.log"]);
    fs::copy(path("ledger.json"), path("backup.json")).unwrap();
    append(&path("c.log"), &lines(101..=105));
    run(dir.path(), &["--input", "*.log"]);
    fs::copy(path("backup.json"), path("ledger.json")).unwrap();
    append(&path("b.log"), &lines(201..=207));
    let report = produce(dir.path(), &[LEDGER, &["--input", "*.log"]].concat());
    assert_eq!(report["duplicates"], 0);
    assert!(numbers(dir.path()).contains(&(201..=207)));
    assert_eq!(entries(dir.path()).len(), 3);
}

#[test]
fn a_file_that_was_left_is_read_on_when_it_has_grown() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("app.log"), &lines(1..=3));
    run(dir.path(), &["--input", "app.log"]);
    fs::rename(path("app.log"), path("app.log.1")).unwrap();
    append(&path("app.log"), &lines(50..=51));
    let old = fs::File::options().write(true).open(path("app.log.1"));
    let hours = std::time::Duration::from_secs(7_200);
    let written = fs::metadata(path("app.log.1")).unwrap().modified().unwrap();
    old.unwrap().set_modified(written - hours).unwrap();
    run(dir.path(), &["--input", "app.log"]);
    assert_eq!(entries(dir.path())[0]["ended"], true);
    append(&path("app.log.1"), &lines(4..=5));
    for _ in 0..2 {
        run(dir.path(), &["--input", "app.log"]);
        assert_eq!(numbers(dir.path()), [1..=3, 50..=51, 4..=5]);
    }
}
