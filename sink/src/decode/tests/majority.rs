//! Odd values come first, and what most records say decides nevertheless.

use std::collections::BTreeMap;

use super::rescue::check;
use super::*;
use crate::table::spec::{OnConflict, TableRules};

fn all(first: &[&str], count: usize, record: impl Fn(usize) -> String) -> Vec<String> {
    let first = first.iter().map(|record| (*record).to_owned());
    first.chain((0..count).map(record)).collect()
}

fn decoded(rules: &TableRules, records: &[String]) -> DecodedRows {
    let mut decoder = Decoder::try_new(&TableSchema::default(), rules, NOW_MICROS).unwrap();
    for record in records {
        decoder.settle();
        let appended = decoder.append(record.as_bytes(), &ORIGIN);
        assert_eq!(appended, DecodeOutcome::Row, "{record}");
    }
    decoder.finish()
}

/// The columns that records bring, as `name TYPE`, and how many values are rescued by path and reason.
fn outcome(records: &[String]) -> (Vec<String>, BTreeMap<(String, &'static str), usize>) {
    check(&TableSchema::default(), None, records);
    let decoded = decoded(&TableRules::default(), records);
    let schema = decoded.schema().clone();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    let mut counts = BTreeMap::new();
    for (_, kind) in &conformed.rescued_values {
        let RescueKind { path, reason } = conformed.rescue_kinds.get(*kind).clone();
        *counts.entry((path, reason.code())).or_default() += 1;
    }
    let columns = schema.columns.iter();
    let columns = columns.map(|column| format!("{} {}", column.name, column.kind));
    (columns.collect(), counts)
}

#[test]
fn an_odd_first_value_of_any_kind_takes_no_column() {
    let number = |n: usize| format!(r#"{{"v":{n}.5}}"#);
    let object = |n: usize| format!(r#"{{"v":{{"a":{n},"b":[{n}]}}}}"#);
    let list = |n: usize| format!(r#"{{"v":[{n}]}}"#);
    let items = |n: usize| format!(r#"{{"v":[{{"a":{n}}},{{"a":{n}}}]}}"#);
    let deep = |n: usize| format!(r#"{{"v":{{"a":[[{{"b":{n}}}]]}}}}"#);
    type RecordOf<'a> = &'a dyn Fn(usize) -> String;
    let cases: [(&str, RecordOf<'_>, &str, &str, &str); 14] = [
        (r#"{"v":"n/a"}"#, &number, "v DOUBLE", "v", "type_conflict"),
        (
            r#"{"v":{"x":1}}"#,
            &number,
            "v DOUBLE",
            "v",
            "type_conflict",
        ),
        (r#"{"v":[1]}"#, &number, "v DOUBLE", "v", "type_conflict"),
        (r#"{"v":[]}"#, &number, "v DOUBLE", "v", "type_conflict"),
        (r#"{"v":{}}"#, &number, "v DOUBLE", "v", "type_conflict"),
        (
            r#"{"v":{"x":{}}}"#,
            &number,
            "v DOUBLE",
            "v",
            "type_conflict",
        ),
        (r#"{"v":[[]]}"#, &number, "v DOUBLE", "v", "type_conflict"),
        (
            r#"{"v":""}"#,
            &object,
            "v STRUCT(\"a\" BIGINT, \"b\" BIGINT[])",
            "v",
            "type_conflict",
        ),
        (
            r#"{"v":[]}"#,
            &object,
            "v STRUCT(\"a\" BIGINT, \"b\" BIGINT[])",
            "v",
            "type_conflict",
        ),
        (
            r#"{"v":{"x":1}}"#,
            &list,
            "v BIGINT[]",
            "v",
            "type_conflict",
        ),
        (
            r#"{"v":["n/a"]}"#,
            &list,
            "v BIGINT[]",
            "v[]",
            "type_conflict",
        ),
        (
            r#"{"v":[[1]]}"#,
            &list,
            "v BIGINT[]",
            "v[]",
            "type_conflict",
        ),
        (
            r#"{"v":[{"a":"n/a"}]}"#,
            &items,
            "v STRUCT(\"a\" BIGINT)[]",
            "v[].a",
            "type_conflict",
        ),
        (
            r#"{"v":{"a":[[{"b":"n/a"}]]}}"#,
            &deep,
            "v STRUCT(\"a\" STRUCT(\"b\" BIGINT)[][])",
            "v.a[][].b",
            "type_conflict",
        ),
    ];
    for (first, record, column, path, reason) in cases {
        let counts = BTreeMap::from([((path.to_owned(), reason), 1)]);
        assert_eq!(
            outcome(&all(&[first], 99, record)),
            (vec![column.to_owned()], counts),
            "{first}"
        );
    }
}

#[test]
fn what_has_no_type_counts_for_nothing_however_often_it_comes() {
    let records = all(&[], 90, |n| match n % 3 {
        0 => format!(r#"{{"errors":{{"code":{n}}}}}"#),
        1 => r#"{"errors":[]}"#.to_owned(),
        _ => r#"{"errors":[null,[]]}"#.to_owned(),
    });
    let mut records = records;
    records.rotate_left(1);
    let (columns, counts) = outcome(&records);
    assert_eq!(columns, [r#"errors STRUCT("code" BIGINT)"#]);
    let wanted = [(("errors".to_owned(), "type_conflict"), 60)];
    assert_eq!(counts, BTreeMap::from(wanted));
}

#[test]
fn integers_and_other_numbers_take_the_column_that_most_of_them_need() {
    let ids = |n: usize| format!(r#"{{"v":{}}}"#, 9_007_199_254_740_993 + 2 * n);
    let (columns, counts) = outcome(&all(&[r#"{"v":0.0}"#, r#"{"v":0.5}"#], 50, ids));
    assert_eq!(columns, ["v BIGINT"]);
    let wanted = [(("v".to_owned(), "type_conflict"), 1)];
    assert_eq!(counts, BTreeMap::from(wanted), "the zero is an integer");
    let reals = |n: usize| format!(r#"{{"v":{n}.25}}"#);
    let (columns, counts) = outcome(&all(
        &[r#"{"v":9007199254740993}"#, r#"{"v":7}"#],
        50,
        reals,
    ));
    assert_eq!(columns, ["v DOUBLE"]);
    let wanted = [(("v".to_owned(), "type_conflict"), 1)];
    assert_eq!(counts, BTreeMap::from(wanted), "the seven is a double");
    // Small integers first, then text, then fractions.
    let mixed = |n: usize| match n {
        0..10 => format!(r#"{{"v":{n}}}"#),
        10 => r#"{"v":"x"}"#.to_owned(),
        _ => reals(n),
    };
    let (columns, counts) = outcome(&all(&[r#"{"v":"y"}"#], 60, mixed));
    assert_eq!(columns, ["v DOUBLE"]);
    let wanted = [(("v".to_owned(), "type_conflict"), 2)];
    assert_eq!(counts, BTreeMap::from(wanted));
}

/// What is taken in part is rescued in part.
#[test]
fn an_object_that_gets_the_column_leaves_only_its_odd_values_out() {
    let place = |n: usize| match n {
        7 => r#"{"v":{"lat":"?","lon":1,"tags":["a",5]}}"#.to_owned(),
        _ => format!(r#"{{"v":{{"lat":{n}.5,"lon":{n},"tags":["t"]}}}}"#),
    };
    let (columns, counts) = outcome(&all(&[r#"{"v":"unknown"}"#], 50, place));
    assert_eq!(
        columns,
        [r#"v STRUCT("lat" DOUBLE, "lon" BIGINT, "tags" VARCHAR[])"#]
    );
    let path = |path: &str| (path.to_owned(), "type_conflict");
    let wanted = [(path("v"), 1), (path("v.lat"), 1), (path("v.tags[]"), 1)];
    assert_eq!(counts, BTreeMap::from(wanted));
}

/// A device that is off says so in all of its fields, before all others.
#[test]
fn many_odd_columns_are_exchanged_together() {
    let fields = |value: &dyn Fn(usize) -> String| {
        let fields: Vec<String> = (0..300)
            .map(|field| format!("\"f{field}\":{}", value(field)))
            .collect();
        format!("{{{}}}", fields.join(","))
    };
    let off = fields(&|_| "\"unavailable\"".to_owned());
    let records = all(&[&off], 300, |n| fields(&|field| format!("{}", n * field)));
    let (columns, counts) = outcome(&records);
    assert_eq!(columns.len(), 300);
    assert!(
        columns.iter().all(|column| column.ends_with(" BIGINT")),
        "{columns:?}"
    );
    assert_eq!(counts.values().sum::<usize>(), 300);
}

fn refusing_rules() -> TableRules {
    TableRules {
        on_conflict: OnConflict::DeadLetter,
        partition: vec!["region".to_owned()],
        ..TableRules::default()
    }
}

/// The records that are refused, and their payloads.
fn refused(
    rules: &TableRules,
    target: Option<&TableSchema>,
    records: &[String],
) -> Vec<(u32, String)> {
    let decoded = decoded(rules, records);
    let schema = match target {
        Some(target) => target.join(decoded.schema(), 2_000).schema,
        None => decoded.schema().clone(),
    };
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    let kept: usize = conformed
        .partitions
        .iter()
        .map(|rows| rows.records.len())
        .sum();
    assert_eq!(kept + conformed.rejects.len(), records.len());
    let counted = conformed.rescued_values.iter().map(|(record, _)| *record);
    let rejects = conformed.rejects.iter();
    let rejects: Vec<(u32, String)> = rejects
        .map(|reject| {
            (
                reject.record,
                String::from_utf8(reject.row.clone()).unwrap(),
            )
        })
        .collect();
    assert!(
        counted
            .clone()
            .all(|record| rejects.iter().all(|(refused, _)| *refused != record)),
        "what is refused is not counted as rescued"
    );
    rejects
}

#[test]
fn where_conflicts_are_refused_the_odd_records_are_and_no_others() {
    let rules = refusing_rules();
    for first in [
        r#"{"v":"n/a" , "region":"eu","big":1e3}"#,
        r#"{"v": {"x":[1]}, "region":"eu","big":1e3}"#,
    ] {
        let records = all(&[first], 99, |n| format!(r#"{{"v":{n}.5,"region":"eu"}}"#));
        // The value was in its column when it was read: what gives the record back is kept.
        let found = refused(&rules, None, &records);
        assert_eq!(found.len(), 1);
        let (record, payload) = &found[0];
        assert_eq!(*record, 0);
        let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
        let wanted: serde_json::Value = serde_json::from_str(first).unwrap();
        assert_eq!(payload["v"], wanted["v"]);
        assert_eq!(payload["region"], wanted["region"]);
        assert_eq!(payload["big"].as_f64(), Some(1000.0));
    }
    let last = r#"{"v" : "n/a","w":1.50,"region":"us"}"#;
    let mut records = all(&[], 9, |n| format!(r#"{{"v":{n}.5,"region":"eu"}}"#));
    records.push(last.to_owned());
    let wanted = [(9, last.to_owned())];
    assert_eq!(
        refused(&rules, None, &records),
        wanted,
        "the payload as it was"
    );
}

#[test]
fn what_lacks_only_a_column_is_rescued_where_conflicts_are_refused() {
    let rules = refusing_rules();
    let ids =
        |n: usize| format!(r#"{{"region":"eu","v":1,"by":{{"[EMAIL]":{n}}},"{n:012x}a0":{n}}}"#);
    let records = all(
        &[r#"{"e":[],"region":"eu"}"#, r#"{"f":{},"region":"eu"}"#],
        300,
        ids,
    );
    assert_eq!(refused(&rules, None, &records), []);
}

#[test]
fn a_record_that_another_sinks_schema_refuses_comes_back_whole() {
    let rules = refusing_rules();
    let records = vec![
        r#"{"n":"text","region":"eu","o":{"a":[1.5,2.5]},"l":[{"x":1}],"unknown":5}"#.to_owned(),
        r#"{"n":"8","region":"eu"}"#.to_owned(),
    ];
    let winner = decoded(&rules, &[r#"{"n":1,"region":"eu"}"#.to_owned()]);
    let found = refused(&rules, Some(winner.schema()), &records);
    assert_eq!(found.len(), 2);
    for ((_, payload), record) in found.iter().zip(&records) {
        let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        assert_eq!(payload, record);
    }
}
