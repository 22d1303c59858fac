//! What is refused with 64 before anything is sent, and how.

use crate::process::{fails, produce, produce_piped};

#[test]
fn wrong_flags_are_refused_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let said = fails(dir.path(), &["--to", "local:raw", "--simulte", "5"], 64);
    assert!(said.contains("--simulate"), "{said}");
    let args = [
        "--simulate",
        "5",
        "--rate",
        "fast",
        "--linger",
        "1",
        "--name",
        "x",
    ];
    let said = fails(dir.path(), &args, 64);
    for word in ["--to", "--rate", "--linger", "--ledger"] {
        assert!(said.contains(word), "`{word}` is not in {said}");
    }
    assert!(!dir.path().join("raw").exists());
}

#[test]
fn what_cannot_be_opened_is_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let to = ["--to", "local:raw"];
    std::fs::write(dir.path().join("in.bz2"), b"BZh91AY").unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["--input", "absent.ndjson"], "no such file"),
        (&["--input", "."], "directory"),
        (&["--input", "in.bz2"], "bzip2"),
        (&["--input", "*.absent"], "no file matches"),
        (&["--input", ".", "--follow"], "cannot be followed"),
        (
            &[
                "--simulate",
                "1",
                "--name",
                "a",
                "--ledger",
                "absent/ledger.json",
            ],
            "create it first",
        ),
        (
            &["--simulate", "1", "--report", "absent/report.json"],
            "create it first",
        ),
    ];
    for (args, word) in cases {
        let said = fails(dir.path(), &[&to[..], args].concat(), 64);
        assert!(said.contains(word), "{args:?}: {said}");
        // What is not there, or is not what it should be, is seen before a stream is made for it.
        let is_looked_into = ["bzip2", "no file matches", "cannot be followed"].contains(word);
        let is_made = dir.path().join("raw").exists();
        assert!(is_looked_into || !is_made, "{args:?}");
        if is_made {
            std::fs::remove_dir_all(dir.path().join("raw")).unwrap();
        }
    }
    let said = fails(dir.path(), &["--to", "file:x", "--simulate", "1"], 64);
    assert!(said.contains("file:x"), "{said}");
}

#[test]
fn a_ledger_of_another_input_or_stream_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ["--to", "local:raw", "--name", "edge", "--ledger", "l.json"];
    let with = |more: &[&'static str]| [&ledger[..], more].concat();
    produce(dir.path(), &with(&["--simulate", "50"]));
    for (args, word) in [
        (with(&["--simulate", "50", "--seed", "2"]), "--seed"),
        (with(&["--simulate", "50", "--pii", "off"]), "--pii"),
        (with(&["--simulate", "50", "--key", "kind"]), "--key kind"),
        (
            with(&["--input", "-"]),
            "the simulator, not files or standard input",
        ),
    ] {
        let said = fails(dir.path(), &args, 64);
        assert!(said.contains(word), "{said}");
    }
    let other_name: Vec<&str> = with(&["--simulate", "50"])
        .into_iter()
        .map(|one| if one == "edge" { "b" } else { one })
        .collect();
    assert!(fails(dir.path(), &other_name, 64).contains("`edge`, not `b`"));
    std::fs::remove_dir_all(dir.path().join("raw")).unwrap();
    for (args, word) in [
        (with(&["--simulate", "50"]), "the stream `raw@"),
        (with(&["--simulate", "50", "--seed", "2"]), "--seed"),
        (with(&["--input", "-"]), "not files or standard input"),
        (other_name, "`edge`, not `b`"),
    ] {
        let said = fails(dir.path(), &args, 64);
        assert!(said.contains(word), "{said}");
        // No stream is made for a ledger that cannot be about it.
        assert!(!dir.path().join("raw").exists(), "{args:?}");
    }
    std::fs::write(dir.path().join("l.json"), "{}").unwrap();
    fails(dir.path(), &with(&["--simulate", "50"]), 64);
    assert!(!dir.path().join("raw").exists());
    // A directory that the stream brings with it need not be there.
    let ledger = [
        "--to",
        "local:./new/raw",
        "--name",
        "e",
        "--ledger",
        "new/l.json",
    ];
    produce(dir.path(), &[&ledger[..], &["--simulate", "50"]].concat());
}

#[test]
fn a_line_that_is_too_long_is_counted_and_the_rest_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut input = b"{\"n\":1}\n".to_vec();
    input.extend(std::iter::repeat_n(b'x', 17 << 20));
    input.extend_from_slice(b"\n{\"n\":3}\n");
    let report = produce_piped(dir.path(), &["--to", "local:raw", "--input", "-"], &input);
    assert_eq!(report["refused"], serde_json::json!({ "line_too_long": 1 }));
    assert_eq!(
        (&report["accepted"], &report["stored"]),
        (&2.into(), &2.into())
    );
    assert_eq!(report["next_index"], 3);
}

/// A file that is renamed over a device would take it from the whole machine.
#[test]
fn devices_stay_devices() {
    use std::os::unix::fs::FileTypeExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in"), "{\"a\":1}\n").unwrap();
    let flags = ["--to", "local:raw", "--input", "in", "--shards", "1"];
    let report = produce(
        dir.path(),
        &[&flags[..], &["--report", "/dev/null"]].concat(),
    );
    assert_eq!(report["stored"], 1);
    let ledger = ["--name", "n", "--ledger", "/dev/null"];
    let said = fails(dir.path(), &[&flags[..], &ledger].concat(), 64);
    assert!(said.contains("`/dev/null` is not a regular file"), "{said}");
    let device = std::fs::symlink_metadata("/dev/null").unwrap().file_type();
    assert!(device.is_char_device());
}
