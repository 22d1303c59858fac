//! Declared types: what they take, what is rescued, and how they are read back.

use super::rescue::check;
use super::*;
use crate::schema::declared::declared_schema;

fn table(columns: &[(&str, &str)]) -> TableSchema {
    let columns = columns.iter();
    let columns = columns.map(|(path, kind)| ((*path).to_owned(), kind.parse().unwrap()));
    declared_schema(&columns.collect::<Vec<_>>()).unwrap()
}

/// The row of a record as JSON.
fn row(schema: &TableSchema, record: &str) -> String {
    let decoded = decode(schema, &[record]);
    let target = decoded.schema().clone();
    assert_eq!(target.columns, schema.columns, "{record}");
    rows_of(&decoded.conform(&target, PROVENANCE).unwrap()).remove(0)
}

#[test]
fn a_declared_varchar_takes_any_value_as_its_text() {
    let schema = table(&[("s", "VARCHAR"), ("o.s", "VARCHAR"), ("l[]", "VARCHAR")]);
    for (value, text) in [
        ("\"x\\ny\"", "x\ny"),
        ("20.10", "20.10"),
        ("1e400", "1e400"),
        ("true", "true"),
        ("[ ]", "[]"),
        ("[1, {\"a\" : null}]", "[1,{\"a\":null}]"),
        ("{ \"a\" : [ 1 ] }", "{\"a\":[1]}"),
    ] {
        let text = serde_json::to_string(text).unwrap();
        for (record, wanted) in [
            (format!(r#"{{"s":{value}}}"#), format!(r#"{{"s":{text}}}"#)),
            (
                format!(r#"{{"o":{{"s":{value}}}}}"#),
                format!(r#"{{"o":{{"s":{text}}}}}"#),
            ),
            (
                format!(r#"{{"l":[{value},null]}}"#),
                format!(r#"{{"l":[{text},null]}}"#),
            ),
        ] {
            assert_eq!(row(&schema, &record), wanted);
        }
    }
    assert_eq!(row(&schema, r#"{"s":null}"#), "{}");
    let mut decoder = decoder(&schema);
    let repeated = decoder.append(br#"{"s":{"a":1,"a":2}}"#, &ORIGIN);
    assert!(matches!(repeated, DecodeOutcome::Rejected(_)));
}

#[test]
fn a_json_column_takes_any_value_as_it_is_written() {
    let schema = table(&[("j", "JSON")]);
    for (value, json) in [
        ("\"x\\u0041\"", "\"x\\u0041\""),
        ("20.10", "20.10"),
        ("false", "false"),
        ("{ \"a\" : [ 1 ] }", "{\"a\":[1]}"),
    ] {
        let wanted = format!(r#"{{"j":{}}}"#, serde_json::to_string(json).unwrap());
        assert_eq!(row(&schema, &format!(r#"{{"j":{value}}}"#)), wanted);
    }
    let deep = format!(r#"{{"j":{}1{}}}"#, "[".repeat(90), "]".repeat(90));
    assert!(row(&schema, &deep).starts_with(r#"{"j":"[["#));
}

#[test]
fn dates_and_instants_are_real_ones_and_the_rest_is_rescued() {
    let schema = table(&[
        ("d", "DATE"),
        ("t", "TIMESTAMP"),
        ("s", "TIMESTAMP(s)"),
        ("ms", "TIMESTAMP(ms)"),
        ("ns", "TIMESTAMP(ns)"),
    ]);
    for (record, wanted) in [
        (r#"{"d":"2026-01-31"}"#, r#"{"d":"2026-01-31"}"#),
        (
            r#"{"t":"2026-01-31T01:02:03.456789+01:00"}"#,
            r#"{"t":"2026-01-31T00:02:03.456789Z"}"#,
        ),
        (
            r#"{"t":"2026-01-31T00:00:00\u005A"}"#,
            r#"{"t":"2026-01-31T00:00:00Z"}"#,
        ),
        (r#"{"t":1769817600}"#, r#"{"t":"2026-01-31T00:00:00Z"}"#),
        (
            r#"{"t":1769817600.5}"#,
            r#"{"t":"2026-01-31T00:00:00.500Z"}"#,
        ),
        (
            r#"{"t":1769817600123}"#,
            r#"{"t":"2026-01-31T00:00:00.123Z"}"#,
        ),
        (
            r#"{"s":5,"ms":5,"ns":5000}"#,
            r#"{"s":"1970-01-01T00:00:05Z","ms":"1970-01-01T00:00:00.005Z","ns":"1970-01-01T00:00:00.000005Z"}"#,
        ),
        (
            r#"{"s":-0,"ms":-1.5}"#,
            r#"{"s":"1970-01-01T00:00:00Z","ms":"1969-12-31T23:59:59.998500Z"}"#,
        ),
    ] {
        assert_eq!(row(&schema, record), wanted);
    }
    for value in [
        r#""2026-02-30""#,
        r#""2026-1-31""#,
        r#""+026-01-31""#,
        r#""0000-01-01""#,
        r#""""#,
        "20260131",
        "true",
        "{}",
        "[1]",
    ] {
        let rescued = rescued_of(&row(&schema, &format!(r#"{{"d":{value}}}"#)));
        assert_eq!(rescued, format!(r#"{{"d":{value}}}"#));
    }
    for value in [
        r#""yesterday""#,
        r#""0000-12-31T23:59:59Z""#,
        "9e99",
        "99999999999999999999",
        "false",
        "{\"a\":1}",
    ] {
        let rescued = rescued_of(&row(&schema, &format!(r#"{{"t":{value}}}"#)));
        assert_eq!(rescued, format!(r#"{{"t":{value}}}"#));
    }
    assert_eq!(
        rescued_of(&row(&schema, r#"{"s":9223372036854775807}"#)),
        r#"{"s":9223372036854775807}"#
    );
}

#[test]
fn declared_maps_and_structs_take_what_fits() {
    let schema = table(&[
        ("m", "MAP(VARCHAR, BIGINT)"),
        ("o", "MAP(VARCHAR, MAP(VARCHAR, JSON))"),
        ("at.price", "DECIMAL(9,2)"),
    ]);
    let record =
        r#"{"m":{"a":1,"b":2.0,"c":"x","":null},"o":{"k":{"l":[1, 2]}},"at":{"price":1.5}}"#;
    assert_eq!(
        row(&schema, record),
        r#"{"m":{"a":1,"b":2,"c":null,"":null},"o":{"k":{"l":"[1,2]"}},"at":{"price":1.50},"_rescued":"{\"m\":{\"c\":\"x\"}}"}"#
    );
    check(
        &schema,
        None,
        &[r#"{"m":{"a":1.5,"b":1},"m2":{"a":"x"},"at":{"price":0.005,"unit":"EUR"}}"#.to_owned()],
    );
}

/// Rows that were decoded before another sink declared a column go into it as text or JSON.
#[test]
fn rows_go_into_columns_that_were_declared_meanwhile() {
    let target = table(&[("a", "VARCHAR"), ("b", "JSON"), ("c", "DATE")]);
    let records = [
        r#"{"a":1.5,"b":"x","c":"2026-01-01"}"#,
        r#"{"a":2.0,"b":"\"","c":"x"}"#,
    ];
    let decoded = decode(&TableSchema::default(), &records);
    let rows = rows_of(&decoded.conform(&target, PROVENANCE).unwrap());
    let wanted = [
        r#"{"a":"1.5","b":"\"x\"","_rescued":"{\"c\":\"2026-01-01\"}"}"#,
        r#"{"a":"2.0","b":"\"\\\"\"","_rescued":"{\"c\":\"x\"}"}"#,
    ];
    assert_eq!(rows, wanted);
    let declared = table(&[("a", "JSON"), ("b", "JSON"), ("c", "JSON")]);
    let decoded = decode(&declared, &[r#"{"a":"x","b":[1],"c":{"k": 1}}"#]);
    let other = table(&[("a", "VARCHAR"), ("b", "VARCHAR"), ("c", "DATE")]);
    let rows = rows_of(&decoded.conform(&other, PROVENANCE).unwrap());
    assert_eq!(
        rows,
        [r#"{"a":"x","b":"[1]","_rescued":"{\"c\":{\"k\":1}}"}"#]
    );
}

/// Text and JSON look alike to Arrow, so what they are is told by their columns, also within others.
#[test]
fn text_and_json_within_other_columns_are_not_taken_for_one_another() {
    let record = r#"{"o":{"j":"x"},"l":["1"],"m":{"j":[{"k":"true"}]}}"#;
    let decoded = decode(&TableSchema::default(), &[record]);
    let target = table(&[("o.j", "JSON"), ("l[]", "JSON"), ("m.j[].k", "JSON")]);
    let rows = rows_of(&decoded.conform(&target, PROVENANCE).unwrap());
    assert_eq!(
        rows,
        [r#"{"o":{"j":"\"x\""},"l":["\"1\""],"m":{"j":[{"k":"\"true\""}]}}"#]
    );
    let declared = table(&[("o.j", "JSON"), ("l[]", "JSON")]);
    let record = r#"{"o":{"j":{"a":[1,2]}},"l":[{"b":null},"x",7]}"#;
    let decoded = decode(&declared, &[record]);
    // Text columns that nobody declared take strings only; a table without the columns takes nothing.
    for other in [
        table(&[("n", "BIGINT")]),
        table(&[("o", "DATE"), ("l", "MAP(VARCHAR, BIGINT)")]),
    ] {
        let rows = rows_of(&decoded.conform(&other, PROVENANCE).unwrap());
        assert_eq!(rescued_of(&rows[0]), record);
    }
    let texts = decode(&TableSchema::default(), &[r#"{"o":{"j":"t"},"l":["t"]}"#]);
    let rows = rows_of(&decoded.conform(texts.schema(), PROVENANCE).unwrap());
    assert_eq!(rescued_of(&rows[0]), record);
    let all = table(&[("o", "JSON"), ("l", "VARCHAR")]);
    let rows = rows_of(&decoded.conform(&all, PROVENANCE).unwrap());
    assert_eq!(
        rows,
        [r#"{"o":"{\"j\":{\"a\":[1,2]}}","l":"[{\"b\":null},\"x\",7]"}"#]
    );
}
