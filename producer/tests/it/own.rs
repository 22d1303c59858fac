//! The files that a producer writes itself are never its input.

use std::fs;

use crate::follow::{append, await_records};
use crate::process::{RunningProducer, await_some, fails, ledger_index, produce, produce_saying};
use crate::stored::records;

const ALL: &[&str] = &[
    "--to",
    "local:raw",
    "--name",
    "e",
    "--ledger",
    "edge.json",
    "--report",
    "report.json",
    "--input",
    "*.json*",
    "--input",
    ".*",
];

#[test]
fn a_pattern_passes_the_ledger_and_the_report_over() {
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("a.json"), "{\"n\":1}\n");
    append(&dir.path().join(".h.json"), "{\"n\":2}\n");
    for stored in [2, 0, 0] {
        assert_eq!(produce(dir.path(), ALL)["stored"], stored);
    }
    assert!(dir.path().join("report.json").exists());
    assert_eq!(records(dir.path(), "raw").len(), 2);
}

#[test]
fn a_producer_that_follows_is_not_fed_by_its_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::os::unix::fs::symlink("edge.json", path("link.json")).unwrap();
    let args = [ALL, &["--follow"]].concat();
    let mut all = Vec::new();
    for round in 0..2 {
        let running = RunningProducer::start(dir.path(), &args);
        // Each record makes a ledger that is new.
        for n in 0..4 {
            let record = format!("{{\"n\":{}}}", round * 4 + n);
            append(&path("a.json"), &format!("{record}\n"));
            all.push(record);
            let wanted: Vec<&str> = all.iter().map(String::as_str).collect();
            await_records(dir.path(), &wanted);
            await_some("the ledger", || {
                (ledger_index(&path("edge.json")) == Some(all.len() as u64)).then_some(())
            });
        }
        assert_eq!(running.terminate()["stored"], 4);
    }
    assert_eq!(records(dir.path(), "raw").len(), 8);
}

#[test]
fn an_input_that_is_the_ledger_or_the_report_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("a.json"), "{\"n\":1}\n");
    append(&path(".h.json"), "{\"n\":2}\n");
    std::os::unix::fs::symlink("edge.json", path("link")).unwrap();
    fs::create_dir(path("sub")).unwrap();
    let refused = |input: &str| {
        for more in [&[][..], &["--follow"]] {
            let args = [ALL, &["--input", input], more].concat();
            let said = fails(dir.path(), &args, 64);
            let wanted = format!("`{input}` is a file that this producer writes");
            assert!(said.contains(&wanted), "{said}");
        }
    };
    for input in ["edge.json", "edge.json.lock", "sub/../report.json"] {
        refused(input);
    }
    assert!(!path("raw").exists() && !path("edge.json").exists());
    produce(dir.path(), ALL);
    fs::hard_link(path("edge.json"), path("hard")).unwrap();
    for input in ["edge.json", "link", "hard"] {
        refused(input);
    }
}

#[test]
fn a_pattern_does_not_enter_streams_and_lakes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("in/deep")).unwrap();
    fs::create_dir_all(path("lake/_hydrant/events/dead-letters")).unwrap();
    append(&path("in/a.json"), "{\"n\":1}\n");
    append(&path("in/deep/b.json"), "{\"n\":2}\n");
    append(
        &path("lake/_hydrant/events/dead-letters/c.json"),
        "{\"n\":3}\n",
    );
    produce(dir.path(), &["--to", "local:other", "--simulate", "5"]);
    let args = [
        "--to",
        "local:raw",
        "--name",
        "e",
        "--ledger",
        "l.json",
        "--input",
        "**/*",
    ];
    let following = [&args[..], &["--follow"]].concat();
    for stored in [2, 0] {
        let (report, said) = produce_saying(dir.path(), &args);
        assert_eq!(report["stored"], stored, "{said}");
        for (name, kind) in [
            ("lake", "a lake"),
            ("other", "a stream"),
            ("raw", "a stream"),
        ] {
            let line = said
                .lines()
                .find(|line| line.contains(&format!("directory={name}")));
            assert!(
                line.is_some_and(|line| line.contains(kind)),
                "{name}: {said}"
            );
        }
        assert_eq!(said.matches("directory=lake").count(), 1, "{said}");
    }
    let running = RunningProducer::start(dir.path(), &following);
    append(&path("in/deep/b.json"), "{\"n\":4}\n");
    await_records(dir.path(), &["{\"n\":1}", "{\"n\":2}", "{\"n\":4}"]);
    assert_eq!(running.terminate()["stored"], 1);
    // What is named is read, but not the stream that is written to.
    let named = [
        "--to",
        "local:raw",
        "--input",
        "lake/_hydrant/*/dead-letters/*",
    ];
    assert_eq!(produce(dir.path(), &named)["stored"], 1);
    for input in ["raw/*", "raw/**/*", "raw/manifest.json", "./in/../raw/*"] {
        let said = fails(dir.path(), &["--to", "local:raw", "--input", input], 64);
        assert!(
            said.contains(&format!("`{input}` lies in the stream")),
            "{said}"
        );
    }
}

#[test]
fn a_report_that_would_take_the_place_of_the_ledger_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("a.json"), "{\"n\":1}\n");
    std::os::unix::fs::symlink(".", path("here")).unwrap();
    let run = &ALL[..6];
    for report in [
        "edge.json",
        "./edge.json",
        "here/edge.json",
        "edge.json.lock",
    ] {
        let args = [run, &["--report", report, "--input", "a.json"]].concat();
        let said = fails(dir.path(), &args, 64);
        assert!(said.contains("take the place of the ledger"), "{said}");
        assert!(!path("raw").exists() && !path("edge.json").exists());
    }
    let args = [run, &["--report", "report.json", "--input", "a.json"]].concat();
    for stored in [1, 0] {
        assert_eq!(produce(dir.path(), &args)["stored"], stored);
    }
}
