//! Key extraction against a JSON parser, and over damaged records.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn key(template: &str, json: &[u8]) -> Option<String> {
    let mut out = b"kept".to_vec();
    let key = KeyTemplate::parse(template)
        .unwrap()
        .extract(json, &mut out);
    assert!(out.starts_with(b"kept"));
    match &key {
        Some(RecordKey::Made(range)) => assert_eq!(*range, 4..out.len()),
        Some(RecordKey::Record(_)) | None => assert_eq!(out, b"kept", "nothing is left behind"),
    }
    let key = key?.bytes(json, &out).to_vec();
    Some(String::from_utf8(key).unwrap())
}

/// Panics over a record that asks for it, with half of a key written.
pub(super) fn panic_if_asked(json: &[u8], out: &mut Vec<u8>) {
    if memchr::memmem::find(json, b"fault:key").is_some() {
        out.extend_from_slice(b"half");
        panic!("a fault that a test asked for");
    }
}

#[test]
fn a_panic_costs_its_record_alone_and_leaves_nothing_behind() {
    let template = KeyTemplate::parse("id").unwrap();
    let mut out = b"kept".to_vec();
    let faulty = template.try_extract(br#"{"id":"fault:key"}"#, &mut out);
    assert_eq!((faulty, out.as_slice()), (Err(Panicked), &b"kept"[..]));
    let good = template.try_extract(br#"{"id":"a"}"#, &mut out);
    assert_eq!(good, Ok(Some(RecordKey::Record(7..8))));
}

fn assert_key(template: &str, json: &str, expected: Option<&str>) {
    assert_eq!(
        key(template, json.as_bytes()).as_deref(),
        expected,
        "{template} in {json}"
    );
}

#[test]
fn scalars_become_key_text() {
    assert_key("id", r#"{"id":"d-7"}"#, Some("d-7"));
    assert_key("id", r#"{"id":17}"#, Some("17"));
    assert_key(
        "id",
        r#" { "x" : [1,{"id":3}] , "id" : -1.50e+3 } "#,
        Some("-1.50e+3"),
    );
    assert_key("id", r#"{"id":true}"#, Some("true"));
    assert_key(
        "a.b.c",
        r#"{"b":1,"a":{"c":2,"b":{"x":{},"c":"deep"}}}"#,
        Some("deep"),
    );
    assert_key(
        "id",
        r#"{"id":"caf\u00e9 \ud83d\ude00\n\/"}"#,
        Some("café 😀\n/"),
    );
    assert_key("é", r#"{"\u00e9":1}"#, Some("1"));
    assert_key(r"a\.b", r#"{"a":{"b":1},"a.b":2}"#, Some("2"));
}

#[test]
fn templates_join_fields_and_text() {
    let json = r#"{"site":"north","device":{"id":9}}"#;
    assert_key("{site}-{device.id}", json, Some("north-9"));
    assert_key("{device.id}{site}", json, Some("9north"));
    assert_key(r"v1.0/\{{site}\}", json, Some("v1.0/{north}"));
    assert_key("{site}-{missing}", json, None);
}

#[test]
fn what_is_no_scalar_gives_no_key() {
    for json in [
        r#"{"id":null}"#,
        r#"{"id":{}}"#,
        r#"{"id":["a"]}"#,
        r#"{"id":""}"#,
        r#"{"other":1}"#,
        r#"{"x":{"id":1}}"#,
        r#"["id"]"#,
        r#""id""#,
        "{}",
        "",
        "id",
    ] {
        assert_key("id", json, None);
    }
    assert_key("a.b", r#"{"a":"b"}"#, None);
    assert_key("a.b", r#"{"a":[{"b":1}]}"#, None);
}

#[test]
fn damage_before_the_key_gives_no_key_and_damage_behind_it_does_not_matter() {
    for json in [
        r#"{"x":1 "id":2}"#,
        r#"{"x":,"id":2}"#,
        r#"{"x":},"id":2}"#,
        r#"{x:1,"id":2}"#,
        r#"{"x":1}"id":2}"#,
        r#"{"x":"cut"#,
        r#"{"id":"cut"#,
        r#"{"id":"cut\"#,
        r#"{"id":"\x"}"#,
        r#"{"id":"\ud800"}"#,
        r#"{"id":"\ud800\u0041"}"#,
        r#"{"id":"\udc00\udc00"}"#,
        r#"{"id":"\u12"}"#,
        r#"{"id":01}"#,
        r#"{"id":1.}"#,
        r#"{"id":-}"#,
        r#"{"id":1e}"#,
        r#"{"id":nul}"#,
        r#"{"id":"#,
        r#"{"id""#,
        "{\"id\":\"line\nend\"}",
        r#"{"x":[},"id":2}"#,
        r#"{"x":[1 2],"id":2}"#,
        r#"{"x":{"y"},"id":2}"#,
        r#"{"x":nul,"id":2}"#,
        r#"{"x":01,"id":2}"#,
        r#"{"x":"\x","id":2}"#,
        r#"{"\x":1,"id":2}"#,
        r#"{"x":["\ud800"],"id":2}"#,
        "{\"x\":\"\n\",\"id\":2}",
        "{\"\n\":1,\"id\":2}",
        // Where the record is cut, the number may have been longer.
        r#"{"id":12"#,
        r#"{"id":12]"#,
        r#"{"id":true"#,
        "panic on device 7",
    ] {
        assert_key("id", json, None);
    }
    assert_eq!(key("id", b"{\"id\":\"\xFF\"}"), None);
    assert_key("id", r#"{"id":"d-7","x":"cu"#, Some("d-7"));
    assert_eq!(key("id", b"{\"x\":\"\xFF\",\"id\":1}"), None);
    assert_eq!(key("id", b"{\"id\":1,\"\xFF"), Some("1".to_owned()));
}

#[test]
fn the_first_of_two_fields_counts() {
    assert_key("id", r#"{"id":1,"id":2}"#, Some("1"));
}

#[test]
fn a_key_is_found_behind_everything_that_any_stage_reads() {
    let nested = |depth| {
        let mut json = b"{\"x\":".to_vec();
        json.extend(std::iter::repeat_n(b'[', depth));
        json.extend(std::iter::repeat_n(b']', depth));
        json.extend(b",\"id\":5}");
        json
    };
    assert_eq!(key("id", &nested(1_024)), Some("5".to_owned()));
    assert_eq!(key("id", &nested(1_025)), None);
    assert_eq!(key("id", &nested(1_000_000)), None);
}

#[test]
fn bad_templates_are_refused_with_place_and_remedy() {
    let sixteen = "{a}".repeat(16);
    assert!(KeyTemplate::parse(&sixteen).is_ok());
    for (template, place, word) in [
        ("", 0, "empty"),
        ("a..b", 3, "empty"),
        (".a", 1, "empty"),
        ("a.", 2, "empty"),
        ("{}", 2, "empty"),
        ("{a.}", 4, "empty"),
        ("{a", 2, "not closed"),
        ("a}", 2, "has no `{`"),
        ("{a}}", 4, "has no `{`"),
        ("{a{b}}", 3, "inside a field"),
        (r"a\b", 1, "backslash"),
        (r"a\", 1, "backslash"),
        (r"{a\", 2, "backslash"),
        (&"{a}".repeat(17), 49, "16 fields"),
        (&"a".repeat(1_025), 1_024, "1,024"),
    ] {
        let refusal = KeyTemplate::parse(template).unwrap_err();
        assert_eq!(refusal.place, place, "{refusal}");
        let message = refusal.to_string();
        assert!(
            message.contains(word) && message.contains("`device.id`"),
            "{message}"
        );
        assert!(message.len() < 400, "{message}");
    }
}

/// Names that need escapes, dots and more than ASCII.
const NAMES: [&str; 6] = ["a", "b", "c.d", "é\"", "\n", "{x}"];

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\"\\\\a-c{}\\[\\],:]{0,6}".prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        let name = proptest::sample::select(&NAMES[..]).prop_map(str::to_owned);
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            4 => proptest::collection::hash_map(name, inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn path() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(&NAMES[..]), 1..4)
}

fn written(path: &[&str]) -> String {
    let escaped: Vec<String> = path
        .iter()
        .map(|name| {
            let name = name.replace('\\', r"\\").replace('.', r"\.");
            name.replace('{', r"\{").replace('}', r"\}")
        })
        .collect();
    escaped.join(".")
}

fn expected(value: &Value, path: &[&str]) -> Option<String> {
    let mut at = value;
    for name in path {
        at = at.as_object()?.get(*name)?;
    }
    let text = match at {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        _ => return None,
    };
    Some(text)
}

/// Escapes every character of the strings of compact JSON that is not escaped yet.
fn with_all_escaped(json: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    let mut characters = json.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                inside = !inside;
                out.push('"');
            }
            '\\' => {
                out.push('\\');
                out.extend(characters.next());
            }
            character if inside && character != 'u' && !character.is_ascii_hexdigit() => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            character => out.push(character),
        }
    }
    out
}

proptest! {
    #[test]
    fn keys_equal_those_of_a_parsed_tree(
        value in value(),
        paths in proptest::collection::vec(path(), 1..4),
    ) {
        let compact = value.to_string();
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let escaped = with_all_escaped(&compact);
        for path in &paths {
            let wanted = expected(&value, path).filter(|text| !text.is_empty());
            for json in [&compact, &pretty, &escaped] {
                prop_assert_eq!(key(&written(path), json.as_bytes()), wanted.clone(), "{}", json);
            }
        }
        let fields: Vec<String> = paths.iter().map(|path| format!("{{{}}}", written(path))).collect();
        let template = fields.join("/");
        let joined: Option<Vec<String>> = paths.iter().map(|path| expected(&value, path)).collect();
        let joined = joined.map(|texts| texts.join("/")).filter(|text| !text.is_empty());
        prop_assert_eq!(key(&template, compact.as_bytes()), joined);
    }

    #[test]
    fn damaged_records_never_panic(
        value in value(),
        path in path(),
        cut in any::<proptest::sample::Index>(),
        byte: u8,
        noise: Vec<u8>,
    ) {
        let mut json = value.to_string().into_bytes();
        let template = written(&path);
        let at = cut.index(json.len());
        let _truncated = key(&template, &json[..at]);
        json[at] = byte;
        let _changed = key(&template, &json);
        let _noise = key("a", &noise);
    }

    #[test]
    fn templates_are_parsed_or_refused(text: String, odd in "[a.{}\\\\]{0,12}") {
        for template in [text, odd] {
            if let Err(refusal) = KeyTemplate::parse(&template) {
                prop_assert!(refusal.place <= template.len());
            }
        }
    }
}

/// A template finds its fields in a record that is made of them.
#[test]
fn templates_are_refused_or_find_their_fields() {
    let tokens = [
        "{",
        "}",
        "\\{",
        "\\}",
        "\\.",
        "\\\\",
        ".",
        "{a.b}",
        "device.id",
        "é",
    ];
    hydrant_fuzz::Target::new("producer-keys")
        .tokens(&tokens)
        .bytes_max(1_100)
        .run(|input| {
            let text = String::from_utf8_lossy(input);
            let template = match KeyTemplate::parse(&text) {
                Ok(template) => template,
                Err(refusal) => {
                    assert!(
                        refusal.place <= text.len()
                            && refusal.to_string().contains("write a field")
                    );
                    return refusal.reason;
                }
            };
            let (mut record, mut wanted) = (Value::Null, Vec::new());
            for (number, piece) in template.pieces.iter().enumerate() {
                let path = match piece {
                    TemplatePiece::Text(text) => {
                        wanted.extend_from_slice(text);
                        continue;
                    }
                    TemplatePiece::Field(path) => path,
                };
                let mut at = &mut record;
                for name in path {
                    let name = std::str::from_utf8(name).unwrap();
                    if at.is_null() {
                        *at = Value::Object(serde_json::Map::new());
                    }
                    let Value::Object(members) = at else {
                        return "one field within another";
                    };
                    at = members.entry(name).or_insert(Value::Null);
                }
                if at.is_null() {
                    *at = number.into();
                }
                if !at.is_number() {
                    return "one field within another";
                }
                wanted.extend_from_slice(at.to_string().as_bytes());
            }
            let (record, mut out) = (record.to_string(), Vec::new());
            let found = template.extract(record.as_bytes(), &mut out);
            let found = found.as_ref().map(|key| key.bytes(record.as_bytes(), &out));
            assert_eq!(found, Some(&wanted[..]));
            "found"
        });
}
