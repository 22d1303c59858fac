//! The commands that look into a table: `lake cat`, `stats`, `head` and `schema --suggest`.

use serde_json::{Value, json};

use crate::test_dir::{TestDir, to_the_end};

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
    ];
    place.put("local:raw", &odd);
    place.run("hydrant-sink", &sink).expect(0, &[]);
    place
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

#[test]
fn rows_are_printed_by_condition_and_no_more_than_asked_for() {
    let place = table();
    let cat = |more: &[&str]| {
        let answer = place.run("hydrant", &[&["lake", "cat", "file:lake"], more].concat());
        lines(&answer.expect(0, &[]).out)
    };
    assert_eq!(cat(&[]).len(), 22);
    assert_eq!(cat(&["--rows", "3"]).len(), 3);
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
fn figures_count_rows_files_nulls_and_rescued_values() {
    let place = table();
    let answer = place.run("hydrant", &["lake", "stats", "file:lake", "--json"]);
    let stats: Value = answer.expect(0, &[]).json();
    assert_eq!((&stats["rows"], &stats["files"]), (&json!(22), &json!(3)));
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
    assert_eq!(rows, [("date=2026-01-01", 10), ("date=2026-01-02", 12)]);
    let column = |path: &str| {
        let columns = stats["columns"].as_array().unwrap();
        columns
            .iter()
            .find(|column| column["path"] == path)
            .unwrap()
            .clone()
    };
    assert_eq!(column("n")["values"], 21);
    assert_eq!(column("o.p[]")["values"], 2);
    assert!(column("o.p[]")["null_share"].is_null());
    assert!((column("_rescued")["null_share"].as_f64().unwrap() - 20.0 / 22.0).abs() < 1e-9);
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
        .expect(0, &["22 rows in 3 files", "type_conflict"]);
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
    assert!(!schema_for("spark").contains("--"));
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
