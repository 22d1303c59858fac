//! Flush after flush: a table's schema grows, and rows are brought under the schema that won.

use super::*;
use crate::schema::declared::declared_schema;
use crate::schema::{Column, ColumnType};

/// Decodes under a schema and conforms to what the records make of it.
fn next(schema: &TableSchema, records: &[&str]) -> (TableSchema, Vec<String>) {
    let decoded = decode(schema, records);
    let grown = decoded.schema().clone();
    let conformed = decoded.conform(&grown, PROVENANCE).unwrap();
    assert_eq!(conformed.rejects, []);
    (grown, rows_of(&conformed))
}

fn schema_of(records: &[&str]) -> TableSchema {
    decode(&TableSchema::default(), records).schema().clone()
}

/// Decodes records for an empty table, then conforms them to another schema; nothing is rescued.
fn conform(records: &[&str], target: &TableSchema) -> (Vec<String>, Vec<(u32, String, String)>) {
    let mut decoder = refusing(&TableSchema::default());
    for record in records {
        assert_eq!(
            decoder.append(record.as_bytes(), &ORIGIN),
            DecodeOutcome::Row
        );
    }
    let conformed = decoder.finish().conform(target, PROVENANCE).unwrap();
    let rejects = conformed.rejects.iter().map(|reject| {
        let row = String::from_utf8(reject.row.clone()).unwrap();
        (reject.record, reject.reject.to_string(), row)
    });
    let rejects = rejects.collect();
    (rows_of(&conformed), rejects)
}

#[test]
fn a_table_keeps_its_columns_and_gains_new_ones() {
    let first = schema_of(&[r#"{"a":1,"o":{"x":"s"}}"#]);
    let (second, rows) = next(&first, &[r#"{"b":true,"o":{"y":[1]},"a":2}"#]);
    assert_eq!(rows, [r#"{"a":2,"o":{"y":[1]},"b":true}"#]);
    let names: Vec<&str> = second
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(names, ["a", "o", "b"]);
    assert_eq!(next(&second, &[r#"{"a":3}"#]).0, second);
}

#[test]
fn bigint_becomes_double_in_a_later_flush_if_every_integer_was_exact() {
    let exact = schema_of(&[r#"{"n":9007199254740992}"#]);
    let (double, rows) = next(&exact, &[r#"{"n":7}"#, r#"{"n":0.5}"#]);
    assert_eq!(double.column("n").unwrap().kind, ColumnType::Double);
    assert_eq!(rows, [r#"{"n":7.0}"#, r#"{"n":0.5}"#]);
    assert_eq!(next(&double, &[r#"{"n":7}"#]).1, [r#"{"n":7.0}"#]);
    assert_eq!(next(&double, &[r#"{"n":-0}"#]).1, [r#"{"n":-0.0}"#]);
    let reject = reject_of(&double, &[r#"{"n":9007199254740993}"#]);
    assert_eq!(
        (reject.reason.code(), &*reject.wanted),
        ("integer_overflow", "DOUBLE")
    );

    let inexact = schema_of(&[r#"{"n":9007199254740993}"#]);
    assert!(inexact.column("n").unwrap().integers_beyond_2_53);
    let stored = stored(&inexact);
    let reject = reject_of(&stored, &[r#"{"n":1}"#, r#"{"n":0.5}"#]);
    assert_eq!(
        (reject.reason.code(), &*reject.wanted),
        ("type_conflict", "BIGINT")
    );
    assert_eq!(next(&stored, &[r#"{"n":1}"#]).0, stored);
}

#[test]
fn a_known_column_keeps_its_type_whatever_the_flush_says() {
    let schema = schema_of(&[r#"{"a":"s","b":true,"c":{"x":1},"d":[1]}"#]);
    for (record, column) in [
        (r#"{"a":1}"#, "a"),
        (r#"{"b":"true"}"#, "b"),
        (r#"{"c":{"x":"1"}}"#, "c.x"),
        (r#"{"d":[[1]]}"#, "d[]"),
        (r#"{"d":1}"#, "d"),
    ] {
        let reject = reject_of(&schema, &[record]);
        assert_eq!(
            (reject.reason, &*reject.column),
            (RejectReason::TYPE_CONFLICT, column)
        );
    }
}

#[test]
fn declared_columns_neither_widen_nor_vanish() {
    let declared = declared_schema(&[
        ("n".to_owned(), ColumnType::Bigint),
        ("price".to_owned(), "DECIMAL(20,2)".parse().unwrap()),
        ("o".to_owned(), "STRUCT(x DOUBLE)".parse().unwrap()),
    ])
    .unwrap();
    let (schema, rows) = next(
        &declared,
        &[r#"{"price":123456789012345678.5,"o":{"x":1}}"#],
    );
    assert_eq!(schema.columns, declared.columns);
    assert_eq!(rows, [r#"{"price":123456789012345678.50,"o":{"x":1.0}}"#]);
    for (record, code) in [
        (r#"{"n":1.5}"#, "type_conflict"),
        (r#"{"price":0.123}"#, "type_conflict"),
        (r#"{"price":1234567890123456789}"#, "integer_overflow"),
        (r#"{"price":1e400}"#, "integer_overflow"),
        (r#"{"price":1e-400}"#, "type_conflict"),
        (r#"{"price":"1"}"#, "type_conflict"),
    ] {
        assert_eq!(
            reject_of(&declared, &[record]).reason.code(),
            code,
            "{record}"
        );
    }
    for (written, read) in [
        ("1.10e1", "11.00"),
        ("1.2300", "1.23"),
        ("-5E-2", "-0.05"),
        ("0e999999999999", "0.00"),
        ("1e17", "100000000000000000.00"),
    ] {
        let record = format!(r#"{{"price":{written}}}"#);
        assert_eq!(
            next(&declared, &[&record]).1,
            [format!(r#"{{"price":{read}}}"#)]
        );
    }
}

#[test]
fn a_frozen_table_rescues_new_keys_whatever_becomes_of_conflicts() {
    let schema = schema_of(&[r#"{"a":1,"o":{"x":1}}"#]);
    let options = TableRules {
        frozen: true,
        on_conflict: OnConflict::DeadLetter,
        ..TableRules::default()
    };
    let mut decoder = Decoder::try_new(&schema, &options, NOW_MICROS).unwrap();
    assert_eq!(
        decoder.append(br#"{"a":1,"o":{"x":2}}"#, &ORIGIN),
        DecodeOutcome::Row
    );
    for record in [r#"{"b":1}"#, r#"{"o":{"y":2,"x":null}}"#] {
        assert_eq!(
            decoder.append(record.as_bytes(), &ORIGIN),
            DecodeOutcome::Row
        );
    }
    let conformed = decoder.finish().conform(&schema, PROVENANCE).unwrap();
    assert_eq!(conformed.rejects, []);
    let rescued: Vec<String> = rows_of(&conformed)
        .iter()
        .map(|row| rescued_of(row))
        .collect();
    assert_eq!(rescued, ["", r#"{"b":1}"#, r#"{"o":{"y":2}}"#]);
}

#[test]
fn rows_move_to_the_schema_of_the_sink_that_won() {
    let winner = schema_of(&[r#"{"z":"s","n":0.5,"o":{"b":1,"a":2.5},"l":[0.5],"e":{"k":1}}"#]);
    let records = [
        r#"{"o":{"a":1},"n":7,"l":[1,null,2],"e":{}}"#,
        r#"{"l":[],"z":null,"e":null}"#,
    ];
    assert_eq!(
        conform(&records, &winner),
        (
            vec![
                r#"{"n":7.0,"o":{"a":1.0},"l":[1.0,null,2.0],"e":{}}"#.to_owned(),
                r#"{"l":[]}"#.to_owned(),
            ],
            vec![]
        )
    );
}

#[test]
fn only_the_rows_that_do_not_fit_the_winner_are_refused() {
    let winner = schema_of(&[r#"{"n":0.5,"s":"x","l":[{"x":true}],"Case":1}"#]);
    let records = [
        r#"{"n":1,"k":0}"#,
        r#"{"n":9007199254740993,"k":1}"#,
        r#"{"s":5,"k":2}"#,
        r#"{"l":[{"x":null},{"x":3}],"k":3}"#,
        r#"{"l":[{"x":null}],"k":4}"#,
        r#"{"case":1,"k":5}"#,
        r#"{"case":null,"k":6}"#,
    ];
    let winner = winner.join(&schema_of(&[r#"{"k":0}"#]), 100).schema;
    let (rows, rejects) = conform(&records, &winner);
    assert_eq!(
        rows,
        [r#"{"n":1.0,"k":0}"#, r#"{"l":[{}],"k":4}"#, r#"{"k":6}"#]
    );
    let said: Vec<(u32, &str)> = rejects
        .iter()
        .map(|(at, why, _)| (*at, why.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (
                1,
                "integer_overflow in column `n`, wanted DOUBLE, found integer beyond 2^53, at byte 0"
            ),
            (
                2,
                "type_conflict in column `s`, wanted VARCHAR, found BIGINT, at byte 0"
            ),
            (
                3,
                "type_conflict in column `l[].x`, wanted BOOLEAN, found BIGINT, at byte 0"
            ),
            (
                5,
                "key_case_conflict in column `case`, wanted `Case`, found BIGINT, at byte 0"
            ),
        ]
    );
    assert_eq!(rejects[2].2, r#"{"k":3,"l":[{},{"x":3}]}"#);
}

#[test]
fn doubles_fit_a_bigint_that_won_if_they_are_integers() {
    let winner = schema_of(&[r#"{"n":9007199254740993}"#]);
    let records = [
        r#"{"n":5}"#,
        r#"{"n":2.5}"#,
        r#"{"n":-7.0}"#,
        r#"{"n":1e300}"#,
    ];
    let (rows, rejects) = conform(&records, &winner);
    assert_eq!(rows, [r#"{"n":5}"#, r#"{"n":-7}"#]);
    assert_eq!(
        rejects.iter().map(|reject| reject.0).collect::<Vec<_>>(),
        [1, 3]
    );
}

#[test]
fn integers_fit_a_declared_decimal_that_won() {
    let winner = declared_schema(&[("n".to_owned(), "DECIMAL(4,2)".parse().unwrap())]).unwrap();
    let (rows, rejects) = conform(&[r#"{"n":99}"#, r#"{"n":100}"#], &winner);
    assert_eq!(
        (rows, rejects.len()),
        (vec![r#"{"n":99.00}"#.to_owned()], 1)
    );
}

#[test]
fn columns_that_the_winner_has_no_room_for_cost_no_rows() {
    let winner = schema_of(&[r#"{"a":1}"#]);
    let (rows, rejects) = conform(&[r#"{"a":1}"#, r#"{"a":2,"b":{"c":1}}"#], &winner);
    assert_eq!(rows[0], r#"{"a":1}"#);
    assert_eq!(rescued_of(&rows[1]), r#"{"b":{"c":1}}"#);
    assert_eq!(rejects, []);
}

#[test]
fn provenance_follows_the_records_columns() {
    let schema = TableSchema::default().with_provenance(true).unwrap();
    let reject = reject_of(&schema, &[r#"{"_Stream":"mine"}"#]);
    assert_eq!(
        (reject.reason, &*reject.column),
        (RejectReason::RESERVED_COLUMN, "_Stream")
    );
    let (grown, rows) = next(&schema, &[r#"{"a":1,"o":{"_stream":1}}"#]);
    assert!(grown.provenance);
    assert_eq!(
        rows,
        [format!(
            r#"{{"a":1,"o":{{"_stream":1}},"_stream":"telemetry","_shard":"shard-0","_sequence":"{}","_sub":0,"_stamp":"2026-11-21T00:00:00Z"}}"#,
            ORIGIN.sequence
        )]
    );
    let taken = TableSchema::try_new(vec![Column::new("_sub", ColumnType::Bigint)]).unwrap();
    assert!(taken.with_provenance(true).is_err());
}
