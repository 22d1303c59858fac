//! What no column takes is rescued: the row and `_rescued` together are the record.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A JSON value with numbers as they were written.
#[derive(Clone, Debug, PartialEq)]
enum Doc {
    Null,
    Truth(bool),
    Number(String),
    Text(String),
    List(Vec<Doc>),
    Object(BTreeMap<String, Doc>),
}

fn doc_at(json: &[u8], at: &mut usize) -> Doc {
    *at = hydrant_json::skip_space(json, *at);
    let text_at = |at: &mut usize| {
        let text = hydrant_json::string(json, *at).unwrap();
        let mut out = Vec::new();
        hydrant_json::unescape(json, text, &mut out).unwrap();
        *at = text.end + 1;
        String::from_utf8(out).unwrap()
    };
    let next = |at: &mut usize| {
        *at = hydrant_json::skip_space(json, *at);
        let byte = json[*at];
        *at += usize::from(matches!(byte, b',' | b':' | b'}' | b']'));
        byte
    };
    match json[*at] {
        b'{' => {
            *at += 1;
            let mut fields = BTreeMap::new();
            while next(at) != b'}' {
                *at = hydrant_json::skip_space(json, *at);
                let key = text_at(at);
                assert_eq!(next(at), b':');
                let value = doc_at(json, at);
                assert_eq!(fields.insert(key, value), None);
            }
            Doc::Object(fields)
        }
        b'[' => {
            *at += 1;
            let mut items = Vec::new();
            while next(at) != b']' {
                items.push(doc_at(json, at));
            }
            Doc::List(items)
        }
        b'"' => Doc::Text(text_at(at)),
        start => {
            let end = hydrant_json::value(json, *at).unwrap();
            let text = String::from_utf8(json[*at..end].to_vec()).unwrap();
            *at = end;
            match start {
                b't' | b'f' => Doc::Truth(start == b't'),
                b'n' => Doc::Null,
                _ => Doc::Number(text),
            }
        }
    }
}

fn doc(json: &str) -> Doc {
    doc_at(json.as_bytes(), &mut 0)
}

/// A row as JSON, merged with what was rescued.
fn merged(row: &str) -> Doc {
    let Doc::Object(mut fields) = doc(row) else {
        panic!("{row}")
    };
    let rescued = fields.remove("_rescued");
    let mut record = Doc::Object(fields);
    if let Some(Doc::Text(rescued)) = rescued {
        merge(&mut record, doc(&rescued));
    }
    record
}

fn merge(into: &mut Doc, other: Doc) {
    match (into, other) {
        (Doc::Object(fields), Doc::Object(others)) => {
            for (key, value) in others {
                merge(fields.entry(key).or_insert(Doc::Null), value);
            }
        }
        (Doc::List(items), Doc::List(others)) => {
            for (at, other) in others.into_iter().enumerate() {
                if at >= items.len() {
                    items.push(Doc::Null);
                }
                merge(&mut items[at], other);
            }
        }
        (_, Doc::Null) => {}
        (into, other) => *into = other,
    }
}

/// An integer, also one with a fraction of zeros, without its spelling.
fn integer(text: &str) -> Option<&str> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|digit| digit == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    let is_integer = !whole.contains(['e', 'E']);
    is_integer.then_some(if whole == "-0" { "0" } else { whole })
}

/// Whether both are the same record, but for nulls and the spelling of numbers: integers are equal as such, other
/// numbers as doubles.
fn same(record: &Doc, other: &Doc) -> bool {
    match (record, other) {
        (Doc::Object(fields), Doc::Object(found)) => {
            found
                .iter()
                .all(|(key, value)| *value == Doc::Null || fields.contains_key(key))
                && fields
                    .iter()
                    .all(|(key, value)| same(value, found.get(key).unwrap_or(&Doc::Null)))
        }
        (Doc::List(items), Doc::List(found)) => {
            items.len() == found.len()
                && items
                    .iter()
                    .zip(found)
                    .all(|(item, found)| same(item, found))
        }
        (Doc::Number(number), Doc::Number(found)) => match (integer(number), integer(found)) {
            (Some(number), Some(found)) => number == found,
            (Some(number), None) => {
                let double: f64 = found.parse().unwrap();
                double as i128 == number.parse::<i128>().unwrap()
            }
            _ => {
                let [number, found]: [f64; 2] = [number, found].map(|text| text.parse().unwrap());
                number == found && (number != 0.0 || is_zero(record) == is_zero(other))
            }
        },
        (record, found) => record == found,
    }
}

fn is_zero(number: &Doc) -> bool {
    let Doc::Number(text) = number else {
        return false;
    };
    let mantissa = text.split(['e', 'E']).next().unwrap();
    !mantissa.contains(|digit| ('1'..='9').contains(&digit))
}

/// Decodes under `base`, conforms to `target` with what the records bring, and checks that every record comes back.
pub(super) fn check(base: &TableSchema, target: Option<&TableSchema>, records: &[String]) {
    let mut decoder = decoder(base);
    for record in records {
        decoder.settle();
        let appended = decoder.append(record.as_bytes(), &ORIGIN);
        assert_eq!(appended, DecodeOutcome::Row, "{record}");
    }
    let decoded = decoder.finish();
    let schema = match target {
        None => decoded.schema().clone(),
        Some(target) => target.join(decoded.schema(), 2_000).schema,
    };
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    assert_eq!(conformed.rejects, []);
    let lines = rows_of(&conformed);
    assert_eq!(lines.len(), records.len());
    let positions = conformed.partitions.iter().flat_map(|rows| &rows.records);
    for (line, at) in lines.iter().zip(positions) {
        let record = &records[*at as usize];
        let found = merged(line);
        assert!(same(&doc(record), &found), "{record}\n{line}\n{found:?}");
    }
}

/// Checks that a text is the record, but for nulls and the spelling of numbers.
pub(super) fn assert_same(record: &str, found: &str) {
    assert!(same(&doc(record), &doc(found)), "{record}\n{found}");
}

fn records(records: &[&str]) -> Vec<String> {
    records.iter().map(|record| (*record).to_owned()).collect()
}

/// What is in `_rescued` of the records' rows, decoded for an empty table.
fn rescued(given: &[&str]) -> Vec<String> {
    check(&TableSchema::default(), None, &records(given));
    rows(given).iter().map(|row| rescued_of(row)).collect()
}

#[test]
fn a_value_of_another_kind_is_rescued_and_its_record_kept() {
    let given = [
        r#"{"state":"unavailable","n":0}"#,
        r#"{"state":"unknown","n":0}"#,
        r#"{"state":20.1,"n":1}"#,
        r#"{"state":{"a":[1, {"b" : "x y"}]},"n":2}"#,
        r#"{"state":[ ],"n":3}"#,
        r#"{"state":true,"n":4}"#,
        r#"{"state":null,"n":5}"#,
    ];
    let wanted = [
        "",
        "",
        r#"{"state":20.1}"#,
        r#"{"state":{"a":[1,{"b":"x y"}]}}"#,
        r#"{"state":[]}"#,
        r#"{"state":true}"#,
        "",
    ];
    assert_eq!(rescued(&given), wanted);
}

/// The first value of a column is odd, the others agree: they get the column.
#[test]
fn the_kind_of_most_values_gets_a_new_column() {
    let odd = r#"{"state":"unavailable","o":{"p":true,"q":1},"x":[1,2],"n":0}"#.to_owned();
    let other = r#"{"state":false,"o":{"p":"?"},"x":"y","n":1}"#.to_owned();
    let good = (2..50).map(|n| format!(r#"{{"state":{n}.5,"o":{{"p":{n}}},"x":"z","n":{n}}}"#));
    let records: Vec<String> = [odd, other].into_iter().chain(good).collect();
    check(&TableSchema::default(), None, &records);
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let decoded = decode(&TableSchema::default(), &records);
    let schema = decoded.schema().clone();
    let kinds: Vec<String> = schema
        .columns
        .iter()
        .map(|column| column.kind.to_string())
        .collect();
    let wanted = [
        "DOUBLE",
        r#"STRUCT("p" BIGINT, "q" BIGINT)"#,
        "VARCHAR",
        "BIGINT",
    ];
    assert_eq!(kinds, wanted);
    let rows = rows(&records);
    assert_eq!(
        rescued_of(&rows[0]),
        r#"{"state":"unavailable","o":{"p":true},"x":[1,2]}"#
    );
    assert_eq!(rescued_of(&rows[1]), r#"{"state":false,"o":{"p":"?"}}"#);
    assert_eq!(rescued_of(&rows[2]), "");
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (_, kind) in &conformed.rescued_values {
        let kind = conformed.rescue_kinds.get(*kind);
        *counts.entry(kind.path.clone()).or_default() += 1;
    }
    let wanted = [
        ("o.p".to_owned(), 2),
        ("state".to_owned(), 2),
        ("x".to_owned(), 1),
    ];
    assert_eq!(counts, BTreeMap::from(wanted));
    // A column that is known keeps its type.
    let stored = stored(
        &decode(&TableSchema::default(), &records[..1])
            .schema()
            .clone(),
    );
    let later = decode(&stored, &records[2..]);
    assert_eq!(later.schema().columns, stored.columns);
}

#[test]
fn rescued_values_keep_their_places_in_objects_and_lists() {
    let given = [
        r#"{"o":{"a":1,"b":{"c":"t"}},"l":[1],"m":[{"x":1}],"ll":[[1]]}"#,
        r#"{"o":{"a":"x","b":{"c":2, "d":7}},"l":[1,"y",2,{"z":null}],"m":[{"x":1},{"x":"q","y":2},5],"ll":[[],["k",1],7]}"#,
    ];
    let wanted = r#"{"o":{"a":"x","b":{"c":2}},"l":[null,"y",null,{"z":null}],"m":[null,{"x":"q"},5],"ll":[null,["k"],7]}"#;
    assert_eq!(rescued(&given)[1], wanted);
}

#[test]
fn keys_that_become_no_column_are_rescued() {
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let record = format!(
        r#"{{"Id":1,"id":"cc","":2,"a\u0000\"":3,"{long}":4,"_rescued":5,"_Rescued":6,"o":{{"The":1,"the":{{"x":[2]}}}}}}"#
    );
    let wanted = format!(
        r#"{{"id":"cc","":2,"a\u0000\"":3,"{long}":4,"_rescued":5,"_Rescued":6,"o":{{"the":{{"x":[2]}}}}}}"#
    );
    assert_eq!(rescued(&[&record]), [wanted]);
}

#[test]
fn a_key_that_repeats_is_refused_wherever_it_lies() {
    for record in [
        r#"{"a":1,"o":{"x":1,"x":2}}"#,
        r#"{"Id":1,"id":2,"id":3}"#,
        r#"{"Id":1,"id":2,"i\u0064":3}"#,
        r#"{"":1,"":2}"#,
        r#"{"s":"text"},{"s":1}"#,
        r#"{"s":{"k":1,"k":2}}"#,
        r#"{"s":[{"k":1},{"l":{"k":{},"k":[]}}]}"#,
    ] {
        let mut decoder = decoder(&TableSchema::default());
        let first = decoder.append(br#"{"s":"first"}"#, &ORIGIN);
        assert_eq!(first, DecodeOutcome::Row);
        let appended = decoder.append(record.as_bytes(), &ORIGIN);
        assert!(matches!(appended, DecodeOutcome::Rejected(_)), "{record}");
        assert_eq!(decoder.append(b"{}", &ORIGIN), DecodeOutcome::Row);
        let decoded = decoder.finish();
        let schema = decoded.schema().clone();
        let rows = rows_of(&decoded.conform(&schema, PROVENANCE).unwrap());
        assert_eq!(rows, [r#"{"s":"first"}"#, "{}"], "{record}");
    }
}

#[test]
fn deep_nesting_is_rescued_from_where_readers_give_up() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for levels in [COLUMN_DEPTH_MAX - 1, COLUMN_DEPTH_MAX, 50, 1_000] {
            let record = format!(
                "{{\"n\":1,\"l\":{}1{}}}",
                open.repeat(levels),
                close.repeat(levels)
            );
            check(&TableSchema::default(), None, &[record]);
        }
    }
}

#[test]
fn columns_beyond_the_budget_are_rescued_and_the_others_kept() {
    let rules = TableRules {
        columns_max: 4,
        ..TableRules::default()
    };
    let mut decoder = Decoder::try_new(&TableSchema::default(), &rules, NOW_MICROS).unwrap();
    for record in [
        r#"{"gw":"g","n":1,"d":{"a":1,"b":2}}"#,
        r#"{"n":2,"l":[1],"d":{"c":3}}"#,
    ] {
        let appended = decoder.append(record.as_bytes(), &ORIGIN);
        assert_eq!(appended, DecodeOutcome::Row);
    }
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    assert_eq!(schema.width(), 4);
    let rows = rows_of(&decoded.conform(&schema, PROVENANCE).unwrap());
    let rescued: Vec<String> = rows.iter().map(|row| rescued_of(row)).collect();
    assert_eq!(rescued, [r#"{"d":{"b":2}}"#, r#"{"l":[1],"d":{"c":3}}"#]);
}

#[test]
fn a_frozen_table_rescues_new_keys_and_reads_their_time() {
    let schema = decode(&TableSchema::default(), &[r#"{"a":1}"#])
        .schema()
        .clone();
    let rules = TableRules {
        frozen: true,
        ..TableRules::default()
    };
    let mut decoder = Decoder::try_new(&schema, &rules, NOW_MICROS).unwrap();
    let record = br#"{"a":2,"ts":"2026-01-02T00:00:00Z"}"#;
    assert_eq!(decoder.append(record, &ORIGIN), DecodeOutcome::Row);
    let decoded = decoder.finish();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    assert_eq!(conformed.partitions[0].path, "date=2026-01-02");
    let wanted = r#"{"ts":"2026-01-02T00:00:00Z"}"#;
    assert_eq!(rescued_of(&rows_of(&conformed)[0]), wanted);
}

#[test]
fn numbers_that_a_column_would_change_are_rescued() {
    let given = [
        r#"{"d":0.5,"i":9007199254740993}"#,
        r#"{"d":9007199254740993,"i":1.5}"#,
        r#"{"d":9007199254740993.0,"i":7.0}"#,
        r#"{"d":9007199254740994,"i":1e400}"#,
        r#"{"d":1e-400,"i":18446744073709551616}"#,
        r#"{"d":-1e400,"i":-0.0}"#,
    ];
    let wanted = [
        "",
        r#"{"d":9007199254740993,"i":1.5}"#,
        r#"{"d":9007199254740993.0}"#,
        r#"{"i":1e400}"#,
        r#"{"d":1e-400,"i":18446744073709551616}"#,
        r#"{"d":-1e400}"#,
    ];
    assert_eq!(rescued(&given), wanted);
}

#[test]
fn rescued_values_are_counted_by_path_and_reason_and_forgotten_with_their_record() {
    let mut decoder = decoder(&TableSchema::default());
    for (record, is_row) in [
        (r#"{"a":1,"l":[{"b":"x"},{"b":"y"}]}"#, true),
        (r#"{"a":"x","l":[{"b":1},{"b":2}]}"#, true),
        (r#"{"a":"x","l":[{"b":1}],"l":1}"#, false),
        (r#"{"a":"x","A":0}"#, true),
    ] {
        let appended = decoder.append(record.as_bytes(), &ORIGIN);
        assert_eq!(appended == DecodeOutcome::Row, is_row, "{record}");
    }
    let mark = decoder.mark();
    decoder.append(br#"{"a":"taken out"}"#, &ORIGIN);
    decoder.rewind(mark);
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    let mut counts: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for (_, kind) in &conformed.rescued_values {
        let RescueKind { path, reason } = conformed.rescue_kinds.get(*kind).clone();
        *counts.entry((path, reason.code())).or_default() += 1;
    }
    let wanted = [
        (("A".to_owned(), "key_case_conflict"), 1),
        (("a".to_owned(), "type_conflict"), 1),
        (("l[].b".to_owned(), "type_conflict"), 2),
    ];
    assert_eq!(counts, BTreeMap::from(wanted));
}

/// Paths of records that are taken out again are not counted apart, and leave room for those of later ones.
#[test]
fn what_is_taken_out_leaves_no_kind_of_rescued_values() {
    let mut decoder = decoder(&TableSchema::default());
    decoder.append(br#"{"a":1}"#, &ORIGIN);
    let mark = decoder.mark();
    for n in 0..2 * RESCUE_KINDS_MAX {
        let record = format!(r#"{{"{}{n}":1}}"#, "k".repeat(KEY_BYTES_MAX));
        assert_eq!(
            decoder.append(record.as_bytes(), &ORIGIN),
            DecodeOutcome::Row
        );
    }
    decoder.rewind(mark);
    decoder.append(br#"{"a":"x"}"#, &ORIGIN);
    let refused = br#"{"A":1,"b":1,"b":2}"#;
    assert!(matches!(
        decoder.append(refused, &ORIGIN),
        DecodeOutcome::Rejected(_)
    ));
    let decoded = decoder.finish();
    let schema = decoded.schema().clone();
    let conformed = decoded.conform(&schema, PROVENANCE).unwrap();
    let kinds = conformed.rescued_values.iter();
    let paths: Vec<&str> = kinds
        .map(|(_, kind)| &*conformed.rescue_kinds.get(*kind).path)
        .collect();
    assert_eq!((paths, conformed.rescue_kinds.len()), (vec!["a"], 1));
}

#[test]
fn what_another_sink_stored_first_decides_and_the_rest_is_rescued() {
    let winner = [r#"{"n":0.5,"s":"x","l":[{"x":true}],"Case":1,"o":"text","deep":{"m":[[1]]}}"#];
    let winner = decode(&TableSchema::default(), &winner).schema().clone();
    let given = records(&[
        r#"{"n":9007199254740993,"k":1,"o":{"a":1}}"#,
        r#"{"s":5,"k":2,"case":3,"n":7}"#,
        r#"{"l":[{"x":null},{"x":3,"y":1},{"x":4}],"k":3,"K":4}"#,
        r#"{"o":{"a":"twice","b":[1]},"deep":{"m":[["a"],["b",null,"c"]],"q":null}}"#,
        r#"{"k":"twice"}"#,
    ]);
    check(&TableSchema::default(), Some(&winner), &given);
}

/// Values of every kind, under few keys so that kinds clash.
fn any_value(depth: u32) -> BoxedStrategy<String> {
    let scalar = prop_oneof![
        4 => any::<i64>().prop_map(|value| value.to_string()),
        4 => (-9_i64..9).prop_map(|value| value.to_string()),
        2 => "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,4})?",
        1 => "-?[1-9][0-9]{14,20}(\\.0{1,3})?",
        2 => any::<bool>().prop_map(|value| value.to_string()),
        4 => any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        1 => Just("null".to_owned()),
        1 => Just("\"\"".to_owned()),
    ];
    if depth == 0 {
        return scalar.boxed();
    }
    let list = prop::collection::vec(any_value(depth - 1), 0..4);
    prop_oneof![
        5 => scalar,
        2 => list.prop_map(|items| format!("[{}]", items.join(", "))),
        3 => any_object(depth - 1),
    ]
    .boxed()
}

fn any_object(depth: u32) -> BoxedStrategy<String> {
    let key = prop_oneof![
        6 => "[a-d]",
        2 => "[A-D]",
        1 => any::<String>(),
        1 => Just("_rescued".to_owned()),
        1 => Just("date".to_owned()),
        2 => "(dev00[0-9]|[a-c]@example\\.com|2026-01-0[1-9]|\\[EMAIL\\])",
    ];
    prop::collection::btree_map(key, any_value(depth), 0..5)
        .prop_map(|fields| {
            let fields = fields
                .iter()
                .map(|(key, value)| format!("{} :{value}", serde_json::to_string(key).unwrap()));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(" ,"))
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn any_object_is_a_row_that_gives_the_record_back(
        first in prop::collection::vec(any_object(3), 1..8),
        later in prop::collection::vec(any_object(3), 1..8),
        others in prop::collection::vec(any_object(3), 1..8),
    ) {
        let schema_of = |records: &[String]| {
            let records: Vec<&str> = records.iter().map(String::as_str).collect();
            decode(&TableSchema::default(), &records).schema().clone()
        };
        check(&TableSchema::default(), None, &first);
        check(&schema_of(&first), None, &later);
        check(&schema_of(&first), Some(&schema_of(&others)), &later);
    }
}
