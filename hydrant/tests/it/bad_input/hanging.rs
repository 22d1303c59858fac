//! Disks that hang: a named pipe without a writer stands for a file system that is gone.

use std::process::Command;

use crate::test_dir::{TestDir, assert_no_panic};

#[test]
fn a_drain_beside_a_disk_that_hangs_ends_in_time_and_names_it() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.simulate("local:raw", 50, 1);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let table = place.path("lake/_hydrant/events/table.json");
    std::fs::remove_file(&table).expect("the table has an identity");
    let made = Command::new("mkfifo").arg(&table).status();
    assert!(made.expect("mkfifo runs").success());
    let to = ["--from", "local:raw", "--to", "file:lake"];
    let limits = ["--drain-timeout", "1s", "--metrics", "127.0.0.1:0"];
    let mut sink = place.start("hydrant-sink", &[to, limits].concat(), "sink.log");
    // The message comes after the signal handlers are installed.
    place.wait_until("the sink listens", || {
        place.read_so_far("sink.log").contains("metrics on ")
    });
    sink.signal("-TERM");
    assert_eq!(place.wait_for_end(&mut sink), Some(1));
    let log = place.read_so_far("sink.log");
    assert_no_panic(&log);
    assert!(
        log.contains("the disk has not answered in `lake` for "),
        "{log}"
    );
}
