//! Removing rows on purpose: `lake expire` and `lake retention`, with a sink before and after.

use serde_json::Value;

use crate::test_dir::TestDir;

/// A table with a row a day, from 1 to 9 November 2026, and the sink's next run.
fn table() -> TestDir {
    let place = TestDir::new();
    place.create("local:raw", 1);
    let records: Vec<String> = (1..10)
        .map(|day| format!(r#"{{"n":{day},"ts":"2026-11-0{day}T10:00:00Z"}}"#))
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    place.put("local:raw", &records);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    place
}

fn days(place: &TestDir) -> Vec<i64> {
    place.integers("lake", "n")
}

fn expire(place: &TestDir, more: &[&str]) -> Value {
    let command = [&["lake", "expire", "file:lake", "--json"], more].concat();
    place.run("hydrant", &command).expect(0, &[]).json()
}

#[test]
fn what_was_expired_is_gone_counted_and_never_comes_back() {
    let place = table();
    let dry = expire(&place, &["--before", "2026-11-04", "--dry-run"]);
    assert_eq!(days(&place).len(), 9, "{dry}");
    let removed = expire(&place, &["--before", "2026-11-04"]);
    // All rows of a record count for the first of a month, which may hold late ones.
    assert_eq!(days(&place), [1, 4, 5, 6, 7, 8, 9], "{removed}");
    expire(&place, &["--partition", "date=2026-11-01"]);
    expire(&place, &["--partition", "date=2026-11-07"]);
    assert_eq!(days(&place), [4, 5, 6, 8, 9]);
    let verified = place.sound("file:lake");
    assert_eq!(
        (&verified["input"], &verified["rows"]),
        (&9.into(), &9.into()),
        "{verified}"
    );
    place.put("local:raw", &[r#"{"n":10,"ts":"2026-11-10T10:00:00Z"}"#]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    assert_eq!(days(&place), [4, 5, 6, 8, 9, 10]);
    place.sound("file:lake");
    let wrong = ["lake", "expire", "file:lake", "--partition", "n=5"];
    place
        .run("hydrant", &wrong)
        .expect(64, &["`n` is not a partition", "`date`"]);
    place
        .run("hydrant", &["lake", "expire", "file:lake"])
        .expect(64, &["--before"]);
}

#[test]
fn a_partition_that_is_not_there_is_told_and_one_that_cannot_be_is_refused() {
    let place = table();
    let run = |more: &[&str]| {
        let command = [&["lake", "expire", "file:lake"], more].concat();
        place.run("hydrant", &command)
    };
    let answer = run(&["--partition", "date=2026-12-24"]);
    answer.expect(
        0,
        &[
            "removed 0 files",
            "no file lies in date=2026-12-24; there are: 2026-11-01, 2026-11-02",
        ],
    );
    let answer = expire(&place, &["--partition", "date=2026-12-24", "--dry-run"]);
    assert_eq!(
        answer["not_found"][0]["there_are"]
            .as_array()
            .unwrap()
            .len(),
        9
    );
    for value in ["24.12.2026", "null", "2026-11-32"] {
        let partition = format!("date={value}");
        run(&["--partition", &partition]).expect(
            64,
            &[
                "is no value of the partition `date`",
                "`2026-11-30`",
                "`__HIVE_DEFAULT_PARTITION__`",
            ],
        );
    }
    place.put("local:raw", &[r#"{"n":10,"ts":"none"}"#]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    run(&["--partition", "date=__HIVE_DEFAULT_PARTITION__"]).expect(0, &["removed 1 file"]);
    assert_eq!(days(&place).len(), 9);
    place.sound("file:lake");
}

#[test]
fn a_time_that_leaves_no_row_wants_a_confirmation_and_files_that_stay_are_named() {
    let place = table();
    let run = |more: &[&str]| {
        let command = [&["lake", "expire", "file:lake"], more].concat();
        place.run("hydrant", &command)
    };
    let mixed = run(&["--before", "2026-11-04"]);
    mixed.expect(
        0,
        &[
            "1 file (in date=2026-11-01) may hold such rows",
            "`--partition`",
        ],
    );
    let refused = run(&["--before", "2027-01-01"]);
    refused.expect(64, &["removes all 7 rows of table `events`", "`--yes`"]);
    assert_eq!(days(&place).len(), 7);
    run(&["--before", "2027-01-01", "--dry-run"]).expect(0, &["would remove 7 files"]);
    run(&["--before", "2027-01-01", "--yes"]).expect(0, &["removed 7 files"]);
    assert!(days(&place).is_empty());
    place.sound("file:lake");
}

#[test]
fn files_removed_by_hand_are_accepted_and_stop_no_start() {
    let place = table();
    std::fs::remove_dir_all(place.path("lake/events/date=2026-11-05")).unwrap();
    let missing = place.verify("file:lake").expect(1, &["missing"]);
    assert!(missing.out.contains("date=2026-11-05"), "{missing:?}");
    expire(&place, &["--missing"]);
    place.sound("file:lake");
    place.put("local:raw", &[r#"{"n":10,"ts":"2026-11-10T10:00:00Z"}"#]);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    assert_eq!(days(&place), [1, 2, 3, 4, 6, 7, 8, 9, 10]);
    place.sound("file:lake");
}

#[test]
fn a_retention_is_declared_shown_and_cleared() {
    let place = table();
    let retention = |more: &[&str]| {
        let command = [&["lake", "retention", "file:lake"], more].concat();
        place.run("hydrant", &command)
    };
    retention(&["--set", "90d"]).expect(0, &["90"]);
    retention(&[]).expect(0, &["90"]);
    retention(&["--set", "1h"]).expect(64, &["1h"]);
    retention(&["--clear"]).expect(0, &[]);
    place.sound("file:lake");
}

/// What lies beside an erased partition is told, with the command that shows it.
#[test]
fn rows_beside_an_erased_tenant_are_told() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    let sink = [
        "--from",
        "local:raw",
        "--to",
        "file:lake",
        "--partition",
        "tenant",
        "--exit-at-end",
    ];
    place.put(
        "local:raw",
        &[r#"{"n":1,"tenant":7}"#, r#"{"n":2,"tenant":8}"#],
    );
    place.run("hydrant-sink", &sink).expect(0, &[]);
    place.put(
        "local:raw",
        &[r#"{"n":3,"tenant":"7"}"#, r#"{"n":4,"Tenant":7}"#],
    );
    place.run("hydrant-sink", &sink).expect(0, &[]);
    let command = ["lake", "expire", "file:lake", "--partition", "tenant=7"];
    let told = place.run("hydrant", &command);
    let show = "lake cat file:lake --table events --where 'tenant IS NULL'";
    let told = told.expect(
        0,
        &["2 rows in the default partition stay", "_rescued", show],
    );
    assert!(told.out.contains("with 1 row and"), "{told:?}");
    let show = [
        "lake",
        "cat",
        "file:lake",
        "--table",
        "events",
        "--where",
        "tenant IS NULL",
    ];
    let shown = place.run("hydrant", &show);
    shown.expect(0, &[r#"{\"tenant\":\"7\"}"#, r#"{\"Tenant\":7}"#]);
    let again = expire(
        &place,
        &["--partition", "tenant=__HIVE_DEFAULT_PARTITION__"],
    );
    assert_eq!(
        (&again["rows"], &again["default_rows"]),
        (&2.into(), &0.into())
    );
    assert_eq!(days(&place), [2]);
}
