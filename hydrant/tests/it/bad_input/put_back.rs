//! A lake whose directory gets the files of a backup again: its sink adds what the lake lacks since.

use std::fs;
use std::process::Command;

use crate::test_dir::TestDir;

const RECORDS: u64 = 300;

fn sink(place: &TestDir, start: &str) {
    let args = ["--from", "local:raw", "--to", "file:lake", "--start", start];
    let end = ["--exit-at-end", "--idle", "50ms"];
    place
        .run("hydrant-sink", &[&args[..], &end].concat())
        .expect(0, &[]);
}

/// Sends more records, and answers when the lake has all of them.
fn send(place: &TestDir, seed: u64) {
    place.simulate("local:raw", RECORDS, seed);
    sink(place, "earliest");
}

fn copy(place: &TestDir, from: &str, to: &str) {
    let copied = Command::new("cp")
        .args(["-a", from, to])
        .current_dir(place.root())
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
}

/// Puts the files of the backup into the lake's directory, which stays the same one.
fn put_back(place: &TestDir) {
    for entry in fs::read_dir(place.path("lake")).expect("the lake reads") {
        let path = entry.expect("the lake reads").path();
        fs::remove_dir_all(path).expect("the lake holds directories, which can be removed");
    }
    copy(place, "backup/.", "lake");
}

#[track_caller]
fn assert_rows(place: &TestDir, records: u64) {
    let verified = place.sound("file:lake");
    assert_eq!(verified["rows"], records, "{verified}");
}

#[test]
fn a_lake_that_is_put_back_gets_what_it_lacks_of_open_and_ended_shards() {
    let place = TestDir::new();
    place.create("local:raw", 2);
    send(&place, 1);
    copy(&place, "lake", "backup");
    send(&place, 2);
    put_back(&place);
    assert_rows(&place, RECORDS);
    sink(&place, "earliest");
    assert_rows(&place, 2 * RECORDS);
    // Since the backup shards have ended, and a child of them, too.
    for split in ["000000", "000002"] {
        let args = ["stream", "split", "local:raw", split];
        place.run("hydrant", &args).expect(0, &[]);
        send(&place, 3);
    }
    assert_rows(&place, 4 * RECORDS);
    put_back(&place);
    sink(&place, "earliest");
    assert_rows(&place, 4 * RECORDS);
}

#[test]
fn a_lake_that_is_put_back_to_before_its_first_record_begins_where_its_app_began() {
    let place = TestDir::new();
    place.create("local:raw", 2);
    place.simulate("local:raw", RECORDS, 1);
    sink(&place, "latest");
    place.simulate("local:raw", RECORDS, 2);
    sink(&place, "latest");
    sink(&place, "latest");
    assert_rows(&place, RECORDS);
    // The table was there before its first record.
    copy(&place, "lake", "backup");
    let commits = place.path("backup/_hydrant/events/commits");
    fs::remove_dir_all(commits).expect("the records can be removed");
    fs::remove_dir_all(place.path("backup/events")).expect("the rows can be removed");
    put_back(&place);
    sink(&place, "latest");
    assert_rows(&place, RECORDS);
}
