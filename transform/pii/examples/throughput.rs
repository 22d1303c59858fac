//! Scans records of a fleet over and over and prints the throughput of one core: the best of
//! several rounds, because other work on the machine only ever makes a round slower. With paths,
//! the records of those files, one a line, are scanned instead.
//!
//! `cargo run --release -p hydrant-pii --example throughput [records.ndjson ..]`

use std::sync::Arc;

use hydrant_pii::{Engine, Policy, ScanVerdict};

/// Names of the workloads, with one record each.
const WORKLOADS: &[(&str, &str)] = &[
    (
        "clean telemetry",
        r#"{"device_id":"sensor-pad-7f31","seq":184467,"ts":"2026-11-21T03:26:15.123Z","site":"plant-4","model":"TX-200","metrics":{"temp_c":21.75,"humidity":48.2,"battery_mv":3712,"rssi":-67,"uptime_s":864233},"status":"ok","tags":["line-2","indoor","calibrated"],"trace":"550e8400-e29b-41d4-a716-446655440000"}"#,
    ),
    (
        "clean log lines",
        r#"{"timestamp":1475876932,"level":"info","host":"db1","service":"ingest","message":"flushed 182 pages in 14 ms, 3 retries, next at 2026-11-21 03:26:15","path":"/var/lib/hydrant/segment-000000000000012345.log","pid":4711}"#,
    ),
    (
        "one address",
        r#"{"device_id": 0, "device_type": "sensor-ipad", "ip": "68.161.225.1", "cca3": "USA", "cn": "United States", "temp": 22, "signal": 23, "battery_level": 8, "c02_level": 917, "timestamp" :1475876932 }"#,
    ),
    (
        "a person",
        r#"{"user":{"name":"Jane Doe","email":"jane.doe@example.org","phone":"+1 415 555 2671"},"ip":"10.1.2.3","lat":52.520008,"lon":13.404954,"temp":22.5,"status":"ok"}"#,
    ),
];

/// Bytes that each round scans, and how many rounds there are.
const ROUND_BYTES: usize = 4 << 20;
const ROUNDS: usize = 25;

#[expect(
    clippy::disallowed_methods,
    reason = "a measurement of this process reads the clock"
)]
#[expect(clippy::print_stdout, reason = "the result of the program")]
fn measure(name: &str, records: &[&[u8]]) {
    let mut engine = Engine::new(Arc::new(Policy::strict()));
    let mut out = Vec::new();
    let mut best = f64::INFINITY;
    let (mut bytes, mut count, mut redacted) = (0, 0, 0);
    for _ in 0..ROUNDS {
        (bytes, count, redacted) = (0, 0, 0);
        let start = std::time::Instant::now();
        for record in records.iter().cycle() {
            out.clear();
            redacted += usize::from(engine.process(record, &mut out) == ScanVerdict::Redacted);
            bytes += record.len();
            count += 1;
            if bytes >= ROUND_BYTES {
                break;
            }
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!(
        "{name:16} {:7.0} MB/s {:9.0} records/s, {redacted} of {count} redacted",
        bytes as f64 / 1e6 / best,
        count as f64 / best
    );
}

fn main() -> std::io::Result<()> {
    let mut paths = std::env::args_os().skip(1).peekable();
    if paths.peek().is_none() {
        for (name, record) in WORKLOADS {
            measure(name, &[record.as_bytes()]);
        }
    }
    for path in paths {
        let text = std::fs::read(&path)?;
        let lines: Vec<_> = text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .collect();
        if !lines.is_empty() {
            measure(&path.to_string_lossy(), &lines);
        }
    }
    Ok(())
}
