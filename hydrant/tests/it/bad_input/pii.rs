//! Bad lines through the PII engine alone.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};

use serde_json::Value;

use super::records::nested;
use crate::process::Running;
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

/// `hydrant pii run` in the middle of a pipe, and the ends of that pipe.
fn in_a_pipe(place: &TestDir) -> (PipeWriter, Running, PipeReader) {
    let (input, writer) = std::io::pipe().expect("a pipe");
    let (reader, output) = std::io::pipe().expect("a pipe");
    let args = ["pii", "run", "--json", "--report", "report.ndjson"];
    let (input, output) = (input.into(), output.into());
    let stripper = Running::between(input, output, "hydrant", place.root(), &args, "pii.log");
    (writer, stripper, reader)
}

/// Lines leave when they come, however slow the input is, and the first signal ends the command with its summary.
#[test]
fn lines_in_a_pipe_leave_at_once_and_a_signal_ends_the_command() {
    let place = TestDir::new();
    let (mut writer, mut stripper, mut reader) = in_a_pipe(&place);
    let line = b"{\"mail\":\"jane@x.org\"}\n";
    writer.write_all(line).expect("the line goes in");
    let (sender, passed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        let count = reader.read(&mut bytes).expect("the pipe reads");
        // The test may have failed already.
        let _gone = sender.send((bytes[..count].to_vec(), reader));
    });
    let mut first = None;
    place.wait_until("the line leaves", || {
        first = first.take().or(passed.try_recv().ok());
        first.is_some()
    });
    let (bytes, mut reader) = first.expect("a line");
    assert_eq!(bytes, b"{\"mail\":\"[EMAIL]\"}\n");
    let report = place.read("report.ndjson");
    assert!(report.contains("\"line\":1"), "{report}");

    stripper.signal("-TERM");
    assert_eq!(
        place.wait_for_end(&mut stripper),
        Some(0),
        "{}",
        place.logs()
    );
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("the pipe reads");
    assert_eq!(String::from_utf8_lossy(&rest), "");
    let log = place.read("pii.log");
    assert!(
        log.contains(r#"{"lines":1,"clean":0,"redacted":1"#),
        "{log}"
    );
    drop(writer);
}
