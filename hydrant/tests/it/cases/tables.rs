//! Untidy records of every kind: each is a row that gives the record back, however they are cut into intervals and
//! by however many sinks.

use serde_json::{Map, Value, json};

use crate::test_dir::TestDir;

/// Records of a kind, with columns that are declared for them.
struct UntidyKind {
    name: &'static str,
    columns: &'static str,
    records: Vec<Value>,
}

fn kind(name: &'static str, records: Vec<Value>) -> UntidyKind {
    UntidyKind {
        name,
        columns: "",
        records,
    }
}

fn kinds() -> Vec<UntidyKind> {
    let mut deep = json!(1);
    for level in 0..40 {
        deep = if level % 2 == 0 {
            json!([deep])
        } else {
            json!({ "d": deep })
        };
    }
    let ids = |n: usize| {
        let mut devices = Map::new();
        devices.insert(
            format!("node-{n:05}"),
            json!({ "rssi": n, "up": n.is_multiple_of(2) }),
        );
        json!({ "gateway": "g", "nested": { "devices": devices.clone() }, "list": [devices] })
    };
    vec![
        kind(
            "an odd value first, nested and in lists",
            vec![
                json!({"state":"unavailable","o":{"state":"unknown"},"l":["N",1],"m":[{"v":"?"}]}),
                json!({"state":20.5,"o":{"state":7},"l":[1,2.5],"m":[{"v":1},{"v":2}]}),
                json!({"state":true,"o":{"state":[1]},"l":[[1]],"m":[{"v":{"x":1}}]}),
                json!({"state":{"a":1},"o":"text","l":{"x":1},"m":5}),
                json!({"state":[],"o":[{"state":1}],"l":"x","m":[[]]}),
            ],
        ),
        kind(
            "an odd value later",
            vec![
                json!({"t":21.5,"b":false,"s":"x","n":1}),
                json!({"t":"unavailable","b":"on","s":1,"n":1.5}),
                json!({"t":22,"b":1,"s":false,"n":"1"}),
            ],
        ),
        kind(
            "keys that differ in case only",
            vec![
                json!({"Id":"a","UserUPN":"abc","idx":{"the":[1]}}),
                json!({"id":"b","UserUpn":5,"idx":{"The":[2],"THE":3}}),
                json!({"Id":"c","ID":{"x":1},"iD":null,"idx":{"the":[3],"The":4}}),
            ],
        ),
        kind(
            "keys that no column can have",
            vec![
                json!({"":1,"a\u{0}b":2,"n":3,("k".repeat(300)):"long","_rescued":"mine","date":"20260101"}),
                json!({"date":[1],"Date":{"x":1},"_Rescued":1,"n":{"":{"":0}},"x.y":1,"x":{"y":2}}),
            ],
        ),
        kind(
            "deep nesting",
            vec![
                json!({"n":1,"deep":deep}),
                json!({"n":2,"deep":[[1]]}),
                json!({"n":3}),
            ],
        ),
        kind("ids as keys", (0..40).map(ids).collect()),
        kind(
            "personal keys, dates and mixed values",
            vec![
                json!({"notify":{"push":true,"[EMAIL]":false},"log":{"2026-01-01":1,"2026-01-02":2.5}}),
                json!({"notify":{"tok_email_x_1":"no"},"log":{"2026-01-03":"n/a","":1}}),
                json!({"notify":[],"log":{"2026-01-04":null},"by":{"10.0.0.1":1,"10.0.0.2":"x"}}),
            ],
        ),
        kind(
            "numbers that columns would change",
            vec![
                json!({"d":0.5,"i":9_007_199_254_740_993_i64}),
                json!({"d":9_007_199_254_740_993_i64,"i":0.5}),
                json!({"d":u64::MAX,"i":u64::MAX}),
                json!({"d":-0.0,"i":7.0}),
            ],
        ),
        kind(
            "what is empty",
            vec![
                json!({}),
                json!({"a":{},"b":[],"c":[[],{}],"d":{"e":{}}}),
                json!({"a":{"x":1},"b":[1],"c":[[1]],"d":{"e":5}}),
            ],
        ),
        UntidyKind {
            name: "declared types",
            columns: "state = \"VARCHAR\"\npayload = \"JSON\"\n\"o.price\" = \"DECIMAL(9,2)\"\nday = \"DATE\"\n",
            records: vec![
                json!({"state":"unavailable","payload":{"a":1},"o":{"price":12.34},"day":"2026-01-31"}),
                json!({"state":"x","payload":"text","o":{"price":"12.345","unit":1},"day":"31.1.2026"}),
                json!({"state":"y","payload":[1,null],"o":[],"day":20_260_131}),
            ],
        },
    ]
}

/// Adds what was rescued: objects by key, lists by place.
fn merge(into: &mut Value, other: Value) {
    match (into, other) {
        (Value::Object(fields), Value::Object(others)) => {
            for (name, value) in others {
                merge(fields.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(items), Value::Array(others)) => {
            for (at, other) in others.into_iter().enumerate() {
                if at >= items.len() {
                    items.push(Value::Null);
                }
                merge(&mut items[at], other);
            }
        }
        (_, Value::Null) => {}
        (into, other) => *into = other,
    }
}

/// A value without what a table does not keep: nulls of objects, and whether an integer lies in a column of doubles.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields
                .map(|(name, value)| (name, plain(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(items) => items.into_iter().map(plain).collect::<Vec<_>>().into(),
        Value::Number(number) => match number.as_f64() {
            Some(double) if double.fract() == 0.0 && double.abs() < 9e15 => json!(double as i64),
            _ => Value::Number(number),
        },
        other => other,
    }
}

fn columns_of(kind: &UntidyKind) -> String {
    format!(
        "[sink]\non-conflict = \"rescue\"\n[sink.columns]\n{}",
        kind.columns
    )
}

const SINK: [&str; 9] = [
    "--from",
    "local:raw",
    "--to",
    "file:lake",
    "--exit-at-end",
    "--idle",
    "100ms",
    "--config",
    "hydrant.toml",
];

/// Checks that the rows of the lake are these records.
fn check(place: &TestDir, kind: &UntidyKind, how: &str) {
    let verified = place.sound("file:lake");
    assert_eq!(verified["dead_letters"], 0, "{}, {how}", kind.name);
    let answer = place.run(
        "hydrant",
        &["lake", "cat", "file:lake", "--where", "nr IS NOT NULL"],
    );
    let mut found: Vec<Value> = Vec::new();
    for line in answer.expect(0, &[]).out.lines() {
        let mut row: Value = serde_json::from_str(line).expect("a line of JSON");
        let fields = row.as_object_mut().expect("an object");
        assert!(fields.remove("date").is_some(), "the partition: {line}");
        for name in ["payload"] {
            if let Some(Value::String(json)) = fields.get(name) {
                let value = serde_json::from_str(json).expect("a JSON column holds JSON");
                fields.insert(name.to_owned(), value);
            }
        }
        if let Some(Value::String(rescued)) = fields.remove("_rescued") {
            merge(&mut row, serde_json::from_str(&rescued).expect("JSON"));
        }
        found.push(plain(row));
    }
    found.sort_by_key(|row| row["nr"].as_i64());
    let wanted: Vec<Value> = numbered(kind).into_iter().map(plain).collect();
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted, "{}, {how}", kind.name);
    }
    assert_eq!(found.len(), wanted.len(), "{}, {how}", kind.name);
}

/// The records with a number each.
fn numbered(kind: &UntidyKind) -> Vec<Value> {
    let records = kind.records.iter().enumerate();
    let numbered = records.map(|(nr, record)| {
        let mut record = record.clone();
        record["nr"] = json!(nr);
        record
    });
    numbered.collect()
}

#[test]
fn untidy_records_come_back_in_one_interval_and_in_many() {
    for kind in kinds() {
        let records: Vec<String> = numbered(&kind).iter().map(Value::to_string).collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        // Each process begins with what the ones before it stored.
        for (how, size) in [
            ("in one interval", records.len()),
            ("in many", records.len().div_ceil(3)),
        ] {
            let place = TestDir::new();
            place.write("hydrant.toml", columns_of(&kind));
            place.create("local:raw", 1);
            for records in records.chunks(size) {
                place.put("local:raw", records);
                place.run("hydrant-sink", &SINK).expect(0, &[]);
            }
            check(&place, &kind, how);
        }
    }
}

#[test]
fn untidy_records_come_back_from_two_sinks_at_once() {
    for kind in kinds() {
        let place = TestDir::new();
        place.write("hydrant.toml", columns_of(&kind));
        place.create("local:raw", 4);
        let records: Vec<String> = numbered(&kind).iter().map(Value::to_string).collect();
        place.write("in.ndjson", records.join("\n"));
        let producer = ["--to", "local:raw", "--input", "in.ndjson", "--key", "nr"];
        place.run("hydrant-producer", &producer).expect(0, &[]);
        let mut sinks =
            [1, 2].map(|n| place.start("hydrant-sink", &SINK, &format!("sink-{n}.log")));
        for sink in &mut sinks {
            assert_eq!(
                place.wait_for_end(sink),
                Some(0),
                "{}: {}",
                kind.name,
                place.logs()
            );
        }
        check(&place, &kind, "by two sinks");
    }
}

#[test]
fn personal_keys_of_one_object_stay_entries_of_a_map() {
    let place = TestDir::new();
    place.create("local:raw", 1);
    place.create("local:clean", 1);
    let records = [
        r#"{"nr":0,"notify":{"ann@example.com":true,"bob@example.com":false,"eve@example.com":true}}"#,
        r#"{"nr":1,"notify":{"joe@example.com":true},"hits":{"192.0.2.1":1,"192.0.2.77":2}}"#,
    ];
    place.put("local:raw", &records);
    place.transform("local:raw", "local:clean").expect(0, &[]);
    place.sink("local:clean", "file:lake").expect(0, &[]);
    assert_eq!(place.sound("file:lake")["dead_letters"], 0);
    let answer = place
        .run("hydrant", &["lake", "cat", "file:lake"])
        .expect(0, &[]);
    let row = |line: &str| -> Value { serde_json::from_str(line).expect("a line of JSON") };
    let mut rows: Vec<Value> = answer.out.lines().map(row).collect();
    rows.sort_by_key(|row| row["nr"].as_i64());
    let wanted = json!({"[EMAIL]": true, "[EMAIL]#2": false, "[EMAIL]#3": true});
    assert_eq!(rows[0]["notify"], wanted);
    assert_eq!(rows[1]["notify"], json!({"[EMAIL]": true}));
    let wanted = json!({"192.0.2.0/24": 1, "192.0.2.0/24#2": 2});
    assert_eq!(rows[1]["hits"], wanted);
    let schema = place
        .run("hydrant", &["lake", "schema", "file:lake"])
        .expect(0, &[]);
    assert_eq!(
        schema.out.matches("MAP(VARCHAR").count(),
        2,
        "{}",
        schema.out
    );
}
