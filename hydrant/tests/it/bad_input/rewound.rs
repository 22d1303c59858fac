//! An app that goes back in its input: records that its output cannot take are refused, and the refusal names the
//! command that sends them again.

use crate::test_dir::{Answer, TestDir};

/// Records that the app skips, and records that it copies after them.
const PASSED: u64 = 300;
const COPIED: u64 = 200;

const REMEDY: &str = "hydrant stream reprocess local:raw --app hydrant-consumer --from earliest";

fn copy(place: &TestDir, start: &str) -> Answer {
    let args = [
        "--from",
        "local:raw",
        "--to",
        "local:clean",
        "--start",
        start,
        "--exit-at-end",
        "--idle",
        "50ms",
    ];
    place.run("hydrant-consumer", &args)
}

fn reprocess(place: &TestDir, from: &str) -> Answer {
    let app = ["--app", "hydrant-consumer", "--from", from];
    let args = ["stream", "reprocess", "local:raw"];
    place.run("hydrant", &[&args[..], &app[..]].concat())
}

/// A copy that began at the latest record.
fn begun_at_latest() -> TestDir {
    let place = TestDir::new();
    place.create("local:raw", 2);
    place.create("local:clean", 2);
    place.simulate("local:raw", PASSED, 1);
    copy(&place, "latest").expect(0, &[]);
    place.simulate("local:raw", COPIED, 2);
    copy(&place, "latest").expect(0, &[]);
    assert_eq!(in_clean(&place), COPIED);
    place
}

fn in_clean(place: &TestDir) -> u64 {
    place.stored("local:clean").iter().sum()
}

fn forget_progress(place: &TestDir) {
    let apps = place.home("raw").join("_apps");
    std::fs::remove_dir_all(apps).expect("the progress can be removed");
}

#[test]
fn skipped_records_are_refused_until_they_are_sent_as_new() {
    let place = begun_at_latest();
    forget_progress(&place);
    copy(&place, "earliest").expect(64, &[REMEDY]);
    assert_eq!(
        in_clean(&place),
        COPIED,
        "nothing was acknowledged or stored"
    );
    reprocess(&place, "earliest").expect(0, &["takes the records from here on as new ones"]);
    copy(&place, "earliest").expect(0, &[]);
    let all = COPIED + PASSED + COPIED;
    assert_eq!(in_clean(&place), all);
    // The generation outlives the progress, so records that are sent again are recognised.
    forget_progress(&place);
    copy(&place, "earliest").expect(0, &[]);
    assert_eq!(in_clean(&place), all);
}

/// Shards of the output without records of the app would take what the others refuse.
#[test]
fn skipped_records_reach_no_shard_of_the_output() {
    let place = TestDir::new();
    place.create("local:raw", 2);
    place.create("local:clean", 8);
    place.simulate("local:raw", PASSED, 1);
    copy(&place, "latest").expect(0, &[]);
    place.simulate("local:raw", 2, 2);
    copy(&place, "latest").expect(0, &[]);
    forget_progress(&place);
    for _ in 0..2 {
        copy(&place, "earliest").expect(64, &[REMEDY]);
        assert_eq!(in_clean(&place), 2);
    }
    reprocess(&place, "earliest").expect(0, &[]);
    copy(&place, "earliest").expect(0, &[]);
    assert_eq!(in_clean(&place), 2 + PASSED + 2);
}

#[test]
fn a_split_and_a_merge_keep_what_was_skipped() {
    let place = begun_at_latest();
    let stream = |args: &[&str]| {
        place
            .run("hydrant", &[&["stream"], args].concat())
            .expect(0, &[])
    };
    stream(&["split", "local:clean", "000000"]);
    stream(&["merge", "local:clean", "000001", "000003"]);
    forget_progress(&place);
    copy(&place, "earliest").expect(64, &[REMEDY]);
    stream(&["split", "local:raw", "000001"]);
    copy(&place, "earliest").expect(64, &[REMEDY]);
    reprocess(&place, "earliest").expect(0, &[]);
    copy(&place, "earliest").expect(0, &[]);
    assert_eq!(in_clean(&place), COPIED + PASSED + COPIED);
}

#[test]
fn a_start_beyond_what_is_known_passes_over_what_lies_between() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.create("local:clean", 1);
    place.simulate("local:raw", COPIED, 1);
    copy(&place, "earliest").expect(0, &[]);
    place.simulate("local:raw", PASSED, 2);
    forget_progress(&place);
    copy(&place, "latest").expect(0, &[]);
    place.simulate("local:raw", COPIED, 3);
    copy(&place, "latest").expect(0, &[]);
    assert_eq!(in_clean(&place), COPIED + COPIED);
    forget_progress(&place);
    copy(&place, "earliest").expect(64, &[REMEDY]);
    assert_eq!(in_clean(&place), COPIED + COPIED);
}

#[test]
fn one_shard_is_sent_again_from_a_position_and_the_others_continue() {
    let place = TestDir::new();
    place.create("local:raw", 2);
    place.create("local:clean", 1);
    place.simulate("local:raw", PASSED, 1);
    copy(&place, "earliest").expect(0, &[]);
    let in_first = place.stored("local:raw")[0];
    assert!(in_first > 10, "the first shard has {in_first} records");
    reprocess(&place, &format!("000000:{}", in_first - 10)).expect(0, &["000000"]);
    copy(&place, "earliest").expect(0, &[]);
    assert_eq!(in_clean(&place), PASSED + 10);
    copy(&place, "earliest").expect(0, &[]);
    assert_eq!(in_clean(&place), PASSED + 10);
}

#[test]
fn what_keeps_nothing_is_written_to_once_more() {
    let place = TestDir::new();
    place.create("local:raw", 2);
    place.simulate("local:raw", COPIED, 1);
    let app = ["--app", "printer"];
    let printed = || {
        let end = ["--to", "-", "--exit-at-end", "--idle", "50ms"];
        let args = [&["--from", "local:raw"], &app[..], &end].concat();
        let answer = place.run("hydrant-consumer", &args).expect(0, &[]);
        answer.out.lines().count() as u64
    };
    assert_eq!(printed(), COPIED);
    assert_eq!(printed(), 0);
    let args = ["stream", "reprocess", "local:raw"];
    place
        .run("hydrant", &[&args[..], &app].concat())
        .expect(0, &["`printer` will start here"]);
    assert_eq!(printed(), COPIED);
}

#[test]
fn reprocessing_is_refused_where_it_would_do_harm() {
    let place = begun_at_latest();
    reprocess(&place, "000009:1").expect(64, &["no shard `000009`"]);
    reprocess(&place, "000000:x").expect(64, &["000000:x"]);
    // The shard is open: who has done it to its end would never read it again.
    reprocess(&place, "000000:end").expect(64, &["`000000:end` names no record"]);
    reprocess(&place, "000000:500").expect(64, &["`000000:500` is after the newest record"]);
    let other = [
        "stream",
        "reprocess",
        "local:raw",
        "--app",
        "hydrnt-consumer",
    ];
    place
        .run("hydrant", &other)
        .expect(64, &["`hydrnt-consumer`", "`hydrant-consumer`"]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let sink = ["stream", "reprocess", "local:raw", "--app", "hydrant-sink"];
    place.run("hydrant", &sink).expect(64, &["table `events`"]);
    let args = ["--from", "local:raw", "--to", "local:clean"];
    let running = place.start("hydrant-consumer", &args, "consumer.log");
    place.wait_until("a worker is registered", || {
        let apps = place.describe("local:raw")["apps"].clone();
        let rows = apps.as_array().into_iter().flatten();
        let mut rows = rows.flat_map(|app| app["leases"].as_array().into_iter().flatten());
        rows.any(|row| row["owner"].is_string())
    });
    reprocess(&place, "earliest").expect(64, &["worker", "is running"]);
    drop(running);
    copy(&place, "earliest").expect(0, &[]);
    assert_eq!(in_clean(&place), COPIED);
}
