use super::*;
use crate::keys;
use crate::text::byte_classes;

fn found(key: &str, value: &str, kind: TextKind) -> Vec<(&'static str, String)> {
    let text = FoldedText {
        bytes: value.as_bytes(),
        evidence: keys::evidence(key.as_bytes()),
        kind,
        edited: false,
    };
    let mut hits = Hits::default();
    scan(
        &text,
        byte_classes::of(value.as_bytes()),
        u64::MAX,
        &mut hits,
    );
    hits.list
        .iter()
        .map(|hit| {
            (
                TABLE[usize::from(hit.detector)].name,
                value[hit.start..hit.end].to_owned(),
            )
        })
        .collect()
}

fn claims(detector: &str, key: &str, value: &str) -> bool {
    found(key, value, TextKind::Text).contains(&(
        TABLE.iter().find(|row| row.name == detector).unwrap().name,
        value.to_owned(),
    ))
}

#[test]
fn every_detector_proves_itself_on_its_samples() {
    for row in TABLE.iter().skip(1) {
        assert!(!row.samples.is_empty(), "{}", row.name);
        for (key, sample) in row.samples {
            assert!(
                claims(row.name, key, sample),
                "{} misses {sample}",
                row.name
            );
            let evidence = keys::evidence(key.as_bytes());
            assert!(
                worth_a_look(byte_classes::of(sample.as_bytes()), sample.len(), evidence),
                "{sample} is passed over"
            );
        }
    }
}

#[test]
fn the_table_is_sound() {
    assert!(TABLE.len() < 64);
    assert_eq!(TABLE[usize::from(BY_RULE)].name, "rule");
    let mut names: Vec<_> = detectors().iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TABLE.len());
}

#[test]
fn cards_need_issuer_length_and_check_digit() {
    for card in [
        "4111111111111111",
        "378282246310005",
        "6011000990139424",
        "2223000048400011",
        "5105105105105100",
        "4012888888881881",
        "3530111333300000",
        "6200000000000005",
        "4111-1111-1111-1111",
        "4111 1111 1111 1111",
        "3782-822463-10005",
        "6304000000000000",
    ] {
        assert!(claims("payment-card", "", card), "{card}");
    }
    for other in [
        "4012-8888-8888-1882",
        "36168002586008",
        "1111111111111117",
        "0000000000000000",
        "4111111111111112",
        "411111111111111",
        "2721000000000004",
        "5018000000009",
        "4111 1111-1111 1111",
        "4111  1111 1111 1111",
        "41 11 11 11 11 11 11 11",
    ] {
        assert!(!claims("payment-card", "", other), "{other}");
    }
    assert_eq!(
        found("", "4111 1111 1111 1111 12/26", TextKind::Text)[0],
        ("payment-card", "4111 1111 1111 1111".to_owned())
    );
    for rare in ["30569309025904", "38520000023237", "4222222222222"] {
        assert!(!claims("payment-card", "", rare), "{rare}");
        assert!(claims("payment-card", "account_no", rare), "{rare}");
    }
    for written in ["4111111111111111", "4111111111111111.00"] {
        assert!(found("", written, TextKind::Number).is_empty());
        assert_eq!(found("account_no", written, TextKind::Number).len(), 1);
    }
    assert!(found("account_no", "4111111111111111.5", TextKind::Number).is_empty());
    assert!(found("account_no", "-4111111111111111", TextKind::Number).is_empty());
    assert!(claims("payment-card", "card_number", "4111.1111.1111.1112"));
}

#[test]
fn social_security_numbers_have_structure() {
    for ssn in [
        "536-90-4399",
        "078-05-1120",
        "219-09-9999",
        "123-45-6780",
        "123-12-1024",
    ] {
        assert!(claims("us-ssn", "", ssn), "{ssn}");
    }
    for other in [
        "900-12-3456",
        "000-12-3456",
        "666-12-3456",
        "123-00-4567",
        "123-45-0000",
        "123-45-678",
        "123-456789",
        "536904399",
        "536 90 4399",
        "911-89-1234",
        "0536-90-4399",
        "536-90-4399-1",
        "a536-90-4399",
    ] {
        assert!(
            !claims("us-ssn", "", other) && !claims("us-itin", "", other),
            "{other}"
        );
    }
    assert!(claims("us-itin", "", "911-70-1234"));
    assert_eq!(
        found("", "SSN: 536904399", TextKind::Text),
        [("us-ssn", "536904399".to_owned())]
    );
    assert_eq!(
        found("", "SSN 536 90 4399", TextKind::Text),
        [("us-ssn", "536 90 4399".to_owned())]
    );
    assert_eq!(
        found("ssn", "36904399", TextKind::Number),
        [("us-ssn-by-key", "36904399".to_owned())]
    );
}

#[test]
fn addresses_are_taken_as_far_as_they_go() {
    for (text, address) in [
        ("<jane@x.org>", "jane@x.org"),
        ("mailto:jane.d+tag@x.co.uk?subject=1", "jane.d+tag@x.co.uk"),
        ("https://a.b/?email=jane@x.org&y=1", "jane@x.org"),
        ("'jane@x.org'", "jane@x.org"),
        ("jane@x.org.", "jane@x.org"),
        ("jane@[10.1.2.3]", "jane@[10.1.2.3]"),
        ("root@10.1.2.3", "root@10.1.2.3"),
        ("\"jane doe\"@x.org", "\"jane doe\"@x.org"),
        ("zoë@exämple.org", "zoë@exämple.org"),
        ("jane@x.org.1", "jane@x.org"),
        ("{jane}@x.org", "jane}@x.org"),
    ] {
        let all = found("", text, TextKind::Text);
        let mails: Vec<_> = all
            .iter()
            .filter(|(name, _)| name.starts_with("email"))
            .collect();
        assert!(
            mails.iter().any(|(_, found)| found.ends_with(address)),
            "{text}: {all:?}"
        );
    }
}

#[test]
fn ip_addresses_differ_from_networks_versions_and_times() {
    for (text, detector) in [
        ("68.161.225.1", "ipv4"),
        ("10.1.0.0", "ipv4"),
        ("10.1.2.3/24", "ipv4"),
        ("10.1.2.0/32", "ipv4"),
        ("010.001.002.003", "ipv4"),
        ("2002:cb00:7107::/48", "ipv6"),
        ("fe80::1%eth0", "ipv6"),
        ("2001:db8::1/64", "ipv6"),
        ("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "ipv6"),
        ("::ffff:1.2.3.4", "ipv6"),
        ("::1.2.3.4", "ipv6"),
        ("2001:db8::/128", "ipv6"),
    ] {
        assert!(claims(detector, "", text), "{text}");
    }
    for text in [
        "10.1.2.0/24",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "2001:db8::/32",
        "::/0",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.04",
        "v1.2.3.4",
        "1.2.3.256",
        "03:26:15",
        "12:34",
        "a::b",
        "::",
        "std::x",
        "10.1.2.3.example.org",
        "::ffff:1.2.3.0/120",
        "2002:cb00:7100::/40",
        "10.0.0.0",
        "::1",
        "::1/128",
        "ff02::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "0.0.0.255",
        "127.0.0.1",
        "127.0.1.1:8080",
        "224.0.0.251",
        "239.255.255.250",
        "255.255.255.255",
        "255.255.255.0",
        "255.255.254.0",
        "192.168.1.255",
        "192.168.1.0/255.255.255.0",
    ] {
        assert!(
            found("", text, TextKind::Text).is_empty(),
            "{text}: {:?}",
            found("", text, TextKind::Text)
        );
    }
    assert!(found("firmware", "1.2.3.4", TextKind::Text).is_empty());
    for (text, address) in [
        ("addr:10.1.2.3", "10.1.2.3"),
        ("x::1.2.3.4", "1.2.3.4"),
        ("[fe80::1]:80", "fe80::1"),
        ("ip=10.1.2.3;", "10.1.2.3"),
        ("at 10.1.2.3.", "10.1.2.3"),
        ("fe80::1.", "fe80::1"),
        ("ip-10.1.2.3", "10.1.2.3"),
        ("http://10.1.2.3/24/x", "10.1.2.3/24"),
        ("_10.1.2.3_", "10.1.2.3"),
    ] {
        assert!(
            found("", text, TextKind::Text)
                .iter()
                .any(|(_, found)| found == address),
            "{text}"
        );
    }
}

#[test]
fn phone_numbers_need_a_strong_form_or_a_key() {
    for phone in [
        "+49 171 1234567",
        "+14155552671",
        "+1 (415) 555-2671",
        "+44 20 7946 0958",
        "(415) 555-2671",
        "415-555-2671",
        "415.555.2671",
        "1-415-555-2671",
        "+86 138 0013 8000",
    ] {
        assert!(claims("phone", "", phone), "{phone}");
    }
    for other in [
        "4155552671",
        "415 555 2671",
        "0171 1234567",
        "123-456-7890",
        "415-155-2671",
        "+0123456789",
        "+1234567890",
        "2026-11-21",
        "2026-11-21 03:26:15",
        "415-555-26711",
        "+12.3456789",
        "7+4915112345678",
        "020-7946-0958",
    ] {
        assert!(!claims("phone", "", other), "{other}");
    }
    for phone in [
        "4155552671",
        "415 555 2671",
        "0171/1234567",
        "0049 171 1234567",
        "+49 (0) 171 1234567",
    ] {
        assert!(claims("phone", "mobile_number", phone), "{phone}");
    }
    assert!(claims("phone", "caller", "4155552671"));
    assert_eq!(
        found("", "tel 0171 1234567", TextKind::Text),
        [("phone", "0171 1234567".to_owned())]
    );
    assert!(found("serial_number", "415-555-2671", TextKind::Text).is_empty());
}

#[test]
fn tokens_have_three_parts_and_keys_their_alphabet() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    assert!(claims("json-web-token", "", jwt));
    assert!(claims(
        "json-web-token",
        "",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."
    ));
    assert!(claims(
        "json-web-token",
        "",
        "eyJhbGciOiJSU0EifQ.AAAA.BBBB.CCCC.DDDD"
    ));
    assert!(!claims("json-web-token", "", "eyJhbGciOiJIUzI1NiJ9.xyz"));
    for key in ["AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"] {
        assert!(claims("aws-access-key", "", key), "{key}");
    }
    for other in [
        "AKIAIOSFODNN7EXAMPL",
        "AKIAIOSFODNN7EXAMPLEX",
        "AKIAiosfodnn7example",
        "XAKIAIOSFODNN7EXAMPLE",
    ] {
        assert!(found("", other, TextKind::Text).is_empty(), "{other}");
    }
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    assert!(found("", secret, TextKind::Text).is_empty());
    assert_eq!(
        found(
            "",
            &format!("AKIAIOSFODNN7EXAMPLE:{secret}"),
            TextKind::Text
        )
        .len(),
        2
    );
    assert!(
        found(
            "secret_key",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            TextKind::Text
        )
        .is_empty()
    );
}

#[test]
fn hardware_addresses_have_one_separator() {
    for mac in [
        "00:1B:44:11:3a:b7",
        "00-1B-44-11-3A-B7",
        "001b.4411.3ab7",
        "00:1b:44:ff:fe:11:3a:b7",
    ] {
        assert!(claims("mac", "", mac), "{mac}");
    }
    for other in [
        "00:1B-44:11:3a:b7",
        "00:1B:44:11:3a",
        "00:1B:44:11:3a:b7:00",
        "001b44113ab7",
        "0001b.4411.3ab7",
    ] {
        assert!(!claims("mac", "", other), "{other}");
    }
}

#[test]
fn work_is_linear_in_texts_made_against_it() {
    // Each of these would take minutes if any matcher were quadratic.
    for unit in [
        "1 ", "1-", "@", "a@", "eyJ", ".eyJ", "1.", ":", "a:", "+1", "(1", "%40", "AKIA", "\"@",
        "1.1.1.1", "4111 ",
    ] {
        let text = unit.repeat(300_000 / unit.len());
        let _ = found("phone", &text, TextKind::Text);
        let _ = found("", &text, TextKind::Text);
    }
}
