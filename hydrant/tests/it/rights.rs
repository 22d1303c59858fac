//! Checks who may read the files that the binaries create.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::binary;

/// Runs a binary under the usual umask, under which other users may read.
fn run(name: &str, dir: &Path, args: &[&str]) {
    let output = Command::new("sh")
        .args(["-c", "umask 022; exec \"$0\" \"$@\""])
        .arg(binary(name))
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("a shell starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} {args:?}\n{stderr}");
}

/// Collects the modes below a path, with one path for each.
fn modes(path: &Path, found: &mut BTreeMap<(bool, u32), String>) {
    let metadata = std::fs::metadata(path).expect("a file that was made");
    let mode = metadata.permissions().mode() & 0o7777;
    found.insert((metadata.is_dir(), mode), path.display().to_string());
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).expect("a directory can be listed") {
            modes(&entry.expect("an entry").path(), found);
        }
    }
}

fn assert_modes(path: &Path, files: u32, directories: u32) {
    let mut found = BTreeMap::new();
    modes(path, &mut found);
    for ((is_dir, mode), example) in found {
        let wanted = if is_dir { directories } else { files };
        assert_eq!(format!("{mode:o}"), format!("{wanted:o}"), "{example}");
    }
}

/// Runs everything from the producer to the lake, with these flags for each process.
fn pipeline(dir: &Path, flags: &[&str]) {
    let lines: String = (0..50).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    std::fs::write(dir.join("in.ndjson"), lines).expect("an input");
    let with = |args: &[&'static str]| [args, flags].concat();
    run(
        "hydrant",
        dir,
        &with(&["stream", "create", "local:data/raw"]),
    );
    let produce = [
        "--to",
        "local:data/raw",
        "--input",
        "in.ndjson",
        "--name",
        "devices",
        "--ledger",
        "devices.ledger",
    ];
    run("hydrant-producer", dir, &with(&produce));
    let sink = [
        "--from",
        "local:data/raw",
        "--to",
        "file:data/lake",
        "--start",
        "earliest",
        "--exit-at-end",
    ];
    run("hydrant-sink", dir, &with(&sink));
}

#[test]
fn streams_and_ledgers_are_their_owners_only() {
    let dir = tempfile::tempdir().expect("a directory");
    pipeline(dir.path(), &[]);
    assert_modes(&dir.path().join("data/raw"), 0o600, 0o700);
    assert_modes(&dir.path().join("devices.ledger"), 0o600, 0o700);
    // Results for other users, and the directories above them, are readable.
    assert_modes(&dir.path().join("data/lake"), 0o644, 0o755);
    let above = std::fs::metadata(dir.path().join("data")).expect("the directory above");
    assert_eq!(above.permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_file_mode_widens_the_rights() {
    let dir = tempfile::tempdir().expect("a directory");
    pipeline(dir.path(), &["--file-mode", "0660"]);
    assert_modes(&dir.path().join("data/raw"), 0o660, 0o770);
    assert_modes(&dir.path().join("devices.ledger"), 0o660, 0o770);
}
