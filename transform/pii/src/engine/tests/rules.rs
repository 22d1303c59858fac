use super::leaks::at_depth;
use super::*;

#[test]
fn rules_by_path_key_and_class_act() {
    let mut engine = with(
        r#"
        key = "a"
        [[rule]]
        path = "$.secret"
        action = "drop-field"
        [[rule]]
        path = "$.users[*].nick"
        action = "mask"
        [[rule]]
        path = "$.gone"
        action = "null"
        [[rule]]
        path = "$.owner.ip"
        class = "ip"
        action = "drop-field"
        [[rule]]
        key = "badge number"
        action = "label"
        label = "[BADGE]"
        [[rule]]
        class = "email"
        action = "token"
        [[rule]]
        class = "card"
        action = "partial"
        keep_last = 4
        [[allow]]
        class = "ip"
        path = "$.gateway"
        [[allow]]
        class = "ip"
        value = "192.0.2.1"
        [[allow]]
        class = ["ip", "mac"]
        prefix = "198.51.100."
        "#,
    );
    for (record, expected) in [
        (r#"{"secret":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":2, "secret":{"x":["a@b.org"]}}"#, r#"{"a":2}"#),
        (r#"{"secret":1}"#, r#"{}"#),
        (r#"{"secret":1,"secret":2,"a":3,"secret":4}"#, r#"{"a":3}"#),
        (
            r#"{"users":[{"nick":"Jo"},{"nick":5},{"nick":true},{"nick":null}]}"#,
            r#"{"users":[{"nick":"**"},{"nick":null},{"nick":null},{"nick":null}]}"#,
        ),
        (r#"{"gone":"x\n","b":1}"#, r#"{"gone":null,"b":1}"#),
        (
            r#"{"gone":{"x":"y","z":[1]}}"#,
            r#"{"gone":{"x":null,"z":[null]}}"#,
        ),
        (
            r#"{"owner":{"a":1,"ip":"10.0.0.1"},"ip":"10.0.0.1"}"#,
            r#"{"owner":{"a":1},"ip":"10.0.0.0/24"}"#,
        ),
        (
            r#"{"badgeNumber":"77","p":[{"badge_number":7}]}"#,
            r#"{"badgeNumber":"[BADGE]","p":[{"badge_number":null}]}"#,
        ),
        (
            r#"{"c":"4111 1111 1111 1111"}"#,
            r#"{"c":"**** **** **** 1111"}"#,
        ),
        (
            r#"{"gateway":{"ip":"10.0.0.1","mail":"4111111111111111"}}"#,
            r#"{"gateway":{"ip":"10.0.0.1","mail":"************1111"}}"#,
        ),
        (
            r#"{"x":"192.0.2.1 192.0.2.2 198.51.100.7"}"#,
            r#"{"x":"192.0.2.1 192.0.2.0/24 198.51.100.7"}"#,
        ),
        (
            r#"{"s":"{\"secret\":1,\"a\":[1]}"}"#,
            r#"{"s":"{\"secret\":1,\"a\":[1]}"}"#,
        ),
    ] {
        assert_eq!(passed(&mut engine, record), expected, "{record}");
        assert_eq!(passed(&mut engine, expected), expected, "again: {expected}");
    }
    let token = passed(&mut engine, r#"{"m":"A@b.org"}"#);
    assert!(token.starts_with(r#"{"m":"tok_email_a_"#), "{token}");
    assert_eq!(token, passed(&mut engine, r#"{"m":"a@B.ORG"}"#));
    assert_eq!(passed(&mut engine, &token), token);
}

#[test]
fn paths_continue_inside_strings_and_removed_members_too() {
    let mut engine = with("[[rule]]\npath = \"$.s.x\"\naction = \"drop-field\"");
    assert_eq!(
        passed(&mut engine, r#"{"s":"{\"x\":1,\"y\":2}"}"#),
        r#"{"s":"{\"y\":2}"}"#
    );
    assert_eq!(
        passed(&mut engine, r#"{"s":"{\"y\":2,\"x\":1}"}"#),
        r#"{"s":"{\"y\":2}"}"#
    );
}

#[test]
fn records_are_dropped_by_a_named_rule() {
    let mut engine = with(
        "[[rule]]\nname = \"minors\"\npath = \"$.minor\"\naction = \"drop-record\"\n\
         [[rule]]\nname = \"no-ssn\"\nclass = \"ssn\"\naction = \"drop-record\"",
    );
    for (record, rule) in [
        (r#"{"a":1,"minor":true}"#, "minors"),
        (r#"{"a":"536-90-4399"}"#, "no-ssn"),
    ] {
        let mut out = Vec::new();
        let ScanVerdict::Dropped { rule: dropped } = engine.process(record.as_bytes(), &mut out)
        else {
            panic!("{record} was not dropped");
        };
        assert_eq!(engine.policy.rule_name(dropped), rule);
        assert!(out.is_empty());
    }
}

#[test]
fn keeping_reports_and_changes_nothing() {
    let mut engine = with("[[rule]]\nclass = \"email\"\naction = \"keep\"");
    let mut out = Vec::new();
    assert_eq!(
        engine.process(br#"{"a":"a@b.org"}"#, &mut out),
        ScanVerdict::Clean
    );
    assert_eq!(engine.findings().len(), 1);
    assert_eq!(
        passed(&mut engine, r#"{"a":"a@b.org 10.1.2.3"}"#),
        r#"{"a":"a@b.org 10.1.2.0/24"}"#
    );
    assert_eq!(engine.findings().len(), 2);
}

#[test]
fn a_path_rule_that_shows_a_part_never_shows_what_must_be_redacted() {
    let mut engine = with("[[rule]]\npath = \"$.v\"\naction = \"partial\"\nkeep_last = 20");
    let record = r#"{"v":"a long enough text, so that its end stays: 536-90-4399"}"#;
    assert_eq!(passed(&mut engine, record), r#"{"v":"[SSN]"}"#);
}

#[test]
fn a_string_that_is_cut_off_is_removed_to_its_end() {
    let mut engine = with("[[rule]]\nclass = \"mac\"\naction = \"drop-field\"");
    for (text, expected) in [
        (r#"["00:1b:44:11:3a:b7\"]"#, "[null]"),
        (r#"["00:1b:44:11:3a:b7\"] x"#, "[null] x"),
        (r#"["00:1b:44:11:3a:b7\","#, "[null"),
        ("[1,\"00:1b:44:11:3a:b7\u{200b}", "[1,null"),
        (r#"{"a":1,"b":"00:1b:44:11:3a:b7"#, r#"{"a":1"#),
        (r#""{\"a\":00:1b:44:11:3a:b7 号"#, "null"),
    ] {
        for depth in 0..2 {
            let (record, expected) = (at_depth(text, depth), at_depth(expected, depth));
            let out = passed(&mut engine, &record);
            assert!(!out.contains("1b:44"), "{record}: {out}");
            if !text.starts_with('"') {
                assert_eq!(out, expected);
            }
            assert!(
                serde_json::from_str::<serde_json::Value>(&out).is_ok(),
                "{out}"
            );
        }
    }
}

#[test]
fn members_are_removed_wherever_they_stand() {
    let mut engine = with("[[rule]]\nclass = \"mac\"\naction = \"drop-field\"");
    let mac = "00:1b:44:11:3a:b7";
    for (record, expected) in [
        (
            r#"{"a":"M","b":"[\"M\",]","c":1}"#,
            r#"{"b":"[null,]","c":1}"#,
        ),
        (r#"{"a":"M","b":"[\"M\"]","c":"M"}"#, r#"{"b":"[null]"}"#),
        (r#"{"a":1,"b":"M","c":["M",2]}"#, r#"{"a":1,"c":[null,2]}"#),
        (r#"{"a":{"x":"M"},"b":"M"}"#, r#"{"a":{}}"#),
        (
            r#"{"a":"{\"x\":\"M\",\"y\":\"M\",\"z\":0}"}"#,
            r#"{"a":"{\"z\":0}"}"#,
        ),
        (r#"["M"]"#, "[null]"),
        (r#""M""#, "null"),
        (r#"{"a":"\"M\"","b":"M"}"#, "{}"),
    ] {
        let record = record.replace('M', mac);
        assert_eq!(passed(&mut engine, &record), expected, "{record}");
    }
}

/// Rules for the classes that every policy must redact, and one for e-mail addresses beneath a path.
const ONLY_BENEATH_A_PATH: &str = "base = \"none\"\n\
    [[rule]]\nclass = [\"card\", \"ssn\", \"jwt\", \"aws-key\"]\naction = \"label\"\n\
    [[rule]]\nclass = \"email\"\npath = \"$.contacts\"\naction = \"label\"";

#[test]
fn a_key_is_judged_by_the_rules_of_each_place_where_it_stands() {
    let mut engine = with(ONLY_BENEATH_A_PATH);
    for (record, expected) in [
        (r#"{"jane@x.org":1}"#, r#"{"jane@x.org":1}"#),
        (
            r#"{"contacts":{"jane@x.org":1},"jane@x.org":2}"#,
            r#"{"contacts":{"[EMAIL]":1},"jane@x.org":2}"#,
        ),
    ] {
        assert_eq!(passed(&mut engine, record), expected, "{record}");
    }
}

#[test]
fn a_key_that_the_engine_made_is_looked_at_when_a_producer_writes_it() {
    let mut engine = engine();
    let made = passed(&mut engine, r#"{"536-90-4399 536904398":1}"#);
    assert_eq!(made, r#"{"[SSN] 536904398":1}"#);
    assert_eq!(passed(&mut engine, &made), redacted(&made));
    assert_ne!(
        redacted(&made),
        made,
        "the label says what stands behind it"
    );
}
