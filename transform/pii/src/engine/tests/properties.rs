use proptest::prelude::*;
use proptest::sample::select;

use super::super::*;
use crate::detect::{self, FoldedText};
use crate::keys::{self, Evidence};
use crate::policy::TokenKeys;
use crate::text::byte_classes;

fn policies() -> Vec<Arc<Policy>> {
    let mut keys = TokenKeys::none();
    keys.insert("a", &[7; 32]).unwrap();
    let tokens = "[policy]\nname = \"t\"\nkey = \"a\"\n\
        [[rule]]\nclass = [\"email\", \"name\", \"phone\", \"ip\"]\naction = \"token\"\n\
        [[rule]]\nclass = \"card\"\naction = \"partial\"\nkeep_first = 6\nkeep_last = 4\n\
        [[rule]]\nclass = \"address\"\naction = \"mask\"\n\
        [[rule]]\npath = \"$.d\"\naction = \"drop-field\"\n\
        [[rule]]\nclass = \"mac\"\naction = \"drop-field\"";
    vec![
        Arc::new(Policy::strict()),
        Arc::new(Policy::from_toml(tokens, &keys).unwrap()),
    ]
}

/// A policy that finds most classes beneath some paths only.
const ONLY_BENEATH_PATHS: &str = "[policy]\nname = \"t\"\nbase = \"none\"\n\
    [[rule]]\nclass = [\"card\", \"ssn\", \"jwt\", \"aws-key\"]\naction = \"label\"\n\
    [[rule]]\nclass = [\"email\", \"ip\", \"phone\", \"mac\"]\npath = \"$..a\"\naction = \"label\"";

/// Pieces that are personal data, nearly are, or break tokens.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "jane@x.org",
            "a@b",
            "@",
            "10.1.2.3",
            "10.1.2.0/24",
            "/16",
            "::1",
            "2001:db8::1",
            "fe80::1%en0",
            ":",
            "4111111111111111",
            "4111-1111-1111-1111",
            "378282246310005",
            "536-90-4399",
            "911-70-1234",
            "-",
            ".",
            "00:1b:44:11:3a:b7",
            "001b.4411.3ab7",
            "+49 171 1234567",
            "(415) 555-2671",
            "415-555-2671",
            " ",
            "_",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            "AKIAIOSFODNN7EXAMPLE",
            "ssn ",
            "tel ",
            "1",
            "x",
            "é",
            "٤١",
            "\u{200b}",
            "\0",
            "\u{ad}",
            "４",
            "\u{a0}",
            "\"",
            "\\",
            "\n",
            "{",
            "}",
            "[",
            "]",
            "52.520008",
            "%40",
            "'",
            "😀",
            "1980-05-17",
            "[EMAIL]",
            "/24",
            "::ffff:",
            "0",
            "%",
            "(",
            ")",
            "=",
            "first_name=Jane",
            "lat=52.520008 ",
            "geo:52.520008,13.404954",
            "2026-11-21T03:26:15.123Z",
            "550e8400-e29b-41d4-a716-446655440000",
            "1767224890154000123",
            "[SSN]",
            "ssn",
            "phone",
            "536904399",
            "\u{1b}[32m",
            "\u{1b}[0m",
            "[1m",
            "\\n",
            "\\u001b",
            "\\x40",
            "%25",
            "%20",
            "Chrome/124.0.6.7",
            "version ",
            "upgraded from ",
            " to ",
            "card ",
            "4222222222222",
            " bytes",
            "127.0.0.1",
            "255.255.255.0",
            "2002:cb00:7107::1",
            "::ffff:10.1.2.3",
            "user@1000.service",
            "nginx:1.25.3.1",
            "pkg:npm/x@1.2.3.4",
            "POINT(13.404954 52.520008)",
            "client.name=kafka-python",
            "DE89370400440532013000",
            "号",
            "20051980",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,6}",
    ]
}

/// What stands directly beside values: quotes, brackets, prefixes, escapes, and invisible characters.
fn edge() -> impl Strategy<Value = String> {
    select(vec![
        "",
        " ",
        "\"",
        "'",
        "`",
        "\\",
        "\\\"",
        "\\\\\"",
        "\0",
        "\0\0",
        "\u{200b}",
        "\u{feff}",
        "\u{2060}",
        "\u{fe0f}",
        "\u{e0020}",
        "\u{1b}[1m",
        "\n",
        "\t",
        "\\n",
        "\\t",
        "\\\\n",
        "\\u0000",
        "\\x00",
        "\\u000a",
        "\\u200b",
        "%00",
        "%20",
        "%22",
        "%3A",
        "%2525",
        "^[[0m",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "<",
        ">",
        ":",
        "::",
        "=",
        "/",
        "/24",
        "/120",
        "/7",
        "#",
        "##",
        "-",
        "_",
        ".",
        ",",
        ";",
        "+",
        "&",
        "x",
        "7",
        "0",
        "v",
        "号",
        "é",
        "4１",
        "udp6:",
        "host:",
        "nginx:",
        "u0000",
        "POINT(",
        "pkg:npm/x@",
        "ssn ",
        "card ",
        "from ",
        " to ",
        "{\"a\":",
        "{\\\"a\\\":",
        "\"}",
        "first_name=",
        "ip=",
    ])
    .prop_map(str::to_owned)
}

/// A value with something directly beside it.
fn between() -> impl Strategy<Value = String> {
    let value = select(vec![
        "jane@x.org",
        "10.1.2.3",
        "10.1.2.0/24",
        "::ffff:10.1.2.3",
        "::ffff:10.1.2.0/120",
        "::10.1.2.3",
        "2001:db8::1",
        "2001:db8::/48",
        "2002:cb00:7107::1",
        "fe80::1%en0",
        "64:ff9b::10.1.2.3",
        "4111111111111111",
        "4111 1111 1111 1111",
        "536-90-4399",
        "536904399",
        "911-70-1234",
        "00:1b:44:11:3a:b7",
        "001b.4411.3ab7",
        "+49 171 1234567",
        "(415) 555-2671",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "AKIAIOSFODNN7EXAMPLE",
        "DE89370400440532013000",
        "1980-05-17",
        "52.520008",
        "52.520008,13.404954",
        "geo:52.520008,13.404954",
        "POINT(13.404954 52.520008)",
        "Jane",
        "Jane Doe",
        "kafka-python",
        "1.2.3.4",
        "1.25.3.1",
        "[IP]",
        "[EMAIL]",
        "[SSN]",
    ])
    .prop_map(str::to_owned);
    let edges = || prop::collection::vec(edge(), 0..3).prop_map(|edges| edges.concat());
    (edges(), value, edges()).prop_map(|(before, value, after)| format!("{before}{value}{after}"))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::collection::vec(piece(), 0..6).prop_map(|pieces| pieces.concat()),
        2 => prop::collection::vec(between(), 1..3).prop_map(|values| values.concat()),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec![
            "a", "d", "ip", "user", "name", "address", "ssn", "phone", "card_number", "dob", "lat", "coordinates",
            "location", "firmware", "device", "email", "mac", "secret_key", "first_name", "street", "id",
            "type", "value", "data", "lat_e7", "ts_us", "account", "[EMAIL]", "S", "stringValue", "key", "cell",
            "mobile", "card", "passenger", "resourceType", "system", "agent", "fw", "rx_bytes", "stop_lat", "address1",
            "client.name", "client", "worker", "image", "tag", "geom", "line", "family", "given", "birthDate", "version", "n",
        ])
        .prop_map(str::to_owned),
        1 => text(),
    ]
}

/// JSON with a backslash before some of its quotes.
fn half_escaped(text: &str, which: u64) -> String {
    let mut quotes = 0;
    text.chars().fold(String::new(), |mut out, character| {
        if character == '"' {
            quotes += 1;
            if which >> (quotes % 64) & 1 == 1 {
                out.push('\\');
            }
        }
        out.push(character);
        out
    })
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        4 => text().prop_map(serde_json::Value::from),
        1 => any::<i64>().prop_map(serde_json::Value::from),
        1 => (-200.0..200.0f64).prop_map(serde_json::Value::from),
        1 => select(vec![
            4_111_111_111_111_111i64, 536_904_399, 14_155_552_671, 19_800_517, 525_200_080, 4_012_888_888_881_881,
            6_200_000_000_000_000_000,
        ])
            .prop_map(serde_json::Value::from),
        1 => any::<bool>().prop_map(serde_json::Value::from),
        1 => Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::vec((key(), inner.clone()), 0..4).prop_map(|members| members
                .into_iter()
                .collect::<serde_json::Map<_, _>>()
                .into()),
            inner
                .clone()
                .prop_map(|inside| serde_json::Value::from(inside.to_string())),
            (inner, any::<u64>(), edge(), edge()).prop_map(|(inside, which, before, after)| {
                serde_json::Value::from(format!(
                    "{before}{}{after}",
                    half_escaped(&inside.to_string(), which)
                ))
            }),
        ]
    })
}

fn run(engine: &mut Engine, record: &[u8]) -> (ScanVerdict, Vec<u8>) {
    let mut out = Vec::new();
    let verdict = engine.process(record, &mut out);
    (verdict, out)
}

/// Whether a label, taken for what a producer wrote, may be evidence: as a word before a number, in
/// a key, or in a value that says what another one is.
fn labels_say_something(redacted: &[u8]) -> bool {
    let holds = |word: &str| memchr::memmem::find(redacted, word.as_bytes()).is_some();
    let labels = || crate::class::Class::all().map(crate::class::Class::label);
    let in_key = |label: &str| {
        memchr::memmem::find_iter(redacted, label.as_bytes()).any(|at| {
            let rest = &redacted[at..];
            let quote = memchr::memchr(b'"', rest).unwrap_or(rest.len());
            let ends = |byte: &&u8| matches!(byte, b'"' | b'\\' | b' ');
            rest[quote..].iter().find(|byte| !ends(byte)) == Some(&b':')
        })
    };
    let says = [
        "\"type",
        "\"name",
        "\"key",
        "\"n",
        "\"code",
        "\"system",
        "\"resourceType",
    ];
    ["SSN]", "PHONE]", "CARD]", "\"["].into_iter().any(holds)
        || labels().any(in_key)
        || labels().any(holds) && says.into_iter().any(holds)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn what_was_redacted_has_no_findings_and_is_json(value in json()) {
        let record = value.to_string();
        for policy in policies() {
            let mut engine = Engine::new(policy);
            let (verdict, out) = run(&mut engine, record.as_bytes());
            match verdict {
                ScanVerdict::Clean => prop_assert!(out.is_empty() && engine.findings().is_empty()),
                ScanVerdict::Redacted => {
                    prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok(), "{}", String::from_utf8_lossy(&out));
                    prop_assert!(!engine.finds_in_its_own(&out) && engine.findings().is_empty(), "{}", String::from_utf8_lossy(&out));
                    let (again, nothing) = run(&mut engine, &out);
                    if !labels_say_something(&out) {
                        prop_assert_eq!(again, ScanVerdict::Clean, "{}", String::from_utf8_lossy(&out));
                    }
                    match again {
                        ScanVerdict::Clean => prop_assert!(nothing.is_empty() && engine.findings().is_empty()),
                        verdict => prop_assert_eq!(verdict, ScanVerdict::Redacted),
                    }
                }
                ScanVerdict::Quarantined { reason } => prop_assert_eq!(reason, QuarantineReason::NestedTooDeep),
                ScanVerdict::Dropped { .. } => prop_assert!(false, "no rule drops"),
            }
        }
    }

    #[test]
    fn passing_over_what_cannot_match_changes_nothing(value in json()) {
        let record = value.to_string();
        for policy in policies() {
            let mut fast = Engine::new(Arc::clone(&policy));
            let mut thorough = Engine::new(policy);
            thorough.thorough = true;
            let (verdict, out) = run(&mut fast, record.as_bytes());
            let (expected, expected_out) = run(&mut thorough, record.as_bytes());
            prop_assert_eq!(verdict, expected, "{}", record);
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected_out));
            prop_assert_eq!(fast.reports().collect::<Vec<_>>(), thorough.reports().collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_detector_finds_anything_in_a_time_or_more_than_an_address_in_an_address(
        parts in prop::array::uniform14(0u8..10), fraction in "(\\.[0-9]{1,9})?", zone in "(|Z|[+-][0-9]{2}:?[0-9]{2})", octets in any::<[u8; 4]>(), prefix in "(|/[0-9]|/[12][0-9]|/3[012])",
    ) {
        let digits: String = parts.iter().map(|digit| char::from(b'0' + digit)).collect();
        let (date, time) = digits.split_at(8);
        let timestamp = format!("{}-{}-{}T{}:{}:{}{fraction}{zone}", &date[..4], &date[4..6], &date[6..], &time[..2], &time[2..4], &time[4..]);
        let address = format!("{}{prefix}", std::net::Ipv4Addr::from(octets));
        for (text, kept) in [(&timestamp, None), (&address, Some(crate::class::Class::Ip))] {
            let mut hits = Hits::default();
            let looked = FoldedText { bytes: text.as_bytes(), evidence: Evidence::NONE, kind: TextKind::Text, edited: false };
            detect::scan_all(&looked, u64::MAX, &mut hits);
            let others = hits.list.iter().filter(|hit| Some(detect::class_of(hit.detector)) != kept).count();
            prop_assert_eq!(others, 0, "{}: {:?}", text, hits.list);
        }
        prop_assert!(detect::is_timestamp(timestamp.as_bytes(), Evidence::NONE));
    }

    #[test]
    fn results_do_not_depend_on_what_was_processed_before(values in prop::collection::vec(json(), 1..4)) {
        let by_path = Policy::from_toml(ONLY_BENEATH_PATHS, &TokenKeys::none()).unwrap();
        for policy in policies().into_iter().chain([Arc::new(by_path)]) {
            let mut reused = Engine::new(Arc::clone(&policy));
            for record in values.iter().flat_map(|value| [value.to_string(), format!("{{\"a\":{value}}}")]) {
                let mut fresh = Engine::new(Arc::clone(&policy));
                prop_assert_eq!(run(&mut reused, record.as_bytes()), run(&mut fresh, record.as_bytes()));
                prop_assert_eq!(reused.reports().collect::<Vec<_>>(), fresh.reports().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn bytes_outside_of_findings_stay(before in text(), after in text(), number in any::<f64>()) {
        let frame = |inner: &str| format!(
            "{{ \"x\" :\t{},\n\"é\\u0041\": \"{inner}\" , \"n\": [{number:e} ,-0, 1.0,1E5] }}",
            serde_json::json!([before, after])
        );
        let mut engine = Engine::new(Arc::new(Policy::strict()));
        let (verdict, out) = run(&mut engine, frame("10.1.2.3").as_bytes());
        prop_assert_eq!(verdict, ScanVerdict::Redacted);
        // What stands beside a finding is treated as if the finding were not there.
        let (other, rest) = run(&mut engine, frame("nothing").as_bytes());
        let rest = if other == ScanVerdict::Clean { frame("nothing").into_bytes() } else { rest };
        let rest = String::from_utf8(rest).unwrap();
        prop_assert_eq!(String::from_utf8(out).unwrap(), rest.replace("nothing", "10.1.2.0/24"));
    }

    #[test]
    fn bytes_that_are_no_json_never_pass(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut engine = Engine::new(Arc::new(Policy::strict()));
        let (verdict, out) = run(&mut engine, &bytes);
        if serde_json::from_slice::<serde_json::Value>(&bytes).is_err() {
            let quarantined = matches!(verdict, ScanVerdict::Quarantined { .. });
            prop_assert!(quarantined);
            prop_assert!(out.is_empty());
        }
        let mut key = Vec::new();
        let passes = engine.process_key(&bytes, &mut key);
        let dropped = matches!(passes, ScanVerdict::Dropped { .. });
        prop_assert!(!dropped);
    }

    #[test]
    fn mutated_records_never_panic_and_never_leak(value in json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut record = format!("{{\"p\":\"4111111111111111\",\"v\":{value}}}").into_bytes();
        let at = at.index(record.len());
        record[at] = byte;
        let mut engine = Engine::new(Arc::new(Policy::strict()));
        let (verdict, out) = run(&mut engine, &record);
        match verdict {
            ScanVerdict::Clean => prop_assert!((6..22).contains(&at), "the card left with byte {at} changed"),
            ScanVerdict::Redacted => prop_assert!(
                (6..22).contains(&at) || !String::from_utf8_lossy(&out).contains("\"p\":\"4111111111111111\"")
            ),
            _ => prop_assert!(out.is_empty()),
        }
    }

    #[test]
    fn what_is_not_worth_a_look_holds_nothing(text in text(), key in key()) {
        let evidence = keys::evidence(key.as_bytes());
        let classes = byte_classes::of(text.as_bytes());
        if !detect::worth_a_look(classes, text.len(), evidence) {
            let mut hits = Hits::default();
            let looked = FoldedText { bytes: text.as_bytes(), evidence, kind: TextKind::Text, edited: false };
            detect::scan(&looked, byte_classes::TABLE.iter().fold(0, |all, class| all | class), u64::MAX, &mut hits);
            prop_assert!(hits.list.is_empty(), "{:?}", hits.list);
        }
    }

    #[test]
    fn partition_keys_are_stable(parts in prop::collection::vec(piece(), 0..5)) {
        let key = parts.concat();
        for policy in policies() {
            let mut engine = Engine::new(policy);
            let mut out = Vec::new();
            if engine.process_key(key.as_bytes(), &mut out) == ScanVerdict::Redacted {
                engine.reset();
                engine.edited = true;
                prop_assert!(engine.scan_key(&out).is_ok());
                prop_assert!(engine.edits.is_empty(), "{}", String::from_utf8_lossy(&out));
                if !labels_say_something(&out) {
                    prop_assert_eq!(engine.process_key(&out, &mut Vec::new()), ScanVerdict::Clean, "{}", String::from_utf8_lossy(&out));
                }
            }
        }
    }
}
