//! Files at no input's path that cannot be read for a while: what stands behind the failure is sent once it can be read.

use std::fs;
use std::path::Path;

use crate::files::{LEDGER, append, gzip, run, stored};
use crate::process::{RunningProducer, await_some, fails};
use crate::unlookable::await_said;

const FOLLOWED: &[&str] = &["--follow", "--linger", "2ms", "--input"];

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

/// Compressed lines, all of which the second part completes: until then the file ends in the middle.
fn packed() -> (Vec<u8>, Vec<u8>) {
    let member = gzip(lines(10..2_000).as_bytes());
    let (start, end) = member.split_at(member.len() / 2);
    (
        [gzip(lines(0..10).as_bytes()), start.to_vec()].concat(),
        end.to_vec(),
    )
}

fn append_bytes(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// Each number below `end` is stored once, whatever was rotated meanwhile.
fn assert_all(dir: &Path, end: u32) {
    let mut found = stored(dir);
    found.sort();
    let mut wanted: Vec<String> = lines(0..end).lines().map(str::to_owned).collect();
    wanted.sort();
    let lost = wanted
        .iter()
        .filter(|one| found.binary_search(one).is_err());
    assert_eq!(lost.count(), 0, "records are in no stream");
    assert_eq!(found, wanted);
}

fn await_all(dir: &Path, end: u32) {
    await_some("the records", || {
        (stored(dir).len() >= end as usize).then_some(())
    });
    assert_all(dir, end);
}

#[test]
fn what_is_left_of_a_rest_that_could_not_be_read_is_sent_by_a_later_run() {
    type Rotate = fn(&Path, &[u8]) -> &'static str;
    let compressed: Rotate = |dir, start| {
        append(&dir.join("app"), &lines(0..5));
        run(dir, &["--input", "app"]);
        fs::write(dir.join("app.1.gz"), start).unwrap();
        fs::remove_file(dir.join("app")).unwrap();
        "app.1.gz"
    };
    let renamed_long_ago: Rotate = |dir, start| {
        fs::write(dir.join("app"), gzip(lines(0..10).as_bytes())).unwrap();
        run(dir, &["--input", "app"]);
        fs::write(dir.join("app"), start).unwrap();
        fs::rename(dir.join("app"), dir.join("app.1")).unwrap();
        let file = fs::File::options()
            .write(true)
            .open(dir.join("app.1"))
            .unwrap();
        let hours = std::time::Duration::from_secs(7_200);
        let written = file.metadata().unwrap().modified().unwrap();
        file.set_modified(written - hours).unwrap();
        "app.1"
    };
    for rotate in [compressed, renamed_long_ago] {
        let dir = tempfile::tempdir().unwrap();
        let (start, end) = packed();
        let rest = rotate(dir.path(), &start);
        append(&dir.path().join("app"), &lines(2_000..2_002));
        let args = [LEDGER, &["--input", "app"]].concat();
        let said = fails(dir.path(), &args, 1);
        assert!(said.contains(rest), "{said}");
        append_bytes(&dir.path().join(rest), &end);
        run(dir.path(), &["--input", "app"]);
        assert_all(dir.path(), 2_002);
    }
}

#[test]
fn a_followed_rest_that_could_not_be_read_is_read_on_once_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (start, end) = packed();
    append(&path("app"), &lines(0..5));
    run(dir.path(), &["--input", "app"]);
    fs::write(path("app.1.gz"), start).unwrap();
    fs::remove_file(path("app")).unwrap();
    append(&path("app"), &lines(2_000..2_002));
    let said = path("said");
    let args = [LEDGER, FOLLOWED, &["app"]].concat();
    let running = RunningProducer::start_saying(dir.path(), &args, &said);
    await_said(&said, &["WARN", "app.1.gz", "tries it again"]);
    append_bytes(&path("app.1.gz"), &end);
    await_all(dir.path(), 2_002);
    running.terminate();
}

#[test]
fn a_followed_file_that_is_renamed_while_it_cannot_be_read_is_found_again() {
    for ledger in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (start, end) = packed();
        fs::write(path("app"), start).unwrap();
        let said = path("said");
        let to = if ledger { LEDGER } else { &LEDGER[..4] };
        let args = [to, FOLLOWED, &["app"]].concat();
        let running = RunningProducer::start_saying(dir.path(), &args, &said);
        await_said(&said, &["WARN", "tries it again"]);
        fs::rename(path("app"), path("app.1")).unwrap();
        append(&path("other"), "wakes it\n");
        // It has seen that no input leads to the file any more.
        append(&path("app"), &lines(2_000..2_001));
        await_some("the next file", || {
            let has = |one: &String| one == "{\"n\":2000}";
            stored(dir.path()).iter().any(has).then_some(())
        });
        append_bytes(&path("app.1"), &end);
        await_all(dir.path(), 2_001);
        running.terminate();
    }
}

#[test]
fn a_renamed_file_that_is_truncated_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("app"), &lines(0..5));
    let said = path("said");
    let args = [LEDGER, FOLLOWED, &["app"]].concat();
    let running = RunningProducer::start_saying(dir.path(), &args, &said);
    await_some("the stream", || {
        path("raw/manifest.json").exists().then_some(())
    });
    await_all(dir.path(), 5);
    fs::rename(path("app"), path("app.1")).unwrap();
    append(&path("app"), &lines(5..6));
    await_all(dir.path(), 6);
    fs::write(path("app.1"), "").unwrap();
    await_said(&said, &["WARN", "is gone", "lines=5"]);
    running.terminate();
}

/// The log waits for the next line before it decides what the second one is: both were read at once.
#[test]
fn what_was_sent_with_the_beginning_of_a_record_is_not_sent_again_from_a_copy() {
    for ledger in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        append(&path("app"), "{\"n\":0}\n{\"n\":1},\n");
        let to = if ledger { LEDGER } else { &LEDGER[..4] };
        let args = [to, FOLLOWED, &["app"]].concat();
        let running = RunningProducer::start(dir.path(), &args);
        await_some("the stream", || {
            path("raw/manifest.json").exists().then_some(())
        });
        await_all(dir.path(), 1);
        fs::copy(path("app"), path("app.1")).unwrap();
        fs::write(path("app"), "").unwrap();
        append(&path("app"), &lines(1..9));
        await_all(dir.path(), 9);
        let report = running.terminate();
        assert_eq!(report["duplicates"], 0);
    }
}
