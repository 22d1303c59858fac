//! The runtime and the copies over the embedded log, on a real disk.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use hydrant_consumer::config::{Config, ConsumerArgs};
use hydrant_consumer::runtime::{self, RunSpec, Summary};
use hydrant_consumer::wire::{CopyParts, prepare};
use hydrant_core::batch::{Entry, Span};
use hydrant_core::headers::put_header;
use hydrant_core::lease::LeaseStore;
use hydrant_core::shutdown::Phase;
use hydrant_core::stream::{Append, Assignment, Join, SharedStream};
use hydrant_core::{Batch, Budget, Context, Random, Result, Shutdown, Workers, clock, hash};
use hydrant_process::Stdout;
use hydrant_process::config::{Layers, Problems};
use hydrant_stream::Streams;
use hydrant_testing::disk::SimWorld;

fn context() -> Context {
    Context::system(32 << 20).unwrap()
}

fn url(dir: &Path, name: &str) -> String {
    format!("local:{}", dir.join(name).display())
}

/// Where what the stream in a directory holds lies.
fn home(dir: &Path) -> PathBuf {
    let names = std::fs::read_dir(dir).unwrap();
    let mut dirs = names.map(|entry| entry.unwrap().path());
    dirs.find(|path| path.is_dir()).unwrap()
}

async fn create(url: &str, shards: u32) -> SharedStream {
    Streams::default()
        .create(url, shards, &[], &context())
        .await
        .unwrap()
}

/// Appends the records `numbers`, each under one of 16 keys.
async fn fill(stream: &SharedStream, numbers: std::ops::Range<u64>) {
    let writer = stream.writer().await.unwrap();
    let map = stream.shards().await.unwrap();
    let mut shards: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for n in numbers {
        let shard = map.route(route(n)).unwrap().id.clone();
        shards.entry(shard).or_default().push(n);
    }
    for (shard, numbers) in shards {
        for chunk in numbers.chunks(100) {
            let ticket = writer.submit(&shard, append(chunk)).await.unwrap();
            ticket.await.unwrap();
        }
    }
}

fn key(n: u64) -> String {
    format!("device-{}", n % 16)
}

fn route(n: u64) -> u128 {
    hash::route_of_key(key(n).as_bytes())
}

fn append(numbers: &[u64]) -> Append {
    let mut bytes = Vec::new();
    let mut put = |text: String| {
        let span = Span::new(bytes.len() as u32, text.len() as u32);
        bytes.extend_from_slice(text.as_bytes());
        span
    };
    let records = numbers
        .iter()
        .map(|n| Entry {
            segment: 0,
            key: Some(put(key(*n))),
            payload: put(format!("{{\"n\":{n},\"even\":{}}}", n % 2 == 0)),
            stamp: 1,
        })
        .collect();
    let segments = vec![Bytes::from(bytes)].into();
    Append {
        batch: Arc::new(Batch {
            segments,
            records,
            ..Batch::default()
        }),
        record_indexes: (0..numbers.len() as u32).collect(),
        routes: numbers.iter().map(|n| route(*n)).collect(),
        explicit: false,
        ..Append::default()
    }
}

/// Returns the run of a copy with these flags, each time as a process of its own.
async fn spec(app: Option<&str>, args: &ConsumerArgs) -> Result<RunSpec> {
    let mut problems = Problems::new();
    let layers = Layers::load(None, [], &mut problems);
    let config = Config::read(args, &Streams::default(), &layers, &mut problems);
    problems.into_result()?;
    let shutdown = Shutdown::new();
    let parts = CopyParts {
        app: app.map(str::to_owned),
        context: context(),
        stdout: Stdout::new(shutdown.clone()),
        shutdown,
    };
    Ok(prepare(parts, config.unwrap()).await?.0)
}

fn args(from: &str, to: &str) -> ConsumerArgs {
    ConsumerArgs {
        from: Some(from.to_owned()),
        to: Some(to.to_owned()),
        exit_at_end: true,
        idle: Some("100ms".to_owned()),
        ..ConsumerArgs::default()
    }
}

async fn copy(app: Option<&str>, args: &ConsumerArgs) -> Result<Summary> {
    runtime::run(spec(app, args).await?).await
}

/// Returns the numbers in a copy, by key, in the order of the file.
fn numbers(path: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let key = record["key"].as_str().unwrap().to_owned();
        found
            .entry(key)
            .or_default()
            .push(record["payload"]["n"].as_u64().unwrap());
    }
    found
}

fn assert_all(path: &Path, count: u64, taken: impl Fn(u64) -> bool) {
    let mut wanted: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for n in (0..count).filter(|n| taken(*n)) {
        wanted.entry(key(n)).or_default().push(n);
    }
    assert_eq!(numbers(path), wanted, "each record once, in order per key");
}

#[allow(
    clippy::disallowed_methods,
    reason = "the reader of a pipe blocks and is waited for"
)]
fn on_a_thread<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(read)
}

fn json(args: ConsumerArgs) -> ConsumerArgs {
    ConsumerArgs {
        format: Some("json".to_owned()),
        ..args
    }
}

#[tokio::test]
async fn a_file_copy_continues_across_runs_with_the_records_that_its_filters_take() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (url(dir.path(), "raw"), dir.path().join("out.ndjson"));
    let stream = create(&raw, 3).await;
    fill(&stream, 0..500).await;
    let mut args = json(args(&raw, out.to_str().unwrap()));
    args.filter = vec!["/even=true".to_owned(), "key^=device".to_owned()];
    let summary = copy(Some("file"), &args).await.unwrap();
    assert_eq!((summary.records, summary.gaps), (500, 0));
    fill(&stream, 500..700).await;
    assert_eq!(copy(Some("file"), &args).await.unwrap().records, 200);
    assert_all(&out, 700, |n| n % 2 == 0);
}

/// The summaries of copies that filter, that cannot copy a record, and whose output has the records already.
#[tokio::test]
async fn a_copy_reports_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let raw = url(dir.path(), "raw");
    let stream = create(&raw, 3).await;
    fill(&stream, 0..500).await;
    let mut bad = append(&[0]);
    bad.batch = Arc::new(Batch {
        segments: vec![Bytes::from_static(b"device-0no\nline")].into(),
        records: vec![Entry {
            segment: 0,
            key: Some(Span::new(0, 8)),
            payload: Span::new(8, 7),
            stamp: 1,
        }],
        ..Batch::default()
    });
    let map = stream.shards().await.unwrap();
    let shard = map.route(route(0)).unwrap().id.clone();
    let writer = stream.writer().await.unwrap();
    writer.submit(&shard, bad).await.unwrap().await.unwrap();
    let said = |to: &str, more: &[&str]| {
        let flags = ["--exit-at-end", "--idle", "100ms", "--json"];
        let copied = std::process::Command::new(env!("CARGO_BIN_EXE_hydrant-consumer"))
            .args(["--from", &raw, "--to", to])
            .args(flags)
            .args(more)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&copied.stderr).into_owned();
        assert!(copied.status.success(), "{errors}");
        let said: serde_json::Value = serde_json::from_slice(&copied.stdout).unwrap();
        let names = [
            "records",
            "written",
            "duplicates",
            "filtered",
            "dead_letters",
        ];
        names.map(|name| said[name].as_u64().unwrap())
    };
    let file = dir.path().join("out").display().to_string();
    let even = ["--filter", "/even=true", "--app", "even"];
    // A payload that is not JSON cannot be filtered, and one with line breaks is not a line.
    assert_eq!(said(&file, &even), [501, 250, 0, 250, 1]);
    let lines = std::fs::read_to_string(&file).unwrap().lines().count();
    assert_eq!(lines, 250);
    assert_eq!(said(&file, &even), [0, 0, 0, 0, 0]);
    assert_eq!(said("/dev/null", &[]), [501, 500, 0, 0, 1]);
    let clean = url(dir.path(), "clean");
    assert_eq!(said(&clean, &[]), [501, 501, 0, 0, 0]);
    // Another start sends everything again, and the output already has it.
    std::fs::remove_dir_all(home(&dir.path().join("raw")).join("_apps")).unwrap();
    assert_eq!(said(&clean, &[]), [501, 0, 501, 0, 0]);
}

/// A copy into a stream, and one out of that into a file.
#[tokio::test]
async fn a_copy_keeps_headers_and_tombstones() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, clean) = (url(dir.path(), "raw"), url(dir.path(), "clean"));
    let stream = create(&raw, 1).await;
    fill(&stream, 0..3).await;
    let mut changed = append(&[3, 4, 5]);
    let mut batch = Arc::try_unwrap(changed.batch).unwrap();
    let mut segment = batch.segments[0].to_vec();
    for n in 0..3 {
        let start = segment.len() as u32;
        put_header(&mut segment, "n", Some(format!("{n}").as_bytes()));
        let len = segment.len() as u32 - start;
        batch
            .headers
            .push(Span::new(start, if n == 1 { 0 } else { len }));
    }
    batch.records[1].payload.len = 0;
    batch.records[2].payload.len = 0;
    batch.tombstones = vec![1, 2];
    batch.segments = vec![Bytes::from(segment)].into();
    changed.batch = Arc::new(batch);
    let map = stream.shards().await.unwrap();
    let shard = map.open().next().unwrap().id.clone();
    let writer = stream.writer().await.unwrap();
    writer.submit(&shard, changed).await.unwrap().await.unwrap();

    create(&clean, 3).await;
    copy(Some("copy"), &args(&raw, &clean)).await.unwrap();
    let out = dir.path().join("out");
    copy(Some("out"), &json(args(&clean, out.to_str().unwrap())))
        .await
        .unwrap();
    let text = std::fs::read_to_string(out).unwrap();
    let mut found: Vec<_> = text
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let texts = ["key", "headers", "tombstone"].map(|name| record[name].to_string());
            (texts, record.get("payload").is_some())
        })
        .collect();
    found.sort();
    let wanted = |n: u64, headers: &str, tombstone: bool| {
        let tombstone_text = if tombstone { "true" } else { "null" };
        let texts = [
            format!("\"device-{n}\""),
            headers.to_owned(),
            tombstone_text.to_owned(),
        ];
        (texts, !tombstone)
    };
    let header = |n: u64| format!("[{{\"name\":\"n\",\"value\":\"{n}\"}}]");
    assert_eq!(
        found,
        [
            wanted(0, "null", false),
            wanted(1, "null", false),
            wanted(2, "null", false),
            wanted(3, &header(0), false),
            wanted(4, "null", true),
            wanted(5, &header(2), true),
        ]
    );

    // A line cannot say that there is nothing.
    let lines = dir.path().join("lines");
    let to_lines = args(&clean, lines.to_str().unwrap());
    copy(Some("lines"), &to_lines).await.unwrap();
    assert_eq!(std::fs::read_to_string(&lines).unwrap().lines().count(), 4);
    let dead_letters = dir.path().join("lines.dead-letters.ndjson");
    let dead_letters = std::fs::read_to_string(dead_letters).unwrap();
    assert_eq!(dead_letters.matches("\"reason\":\"tombstone\"").count(), 2);
}

#[tokio::test]
async fn a_copy_to_a_device_or_a_pipe_is_whole_and_leaves_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let raw = url(dir.path(), "raw");
    fill(&create(&raw, 3).await, 0..500).await;
    for device in ["/dev/null", "/dev/stderr", "file:/dev/null"] {
        let filter = vec!["key=nobody".to_owned()];
        let args = ConsumerArgs {
            filter,
            ..args(&raw, device)
        };
        let summary = copy(None, &args).await.unwrap();
        assert_eq!(summary.records, 500, "{device}");
    }
    let copied = copy(None, &json(args(&raw, "/dev/null"))).await.unwrap();
    assert_eq!(copied.records, 500);
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());

    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let (from, to) = (pipe.clone(), dir.path().join("out.ndjson"));
    let read = to.clone();
    let reader = on_a_thread(move || {
        let (mut from, mut to) = (File::open(from).unwrap(), File::create(read).unwrap());
        std::io::copy(&mut from, &mut to).unwrap()
    });
    let piped = json(args(&raw, pipe.to_str().unwrap()));
    assert_eq!(copy(None, &piped).await.unwrap().records, 500);
    reader.join().unwrap();
    assert_all(&to, 500, |_| true);
}

/// A device does not get more room: trying again would count records that did not arrive.
#[tokio::test]
async fn a_full_device_ends_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let raw = url(dir.path(), "raw");
    fill(&create(&raw, 1).await, 0..10).await;
    let full = args(&raw, "/dev/full");
    let ended = tokio::time::timeout(Duration::from_secs(60), copy(None, &full)).await;
    let error = ended.expect("it ends").unwrap_err();
    assert!(error.to_string().contains("/dev/full"), "{error}");
}

#[tokio::test]
async fn a_pipe_whose_reader_goes_away_drains_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let raw = url(dir.path(), "raw");
    fill(&create(&raw, 1).await, 0..20_000).await;
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let from = pipe.clone();
    let reader = on_a_thread(move || {
        let mut some = [0; 100];
        std::io::Read::read_exact(&mut File::open(from).unwrap(), &mut some).unwrap();
    });
    let mut endless = spec(None, &args(&raw, pipe.to_str().unwrap()))
        .await
        .unwrap();
    endless.exit_at_end = false;
    let copied = tokio::time::timeout(Duration::from_secs(60), runtime::run(endless)).await;
    copied.expect("the copy drains").unwrap();
    reader.join().unwrap();
}

#[tokio::test]
async fn a_stream_copy_is_exact_across_deaths() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, clean) = (url(dir.path(), "raw"), url(dir.path(), "clean"));
    let stream = create(&raw, 4).await;
    let relay = args(&raw, &clean);
    let output = create(&clean, 2).await;
    let mut written = 0;
    for round in 0..6 {
        fill(&stream, written..written + 300).await;
        written += 300;
        let mut dying = spec(Some("relay"), &relay).await.unwrap();
        dying.exit_at_end = false;
        let run = tokio::spawn(runtime::run(dying));
        // It dies when the output has grown a little, with the rest on its way.
        let wanted = round * 300 + 50;
        let grown = async {
            loop {
                let states = output.states().await.unwrap();
                let held: u64 = states.iter().filter_map(|state| state.records).sum();
                if held >= wanted {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), grown)
            .await
            .unwrap();
        run.abort();
        drop(run.await);
    }
    copy(Some("relay"), &relay).await.unwrap();
    let out = dir.path().join("out");
    copy(None, &json(args(&clean, out.to_str().unwrap())))
        .await
        .unwrap();
    assert_all(&out, written, |_| true);

    let mut filtered = args(&raw, &clean);
    filtered.filter = vec!["/even=true".to_owned()];
    fill(&stream, written..written + 100).await;
    copy(Some("relay"), &filtered).await.unwrap();
    let out = dir.path().join("out2");
    copy(None, &json(args(&clean, out.to_str().unwrap())))
        .await
        .unwrap();
    assert_all(&out, written + 100, |n| n < written || n % 2 == 0);
}

#[tokio::test]
async fn resharding_input_and_output_loses_doubles_and_reorders_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, clean) = (url(dir.path(), "raw"), url(dir.path(), "clean"));
    let (stream, output) = (create(&raw, 2).await, create(&clean, 2).await);
    let relay = args(&raw, &clean);
    let open = async |stream: &SharedStream| -> Vec<_> {
        stream
            .shards()
            .await
            .unwrap()
            .open()
            .map(|shard| shard.id.clone())
            .collect()
    };
    fill(&stream, 0..300).await;
    let admin = stream.admin();
    admin.split(&open(&stream).await[0], None).await.unwrap();
    fill(&stream, 300..600).await;
    let mut dying = spec(Some("relay"), &relay).await.unwrap();
    dying.exit_at_end = false;
    let Assignment::Leases(leases) = stream.assignment(&joining("relay")).await.unwrap() else {
        panic!()
    };
    let run = tokio::spawn(runtime::run(dying));
    until_owners(&*leases, |owners| !owners.is_empty()).await;
    run.abort();
    drop(run.await);
    output
        .admin()
        .split(&open(&output).await[1], None)
        .await
        .unwrap();
    // Neighbours: the shard that was not split and the upper child.
    let map = stream.shards().await.unwrap();
    let mut shards: Vec<_> = map.open().collect();
    shards.sort_by_key(|shard| shard.range);
    admin.merge(&shards[1].id, &shards[2].id).await.unwrap();
    fill(&stream, 600..900).await;
    copy(Some("relay"), &relay).await.unwrap();
    let out = dir.path().join("out");
    let summary = copy(None, &json(args(&clean, out.to_str().unwrap())))
        .await
        .unwrap();
    assert_eq!(summary.shards.len(), 4);
    assert_all(&out, 900, |_| true);
}

#[tokio::test]
async fn a_dead_workers_shards_go_to_the_other_well_within_two_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, clean) = (url(dir.path(), "raw"), url(dir.path(), "clean"));
    let stream = create(&raw, 4).await;
    create(&clean, 2).await;
    let relay = args(&raw, &clean);
    let Assignment::Leases(leases) = stream.assignment(&joining("relay")).await.unwrap() else {
        panic!()
    };
    let mut first = spec(Some("relay"), &relay).await.unwrap();
    first.exit_at_end = false;
    let first = tokio::spawn(runtime::run(first));
    until_owners(&*leases, |owners| owners.values().copied().eq([4])).await;
    let mut second = spec(Some("relay"), &relay).await.unwrap();
    second.exit_at_end = false;
    let shutdown = second.shutdown.clone();
    let second = tokio::spawn(runtime::run(second));
    until_owners(&*leases, |owners| owners.values().copied().eq([2, 2])).await;
    first.abort();
    drop(first.await);
    let died = clock::now();
    until_owners(&*leases, |owners| owners.values().copied().eq([4])).await;
    assert!(
        died.elapsed() < Duration::from_secs(2),
        "{:?}",
        died.elapsed()
    );
    shutdown.advance(Phase::Draining);
    second.await.unwrap().unwrap();
    until_owners(&*leases, BTreeMap::is_empty).await;
}

fn joining(app: &str) -> Join {
    Join::new(app, "test", &Budget::new(1 << 20))
}

/// Waits until the numbers of leases by owner are as `wanted`.
async fn until_owners(store: &dyn LeaseStore, wanted: impl Fn(&BTreeMap<String, usize>) -> bool) {
    let reached = async {
        loop {
            let mut owners = BTreeMap::new();
            for owner in store
                .list()
                .await
                .unwrap()
                .into_iter()
                .filter_map(|row| row.owner)
            {
                *owners.entry(owner).or_default() += 1;
            }
            if wanted(&owners) {
                return;
            }
            tokio::select! {
                () = store.changed() => {}
                () = clock::sleep(Duration::from_millis(100)) => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached)
        .await
        .expect("the leases move");
}

#[tokio::test]
async fn an_absent_stream_is_waited_for_and_then_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let raw = url(dir.path(), "raw");
    let mut waiting = args(&raw, dir.path().join("out").to_str().unwrap());
    waiting.wait = Some("50ms".to_owned());
    let error = copy(None, &waiting).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("hydrant stream create {raw}")),
        "{error}"
    );
    waiting.wait = Some("30s".to_owned());
    let (copied, stream) = tokio::join!(copy(None, &waiting), create(&raw, 1));
    assert_eq!(copied.unwrap().records, 0);
    drop(stream);
}

#[tokio::test]
async fn a_stream_copy_without_a_name_continues_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, clean) = (url(dir.path(), "raw"), url(dir.path(), "clean"));
    let stream = create(&raw, 2).await;
    fill(&stream, 0..200).await;
    copy(None, &args(&raw, &clean)).await.unwrap();
    fill(&stream, 200..300).await;
    let summary = copy(None, &args(&raw, &clean)).await.unwrap();
    assert_eq!(summary.records, 100, "what was confirmed is not read again");
    let home = home(&dir.path().join("raw"));
    assert!(home.join("_apps/hydrant-consumer").exists());
    // Another output of the same name starts at the start.
    let other = url(dir.path(), "other");
    copy(None, &args(&raw, &other)).await.unwrap();
    for (output, file) in [(&clean, "out"), (&other, "out2")] {
        let path = dir.path().join(file);
        copy(None, &json(args(output, path.to_str().unwrap())))
            .await
            .unwrap();
        assert_all(&path, 300, |_| true);
    }
}

/// A worker on a simulated machine; its calls are counted.
async fn simulated(world: &SimWorld, name: &str, seed: u64, args: &ConsumerArgs) -> RunSpec {
    let mut problems = Problems::new();
    let layers = Layers::load(None, [], &mut problems);
    let config = Config::read(args, &Streams::default(), &layers, &mut problems).unwrap();
    let shutdown = Shutdown::new();
    let parts = CopyParts {
        app: Some("relay".to_owned()),
        context: Context {
            disk: world.process(name).shared(),
            random: Random::seeded(seed),
            workers: Workers::Inline,
            ..context()
        },
        stdout: Stdout::new(shutdown.clone()),
        shutdown,
    };
    prepare(parts, config).await.unwrap().0
}

/// Counts the disk calls of a worker from its start until it holds all shards of a dead one.
async fn calls_of_a_take_over(shards: u32) -> u64 {
    let world = SimWorld::new(1);
    let maker = Context {
        disk: world.process("maker").shared(),
        workers: Workers::Inline,
        ..context()
    };
    let (raw, out) = ("local:/data/raw", "local:/data/out");
    for (url, count) in [(raw, shards), (out, 1)] {
        let made = Streams::default().create(url, count, &[], &maker).await;
        drop(made.unwrap());
    }
    let stream = Streams::default().open(raw, &maker).await.unwrap();
    let Assignment::Leases(leases) = stream.assignment(&joining("relay")).await.unwrap() else {
        panic!()
    };
    let all = |owner: &'static str| {
        move |owners: &BTreeMap<String, usize>| {
            let owned = owners.iter().find(|(name, _)| name.starts_with(owner));
            owned.is_some_and(|(_, count)| *count == shards as usize)
        }
    };
    let flags = args(raw, out);
    let mut first = simulated(&world, "first", 2, &flags).await;
    first.worker = "first".to_owned();
    first.exit_at_end = false;
    let first = tokio::spawn(runtime::run(first));
    until_owners(&*leases, all("first")).await;
    // Past the first checkpoint: the policy is pinned in every row.
    clock::sleep(Duration::from_secs(3)).await;
    world.kill("first");
    first.abort();
    let mut second = simulated(&world, "second", 3, &flags).await;
    second.worker = "second".to_owned();
    second.exit_at_end = false;
    let before = world.calls("second");
    let second = tokio::spawn(runtime::run(second));
    until_owners(&*leases, all("second")).await;
    clock::sleep(Duration::from_secs(3)).await;
    second.abort();
    world.calls("second") - before
}

#[tokio::test(start_paused = true)]
async fn the_work_of_a_take_over_grows_as_the_shards_do() {
    let (few, many) = (
        calls_of_a_take_over(32).await,
        calls_of_a_take_over(128).await,
    );
    assert!(
        many < few * 6,
        "32 shards take {few} calls, 128 take {many}"
    );
}
