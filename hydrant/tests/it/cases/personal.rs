//! Checks what the built-in policy removes and what it leaves, record by record, through `hydrant pii run`.

use crate::test_dir::TestDir;

/// A record, what the output must not contain, and what it must contain unchanged.
struct LineCase {
    record: String,
    gone: Vec<&'static str>,
    kept: Vec<&'static str>,
}

/// Parts of `gone` and `kept` are separated by `|`.
fn case(record: impl Into<String>, gone: &'static str, kept: &'static str) -> LineCase {
    let parts = |text: &'static str| text.split('|').filter(|part| !part.is_empty()).collect();
    LineCase {
        record: record.into(),
        gone: parts(gone),
        kept: parts(kept),
    }
}

/// Runs the records and fails with a list of all wrong ones.
#[track_caller]
fn check(cases: &[LineCase]) {
    let records: Vec<&str> = cases.iter().map(|case| case.record.as_str()).collect();
    let input = records.join("\n") + "\n";
    let place = TestDir::new();
    let answer = place
        .feed("hydrant", &["pii", "run"], input.as_bytes())
        .expect(0, &[]);
    let lines: Vec<&str> = answer.out.lines().collect();
    assert_eq!(lines.len(), cases.len(), "{}", answer.err);
    let mut wrong = String::new();
    for (case, line) in cases.iter().zip(lines) {
        let leaks = case.gone.iter().filter(|part| line.contains(**part));
        let leaks: Vec<_> = leaks.collect();
        let lost = case.kept.iter().filter(|part| !line.contains(**part));
        let lost: Vec<_> = lost.collect();
        let is_json = serde_json::from_str::<serde_json::Value>(line).is_ok();
        if !leaks.is_empty() || !lost.is_empty() || !is_json {
            let (record, line) = (shortened(&case.record), shortened(line));
            wrong += &format!("\nin  {record}\nout {line}\n    leaks {leaks:?}, lost {lost:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

#[test]
fn personal_values_are_found_in_every_encoding() {
    check(&[
        case(
            r#"{"log":"\u001b[1;32m198.51.100.23\u001b[0m up"}"#,
            "198.51.100.23",
            "up",
        ),
        case(
            r#"{"log":"first\\n5500005555555559\\nlast, card"}"#,
            "5500005555555559",
            "last",
        ),
        case(
            r#"{"log":"a\\tb\\tjohn.roe@example.com\\r"}"#,
            "john.roe",
            "a",
        ),
        case(
            r#"{"msg":"{\"user\":{\"email\":\"x.y@example.net\"}}"}"#,
            "x.y@",
            "user",
        ),
        case(
            r#"{"msg":"{\"in\":\"{\\\"ip\\\":\\\"198.51.100.77\\\"}\"}"}"#,
            "198.51.100.77",
            "in",
        ),
        case(
            r#"{"sql":"WHERE ssn LIKE '%536-22-8726%' AND a=1"}"#,
            "536-22-8726",
            "AND a=1",
        ),
        case(
            r#"{"q":"name=x&mail=jane%40example.org&b=%20"}"#,
            "jane%40example.org",
            "name=x",
        ),
        case(
            r#"{"u":"100%25 of john.roe@example.com 50%"}"#,
            "john.roe@",
            "50%",
        ),
        case(
            r#"{"note":"Überweisung auf DE89370400440532013000 läuft"}"#,
            "DE89370400440532013000",
            "läuft",
        ),
        case(
            r#"{"note":"účet:GB82WEST12345698765432。"}"#,
            "GB82WEST12345698765432",
            "",
        ),
        case(
            r#"{"v6":"2002:c633:6417::1","t":"2001:0:4136:e378:8000:63bf:39cc:9be8"}"#,
            "c633:6417|39cc:9be8",
            "",
        ),
        case(
            r#"{"nat":"64:ff9b::198.51.100.23","m":"::ffff:198.51.100.23"}"#,
            "198.51.100.23",
            "",
        ),
    ]);
}

#[test]
fn a_birth_date_keeps_its_year_only() {
    check(&[
        case(r#"{"dob":"20051980"}"#, "2005198|\"2005\"", "1980"),
        case(r#"{"dob":"19800520"}"#, "0520", "1980"),
        case(r#"{"date_of_birth":"20/05/1980"}"#, "20/05", "1980"),
        case(r#"{"birthDate":"May 20, 1980"}"#, "May|20,", "1980"),
        case(r#"{"birth_date":"1980-05-20T00:00:00Z"}"#, "05-20", "1980"),
        case(r#"{"dateOfBirth":"20.5.1980"}"#, "20.5", "1980"),
        case(r#"{"dob":19800520}"#, "19800520", ""),
    ]);
}

#[test]
fn evidence_reaches_through_containers() {
    check(&[
        case(
            r#"{"mac":{"value":"3C:22:FB:12:34:56"},"n":7}"#,
            "12:34:56",
            "7",
        ),
        case(r#"{"ssn":{"value":"536228726"}}"#, "536228726", ""),
        case(r#"{"ssn":["536228726"]}"#, "536228726", ""),
        case(r#"{"phone":{"S":"4155550123"}}"#, "4155550123", ""),
        case(
            r#"{"attributes":[{"key":"user.email","value":{"stringValue":"x.y@example.net"}}]}"#,
            "x.y@",
            "user.email",
        ),
        case(
            r#"{"attributes":[{"key":"ssn","value":{"stringValue":"536228726"}}]}"#,
            "536228726",
            "",
        ),
        case(
            r#"{"attributes":[{"key":"enduser.phone","value":{"intValue":"4155550123"}}]}"#,
            "4155550123",
            "",
        ),
        case(
            r#"{"Item":{"ssn":{"N":"536228726"},"n":{"N":"17"}}}"#,
            "536228726",
            "17",
        ),
        case(
            r#"{"telecom":[{"system":"phone","value":"4155550123"}]}"#,
            "4155550123",
            "",
        ),
    ]);
}

#[test]
fn counters_and_ids_are_not_cards() {
    let mut cases = Vec::new();
    let keys = "rx_bytes tx_packets energy_wh memory total value uptime_ms requests disk_free offset sum ticks \
                heap_used ns flow_total ifOutOctets read_ops";
    // Digits that pass Luhn and begin like a card.
    for key in keys.split_whitespace() {
        let record =
            format!(r#"{{"{key}":4111111111111111,"b":378282246310005,"c":4222222222222}}"#);
        cases.push(case(
            record,
            "",
            "4111111111111111|378282246310005|4222222222222",
        ));
    }
    for key in [
        "card",
        "card_number",
        "cardNumber",
        "pan",
        "credit_card",
        "payment_card",
    ] {
        let record = format!(r#"{{"{key}":"4111111111111111"}}"#);
        cases.push(case(record, "4111111111111111", ""));
        let record = format!(r#"{{"{key}":4111111111111111}}"#);
        cases.push(case(record, "4111111111111111", ""));
    }
    cases.push(case(
        r#"{"msg":"paid by card 4111111111111111 today"}"#,
        "4111111111111111",
        "today",
    ));
    cases.push(case(
        r#"{"msg":"paid 4111 1111 1111 1111"}"#,
        "1111 1111",
        "paid",
    ));
    cases.push(case(
        r#"{"payment":{"number":"4111111111111111"}}"#,
        "4111111111111111",
        "",
    ));
    check(&cases);
}

#[test]
fn names_of_things_are_not_names_of_persons_numbers() {
    check(&[
        case(
            r#"{"cell":{"id":26385413,"lac":40123},"cellId":21627653}"#,
            "",
            "26385413|40123|21627653",
        ),
        case(
            r#"{"mobile":{"rx":1234567890,"since":1700000000}}"#,
            "",
            "1234567890|1700000000",
        ),
        case(
            r#"{"phone":{"battery_uv":4155550,"free":64000000000,"boot":"2024-05-01T10:00:00Z"}}"#,
            "",
            "4155550|64000000000|2024-05-01T10:00:00Z",
        ),
        case(
            r#"{"fax":{"pages":1234567,"uptime":123456789}}"#,
            "",
            "1234567|123456789",
        ),
        case(
            r#"{"caller":{"line":1234567,"addr":140234123412341}}"#,
            "",
            "1234567|140234123412341",
        ),
        case(
            r#"{"card":{"uid":1234567890123,"reads":123456789012}}"#,
            "",
            "1234567890123|123456789012",
        ),
        case(
            r#"{"mobile":"4155550123","fax":"+1 415 555 0199","caller":"(415) 555-0123"}"#,
            "4155550123|555 0199|555-0123",
            "",
        ),
        case(r#"{"cell":{"number":"415-555-0123"}}"#, "555-0123", ""),
    ]);
}

#[test]
fn versions_and_masks_are_not_addresses_and_units_not_mail() {
    check(&[
        case(
            r#"{"ua":"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36 Edg/131.0.2903.51"}"#,
            "",
            "Chrome/131.0.0.0|Edg/131.0.2903.51",
        ),
        case(
            r#"{"ua":"MyApp/4.12.3.1 okhttp/4.9.1.2"}"#,
            "",
            "MyApp/4.12.3.1|okhttp/4.9.1.2",
        ),
        case(
            r#"{"msg":"updated from v1.13.9.1 to v1.14.0.2 by 203.0.113.9"}"#,
            "203.0.113.9",
            "v1.13.9.1|v1.14.0.2",
        ),
        case(
            r#"{"firmware":"2.4.10.7","sdk_version":"1.2.3.4","build":"6.1.7601.17514"}"#,
            "",
            "2.4.10.7|1.2.3.4|6.1.7601.17514",
        ),
        case(r#"{"snmp":"1.3.6.1.4.1.9.9.13"}"#, "", "1.3.6.1.4.1.9.9.13"),
        case(
            r#"{"mask":"255.255.255.0","gw":"0.0.0.0","lo":"127.0.0.1","b":"255.255.255.255","m":"224.0.0.251"}"#,
            "",
            "255.255.255.0|0.0.0.0|127.0.0.1|255.255.255.255|224.0.0.251",
        ),
        case(
            r#"{"lo":"::1","any":"::","mdns":"ff02::fb"}"#,
            "",
            "::1|\"::\"|ff02::fb",
        ),
        case(
            r#"{"unit":"user@1000.service","u2":"getty@tty1.service","u3":"systemd-fsck@dev-sda1.service"}"#,
            "",
            "user@1000.service|getty@tty1.service|systemd-fsck@dev-sda1.service",
        ),
        case(
            r#"{"ip":"198.51.100.23","dns":["9.9.9.9"],"peer":"198.51.100.23:443"}"#,
            "198.51.100.23|9.9.9.9",
            ":443",
        ),
    ]);
}

#[test]
fn coordinates_and_persons_under_compound_keys() {
    let mut cases = Vec::new();
    for word in ["stop", "gateway", "station", "vehicle", "home", "pickup"] {
        for (lat, lon) in [
            ("lat", "lon"),
            ("latitude", "longitude"),
            ("Lat", "Lng"),
            ("lat", "long"),
        ] {
            let record = format!(r#"{{"{word}_{lat}":48.858370,"{word}_{lon}":2.294481}}"#);
            cases.push(case(record, "48.8583|2.2944", "48.86|2.29"));
        }
    }
    let persons =
        "passenger employee member client recipient author student guest customer driver patient";
    for person in persons.split_whitespace() {
        let record = format!(r#"{{"{person}":{{"name":"Zoë Quist"}},"n":1}}"#);
        cases.push(case(record, "Quist", "1"));
        let record = format!(r#"{{"{person}_name":"Zoë Quist","device_name":"north gate"}}"#);
        cases.push(case(record, "Quist", "north gate"));
    }
    check(&cases);
}

#[test]
fn long_tracks_are_rounded_and_not_set_aside() {
    let points: Vec<String> = (0..3_000)
        .map(|n| format!("[2.29{n:04},48.85{n:04}]"))
        .collect();
    let track = format!(
        r#"{{"type":"Feature","geometry":{{"type":"LineString","coordinates":[{}]}}}}"#,
        points.join(",")
    );
    let vehicles: Vec<String> = (0..1_000)
        .map(|n| {
            format!(
                r#"{{"id":"v{n}","position":{{"latitude":59.33{n:04},"longitude":18.06{n:04}}}}}"#
            )
        })
        .collect();
    let feed = format!(r#"{{"entity":[{}]}}"#, vehicles.join(","));
    check(&[
        case(track, "2.290001|48.852999", "LineString|[2.29,48.85]"),
        case(feed, "59.330001|18.060999", "v999|59.33"),
    ]);
}
