//! One flush: what records become, and why they are refused.

use super::*;

const EMPTY: fn() -> TableSchema = TableSchema::default;

fn reason_of(records: &[&str]) -> (&'static str, String) {
    let reject = reject_of(&EMPTY(), records);
    (reject.reason.code(), reject.column)
}

#[test]
fn json_becomes_parquet_and_comes_back() {
    let records = [
        r#"{"device":"a","temp":21,"ok":true,"pos":{"lat":1.5,"lon":-2}}"#,
        r#"{"device":"b\u00e9\n","temp":null,"tags":["x","y",null],"pos":{"lat":2.5}}"#,
        r#"{ "temp" : 22.5 , "device" : "c", "list":[{"a":1},{"b":"z"}] }"#,
    ];
    assert_eq!(
        rows(&records),
        [
            r#"{"device":"a","temp":21.0,"ok":true,"pos":{"lat":1.5,"lon":-2}}"#,
            r#"{"device":"bé\n","pos":{"lat":2.5},"tags":["x","y",null]}"#,
            r#"{"device":"c","temp":22.5,"list":[{"a":1},{"b":"z"}]}"#,
        ]
    );
}

#[test]
fn strings_keep_every_character() {
    let record = r#"{"a":"\"\\\/\b\f\n\r\t\u0000\ud83d\ude00é","b":"","0123456\"8":"01234567"}"#;
    let value: serde_json::Value = serde_json::from_str(record).unwrap();
    let line = rows(&[record]).remove(0);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&line).unwrap(),
        value
    );
}

#[test]
fn numbers_follow_the_grammar_and_keep_their_value() {
    let table: [(&str, &str); 17] = [
        ("-0", "0"),
        ("-0.0", "-0.0"),
        ("0", "0"),
        ("1E5", "100000.0"),
        ("1e-2", "0.01"),
        ("0.1", "0.1"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9007199254740993", "9007199254740993"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("123456789012345678901234567890.5", "1.2345678901234568e+29"),
        ("1e308", "1e+308"),
        ("5e-324", "5e-324"),
        ("9007199254740993.0", "9007199254740993"),
        ("9007199254740992.00", "9007199254740992.0"),
        ("2.2250738585072011e-308", "2.225073858507201e-308"),
        ("-1.5e+3", "-1500.0"),
    ];
    for (written, read) in table {
        assert_eq!(
            rows(&[&format!(r#"{{"n":{written}}}"#)]),
            [format!(r#"{{"n":{read}}}"#)]
        );
    }
}

#[test]
fn numbers_that_no_column_holds_are_refused() {
    for (written, code) in [
        ("9223372036854775808", "integer_overflow"),
        ("-9223372036854775809", "integer_overflow"),
        ("18446744073709551617", "integer_overflow"),
        ("1e400", "number_out_of_range"),
        ("-1e400", "number_out_of_range"),
        ("1e99999999999999999999", "number_out_of_range"),
        ("1e-400", "number_out_of_range"),
        ("-0.5e-400", "number_out_of_range"),
        ("9223372036854775808.0", "integer_overflow"),
    ] {
        let record = format!(r#"{{"n":{written}}}"#);
        assert_eq!(reason_of(&[&record]), (code, "n".to_owned()), "{written}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for (record, offset) in [
        ("", 0),
        ("  ", 2),
        ("{", 1),
        (r#"{"a""#, 4),
        (r#"{"a":}"#, 5),
        (r#"{"a":1,}"#, 7),
        (r#"{,"a":1}"#, 1),
        (r#"{"a":1 "b":2}"#, 7),
        (r#"{"a":[1,]}"#, 8),
        (r#"{"a":[1 2]}"#, 8),
        (r#"{"a":01}"#, 5),
        (r#"{"a":-}"#, 6),
        (r#"{"a":1.}"#, 7),
        (r#"{"a":.5}"#, 5),
        (r#"{"a":+1}"#, 5),
        (r#"{"a":1e}"#, 7),
        (r#"{"a":0x1}"#, 6),
        (r#"{"a":NaN}"#, 5),
        (r#"{"a":Infinity}"#, 5),
        (r#"{"a":-Infinity}"#, 6),
        (r#"{"a":nul}"#, 5),
        (r#"{"a":truee}"#, 9),
        (r#"{"a":1}x"#, 7),
        (r#"{"a":1}{"a":2}"#, 7),
        (r#"{"a":"x}"#, 8),
        ("{\"a\":\"x\ny\"}", 7),
        ("{\"a\":\"0123456789\u{1}\"}", 16),
        (r#"{"a":"\x"}"#, 6),
        (r#"{"a":"\u12g4"}"#, 6),
        (r#"{"a":"\u12"}"#, 6),
        (r#"{"a":"\ud800"}"#, 6),
        (r#"{"a":"\udc00"}"#, 6),
        (r#"{"a":"\ud800\u0041"}"#, 6),
        (r#"{'a':1}"#, 1),
        ("not json", 0),
        ("2026-11-30 ERROR lost", 0),
        ("true story", 0),
        ("[1,", 0),
        (r#""a" "b""#, 0),
        ("-", 0),
        ("\u{feff}{}", 0),
        ("//{}", 0),
    ] {
        let reject = reject_of(&EMPTY(), &[record]);
        let found = (reject.reason.code(), reject.offset);
        assert_eq!(found, ("malformed_json", offset), "{record}: {reject}");
        assert!(
            serde_json::from_str::<serde_json::Value>(record).is_err(),
            "{record}"
        );
    }
}

#[test]
fn only_objects_are_records() {
    for record in ["[]", "1", "-1", r#""x""#, "true", "null", " [{}] "] {
        assert_eq!(reason_of(&[record]).0, "not_an_object", "{record}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let mut decoder = decoder(&EMPTY());
    let DecodeOutcome::Rejected(reject) = decoder.append(b"{\"a\":\"\xff\"}", &ORIGIN) else {
        panic!("taken");
    };
    assert_eq!((reject.reason, reject.offset), (RejectReason::NOT_UTF8, 6));
}

#[test]
fn nesting_has_a_limit_and_never_overflows_the_stack() {
    let nested = |levels: usize, open: &str, close: &str| {
        format!("{{\"a\":{}1{}}}", open.repeat(levels), close.repeat(levels))
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deepest = decode(&EMPTY(), &[&nested(COLUMN_DEPTH_MAX - 1, open, close)]);
        let schema = stored(deepest.schema());
        assert_eq!(deepest.conform(&schema, PROVENANCE).unwrap().rejects, []);
        for levels in [COLUMN_DEPTH_MAX, 10_000, 100_000] {
            assert_eq!(reason_of(&[&nested(levels, open, close)]).0, "too_deep");
        }
    }
}

#[test]
fn keys_that_would_hide_each_other_are_refused() {
    assert_eq!(
        reason_of(&[r#"{"a":1,"b":2,"a":3}"#]),
        ("duplicate_key", "a".to_owned())
    );
    assert_eq!(
        reason_of(&[r#"{"a":null,"a":null}"#]),
        ("duplicate_key", "a".to_owned())
    );
    assert_eq!(
        reason_of(&[r#"{"a":1,"\u0061":3}"#]),
        ("duplicate_key", "a".to_owned())
    );
    let nested = r#"{"o":[{"a":1},{"a":1,"b":1,"a":3}]}"#;
    assert_eq!(reason_of(&[nested]), ("duplicate_key", "o[].a".to_owned()));
    assert_eq!(
        reason_of(&[r#"{"Temp":1,"temp":1}"#]),
        ("key_case_conflict", "temp".to_owned())
    );
    let later = [r#"{"o":{"Ä":1}}"#, r#"{"o":{"ä":1}}"#];
    assert_eq!(reason_of(&later), ("key_case_conflict", "o.ä".to_owned()));
}

#[test]
fn keys_that_end_in_an_escape_are_told_from_their_prefixes() {
    let first = r#"{"a\\":1,"a\"":2,"a":3}"#;
    let second = r#"{"a\\":4,"a\"":5,"a":6}"#;
    assert_eq!(rows(&[first, second]), [first, second]);
}

#[test]
fn keys_that_no_reader_can_name_are_refused() {
    assert_eq!(reason_of(&[r#"{"":1}"#]).0, "bad_key");
    assert_eq!(reason_of(&[r#"{"a\u0000":1}"#]).0, "bad_key");
    let long = "k".repeat(KEY_BYTES_MAX);
    assert_eq!(rows(&[&format!(r#"{{"{long}":1}}"#)]).len(), 1);
    assert_eq!(reason_of(&[&format!(r#"{{"{long}k":1}}"#)]).0, "bad_key");
}

#[test]
fn one_column_too_many_is_rescued_whatever_becomes_of_conflicts() {
    for on_conflict in [OnConflict::DeadLetter, OnConflict::Rescue] {
        let options = TableRules {
            columns_max: 3,
            on_conflict,
            ..TableRules::default()
        };
        let mut decoder = Decoder::try_new(&EMPTY(), &options, NOW_MICROS).unwrap();
        for record in [
            r#"{"x":1,"y":[2],"z":null}"#,
            r#"{"a":{"b":{"c":{"d":{}}}}}"#,
            r#"{"l":[[[1]]]}"#,
            r#"{"x":2,"d":4}"#,
        ] {
            let appended = decoder.append(record.as_bytes(), &ORIGIN);
            assert_eq!(appended, DecodeOutcome::Row, "{record}");
        }
        let decoded = decoder.finish();
        let schema = decoded.schema().clone();
        assert_eq!(schema.width(), 3);
        let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
        assert_eq!(conformed.rejects, []);
        let rescued: Vec<String> = rows_of(&conformed)
            .iter()
            .map(|row| rescued_of(row))
            .collect();
        let wanted = [
            "",
            r#"{"a":{"b":{"c":{"d":{}}}}}"#,
            r#"{"l":[[[1]]]}"#,
            r#"{"d":4}"#,
        ];
        assert_eq!(rescued, wanted);
    }
}

#[test]
fn a_value_of_another_kind_is_refused() {
    let values = ["1", "true", r#""s""#, r#"{"x":1}"#, "[1]"];
    let wanted = ["BIGINT", "BOOLEAN", "VARCHAR", "STRUCT", "LIST"];
    let found = ["integer", "boolean", "string", "object", "array"];
    for (base, first) in values.iter().enumerate() {
        for (other, second) in values
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != base)
        {
            let records = [
                format!(r#"{{"a":{first}}}"#),
                format!(r#"{{"a":{second}}}"#),
            ];
            let reject = reject_of(&EMPTY(), &[&records[0], &records[1]]);
            let said = (
                reject.reason,
                &*reject.column,
                &*reject.wanted,
                reject.found,
            );
            assert_eq!(
                said,
                (RejectReason::TYPE_CONFLICT, "a", wanted[base], found[other])
            );
            assert_eq!(reject.offset, 5);
        }
    }
}

#[test]
fn a_fraction_makes_the_column_double_if_every_integer_is_exact() {
    let exact = [
        r#"{"n":9007199254740992}"#,
        r#"{"n":-9007199254740992}"#,
        r#"{"n":0.5}"#,
    ];
    assert_eq!(
        rows(&exact),
        [
            r#"{"n":9007199254740992.0}"#,
            r#"{"n":-9007199254740992.0}"#,
            r#"{"n":0.5}"#
        ]
    );
    let inexact = [r#"{"n":9007199254740993}"#, r#"{"n":0.5}"#];
    assert_eq!(reason_of(&inexact), ("type_conflict", "n".to_owned()));
    let reversed = [r#"{"n":0.5}"#, r#"{"n":-9007199254740993}"#];
    assert_eq!(reason_of(&reversed), ("integer_overflow", "n".to_owned()));
    let nested = [
        r#"{"o":[{"n":9007199254740993}]}"#,
        r#"{"o":[{"n":1},{"n":1e-1}]}"#,
    ];
    assert_eq!(reason_of(&nested), ("type_conflict", "o[].n".to_owned()));
}

#[test]
fn a_refused_record_leaves_no_type_and_no_column() {
    let mut decoder = refusing(&EMPTY());
    let mut taken = Vec::new();
    for (record, row) in [
        (r#"{"n":1,"s":"kept"}"#, true),
        (r#"{"n":0.5,"new":1,"s":"lost \n","bad":01}"#, false),
        (r#"{"l":[1,{"x":1}],"s":"t","s":1}"#, false),
        (r#"{"n":9007199254740993,"b":tru}"#, false),
        (r#"{"deep":{"a":[{"b":[1,2]}]},"s":"x"}"#, true),
        (
            r#"{"deep":{"a":[{"b":[3],"c":1},{"b":[4,"x"]}]},"s":"y"#,
            false,
        ),
        (
            r#"{"deep":{"a":[{"b":[5]},null,{}]},"s":"z","new":"text"}"#,
            true,
        ),
    ] {
        let appended = decoder.append(record.as_bytes(), &ORIGIN);
        assert_eq!(
            appended == DecodeOutcome::Row,
            row,
            "{record}: {appended:?}"
        );
        if row {
            taken.push(record.to_owned());
        }
    }
    assert_eq!((decoder.rows(), decoder.at.rejected), (3, 4));
    let decoded = decoder.finish();
    assert_eq!(
        decoded.schema(),
        decode(&EMPTY(), &taken.iter().map(|r| &**r).collect::<Vec<_>>()).schema()
    );
    let schema = decoded.schema().clone();
    let column = schema.column("n").unwrap();
    assert_eq!(
        (column.kind.to_string(), column.integers_beyond_2_53),
        ("BIGINT".to_owned(), false)
    );
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    assert_eq!(conformed.partitions[0].records, [0, 4, 6]);
    assert_eq!(
        rows_of(&conformed),
        [
            r#"{"n":1,"s":"kept"}"#,
            r#"{"s":"x","deep":{"a":[{"b":[1,2]}]}}"#,
            r#"{"s":"z","deep":{"a":[{"b":[5]},null,{}]},"new":"text"}"#,
        ]
    );
}

#[test]
fn refused_records_among_many_disturb_none() {
    let mut decoder = refusing(&EMPTY());
    for n in 0..300 {
        let odd = n % 3 == 0;
        let good = if odd {
            format!(r#"{{"n":{n},"o":{{"s":"row {n}","b":{odd}}},"l":[{n},{n}.5]}}"#)
        } else {
            format!(r#"{{"o":{{"s":null}},"n":{n}}}"#)
        };
        let bad = format!(r#"{{"n":0.5,"o":{{"s":"lost","b":false}},"l":[9,9,9],"k{n}":1,"o":1}}"#);
        assert!(matches!(
            decoder.append(bad.as_bytes(), &ORIGIN),
            DecodeOutcome::Rejected(_)
        ));
        assert_eq!(decoder.append(good.as_bytes(), &ORIGIN), DecodeOutcome::Row);
    }
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    assert_eq!(schema.column("n").unwrap().kind.to_string(), "BIGINT");
    assert_eq!(schema.columns.len(), 3);
    let lines = rows_of(&decoded.conform(&schema, PROVENANCE).unwrap());
    for (n, line) in lines.iter().enumerate() {
        let wanted = match n % 3 {
            0 => format!(r#"{{"n":{n},"o":{{"s":"row {n}","b":true}},"l":[{n}.0,{n}.5]}}"#),
            _ => format!(r#"{{"n":{n},"o":{{}}}}"#),
        };
        assert_eq!(*line, wanted);
    }
    assert_eq!(lines.len(), 300);
}

#[test]
fn what_never_had_a_type_is_no_column_and_is_rescued() {
    let records = [r#"{"a":null,"b":{},"c":[],"d":[[],null],"e":{"f":{}},"g":1}"#];
    let decoded = decode(&EMPTY(), &records);
    let names: Vec<&str> = decoded
        .schema()
        .columns
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(names, ["g"]);
    let rescued = r#"{"b":{},"c":[],"d":[[],null],"e":{"f":{}}}"#;
    assert_eq!(rescued_of(&rows(&records)[0]), rescued);
    let typed = [
        records[0],
        r#"{"b":{"x":1},"c":[1],"d":[["s"]],"e":{"f":{"z":true}}}"#,
    ];
    assert_eq!(
        rows(&typed)[0],
        r#"{"b":{},"c":[],"d":[[],null],"e":{"f":{}},"g":1}"#
    );
}

#[test]
fn an_empty_record_is_a_row_also_of_a_table_without_columns() {
    assert_eq!(
        rows(&["{}", r#"{"a":1}"#, "{ }"]),
        ["{}", r#"{"a":1}"#, "{}"]
    );
    assert_eq!(rows(&["{}", r#"{"a":null}"#]), ["{}", "{}"]);
}

#[test]
fn the_bytes_told_are_about_those_held() {
    let mut decoder = decoder(&EMPTY());
    for index in 0..2_000 {
        let record = format!(r#"{{"device":"device-{index}","n":{index},"l":[{index}.5,2]}}"#);
        assert_eq!(
            decoder.append(record.as_bytes(), &ORIGIN),
            DecodeOutcome::Row
        );
    }
    let counted = decoder.size().arrays;
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    let held: usize = conformed
        .partitions
        .iter()
        .map(|rows| rows.rows.to_batch().unwrap().get_array_memory_size())
        .sum();
    assert!(
        counted > held / 2 && counted < held * 2,
        "{counted} counted, {held} held"
    );
}
