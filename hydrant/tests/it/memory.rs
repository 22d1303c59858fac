//! Compares the memory of the processes, as the system counts it, with `--memory`.
//!
//! The inputs are those that grow most on their way: records of two bytes, of which little is payload, also as dead
//! letters, records of a mebibyte that no codec compresses, and records of one key in a table of two thousand. The fixed cost covers the program, its threads, the
//! gaps of the allocator and one record of the largest size in each stage. `HYDRANT_MEMORY_LINES` sets the number of
//! short lines, `HYDRANT_MEMORY_MIB` the budget.

use std::io::Write as _;
use std::time::Duration;

use crate::lake::files;
use crate::process::setting;
use crate::test_dir::{TestDir, to_the_end};

const MIB: u64 = 1 << 20;
const MEMORY_MIB: u64 = 16;
const FIXED_COST: u64 = 60 * MIB;
const SHORT_LINES: u64 = 300_000;
const LONG_LINES: u64 = 64;
const WIDE_LINES: u64 = 100_000;
const WIDE_COLUMNS: u64 = 1_999;

fn memory_mib() -> u64 {
    setting("HYDRANT_MEMORY_MIB", MEMORY_MIB)
}

/// Numbers of two digits, one a line.
fn short_lines(place: &TestDir) -> u64 {
    let lines = setting("HYDRANT_MEMORY_LINES", SHORT_LINES);
    let mut text = Vec::new();
    for n in 0..lines {
        writeln!(text, "{:02}", 10 + n % 90).expect("memory takes it");
    }
    place.write("input", text);
    lines
}

/// Pairs of letters that are not JSON, one a line: each becomes a dead letter.
fn broken_lines(place: &TestDir) -> u64 {
    let lines = setting("HYDRANT_MEMORY_LINES", SHORT_LINES);
    place.write("input", b"ab\n".repeat(lines as usize));
    lines
}

/// Objects of nearly a mebibyte of random characters.
fn long_lines(place: &TestDir) -> u64 {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = Vec::new();
    for _ in 0..LONG_LINES {
        text.extend_from_slice(b"{\"b\":\"");
        for _ in 0..MIB - 64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push(LETTERS[(state >> 58) as usize]);
        }
        text.extend_from_slice(b"\"}\n");
    }
    place.write("input", text);
    LONG_LINES
}

/// Objects of one key each, of which there are 1,999, behind one that has all.
fn lines_of_one_key(place: &TestDir) -> u64 {
    let lines = setting("HYDRANT_MEMORY_LINES", WIDE_LINES);
    let all: Vec<String> = (0..WIDE_COLUMNS)
        .map(|n| format!("\"k{n}\":{n}.5"))
        .collect();
    let mut text = format!("{{{}}}\n", all.join(","));
    for n in 0..lines {
        text += &format!("{{\"k{}\":1}}\n", n * 7919 % WIDE_COLUMNS);
    }
    place.write("input", text);
    let types: Vec<String> = (0..WIDE_COLUMNS)
        .map(|n| format!("k{n} = \"DOUBLE\"\n"))
        .collect();
    place.write("wide.toml", format!("[sink.columns]\n{}", types.concat()));
    lines + 1
}

/// Runs a binary to its end and checks its peak of memory.
#[track_caller]
fn assert_bounded(place: &TestDir, name: &str, args: &[&str]) {
    assert_bounded_by(memory_mib(), place, name, args);
}

/// The same with a budget of its own.
#[track_caller]
fn assert_bounded_by(memory_mib: u64, place: &TestDir, name: &str, args: &[&str]) {
    let memory = format!("{memory_mib}MiB");
    let args = [args, &["--memory", &memory]].concat();
    let mut process = place.start(name, &args, "memory.log");
    let mut peak = 0;
    let code = loop {
        peak = peak.max(process.peak_bytes().unwrap_or_default());
        if let Some(code) = process.ended() {
            break code;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(code, Some(0), "{name}: {}", place.logs());
    eprintln!("{name}: {} KiB at most", peak >> 10);
    assert!(
        peak < memory_mib * MIB + FIXED_COST,
        "`{name}` took {} KiB",
        peak >> 10
    );
}

const SEND_INPUT: [&str; 6] = [
    "--to",
    "local:raw",
    "--input",
    "input",
    "--format",
    "ndjson",
];

/// Sends the input through all stages, one after another; `records` of it become rows.
fn assert_all_bounded(place: &TestDir, records: u64) {
    assert_bounded(place, "hydrant-producer", &SEND_INPUT);
    for (name, [from, to]) in [
        ("hydrant-transform", ["local:raw", "local:clean"]),
        ("hydrant-consumer", ["local:clean", "local:copy"]),
        ("hydrant-sink", ["local:clean", "file:lake"]),
    ] {
        assert_bounded(place, name, &to_the_end(from, to));
    }
    let copied: u64 = place.stored("local:copy").iter().sum();
    assert_eq!(copied, records);
}

/// Runs the pipeline in one process, fused or with a stream between the stages.
fn assert_run_bounded(place: &TestDir, inline: bool) {
    let name = if inline { "fused" } else { "apart" };
    let config = format!(
        "[producer]\ninput = \"input\"\n[run]\ndir = \"{name}\"\ninline = {inline}\nexit-at-end = true\n"
    );
    place.write(&format!("{name}.toml"), config);
    assert_bounded(place, "hydrant", &["run", &format!("{name}.toml")]);
}

#[test]
fn records_of_two_bytes_stay_within_the_memory() {
    let place = TestDir::new();
    let lines = short_lines(&place);
    assert_all_bounded(&place, lines);
    assert_run_bounded(&place, true);
    assert_run_bounded(&place, false);
}

#[test]
fn records_that_no_codec_makes_smaller_stay_within_the_memory() {
    let place = TestDir::new();
    let lines = long_lines(&place);
    assert_all_bounded(&place, lines);
    assert_run_bounded(&place, true);
    assert_run_bounded(&place, false);
}

#[test]
fn records_that_become_dead_letters_stay_within_the_memory() {
    let place = TestDir::new();
    let lines = broken_lines(&place);
    assert_all_bounded(&place, 0);
    let copy = to_the_end("local:raw", "copy.txt");
    let copy = [&copy[..], &["--filter", "/a=1"]].concat();
    assert_bounded(&place, "hydrant-consumer", &copy);
    let dead_letters = place.read("copy.txt.dead-letters.ndjson");
    assert_eq!(dead_letters.lines().count() as u64, lines);
}

/// A row of two thousand columns takes what its values take, and memory does not make small files of such rows.
#[test]
fn records_of_one_key_of_a_wide_table_stay_within_the_memory() {
    let place = TestDir::new();
    let lines = lines_of_one_key(&place);
    let one_batch = [&SEND_INPUT[..], &["--shards", "1", "--batch-bytes", "4MiB"]].concat();
    assert_bounded_by(256, &place, "hydrant-producer", &one_batch);
    let land = to_the_end("local:raw", "file:lake");
    let land = [&["--config", "wide.toml"], &land[..]].concat();
    assert_bounded_by(256, &place, "hydrant-sink", &land);
    let rows = place
        .rows("lake")
        .iter()
        .map(|batch| batch.num_rows() as u64)
        .sum::<u64>();
    assert_eq!(rows, lines);
    let files = files(&place.path("lake/events"));
    assert!(files.len() <= 2, "{files:?}");
}
