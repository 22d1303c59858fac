//! Every metric that the binaries write is described to the one who scrapes it.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::architecture::production_code;
use crate::test_dir::TestDir;

/// The names in `text` of metrics which `after` follows.
fn names<'a>(text: &'a str, after: &str) -> impl Iterator<Item = &'a str> {
    let groups = [
        "process",
        "producer",
        "local",
        "lanes",
        "consumer",
        "transform",
        "sink",
    ];
    let starts = text.match_indices("hydrant_").map(|(at, _)| &text[at..]);
    let words = starts.map(|text| {
        let is_part = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'_';
        let length = text.bytes().take_while(|byte| is_part(byte)).count();
        text.split_at(length)
    });
    words.filter_map(move |(name, rest)| {
        let mut parts = name.splitn(3, '_').skip(1);
        let is_metric = groups.contains(&parts.next()?) && parts.next().is_some();
        (is_metric && rest.starts_with(after)).then_some(name)
    })
}

#[test]
fn each_metric_of_the_code_has_a_sentence() {
    let code = production_code();
    let all = |after: &'static str| -> BTreeSet<&str> {
        let texts = code.iter();
        texts.flat_map(|(_, text)| names(text, after)).collect()
    };
    let (written, described) = (all("\""), all(" "));
    assert!(written.len() > 40, "{written:?}");
    assert_eq!(written, described);
}

/// What the process that logs to `log` answers to a scrape.
fn scrape(place: &TestDir, log: &str) -> Option<String> {
    let log = place.read_so_far(log);
    let (_, rest) = log.split_once("metrics on http://")?;
    let (address, _) = rest.split_once("/metrics")?;
    let mut connection = TcpStream::connect(address).ok()?;
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn each_metric_of_a_running_pipeline_has_a_help_line() {
    let place = TestDir::new();
    place.write(
        "run.toml",
        "[run]\ndir = \".\"\n[producer]\nsimulate = 100\n[sink]\nflush-interval = \"100ms\"\n",
    );
    let args = ["run", "run.toml", "--metrics", "127.0.0.1:0"];
    let mut run = place.start("hydrant", &args, "run.log");
    let mut answer = String::new();
    place.wait_until("rows are published", || {
        answer = scrape(&place, "run.log").unwrap_or_default();
        answer.contains("\nhydrant_sink_rows_total")
    });
    assert_eq!(run.terminate(), Some(0), "{}", place.logs());
    let named = |head: &str| -> BTreeSet<&str> {
        let lines = answer.lines().filter_map(|line| line.strip_prefix(head));
        lines.filter_map(|rest| rest.split(' ').next()).collect()
    };
    let (written, described) = (named("# TYPE "), named("# HELP "));
    assert!(written.len() > 25, "{answer}");
    let bare: Vec<_> = written.difference(&described).collect();
    assert!(bare.is_empty(), "these have no sentence: {bare:?}");
}
