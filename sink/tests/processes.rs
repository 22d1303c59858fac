//! Real processes of `hydrant-sink` over a real log and a real lake, killed as `kill -9` does.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hydrant_core::batch::{Batch, Entry, RunBuilder, Span, Step};
use hydrant_core::stream::Append;
use hydrant_core::{Context, Sequence, clock, hash};
use hydrant_sink::inspect::rows;
use hydrant_sink::lake::{Lakes, TableNames};
use hydrant_sink::verify::{Depth, verify};
use hydrant_stream::Streams;

const RECORDS: u64 = 4_000;
/// How many records one append has: one frame, so that a sink with a small flush size publishes often.
const APPEND: u64 = 40;

/// A batch of the records `from..`, and the route of each.
fn batch(from: u64, to: u64) -> (Batch, Vec<u128>) {
    let mut bytes = BytesMut::new();
    let (mut records, mut routes, mut runs) = (Vec::new(), Vec::new(), RunBuilder::default());
    for n in from..to {
        let mut span = |text: String| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(text.as_bytes());
            Span::new(start, text.len() as u32)
        };
        let key = format!("device-{}", n % 17);
        routes.push(hash::route_of_key(key.as_bytes()));
        let key = Some(span(key));
        let day = 1 + n % 3;
        let payload = match n % 100 {
            7 => format!("{{\"n\":{n}"),
            _ => format!("{{\"n\":{n},\"ts\":\"2026-03-{day:02}T00:00:00Z\"}}"),
        };
        let payload = span(payload);
        records.push(Entry {
            segment: 0,
            key,
            payload,
            stamp: 1_772_000_000_000_000,
        });
        runs.push(Sequence::from(n), 0, Step::Sequence, 0);
    }
    let batch = Batch {
        segments: Arc::new([bytes.freeze()]),
        records,
        runs: runs.finish(),
        ..Batch::default()
    };
    (batch, routes)
}

async fn fill(url: &str, context: &Context) {
    let streams = Streams::default();
    let stream = streams.create(url, 2, &[], context).await.unwrap();
    let writer = stream.writer().await.unwrap();
    let shards: Vec<_> = stream.shards().await.unwrap().open().cloned().collect();
    for from in (0..RECORDS).step_by(APPEND as usize) {
        let (batch, hashes) = batch(from, from + APPEND);
        let batch = Arc::new(batch);
        for shard in &shards {
            let mine = |at: &u32| shard.range.contains(hashes[*at as usize]);
            let record_indexes: std::sync::Arc<[u32]> =
                (0..batch.len() as u32).filter(mine).collect();
            let routes = record_indexes
                .iter()
                .map(|at| hashes[*at as usize])
                .collect();
            let append = Append {
                batch: Arc::clone(&batch),
                record_indexes,
                routes,
                explicit: false,
                ..Append::default()
            };
            writer
                .submit(&shard.id, append)
                .await
                .unwrap()
                .await
                .unwrap();
        }
    }
}

fn sink(from: &str, to: &str, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hydrant-sink"))
        .args([
            "--from",
            from,
            "--to",
            to,
            "--flush-interval",
            "10ms",
            "--flush-bytes",
            "1KiB",
        ])
        .args(["--memory", "32MiB", "--log-level", "error"])
        .args(more)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The number of files below a directory of the lake; 0 before the directory exists.
fn count(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| if path.is_dir() { count(&path) } else { 1 })
        .sum()
}

/// Rows are exactly once in the lake. Two sinks share the work and are killed again and again as soon as they have
/// published something.
#[tokio::test]
async fn killed_sinks_leave_each_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let url = |kind: &str, name: &str| format!("{kind}:{}", dir.path().join(name).display());
    let (from, to) = (url("local", "clean"), url("file", "lake"));
    let context = Context::system(64 << 20).unwrap();
    fill(&from, &context).await;
    let commits = dir.path().join("lake/_hydrant/events/commits");
    for round in 0..4 {
        let before = count(&commits);
        let mut sinks = [sink(&from, &to, &[]), sink(&from, &to, &[])];
        // Some rounds die early, some late; none waits for more than there is left to publish.
        for _ in 0..400 {
            if count(&commits) > before + round * 3 {
                break;
            }
            clock::sleep(Duration::from_millis(5)).await;
        }
        for sink in &mut sinks {
            sink.kill().unwrap();
            sink.wait().unwrap();
        }
    }
    let status = sink(&from, &to, &["--exit-at-end", "--idle", "200ms"])
        .wait()
        .unwrap();
    assert!(status.success(), "{status}");

    let lake = Lakes::default().open_read(&to, &context).await.unwrap();
    let names = TableNames::try_new("events").unwrap();
    let report = verify(&lake, &names, Depth::default()).await.unwrap();
    assert!(report.is_good(), "{report:?}");
    let dead_letters = RECORDS / 100;
    assert_eq!(
        (report.units.input, report.units.dead_letters),
        (RECORDS, dead_letters)
    );
    assert_eq!(report.units.rows, RECORDS - dead_letters);
    let mut numbers: Vec<u64> = Vec::new();
    let mut take = |row: &str| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        numbers.push(row["n"].as_u64().unwrap());
        Ok(())
    };
    rows(&lake, &names, None, u64::MAX, &mut take)
        .await
        .unwrap();
    numbers.sort_unstable();
    let wanted: Vec<u64> = (0..RECORDS).filter(|n| n % 100 != 7).collect();
    assert_eq!(numbers, wanted);
}

/// A mistake is reported with exit code 64 and nothing is done.
#[test]
fn mistakes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lake = format!("file:{}", dir.path().join("lake").display());
    let clean = format!("local:{}", dir.path().join("none").display());
    for (to, more) in [
        ("s3://bucket/x", ["--wait", "0s"]),
        (lake.as_str(), ["--wait", "0s"]),
        (lake.as_str(), ["--table", "_x"]),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_hydrant-sink"))
            .args(["--from", &clean, "--to", to])
            .args(more)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert!(!output.stderr.is_empty());
    }
}
