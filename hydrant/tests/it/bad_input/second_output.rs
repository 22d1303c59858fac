//! Several outputs of one app: a second lake or table, a lake that is deleted and filled again, two lakes at once.

use crate::test_dir::TestDir;

const RECORDS: u64 = 600;

fn filled() -> TestDir {
    let place = TestDir::new();
    place.create("local:raw", 3);
    place.simulate("local:raw", RECORDS, 1);
    place
}

/// Checks that each record of the stream is one row of the lake's table.
#[track_caller]
fn assert_all(place: &TestDir, lake: &str, records: u64) {
    let verified = place.sound(&format!("file:{lake}"));
    assert_eq!(verified["rows"], records, "{verified}");
}

/// The last message of a process that wrote to `log`.
fn last_words(place: &TestDir, log: &str) -> String {
    let said = place.read(log);
    crate::test_dir::assert_no_panic(&said);
    said.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_second_lake_gets_everything_from_the_start() {
    let place = filled();
    place.sink("local:raw", "file:lake").expect(0, &[]);
    place.sink("local:raw", "file:other").expect(0, &[]);
    assert_all(&place, "lake", RECORDS);
    assert_all(&place, "other", RECORDS);
    // Each lake continues at its own progress, whichever was filled last.
    place.simulate("local:raw", 100, 2);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    place.sink("local:raw", "file:other").expect(0, &[]);
    place.sink("local:raw", "file:other").expect(0, &[]);
    assert_all(&place, "lake", RECORDS + 100);
    assert_all(&place, "other", RECORDS + 100);
}

#[test]
fn a_second_table_gets_everything_from_the_start() {
    let place = filled();
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let other = [
        "--from",
        "local:raw",
        "--to",
        "file:lake",
        "--table",
        "other",
        "--exit-at-end",
        "--idle",
        "50ms",
    ];
    place.run("hydrant-sink", &other).expect(0, &[]);
    place.run("hydrant-sink", &other).expect(0, &[]);
    assert_all(&place, "lake", RECORDS);
    let verify = ["lake", "verify", "file:lake", "--table", "other", "--json"];
    let verified = place.run("hydrant", &verify).expect(0, &[]).json();
    assert_eq!(verified["rows"], RECORDS, "{verified}");
}

#[test]
fn a_deleted_lake_is_filled_again_from_the_start() {
    let place = filled();
    place.sink("local:raw", "file:lake").expect(0, &[]);
    std::fs::remove_dir_all(place.path("lake")).expect("the lake can be removed");
    place.sink("local:raw", "file:lake").expect(0, &[]);
    assert_all(&place, "lake", RECORDS);
}

#[test]
fn a_moved_lake_continues_and_a_copy_is_another_lake() {
    let place = filled();
    place.sink("local:raw", "file:lake").expect(0, &[]);
    std::fs::rename(place.path("lake"), place.path("moved")).expect("the lake can be moved");
    place.simulate("local:raw", 100, 2);
    let copied = std::process::Command::new("cp")
        .args(["-r", "moved", "copy"])
        .current_dir(place.root())
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    place.sink("local:raw", "file:moved").expect(0, &[]);
    place.sink("local:raw", "file:copy").expect(0, &[]);
    assert_all(&place, "moved", RECORDS + 100);
    assert_all(&place, "copy", RECORDS + 100);
}

#[test]
fn while_a_sink_is_at_work_one_for_another_lake_is_refused() {
    let place = filled();
    let sink = |lake: &'static str| {
        [
            "--from",
            "local:raw",
            "--to",
            lake,
            "--flush-interval",
            "20ms",
        ]
    };
    let mut first = place.start("hydrant-sink", &sink("file:lake"), "first.log");
    place.wait_until("rows", || place.rows_landed("lake") == RECORDS);
    let path = |name: &str| format!("table `events` of file:{}", place.path(name).display());
    place.sink("local:raw", "file:other").expect(
        64,
        &[
            "app `hydrant-sink` is already writing to",
            &path("lake"),
            &path("other"),
            "--app NAME",
        ],
    );
    place.simulate("local:raw", 100, 2);
    place.wait_until("all rows", || place.rows_landed("lake") == RECORDS + 100);
    // As the refusal says: it may start under another name at once, and under the same name after the other sink has
    // ended.
    let own = [
        &sink("file:third")[..],
        &["--app", "third", "--exit-at-end"],
    ]
    .concat();
    place.run("hydrant-sink", &own).expect(0, &[]);
    assert_all(&place, "third", RECORDS + 100);
    assert_eq!(first.terminate(), Some(0), "{}", place.logs());
    place.sink("local:raw", "file:other").expect(0, &[]);
    assert_all(&place, "lake", RECORDS + 100);
    assert_all(&place, "other", RECORDS + 100);
}

#[test]
fn of_two_sinks_started_at_once_for_two_lakes_one_continues() {
    let place = filled();
    let sink = |lake: &'static str| {
        [
            "--from",
            "local:raw",
            "--to",
            lake,
            "--flush-interval",
            "20ms",
        ]
    };
    let lakes = ["file:lake", "file:other"];
    let logs = ["first.log", "second.log"];
    let mut sinks = [0, 1].map(|n| place.start("hydrant-sink", &sink(lakes[n]), logs[n]));
    let mut codes = [None; 2];
    place.wait_until("a refusal", || {
        for (code, sink) in codes.iter_mut().zip(&mut sinks) {
            *code = code.or_else(|| sink.ended());
        }
        codes.iter().any(Option::is_some)
    });
    for (n, code) in codes.into_iter().enumerate() {
        let code = code.unwrap_or_else(|| sinks[n].terminate());
        match code {
            Some(64) => {
                let last = last_words(&place, logs[n]);
                assert!(last.contains("--app NAME"), "{last}");
            }
            other => assert_eq!(other, Some(0), "{}", place.logs()),
        }
    }
    for lake in ["lake", "other"] {
        place
            .sink("local:raw", &format!("file:{lake}"))
            .expect(0, &[]);
        assert_all(&place, lake, RECORDS);
    }
}

#[test]
fn two_workers_of_a_second_lake_end_only_when_it_has_everything() {
    let place = filled();
    place.sink("local:raw", "file:lake").expect(0, &[]);
    let args = [
        "--from",
        "local:raw",
        "--to",
        "file:other",
        "--exit-at-end",
        "--idle",
        "50ms",
    ];
    let mut workers = ["one.log", "two.log"].map(|log| place.start("hydrant-sink", &args, log));
    for worker in &mut workers {
        assert_eq!(place.wait_for_end(worker), Some(0), "{}", place.logs());
    }
    assert_all(&place, "other", RECORDS);
}

#[test]
fn a_second_clean_stream_gets_everything_from_the_start() {
    let place = filled();
    place.transform("local:raw", "local:clean").expect(0, &[]);
    place.transform("local:raw", "local:other").expect(0, &[]);
    let sum = |url: &str| place.stored(url).iter().sum::<u64>();
    assert_eq!((sum("local:clean"), sum("local:other")), (RECORDS, RECORDS));
    // Back to the first stream, which drops records that it has.
    place.transform("local:raw", "local:clean").expect(0, &[]);
    assert_eq!(sum("local:clean"), RECORDS);
    let delete = ["stream", "delete", "local:clean", "--yes"];
    place.run("hydrant", &delete).expect(0, &[]);
    place.transform("local:raw", "local:clean").expect(0, &[]);
    assert_eq!(sum("local:clean"), RECORDS);

    let mut first = place.start(
        "hydrant-transform",
        &["--from", "local:raw", "--to", "local:clean"],
        "first.log",
    );
    place.simulate("local:raw", 10, 2);
    place.wait_until("records", || sum("local:clean") == RECORDS + 10);
    place.transform("local:raw", "local:other").expect(
        64,
        &["stream local:clean", "stream local:other", "--app NAME"],
    );
    assert_eq!(first.terminate(), Some(0), "{}", place.logs());
}

/// The lines that a copy to standard output prints.
fn printed(place: &TestDir, more: &[&str]) -> usize {
    let args = [
        &[
            "--from",
            "local:raw",
            "--to",
            "-",
            "--exit-at-end",
            "--idle",
            "50ms",
        ],
        more,
    ];
    let answer = place.run("hydrant-consumer", &args.concat()).expect(0, &[]);
    answer.out.lines().count()
}

#[test]
fn copies_continue_at_the_progress_of_their_output() {
    let place = filled();
    let copy_with = |to: &str, more: &[&str]| {
        let args = ["--from", "local:raw", "--to", to, "--exit-at-end"];
        let args = [&args[..], &["--idle", "50ms"], more].concat();
        place.run("hydrant-consumer", &args)
    };
    let copy = |to: &str| copy_with(to, &[]);
    // A copy to a file continues under its own app.
    let copy_file = |name: &str| copy_with(name, &["--app", name]);
    let sum = |url: &str| place.stored(url).iter().sum::<u64>();
    let lines = |name: &str| place.read(name).lines().count() as u64;
    for round in 0..2 {
        let all = RECORDS + 50 * round;
        for to in ["local:copy", "local:other"] {
            copy(to).expect(0, &[]);
        }
        for name in ["copy.ndjson", "other.ndjson"] {
            copy_file(name).expect(0, &[]);
            copy(name).expect(64, &["is not empty", "`--app NAME`"]);
        }
        assert_eq!((sum("local:copy"), sum("local:other")), (all, all));
        assert_eq!((lines("copy.ndjson"), lines("other.ndjson")), (all, all));
        // A copy to standard output starts at the beginning, unless it is named.
        assert_eq!(printed(&place, &[]) as u64, all);
        let named = printed(&place, &["--app", "screen"]) as u64;
        assert_eq!(named, if round == 0 { all } else { 50 });
        place.simulate("local:raw", 50, 2 + round);
    }
    let mut first = place.start(
        "hydrant-consumer",
        &["--from", "local:raw", "--to", "local:copy"],
        "first.log",
    );
    place.wait_until("records", || sum("local:copy") == RECORDS + 100);
    copy("local:other").expect(64, &["app `hydrant-consumer`", "stream local:copy"]);
    copy_file("copy.ndjson").expect(0, &[]);
    assert_eq!(first.terminate(), Some(0), "{}", place.logs());
}
