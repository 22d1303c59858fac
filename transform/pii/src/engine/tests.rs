use super::*;
use crate::policy::TokenKeys;

fn engine() -> Engine {
    Engine::new(Arc::new(Policy::strict()))
}

fn with(policy: &str) -> Engine {
    let mut keys = TokenKeys::none();
    keys.insert("a", &[7; 32]).unwrap();
    let policy = format!("[policy]\nname = \"test\"\n{policy}");
    Engine::new(Arc::new(
        Policy::from_toml(&policy, &keys).unwrap_or_else(|problems| panic!("{problems}")),
    ))
}

/// What leaves, for records that leave.
fn passed(engine: &mut Engine, record: &str) -> String {
    let mut out = b"before".to_vec();
    match engine.process(record.as_bytes(), &mut out) {
        ScanVerdict::Clean => {
            assert_eq!(out, b"before");
            record.to_owned()
        }
        ScanVerdict::Redacted => String::from_utf8(out[6..].to_vec()).unwrap(),
        other => panic!("{other:?} for {record}"),
    }
}

fn redacted(record: &str) -> String {
    passed(&mut engine(), record)
}

fn reason(engine: &mut Engine, record: &[u8]) -> Option<QuarantineReason> {
    let mut out = b"before".to_vec();
    match engine.process(record, &mut out) {
        ScanVerdict::Quarantined { reason } => {
            assert_eq!(out, b"before");
            Some(reason)
        }
        _ => None,
    }
}

#[test]
fn a_record_of_a_sensor_keeps_everything_but_its_address() {
    let record = r#"{"device_id": 0, "device_type": "sensor-ipad", "ip": "68.161.225.1", "cca3": "USA", "cn": "United States", "temp": 22, "timestamp" :1475876932 }"#;
    assert_eq!(
        redacted(record),
        record.replace("68.161.225.1", "68.161.225.0/24")
    );
}

#[test]
fn every_class_has_its_replacement() {
    for (value, replacement) in [
        (
            "write to jane.doe@example.org, please",
            "write to [EMAIL], please",
        ),
        ("call +1 415 555 2671", "call [PHONE]"),
        ("(415) 555-2671", "[PHONE]"),
        ("paid with 4111-1111-1111-1111.", "paid with [CARD]."),
        ("536-90-4399", "[SSN]"),
        ("911-70-1234", "[SSN]"),
        ("via 00:1B:44:11:3a:b7", "via [MAC]"),
        ("10.1.2.3:8080", "10.1.2.0/24:8080"),
        ("[2001:db8:1:2::3]:80", "[2001:db8:1::/48]:80"),
        ("10.1.2.0", "10.1.2.0/24"),
        ("10.1.2.0/24", "10.1.2.0/24"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("key AKIAIOSFODNN7EXAMPLE", "key [AWS_KEY]"),
        ("to GB29 NWBK 6016 1331 9268 19 now", "to [IBAN] now"),
        ("00:1b:44:ff:fe:11:3a:b7", "[MAC]"),
        (
            "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            "Bearer [JWT]",
        ),
        (
            "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "aws_secret_access_key=[AWS_KEY]",
        ),
        ("a@b.com b@c.org a@b.com", "[EMAIL] [EMAIL] [EMAIL]"),
        ("10.0.0.1-10.0.0.9", "10.0.0.0/24-10.0.0.0/24"),
    ] {
        let record =
            format!(r#"{{"note":"{value}","n":[1.0,1e5,-0,123456789012345678901234567890]}}"#);
        assert_eq!(redacted(&record), record.replace(value, replacement));
    }
}

#[test]
fn keys_are_evidence_for_their_values() {
    for (record, expected) in [
        (
            r#"{"user":{"name":"Jane","id":7}}"#,
            r#"{"user":{"name":"[NAME]","id":7}}"#,
        ),
        (
            r#"{"name":"pump 7","address":"0x1f"}"#,
            r#"{"name":"pump 7","address":"0x1f"}"#,
        ),
        (
            r#"{"device":{"name":"x"},"host":"db1"}"#,
            r#"{"device":{"name":"x"},"host":"db1"}"#,
        ),
        (
            r#"{"user":{"device":{"name":"x"}}}"#,
            r#"{"user":{"device":{"name":"x"}}}"#,
        ),
        (
            r#"{"users":[{"name":"A"},{"name":"B"}]}"#,
            r#"{"users":[{"name":"[NAME]"},{"name":"[NAME]"}]}"#,
        ),
        (
            r#"{"ownerName":"Jane","device_name":"x"}"#,
            r#"{"ownerName":"[NAME]","device_name":"x"}"#,
        ),
        (
            r#"{"user":{"address":{"street":"1 Main St","city":"Oslo","country":"NO"}}}"#,
            r#"{"user":{"address":{"street":"[ADDRESS]","city":"Oslo","country":"NO"}}}"#,
        ),
        (
            r#"{"customer_address":"1 Main St"}"#,
            r#"{"customer_address":"[ADDRESS]"}"#,
        ),
        (
            r#"{"dob":"1980-05-17","birth_date":19800517}"#,
            r#"{"dob":"1980","birth_date":1980}"#,
        ),
        (
            r#"{"dob":1980,"birthday":"17.5."}"#,
            r#"{"dob":1980,"birthday":"[BIRTH_DATE]"}"#,
        ),
        (r#"{"dob":327369600}"#, r#"{"dob":null}"#),
        (
            r#"{"lat":52.520008,"lon":-13.404954,"alt":34.123}"#,
            r#"{"lat":52.52,"lon":-13.40,"alt":34.123}"#,
        ),
        (
            r#"{"geometry":{"type":"Point","coordinates":[13.404954,52.520008]}}"#,
            r#"{"geometry":{"type":"Point","coordinates":[13.40,52.52]}}"#,
        ),
        (
            r#"{"coordinates":"\"52.520008 N"}"#,
            r#"{"coordinates":"\"52.52 N"}"#,
        ),
        (r#"{"position":[0.12345,1]}"#, r#"{"position":[0.12345,1]}"#),
        (
            r#"{"location":"52.520008,13.404954"}"#,
            r#"{"location":"52.52,13.40"}"#,
        ),
        (
            r#"{"ssn":536904399,"phone":14155552671}"#,
            r#"{"ssn":null,"phone":null}"#,
        ),
        (
            r#"{"a":536904399,"b":14155552671}"#,
            r#"{"a":536904399,"b":14155552671}"#,
        ),
        (
            r#"{"ssn":"536904399","userSsn":"536 90 4399"}"#,
            r#"{"ssn":"[SSN]","userSsn":"[SSN]"}"#,
        ),
        (r#"{"phone":"0171 1234567"}"#, r#"{"phone":"[PHONE]"}"#),
        (
            r#"{"account":4111111111111111,"card":{"m":4111111111111111.0}}"#,
            r#"{"account":null,"card":{"m":null}}"#,
        ),
        (
            r#"{"card_number":"4111111111111112"}"#,
            r#"{"card_number":"[CARD]"}"#,
        ),
        (
            r#"{"mac":"001b44113ab7","serial":"001b44113ab7"}"#,
            r#"{"mac":"[MAC]","serial":"001b44113ab7"}"#,
        ),
        (
            r#"{"email":"root@host","x":"root@host"}"#,
            r#"{"email":"[EMAIL]","x":"root@host"}"#,
        ),
        (
            r#"{"firmware":"1.2.3.4","version":{"app":"1.2.3.4"}}"#,
            r#"{"firmware":"1.2.3.4","version":{"app":"1.2.3.4"}}"#,
        ),
        (
            r#"{"first_name":null,"last_name":"","nickname":true}"#,
            r#"{"first_name":null,"last_name":"","nickname":true}"#,
        ),
        (
            r#"{"ip":1154605313,"count":1154605313}"#,
            r#"{"ip":null,"count":1154605313}"#,
        ),
        (
            r#"{"user_name":"Jane <jane@x.org>"}"#,
            r#"{"user_name":"[NAME]"}"#,
        ),
        (
            r#"{"user_name":"jane@x.org"}"#,
            r#"{"user_name":"[EMAIL]"}"#,
        ),
        (
            r#"{"user_name":"Jane 536-90-4399"}"#,
            r#"{"user_name":"[SSN]"}"#,
        ),
    ] {
        assert_eq!(redacted(record), expected, "{record}");
    }
}

#[test]
fn objects_hand_down_what_their_key_says() {
    for (record, expected) in [
        (
            r#"{"dob":{"year":1980,"month":5,"day":17}}"#,
            r#"{"dob":{"year":1980,"month":null,"day":null}}"#,
        ),
        (
            r#"{"phone":{"number":"0171 1234567","imei":"356938035643809"}}"#,
            r#"{"phone":{"number":"[PHONE]","imei":"356938035643809"}}"#,
        ),
    ] {
        assert_eq!(redacted(record), expected);
    }
}

#[test]
fn machine_made_values_are_no_findings() {
    for value in [
        r#""550e8400-e29b-41d4-a716-446655440000""#,
        r#""4111111111111111-a""#,
        r#""a4111111111111111""#,
        r#""0.4111111111111111""#,
        r#"0.4111111111111111"#,
        r#"1700000000000"#,
        r#"1475876932"#,
        r#""2026-11-21T03:26:15.123456Z""#,
        r#""2026-11-21 03:26:15+01:00""#,
        r#""03:26:15""#,
        r#""std::vector""#,
        r#""v1.2.3.4""#,
        r#""1.2.3.4.5""#,
        r#""256.1.1.1""#,
        r#""icon@2x.png""#,
        r#""pkg@1.2.3""#,
        r#""@mention""#,
        r#""a @ b.com""#,
        r#""d41d8cd98f00b204e9800998ecf8427e""#,
        r#""00:00:00:00:00:00""#,
        r#""ff:ff:ff:ff:ff:ff""#,
        r#""ABCD-1234-EFGH""#,
        r#""123-45-67890""#,
        r#""000-12-3456""#,
        r#""78.5 22.1 19.0 18.2 33.3 44.4 55.5""#,
        r#""+12.3456789""#,
        r#""0000000000000000""#,
    ] {
        let record = format!(r#"{{"value":{value}}}"#);
        assert_eq!(redacted(&record), record);
    }
}

#[test]
fn base_rates_of_generated_values_stay_low() {
    // A multiplicative generator, so that the draw is the same everywhere.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 31
    };
    let mut engine = engine();
    let mut out = Vec::new();
    let mut rate = |make: &mut dyn FnMut(u64, u64) -> String| {
        let mut found = 0;
        for _ in 0..2000 {
            let record = make(next(), next());
            found += usize::from(engine.process(record.as_bytes(), &mut out) != ScanVerdict::Clean);
        }
        found
    };
    assert_eq!(
        rate(&mut |a, b| format!(
            r#"{{"v":"{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}"}}"#,
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xfff,
            b & 0xfff,
            b >> 16
        )),
        0,
        "UUIDs"
    );
    assert_eq!(
        rate(&mut |a, _| format!(r#"{{"v":{}}}"#, 1_600_000_000_000 + a % 200_000_000_000)),
        0,
        "epoch ms"
    );
    assert_eq!(
        rate(&mut |a, _| format!(
            r#"{{"v":{}}}"#,
            1_600_000_000_000_000 + a % 200_000_000_000_000
        )),
        0
    );
    assert_eq!(
        rate(&mut |a, _| format!(r#"{{"v":"{}"}}"#, 100_000_000 + a % 900_000_000)),
        0,
        "9 digits"
    );
    assert_eq!(
        rate(&mut |a, _| format!(r#"{{"v":{}}}"#, 100_000_000_000 + a % 900_000_000_000)),
        0,
        "12 digits"
    );
    assert_eq!(
        rate(&mut |a, _| format!(r#"{{"v":0.{:016}}}"#, a % 10_000_000_000_000_000)),
        0,
        "fractions"
    );
    for digits in 12..20u32 {
        let least = 10u64.pow(digits - 1);
        let draw = |a: u64| least + a % (9 * least);
        assert_eq!(
            rate(&mut |a, _| format!(r#"{{"v":{}}}"#, draw(a))),
            0,
            "{digits} digits"
        );
        let texts = rate(&mut |a, _| format!(r#"{{"v":"{}"}}"#, draw(a)));
        let most = if (15..=16).contains(&digits) { 100 } else { 0 };
        assert!(texts <= most, "{digits} digits: {texts} of 2000");
    }
}

#[test]
fn tricks_of_writing_are_folded_and_whole_characters_are_replaced() {
    for (value, replacement) in [
        (r"jane\u0040example.org", "[EMAIL]"),
        ("ｊａｎｅ＠ｅｘａｍｐｌｅ．ｏｒｇ", "[EMAIL]"),
        ("jane\u{200b}@exa\u{200d}mple.org", "[EMAIL]"),
        ("٤١١١١١١١١١١١١١١١", "[CARD]"),
        ("4111\u{a0}1111\u{a0}1111\u{a0}1111", "[CARD]"),
        ("4111\u{200b}111111111111", "[CARD]"),
        ("536\u{2011}90\u{2013}4399", "[SSN]"),
        (r"x \u0034111111111111111\n", r"x [CARD]\n"),
        ("jane%40example.org", "[EMAIL]"),
        ("naïve é 10.1.2.3 ü", "naïve é 10.1.2.0/24 ü"),
        (
            r"\ud83d\ude00 a@b.org \ud83d\ude00",
            r"\ud83d\ude00 [EMAIL] \ud83d\ude00",
        ),
    ] {
        let record = format!(r#"{{"v":"{value}"}}"#);
        assert_eq!(redacted(&record), record.replace(value, replacement));
    }
}

#[test]
fn keys_are_scanned_and_pointers_do_not_show_them() {
    let mut engine = engine();
    let record = r#"{"a":{"jane@x.org":{"ip":"10.1.2.3"},"10.9.8.7":1},"jane@x.org":2}"#;
    assert_eq!(
        passed(&mut engine, record),
        r#"{"a":{"[EMAIL]":{"ip":"10.1.2.0/24"},"10.9.8.0/24":1},"[EMAIL]":2}"#
    );
    let reported: Vec<_> = engine
        .reports()
        .map(|r| (r.pointer.to_owned(), r.place))
        .collect();
    assert_eq!(
        reported,
        [
            ("/a/[EMAIL]".to_owned(), Some("key")),
            ("/a/[EMAIL]/ip".to_owned(), None),
            ("/a/[IP]".to_owned(), Some("key")),
            ("/[EMAIL]".to_owned(), Some("key")),
        ]
    );
}

#[test]
fn keys_that_were_two_stay_two() {
    let mut engine = engine();
    for (record, wanted) in [
        (
            r#"{"a@x.org":1,"n":{"b@x.org":2,"c@x.org":3},"d@x.org":4,"e@x.org":5}"#,
            r##"{"[EMAIL]":1,"n":{"[EMAIL]":2,"[EMAIL]#2":3},"[EMAIL]#2":4,"[EMAIL]#3":5}"##,
        ),
        (
            r#"[{"10.1.2.3":1,"10.1.2.4":2,"of 10.1.2.3":3},{"10.1.2.3":4}]"#,
            r##"[{"10.1.2.0/24":1,"10.1.2.0/24#2":2,"of 10.1.2.0/24":3},{"10.1.2.0/24":4}]"##,
        ),
        (
            r##"{"a@x.org#2":1,"a@x.org":2,"b@x.org":3,"\u0061@x.org":4}"##,
            r##"{"[EMAIL]#2":1,"[EMAIL]":2,"[EMAIL]#3":3,"[EMAIL]#4":4}"##,
        ),
        // Keys that are no longer scanned are equal only where they were.
        (
            r#"{"k":1,"k":2,"a@x.org":3}"#,
            r#"{"k":1,"k":2,"[EMAIL]":3}"#,
        ),
    ] {
        let redacted = passed(&mut engine, record);
        assert_eq!(redacted, wanted);
        assert_eq!(passed(&mut engine, &redacted), wanted, "a second pass");
    }
    let many: Vec<String> = (0..20_000).map(|n| format!("\"u{n}@x.org\":{n}")).collect();
    let redacted = passed(&mut engine, &format!("{{{}}}", many.join(",")));
    let members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&redacted).unwrap();
    assert_eq!(members.len(), many.len());
}

#[test]
fn json_in_strings_is_scanned_through_its_escapes() {
    let mut engine = engine();
    let inner = r#"{"user":{"name":"J\"o","ip":"10.1.2.3"},"l":[1,"a\u0040b.org"]}"#;
    let middle = serde_json::json!({ "payload": inner, "ok": true }).to_string();
    let outer = serde_json::json!({ "m": middle, "é/~": "[[\"10.1.2.3\"]]" }).to_string();
    let result = passed(&mut engine, &outer);
    let outer: serde_json::Value = serde_json::from_str(&result).unwrap();
    let middle: serde_json::Value = serde_json::from_str(outer["m"].as_str().unwrap()).unwrap();
    assert_eq!(
        middle["payload"].as_str().unwrap(),
        r#"{"user":{"name":"[NAME]","ip":"10.1.2.0/24"},"l":[1,"[EMAIL]"]}"#
    );
    assert_eq!(outer["é/~"], "[[\"10.1.2.0/24\"]]");
    let mut pointers: Vec<_> = engine
        .reports()
        .map(|report| report.pointer.to_owned())
        .collect();
    pointers.sort();
    assert_eq!(
        pointers,
        [
            "/m#/payload#/l/1",
            "/m#/payload#/user/ip",
            "/m#/payload#/user/name",
            "/é~1~0#/0/0"
        ]
    );
}

#[test]
fn text_that_only_looks_like_json_is_scanned_as_text() {
    assert_eq!(
        redacted(r#"{"v":"{\"a\": a@b.org}"}"#),
        r#"{"v":"{\"a\": [EMAIL]}"}"#
    );
    assert_eq!(
        redacted(r#"{"v":"[a@b.org]","w":"{"}"#),
        r#"{"v":"[[EMAIL]]","w":"{"}"#
    );
    assert_eq!(redacted(r#"{"v":"\"a@b.org\""}"#), r#"{"v":"\"[EMAIL]\""}"#);
    // What was found before the text turned out to be no JSON is found once.
    let mut engine = engine();
    assert_eq!(
        passed(&mut engine, r#"{"v":"[\"a@b.org\", ]"}"#),
        r#"{"v":"[\"[EMAIL]\", ]"}"#
    );
    assert_eq!(engine.findings().len(), 1);
    assert_eq!(engine.reports().next().unwrap().pointer, "/v#/0");
}

#[test]
fn findings_tell_place_and_length_in_the_decoded_value() {
    let mut engine = engine();
    passed(&mut engine, r#"{"a":["x","é\n\u0061@b.org!"]}"#);
    let report = engine.reports().next().unwrap();
    assert_eq!(
        serde_json::to_string(&report).unwrap(),
        r#"{"pointer":"/a/1","detector":"email","class":"email","action":"label","rule":"strict-label","offset":3,"length":7}"#
    );
}

#[test]
fn what_cannot_be_scanned_is_quarantined() {
    let mut engine = engine();
    for (record, why) in [
        (&b""[..], QuarantineReason::Malformed),
        (b"plain text a@b.org", QuarantineReason::Malformed),
        (b"{\"a\":1", QuarantineReason::Malformed),
        (b"{\"a\":NaN}", QuarantineReason::Malformed),
        (b"{}{}", QuarantineReason::Malformed),
        (b"\"\xff\"", QuarantineReason::InvalidUtf8),
        (br#"{"a":"\ud83d"}"#, QuarantineReason::LoneSurrogate),
        (
            br#"{"a":"{\"b\":\"\\ud83d\"}"}"#,
            QuarantineReason::LoneSurrogate,
        ),
    ] {
        assert_eq!(reason(&mut engine, record), Some(why), "{record:?}");
    }
    for text in ["[", "{\"a\":"] {
        let deep = text.repeat(10_000);
        assert_eq!(
            reason(&mut engine, deep.as_bytes()),
            Some(QuarantineReason::TooDeep)
        );
    }
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(
        reason(&mut engine, deep.as_bytes()),
        Some(QuarantineReason::TooDeep)
    );
    let inside = serde_json::json!({ "a": deep }).to_string();
    assert_eq!(
        reason(&mut engine, inside.as_bytes()),
        Some(QuarantineReason::TooDeep)
    );
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    assert_eq!(
        reason(&mut engine, large.as_bytes()),
        Some(QuarantineReason::TooLarge)
    );
    let many = format!("[{}1]", "\"a@b.org\",".repeat(1025));
    assert_eq!(reason(&mut engine, many.as_bytes()), None);
    let mut bounded = with("[limits]\nfindings = 1024");
    assert_eq!(
        reason(&mut bounded, many.as_bytes()),
        Some(QuarantineReason::TooManyFindings)
    );
    let mut nested = "{\"a\":1}".to_owned();
    for _ in 0..5 {
        assert_eq!(reason(&mut engine, nested.as_bytes()), None);
        nested = serde_json::json!({ "a": nested }).to_string();
    }
    assert_eq!(
        reason(&mut engine, nested.as_bytes()),
        Some(QuarantineReason::NestedTooDeep)
    );
    assert_eq!(redacted("{}"), "{}");
}

#[test]
fn a_record_of_ten_megabytes_is_processed() {
    let mut engine = with("[limits]\nrecord_bytes = 16777216\nfindings = 100000");
    let row = r#"{"t":1475876932,"s":"sensor-ipad","v":[22.5,19.25],"u":"550e8400-e29b-41d4-a716-446655440000"},"#;
    let count = 10_000_000 / row.len();
    let record = format!("[{}{{\"ip\":\"10.1.2.3\"}}]", row.repeat(count));
    let result = passed(&mut engine, &record);
    assert_eq!(result.len(), record.len() + 3);
    assert!(result.ends_with("{\"ip\":\"10.1.2.0/24\"}]"));
}

#[test]
fn duplicate_keys_are_each_scanned() {
    assert_eq!(
        redacted(r#"{"a":"a@b.org","a":"c@d.org"}"#),
        r#"{"a":"[EMAIL]","a":"[EMAIL]"}"#
    );
}

#[test]
fn partition_keys_are_scanned_as_text_json_or_bytes() {
    let mut engine = engine();
    let mut key = |key: &[u8]| {
        let mut out = Vec::new();
        match engine.process_key(key, &mut out) {
            ScanVerdict::Clean => key.to_vec(),
            ScanVerdict::Redacted => out,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(key(b"device-17"), b"device-17");
    assert_eq!(key(b""), b"");
    assert_eq!(key(b"jane@x.org"), b"[EMAIL]");
    assert_eq!(key(b"4111111111111111"), b"[CARD]");
    assert_eq!(
        key(br#"{"user":{"name":"J"}}"#),
        br#"{"user":{"name":"[NAME]"}}"#
    );
    assert_eq!(key(b"\xff\x00 jane@x.org \xfe"), b"\xff\x00 [EMAIL] \xfe");
    assert_eq!(key(b"j\0a\0@\0x\0.\0o\0r\0g\0"), b"[EMAIL]\0");
    assert_eq!(key(&[0, 0, 0, 0, 0, 0, 1, 255]), [0, 0, 0, 0, 0, 0, 1, 255]);
    let mut tokens = with("key = \"a\"");
    let mut token = |key: &[u8]| {
        let mut out = Vec::new();
        assert_eq!(tokens.process_key(key, &mut out), ScanVerdict::Redacted);
        String::from_utf8(out).unwrap()
    };
    let first = token(b"jane@x.org/1");
    assert!(first.starts_with("tok_key_a_"));
    assert_eq!(first, token(b"jane@x.org/1"));
    assert_ne!(first, token(b"jane@x.org/2"));
}

#[test]
fn reason_codes_are_distinct() {
    let reasons = [
        QuarantineReason::TooLarge,
        QuarantineReason::InvalidUtf8,
        QuarantineReason::Malformed,
        QuarantineReason::LoneSurrogate,
        QuarantineReason::TooDeep,
        QuarantineReason::NestedTooDeep,
        QuarantineReason::TooManyFindings,
        QuarantineReason::Residual,
    ];
    let mut codes = reasons.map(QuarantineReason::code).to_vec();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), reasons.len());
}

#[test]
fn keeping_does_not_count_twice_when_a_record_is_scanned_again() {
    let mut engine = with("[limits]\nfindings = 4\n[[rule]]\nclass = \"email\"\naction = \"keep\"");
    let record = r#"["a@b.org","b@b.org","c@b.org","10.1.2.3"]"#;
    assert_eq!(
        passed(&mut engine, record),
        record.replace("10.1.2.3", "10.1.2.0/24")
    );
    assert_eq!(engine.findings().len(), 4);
}

#[test]
fn a_key_is_compared_with_values_of_any_size() {
    let mut engine = with("[limits]\nrecord_bytes = 8388608");
    let long = "x".repeat(3 << 20);
    let record = serde_json::json!({ "first_name": long, "last_name": "Fairburn" }).to_string();
    let mut out = Vec::new();
    let verdict = engine.process(record.as_bytes(), &mut out);
    assert_eq!(verdict, ScanVerdict::Redacted);
    for _ in 0..2 {
        let mut key = Vec::new();
        let verdict = engine.process_key_beside(b"fairburn-1", &mut key);
        assert_eq!(
            (verdict, &key[..]),
            (ScanVerdict::Redacted, &b"[NAME]-1"[..])
        );
    }
}

#[test]
fn engines_move_between_threads_and_policies_are_shared() {
    fn moves<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    moves::<Engine>();
    shared::<Policy>();
}

#[test]
fn a_tally_counts_verdicts_and_detectors() {
    let mut engine = engine();
    let mut tally = crate::FindingCounts::default();
    for record in [
        r#"{"a":1}"#,
        r#"{"a":"a@b.org 10.1.2.3"}"#,
        "{",
        r#"["b@c.org"]"#,
    ] {
        let verdict = engine.process(record.as_bytes(), &mut Vec::new());
        tally.add(verdict, engine.findings());
    }
    assert_eq!(
        (
            tally.clean,
            tally.redacted,
            tally.quarantined,
            tally.dropped
        ),
        (1, 2, 1, 0)
    );
    assert_eq!(
        tally.findings().collect::<Vec<_>>(),
        [("email", 2), ("ipv4", 1)]
    );
}

mod beside;
mod evasions;
mod leaks;
mod numbers;
mod properties;
mod rules;
mod things;
mod unseen;
