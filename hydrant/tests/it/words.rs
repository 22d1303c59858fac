//! The messages of commands: a refusal is one line that says what is wrong, where, and what to do; results name what
//! they count; help is short.

use crate::test_dir::{Answer, TestDir};

/// A command and what it must print.
type MessageCase<'a> = (&'a str, &'a [&'a str]);

/// Checks that each command is refused in one line, with exit code 64.
#[track_caller]
fn refuses(place: &TestDir, cases: &[MessageCase<'_>]) {
    for (line, words) in cases {
        let answer = run(place, line).expect(64, words);
        let lines: Vec<&str> = answer.err.lines().collect();
        assert_eq!(lines.len(), 1, "{line}: {}", answer.err);
        assert!(lines[0].starts_with("error: "), "{line}: {}", answer.err);
        assert_eq!(answer.out, "", "{line}");
    }
}

/// Runs a command line; `''` is an empty argument.
fn run(place: &TestDir, line: &str) -> Answer {
    let words: Vec<&str> = line
        .split(' ')
        .map(|word| if word == "''" { "" } else { word })
        .collect();
    place.run(words[0], &words[1..])
}

#[test]
fn a_wrong_value_of_a_stream_command_is_refused_in_one_line() {
    let place = TestDir::new();
    place.write("file", "");
    place.write("moved/a?b/manifest.json", "{}");
    place.write(
        "odd.toml",
        "[run]\ndir = \"new?codec=zstd\"\nstages = [\"transform\"]\n",
    );
    place.create("local:raw", 2);
    place.simulate("local:raw", 40, 1);
    refuses(
        &place,
        &[
            (
                "hydrant stream describe raw",
                &["`raw` is not the URL of a stream", "local:DIR"],
            ),
            (
                "hydrant stream describe file:raw",
                &["`file:`", "not a kind of stream"],
            ),
            (
                "hydrant stream list absent",
                &["directory `absent` does not exist"],
            ),
            (
                "hydrant stream list local:raw",
                &["write the path alone, `raw`"],
            ),
            ("hydrant stream list file", &["`file` is not a directory"]),
            (
                "hydrant stream list moved",
                &["path `moved/a?b` cannot be written as a URL"],
            ),
            (
                "hydrant demo --dir new?codec=zstd",
                &["path `new?codec=zstd` cannot be written as a URL"],
            ),
            (
                "hydrant run odd.toml",
                &["[run] dir (line 2): path `new?codec=zstd` cannot be written as a URL"],
            ),
            (
                "hydrant stream describe local:file",
                &["`file` is not a directory"],
            ),
            (
                "hydrant stream create local:file/x --shards 1",
                &["`file/x` is not a directory", "name another directory"],
            ),
            (
                "hydrant-producer --to local:file/x --simulate 1",
                &["`file/x` is not a directory"],
            ),
            (
                "hydrant-transform --from local:raw --to local:file/x",
                &["`file/x` is not a directory"],
            ),
            (
                "hydrant-sink --from local:raw --to file:file/x --log-level warn",
                &["`file/x/_hydrant", "its path leads through one"],
            ),
            (
                "hydrant-consumer --from local:file/x",
                &["`file/x` is not a directory"],
            ),
            (
                "hydrant-consumer --from local:raw --to file/x",
                &["`file` is not a directory"],
            ),
            (
                "hydrant-producer --to local:raw --simulate 1 --ledger file/x --name n",
                &["directory of the ledger `file/x` does not exist"],
            ),
            (
                "hydrant stream create local:n --shards 0",
                &["flag `--shards`: `0`", "`1` to `4096`"],
            ),
            (
                "hydrant stream create local:n --shards -1",
                &["flag `--shards`: `-1`", "`1` to `4096`"],
            ),
            (
                "hydrant stream create local:n --shards x",
                &["`x` is not a whole number"],
            ),
            (
                "hydrant stream create local:n --retention 7",
                &["`7` has no unit"],
            ),
            (
                "hydrant stream create local:n --retention 0s",
                &["`--retention`: is too short"],
            ),
            (
                "hydrant stream create local:n --retention 1000years",
                &["`1000years` is too large"],
            ),
            (
                "hydrant stream create local:n --retention-bytes 5XB",
                &["`5XB` is not a number of bytes"],
            ),
            (
                "hydrant stream create local:n --retention-bytes 0",
                &["`0` keeps nothing"],
            ),
            (
                "hydrant stream create local:n --codec gzip",
                &["`gzip` is not a codec", "`zstd`"],
            ),
            (
                "hydrant stream get local:raw 000000 99999",
                &["no record at position 99999", "its last one is at"],
            ),
            (
                "hydrant stream get local:raw 000000 end",
                &["argument `POSITION`: `end`", "1234"],
            ),
            (
                "hydrant stream get local:raw 000000 -1",
                &["argument `POSITION`: `-1`"],
            ),
            (
                "hydrant stream get local:raw 9 1",
                &["no shard `9`", "000000, 000001"],
            ),
            (
                "hydrant stream split local:raw 9",
                &["no shard `9`", "000000, 000001"],
            ),
            (
                "hydrant stream split local:raw 000000 --at x",
                &["flag `--at`: `x` is not a hash"],
            ),
            (
                "hydrant stream merge local:raw 000000 000000",
                &["`000000` is named twice"],
            ),
            ("hydrant stream merge local:raw 000000 9", &["no shard `9`"]),
            (
                "hydrant stream repair local:raw 9 --skip",
                &["no shard `9`"],
            ),
            (
                "hydrant stream trim local:raw --older-than 7",
                &["flag `--older-than`: `7` has no unit"],
            ),
            (
                "hydrant stream trim local:raw --to-bytes x",
                &["flag `--to-bytes`: `x` is not a number"],
            ),
            (
                "hydrant stream trim local:raw --shard 000000 --up-to x",
                &["flag `--up-to`: `x` is not a position"],
            ),
            (
                "hydrant stream trim local:raw --shard 9 --up-to 5",
                &["no shard `9`"],
            ),
            (
                "hydrant stream tail local:absent",
                &["`local:absent` does not exist"],
            ),
            (
                "hydrant stream tail local:raw --format raw --json",
                &["`raw` contradicts `--json`"],
            ),
            (
                "hydrant stream delete local:absent --yes",
                &["does not exist: nothing was deleted"],
            ),
            (
                "hydrant stream put local:raw --key ''",
                &["a field's name is empty"],
            ),
            (
                "hydrant stream reprocess local:raw --app x",
                &["keeps no progress", "no app does"],
            ),
        ],
    );
    // The stream exists: these fail in the run, not before it.
    refuses(
        &place,
        &[
            (
                "hydrant-producer --to local:raw --input absent",
                &["`absent`", "there is no such file"],
            ),
            (
                "hydrant-producer --to local:raw --simulate 1 --report .",
                &["report `.` is a directory"],
            ),
            (
                "hydrant-producer --to local:raw --input *.absent",
                &["no file matches `*.absent`"],
            ),
        ],
    );
    run(&place, "hydrant stream split local:raw 000000").expect(0, &["opened 000002, 000003"]);
    for line in [
        "hydrant stream split local:raw 000000",
        "hydrant stream merge local:raw 000000 000001",
    ] {
        let words = &[
            "`000000` was split or merged and is closed",
            "000001, 000002, 000003",
        ];
        refuses(&place, &[(line, words)]);
    }
    assert!(!place.path("n").exists());
}

#[test]
fn a_wrong_value_of_any_other_command_is_refused_in_one_line() {
    let place = TestDir::new();
    place.write("file", "");
    place.write("empty/nothing", "");
    place.write("mode.toml", "file-mode = 600\n");
    place.write("twice.toml", "[run]\nstages = [\"sink\", \"sink\"]\n");
    place.write("dir.toml", "[run]\ndir = \"\"\nstages = [\"sink\"]\n");
    place.write("empty.toml", "");
    place.write("typo.toml", "[producer]\ninptu = \"x\"\n");
    place.write("broken.toml", "[run\n");
    place.write("zone.toml", "[sink]\nutc-offset-minutes = 2000\n");
    place.write("keys.toml", "[pii]\nkeys = \"RAWMARK\"\n");
    let sink = "hydrant-sink --from local:a --to file:b";
    let producer = "hydrant-producer --to local:a --simulate 5";
    let lines: Vec<(String, &[&str])> = vec![
        (
            "hydrant run absent.toml".into(),
            &["`absent.toml`: cannot be read"],
        ),
        (
            "hydrant run empty.toml".into(),
            &["[producer] simulate (environment", "no input is given"],
        ),
        (
            "hydrant-producer --to local:a --config typo.toml".into(),
            &["unknown key `inptu`: did you mean `input`?"],
        ),
        ("hydrant run broken.toml".into(), &["`broken.toml` line 1"]),
        ("hydrant run twice.toml".into(), &["names `sink` twice"]),
        (
            "hydrant run dir.toml".into(),
            &["[run] dir (line 2): is empty"],
        ),
        (
            "hydrant run twice.toml --config dir.toml".into(),
            &["2 problems", "`--config`"],
        ),
        (
            "hydrant --config mode.toml pii detectors".into(),
            &["`file-mode` (line 1): is a number", "in quotes", "0640"],
        ),
        (
            "hydrant --config keys.toml pii run".into(),
            &["keys (line 2): is a text: write a table"],
        ),
        (
            "hydrant --log-level inof pii detectors".into(),
            &["`inof` is not a level", "`info`"],
        ),
        (
            "hydrant --log-level '' pii detectors".into(),
            &["`--log-level`: is empty"],
        ),
        (
            "hydrant --workers x pii detectors".into(),
            &["flag `--workers`: `x` is not a whole number"],
        ),
        (
            "hydrant --memory 0 pii detectors".into(),
            &["`0` is out of range: write `8MiB` to `4TiB`"],
        ),
        (
            "hydrant --app a/b pii detectors".into(),
            &["`a/b` is not a name"],
        ),
        (
            "hydrant lake ls file:absent".into(),
            &["no lake in `absent`"],
        ),
        (
            "hydrant lake ls file:empty".into(),
            &["`file:empty` has no tables"],
        ),
        (
            "hydrant lake ls file:empty --table t".into(),
            &["no table `t` in `file:empty`", "not a lake"],
        ),
        (
            "hydrant lake head file:empty".into(),
            &["no table `events`"],
        ),
        (
            "hydrant lake head file:empty --rows -1".into(),
            &["flag `--rows`: `-1`"],
        ),
        (
            "hydrant lake schema file:empty".into(),
            &["no table `events`"],
        ),
        (
            "hydrant lake schema file:empty --for trino".into(),
            &["`trino` is not a reader", "`duckdb`"],
        ),
        (
            "hydrant lake verify file:empty".into(),
            &["no table `events`"],
        ),
        (
            "hydrant pii check absent.toml".into(),
            &["policy `absent.toml`: cannot be read"],
        ),
        (
            "hydrant pii run --report absent/x".into(),
            &["directory of the report `absent/x`"],
        ),
        (
            "hydrant pii run --report empty".into(),
            &["report `empty` is a directory"],
        ),
        (
            "hydrant demo --seconds 0".into(),
            &["flag `--seconds`: `0`", "`1` to `86400`"],
        ),
        ("hydrant demo --dir file".into(), &["`file` is a file"]),
        (
            format!("{producer} --pii maybe"),
            &["flag `--pii`: `maybe` is not a switch: write `on` or `off`"],
        ),
        (
            format!("{producer} --seed -1"),
            &["flag `--seed`: `-1` is out of range"],
        ),
        (
            format!("{producer} --batch-bytes 0"),
            &["`0` is out of range: write `1KiB` to `16MiB`"],
        ),
        (
            format!("{producer} --report ''"),
            &["flag `--report`: is empty"],
        ),
        (
            format!("{producer} --name '' --ledger l"),
            &["flag `--name`: is empty"],
        ),
        (
            format!("{sink} --partition ''"),
            &["flag `--partition`: is empty"],
        ),
        (
            format!("{sink} --event-time a..b"),
            &["flag `--event-time`: `a..b` has an empty part"],
        ),
        (
            format!("{sink} --event-time ''"),
            &["flag `--event-time`: is empty"],
        ),
        (
            format!("{sink} --flush-bytes 0"),
            &["`0` is out of range: write `1KiB` to `1GiB`"],
        ),
        (
            format!("{sink} --config zone.toml"),
            &["(line 2): `2000` is out of range: write `-1080` to `1080`"],
        ),
        (
            "hydrant-transform --from local:a --to local:b --shards -1".into(),
            &["flag `--shards`: `-1`"],
        ),
        (
            "hydrant-consumer --from local:a --to ''".into(),
            &["flag `--to`: is empty"],
        ),
        (
            "hydrant-consumer --from local:a --filter x".into(),
            &["`x` is not a filter"],
        ),
    ];
    for (line, words) in &lines {
        // Two mistakes are two lines below their count.
        if words.iter().any(|word| word.contains("problems")) {
            run(&place, line).expect(64, words);
        } else {
            refuses(&place, &[(line, words)]);
        }
    }
    assert!(!place.path("a").exists() && !place.path("b").exists());
}

#[test]
fn results_count_things_and_a_normal_run_is_quiet() {
    let place = TestDir::new();
    run(&place, "hydrant stream create local:one --shards 1").expect(0, &["with 1 shard\n"]);
    run(&place, "hydrant stream list .").expect(0, &["local:./one"]);
    place.write("empty/nothing", "");
    run(&place, "hydrant stream list empty").expect(0, &["no local streams in `empty`"]);
    let stored = place.feed(
        "hydrant",
        &["stream", "put", "local:one"],
        b"{\"a\":1,\"ts\":\"2026-01-31\"}\n",
    );
    stored.expect(0, &["1 record stored, 1 without key, 0 refused"]);
    run(&place, "hydrant stream trim local:one --to-bytes 1GiB").expect(0, &["freed nothing"]);
    run(
        &place,
        "hydrant-consumer --from local:one --to out --exit-at-end --idle 50ms",
    )
    .expect(
        0,
        &["1 record from 1 shard of `local:one` written to `out`\n"],
    );
    place.write(
        "sink.toml",
        "[sink]\nutc-offset-minutes = 60\nprovenance = true\nflush-bytes = \"1MiB\"\n",
    );
    let landed = run(
        &place,
        "hydrant-sink --config sink.toml --from local:one --to file:lake --exit-at-end --idle 50ms",
    );
    let landed = landed.expect(
        0,
        &[
            "1 record from 1 shard",
            "1 row and 0 dead letters in 1 file",
        ],
    );
    let logged: Vec<&str> = landed.err.lines().collect();
    assert!(logged.len() <= 3, "{}", landed.err);
    assert!(
        landed.err.contains("utc-offset-minutes = 60 (file)"),
        "{}",
        landed.err
    );
    assert!(!landed.err.contains("(default)"), "{}", landed.err);

    let schema = run(&place, "hydrant lake schema file:lake");
    let schema = schema.expect(0, &["a ", "_stream", "VARCHAR (provenance)"]);
    let date = schema.out.lines().find(|line| line.contains("DATE"));
    assert!(
        date.is_some_and(|line| line.contains("date") && line.contains("directory")),
        "{}",
        schema.out
    );
    let line = run(&place, "hydrant lake schema file:lake --for duckdb --json").expect(0, &[]);
    let plain = run(&place, "hydrant lake schema file:lake --for duckdb").expect(0, &[]);
    assert_eq!(line.json()["line"], plain.out.trim_end());
    let verified = run(&place, "hydrant lake verify file:lake").expect(0, &["sound"]);
    let is_one = |line: &str| line.split_whitespace().eq(["|", "rows", "1", "|"]);
    assert!(verified.out.lines().any(is_one), "{}", verified.out);
    let absent = &["no table `t` in `file:lake`: it has `events`"][..];
    for command in ["ls", "head", "schema", "verify"] {
        refuses(
            &place,
            &[(
                &format!("hydrant lake {command} file:lake --table t"),
                absent,
            )],
        );
    }
}

#[test]
fn a_help_lists_common_options_once() {
    let place = TestDir::new();
    for line in [
        "hydrant stream describe --help",
        "hydrant stream --help",
        "hydrant lake ls -h",
    ] {
        let help = run(&place, line).expect(0, &["--json", "hydrant --help"]);
        assert!(!help.out.contains("--drain-timeout"), "{}", help.out);
    }
    run(&place, "hydrant --help").expect(0, &["--drain-timeout", "HYDRANT_MEMORY"]);
    for name in [
        "hydrant-producer",
        "hydrant-transform",
        "hydrant-sink",
        "hydrant-consumer",
    ] {
        run(&place, &format!("{name} --help")).expect(0, &["--drain-timeout"]);
        let short = run(&place, &format!("{name} -h")).expect(0, &["--to", "--help"]);
        assert!(!short.out.contains("--drain-timeout"), "{}", short.out);
    }
    run(&place, "hydrant stream reprocess --help").expect(0, &["--app <NAME>", "--from"]);
    run(&place, "hydrant-sink -h").expect(0, &["bloom-filters", "columns-max"]);
    // Common options still work everywhere.
    place.create("local:raw", 1);
    let answer = run(
        &place,
        "hydrant stream describe local:raw --log-level debug --json",
    );
    assert_eq!(answer.expect(0, &[]).json()["name"], "raw");
}
