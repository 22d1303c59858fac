//! Files that are made longer before they are written: lines take the place of NULs.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::files::{LEDGER, run, stored};
use crate::follow::await_records;
use crate::process::{RunningProducer, produce};

/// Writes `text` over the NULs at `at`; answers where it ends.
fn write_over(path: &Path, text: &str, at: u64) -> u64 {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(text.as_bytes(), at).unwrap();
    at + text.len() as u64
}

#[test]
fn each_run_reads_what_was_written_over_nuls_since_the_last_one() {
    for (at_end, wanted) in [
        ("wait", &["1", "2", "3a", "4", "5"][..]),
        ("send", &["1", "2", "3", "a", "4", "5"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g");
        fs::write(&path, [0; 64]).unwrap();
        let run = || run(dir.path(), &["--input", "g", "--at-end", at_end]);
        run();
        let mut at = write_over(&path, "1\n2\n3", 0);
        run();
        at = write_over(&path, "a\n4\n", at);
        let said = run();
        assert!(!said.contains("read from its start"), "{said}");
        // A writer continued behind what it left out: that is blank space.
        at = write_over(&path, "5\n", at + 20);
        run();
        assert_eq!(stored(dir.path()), wanted, "--at-end {at_end}");
        fs::write(&path, &fs::read(&path).unwrap()[..at as usize]).unwrap();
        let args = [LEDGER, &["--input", "g", "--at-end", at_end]].concat();
        assert_eq!(produce(dir.path(), &args)["accepted"], 0);
    }
}

#[test]
fn what_is_written_over_nuls_is_followed_and_read_once_over_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let args = [LEDGER, &["--input", "*.log", "--follow", "--linger", "2ms"]].concat();
    let lines: Vec<String> = (0..12).map(|n| format!("{{\"n\":{n}}}")).collect();
    fs::write(&path, [0; 4_096]).unwrap();
    let mut at = 0;
    let mut seen: Vec<&str> = Vec::new();
    let mut running = RunningProducer::start(dir.path(), &args);
    for (n, line) in lines.iter().enumerate() {
        at = write_over(&path, &format!("{line}\n"), at);
        seen.push(line);
        if n % 4 != 3 {
            await_records(dir.path(), &seen);
            continue;
        }
        running.kill();
        running = RunningProducer::start(dir.path(), &args);
    }
    await_records(dir.path(), &seen);
    running.terminate();
}
