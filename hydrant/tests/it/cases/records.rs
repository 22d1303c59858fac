//! Records at which no stage may stop: each becomes a row or a dead letter, and its neighbours become rows.

use crate::test_dir::TestDir;

#[test]
fn no_record_stops_a_stage() {
    let nested = |open: &str, close: &str| open.repeat(200) + &close.repeat(200);
    let exponents = [
        "-99999999999999999999",
        "99999999999999999999",
        "-9223372036854775808",
        "+000000000000000000000001",
    ];
    let mantissas = [
        "1.5",
        "0.1",
        "-0.0",
        "123456789012345678901234567890.5",
        "0.000000000000000000001",
        "1",
    ];
    let mut hostile = vec![
        nested("[", "]"),
        nested("{\"a\":", "}"),
        r#"{"n":1,"n":2}"#.to_owned(),
        r#"{"":{"":{"":0}}}"#.to_owned(),
        r#"{"n":-}"#.to_owned(),
        r#"{"s":"\ud800"}"#.to_owned(),
        r#"{"ts":1e-99999999999999999999}"#.to_owned(),
        r#"{"ts":"0000-00-00T00:00:00Z"}"#.to_owned(),
        r#"{"ts":"9999999999999999-01-01"}"#.to_owned(),
        r#"{"timestamp":9223372036854775807}"#.to_owned(),
        r#"{"timestamp":-9223372036854775808}"#.to_owned(),
        format!(r#"{{"{}":1}}"#, "k".repeat(70_000)),
        format!(r#"{{"k":"{}"}}"#, "\\u0000".repeat(5_000)),
        "null".to_owned(),
        "\u{feff}{}".to_owned(),
    ];
    for mantissa in mantissas {
        for exponent in exponents {
            let number = format!("{mantissa}e{exponent}");
            hostile.push(format!(r#"{{"n":{number}}}"#));
            hostile.push(format!(r#"{{"price":{number},"ts":{number}}}"#));
            hostile.push(format!(r#"{{"a":[{{"b":{number}}}],"d":[[{number}]]}}"#));
        }
    }
    let mut input = Vec::new();
    for (n, record) in hostile.iter().enumerate() {
        input.push(format!(r#"{{"good":{n}}}"#));
        input.push(record.clone());
    }
    let place = TestDir::new();
    place.write("in", input.join("\n") + "\n");
    place.write(
        "sink.toml",
        "[sink]\ncolumns = { price = \"DECIMAL(9,2)\", good = \"BIGINT\" }\n",
    );
    let key = "{n}-{a.b}-{ts}";
    let flags = ["--to", "local:raw", "--input", "in", "--key", key, "--json"];
    let report = place.run("hydrant-producer", &flags).expect(0, &[]).json();
    let refused: u64 = report["refused"]
        .as_object()
        .expect("reasons")
        .values()
        .filter_map(|count| count.as_u64())
        .sum();
    assert_eq!(
        report["stored"].as_u64().expect("a count") + refused,
        input.len() as u64,
        "{report}"
    );
    place.transform("local:raw", "local:clean").expect(0, &[]);
    let sink = [
        "--from",
        "local:clean",
        "--to",
        "file:lake",
        "--config",
        "sink.toml",
    ];
    let flags = ["--exit-at-end", "--idle", "50ms"];
    // Run twice: a record that stops the sink would stop every start.
    for _ in 0..2 {
        place
            .run("hydrant-sink", &[&sink[..], &flags].concat())
            .expect(0, &[]);
    }
    let verified = place.sound("file:lake");
    let good = place.integers("lake", "good");
    assert_eq!(good, (0..hostile.len() as i64).collect::<Vec<_>>());
    let count = |name: &str| verified[name].as_u64().expect("a count");
    let accounted = count("rows") + count("dead_letters") + count("dropped");
    assert_eq!(accounted + refused, input.len() as u64, "{verified}");
}
