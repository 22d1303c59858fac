//! Streams, lakes, tables and copies that would lie in one another: refused with what lies there and what to write.

use crate::test_dir::TestDir;

/// A stream `raw` and a lake `lake` with the table `events`, in one directory.
fn filled() -> TestDir {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.simulate("local:raw", 20, 1);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    place.create("local:data/clean", 1);
    place
}

#[track_caller]
fn refused(place: &TestDir, line: &str, words: &[&str]) {
    let parts: Vec<&str> = line.split(' ').collect();
    let answer = place.run(parts[0], &parts[1..]).expect(64, words);
    let errors = answer
        .err
        .lines()
        .filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{}", answer.err);
}

#[test]
fn nothing_is_put_into_a_stream_or_a_table() {
    let place = filled();
    let table = "the table `events` of the lake `file:lake`";
    let sink = "hydrant-sink --exit-at-end --from local:raw --to";
    for (to, words) in [
        (
            "file:lake/events",
            &[table, "write `file:lake` and `--table events`"][..],
        ),
        ("file:lake/events/date=x", &["lies in", table]),
        (
            "file:lake/_hydrant",
            &["`_hydrant` of the lake `file:lake`"],
        ),
        ("file:raw", &["`raw` is the stream `local:raw`"]),
        ("file:raw/lake", &["lies in the stream `local:raw`"]),
        ("file:x/../raw", &["`raw` is the stream `local:raw`"]),
        (
            "file:. --table raw",
            &["is the stream `local:raw`", "another `--table`"],
        ),
        (
            "file:. --table lake",
            &["is the lake `file:lake`: write `file:lake`"],
        ),
    ] {
        refused(&place, &format!("{sink} {to}"), words);
    }
    for (to, words) in [
        ("local:lake", "`lake` is the lake `file:lake`"),
        ("local:lake/events", table),
        ("local:lake/events/x", table),
        ("local:lake/_hydrant/x", "lies in the directory `_hydrant`"),
        ("local:raw/x", "lies in the stream `local:raw`"),
        ("local:data", "`data` holds the stream `local:data/clean`"),
    ] {
        refused(
            &place,
            &format!("hydrant stream create {to} --shards 1"),
            &[words],
        );
        refused(
            &place,
            &format!("hydrant-producer --simulate 1 --to {to}"),
            &[words],
        );
        refused(
            &place,
            &format!("hydrant-transform --exit-at-end --from local:raw --to {to}"),
            &[words],
        );
    }
    for (to, words) in [
        ("lake/events/copy.parquet", table),
        ("lake/_hydrant/copy", "lies in the directory `_hydrant`"),
        ("file:raw/copy", "lies in the stream `local:raw`"),
    ] {
        refused(
            &place,
            &format!("hydrant-consumer --exit-at-end --from local:raw --to {to}"),
            &[words],
        );
        assert!(!place.path(to).exists());
    }
    assert_eq!(place.sound("file:lake")["rows"], 20);
}

#[test]
fn what_lies_beside_each_other_stays_allowed() {
    let place = filled();
    place.create("local:lake/beside", 1);
    place.create("local:data/raw", 1);
    place.write("site/manifest.json", "{}");
    place.create("local:site/raw", 1);
    for to in [
        &["file:."][..],
        &["file:lake", "--table", "more"],
        &["file:site"],
    ] {
        let mut args = vec![
            "--exit-at-end",
            "--idle",
            "50ms",
            "--from",
            "local:raw",
            "--to",
        ];
        args.extend(to);
        place.run("hydrant-sink", &args).expect(0, &["20 rows"]);
    }
    let copy = [
        "--exit-at-end",
        "--idle",
        "50ms",
        "--from",
        "local:raw",
        "--to",
        "lake/copy",
    ];
    place
        .run("hydrant-consumer", &copy)
        .expect(0, &["20 records"]);
}

#[test]
fn a_home_that_only_a_shell_knows_is_no_directory() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.write(
        "run.toml",
        "[run]\ndir = \"~/x\"\n[producer]\nsimulate = 1\n",
    );
    for line in [
        "hydrant-sink --from local:raw --to file:~/lake",
        "hydrant stream create local:~/raw --shards 1",
        "hydrant-producer --simulate 1 --to local:~/raw",
        "hydrant-producer --simulate 1 --to local:raw --name x --ledger ~/x.json",
        "hydrant-consumer --from local:raw --to ~/copy",
        "hydrant run run.toml",
        "hydrant demo --seconds 1 --dir ~/demo",
    ] {
        refused(&place, line, &["begins with `~`", "$HOME/"]);
    }
    assert!(!place.path("~").exists());
}

/// Readers take each directory `name=value` above a file for a column, and find no column whose name is written otherwise.
#[test]
fn what_readers_of_a_table_would_misread_is_refused() {
    let place = filled();
    let sink = "hydrant-sink --exit-at-end --from local:raw --app other";
    for lake in ["file:date=2026-01-01/lake", "file:a/env=prod"] {
        refused(&place, &format!("{sink} --to {lake}"), &["without `=`"]);
    }
    for field in ["em:0", "app/name", "100%", "a*", "a#b"] {
        let line = format!("{sink} --to file:second --partition {field}");
        refused(&place, &line, &["readers do not find a column", field]);
    }
}
