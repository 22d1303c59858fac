//! What stands beside or above a value says what it is.

use super::*;

#[test]
fn a_sibling_says_what_a_value_is_in_either_order() {
    for (record, expected) in [
        (
            r#"{"type":"ssn","value":"536904399"}"#,
            r#"{"type":"ssn","value":"[SSN]"}"#,
        ),
        (
            r#"{"value":536904399,"type":"ssn"}"#,
            r#"{"value":null,"type":"ssn"}"#,
        ),
        (
            r#"{"name":"first_name","value":"Jane"}"#,
            r#"{"name":"first_name","value":"[NAME]"}"#,
        ),
        (
            r#"{"value":"Jane","t":1,"key":"firstName"}"#,
            r#"{"value":"[NAME]","t":1,"key":"firstName"}"#,
        ),
        (
            r#"{"key":"email","data":"root@host"}"#,
            r#"{"key":"email","data":"[EMAIL]"}"#,
        ),
        (
            r#"{"name":"ssn","type":"string","value":"536904399"}"#,
            r#"{"name":"ssn","type":"string","value":"[SSN]"}"#,
        ),
        (
            r#"{"field":"lat","value":52.520008}"#,
            r#"{"field":"lat","value":52.52}"#,
        ),
        (
            r#"{"label":"ssn","value":{"n":[536904399]}}"#,
            r#"{"label":"ssn","value":{"n":[null]}}"#,
        ),
        (
            r#"[{"name":"ssn","value":"536904399"},{"name":"temp","value":"536904399"}]"#,
            r#"[{"name":"ssn","value":"[SSN]"},{"name":"temp","value":"536904399"}]"#,
        ),
        (
            r#"{"m":"{\"type\":\"ssn\",\"value\":\"536904399\"}"}"#,
            r#"{"m":"{\"type\":\"ssn\",\"value\":\"[SSN]\"}"}"#,
        ),
        (
            r#"{"type":"ssn","count":536904399}"#,
            r#"{"type":"ssn","count":536904399}"#,
        ),
        (
            r#"{"type":"pump","value":536904399}"#,
            r#"{"type":"pump","value":536904399}"#,
        ),
        (
            r#"{"type":["ssn"],"value":536904399}"#,
            r#"{"type":["ssn"],"value":536904399}"#,
        ),
    ] {
        assert_eq!(redacted(record), expected, "{record}");
        assert_eq!(redacted(expected), expected);
    }
}

#[test]
fn a_value_that_a_later_sibling_explains_can_be_removed() {
    let mut engine = with("[[rule]]\nclass = \"ssn\"\naction = \"drop-field\"");
    assert_eq!(
        passed(&mut engine, r#"{"value":"536904399","type":"ssn"}"#),
        r#"{"value":null,"type":"ssn"}"#
    );
}

#[test]
fn literals_stay_whatever_stands_beside_them() {
    for record in [
        r#"{"value":null,"key":"first_name"}"#,
        r#"{"value":true,"name":"dob"}"#,
        r#"{"value":false,"type":"ssn"}"#,
        r#"{"key":"first_name","value":null}"#,
        r#"{"key":"first_name","value":true}"#,
    ] {
        assert_eq!(redacted(record), record);
    }
    for record in [
        r#"{"value":42,"key":"first_name"}"#,
        r#"{"key":"first_name","value":42}"#,
    ] {
        assert_eq!(redacted(record), record.replace("42", "null"));
    }
}

#[test]
fn all_values_before_a_label_are_looked_at_again() {
    let mut engine = engine();
    assert_eq!(
        passed(
            &mut engine,
            r#"{"value":"536904399","data":"","v":536904398,"type":"ssn"}"#
        ),
        r#"{"value":"[SSN]","data":"","v":null,"type":"ssn"}"#
    );
    assert_eq!(
        redacted(r#"{"value":"536904399 root@host","key":"ssn","type":"email"}"#),
        r#"{"value":"[SSN] [EMAIL]","key":"ssn","type":"email"}"#
    );
}

#[test]
fn labels_are_read_through_their_escapes() {
    for (written, value) in [
        (r#"\u0073sn"#, "536904399"),
        (
            r#"\u0053\u006f\u0063\u0069\u0061\u006c\u0053\u0065\u0063\u0075\u0072\u0069\u0074\u0079"#,
            "536904399",
        ),
        ("ｓｓｎ", "536904399"),
    ] {
        assert_eq!(
            redacted(&format!(r#"{{"type":"{written}","value":"{value}"}}"#)),
            format!(r#"{{"type":"{written}","value":"[SSN]"}}"#)
        );
        assert_eq!(
            redacted(&format!(r#"{{"value":"{value}","type":"{written}"}}"#)),
            format!(r#"{{"value":"[SSN]","type":"{written}"}}"#)
        );
    }
}

/// Labels that each say something else.
const LABELS: [&str; 9] = [
    "lat", "ssn", "phone", "email", "card", "ip", "mac", "location", "gps",
];

#[test]
fn values_are_looked_at_again_only_for_what_is_new() {
    let mut engine = engine();
    let value = "1 ".repeat(1000);
    for keys in [&["lat"][..], &LABELS] {
        let labels: String = (0..500)
            .map(|index| format!(r#","key_{index}":"{}""#, keys[index % keys.len()]))
            .collect();
        let record = format!(r#"{{"value":"{value}"{labels}}}"#);
        engine.scanned = 0;
        let _verdict = engine.process(record.as_bytes(), &mut Vec::new());
        assert!(
            engine.scanned <= (2 + keys.len()) * record.len(),
            "{} bytes of {}",
            engine.scanned,
            record.len()
        );
    }
}

#[test]
fn values_in_nested_json_are_not_looked_at_again_for_each_level() {
    let mut engine = engine();
    let labels: String = LABELS
        .iter()
        .enumerate()
        .map(|(index, label)| format!(r#","key_{index}":"{label}""#))
        .collect();
    let mut record = format!(r#"{{"value":"{}"{labels}}}"#, "word ".repeat(100));
    for _ in 0..4 {
        record = format!(
            r#"{{"value":{}{labels}}}"#,
            serde_json::Value::from(record.as_str())
        );
    }
    engine.scanned = 0;
    let verdict = engine.process(record.as_bytes(), &mut Vec::new());
    assert_eq!(verdict, ScanVerdict::Clean);
    // What lies in the last of five levels is counted by each of them.
    assert!(
        engine.scanned <= 5 * (2 + LABELS.len()) * 2 * record.len(),
        "{} bytes of {}",
        engine.scanned,
        record.len()
    );
}

#[test]
fn what_lies_below_a_sensitive_key_inherits_it() {
    for (record, expected) in [
        (r#"{"ssn":{"id":536904399}}"#, r#"{"ssn":{"id":null}}"#),
        (
            r#"{"ssn":{"a":[{"b":"536904399"}]}}"#,
            r#"{"ssn":{"a":[{"b":"[SSN]"}]}}"#,
        ),
        (
            r#"{"card":{"id":4111111111111112}}"#,
            r#"{"card":{"id":null}}"#,
        ),
        (
            r#"{"payment":{"reference_id":"4111111111111111"}}"#,
            r#"{"payment":{"reference_id":"[CARD]"}}"#,
        ),
        (
            r#"{"credit_card":{"serial":4111111111111111}}"#,
            r#"{"credit_card":{"serial":null}}"#,
        ),
        (
            r#"{"card":{"hash":"4111111111111111","version":4111111111111111}}"#,
            r#"{"card":{"hash":"[CARD]","version":null}}"#,
        ),
        (
            r#"{"card":{"serial":4111111111111112}}"#,
            r#"{"card":{"serial":4111111111111112}}"#,
        ),
        (
            r#"{"ssn":{"verified_ts":1767224890154}}"#,
            r#"{"ssn":{"verified_ts":1767224890154}}"#,
        ),
        (
            r#"{"phone":{"id":14155552}}"#,
            r#"{"phone":{"id":14155552}}"#,
        ),
    ] {
        assert_eq!(redacted(record), expected, "{record}");
    }
}

#[test]
fn labels_of_the_engine_are_no_evidence() {
    for (record, expected) in [
        (
            r#"{"v":"536-90-4399 123456789"}"#,
            r#"{"v":"[SSN] 123456789"}"#,
        ),
        (
            r#"{"v":"+14155552671, 4155552671"}"#,
            r#"{"v":"[PHONE], 4155552671"}"#,
        ),
        (r#"{"a@b.org":"root@host"}"#, r#"{"[EMAIL]":"root@host"}"#),
        (r#"{"536-90-4399":536904399}"#, r#"{"[SSN]":536904399}"#),
        (
            r#"{"name":"536-90-4399","value":"123456789","a@b.org":1}"#,
            r#"{"name":"[SSN]","value":"123456789","[EMAIL]":1}"#,
        ),
        (
            r#"{"key":"\"4111111111111111\"","value":4012888888881881}"#,
            r#"{"key":"\"[CARD]\"","value":4012888888881881}"#,
        ),
        (
            r#"{"key":"first_name=Jane","value":"a@b"}"#,
            r#"{"key":"first_name=[NAME]","value":"a@b"}"#,
        ),
        (
            r#"{"name":"x 536-90-4399","value":"123456789","my 911-70-1234":911701234}"#,
            r#"{"name":"x [SSN]","value":"123456789","my [SSN]":911701234}"#,
        ),
        (
            r#"{"[SSN] version":"x 1.25.3.1 a@b.org","a@b.org":1}"#,
            r#"{"[SSN] version":"x 1.25.3.1 [EMAIL]","[EMAIL]":1}"#,
        ),
        (r#"{"v":"[ssn] 536904399"}"#, r#"{"v":"[ssn] [SSN]"}"#),
        (r#"{"v":"SSN 536904399"}"#, r#"{"v":"SSN [SSN]"}"#),
    ] {
        for thorough in [false, true] {
            let mut engine = engine();
            engine.thorough = thorough;
            assert_eq!(passed(&mut engine, record), expected, "{record}");
        }
    }
}

#[test]
fn labels_of_producers_are_evidence() {
    for (record, expected) in [
        (r#"{"v":"[SSN] 536904399"}"#, r#"{"v":"[SSN] [SSN]"}"#),
        (
            r#"{"v":"[PHONE] 030 12345678"}"#,
            r#"{"v":"[PHONE] [PHONE]"}"#,
        ),
        (r#"{"v":"[TEL] 030 12345678"}"#, r#"{"v":"[TEL] [PHONE]"}"#),
        (r#"{"v":"[FAX] 0171 1234567"}"#, r#"{"v":"[FAX] [PHONE]"}"#),
        (
            r#"{"v":"[MOBILE] 0171 1234567"}"#,
            r#"{"v":"[MOBILE] [PHONE]"}"#,
        ),
        (r#"{"v":"[SOCIAL] 536904399"}"#, r#"{"v":"[SOCIAL] [SSN]"}"#),
        (r#"{"v":"TEL] 030 12345678"}"#, r#"{"v":"TEL] [PHONE]"}"#),
        (
            r#"{"a@b.org":1,"v":"[SSN] 536904399"}"#,
            r#"{"[EMAIL]":1,"v":"[SSN] [SSN]"}"#,
        ),
        (r#"{"[SSN]":"536904399"}"#, r#"{"[SSN]":"[SSN]"}"#),
        (r#"{"[EMAIL]":"root@host"}"#, r#"{"[EMAIL]":"[EMAIL]"}"#),
        (
            r#"{"type":"[SSN]","value":"536904399"}"#,
            r#"{"type":"[SSN]","value":"[SSN]"}"#,
        ),
    ] {
        assert_eq!(redacted(record), expected, "{record}");
        assert_eq!(redacted(expected), expected);
    }
    // What keys said is remembered, but not who wrote them.
    let mut engine = engine();
    for _ in 0..2 {
        assert_eq!(
            passed(&mut engine, r#"{"a@b.org":"root@host"}"#),
            r#"{"[EMAIL]":"root@host"}"#
        );
        assert_eq!(
            passed(&mut engine, r#"{"[EMAIL]":"root@host"}"#),
            r#"{"[EMAIL]":"[EMAIL]"}"#
        );
    }
}

#[test]
fn names_in_pairs_are_evidence() {
    for (value, expected) in [
        (
            "level=info first_name=Jane last_name=\\\"van Doe\\\" lat=52.520008 lon=-13.404954 n=1.23456",
            "level=info first_name=[NAME] last_name=\\\"[NAME]\\\" lat=52.52 lon=-13.40 n=1.23456",
        ),
        ("seq=536904399 ssn=536904399", "seq=536904399 ssn=[SSN]"),
        ("email=root@host x=root@host", "email=[EMAIL] x=root@host"),
        (
            "/q?first_name=Jane&lat=52.520008",
            "/q?first_name=[NAME]&lat=52.52",
        ),
        (
            "/q?first%5Fname=Jane%20Ann&x=1",
            "/q?first%5Fname=[NAME] Ann&x=1",
        ),
        ("dob=1980-05-17 mac=001b44113ab7", "dob=1980 mac=[MAC]"),
        ("card_number=4111111111111112;x", "card_number=[CARD];x"),
        ("(username=jane)", "(username=[NAME])"),
        (
            "device_name=pump7 host=db1 a==b =c",
            "device_name=pump7 host=db1 a==b =c",
        ),
    ] {
        let record = format!(r#"{{"msg":"{value}"}}"#);
        let out = redacted(&record);
        if !value.contains('%') {
            assert_eq!(out, format!(r#"{{"msg":"{expected}"}}"#));
        }
        assert!(!out.contains("=Jane"), "{out}");
        assert_eq!(redacted(&out), out);
    }
}

#[test]
fn each_pair_is_scanned_for_itself() {
    assert_eq!(
        redacted(r#"{"m":"email=root@alpha email=root@beta email=c@d"}"#),
        r#"{"m":"email=[EMAIL] email=[EMAIL] email=[EMAIL]"}"#
    );
    for rescan in ["", "rescan = false\n"] {
        let mut engine = with(&format!(
            "{rescan}\n[[allow]]\nclass = \"email\"\nvalue = \"ok@acme.com\""
        ));
        assert_eq!(
            passed(
                &mut engine,
                r#"{"m":"from=ok@acme.com email=jane@intranet to=ok@acme.com email=a@b"}"#
            ),
            r#"{"m":"from=ok@acme.com email=[EMAIL] to=ok@acme.com email=[EMAIL]"}"#
        );
    }
}

#[test]
fn coordinates_are_coarse_in_every_form() {
    for (record, expected) in [
        (
            r#"{"lat_e7":525200080,"lonE7":-134049540}"#,
            r#"{"lat_e7":525200000,"lonE7":-134000000}"#,
        ),
        (
            r#"{"latitudeE7":"525200080"}"#,
            r#"{"latitudeE7":"525200000"}"#,
        ),
        (r#"{"lat_e7":525200000}"#, r#"{"lat_e7":525200000}"#),
        (
            r#"{"late7":525200080,"phase7":525200080}"#,
            r#"{"late7":525200000,"phase7":525200080}"#,
        ),
        (
            r#"{"at":"see geo:52.520008,13.404954;u=35"}"#,
            r#"{"at":"see geo:52.52,13.40;u=35"}"#,
        ),
        (r#"{"at":"geo:52.52,13.40"}"#, r#"{"at":"geo:52.52,13.40"}"#),
    ] {
        assert_eq!(redacted(record), expected, "{record}");
        assert_eq!(redacted(expected), expected);
    }
}
