//! Odd values come first, and what most records say decides nevertheless.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::rescue::check;
use super::*;
use crate::schema::ColumnType;
use crate::table::spec::{OnConflict, TableRules};

/// How many times any records are tried.
const CASES: u32 = 64;

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

/// Half of random ids of 64 bits without a sign fit a BIGINT; no column takes the others.
#[test]
fn numbers_that_no_column_takes_count_for_nothing() {
    let ids = |n: usize| match n % 3 {
        0 => format!(r#"{{"v":{}}}"#, 9_007_199_254_740_993 + 2 * n),
        _ => format!(r#"{{"v":{}}}"#, u64::MAX - n as u64),
    };
    let (columns, counts) = outcome(&all(&[], 60, ids));
    assert_eq!(columns, ["v BIGINT"]);
    let wanted = [(("v".to_owned(), "integer_overflow"), 40)];
    assert_eq!(counts, BTreeMap::from(wanted));
    let huge = |n: usize| {
        format!(
            r#"{{"v":{}}}"#,
            ["1e999", "1e-999", "-99999999999999999999"][n % 3]
        )
    };
    let (columns, counts) = outcome(&all(&[r#"{"v":"x"}"#], 9, huge));
    assert_eq!(columns, ["v VARCHAR"]);
    let wanted = [(("v".to_owned(), "type_conflict"), 9)];
    assert_eq!(counts, BTreeMap::from(wanted));
}

#[test]
fn empty_values_count_for_nothing_whether_rescued_or_in_a_column() {
    let typed = [
        r#"{"v":{"code":1}}"#,
        r#"{"v":["x"]}"#,
        r#"{"v":"x"}"#,
        r#"{"v":1}"#,
    ];
    for first in typed {
        for empty in [r#"{"v":[]}"#, r#"{"v":{}}"#, r#"{"v":[null,{"x":[]}]}"#] {
            let (columns, _) = outcome(&all(&[first], 9, |_| empty.to_owned()));
            assert_eq!(columns.len(), 1, "{first} {empty}");
        }
    }
    // Many are in the column, because one of its kind has a value.
    for (empty, odd, record, wanted) in [
        (
            "[]",
            "[\"x\"]",
            "{\"code\":1}",
            r#"v STRUCT("code" BIGINT)"#,
        ),
        ("{}", "{\"x\":1}", "\"text\"", "v VARCHAR"),
        ("[[]]", "[[true]]", "1.5", "v DOUBLE"),
        (
            "{\"l\":[{}]}",
            "{\"l\":[{\"x\":1}]}",
            "[true]",
            "v BOOLEAN[]",
        ),
    ] {
        let records = all(&[], 90, |n| {
            let value = match n {
                0..60 => empty,
                60 => odd,
                _ => record,
            };
            format!(r#"{{"v":{value}}}"#)
        });
        let (columns, counts) = outcome(&records);
        assert_eq!(columns, [wanted]);
        let wanted = [(("v".to_owned(), "type_conflict"), 61)];
        assert_eq!(counts, BTreeMap::from(wanted));
    }
}

/// What is odd within objects that get their column from an odd value is odd as well.
#[test]
fn odd_first_values_on_several_levels_take_no_column() {
    let first = [
        r#"{"v":"off"}"#,
        r#"{"v":{"a":"off"}}"#,
        r#"{"v":{"a":{"b":"off"}}}"#,
        r#"{"v":{"a":{"b":[{"c":[]}]}}}"#,
    ];
    let records = all(&first, 40, |n| {
        format!(r#"{{"v":{{"a":{{"b":[{{"c":{n}}}]}}}}}}"#)
    });
    let (columns, counts) = outcome(&records);
    assert_eq!(
        columns,
        [r#"v STRUCT("a" STRUCT("b" STRUCT("c" BIGINT)[]))"#]
    );
    let path = |path: &str| (path.to_owned(), "type_conflict");
    let wanted = ["v", "v.a", "v.a.b", "v.a.b[].c"].map(|at| (path(at), 1));
    assert_eq!(counts, BTreeMap::from(wanted));
}

/// A kind that has no room, or lies too deep, takes no column from those that are in it.
#[test]
fn a_column_goes_to_no_kind_that_it_cannot_have() {
    let open = r#"{"v":"#.repeat(15);
    let close = "}".repeat(15);
    let deep = |value: &str| format!(r#"{{"v":{open}{value}{close}}}"#);
    let records = all(&[&deep("\"x\"")], 9, |_| deep(r#"{"y":1}"#));
    let (columns, _) = outcome(&records);
    assert!(columns[0].contains("VARCHAR"), "{columns:?}");
    let rules = TableRules {
        columns_max: 1,
        ..TableRules::default()
    };
    for odd in [r#"{"v":[1]}"#, r#"{"v":{"x":1}}"#] {
        let decoded = decoded(&rules, &all(&[r#"{"v":"x"}"#], 9, |_| odd.to_owned()));
        assert_eq!(decoded.schema().columns.len(), 1, "{odd}");
    }
}

/// A value that loses its column is one value, also when some of it had been rescued before.
#[test]
fn a_value_that_loses_its_column_is_counted_once() {
    for odd in [
        r#"{"v":{"a":"x","l":[1,"y"],"k":{"z":[true,5]}}}"#,
        r#"{"v":{"l":[{"a":7}]}}"#,
    ] {
        let first = [r#"{"v":{"a":1,"l":[1],"k":{"z":[false]}}}"#, odd];
        let (columns, counts) = outcome(&all(&first, 9, |n| format!(r#"{{"v":{n}}}"#)));
        assert_eq!(columns, ["v BIGINT"]);
        let wanted = [(("v".to_owned(), "type_conflict"), 2)];
        assert_eq!(counts, BTreeMap::from(wanted), "{odd}");
    }
    let id = |n: usize| format!("{n:08x}-e29b-41d4-a716-446655440000");
    let records = all(&[], 100, |n| match n {
        50 => format!(r#"{{"m":{{"{}":{{"a":"x"}}}}}}"#, id(0)),
        0 => format!(r#"{{"m":{{"{}":{{"a":1}}}}}}"#, id(0)),
        _ => format!(r#"{{"m":{{"{}":{n}}}}}"#, id(n)),
    });
    let (columns, counts) = outcome(&records);
    assert_eq!(columns, ["m MAP(VARCHAR, BIGINT)"]);
    let wanted = [(("m{}".to_owned(), "type_conflict"), 2)];
    assert_eq!(counts, BTreeMap::from(wanted));
}

/// The reason of a dead letter is one that still holds at the end.
#[test]
fn what_is_taken_in_the_end_is_no_reason() {
    let records = all(
        &[
            r#"{"a":"x","region":"eu"}"#,
            r#"{"a":1,"b":"n/a","region":"eu"}"#,
        ],
        9,
        |n| format!(r#"{{"a":{n},"b":{n},"region":"eu"}}"#),
    );
    let decoded = decoded(&refusing_rules(), &records);
    let schema = decoded.schema().clone();
    let rejects = decoded.conform(&schema, PROVENANCE).unwrap().rejects;
    let rejects: Vec<_> = rejects
        .iter()
        .map(|reject| (reject.record, &*reject.reject.column))
        .collect();
    assert_eq!(rejects, [(0, "a"), (1, "b")]);
}

/// Columns that are exchanged leave as much room as they took.
#[test]
fn columns_that_are_given_up_leave_their_room() {
    let rules = TableRules {
        columns_max: 30,
        ..TableRules::default()
    };
    let fields = |name: &str| -> Vec<String> {
        (0..20)
            .map(|n| format!(r#""{name}{}":1"#, char::from(b'a' + n)))
            .collect()
    };
    let first = format!(r#"{{"v":[{{{}}}]}}"#, fields("x").join(","));
    let second = format!(r#"{{"v":{{{}}}}}"#, fields("y").join(","));
    let decoded = decoded(&rules, &all(&[&first], 5, |_| second.clone()));
    assert_eq!(decoded.schema().width(), 21);
}

/// How many values are rescued of what has this column: at least, and at most.
fn count_whole(
    row: &serde_json::Value,
    rescued: &serde_json::Value,
    column: Option<&ColumnType>,
) -> [usize; 2] {
    use serde_json::Value as V;
    let column_of = |key: &str| match column {
        Some(ColumnType::Struct(fields)) => {
            let field = fields.iter().find(|field| field.name == key);
            field.map(|field| &field.kind)
        }
        Some(ColumnType::List(item)) => Some(&item.kind),
        _ => None,
    };
    let counts: Vec<[usize; 2]> = match (row, rescued) {
        (V::Object(row), V::Object(rescued)) => {
            let values = rescued.iter();
            let row_of = |key| row.get(key).unwrap_or(&V::Null);
            values
                .map(|(key, value)| count_whole(row_of(key), value, column_of(key)))
                .collect()
        }
        (V::Array(row), V::Array(rescued)) => {
            let pairs = row.iter().zip(rescued);
            pairs
                .map(|(row, rescued)| count_whole(row, rescued, column_of("")))
                .collect()
        }
        (_, V::Null) => vec![],
        // Of a value without a type, or in a map, what is in it may be counted.
        _ if column.is_none() => vec![[1, rescued.to_string().len()]],
        _ => vec![[1, 1]],
    };
    let sum = |at: usize| counts.iter().map(|counts| counts[at]).sum();
    [sum(0), sum(1)]
}

fn any_value(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        4 => (0..99_i32).prop_map(|n| n.to_string()),
        2 => (0..99_i32).prop_map(|n| format!("{n}.25")),
        2 => "[a-c]{0,3}".prop_map(|text| format!("\"{text}\"")),
        1 => prop::sample::select(vec![
            "true", "null", "{}", "[]", "9007199254740993", "18446744073709551615", "1e-400", "-0", "0.0",
            "1e20", "-9007199254740995",
        ])
        .prop_map(str::to_owned),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let list = prop::collection::vec(any_value(depth - 1), 0..4)
        .prop_map(|items| format!("[{}]", items.join(",")));
    prop_oneof![4 => leaf, 2 => list, 3 => any_object(depth - 1)].boxed()
}

fn any_object(depth: u32) -> BoxedStrategy<String> {
    let keys = prop::sample::subsequence(
        vec![
            "a", "b", "c", "A", "10.0.0.1", "10.0.0.2", "10.0.0.3", "dev001",
        ],
        0..5,
    );
    let values = prop::collection::vec(any_value(depth), 5);
    (keys, values)
        .prop_map(|(keys, values)| {
            let fields = keys.iter().zip(values);
            let fields: Vec<String> = fields
                .map(|(key, value)| format!("\"{key}\":{value}"))
                .collect();
            format!("{{{}}}", fields.join(","))
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// Whatever comes in whatever order: records come back, each rescued value is counted once, and those with a conflict
    /// are the ones that are refused where that is asked for, with all that they held.
    #[test]
    fn any_records_come_back_and_are_counted_once(
        records in prop::collection::vec(any_object(4), 1..24),
        columns_max in prop_oneof![4 => Just(2_000_usize), 1 => 1_usize..12],
    ) {
        let rules = |on_conflict| TableRules { on_conflict, columns_max, ..TableRules::default() };
        check(&TableSchema::default(), None, &records);
        let plain = decoded(&rules(OnConflict::Rescue), &records);
        let schema = plain.schema().clone();
        let conformed = plain.conform(&schema, PROVENANCE).unwrap();
        let mut counted = vec![0; records.len()];
        let mut conflicts = vec![false; records.len()];
        for (record, kind) in &conformed.rescued_values {
            counted[*record as usize] += 1;
            conflicts[*record as usize] |=
                conformed.rescue_kinds.get(*kind).reason.is_conflict();
        }
        let lines = rows_of(&conformed);
        let order = conformed.partitions.iter().flat_map(|rows| &rows.records);
        for (line, record) in lines.iter().zip(order) {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let rescued = rescued_of(line);
            let wanted = match rescued.is_empty() {
                true => [0, 0],
                false => count_whole(
                    &row,
                    &serde_json::from_str(&rescued).unwrap(),
                    Some(&ColumnType::Struct(schema.columns.clone())),
                ),
            };
            let found = counted[*record as usize];
            prop_assert!(
                wanted[0] <= found && found <= wanted[1],
                "{} {:?} {:?} {} {:?}", found, wanted, records, line, schema
            );
        }
        let strict = decoded(&rules(OnConflict::DeadLetter), &records);
        prop_assert_eq!(strict.schema(), &schema);
        let rejects = strict.conform(&schema, PROVENANCE).unwrap().rejects;
        let refused: Vec<u32> = rejects.iter().map(|reject| reject.record).collect();
        let wanted: Vec<u32> = (0..).zip(&conflicts).filter(|(_, is)| **is).map(|(at, _)| at).collect();
        prop_assert_eq!(refused, wanted, "{:?}", records);
        for reject in rejects {
            let record = &records[reject.record as usize];
            super::rescue::assert_same(record, std::str::from_utf8(&reject.row).unwrap());
        }
    }
}
