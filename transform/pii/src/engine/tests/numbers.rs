//! Numbers that machines make, and cards among them.

use super::*;

fn found(record: &str) -> bool {
    engine().process(record.as_bytes(), &mut Vec::new()) != ScanVerdict::Clean
}

#[test]
fn times_since_1970_are_no_cards() {
    // Every instant differs, over the years 2000 to 2039.
    let mut engine = engine();
    let mut out = Vec::new();
    let mut second = 946_684_800u64;
    while second < 2_208_988_800 {
        for (unit, rest) in [
            (1_000, 7),
            (1_000_000, 765_431),
            (1_000_000_000, 987_654_321),
        ] {
            let time = second * unit + rest * (second % 997) % unit;
            for record in [
                format!(r#"{{"v":{time}}}"#),
                format!(r#"{{"ts":"{time}","event_us":{time},"t_ns":"{time}"}}"#),
            ] {
                assert_eq!(
                    engine.process(record.as_bytes(), &mut out),
                    ScanVerdict::Clean,
                    "{record}"
                );
            }
        }
        second += 377_777;
    }
}

#[test]
fn bare_numbers_that_are_too_long_need_a_payment() {
    for card in [
        "6200000000000000000",
        "4000000000000000006",
        "6304000000000000000",
    ] {
        for key in [
            "card",
            "cardPan",
            "pan",
            "cc",
            "account_no",
            "payment_ref",
            "creditCard",
        ] {
            for value in [card.to_owned(), format!("\"{card}\"")] {
                let record = format!(r#"{{"{key}":{value}}}"#);
                assert!(found(&record), "{record}");
            }
        }
        for record in [
            format!(r#"{{"payment":{{"number":{card}}}}}"#),
            format!(r#"{{"v":"card {card}"}}"#),
            format!(r#"{{"type":"card_number","value":{card}}}"#),
        ] {
            assert!(found(&record), "{record}");
        }
        for record in [
            format!(r#"{{"id":{card}}}"#),
            format!(r#"{{"v":"{card}"}}"#),
            format!(r#"{{"{card}":1}}"#),
        ] {
            assert!(!found(&record), "{record}");
        }
    }
}

#[test]
fn ids_counts_and_times_are_no_cards_unless_they_are_said_to_be() {
    for key in [
        "device_id",
        "trace_id",
        "seq",
        "ts",
        "timestamp",
        "event_us",
        "start_ns",
        "byteCount",
    ] {
        for value in ["4111111111111111", "\"4111111111111111\""] {
            assert!(!found(&format!(r#"{{"{key}":{value}}}"#)), "{key}");
        }
        // With the separators of a card it is one.
        assert!(
            found(&format!(r#"{{"{key}":"4111 1111 1111 1111"}}"#)),
            "{key}"
        );
    }
    for record in [
        r#"{"v":"4111111111111111"}"#,
        r#"{"v":"4012888888881881"}"#,
        r#"{"user":{"id":"4012888888881881"}}"#,
        r#"{"card":4012888888881881}"#,
        r#"{"payment":{"v":4012888888881881}}"#,
        r#"{"card_id":4111111111111111}"#,
        r#"{"card":{"id":4111111111111111}}"#,
        r#"{"account_id":"4111111111111111"}"#,
    ] {
        assert!(found(record), "{record}");
    }
}
