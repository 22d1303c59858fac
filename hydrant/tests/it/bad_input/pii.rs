//! Bad lines through the PII engine alone.

use serde_json::Value;

use super::records::nested;
use crate::test_dir::TestDir;

#[test]
fn bad_lines_are_only_in_the_report_and_the_good_ones_pass_in_order() {
    let place = TestDir::new();
    let bad: Vec<(Vec<u8>, &str)> = vec![
        (br#"{"secret":"RAWMARK""#.to_vec(), "malformed_json"),
        (b"RAWMARK".to_vec(), "malformed_json"),
        (
            br#"{"secret":"RAWMARK","n":NaN}"#.to_vec(),
            "malformed_json",
        ),
        (br#"{"secret":"RAWMARK","n":1}}"#.to_vec(), "malformed_json"),
        (b"{\"secret\":\"RAWMARK\xff\"}".to_vec(), "not_utf8"),
        (br#"{"secret":"RAWMARK\udc00"}"#.to_vec(), "lone_surrogate"),
        (nested("[", "]"), "too_deep"),
        (nested("{\"a\":", "}"), "too_deep"),
        (
            [b"{\"a\":\"".as_slice(), &vec![b'x'; 10 << 20], b"\"}"].concat(),
            "too_large",
        ),
    ];
    // Records that only a table would refuse are valid JSON, and pass.
    let odd = [
        r#"{"n":1,"n":2}"#,
        r#"{"":1}"#,
        r#"{"n":123456789012345678901234567890}"#,
        r#"{"n":1e999}"#,
        "[1,2]",
    ];
    let (mut input, mut wanted, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (n, (line, reason)) in bad.iter().enumerate() {
        let good = format!(r#"{{"n":{n}}}"#);
        let pass = odd.get(n).copied().unwrap_or(&good);
        input.extend_from_slice(pass.as_bytes());
        input.push(b'\n');
        input.extend_from_slice(line);
        input.push(b'\n');
        wanted.push(pass.to_owned());
        places.push((2 * n as u64 + 2, *reason, line.len() as u64));
    }
    let answer = place
        .feed(
            "hydrant",
            &["pii", "run", "--json", "--report", "report.ndjson"],
            &input,
        )
        .expect(0, &[]);
    assert_eq!(answer.out.lines().collect::<Vec<_>>(), wanted);
    let report = place.read("report.ndjson");
    let told: Vec<Value> = report
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let told: Vec<(u64, &str, u64)> = told
        .iter()
        .map(|fate| {
            assert_eq!(fate["action"], "quarantine", "{fate}");
            (
                fate["line"].as_u64().expect("a line"),
                fate["reason"].as_str().expect("a reason"),
                fate["length"].as_u64().expect("a length"),
            )
        })
        .collect();
    assert_eq!(told, places);
    let summary: Value = answer
        .err
        .lines()
        .find_map(|line| serde_json::from_str(line).ok())
        .expect("a summary");
    assert_eq!(summary["lines"], 2 * bad.len(), "{summary}");
    assert_eq!(summary["clean"], bad.len(), "{summary}");
    assert_eq!(summary["quarantined"], bad.len(), "{summary}");
    for text in [&answer.out, &answer.err, &report] {
        assert!(!text.contains("RAWMARK"), "{text}");
    }
}
