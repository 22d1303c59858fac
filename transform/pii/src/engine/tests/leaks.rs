//! Values that once left: glued to escapes, hidden by decoding, or under evidence that stopped.

use super::*;

/// What is personal data wherever it stands, and what it becomes.
pub(super) const VALUES: [(&str, &str); 10] = [
    ("198.51.100.23", "198.51.100.0/24"),
    ("2001:db8:7:8::9", "2001:db8:7::/48"),
    ("5105105105105100", "[CARD]"),
    ("219-09-9999", "[SSN]"),
    ("lee@mail.example", "[EMAIL]"),
    ("+44 20 7946 0958", "[PHONE]"),
    ("00:50:56:ab:cd:ef", "[MAC]"),
    ("NO9386011117947", "[IBAN]"),
    ("ASIAIOSFODNN7EXAMPLE", "[AWS_KEY]"),
    ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "[JWT]"),
];

/// `text` as a value, and as one of JSON inside of JSON, to some depth.
pub(super) fn at_depth(text: &str, depth: usize) -> String {
    (0..=depth).fold(text.to_owned(), |inner, _| {
        serde_json::json!({ "msg": inner }).to_string()
    })
}

#[test]
fn no_letter_of_an_escape_glues_to_a_value() {
    let colours = ["\u{1b}[32m", "\u{1b}[m", "\u{1b}[1;38;5;208m", "\u{1b}[2K"];
    let written = [
        r"line\n",
        r"a\t",
        r"\r\n",
        r"\\n",
        r"\\\\t",
        r"\b",
        r"\f",
        r"\v",
        r"\a",
        r"\u000a",
        r"\u001b[31m",
        r"\x1b[0;33m",
        r"\x0a",
        r"\033[4m",
        r"\e[7m",
        "^[[36m",
        "#033[36m",
        "[36m",
    ];
    for before in colours.iter().chain(&written) {
        for (value, redacted) in VALUES {
            for after in ["", "\u{1b}[0m", r"\n", r"\u001b[0m", " end"] {
                for depth in 0..3 {
                    let record = at_depth(&format!("{before}{value}{after}"), depth);
                    let expected = at_depth(&format!("{before}{redacted}{after}"), depth);
                    assert_eq!(super::redacted(&record), expected, "{record}");
                }
            }
        }
    }
    // A colour inside of a value, as `grep` sets it.
    assert_eq!(
        redacted(r#"{"m":"219-\u001b[01;31m09\u001b[m-9999 ok"}"#),
        r#"{"m":"[SSN] ok"}"#
    );
}

#[test]
fn texts_are_scanned_as_written_and_as_decoded() {
    for (value, redacted) in VALUES {
        for (before, after) in [
            ("LIKE '%", "%'"),
            ("100%", ""),
            ("%25", "%"),
            ("%20", "%20"),
            ("a%3D", ""),
        ] {
            let record = at_depth(&format!("{before}{value}{after}"), 0);
            let out = super::redacted(&record);
            assert!(!out.contains(value), "{record}: {out}");
            // `%20` may be a space, or the start of the address.
            let ambiguous = value.starts_with("2001") && before.contains('%');
            assert!(ambiguous || out.contains(redacted), "{record}: {out}");
        }
    }
    // Both readings of one text, each with a value that the other one does not have.
    assert_eq!(
        redacted(r#"{"q":"LIKE '%536-90-4399%' AND mail=lee%40mail.example"}"#),
        r#"{"q":"LIKE '%[SSN]%' AND mail=[EMAIL]"}"#
    );
    // What both have is reported once.
    let mut engine = engine();
    let record = r#"{"q":"100% of 198.51.100.23%20 and a@b.org"}"#;
    assert!(passed(&mut engine, record).contains("198.51.100.0/24"));
    assert_eq!(engine.findings().len(), 2);
    // A key shows in pointers neither what the one reading found nor what the other one did.
    let record = r#"{"x%536-90-4399 lee%40mail.example":"a@b.org"}"#;
    let out = passed(&mut engine, record);
    assert!(!out.contains("4399") && !out.contains("lee"), "{out}");
    for report in engine.reports() {
        let pointer = report.pointer;
        assert!(
            !pointer.contains("4399") && !pointer.contains("lee"),
            "{pointer}"
        );
    }
}

#[test]
fn values_beside_other_scripts_are_found() {
    for (value, redacted) in VALUES {
        for beside in ["号", "Ж", "→", "“", "ك"] {
            let record = at_depth(&format!("{beside}{value} {beside}"), 0);
            let out = super::redacted(&record);
            assert!(
                !out.contains(value) && out.contains(redacted),
                "{record}: {out}"
            );
        }
    }
    assert_eq!(
        redacted(r#"{"m":"口座NO93 8601 1117 947号 IBANNO9386011117947"}"#),
        r#"{"m":"口座[IBAN]号 IBAN[IBAN]"}"#
    );
}

#[test]
fn a_birth_date_keeps_its_year_and_nothing_else() {
    for date in [
        r#""20051980""#,
        r#""05201980""#,
        r#""19800520""#,
        r#""20.05.1980""#,
        r#""5/20/1980""#,
        r#""20 May 1980""#,
        r#""1980-05-20T05:20:00Z""#,
        r#""19800520T052000Z""#,
        "20051980",
        "19800520",
        "5201980",
    ] {
        let year = if date.starts_with('"') {
            r#""1980""#
        } else {
            "1980"
        };
        for key in [
            "dob",
            "dateOfBirth",
            "birth_datetime",
            "bday",
            "birthDateTime",
        ] {
            for record in [
                format!(r#"{{"{key}":{date}}}"#),
                format!(r#"{{"{key}":{{"value":{date}}}}}"#),
                format!(r#"{{"key":"{key}","value":{date}}}"#),
            ] {
                assert_eq!(redacted(&record), record.replace(date, year), "{record}");
            }
        }
    }
    assert_eq!(
        redacted(r#"{"dob":{"epoch":327369600,"timestamp":327369600}}"#),
        r#"{"dob":{"epoch":null,"timestamp":null}}"#
    );
}

#[test]
fn an_address_inside_of_an_address_is_as_coarse_as_by_itself() {
    for (address, left) in [
        ("2002:c633:6417::1", "2002:c633:6400::/40"),
        ("2002:C633:6417::/48", "2002:c633:6400::/40"),
        ("2001:0:c633:6417:0:1:39cc:9be8", "2001::/32"),
        ("64:ff9b::198.51.100.23", "64:ff9b::/48"),
        ("64:ff9b::c633:6417", "64:ff9b::/48"),
        ("::ffff:198.51.100.23", "::ffff:198.51.100.0/120"),
        ("::ffff:c633:6417", "::ffff:198.51.100.0/120"),
    ] {
        let record = format!(r#"{{"m":"from {address} ok"}}"#);
        assert_eq!(redacted(&record), record.replace(address, left));
    }
}

#[test]
fn an_address_that_carries_another_is_one_thing_in_each_reading() {
    let mut engine = engine();
    let before = [
        "",
        "\0",
        "\"\0",
        r"\u0000",
        r"\x00",
        r"\u000a",
        r"\n",
        "%00",
        "%3A",
        "\u{200b}",
        "\u{1b}[1m",
        "udp6:",
        "x0",
        "u0000",
        "addr",
        "peer=",
        "号",
        "[",
        "a-",
        "1.",
    ];
    let values = [
        ("::ffff:198.51.100.23", "100.23"),
        ("::FFFF:198.51.100.23", "100.23"),
        ("::ffff:0:198.51.100.23", "100.23"),
        ("::198.51.100.23", "100.23"),
        ("64:ff9b::198.51.100.23", "100.23"),
        ("2001:db8:7:8:9:a:198.51.100.23", "100.23"),
        ("2002:c633:6417::1", "6417::1"),
        ("2001:db8:7:8::9", "::9"),
    ];
    for before in before {
        for (value, hidden) in values {
            for after in ["", "/128", "]:80", ".", " 1", r"\n", "\0", "\""] {
                for key in ["msg", "ssn", "ip", "phone"] {
                    let text = format!("{before}{value}{after}");
                    for text in [text.clone(), serde_json::Value::from(text).to_string()] {
                        let record = serde_json::json!({ key: text }).to_string();
                        let out = passed(&mut engine, &record);
                        assert!(!out.contains(hidden), "{record}: {out}");
                        assert_eq!(passed(&mut engine, &out), out, "{record}");
                    }
                }
            }
        }
    }
    for (text, expected) in [
        ("udp6:::ffff:198.51.100.23", "udp6:::ffff:198.51.100.0/120"),
        ("::ffff:198.51.100.23:80", "::ffff:198.51.100.0/120:80"),
        ("host::198.51.100.23", "host::198.51.100.0/24"),
        ("std::f64 core::f32::consts", "std::f64 core::f32::consts"),
    ] {
        let record = serde_json::json!({ "msg": text }).to_string();
        assert_eq!(passed(&mut engine, &record), record.replace(text, expected));
    }
}

#[test]
fn evidence_reaches_through_containers() {
    for (key, value, left) in [
        ("mac", "005056abcdef", "[MAC]"),
        ("ssn", "536904399", "[SSN]"),
        ("phone", "4155552671", "[PHONE]"),
        ("card_number", "4111111111111112", "[CARD]"),
        ("email", "root@host", "[EMAIL]"),
        ("first_name", "Lee", "[NAME]"),
        ("street", "2 High St", "[ADDRESS]"),
        ("dob", "1980-05-17", "1980"),
        ("lat", "48.858370", "48.86"),
        ("stop_long", "2.294481", "2.29"),
        ("location", "48.858370,2.294481", "48.86,2.29"),
    ] {
        for inner in [
            r##"{"value":"#"}"##,
            r##"{"S":"#"}"##,
            r##"{"stringValue":"#"}"##,
            r##"{"string":"#"}"##,
            r##"{"metadata":{},"value":"#"}"##,
            r##"{"L":[{"S":"#"}]}"##,
            r##"{"M":{"raw":{"S":"#"}}}"##,
            r##"{"arrayValue":{"values":[{"stringValue":"#"}]}}"##,
            r##"["#"]"##,
        ] {
            for record in [
                format!(r#"{{"{key}":{inner}}}"#),
                format!(r#"{{"attributes":[{{"key":"{key}","value":{inner}}}]}}"#),
                format!(r#"{{"attributes":[{{"key":"enduser.{key}","value":{inner}}}]}}"#),
                format!(r#"[{{"value":{inner},"name":"{key}"}}]"#),
                format!(r#"{{"fields":{{"{key}":{inner}}}}}"#),
            ] {
                let record = record.replace('#', value);
                assert_eq!(redacted(&record), record.replace(value, left), "{record}");
            }
        }
    }
    for (record, expected) in [
        (r#"{"lat":{"N":"48.858370"}}"#, r#"{"lat":{"N":"48.86"}}"#),
        (
            r#"{"lat":{"$numberDouble":"48.858370"}}"#,
            r#"{"lat":{"$numberDouble":"48.86"}}"#,
        ),
        (
            r#"{"key":"gps.lat","value":{"doubleValue":48.858370}}"#,
            r#"{"key":"gps.lat","value":{"doubleValue":48.86}}"#,
        ),
        (
            r#"{"driver":{"M":{"name":{"S":"Lee Ray"},"id":{"N":"7"}}}}"#,
            r#"{"driver":{"M":{"name":{"S":"[NAME]"},"id":{"N":"7"}}}}"#,
        ),
        (
            r#"{"mac":{"rx":{"bytes":123456789012},"ts":1678206879245}}"#,
            r#"{"mac":{"rx":{"bytes":123456789012},"ts":1678206879245}}"#,
        ),
    ] {
        assert_eq!(redacted(record), expected);
    }
}

#[test]
fn resources_of_fhir_name_patients() {
    assert_eq!(
        redacted(
            r#"{"resourceType":"Patient","name":[{"family":"Ray","given":["Lee"]}],"address":[{"line":["2 High St"],"city":"Oslo"}],"telecom":[{"system":"phone","value":"(02) 5555 1234"}],"birthDate":"1980-05-17","identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value":"536904399"}]}"#
        ),
        r#"{"resourceType":"Patient","name":[{"family":"[NAME]","given":["[NAME]"]}],"address":[{"line":["[ADDRESS]"],"city":"Oslo"}],"telecom":[{"system":"phone","value":"[PHONE]"}],"birthDate":"1980","identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value":"[SSN]"}]}"#
    );
    let extension = r#"{"url":"http://hl7.org/fhir/StructureDefinition/geolocation","extension":[{"url":"latitude","valueDecimal":48.858370}]}"#;
    assert_eq!(redacted(extension), extension.replace("48.858370", "48.86"));
    let device = r#"{"resourceType":"Device","name":"pump 7"}"#;
    assert_eq!(redacted(device), device);
}

#[test]
fn the_type_of_a_resource_may_come_behind_its_names() {
    for (record, expected) in [
        (
            r#"{"active":true,"address":[{"city":"Oslo","line":["2 High St"]}],"birthDate":"1980-05-17","name":[{"family":"Ray","given":["Lee"]}],"resourceType":"Patient"}"#,
            r#"{"active":true,"address":[{"city":"Oslo","line":["[ADDRESS]"]}],"birthDate":"1980","name":[{"family":"[NAME]","given":["[NAME]"]}],"resourceType":"Patient"}"#,
        ),
        (
            r#"{"entry":[{"resource":{"address":"2 High St","name":"Lee Ray","resourceType":"Practitioner"}},{"resource":{"name":"Ward 3","resourceType":"Location"}}]}"#,
            r#"{"entry":[{"resource":{"address":"[ADDRESS]","name":"[NAME]","resourceType":"Practitioner"}},{"resource":{"name":"Ward 3","resourceType":"Location"}}]}"#,
        ),
        (
            r#"{"name":{"text":"Lee Ray"},"resourceType":"Person","x":{"name":"Lee"}}"#,
            r#"{"name":{"text":"[NAME]"},"resourceType":"Person","x":{"name":"[NAME]"}}"#,
        ),
        (
            r#"{"m":"{\"name\":[{\"family\":\"Ray\"}],\"resourceType\":\"Patient\"}"}"#,
            r#"{"m":"{\"name\":[{\"family\":\"[NAME]\"}],\"resourceType\":\"Patient\"}"}"#,
        ),
        // What is beside a type of another kind is none.
        (
            r#"{"name":"pump 7","address":"0x1f","type":"Patient"}"#,
            r#"{"name":"pump 7","address":"0x1f","type":"Patient"}"#,
        ),
        (
            r#"{"name":"Ward 3","address":["2 High St"],"resourceType":"Location"}"#,
            r#"{"name":"Ward 3","address":["2 High St"],"resourceType":"Location"}"#,
        ),
    ] {
        assert_eq!(redacted(record), expected, "{record}");
        assert_eq!(redacted(expected), expected);
    }
    let mut engine = engine();
    passed(
        &mut engine,
        r#"{"name":[{"family":"Ray"}],"resourceType":"Patient"}"#,
    );
    let pointers: Vec<_> = engine.reports().map(|report| report.pointer).collect();
    assert_eq!(pointers, ["/name/0/family"]);
    // However often it is said, each value is looked at again once.
    let types = r#","resourceType":"Patient""#.repeat(2_000);
    let names = r#""name":"Lee","#.repeat(2_000);
    let record = format!(r#"{{{names}"x":1{types}}}"#);
    assert_eq!(
        passed(&mut engine, &record),
        record.replace("Lee", "[NAME]")
    );
    assert!(engine.scanned <= 10 * record.len(), "{}", engine.scanned);
}

#[test]
fn persons_are_more_than_users() {
    for person in [
        "passenger",
        "employee",
        "member",
        "client",
        "recipient",
        "author",
        "student",
        "guest",
        "resident",
        "rider",
        "worker",
        "operator",
        "visitor",
        "subscriber",
        "nurse",
    ] {
        for (record, expected) in [
            (r#"{"P":{"name":"Lee Ray"}}"#, r#"{"P":{"name":"[NAME]"}}"#),
            (
                r#"{"Ps":[{"name":"Lee Ray"}]}"#,
                r#"{"Ps":[{"name":"[NAME]"}]}"#,
            ),
            (r#"{"P_name":"Lee Ray"}"#, r#"{"P_name":"[NAME]"}"#),
            (
                r#"{"trip_P_name":"Lee Ray"}"#,
                r#"{"trip_P_name":"[NAME]"}"#,
            ),
            (
                r#"{"P":{"address":"2 High St","id":12345678}}"#,
                r#"{"P":{"address":"[ADDRESS]","id":12345678}}"#,
            ),
            (
                r#"{"P":{"device":{"name":"pump 7"},"P_id":"a-7"}}"#,
                r#"{"P":{"device":{"name":"pump 7"},"P_id":"a-7"}}"#,
            ),
        ] {
            let record = record.replace('P', person);
            assert_eq!(redacted(&record), expected.replace('P', person), "{record}");
        }
    }
    assert_eq!(
        redacted(
            r#"{"shipping_address":{"name":"Lee Ray","address1":"2 High St"},"address2":"Flat 3"}"#
        ),
        r#"{"shipping_address":{"name":"[NAME]","address1":"[ADDRESS]"},"address2":"[ADDRESS]"}"#
    );
    for record in [
        r#"{"address":"0x1f","address1":40001,"address2":"0x1f","client":{"address":"pipe:7"}}"#,
        r#"{"client_version":"1.2.3.4","member_id":12345678}"#,
    ] {
        assert_eq!(redacted(record), record.replace("pipe:7", "[ADDRESS]"));
    }
    assert_eq!(
        redacted(r#"{"client_addr":"198.51.100.23:80","client":{"address":"198.51.100.23:80"}}"#),
        r#"{"client_addr":"198.51.100.0/24:80","client":{"address":"198.51.100.0/24:80"}}"#
    );
}

#[test]
fn any_word_may_stand_before_a_coordinate() {
    for word in [
        "stop", "gateway", "station", "customer", "tower", "max", "gnss", "dock",
    ] {
        for (lat, long) in [
            ("lat", "long"),
            ("latitude", "longitude"),
            ("lat_deg", "long_deg"),
        ] {
            let record = format!(r#"{{"{word}_{lat}":48.858370,"{word}_{long}":"-2.294481"}}"#);
            let expected = record
                .replace("48.858370", "48.86")
                .replace("2.294481", "2.29");
            assert_eq!(redacted(&record), expected);
        }
    }
}

#[test]
fn json_with_escaped_quotes_is_json_without_a_string_around_it() {
    let json = r#"{"first_name":"Ada","n":[{"ssn":"536904399"}],"t":1}"#;
    let left = r#"{"first_name":"[NAME]","n":[{"ssn":"[SSN]"}],"t":1}"#;
    let escaped = |text: &str, levels| {
        (0..levels).fold(text.to_owned(), |text, _| {
            text.replace('\\', r"\\").replace('"', r#"\""#)
        })
    };
    for levels in 1..=2 {
        for around in [
            "#",
            "got # ok",
            "say #, # and #",
            r#"# then {"first_name":"Lee"}"#,
            r#"{"a":"say \"x\"","b":1} #"#,
        ] {
            let record = |inner: &str, name: &str| {
                let text = around
                    .replace('#', &escaped(inner, levels))
                    .replace("Lee", name);
                serde_json::json!({ "msg": text }).to_string()
            };
            assert_eq!(redacted(&record(json, "Lee")), record(left, "[NAME]"));
        }
    }
    let mut engine = with("[[rule]]\nclass = \"ssn\"\naction = \"drop-field\"");
    assert_eq!(
        passed(
            &mut engine,
            r#"{"m":"got {\\\"a\\\":1,\\\"ssn\\\":\\\"536904399\\\"} ok"}"#
        ),
        r#"{"m":"got {\\\"a\\\":1} ok"}"#
    );
    assert_eq!(engine.reports().next().unwrap().pointer, "/m#/ssn");
    // What follows is read as it is written.
    assert_eq!(
        redacted(r#"{"m":"[\\\"x\\\"] {\"m\":\"say \\\"hi\\\"\",\"first_name\":\"Ada\"}"}"#),
        r#"{"m":"[\\\"x\\\"] {\"m\":\"say \\\"hi\\\"\",\"first_name\":\"[NAME]\"}"}"#
    );
}

#[test]
fn json_of_which_only_some_quotes_are_escaped_is_json() {
    for (text, expected) in [
        (
            r#"{\"first_name\":"Lee","ssn":536904399}"#,
            r#"{\"first_name\":"[NAME]","ssn":null}"#,
        ),
        (
            r#"{"first_name\":\"Lee\",\"ssn\":536904399}"#,
            r#"{"first_name\":\"[NAME]\",\"ssn\":null}"#,
        ),
        (
            r#"got {\"user\":{"name":"Lee"}} of 198.51.100.23"#,
            r#"got {\"user\":{"name":"[NAME]"}} of 198.51.100.0/24"#,
        ),
        (
            r#"[{\"first_name\":"Lee"},{"last_name":"Ray"}]"#,
            r#"[{\"first_name\":"[NAME]"},{"last_name":"[NAME]"}]"#,
        ),
        (
            r#"body="{\"first_name\":\"Le" x {"last_name":"Ray"}"#,
            r#"body="{\"first_name\":\"[NAME]" x {"last_name":"[NAME]"}"#,
        ),
        (
            r#"a {\"x\":"{\"first_name\":\"Lee\"}"} b"#,
            r#"a {\"x\":"{\"first_name\":\"[NAME]\"}"} b"#,
        ),
        (
            r#"{\"x\":1} [32m {\"first_name\":"Lee"}"#,
            r#"{\"x\":1} [32m {\"first_name\":"[NAME]"}"#,
        ),
        (
            r#"set[i] = \"x\" {"a"} [ok] \"first_name\" Lee"#,
            r#"set[i] = \"x\" {"a"} [ok] \"first_name\" Lee"#,
        ),
    ] {
        for depth in 0..2 {
            let record = at_depth(text, depth);
            assert_eq!(redacted(&record), at_depth(expected, depth), "{record}");
        }
    }
}

#[test]
fn many_openings_of_escaped_json_take_linear_work() {
    let mut engine = engine();
    for part in [r#"{\\\"a\\\":"#, r#"{\\\"a\\\":{"#, r#"[\\\"{"#] {
        let record = format!(r#"{{"m":"{}"}}"#, part.repeat(2000));
        engine.scanned = 0;
        let _verdict = engine.process(record.as_bytes(), &mut Vec::new());
        assert!(engine.scanned <= 20 * record.len(), "{}", engine.scanned);
    }
}
