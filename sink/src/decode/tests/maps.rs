//! Objects whose keys are data become maps, and keys that are data use up no columns.

use super::rescue::check;
use super::*;

fn schema_of(records: &[String]) -> TableSchema {
    let mut decoder = decoder(&TableSchema::default());
    for record in records {
        decoder.settle();
        let appended = decoder.append(record.as_bytes(), &ORIGIN);
        assert_eq!(appended, DecodeOutcome::Row, "{record}");
    }
    decoder.finish().schema().clone()
}

/// The types of the columns that records bring, by name; each record comes back, now and in a later interval.
fn types(records: &[String]) -> Vec<(String, String)> {
    let schema = schema_of(records);
    check(&TableSchema::default(), None, records);
    check(&stored(&schema), None, records);
    let columns = schema.columns.iter();
    columns
        .map(|column| (column.name.clone(), column.kind.to_string()))
        .collect()
}

fn type_of(name: &str, records: &[String]) -> String {
    let types = types(records);
    let found = types.iter().find(|(column, _)| column == name);
    found.map_or(String::new(), |(_, kind)| kind.clone())
}

fn each(count: usize, record: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(record).collect()
}

#[test]
fn device_ids_as_keys_become_one_map() {
    let records = each(2_500, |n| {
        format!(
            r#"{{"gw":"g1","n":{n},"devices":{{"dev{n:04}":{{"rssi":{}}}}}}}"#,
            -(n as i64)
        )
    });
    let wanted = [
        ("gw", "VARCHAR"),
        ("n", "BIGINT"),
        ("devices", r#"MAP(VARCHAR, STRUCT("rssi" BIGINT))"#),
    ];
    let wanted = wanted.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    assert_eq!(types(&records), wanted);
    let schema = schema_of(&records);
    let why = schema.column("devices").unwrap().why.clone().unwrap();
    assert!(why.ends_with("numbered names"), "{why}");
    let stored = stored(&schema);
    assert_eq!(stored.column("devices").unwrap().why, Some(why));
}

#[test]
fn keys_of_every_kind_that_is_data_become_maps() {
    let of = |keys: &[&str]| {
        each(keys.len(), |n| {
            format!(
                r#"{{"m":{{{}:{n}.5}}}}"#,
                serde_json::to_string(keys[n]).unwrap()
            )
        })
    };
    for keys in [
        &["push", "[EMAIL]"][..],
        &["push", "a.b@example.com", "c@example.org"],
        &[
            "tok_email_a_abcdefghijklmnopabcdefghijklmnop",
            "tok_email_a_bbcdefghijklmnopabcdefghijklmnop",
        ],
        &["2026-01-01"],
        &["550e8400-e29b-41d4-a716-446655440000"],
        &["10.0.0.1", "fe80::1"],
        &["dev001", "dev002", "dev003", "dev004"],
    ] {
        assert_eq!(type_of("m", &of(keys)), "MAP(VARCHAR, DOUBLE)", "{keys:?}");
    }
    // Words, each rare among many.
    let words = each(3_000, |n| {
        let word: String = n
            .to_string()
            .bytes()
            .map(|digit| (digit + 49) as char)
            .collect();
        format!(r#"{{"m":{{"{word}":true}}}}"#)
    });
    assert_eq!(type_of("m", &words), "MAP(VARCHAR, BOOLEAN)");
}

#[test]
fn objects_with_names_for_keys_stay_structs() {
    let metrics: Vec<String> = ('a'..='z')
        .map(|name| format!(r#""{name}{name}":1.5"#))
        .collect();
    let wide = each(200, |_| format!(r#"{{"m":{{{}}}}}"#, metrics.join(",")));
    assert!(type_of("m", &wide).starts_with("STRUCT("));
    for object in [
        r#"{"pm2.5":1,"pm10":2,"co2":3}"#,
        r#"{"temp1":1,"temp2":2,"temp3":3}"#,
        r#"{"reg40001":1,"reg40002":2,"reg40003":3,"reg40004":4}"#,
        r#"{"lat":1.5,"lon":2.5}"#,
    ] {
        let records = each(100, |_| format!(r#"{{"m":{object}}}"#));
        assert!(type_of("m", &records).starts_with("STRUCT("), "{object}");
    }
}

#[test]
fn an_object_of_values_of_several_kinds_is_no_map_and_uses_up_no_columns() {
    let records = each(3_000, |n| {
        let value = ["1", "\"x\"", "[true]"][n % 3];
        format!(r#"{{"n":{n},"m":{{"id-{n:05}":{value}}}}}"#)
    });
    let schema = schema_of(&records);
    assert!(schema.width() < 600, "{}", schema.width());
    check(&TableSchema::default(), None, &records);
    check(&stored(&schema), None, &records);
}

#[test]
fn random_keys_at_top_level_use_up_no_columns() {
    let records = each(4_000, |n| {
        let id = format!(
            "{:032x}",
            (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        );
        format!(r#"{{"device":"d{}","temp":{n}.5,"{id}":1}}"#, n % 7)
    });
    let types = types(&records);
    assert_eq!(types.len(), 2, "{types:?}");
    // Words that are rare leave room as well.
    let records = each(2_000, |n| {
        let word: String = n
            .to_string()
            .bytes()
            .map(|digit| (digit + 49) as char)
            .collect();
        format!(r#"{{"temp":{n}.5,"x{word}":1}}"#)
    });
    assert_eq!(schema_of(&records).columns.len(), 1);
    // Later they are words again.
    let stored = stored(&schema_of(&records));
    check(&stored, None, &records);
}

#[test]
fn maps_hold_lists_objects_and_other_maps_and_rescue_what_does_not_fit() {
    let first = [
        r#"{"m":{"a@example.com":{"tags":["x"],"days":{"2026-01-01":1,"2026-01-02":2}}}}"#.to_owned(),
        r#"{"m":{"b@example.com":{"days":{"2026-01-03":0.5}},"c@example.com":{},"d@example.com":null}}"#.to_owned(),
        r#"{"m":{}}"#.to_owned(),
    ];
    let wanted = r#"MAP(VARCHAR, STRUCT("tags" VARCHAR[], "days" MAP(VARCHAR, DOUBLE)))"#;
    assert_eq!(type_of("m", &first), wanted);
    let schema = stored(&schema_of(&first));
    let later = [
        r#"{"m":{"":{"tags":[1,"y"],"days":{"x":"y","":7}}}}"#.to_owned(),
        r#"{"m":{"k":5,"l":{"days":[1]},"K":{"new":1}}}"#.to_owned(),
        r#"{"m":[{"a@example.com":1}]}"#.to_owned(),
    ];
    check(&schema, None, &later);
    let mut decoder = decoder(&schema);
    for repeated in [
        r#"{"m":{"a":{},"\u0061":{}}}"#.to_owned(),
        format!(
            r#"{{"m":{{{},"k7":{{}}}}}}"#,
            each(40, |n| format!(r#""k{n}":null"#)).join(",")
        ),
    ] {
        let appended = decoder.append(repeated.as_bytes(), &ORIGIN);
        let DecodeOutcome::Rejected(reject) = appended else {
            panic!("{repeated}")
        };
        assert_eq!(reject.reason, RejectReason::DUPLICATE_KEY);
    }
    assert_eq!(
        decoder.append(later[0].as_bytes(), &ORIGIN),
        DecodeOutcome::Row
    );
}

/// A record that is taken out again after it made a map of an object leaves what a rebuild makes without it.
#[test]
fn what_is_taken_out_decides_nothing() {
    let record = |n: usize| format!(r#"{{"m":{{"w{}":{n}}}}}"#, "x".repeat(n));
    let mut decoder = decoder(&TableSchema::default());
    let mut rebuilt = super::decoder(&TableSchema::default());
    for n in 0..70 {
        for decoder in [&mut decoder, &mut rebuilt] {
            decoder.settle();
            decoder.append(record(n).as_bytes(), &ORIGIN);
        }
    }
    decoder.settle();
    let mark = decoder.mark();
    for n in 70..140 {
        decoder.append(record(n).as_bytes(), &ORIGIN);
    }
    decoder.rewind(mark);
    let (decoded, rebuilt) = (decoder.finish(), rebuilt.finish());
    assert_eq!(decoded.schema(), rebuilt.schema());
    let rows = |decoded: &DecodedRows| {
        let schema = decoded.schema().clone();
        rows_of(&decoded.conform(&schema, PROVENANCE).unwrap())
    };
    assert_eq!(rows(&decoded), rows(&rebuilt));
}

/// Values without a type that do not go together leave an object what it is.
#[test]
fn objects_whose_untyped_values_clash_become_no_map() {
    let fields = |n: usize| each(n, |n| format!(r#""x{n}":{{}}"#)).join(",");
    let other = |n: usize| each(n, |n| format!(r#""y{n}":[]"#)).join(",");
    for (one, two) in [
        (
            r#"{"x":1,"e":{}}"#.to_owned(),
            r#"{"x":1,"e":[]}"#.to_owned(),
        ),
        (
            r#"{"x":1,"A":{}}"#.to_owned(),
            r#"{"x":1,"a":{}}"#.to_owned(),
        ),
        (
            r#"{"x":{"y":[[]]}}"#.to_owned(),
            r#"{"x":{"y":[{}],"z":1}}"#.to_owned(),
        ),
        (
            format!(r#"{{"x":1,{}}}"#, fields(400)),
            format!(r#"{{"x":1,{}}}"#, other(400)),
        ),
    ] {
        let records = [
            format!(r#"{{"m":{{"aa:bb:cc:dd:ee:01":{one},"aa:bb:cc:dd:ee:02":{two}}}}}"#),
            format!(r#"{{"m":{{"aa:bb:cc:dd:ee:03":{two}}}}}"#),
        ];
        check(&TableSchema::default(), None, &records);
    }
}

/// A value inside an object that was rescued whole stays there when the column that it looks like changes its kind.
#[test]
fn the_majority_takes_nothing_out_of_a_larger_rescued_value() {
    let ids = each(100, |n| format!(r#""{n:012x}a1":1"#)).join(",");
    let rules = TableRules {
        columns_max: 101,
        ..TableRules::default()
    };
    let mut records = vec![format!(r#"{{"m":{{{ids}}},"a":{{"b":"x"}}}}"#)];
    records.extend(["1", "\"y\"", "\"z\""].map(|b| format!(r#"{{"a":{{"b":{b}}}}}"#)));
    records.extend(each(40, |_| "{}".to_owned()));
    let mut decoder = Decoder::try_new(&TableSchema::default(), &rules, NOW_MICROS).unwrap();
    for record in &records {
        decoder.settle();
        assert_eq!(
            decoder.append(record.as_bytes(), &ORIGIN),
            DecodeOutcome::Row
        );
    }
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let rows = rows_of(&decoded.conform(&schema, PROVENANCE).unwrap());
    assert_eq!(rescued_of(&rows[0]), r#"{"a":{"b":"x"}}"#);
    let found: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    assert_eq!(found[2]["a"]["b"], "y");
    assert_eq!(found[3]["a"]["b"], "z");
    assert_eq!(rescued_of(&rows[1]), r#"{"a":{"b":1}}"#);
}

/// An entry whose value is odd is rescued, wherever the object lies and whenever it comes.
#[test]
fn an_odd_value_costs_no_map() {
    let id = |n: usize| format!("{n:08x}-e29b-41d4-a716-446655440000");
    for odd in [0, 10, 100, 2_500] {
        for (record, wanted) in [
            (r#"{"m":{"ID":VALUE}}"#, "MAP(VARCHAR, BIGINT)"),
            (
                r#"{"m":{"a":{"ID":VALUE}}}"#,
                "STRUCT(\"a\" MAP(VARCHAR, BIGINT))",
            ),
            (r#"{"m":[{"ID":VALUE}]}"#, "MAP(VARCHAR, BIGINT)[]"),
            (r#"{"m":[7,{"l":[{"ID":VALUE,"x":VALUE}]}]}"#, ""),
        ] {
            let records = each(3_000, |n| {
                let value = if n == odd {
                    "\"unavailable\"".to_owned()
                } else {
                    n.to_string()
                };
                record.replace("ID", &id(n)).replace("VALUE", &value)
            });
            let kind = type_of("m", &records);
            if !wanted.is_empty() {
                assert_eq!(kind, wanted, "{record}, odd at {odd}");
            }
        }
    }
    let records = each(200, |n| match n % 4 {
        0 => format!(r#"{{"m":{{"{}":{{"rssi":"?","ok":true}}}}}}"#, id(n)),
        _ => format!(r#"{{"m":{{"{}":{{"rssi":{n}}}}}}}"#, id(n)),
    });
    assert_eq!(
        type_of("m", &records),
        r#"MAP(VARCHAR, STRUCT("rssi" BIGINT, "ok" BOOLEAN))"#
    );
}

#[test]
fn keys_that_most_records_have_are_fields_whatever_they_look_like() {
    let channels = |n: usize| {
        let channels = (0..64).map(|channel| format!(r#""adc{channel:03}":{n}"#));
        channels.collect::<Vec<_>>().join(",")
    };
    let records = each(100, |n| {
        let channels = channels(n);
        format!(r#"{{{channels},"tok_in":{n},"tok_out":2,"cells":{{{channels}}},"192.0.2.1":{n}}}"#)
    });
    let types = types(&records);
    assert_eq!(types.len(), 64 + 2 + 1 + 1);
    assert!(
        types
            .iter()
            .all(|(name, kind)| kind == "BIGINT" || name == "cells")
    );
    let cells = type_of("cells", &records);
    assert_eq!(cells.matches("BIGINT").count(), 64, "{cells}");
}

/// One odd object is no evidence about all others.
#[test]
fn evidence_counts_how_often_keys_occur() {
    let records = each(301, |n| match n {
        300 => r#"{"c":{"550e8400-e29b-41d4-a716-446655440000":1}}"#.to_owned(),
        _ => format!(r#"{{"c":{{"temp":{n}}}}}"#),
    });
    assert_eq!(type_of("c", &records), r#"STRUCT("temp" BIGINT)"#);
}

/// Ids in paths are counted together, and an object of which all was rescued is not counted again.
#[test]
fn rescued_keys_that_are_data_are_one_kind() {
    let records = each(500, |n| {
        format!(r#"{{"n":{n},"{n:08x}-e29b-41d4-a716-446655440000":{{"x":{n}}},"e":{{}}}}"#)
    });
    let decoded = {
        let mut decoder = decoder(&TableSchema::default());
        for record in &records {
            decoder.append(record.as_bytes(), &ORIGIN);
        }
        decoder.finish()
    };
    let schema = decoded.schema().clone();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    let mut counts = std::collections::BTreeMap::new();
    for (_, kind) in &conformed.rescued_values {
        let RescueKind { path, reason } = conformed.rescue_kinds.get(*kind).clone();
        *counts.entry((path, reason.code())).or_insert(0) += 1;
    }
    let wanted = [
        (("e".to_owned(), "no_type"), 500),
        (("{}".to_owned(), "unknown_column"), 500),
    ];
    assert_eq!(counts, std::collections::BTreeMap::from(wanted));
}
