//! The commands that look into a table: `lake cat`, `stats`, `head` and `schema --suggest`.

use serde_json::{Value, json};

use crate::test_dir::{Answer, TestDir, to_the_end};

/// A table of two intervals and two days, with values that no column takes.
fn table() -> TestDir {
    let place = TestDir::new();
    place.create("local:raw", 1);
    let at = |day: u32, n: u32| {
        format!(
            r#"{{"at":"2026-01-0{day}T00:00:00Z","n":{n},"s":"x{n}","ts":{}}}"#,
            1_767_312_000 + n
        )
    };
    let first: Vec<String> = (1..=20).map(|n| at(1 + n % 2, n)).collect();
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    place.put("local:raw", &first);
    place.write("hydrant.toml", "[sink]\nevent-time = \"at\"\n");
    let sink = [
        &["--config", "hydrant.toml"],
        &to_the_end("local:raw", "file:lake")[..],
    ]
    .concat();
    place.run("hydrant-sink", &sink).expect(0, &[]);
    let odd = [
        r#"{"at":"2026-01-02T00:00:00Z","n":"odd","s":"y","o":{"p":[1,2,null]}}"#,
        r#"{"at":"2026-01-02T00:00:00Z","n":21,"s":5}"#,
        r#"{"at":"2026-01-02T00:00:00Z","n":22,"s":"z"}"#,
    ];
    place.put("local:raw", &odd);
    place.run("hydrant-sink", &sink).expect(0, &[]);
    place
}

fn cat(place: &TestDir, more: &[&str]) -> Answer {
    place.run("hydrant", &[&["lake", "cat", "file:lake"], more].concat())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

#[test]
fn rows_are_printed_by_condition_and_no_more_than_asked_for() {
    let place = table();
    let stopped = "stopped after 3 rows";
    let cut = cat(&place, &["--rows", "3"]).expect(0, &[stopped]);
    assert!(lines(&cut.out).len() == 3 && cut.err.contains(stopped));
    let whole = cat(&place, &["--rows", "23"]).expect(0, &[]);
    assert!(
        lines(&whole.out).len() == 23 && whole.err.is_empty(),
        "{}",
        whole.err
    );
    let cat = |more: &[&str]| lines(&cat(&place, more).expect(0, &[]).out);
    assert_eq!(cat(&[]).len(), 23);
    let of_day = cat(&["--where", "date = '2026-01-01' AND n > 10"]);
    let mut numbers: Vec<i64> = of_day
        .iter()
        .map(|row| row["n"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [12, 14, 16, 18, 20]);
    assert!(of_day.iter().all(|row| row["date"] == "2026-01-01"));
    let rescued = cat(&["--where", "_rescued IS NOT NULL AND o.p IS NOT NULL"]);
    assert_eq!(rescued.len(), 1);
    assert_eq!(rescued[0]["_rescued"], r#"{"n":"odd"}"#);
    let head = place.run("hydrant", &["lake", "head", "file:lake", "--rows", "2"]);
    assert_eq!(lines(&head.expect(0, &[]).out).len(), 2);
    let wrong = ["lake", "cat", "file:lake", "--where", "n ~ 5"];
    place
        .run("hydrant", &wrong)
        .expect(64, &["is not a condition", "n ~ 5"]);
    let missing = ["lake", "cat", "file:lake", "--table", "other"];
    place
        .run("hydrant", &missing)
        .expect(64, &["`other`", "`events`"]);
}

#[test]
fn times_and_days_are_compared_as_such_and_other_literals_refused() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    let rows = ["09:00:00Z", "09:30:00.5Z", "11:00:00+01:00", "10:30:00Z"];
    let rows =
        rows.map(|at| format!(r#"{{"meta":{{"at":"2026-11-30T{at}"}},"day":"2026-11-30","n":1}}"#));
    place.put("local:raw", &rows.each_ref().map(String::as_str));
    place.write(
        "hydrant.toml",
        "[sink.columns]\n\"meta.at\" = \"TIMESTAMP\"\nday = \"DATE\"\n",
    );
    let sink = [
        &to_the_end("local:raw", "file:lake")[..],
        &["--config", "hydrant.toml"],
    ]
    .concat();
    place.run("hydrant-sink", &sink).expect(0, &[]);
    for (condition, found) in [
        ("meta.at > '2026-11-30 09:30'", 3),
        ("meta.at > '2026-11-30T10:30:00+01:00'", 3),
        (
            "meta.at <= '2026-11-30T10:00:00Z' AND meta.at > '2026-11-30 09:00'",
            2,
        ),
        ("meta.at >= '2026-11-30'", 4),
        ("day = '2026-11-30'", 4),
        ("day > '30 Nov 2026'", 0),
    ] {
        let rows = lines(&cat(&place, &["--where", condition]).expect(0, &[]).out);
        assert_eq!(rows.len(), found, "{condition}: {rows:?}");
    }
    for (condition, words) in [
        (
            "meta.at > 'soon'",
            &["`meta.at` is TIMESTAMP", "'2026-11-30 09:30'"][..],
        ),
        ("n = '1'", &["`n` is BIGINT"]),
        ("att IS NULL", &["no column `att`", "`meta.at`"]),
        ("n = 1 OR n = 2", &["at `OR n = 2`", "no OR, NOT, IN"]),
    ] {
        cat(&place, &["--where", condition]).expect(64, words);
    }
    let help = place.run("hydrant", &["lake", "cat", "--help"]);
    let help = help.expect(0, &[]).out;
    let words: Vec<&str> = help.split_whitespace().collect();
    let grammar = "COLUMN IS NULL or COLUMN IS NOT NULL; AND joins several";
    assert!(words.join(" ").contains(grammar), "{help}");
}

/// What a device writes into its keys must not reach the terminal of whoever looks at them.
#[test]
fn control_characters_of_keys_are_escaped_and_an_empty_key_is_shown() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.put(
        "local:raw",
        &[r#"{"n":1,"a\u001b[31mRED":2,"":3,"o":{"":4,"x":5}}"#],
    );
    place.sink("local:raw", "file:lake").expect(0, &[]);
    for command in [
        &["lake", "stats", "file:lake"],
        &["lake", "schema", "file:lake"],
    ] {
        let answer = place.run("hydrant", command);
        let text = answer
            .expect(0, &[r"a\u001b[31mRED", "| \"\" ", "o.\"\""])
            .out;
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn a_damaged_file_is_named_with_what_to_do() {
    let place = table();
    let day = place.path("lake/events/date=2026-01-01");
    let file = std::fs::read_dir(day)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let sound = std::fs::read(&file).unwrap();
    for damage in [&b"not parquet"[..], &sound[..sound.len() - 9]] {
        std::fs::write(&file, damage).unwrap();
        for command in ["cat", "stats"] {
            let answer = place.run("hydrant", &["lake", command, "file:lake"]);
            answer.expect(
                1,
                &[
                    "date=2026-01-01/",
                    "is damaged: ",
                    "Restore it",
                    "--table events --missing`",
                ],
            );
        }
    }
}

#[test]
fn figures_count_rows_files_nulls_and_rescued_values() {
    let place = table();
    let answer = place.run("hydrant", &["lake", "stats", "file:lake", "--json"]);
    let stats: Value = answer.expect(0, &[]).json();
    assert_eq!((&stats["rows"], &stats["files"]), (&json!(23), &json!(3)));
    assert_eq!(stats["small_files"], 3);
    let partitions = stats["partitions"].as_array().unwrap();
    let rows: Vec<(&str, i64)> = partitions
        .iter()
        .map(|partition| {
            (
                partition["path"].as_str().unwrap(),
                partition["rows"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(rows, [("date=2026-01-01", 10), ("date=2026-01-02", 13)]);
    let column = |path: &str| {
        let columns = stats["columns"].as_array().unwrap();
        columns
            .iter()
            .find(|column| column["path"] == path)
            .unwrap()
            .clone()
    };
    assert_eq!(column("n")["values"], 22);
    assert_eq!(column("o.p[]")["values"], 2);
    assert!(column("o.p[]")["null_share"].is_null());
    assert_eq!(column("_rescued")["values"], 2);
    assert!((column("_rescued")["null_share"].as_f64().unwrap() - 21.0 / 23.0).abs() < 1e-9);
    let wanted = json!([
        {"path":"n","reason":"type_conflict","values":1},
        {"path":"s","reason":"type_conflict","values":1}
    ]);
    assert_eq!(stats["rescued"], wanted);
    let schema = place.run("hydrant", &["lake", "schema", "file:lake", "--json"]);
    assert_eq!(schema.expect(0, &[]).json()["rescued"], wanted);
    let schema = place.run("hydrant", &["lake", "schema", "file:lake"]);
    schema.expect(0, &["rescued from", "type_conflict"]);
    let text = place
        .run("hydrant", &["lake", "stats", "file:lake"])
        .expect(0, &["23 rows in 3 files", "type_conflict"]);
    assert!(
        text.out.lines().all(|line| line.chars().count() <= 120),
        "{}",
        text.out
    );
}

#[test]
fn suggested_declarations_are_ones_that_a_configuration_takes() {
    let place = table();
    let answer = place.run("hydrant", &["lake", "schema", "file:lake", "--suggest"]);
    let answer = answer.expect(
        0,
        &[
            "at = \"TIMESTAMP\"",
            "ts = \"TIMESTAMP\"",
            "n = \"VARCHAR\"",
        ],
    );
    let suggested = format!(
        "{}\n[sink]\ntable = \"second\"\nevent-time = \"at\"\n",
        answer.out
    );
    place.write("suggested.toml", suggested);
    let options = ["--config", "suggested.toml", "--app", "second"];
    let sink = [&options, &to_the_end("local:raw", "file:lake")[..]].concat();
    place.run("hydrant-sink", &sink).expect(0, &[]);
    let cat = [
        "lake",
        "cat",
        "file:lake",
        "--table",
        "second",
        "--where",
        "n = 'odd'",
    ];
    let row = &lines(&place.run("hydrant", &cat).expect(0, &[]).out)[0];
    assert_eq!(
        (&row["at"], &row["_rescued"]),
        (&json!("2026-01-02T00:00:00Z"), &Value::Null)
    );
    let schema = ["lake", "schema", "file:lake", "--table", "second", "--for"];
    for reader in ["spark", "athena"] {
        let ddl = place.run("hydrant", &[&schema[..], &[reader]].concat());
        ddl.expect(
            0,
            &[
                "`at` TIMESTAMP",
                "`n` STRING",
                "PARTITIONED BY",
                "MSCK REPAIR",
            ],
        );
    }
}

/// What is pasted runs where it is pasted: with its imports, from any directory, and with what Spark must be told.
#[test]
fn what_is_pasted_is_whole() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.put("local:raw", &[r#"{"n":1}"#]);
    place.sink("local:raw", "file:a [b]").expect(0, &[]);
    let root = place.root().canonicalize().unwrap().display().to_string();
    let schema_for = |reader: &str| {
        let command = ["lake", "schema", "file:a [b]", "--for", reader];
        place.run("hydrant", &command).expect(0, &[]).out
    };
    let pattern = format!("{root}/a [[]b]/events/**/*.parquet'");
    for (reader, begins, holds) in [
        ("duckdb", "SELECT * FROM read_parquet('", &*pattern),
        (
            "polars",
            "import polars as pl\npl.scan_parquet('",
            &*pattern,
        ),
        (
            "pyarrow",
            "import pyarrow as pa, pyarrow.dataset as ds\nds.dataset('",
            "a [b]/events'",
        ),
        ("spark", "-- two statements", "LOCATION '/"),
        (
            "athena",
            "CREATE EXTERNAL TABLE",
            "again whenever there are new partitions",
        ),
    ] {
        let text = schema_for(reader);
        assert!(text.starts_with(begins) && text.contains(holds), "{text}");
        assert!(text.contains(&format!("'{root}/a [")), "{text}");
        assert!(!text.contains("enableVectorizedReader"), "{text}");
    }
    place.write("modern.toml", "[sink]\nparquet-profile = \"modern\"\n");
    place.put("local:raw", &[r#"{"n":2}"#]);
    let sink = [
        &to_the_end("local:raw", "file:a [b]")[..],
        &["--config", "modern.toml"],
    ]
    .concat();
    place.run("hydrant-sink", &sink).expect(0, &[]);
    let text = schema_for("spark");
    assert!(
        text.contains("SET spark.sql.parquet.enableVectorizedReader=false;\n--"),
        "{text}"
    );
    assert!(!schema_for("duckdb").contains("Vectorized"));
}

#[test]
fn every_table_shows_the_column_of_rescued_values() {
    let place = table();
    let schema = place.run("hydrant", &["lake", "schema", "file:lake"]);
    schema.expect(0, &["| _rescued", "VARCHAR (values that no column took"]);
    let schema = place.run("hydrant", &["lake", "schema", "file:lake", "--json"]);
    assert_eq!(schema.expect(0, &[]).json()["rescued_column"], "_rescued");
    let verified = place.run("hydrant", &["lake", "verify", "file:lake"]);
    let text = verified.expect(0, &["values in `_rescued`"]).out;
    assert!(!text.contains("what to do"), "{text}");
    for day in ["date=2026-01-01", "date=2026-01-02"] {
        std::fs::remove_dir_all(place.path(&format!("lake/events/{day}"))).unwrap();
    }
    let verified = place.run("hydrant", &["lake", "verify", "file:lake"]);
    let text = verified.expect(1, &["what to do: missing: "]).out;
    assert_eq!(text.matches("problem: missing: ").count(), 3, "{text}");
    let command = "`hydrant lake expire file:lake --table events --missing`";
    assert!(
        text.contains(command) && text.matches("expire").count() <= 2,
        "{text}"
    );
}

/// Integers first, then fractions: some readers take both kinds of files, others are told about.
#[test]
fn columns_that_became_double_are_told() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    let first = [r#"{"n":1,"id":1,"o":{"x":1,"y":[1]},"real":0.5}"#];
    let second = [r#"{"n":1.5,"id":2,"o":{"x":2,"y":[2.5]},"real":7,"late":0.5}"#];
    let schema_for = |reader: &str| {
        let answer = place.run("hydrant", &["lake", "schema", "file:lake", "--for", reader]);
        answer.expect(0, &[]).out
    };
    place.put("local:raw", &first);
    place.sink("local:raw", "file:lake").expect(0, &[]);
    assert!(!schema_for("spark").contains("older files"));
    place.put("local:raw", &second);
    let told = place.sink("local:raw", "file:lake").expect(0, &[]);
    for column in ["n", "o.y.element"] {
        let warning = format!("table=\"events\" column=\"{column}\"");
        assert!(told.err.contains(&warning), "{}", told.err);
    }
    assert_eq!(
        told.err.matches("DOUBLE from now on").count(),
        2,
        "{}",
        told.err
    );
    for reader in ["spark", "athena"] {
        let line = schema_for(reader);
        assert!(
            line.contains("BIGINT in older files: n, o.y.element;"),
            "{line}"
        );
    }
    assert!(!schema_for("duckdb").contains("older files"));
}
