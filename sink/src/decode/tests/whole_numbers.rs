//! Whole numbers with a fraction or an exponent: a column of integers takes exactly those that are integers as written.

use super::rescue::check;
use super::*;
use crate::schema::ColumnType;
use crate::schema::declared::declared_schema;

use ColumnType::{Bigint, Double};

/// Numbers as written, the integer that each is, if a BIGINT holds it, and the type of a column that no one declared when
/// it comes after an integer. Beyond 2^53 an exponent says that a double is meant.
const WRITTEN: [(&str, Option<i64>, ColumnType); 26] = [
    ("5", Some(5), Bigint),
    ("5.00", Some(5), Bigint),
    ("1e3", Some(1_000), Bigint),
    ("1200e-2", Some(12), Bigint),
    ("-0.0", Some(0), Bigint),
    ("0e99", Some(0), Bigint),
    ("1.5", None, Double),
    ("4503599627370497.3", None, Double),
    ("9007199254740991.4", None, Double),
    ("9007199254740992.4", None, Double),
    ("-9007199254740991.6", None, Double),
    ("0.99999999999999999999", None, Double),
    ("1.0000000000000000001", None, Double),
    ("1e-400", None, Bigint),
    ("9007199254740993.0", Some(9_007_199_254_740_993), Bigint),
    ("9007199254740993e0", Some(9_007_199_254_740_993), Bigint),
    (
        "9007199254740993.0E+00",
        Some(9_007_199_254_740_993),
        Bigint,
    ),
    ("90071992547409930e-1", Some(9_007_199_254_740_993), Double),
    (
        "-9.007199254740993e15",
        Some(-9_007_199_254_740_993),
        Double,
    ),
    ("1e18", Some(1_000_000_000_000_000_000), Double),
    (
        "900719925474099101e1",
        Some(9_007_199_254_740_991_010),
        Double,
    ),
    ("9223372036854775807e0", Some(i64::MAX), Bigint),
    ("-9223372036854775808.0e-0", Some(i64::MIN), Bigint),
    ("9223372036854775808e0", None, Bigint),
    ("1e19", None, Double),
    ("1e400", None, Bigint),
];

fn table(columns: &[(&str, &str)]) -> TableSchema {
    let columns = columns.iter();
    let columns = columns.map(|(path, kind)| ((*path).to_owned(), kind.parse().unwrap()));
    declared_schema(&columns.collect::<Vec<_>>()).unwrap()
}

/// The row of a record as JSON, with what is rescued of it.
fn row(schema: &TableSchema, record: &str) -> serde_json::Value {
    let decoded = decode(schema, &[record]);
    let target = decoded.schema().clone();
    let row = rows_of(&decoded.conform(&target, PROVENANCE).unwrap()).remove(0);
    serde_json::from_str(&row).unwrap()
}

#[test]
fn a_bigint_takes_what_is_an_integer_as_written_and_nothing_else() {
    let schema = table(&[
        ("n", "BIGINT"),
        ("l[]", "BIGINT"),
        ("m", "MAP(VARCHAR, BIGINT)"),
    ]);
    for (text, integer, _) in WRITTEN {
        for record in [
            format!(r#"{{"n":{text}}}"#),
            format!(r#"{{"l":[{text}]}}"#),
            format!(r#"{{"m":{{"k":{text}}}}}"#),
        ] {
            let row = row(&schema, &record);
            let found = [&row["n"], &row["l"][0], &row["m"]["k"]];
            let found = found.into_iter().find_map(serde_json::Value::as_i64);
            assert_eq!(found, integer, "{record} is {row}");
            let rescued = row["_rescued"].as_str().unwrap_or_default();
            assert_eq!(rescued.contains(text), integer.is_none(), "{row}");
        }
    }
}

#[test]
fn a_column_that_holds_integers_becomes_double_before_it_rounds_to_one() {
    for (text, _, kind) in WRITTEN {
        let records = [r#"{"n":7}"#.to_owned(), format!(r#"{{"n":{text}}}"#)];
        let decoded = decode(&TableSchema::default(), &[&records[0], &records[1]]);
        let found = &decoded.schema().column("n").unwrap().kind;
        assert_eq!(*found, kind, "{text}");
        check(&TableSchema::default(), None, &records);
    }
}

#[test]
fn a_double_rounds_fractions_and_no_integer() {
    let schema = table(&[("d", "DOUBLE")]);
    for (text, rescued) in [
        ("9007199254740992e0", false),
        ("9007199254740993e0", true),
        ("9007199254740993.0e0", true),
        ("-9007199254740993.00E-0", true),
        ("123456789012345678901234567890e0", true),
        ("9007199254740993.5e0", false),
        ("9.007199254740993e15", false),
        ("9.007199254740993e+16", false),
        ("1e23", false),
        ("0.99999999999999999999", false),
        ("4503599627370497.3", false),
    ] {
        let row = row(&schema, &format!(r#"{{"d":{text}}}"#));
        assert_eq!(row["_rescued"].is_string(), rescued, "{row}");
        if !rescued {
            assert_eq!(row["d"].as_f64(), text.parse().ok(), "{row}");
        }
    }
}
