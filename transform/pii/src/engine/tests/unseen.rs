//! Invisible characters, inside of values and between them.

use super::leaks::{VALUES, at_depth};
use super::*;

/// Invisible characters, which may stand inside of a value or between two things.
const UNSEEN: [char; 9] = [
    '\u{200b}',
    '\u{200c}',
    '\u{200d}',
    '\u{200e}',
    '\u{ad}',
    '\u{feff}',
    '\u{2060}',
    '\u{fe0f}',
    '\u{e0020}',
];

/// `text` at some depth, with `unseen` as it is and as an escape.
fn both_writings(text: &str, unseen: char, depth: usize) -> [String; 2] {
    let raw = serde_json::json!({ "msg": text }).to_string();
    let units = &mut [0; 2];
    let escape: String = unseen
        .encode_utf16(units)
        .iter()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect();
    let escaped = raw.replace(unseen, &escape);
    [raw, escaped].map(|text| match depth {
        0 => text,
        depth => at_depth(&text, depth - 1),
    })
}

#[test]
fn a_nul_separates_values_from_what_stands_beside() {
    for (value, redacted) in VALUES {
        for (before, after) in [
            ("REMOTE=#", ""),
            ("REMOTE=", "#PORT=22"),
            ("x#", "#x"),
            ("7#", "#7"),
            ("7##", "##7"),
            ("_#", "#-x"),
            ("198.51.100.24#", "#536-90-4399"),
            ("", "#first_name=Jane"),
        ] {
            let text = |value: &str| format!("{before}{value}{after}").replace('#', "\0");
            let expected = text(redacted)
                .replace("198.51.100.24", "198.51.100.0/24")
                .replace("536-90-4399", "[SSN]")
                .replace("Jane", "[NAME]");
            for depth in 0..3 {
                let [record, _] = both_writings(&text(value), '\0', depth);
                let [expected, _] = both_writings(&expected, '\0', depth);
                assert_eq!(super::redacted(&record), expected, "{record}");
            }
        }
    }
    for (text, redacted) in [
        (
            "203.0.113.77#198.51.100.23",
            "203.0.113.0/24#198.51.100.0/24",
        ),
        ("536-22-8726#536-22-8727", "[SSN]#[SSN]"),
        (
            "MAIL=x@y.org#first_name=Jane#ssn=536228726",
            "MAIL=[EMAIL]#first_name=[NAME]#ssn=[SSN]",
        ),
        (
            "email=jane@example.org#phone=4155550123#",
            "email=[EMAIL]#phone=[PHONE]#",
        ),
        ("HOME=x#first_name=Jane", "HOME=x#first_name=[NAME]"),
        // As UTF-16 writes an address, in either order of bytes.
        ("j#a#@#x#.#o#r#g#", "[EMAIL]#"),
        ("#j#a#@#x#.#o#r#g", "#[EMAIL]"),
    ] {
        let record = at_depth(&text.replace('#', "\0"), 0);
        let expected = at_depth(&redacted.replace('#', "\0"), 0);
        assert_eq!(super::redacted(&record), expected);
    }
    // A key in UTF-16 says what it says.
    assert_eq!(
        redacted(r#"{"s\u0000s\u0000n\u0000":"536228726"}"#),
        r#"{"s\u0000s\u0000n\u0000":"[SSN]"}"#
    );
}

#[test]
fn an_unseen_character_neither_glues_nor_splits_a_value() {
    for unseen in UNSEEN {
        let with = |text: &str| text.replace('#', unseen.encode_utf8(&mut [0; 4]));
        for (value, _) in VALUES {
            for (before, after) in [
                ("REMOTE=#", "#PORT=22"),
                ("x#", "#x"),
                ("7#", "#7"),
                ("", "##7"),
                ("_#", "#-x"),
                ("LIKE '%", "#x%'"),
                ("a%3Dx#", "#x"),
                ("198.51.100.24#", "#536-90-4399"),
            ] {
                let text = with(&format!("{before}{value}{after}"));
                for depth in 0..3 {
                    for record in both_writings(&text, unseen, depth) {
                        let out = super::redacted(&record);
                        for value in [value, "198.51.100.24", "536-90-4399"] {
                            assert!(!out.contains(value), "{record}: {out}");
                        }
                    }
                }
            }
        }
        for (text, secrets) in [
            ("HOME=x#first_name=Jane", &["Jane"][..]),
            ("phone=4155550123#home=x", &["4155550123"]),
            ("mac 3C:22:FB:12:34:56#up", &["3C:22:FB:12:34:56"]),
            (
                "MAIL=x@y.org#first_name=Jane#ssn=536228726",
                &["x@y", "Jane", "536228726"],
            ),
            (
                "email=jane@example.org#phone=4155550123",
                &["jane@", "4155550123"],
            ),
            // Inside of values.
            ("5105#1051#0510#5100 ok", &["5105", "5100"]),
            ("le#e@ma#il.exam#ple ok", &["ma", "exam", "le@"]),
            ("219-#09-#9999 ok", &["219", "9999"]),
            ("198#.51.1#00.23 ok", &["23"]),
            // Inside of values and beside them.
            ("PAN#5105#1051#0510#5100#EXP", &["5105", "5100"]),
            ("x#219-#09-#9999#x", &["219", "9999"]),
            ("198#.51.1#00.23#PORT", &["23"]),
        ] {
            for depth in 0..3 {
                for record in both_writings(&with(text), unseen, depth) {
                    let out = super::redacted(&record);
                    for secret in secrets {
                        assert!(!out.contains(secret), "{record}: {out}");
                    }
                }
            }
        }
    }
    // Each is reported once, in the order of the text.
    let mut engine = engine();
    let record = "{\"m\":\"a@b.org 536-90-4399\u{200b}x 219-\u{200b}09-9999\"}";
    let out = passed(&mut engine, record);
    assert_eq!(out, "{\"m\":\"[EMAIL] [SSN]\u{200b}x [SSN]\"}");
    let offsets: Vec<_> = engine.findings().iter().map(|found| found.offset).collect();
    assert_eq!(offsets, [0, 8, 24]);
}

#[test]
fn an_unseen_character_beside_a_prefix_does_not_double_it() {
    let mut strict = engine();
    for unseen in UNSEEN.into_iter().chain(['\0', '\n']) {
        for (text, expected) in [
            ("203.0.113.77/24#x", "203.0.113.0/24#x"),
            ("203.0.113.77/24#7", "203.0.113.0/24#7"),
            ("x#203.0.113.77/24#x", "x#203.0.113.0/24#x"),
            ("203.0.113.0/24#x", "203.0.113.0/24#x"),
            ("203.0.113.0/24#7", "203.0.113.0/24#7"),
            ("x#203.0.113.0/24#", "x#203.0.113.0/24#"),
            ("203.0.113.0/24#/24", "203.0.113.0/24#/24"),
            ("::ffff:203.0.113.77#x", "::ffff:203.0.113.0/120#x"),
            ("::ffff:203.0.113.77#7", "::ffff:203.0.113.0/120#7"),
            ("x#::ffff:203.0.113.77/128#x", "x#::ffff:203.0.113.0/120#x"),
            ("::ffff:203.0.113.0/120#x", "::ffff:203.0.113.0/120#x"),
            ("2002:cb00:714d::1#x", "2002:cb00:7100::/40#x"),
            ("%20::ffff:203.0.113.77#x", "%20::ffff:203.0.113.0/120#x"),
            ("2001:db8:7::/48#x", "2001:db8:7::/48#x"),
            ("2001:db8:7::/48#7", "2001:db8:7::/48#7"),
            ("x#2001:db8:7:8::9/64#x", "x#2001:db8:7::/48#x"),
        ] {
            let with = |text: &str| text.replace('#', unseen.encode_utf8(&mut [0; 4]));
            for depth in 0..3 {
                let records = both_writings(&with(text), unseen, depth);
                let expected = both_writings(&with(expected), unseen, depth);
                for (record, expected) in records.into_iter().zip(expected) {
                    // A control character has to be escaped.
                    if serde_json::from_str::<serde_json::Value>(&record).is_ok() {
                        assert_eq!(passed(&mut strict, &record), expected, "{record}");
                    }
                }
            }
        }
    }
    // Also with networks of other lengths.
    let mut engine =
        with("[[rule]]\nclass = \"ip\"\naction = \"prefix\"\nprefix_v4 = 20\nprefix_v6 = 64\n");
    for (text, expected) in [
        ("203.0.113.77\u{200b}x", "203.0.112.0/20\u{200b}x"),
        ("203.0.113.77/24\u{200b}x", "203.0.112.0/20\u{200b}x"),
        ("2001:db8:7:8::9\u{200b}x", "2001:db8:7:8::/64\u{200b}x"),
        (
            "::ffff:203.0.113.77\u{200b}x",
            "::ffff:203.0.112.0/116\u{200b}x",
        ),
    ] {
        let record = serde_json::json!({ "msg": text, "536-90-4399": 1 }).to_string();
        let expected = serde_json::json!({ "msg": expected, "[SSN]": 1 }).to_string();
        let out: serde_json::Value = serde_json::from_str(&passed(&mut engine, &record)).unwrap();
        assert_eq!(out.to_string(), expected, "{record}");
    }
    for (text, expected) in [
        ("10.1.2.0/10.1.2.4", "10.1.2.0/24/10.1.2.0/24"),
        ("10.1.2.3/24h", "10.1.2.0/24/24h"),
        (
            "http://203.0.113.8/29c1f/x",
            "http://203.0.113.0/24/29c1f/x",
        ),
        ("203.0.113.8/3000", "203.0.113.0/24/3000"),
        ("203.0.113.128/25x", "203.0.113.0/24/25x"),
    ] {
        assert_eq!(redacted(&at_depth(text, 0)), at_depth(expected, 0));
    }
}
