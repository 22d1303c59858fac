//! The formats and filters of copies, fuzzed: see `docs/fuzzing.md`.

use hydrant_core::batch::Span;
use hydrant_core::headers::put_header;
use hydrant_core::shard::StreamId;
use hydrant_fuzz::Target;
use serde_json::Value;

use super::filter::{Filter, all_hold};
use super::format::CopyFormat;
use super::tests::{batch, pick_all};

fn written(format: CopyFormat, key: Option<&[u8]>, payload: &[u8]) -> Option<Vec<u8>> {
    let batch = batch(7, &[(key, payload)]);
    let stream = StreamId::new("s", "1");
    let place = (&stream, &"a".into());
    let mut out = Vec::new();
    let refused = format.write(&batch, &pick_all(&batch), place, &mut out);
    assert_eq!(
        refused.is_empty(),
        !out.is_empty() || format == CopyFormat::Raw
    );
    refused.is_empty().then_some(out)
}

fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| *byte != b'=')
        .map(digit)
        .collect();
    let groups = digits.chunks(4).flat_map(|group| {
        let bits = (0..4).fold(0, |bits, n| {
            bits << 6 | u32::from(group.get(n).copied().unwrap_or(0))
        });
        bits.to_be_bytes()[1..group.len()].to_vec()
    });
    groups.collect()
}

/// The headers that the line of a record shows which has the halves of `input` as two values under one name, and no value
/// under another one.
fn headers_shown(key: Option<&[u8]>, input: &[u8]) -> Value {
    let (one, two) = input.split_at(input.len() / 2);
    let mut batch = batch(7, &[(key, b"{}")]);
    let mut segment = batch.segments[0].to_vec();
    let start = segment.len() as u32;
    for (name, value) in [("n\"", Some(one)), ("", None), ("n\"", Some(two))] {
        put_header(&mut segment, name, value);
    }
    let len = segment.len() as u32 - start;
    batch.headers = vec![Span::new(start, len)];
    batch.segments = [segment.into()].into();
    let stream = StreamId::new("s", "1");
    let place = (&stream, &"a".into());
    let mut out = Vec::new();
    let refused = CopyFormat::Json.write(&batch, &[0], place, &mut out);
    assert!(refused.is_empty());
    let mut object: Value = serde_json::from_slice(&out).expect("a line is JSON");
    object["headers"].take()
}

/// Every record can be read from its line again: with its payload as JSON, as text or as bytes.
#[test]
fn lines_give_the_record_back() {
    let make = |random: &mut hydrant_fuzz::FuzzRandom| hydrant_fuzz::json(random);
    let target = Target::new("consumer-formats")
        .made_by(&make)
        .tokens(&["\n", "\r\n", "\\ud800", "1e400", "\u{2028}"]);
    target.run(|input| {
        let key = input.len() % 2 == 1;
        let key = key.then_some(&input[..input.len() / 2]);
        assert_eq!(written(CopyFormat::Raw, key, input).as_deref(), Some(input));

        let value = serde_json::from_slice::<Value>(input).ok();
        if let Some(line) = written(CopyFormat::Ndjson, key, input) {
            assert_eq!(
                line.iter()
                    .filter(|byte| matches!(byte, b'\n' | b'\r'))
                    .count(),
                1
            );
            assert!(line.ends_with(b"\n") && std::str::from_utf8(&line).is_ok());
            assert_eq!(serde_json::from_slice::<Value>(&line).ok(), value);
        } else {
            assert_eq!(value, None);
        }

        let line = written(CopyFormat::Json, key, input).expect("every record can be written so");
        let text = std::str::from_utf8(&line).expect("a line is text");
        assert_eq!(text.matches(['\n', '\r']).count(), 1);
        let shown = headers_shown(key, input);
        let object = match serde_json::from_str::<Value>(text) {
            Ok(object) => object,
            // Numbers and depths that this parser does not read.
            Err(error) => {
                let why = error.to_string();
                assert!(
                    why.starts_with("number out of range") || why.starts_with("recursion"),
                    "{why}"
                );
                return 0;
            }
        };
        match (key, object.get("key"), object.get("key_base64")) {
            (None, Some(Value::Null), None) => {}
            (Some(key), Some(Value::String(found)), None) => assert_eq!(key, found.as_bytes()),
            (Some(key), None, Some(Value::String(found))) => assert_eq!(key, from_base64(found)),
            other => panic!("the key is {other:?}"),
        }
        let halves = input.split_at(input.len() / 2);
        let names: Vec<_> = (0..3).map(|n| shown[n]["name"].as_str()).collect();
        assert_eq!(names, [Some("n\""), Some(""), Some("n\"")]);
        assert_eq!(shown[1].get("value"), Some(&Value::Null));
        for (shown, value) in [(&shown[0], halves.0), (&shown[2], halves.1)] {
            match (shown.get("value"), shown.get("value_base64")) {
                (Some(Value::String(text)), None) => assert_eq!(text.as_bytes(), value),
                (None, Some(Value::String(text))) => assert_eq!(from_base64(text), value),
                other => panic!("the value is {other:?}"),
            }
        }
        match ["payload", "payload_text", "payload_base64"].map(|name| object.get(name)) {
            [Some(found), None, None] => {
                assert_eq!(Some(found), value.as_ref());
                1
            }
            [None, Some(Value::String(found)), None] => {
                assert_eq!((found.as_bytes(), &value), (input, &None));
                2
            }
            [None, None, Some(Value::String(found))] => {
                assert_eq!((from_base64(found), &value), (input.to_vec(), &None));
                3
            }
            other => panic!("the payload is {other:?}"),
        }
    });
}

/// `FILTER`, a zero byte, and the payload that it is tried on.
#[test]
fn filters_are_refused_or_come_back() {
    let target = Target::new("consumer-filters").tokens(&[
        "key=",
        "key^=",
        "/a/b~1=",
        "~0",
        "=true",
        "=\"x\"",
        "\0{\"a\":1}",
        "\0",
    ]);
    target.memory(1 << 20, 1_024).run(|input| {
        let mut parts = input.splitn(2, |byte| *byte == 0);
        let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
        let payload = parts.next().unwrap_or_default();
        match text.parse::<Filter>() {
            Ok(filter) => {
                assert_eq!(filter.to_string().parse(), Ok(filter.clone()));
                all_hold(&[filter], Some(b"key"), Some(payload)).map_err(|_| "not JSON")
            }
            Err(refusal) => {
                assert!(refusal.to_string().contains("/POINTER=VALUE"));
                Err("refused")
            }
        }
    });
}
