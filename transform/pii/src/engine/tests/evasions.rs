//! Ways to write personal data that have to be seen through, and numbers that have to stay.

use super::*;

fn strict(record: &str) -> String {
    let mut engine = Engine::new(Arc::new(Policy::strict()));
    let mut out = Vec::new();
    match engine.process(record.as_bytes(), &mut out) {
        ScanVerdict::Clean => record.to_owned(),
        ScanVerdict::Redacted => String::from_utf8(out).unwrap(),
        verdict => panic!("{record}: {verdict:?}"),
    }
}

fn text(value: &str) -> String {
    let out = strict(&serde_json::json!({ "msg": value }).to_string());
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    out["msg"].as_str().unwrap().to_owned()
}

#[test]
fn percent_encoding_hides_nothing() {
    for (value, redacted) in [
        (
            "?email=a%40b.com&ip=1.2.3.4",
            "?email=[EMAIL]&ip=1.2.3.0/24",
        ),
        ("a%40b%2Ecom", "[EMAIL]"),
        ("a%2540b.com", "[EMAIL]"),
        ("a%252540b.com", "[EMAIL]"),
        ("q%3Djane%40x.org", "q%3D[EMAIL]"),
        ("jane%EF%BC%A0x.org", "[EMAIL]"),
        ("1%2E2%2E3%2E4", "1.2.3.0/24"),
        ("%5B2001%3Adb8%3A%3A1%5D", "%5B2001:db8::/48%5D"),
        ("4111%201111%201111%201111", "[CARD]"),
        ("pan=4111%2D1111%2D1111%2D1111", "pan=[CARD]"),
        ("4111+1111+1111+1111", "[CARD]"),
        ("?phone=%2B14155552671", "?phone=[PHONE]"),
        ("00%3A1b%3A44%3A11%3A3a%3Ab7", "[MAC]"),
        ("95% of 100%", "95% of 100%"),
        ("%", "%"),
        ("%4", "%4"),
    ] {
        assert_eq!(text(value), redacted, "{value}");
    }
    assert_eq!(strict(r#"{"a":"jane\u002540x.org"}"#), r#"{"a":"[EMAIL]"}"#);
}

#[test]
fn what_stands_beside_hides_nothing() {
    for (value, redacted) in [
        ("号4111111111111111号", "号[CARD]号"),
        ("客户端1.2.3.4连接", "客户端1.2.3.0/24连接"),
        ("1.2.3.4…", "1.2.3.0/24…"),
        ("1.2.3.4/5.6.7.8", "1.2.3.0/24/5.6.7.0/24"),
        ("ip1.2.3.4", "ip1.2.3.0/24"),
        ("udp6:2001:db8::1", "udp6:2001:db8::/48"),
        ("PAN4111111111111111=2612", "PAN[CARD]=2612"),
        ("%B4111111111111111^DOE/J", "%B[CARD]^DOE/J"),
        ("4111111111111111-", "[CARD]-"),
        ("4111111111111111.0", "[CARD]"),
        ("12-4111-1111-1111-1111", "12-[CARD]"),
        ("4111-1111-1111-1111-5105-1051-0510-5100", "[CARD]-[CARD]"),
        ("4111.1111.1111.1111", "[CARD]"),
        ("4111_1111_1111_1111", "[CARD]"),
        ("4111 - 1111 - 1111 - 1111", "[CARD]"),
        ("536-90-4399-", "[SSN]-"),
        ("SSN536904399", "SSN[SSN]"),
        ("ssn 536_90_4399", "ssn [SSN]"),
        ("mac:00:1b:44:11:3a:b7", "mac:[MAC]"),
        ("dev-00:1b:44:11:3a:b7", "dev-[MAC]"),
        ("sensor-00-1b-44-11-3a-b7", "sensor-[MAC]"),
        ("00:1b:44:11:3a:b7-00:1b:44:11:3a:b8", "[MAC]-[MAC]"),
        ("(+49) 171 1234567", "([PHONE]"),
        ("+(49) 171 1234567", "[PHONE]"),
        ("+1 415 555 2671x5", "[PHONE]x5"),
        ("+14155552671-", "[PHONE]-"),
        ("+1_415_555_2671", "[PHONE]"),
        ("0049 171 1234567", "[PHONE]"),
        ("{jane}@x.org", "{[EMAIL]"),
        (
            "_eyJhbGciOiJIUzI1NiJ9.eyAic3ViIjoiMSJ9.c2lnbmF0dXJl",
            "_[JWT]",
        ),
    ] {
        assert_eq!(text(value), redacted, "{value}");
    }
}

#[test]
fn keys_speak_for_every_way_of_writing() {
    for (record, redacted) in [
        (r#"{"cc":4.111111111111111E15}"#, r#"{"cc":null}"#),
        (r#"{"ssn":5.36904399E8}"#, r#"{"ssn":null}"#),
        (r#"{"ssn":-536904399}"#, r#"{"ssn":null}"#),
        (r#"{"phone":4.91711234567E11}"#, r#"{"phone":null}"#),
        (r#"{"ssn":"536 904 399"}"#, r#"{"ssn":"[SSN]"}"#),
        (r#"{"ssn":"53690-4399"}"#, r#"{"ssn":"[SSN]"}"#),
        (
            r#"{"cardNumber":"4111_1111_1111_1112"}"#,
            r#"{"cardNumber":"[CARD]"}"#,
        ),
        (r#"{"cell":"0171 1234567"}"#, r#"{"cell":"[PHONE]"}"#),
        (
            r#"{"phone":"0171 1234567 0171 7654321"}"#,
            r#"{"phone":"[PHONE] [PHONE]"}"#,
        ),
        (r#"{"mac":"00 1b 44 11 3a b7"}"#, r#"{"mac":"[MAC]"}"#),
        (r#"{"mac":"0x001b44113ab7"}"#, r#"{"mac":"[MAC]"}"#),
        (
            r#"{"firmware":{"server_ip":"1.2.3.4"}}"#,
            r#"{"firmware":{"server_ip":"1.2.3.0/24"}}"#,
        ),
        (
            r#"{"user":{"address":{"line1":"1 Main St","city":"X"}}}"#,
            r#"{"user":{"address":{"line1":"[ADDRESS]","city":"X"}}}"#,
        ),
        (
            r#"{"latitude":{"value":52.520008}}"#,
            r#"{"latitude":{"value":52.52}}"#,
        ),
        (
            r#"{"location":[13.404954,52.520008]}"#,
            r#"{"location":[13.40,52.52]}"#,
        ),
        (
            r#"{"gps":"52.520008,13.404954,512.55"}"#,
            r#"{"gps":"52.52,13.40,512.55"}"#,
        ),
        (
            r#"{"coordinates":{"x":13.404954,"y":52.520008}}"#,
            r#"{"coordinates":{"x":13.40,"y":52.52}}"#,
        ),
        (r#"{"vehicle_lat":52.520008}"#, r#"{"vehicle_lat":52.52}"#),
        (r#"{"latitude_deg":52.520008}"#, r#"{"latitude_deg":52.52}"#),
        (
            r#"{"birthdate_utc":"1980-05-17"}"#,
            r#"{"birthdate_utc":"1980"}"#,
        ),
        (
            r#"{"aws":{"secret":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}}"#,
            r#"{"aws":{"secret":"[AWS_KEY]"}}"#,
        ),
    ] {
        assert_eq!(strict(record), redacted, "{record}");
    }
}

#[test]
fn telemetry_stays() {
    for record in [
        r#"{"hash":-4111111111111111,"x":0.536904399,"y":[1e5,-0,1E-7]}"#,
        r#"{"id":"550e8400-e29b-41d4-a716-446655440000","serial":"SN-2026-00412345"}"#,
        r#"{"position":[0.123456,1.234567,2.345678],"c02_level":917}"#,
        r#"{"fingerprint":"00:1b:44:11:3a:b7:00:1b:44:11:3a:b7","cells":"0010 0200 3000 4000"}"#,
        r#"{"level":"50%25","read_lat":0.12345,"v":"v1.2.3.4"}"#,
    ] {
        assert_eq!(strict(record), record);
    }
}

#[test]
fn json_inside_of_texts_is_found_wherever_it_stands() {
    for (value, redacted) in [
        (
            r#"user: {"first_name":"Jane","ssn":536904399} done"#,
            r#"user: {"first_name":"[NAME]","ssn":null} done"#,
        ),
        (
            r#"{"first_name":"Jane"} {"last_name":"Doe"}"#,
            r#"{"first_name":"[NAME]"} {"last_name":"[NAME]"}"#,
        ),
        (
            "\u{feff}{\"first_name\":\"Jane\"}",
            "\u{feff}{\"first_name\":\"[NAME]\"}",
        ),
        (
            r#"{"a":1,"user":{"name":"Jane","x":"cut o"#,
            r#"{"a":1,"user":{"name":"[NAME]","x":"cut o"#,
        ),
        (r#"x {"first_name":"Ja"#, r#"x {"first_name":"[NAME]"#),
        (
            r#"body="{\"first_name\":\"Jane\"}" ip=1.2.3.4"#,
            r#"body="{\"first_name\":\"[NAME]\"}" ip=1.2.3.0/24"#,
        ),
        (
            r#"a {"b":"c {\"last_name\":\"Doe\"} d"} 536-90-4399"#,
            r#"a {"b":"c {\"last_name\":\"[NAME]\"} d"} [SSN]"#,
        ),
        ("[[4111 1111 1111 1111]]", "[[[CARD]]]"),
        (r#"["x", 4111 1111 1111 1111]"#, r#"["x", [CARD]]"#),
        ("[x] ssn 536904399", "[x] ssn [SSN]"),
    ] {
        assert_eq!(text(value), redacted, "{value}");
    }
    let mut engine = Engine::new(Arc::new(Policy::strict()));
    let mut out = Vec::new();
    let key = b"\xef\xbb\xbf{\"first_name\":\"Jane\"}\xff";
    assert_eq!(engine.process_key(key, &mut out), ScanVerdict::Redacted);
    assert_eq!(out, b"\xef\xbb\xbf{\"first_name\":\"[NAME]\"}\xff");
}

#[test]
fn work_is_linear_in_records_made_against_it() {
    // Each of these would take minutes if any reading, look back or second look were quadratic.
    let mut engine = Engine::new(Arc::new(Policy::strict()));
    let units = [
        "%",
        "%25",
        "%20a@b.org",
        "\\n",
        "\\x41",
        "\\ud83d",
        "\u{1b}[",
        "\u{1b}[32m1.1.1.1",
        "[32m",
        "^[[",
        "[[",
        "from 1.1.1.1 to ",
        "Chrome/1.1.1.1 ",
        "A/1.1.1.1 ",
        "version ",
        "4111111111111111 ",
        "= ",
        "key=",
        "536-90-4399%",
        r#"{\"}[ "#,
        r#"{\"} {""#,
        r#"[{\"a\":""#,
        "::ffff:1.1.1.1:",
        "POINT(1.234 ",
        "nginx:1.1.1.1/",
        "203.0.113.0/24x",
    ];
    for unit in units {
        let text = unit.repeat(60_000 / unit.len());
        for key in ["msg", "phone"] {
            let record = serde_json::json!({ key: text, "key": text }).to_string();
            let _verdict = engine.process(record.as_bytes(), &mut Vec::new());
            let _verdict = engine.process_key_beside(text.as_bytes(), &mut Vec::new());
            let _verdict = engine.process_key(text.as_bytes(), &mut Vec::new());
        }
    }
    for (open, close) in [
        (r#"{"value":"#, r#","key":"ssn","type":"lat"}"#),
        (r#"[{"value":["#, r#"],"name":"phone"}]"#),
    ] {
        let depth = 60;
        let inner = format!("[{}1]", "1,".repeat(200_000));
        let record = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
        engine.scanned = 0;
        let _verdict = engine.process(record.as_bytes(), &mut Vec::new());
        assert!(engine.scanned <= 20 * record.len(), "{}", engine.scanned);
    }
}
