//! The transform between two embedded logs: every record counted, through kills, workers in parallel and a second hop.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use hydrant_consumer::runtime;
use hydrant_core::batch::{Batch, Entry, Span};
use hydrant_core::hash::route_of_key;
use hydrant_core::stream::{Append, OpenAt, Read, SharedStream};
use hydrant_core::{Context, Disposition, Position, Result, Shutdown};
use hydrant_process::config::{Layers, Problems};
use hydrant_stream::Streams;
use hydrant_transform::config::{Config, TransformArgs};
use hydrant_transform::wire;

const POLICY: &str = r#"
[policy]
name = "test"

[[rule]]
name = "noise"
path = "$.noise"
action = "drop-record"
"#;

const MEMORY: u64 = 64 << 20;

fn url(dir: &Path, name: &str) -> String {
    format!("local:{}", dir.join(name).display())
}

fn key(n: u64) -> Option<String> {
    match n % 6 {
        0 => None,
        1 => Some(format!("user{}@example.org", n % 12)),
        device => Some(format!("device-{device}")),
    }
}

fn payload(n: u64) -> String {
    match n % 10 {
        3 => format!(r#"{{"n":{n},"mail":"ann@exam"#),
        4 => format!(r#"{{"n":{n},"noise":true}}"#),
        5 => format!(r#"{{"n":{n},"mail":"ann{n}@example.org"}}"#),
        _ => format!(r#"{{"n":{n},"temp":22.6}}"#),
    }
}

/// Appends records `from..to` as a foreign producer does, a few at a time.
async fn fill(stream: &SharedStream, from: u64, to: u64) -> Result<()> {
    let writer = stream.writer().await?;
    let map = stream.shards().await?;
    for first in (from..to).step_by(50) {
        let mut batches: BTreeMap<_, (Vec<u8>, Vec<Entry>, Vec<u128>)> = BTreeMap::new();
        for n in first..(first + 50).min(to) {
            let key = key(n);
            let hash = route_of_key(key.as_deref().unwrap_or("none").as_bytes());
            let shard = map.route(hash).expect("a whole map").id.clone();
            let (bytes, entries, routes) = batches.entry(shard).or_default();
            let mut put = |text: &str| {
                let start = bytes.len() as u32;
                bytes.extend_from_slice(text.as_bytes());
                Span::new(start, text.len() as u32)
            };
            entries.push(Entry {
                segment: 0,
                key: key.as_deref().map(&mut put),
                payload: put(&payload(n)),
                stamp: n as i64,
            });
            routes.push(hash);
        }
        for (shard, (bytes, records, routes)) in batches {
            let append = Append {
                record_indexes: (0..records.len() as u32).collect(),
                batch: Arc::new(Batch {
                    segments: Arc::from([Bytes::from(bytes)]),
                    records,
                    ..Batch::default()
                }),
                routes: routes.into(),
                explicit: false,
                ..Append::default()
            };
            writer.submit(&shard, append).await?.await?;
        }
    }
    Ok(())
}

/// Shard, key and explicit hash of a record.
type StoredPayload = (String, Option<String>, Option<u128>);

/// What a stream holds.
#[derive(Default)]
struct StreamContents {
    /// By number.
    records: BTreeMap<u64, Vec<StoredPayload>>,
    payloads: Vec<String>,
    dead_letters: Vec<hydrant_core::origin::DeadLetter>,
    dropped: BTreeMap<String, u64>,
    input: u64,
    /// Numbers in the order of the log, by shard.
    orders: BTreeMap<String, Vec<u64>>,
}

fn number(payload: &str) -> u64 {
    let rest = payload.strip_prefix("{\"n\":").expect("a test record");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("digits")
}

/// Reads what a stream holds now; with `until`, waits for this many records and stops.
async fn read(
    stream: &SharedStream,
    context: &Context,
    until: Option<usize>,
) -> Result<StreamContents> {
    let mut found = StreamContents::default();
    let mut count = 0;
    for shard in stream.shards().await?.all() {
        let at = OpenAt::after(Position::Begin);
        let mut reader = stream.reader(&shard.id, at, &context.budget).await?;
        loop {
            let batch = match reader.next().await? {
                Read::Batch(batch) => batch,
                Read::Idle { .. } if until.is_some() => continue,
                Read::Idle { .. } | Read::End { .. } => break,
                Read::Gap { why, .. } => panic!("a gap: {why}"),
            };
            for (index, entry) in batch.records.iter().enumerate() {
                let payload = String::from_utf8(batch.payload(entry).to_vec()).expect("text");
                let key = batch
                    .key(entry)
                    .map(|key| String::from_utf8_lossy(key).into_owned());
                let n = number(&payload);
                let name = shard.id.to_string();
                let hash = batch.hashes.get(index).copied();
                assert!(hash.is_none_or(|hash| shard.range.contains(hash)));
                found
                    .records
                    .entry(n)
                    .or_default()
                    .push((name.clone(), key, hash));
                found.orders.entry(name).or_default().push(n);
                found.payloads.push(payload);
                count += 1;
            }
            for span in batch.accounts {
                assert!(span.account.balances(), "{span:?}");
                found.input += span.account.input;
                found.dead_letters.extend(span.account.dead_letters);
                for dropped in span.account.dropped {
                    *found.dropped.entry(dropped.rule.to_string()).or_default() += dropped.count;
                }
            }
            if until.is_some_and(|until| count >= until) {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn check(found: &StreamContents, total: u64, units: u64) {
    assert_eq!(found.input, units, "units that came in");
    let mut dropped = 0;
    let mut dead_letters = 0;
    for n in 0..total {
        let records = found.records.get(&n).map_or(0, Vec::len);
        match n % 10 {
            3 => dead_letters += 1,
            4 => dropped += 1,
            _ => {
                assert_eq!(records, 1, "record {n}");
                continue;
            }
        }
        assert_eq!(records, 0, "record {n}");
    }
    assert_eq!(found.dead_letters.len(), dead_letters);
    assert_eq!(found.dropped.get("noise"), Some(&dropped));
    assert_eq!(found.dropped.len(), 1);
    let mut places: Vec<_> = found
        .dead_letters
        .iter()
        .map(|letter| (letter.shard.clone(), letter.sequence, letter.sub))
        .collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), dead_letters, "each letter once");
    assert!(found.dead_letters.iter().all(|letter| {
        &*letter.reason == "malformed_json"
            && letter.stream.starts_with("raw@")
            && letter
                .key
                .as_deref()
                .is_none_or(|key| !key.contains("user"))
    }));
    assert!(!found.payloads.iter().any(|payload| payload.contains("ann")));
    // Shards are named in the order of their making, so parents come before children.
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for n in found.orders.values().flatten() {
        let Some(key) = key(*n) else { continue };
        let before = last.entry(key.clone()).or_insert(*n);
        assert!(*before <= *n, "key {key}: {n} after {before}");
        *before = *n;
    }
    for (n, records) in &found.records {
        let (_, shown, hash) = &records[0];
        let Some(key) = key(*n) else { continue };
        let wanted = if key.contains('@') { "[EMAIL]" } else { &key };
        assert_eq!(shown.as_deref(), Some(wanted));
        let hash = hash.expect("the hash of a key travels with it");
        assert_eq!(hash >> 112, route_of_key(key.as_bytes()) >> 112);
        assert_ne!(hash, route_of_key(key.as_bytes()));
    }
}

fn config(from: &str, to: &str, policy: Option<&Path>, exit: bool) -> Config {
    let args = TransformArgs {
        from: Some(from.to_owned()),
        to: Some(to.to_owned()),
        policy: policy.map(|path| path.display().to_string()),
        exit_at_end: exit,
        idle: Some("50ms".to_owned()),
        shards: Some("4".to_owned()),
        ..TransformArgs::default()
    };
    let mut problems = Problems::new();
    let config = Config::read(
        &args,
        &Streams::default(),
        &Layers::default(),
        &mut problems,
    );
    problems.into_result().expect("a good configuration");
    config.expect("no problem")
}

async fn run(app: &str, config: &Config, shutdown: &Shutdown) -> Result<runtime::Summary> {
    let context = Context::system(MEMORY)?;
    let spec = wire::prepare(app.to_owned(), context, shutdown.clone(), config).await?;
    runtime::run(spec).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_accounted_for_once_through_a_kill_and_a_second_hop() {
    const TOTAL: u64 = 3000;
    let dir = tempfile::tempdir().expect("a directory");
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, POLICY).expect("a file");
    let (raw, clean, twice) = (
        url(dir.path(), "raw"),
        url(dir.path(), "clean"),
        url(dir.path(), "twice"),
    );
    let context = Context::system(MEMORY).expect("a context");
    let create = |url: String, shards| {
        let context = context.clone();
        async move {
            let streams = Streams::default();
            streams.create(&url, shards, &[], &context).await
        }
    };
    let input = create(raw.clone(), 3).await.expect("a stream");
    let output = create(clean.clone(), 4).await.expect("a stream");
    fill(&input, 0, TOTAL / 2).await.expect("appends");

    // A worker dies when a part of its output is visible.
    let unending = config(&raw, &clean, Some(&policy), false);
    let shutdown = Shutdown::new();
    tokio::select! {
        ended = run("strip", &unending, &shutdown) => panic!("it ended: {ended:?}"),
        seen = read(&output, &context, Some(40)) => drop(seen.expect("a readable output")),
    }
    fill(&input, TOTAL / 2, TOTAL).await.expect("appends");

    // What it sent last is unconfirmed, so its successor works by the same policy or not at all.
    let other = config(&raw, &clean, None, true);
    let refused = run("strip", &other, &shutdown).await.expect_err("a pin");
    assert_eq!(refused.disposition(), Disposition::Refused, "{refused}");

    // Two workers continue, and so does a second hop at the same time.
    let ending = config(&raw, &clean, Some(&policy), true);
    let hop = config(&clean, &twice, None, false);
    let hopping = Shutdown::new();
    let second = tokio::spawn({
        let (hop, hopping) = (hop.clone(), hopping.clone());
        async move { run("again", &hop, &hopping).await }
    });
    let (a, b) = tokio::join!(
        run("strip", &ending, &shutdown),
        run("strip", &ending, &shutdown)
    );
    let (a, b) = (a.expect("a run"), b.expect("a run"));
    assert!(a.records + b.records >= TOTAL / 2);
    let found = read(&output, &context, None)
        .await
        .expect("a readable output");
    check(&found, TOTAL, TOTAL);

    // After a clean end another policy may continue.
    let summary = run("strip", &other, &shutdown).await.expect("a run");
    assert_eq!(summary.records, 0);

    // The second hop stops cleanly and ends in another process of the same app.
    hopping.advance(hydrant_core::shutdown::Phase::Draining);
    second.await.expect("no panic").expect("a clean drain");
    let hop = config(&clean, &twice, None, true);
    run("again", &hop, &Shutdown::new()).await.expect("a run");
    let output = Streams::default()
        .open(&twice, &context)
        .await
        .expect("a stream");
    let found = read(&output, &context, None)
        .await
        .expect("a readable output");
    check(&found, TOTAL, TOTAL);
    // Run again from its checkpoint: nothing is added.
    let summary = run("again", &hop, &Shutdown::new()).await.expect("a run");
    assert_eq!(summary.records, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_resharded_meanwhile_keep_every_record_once_and_in_order() {
    const TOTAL: u64 = 2400;
    let dir = tempfile::tempdir().expect("a directory");
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, POLICY).expect("a file");
    let (raw, clean) = (url(dir.path(), "raw"), url(dir.path(), "clean"));
    let context = Context::system(MEMORY).expect("a context");
    let streams = Streams::default();
    let input = streams
        .create(&raw, 2, &[], &context)
        .await
        .expect("a stream");
    let output = streams
        .create(&clean, 2, &[], &context)
        .await
        .expect("a stream");
    let admin = output.admin();
    let shutdown = Shutdown::new();
    let worker = tokio::spawn({
        let (config, shutdown) = (config(&raw, &clean, Some(&policy), false), shutdown.clone());
        async move { run("strip", &config, &shutdown).await }
    });
    for round in 0..6 {
        let step = TOTAL / 6;
        fill(&input, round * step, round * step + step / 2)
            .await
            .expect("appends");
        let map = output.shards().await.expect("a map");
        let mut open: Vec<_> = map.open().cloned().collect();
        open.sort_by_key(|shard| shard.range.first);
        let seen = output.states().await.expect("states");
        assert!(seen.iter().any(|state| state.tip > Some(Position::Begin)) || round == 0);
        if round % 3 == 1 {
            let map = input.shards().await.expect("a map");
            let parent = map.open().next().expect("an open shard").id.clone();
            let admin = input.admin();
            admin.split(&parent, None).await.expect("a split");
        }
        if round % 3 == 2 {
            admin
                .merge(&open[0].id, &open[1].id)
                .await
                .expect("a merge");
        } else {
            admin.split(&open[1].id, None).await.expect("a split");
        }
        fill(&input, round * step + step / 2, (round + 1) * step)
            .await
            .expect("appends");
        if round == 0 {
            // From here on the worker is known to write.
            drop(
                read(&output, &context, Some(10))
                    .await
                    .expect("a readable output"),
            );
        }
    }
    shutdown.advance(hydrant_core::shutdown::Phase::Draining);
    worker.await.expect("no panic").expect("a clean drain");
    let ending = config(&raw, &clean, Some(&policy), true);
    run("strip", &ending, &Shutdown::new())
        .await
        .expect("a run");
    let found = read(&output, &context, None)
        .await
        .expect("a readable output");
    check(&found, TOTAL, TOTAL);
    assert!(found.orders.len() > 4, "children were written");
}

fn transform(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hydrant-transform"))
        .args(arguments)
        .env_remove("HYDRANT_CONFIG")
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn the_binary_processes_to_the_end_and_refuses_what_makes_no_sense() {
    let dir = tempfile::tempdir().expect("a directory");
    let (raw, clean) = (url(dir.path(), "raw"), url(dir.path(), "clean"));
    let context = Context::system(MEMORY).expect("a context");
    let input = Streams::default()
        .create(&raw, 2, &[], &context)
        .await
        .expect("a stream");
    fill(&input, 0, 100).await.expect("appends");
    let (code, stdout, stderr) = transform(&[
        "--from",
        &raw,
        "--to",
        &clean,
        "--exit-at-end",
        "--idle",
        "50ms",
        "--json",
    ]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("\"records\":100"), "{stdout}");
    let output = Streams::default()
        .open(&clean, &context)
        .await
        .expect("a stream");
    assert_eq!(output.shards().await.expect("a map").open().count(), 2);

    let (code, _, stderr) = transform(&["--from", &raw, "--to", &raw]);
    assert_eq!(code, Some(64), "{stderr}");
    // The same directory by another name is the same stream.
    let alias = raw.replace("/raw", "/./raw");
    let (code, _, stderr) = transform(&["--from", &raw, "--to", &alias]);
    assert_eq!(code, Some(64), "{stderr}");
    assert!(stderr.contains("both input and output"), "{stderr}");
    let missing = url(dir.path(), "missing");
    let (code, _, stderr) = transform(&["--from", &missing, "--to", &clean, "--wait", "0s"]);
    assert_eq!(code, Some(64), "{stderr}");
    assert!(stderr.contains("hydrant stream create"), "{stderr}");
}
