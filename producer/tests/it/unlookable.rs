//! What inputs lead to and cannot be looked at, is not there, or is not a file.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::files::{LEDGER, append, run, stored};
use crate::follow::await_records;
use crate::process::{RunningProducer, await_some, fails, produce};

pub(crate) fn await_said(said: &Path, words: &[&str]) {
    await_some("what it says", || {
        let text = fs::read_to_string(said).unwrap();
        let has_line = |line: &str| words.iter().all(|word| line.contains(word));
        text.lines().any(has_line).then_some(())
    });
}

/// A directory that cannot be listed: a link to itself.
#[test]
fn what_cannot_be_looked_at_is_an_error_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["a", "c"] {
        fs::create_dir(path(name)).unwrap();
        append(&path(name).join("x.log"), &format!("{name}\n"));
    }
    symlink("b", path("b")).unwrap();
    for (input, is_read) in [("*/x.log", true), ("b/*.log", false), ("b/**/*.log", false)] {
        let args = [LEDGER, &["--input", input]].concat();
        let said = fails(dir.path(), &args, if is_read { 1 } else { 64 });
        let words = ["cannot look at `b`", input, "repair or remove it"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    assert_eq!(stored(dir.path()), ["a", "c"]);
    fs::remove_file(path("b")).unwrap();
    fs::create_dir(path("b")).unwrap();
    append(&path("b/x.log"), "b\n");
    run(dir.path(), &["--input", "*/x.log"]);
    assert_eq!(stored(dir.path()), ["a", "c", "b"]);
}

#[test]
fn what_cannot_be_looked_at_is_refused_at_the_start_and_followed_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let args = [
        LEDGER,
        &["--input", "*/*.log", "--follow", "--linger", "2ms"],
    ]
    .concat();
    fs::create_dir(path("a")).unwrap();
    append(&path("a/x.log"), "a\n");
    for link in ["b", "a/b.log"] {
        symlink(path(link), path(link)).unwrap();
        let said = fails(dir.path(), &args, 64);
        assert!(said.contains(&format!("cannot look at `{link}`")), "{said}");
        fs::remove_file(path(link)).unwrap();
    }
    let said = path("said");
    let running = RunningProducer::start_saying(dir.path(), &args, &said);
    await_records(dir.path(), &["a"]);
    symlink("b", path("b")).unwrap();
    symlink("b.log", path("a/b.log")).unwrap();
    await_said(&said, &["WARN", "cannot look at `b`"]);
    await_said(&said, &["WARN", "cannot look at `a/b.log`"]);
    append(&path("a/x.log"), "still\n");
    await_records(dir.path(), &["a", "still"]);
    for link in ["b", "a/b.log"] {
        fs::remove_file(path(link)).unwrap();
    }
    fs::create_dir(path("b")).unwrap();
    append(&path("b/x.log"), "b\n");
    append(&path("a/b.log"), "link\n");
    await_records(dir.path(), &["a", "still", "b", "link"]);
    running.terminate();
    let said = fs::read_to_string(said).unwrap();
    assert_eq!(said.matches("cannot look at").count(), 2, "{said}");
}

/// What may be the rest of a known file, of which the first byte cannot be read by any user.
#[test]
#[cfg(target_os = "linux")]
fn a_rest_that_cannot_be_looked_at_refuses_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("g"), "1\n");
    append(&path("h"), "2\n");
    run(dir.path(), &["--input", "g"]);
    fs::remove_file(path("g")).unwrap();
    symlink("/proc/self/mem", path("g.1")).unwrap();
    let args = [LEDGER, &["--input", "g", "--input", "h"]].concat();
    let followed = [&args[..], &["--follow"]].concat();
    let said = fails(dir.path(), &followed, 1);
    assert!(said.contains("g.1"), "{said}");
    assert_eq!(stored(dir.path()), ["1"]);
    fs::remove_file(path("g.1")).unwrap();
    let running = RunningProducer::start(dir.path(), &followed);
    await_records(dir.path(), &["1", "2"]);
    running.terminate();
}

#[test]
fn an_input_without_a_file_is_reported_once_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (said, given) = (dir.path().join("said"), dir.path().join("here.log"));
    append(&given, "h\n");
    let inputs = ["here.log", "here*", "x/later.log", "none*.log"];
    let mut args = LEDGER.to_vec();
    args.extend(inputs.iter().flat_map(|input| ["--input", input]));
    for (input, words) in [
        ("x/later.log", "there is no such file"),
        ("none*.log", "no file matches"),
    ] {
        let once = [LEDGER, &["--input", input]].concat();
        assert!(fails(dir.path(), &once, 64).contains(words));
    }
    args.extend(["--follow", "--linger", "2ms"]);
    let running = RunningProducer::start_saying(dir.path(), &args, &said);
    await_records(dir.path(), &["h"]);
    fs::create_dir(dir.path().join("x")).unwrap();
    append(&dir.path().join("x/later.log"), "l\n");
    await_records(dir.path(), &["h", "l"]);
    running.terminate();
    let said = fs::read_to_string(said).unwrap();
    let reports: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("no file exists"))
        .collect();
    assert_eq!(reports.len(), 2, "{said}");
    for (line, input) in reports.iter().zip(&inputs[2..]) {
        assert!(line.contains("WARN") && line.contains(input), "{line}");
    }
}

#[test]
fn what_a_pattern_passes_over_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("a.log"), "a\n");
    fs::create_dir(path("d.log")).unwrap();
    let _socket = UnixListener::bind(path("s.log")).unwrap();
    symlink("/dev/null", path("n.log")).unwrap();
    let said = path("said");
    let args = [
        LEDGER,
        &[
            "--input", "*.log", "--input", "?.log", "--follow", "--linger", "2ms",
        ],
    ]
    .concat();
    let running = RunningProducer::start_saying(dir.path(), &args, &said);
    await_records(dir.path(), &["a"]);
    append(&path("a.log"), "b\n");
    await_records(dir.path(), &["a", "b"]);
    running.terminate();
    let said = fs::read_to_string(said).unwrap();
    for (name, kind) in [("s.log", "a socket"), ("n.log", "a device")] {
        let reports = said.lines().filter(|line| line.contains(name));
        let reports: Vec<&str> = reports.collect();
        assert!(reports.len() == 1 && reports[0].contains(kind), "{said}");
    }
    assert!(!said.contains("d.log"), "{said}");
    let once = [LEDGER, &["--input", "*.log"]].concat();
    assert_eq!(produce(dir.path(), &once)["accepted"], 0);
}
