//! Files that grow, are rotated, truncated and rewritten between runs, several of them, and what holds their records.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::process::{fails, produce, produce_saying};
use crate::stored::{counts, records};

pub(crate) const LEDGER: &[&str] = &[
    "--to",
    "local:raw",
    "--shards",
    "1",
    "--name",
    "edge",
    "--ledger",
    "ledger.json",
];

pub(crate) fn run(dir: &Path, more: &[&str]) -> String {
    produce_saying(dir, &[LEDGER, more].concat()).1
}

/// What the stream holds, in order: it has one shard.
pub(crate) fn stored(dir: &Path) -> Vec<String> {
    let payload = |bytes| String::from_utf8(bytes).unwrap();
    records(dir, "raw")
        .into_iter()
        .map(|one| payload(one.payload))
        .collect()
}

pub(crate) fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_last_line_that_is_still_written_is_sent_once_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g");
    append(&path, "{\"n\":1}\n{\"n\":2,\"s\":\"hal");
    let said = run(dir.path(), &["--input", "g"]);
    assert!(
        said.contains("--at-end send") && said.contains("line=2"),
        "{said}"
    );
    assert_eq!(stored(dir.path()), ["{\"n\":1}"]);
    append(&path, "f\"}\n{\"n\":3}");
    run(dir.path(), &["--input", "g"]);
    append(&path, "\n");
    run(dir.path(), &["--input", "g"]);
    let wanted = ["{\"n\":1}", "{\"n\":2,\"s\":\"half\"}", "{\"n\":3}"];
    assert_eq!(stored(dir.path()), wanted);

    append(&path, "{\"n\":4}");
    run(dir.path(), &["--input", "g", "--at-end", "send"]);
    run(dir.path(), &["--input", "g", "--at-end", "send"]);
    assert_eq!(stored(dir.path()).len(), 4);
    append(&path, "\n{\"n\":5}\n");
    run(dir.path(), &["--input", "g"]);
    assert_eq!(stored(dir.path())[3..], ["{\"n\":4}", "{\"n\":5}"]);
}

#[test]
fn without_a_ledger_the_end_is_the_end_unless_it_is_to_wait() {
    for (more, count) in [(&[][..], 2), (&["--at-end", "wait"], 1)] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("g"), "{\"n\":1}\n{\"n\":2}").unwrap();
        let args = [
            &["--to", "local:raw", "--shards", "1", "--input", "g"],
            more,
        ]
        .concat();
        produce(dir.path(), &args);
        assert_eq!(stored(dir.path()).len(), count);
    }
}

/// The file, what was in it, and what changes it.
struct Change {
    name: &'static str,
    before: &'static str,
    change: fn(&Path),
    /// What the second run adds.
    added: &'static [&'static str],
    says: &'static str,
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.with_file_name(name)
}

#[test]
fn what_happened_to_a_file_is_recognised_and_no_line_is_passed_over() {
    let changes = [
        Change {
            name: "grown",
            before: "1\n2\n3\n",
            change: |path| append(path, "4\n"),
            added: &["4"],
            says: "",
        },
        Change {
            name: "renamed, the new one begins with the same line",
            before: "1\n2\n3\n",
            change: |path| {
                append(path, "rest\n");
                fs::rename(path, beside(path, "g.1")).unwrap();
                append(path, "1\n4\n5\n6\n7\n");
            },
            added: &["rest", "1", "4", "5", "6", "7"],
            says: "was renamed",
        },
        Change {
            name: "renamed, the new one has the same first and last line",
            before: "1\n2\n3\n",
            change: |path| {
                fs::rename(path, beside(path, "old")).unwrap();
                append(path, "1\n9\n3\n4\n");
            },
            added: &["1", "9", "3", "4"],
            says: "was renamed",
        },
        Change {
            name: "renamed, the new one begins with all of the old one",
            before: "1\n",
            change: |path| {
                fs::rename(path, beside(path, "g.1")).unwrap();
                append(path, "1\n2\n");
            },
            added: &["1", "2"],
            says: "was renamed",
        },
        Change {
            name: "copied and truncated, with a rest in the copy",
            before: "1\n2\n",
            change: |path| {
                append(path, "rest\n");
                fs::copy(path, beside(path, "g.1")).unwrap();
                fs::write(path, "1\n2\n4\n5\n").unwrap();
                fs::write(path, "3\n2\n4\n5\n6\n").unwrap();
            },
            added: &["rest", "3", "2", "4", "5", "6"],
            says: "is a copy",
        },
        Change {
            name: "renamed and compressed, with a rest",
            before: "1\n2\n",
            change: |path| {
                append(path, "rest\n");
                fs::write(beside(path, "g.1.gz"), gzip(&fs::read(path).unwrap())).unwrap();
                fs::remove_file(path).unwrap();
                append(path, "3\n");
            },
            added: &["rest", "3"],
            says: "is a copy",
        },
        Change {
            name: "rewritten in place, first and last line equal",
            before: "1\n2\n3\n",
            change: |path| fs::write(path, "1\n9\n3\n4\n").unwrap(),
            added: &["1", "9", "3", "4"],
            says: "read from its start",
        },
        Change {
            name: "truncated and shorter",
            before: "1\n2\n3\n",
            change: |path| fs::write(path, "1\n").unwrap(),
            added: &["1"],
            says: "read from its start",
        },
        Change {
            name: "removed and created again",
            before: "1\n2\n3\n",
            change: |path| {
                fs::remove_file(path).unwrap();
                append(path, "1\n7\n8\n9\n");
            },
            added: &["1", "7", "8", "9"],
            says: "read from its start",
        },
        Change {
            name: "replaced by a copy that continues",
            before: "1\n2\n3\n",
            change: |path| {
                fs::write(beside(path, "new"), "1\n2\n3\n4\n").unwrap();
                fs::rename(beside(path, "new"), path).unwrap();
            },
            added: &["4"],
            says: "another file",
        },
        Change {
            name: "emptied",
            before: "1\n2\n3\n",
            change: |path| fs::write(path, "").unwrap(),
            added: &[],
            says: "",
        },
    ];
    for Change {
        name,
        before,
        change,
        added,
        says,
    } in changes
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g");
        append(&path, before);
        run(dir.path(), &["--input", "g"]);
        let had = stored(dir.path());
        assert_eq!(had, before.lines().collect::<Vec<_>>(), "{name}");
        change(&path);
        let said = run(dir.path(), &["--input", "g"]);
        assert_eq!(stored(dir.path())[had.len()..], *added, "{name}: {said}");
        assert!(said.contains(says), "{name}: {said}");
        run(dir.path(), &["--input", "g"]);
        assert_eq!(stored(dir.path()).len(), had.len() + added.len(), "{name}");
        // What was renamed may still be written to.
        if says == "was renamed" {
            let old = ["g.1", "old"].map(|name| beside(&path, name)).into_iter();
            append(&old.clone().find(|path| path.exists()).unwrap(), "late\n");
            run(dir.path(), &["--input", "g"]);
            assert_eq!(stored(dir.path()).last().unwrap(), "late", "{name}");
        }
    }
}

#[test]
fn a_name_of_rotation_makes_no_copy_of_a_file_that_holds_less_or_is_older() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join("in").join(name);
    fs::create_dir(dir.path().join("in")).unwrap();
    append(&path("w"), "s\na\n");
    run(dir.path(), &["--input", "in/*"]);
    append(&path("w.2024-01-01"), "s\n");
    let said = run(dir.path(), &["--input", "in/*"]);
    assert!(said.contains("may be a copy that is being made"), "{said}");
    assert_eq!(stored(dir.path()), ["s", "a"]);
    // It did not grow.
    let file = fs::File::options()
        .write(true)
        .open(path("w.2024-01-01"))
        .unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    file.set_modified(written - std::time::Duration::from_secs(120))
        .unwrap();
    for _ in 0..2 {
        run(dir.path(), &["--input", "in/*"]);
        assert_eq!(stored(dir.path()), ["s", "a", "s"]);
    }

    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let born = |name: &str| fs::metadata(path(name)).unwrap().created();
    append(&path("w.1"), "s\n");
    let Ok(older) = born("w.1") else {
        eprintln!("skipped: the file system knows no birth times");
        return;
    };
    append(&path("w"), "s\n");
    while born("w").unwrap() <= older {
        fs::remove_file(path("w")).unwrap();
        append(&path("w"), "s\n");
    }
    run(dir.path(), &["--input", "w"]);
    for _ in 0..2 {
        run(dir.path(), &["--input", "w*"]);
        assert_eq!(stored(dir.path()), ["s", "s"]);
    }
}

#[test]
fn a_file_of_which_only_a_line_that_is_too_long_was_seen_to_begin_differs_from_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w");
    let args = ["--input", "w", "--record-bytes", "64"];
    append(&path, &format!("1\n{}", "x".repeat(300)));
    run(dir.path(), &args);
    fs::remove_file(&path).unwrap();
    append(&path, "2\n");
    run(dir.path(), &args);
    append(&path, "3\n");
    run(dir.path(), &args);
    assert_eq!(stored(dir.path()), ["1", "2", "3"]);
}

#[test]
fn a_file_that_begins_as_another_one_is_sent_from_its_start() {
    struct Twin {
        first: (&'static str, &'static str),
        change: fn(&Path),
        second: (&'static str, &'static str),
        added: &'static [&'static str],
        says: &'static str,
    }
    let twins = [
        Twin {
            first: ("status-01.json", "ok\n"),
            change: |path| fs::remove_file(path).unwrap(),
            second: ("status-02.json", "ok\n"),
            added: &["ok"],
            says: "is sent from its start",
        },
        Twin {
            first: ("status-20261128.json", "ok\n"),
            change: |path| fs::remove_file(path).unwrap(),
            second: ("status-20261129.json", "ok\nmore\n"),
            added: &["ok", "more"],
            says: "is sent from its start",
        },
        Twin {
            first: ("w1", "s\n"),
            change: |_| {},
            second: ("w10", "s\na\n"),
            added: &["s", "a"],
            says: "",
        },
        Twin {
            first: ("w1", "s\na\n"),
            change: |_| {},
            second: ("w10", "s\n"),
            added: &["s"],
            says: "",
        },
        // By its name it may be a copy, but the original has all that was taken.
        Twin {
            first: ("w", "s\n"),
            change: |_| {},
            second: ("w.1", "s\na\n"),
            added: &["s", "a"],
            says: "",
        },
        // The former one is rewritten: its rest is not looked for in a file of its own.
        Twin {
            first: ("w-1", "s\n"),
            change: |path| fs::write(path, "t\n").unwrap(),
            second: ("w-2", "s\na\n"),
            added: &["t", "s", "a"],
            says: "read from its start",
        },
    ];
    for Twin {
        first,
        change,
        second,
        added,
        says,
    } in twins
    {
        let name = second.0;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join("in").join(name);
        fs::create_dir(dir.path().join("in")).unwrap();
        append(&path(first.0), first.1);
        run(dir.path(), &["--input", "in/*"]);
        let had = stored(dir.path()).len();
        change(&path(first.0));
        append(&path(name), second.1);
        let said = run(dir.path(), &["--input", "in/*"]);
        assert_eq!(stored(dir.path())[had..], *added, "{name}: {said}");
        assert!(said.contains(says), "{name}: {said}");
        // Each continues where it ended.
        for path in fs::read_dir(dir.path().join("in")).unwrap() {
            append(&path.unwrap().path(), "end\n");
        }
        run(dir.path(), &["--input", "in/*"]);
        let stored = stored(dir.path());
        assert!(
            stored[had + added.len()..].iter().all(|one| one == "end"),
            "{stored:?}"
        );
        let files = fs::read_dir(dir.path().join("in")).unwrap().count();
        assert_eq!(stored.len(), had + added.len() + files, "{name}");
    }
}

#[test]
fn several_inputs_are_read_in_their_order_each_file_once_from_its_own_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("logs")).unwrap();
    append(&path("z"), "z1\n");
    append(&path("logs/b.log"), "b1\n");
    append(&path("logs/a.log"), "a1\na2\n");
    fs::hard_link(path("z"), path("logs/link.log")).unwrap();
    fs::write(path("logs/c.log.gz"), gzip(b"c1\nc2\n")).unwrap();
    let inputs = [
        "--input",
        "z",
        "--input",
        "logs/*",
        "--input",
        "./z",
        "--input",
        "logs/a.log",
    ];
    let first = ["z1", "a1", "a2", "b1", "c1", "c2"];
    run(dir.path(), &inputs);
    assert_eq!(stored(dir.path()), first);

    append(&path("logs/b.log"), "b2\n");
    append(&path("logs/0.log"), "01\n");
    append(&path("z"), "z2\n");
    run(dir.path(), &inputs);
    assert_eq!(stored(dir.path())[6..], ["z2", "01", "b2"]);
    let ledger: Value = serde_json::from_slice(&fs::read(path("ledger.json")).unwrap()).unwrap();
    assert_eq!(
        (&ledger["next_index"], &ledger["version"]),
        (&json!(9), &json!(3))
    );
    assert_eq!(ledger["files"].as_array().unwrap().len(), 5);

    fs::remove_file(path("ledger.json")).unwrap();
    let args = [&["--to", "local:other", "--shards", "1"][..], &inputs].concat();
    assert_eq!(counts(&produce(dir.path(), &args)), (9, 9, 0, 9));
    let payloads: Vec<_> = records(dir.path(), "other")
        .into_iter()
        .map(|one| one.payload)
        .collect();
    let wanted = ["z1", "z2", "01", "a1", "a2", "b1", "b2", "c1", "c2"].map(|one| one.as_bytes());
    assert_eq!(payloads, wanted);
}

#[test]
fn of_several_inputs_one_that_fails_is_reported_and_the_others_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("a"), "a1\n").unwrap();
    let cut = gzip(&b"{\"n\":1}\n".repeat(10_000));
    fs::write(path("b.gz"), &cut[..cut.len() - 9]).unwrap();
    fs::write(path("c.bz2"), b"BZh91AY").unwrap();
    fs::write(path("d"), "d1\n").unwrap();
    let args = [LEDGER, &["--input", "?", "--input", "*.*z*"]].concat();
    let said = fails(dir.path(), &args, 1);
    assert!(
        said.contains("b.gz") && said.contains("was cut") && said.contains("bzip2"),
        "{said}"
    );
    let stored = stored(dir.path());
    assert_eq!(stored[..2], ["a1", "d1"]);
    let before = stored.len();
    fs::write(path("b.gz"), &cut).unwrap();
    fs::remove_file(path("c.bz2")).unwrap();
    produce(dir.path(), &args);
    assert_eq!(records(dir.path(), "raw").len(), 10_002, "{before} before");
}

#[test]
fn whatever_holds_json_becomes_records_with_keys_and_the_format_is_reported() {
    let pretty =
        "[\r\n  {\r\n    \"id\": \"a\",\r\n    \"n\": 1.0\r\n  },\r\n  {\"id\": \"b\"}\r\n]";
    let utf16: Vec<u8> = pretty.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (input, word) in [
        (pretty.as_bytes().to_vec(), "array"),
        (utf16.clone(), "UTF-16LE"),
        (gzip(&utf16), "UTF-16LE"),
        (
            b"{\"id\":\"a\",\"n\":1.0}{\"id\": \"b\"}".to_vec(),
            "without line ends",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("in"), input).unwrap();
        let args = [
            "--to",
            "local:raw",
            "--shards",
            "1",
            "--input",
            "in",
            "--key",
            "id",
        ];
        let (_, said) = produce_saying(dir.path(), &args);
        assert_eq!(
            stored(dir.path()),
            ["{\"id\":\"a\",\"n\":1.0}", "{\"id\": \"b\"}"]
        );
        let keys: Vec<_> = records(dir.path(), "raw")
            .into_iter()
            .map(|one| one.key.unwrap())
            .collect();
        assert_eq!(keys, ["a", "b"]);
        assert!(said.contains(word), "{said}");
        let (_, said) = produce_saying(dir.path(), &[&args[..], &["--format", "json"]].concat());
        assert_eq!(stored(dir.path()).len(), 4, "{said}");
    }
}

#[test]
fn a_limit_is_reported_with_file_and_line_before_a_record_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let deep = "[".repeat(65) + &"]".repeat(65);
    let long = "x".repeat(9 << 20);
    let text = format!("{{\"n\":1}}\n{{\"l\":{deep}}}\n\"{long}\"\n{{\"n\":5}}\n");
    fs::write(dir.path().join("in"), text).unwrap();
    let args = ["--to", "local:raw", "--shards", "1", "--input", "in"];
    let (report, said) = produce_saying(dir.path(), &args);
    assert_eq!(stored(dir.path()), ["{\"n\":1}", "{\"n\":5}"]);
    assert_eq!(
        report["refused"],
        json!({ "too_deep": 1, "line_too_long": 1 })
    );
    for (line, word) in [(2, "64 levels"), (3, "`--record-bytes`")] {
        let is_reported =
            |said: &str| said.contains(word) && said.contains(&format!("line={line}"));
        assert!(
            said.lines()
                .any(|said| is_reported(said) && said.contains("in\"")),
            "{said}"
        );
    }
}
