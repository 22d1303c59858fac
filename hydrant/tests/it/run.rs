//! Tests of `hydrant run` and its table `[run]`.

use crate::test_dir::{Answer, TestDir};

fn filled() -> TestDir {
    let place = TestDir::new();
    place.create("local:raw", 2);
    place.simulate("local:raw", 300, 1);
    place
}

fn rows_and_letters(place: &TestDir) -> u64 {
    let sound = place.sound("file:lake");
    let (rows, dead_letters) = (sound["rows"].as_u64(), sound["dead_letters"].as_u64());
    rows.expect("a count") + dead_letters.expect("a count")
}

/// Without a producer, a run carries everything in the streams to the lake and ends.
#[test]
fn a_run_without_a_producer_ends_where_the_streams_end() {
    let place = filled();
    place.write(
        "run.toml",
        "[run]\ndir = \".\"\nexit-at-end = true\nstages = [\"transform\", \"sink\"]\n",
    );
    let done = place.run("hydrant", &["run", "run.toml"]).expect(0, &[]);
    for stage in ["transform", "sink"] {
        assert!(done.out.contains(stage), "{done:?}");
    }
    assert_eq!(rows_and_letters(&place), 300);
    let again = place.run("hydrant", &["run", "run.toml"]);
    again.expect(
        0,
        &[
            "no new records in ",
            "all are stored in table `events` in file:",
        ],
    );
}

/// The numbers of a summary add up, as text and as JSON, with and without a stream between transform and sink.
#[test]
fn a_run_tells_what_became_of_its_records() {
    for inline in [false, true] {
        let place = TestDir::new();
        place.create("local:raw", 1);
        let records = [
            r#"{"ts":"2026-11-30T10:00:00Z","n":1}"#,
            r#"{"ts":"never","n":2}"#,
            r#"{"ts":"2026-11-30T10:00:00Z","n":"odd","a":{"":1}}"#,
            r#"[1]"#,
            "not json",
        ];
        place.put("local:raw", &records);
        place.write(
            "run.toml",
            format!("[run]\ndir = \".\"\nexit-at-end = true\nstages = [\"transform\", \"sink\"]\ninline = {inline}\n"),
        );
        let done = place
            .run("hydrant", &["run", "run.toml", "--json"])
            .expect(0, &[])
            .json();
        let (sink, lake) = (&done["sink"], &done["sink"]["lake"]);
        let count = |name: &str| lake[name].as_u64().unwrap();
        assert_eq!(sink["table"], "events", "{done}");
        assert_eq!(
            (count("rows"), count("untimed_rows"), count("dead_letters")),
            (3, 1, 2),
            "{done}"
        );
        assert!(count("rescued_values") >= 1, "{done}");
        let others = if inline {
            count("upstream_dead_letters")
        } else {
            0
        };
        let own = count("dead_letters") - count("upstream_dead_letters");
        assert_eq!(
            sink["records"].as_u64().unwrap(),
            count("rows") + own + others,
            "{done}"
        );
    }
}

/// A stage that its own table makes end ends the run, and its summary is printed.
#[test]
fn a_stage_that_ends_by_itself_is_summed_up() {
    let place = filled();
    place.write(
        "run.toml",
        "[run]\ndir = \".\"\nstages = [\"transform\"]\n[transform]\nexit-at-end = true\n",
    );
    let done = place.run("hydrant", &["run", "run.toml"]).expect(0, &[]);
    assert!(done.out.contains("300"), "{done:?}");
}

fn inline(place: &TestDir, inline: bool) -> Answer {
    let table = format!(
        "[run]\ndir = \".\"\nexit-at-end = true\nstages = [\"transform\", \"sink\"]\ninline = {inline}\n"
    );
    place.write("run.toml", table);
    place.run("hydrant", &["run", "run.toml"])
}

/// Records in the lake are not stored a second time when two stages become one, or one becomes two.
#[test]
fn a_table_that_was_filled_the_other_way_is_refused() {
    for first in [false, true] {
        let place = filled();
        inline(&place, first).expect(0, &[]);
        assert_eq!(rows_and_letters(&place), 300);
        place.simulate("local:raw", 100, 2);
        inline(&place, !first).expect(64, &["second time", "`inline", "`events`"]);
        assert_eq!(rows_and_letters(&place), 300);
        inline(&place, first).expect(0, &[]);
        assert_eq!(rows_and_letters(&place), 400);
    }
}

/// A sink of the raw stream, beside the transform, continues to fill its table in every run.
#[test]
fn a_sink_of_the_raw_stream_continues_beside_a_transform() {
    let place = filled();
    place.write(
        "run.toml",
        "[run]\ndir = \".\"\nexit-at-end = true\nstages = [\"transform\", \"sink\"]\n\
         [sink]\nfrom = \"local:raw\"\n",
    );
    for records in [300, 400] {
        place.run("hydrant", &["run", "run.toml"]).expect(0, &[]);
        assert_eq!(rows_and_letters(&place), records);
        place.simulate("local:raw", 100, records);
    }
}

/// A ledger without a name lies in the directory of the run, even if nothing else does.
#[test]
fn the_directory_of_the_state_is_made() {
    let place = filled();
    place.write(
        "run.toml",
        "[run]\nexit-at-end = true\nstages = [\"producer\"]\n[producer]\nto = \"local:raw\"\nsimulate = 5\n",
    );
    place.run("hydrant", &["run", "run.toml"]).expect(0, &[]);
    assert!(place.path("hydrant-data/producer.json").exists());
}

/// A stage that waits for its input holds nothing and ends at once.
#[test]
fn a_stage_that_waits_for_its_input_ends_at_a_signal() {
    let place = TestDir::new();
    let waits = ["--from", "local:absent", "--wait", "1h"];
    for (binary, to) in [
        ("hydrant-sink", "file:lake"),
        ("hydrant-transform", "local:clean"),
        ("hydrant-consumer", "copy.ndjson"),
    ] {
        let args = [&waits[..], &["--to", to]].concat();
        let log = format!("{binary}.log");
        let mut process = place.start(binary, &args, &log);
        place.wait_until("the stage waits for its input", || {
            place
                .read_so_far(&log)
                .contains("for `local:absent` to appear")
        });
        process.signal("-TERM");
        assert_eq!(
            place.wait_for_end(&mut process),
            Some(0),
            "{}",
            place.logs()
        );
        assert!(
            place
                .read(&log)
                .contains("stopped before `local:absent` appeared")
        );
    }
}

/// Two pipelines may read one stream: `--app` gives the stages of each their names.
#[test]
fn runs_of_one_stream_have_app_names_of_their_own() {
    let place = filled();
    for (dir, inline, args) in [
        ("first", false, &[][..]),
        ("second", true, &["--app", "other"]),
    ] {
        let file = format!("{dir}.toml");
        place.write(
            &file,
            format!(
                "[run]\ndir = \"{dir}\"\nexit-at-end = true\ninline = {inline}\n\
                 stages = [\"transform\", \"sink\"]\n[transform]\nfrom = \"local:raw\"\n"
            ),
        );
        let args = [&["run", &file][..], args].concat();
        place.run("hydrant", &args).expect(0, &[]);
        place.sound(&format!("file:{dir}/lake"));
    }
    let apps = |url| {
        let described = place.describe(url);
        let apps = described["apps"].as_array().expect("apps").iter();
        let names = apps.map(|app| app["app"].as_str().expect("a name").to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(apps("local:raw"), ["hydrant-transform", "other-sink"]);
    assert_eq!(apps("local:first/clean"), ["hydrant-sink"]);
}
