//! The kill test: [`pipeline`](crate::pipeline) with `kill -9` again and again while both streams are split and merged,
//! and operators take files of the table away, who end in the middle as well.
//!
//! Short by default. The long run:
//! `HYDRANT_KILL_RECORDS=2000000 HYDRANT_KILL_SECONDS=60 cargo test --release --workspace kill_test -- --nocapture`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hydrant_core::{Context, Random, Result};
use hydrant_sink::lake::TableNames;
use serde_json::Value;

use crate::pipeline::{ProcessPipeline, describe, shards};
use crate::process::{run, setting};
use crate::taking::{TableOperator, TakenFiles, Taking};

/// Splits the first open shard, then merges the last two open neighbours.
fn reshard(dir: &Path, stream: &str) {
    let open = |described: &Value| -> Vec<(u128, String)> {
        let mut open: Vec<(u128, String)> = shards(described)
            .iter()
            .filter(|state| state["shard"]["closed"] == false)
            .map(|state| {
                let first = state["shard"]["range"]["first"].as_str().expect("a hash");
                let id = state["shard"]["id"].as_str().expect("an id");
                (first.parse().expect("a hash"), id.to_owned())
            })
            .collect();
        open.sort();
        open
    };
    let before = open(&describe(dir, stream));
    run("hydrant", dir, &["stream", "split", stream, &before[0].1]);
    let (a, b) = (&before[before.len() - 2].1, &before[before.len() - 1].1);
    run("hydrant", dir, &["stream", "merge", stream, a, b]);
}

/// Takes files away until it has to end, then completes what was begun and stores the files below `taken/`.
#[tokio::main(flavor = "current_thread")]
async fn operate(dir: PathBuf, ends: Arc<AtomicBool>) -> Result<()> {
    let (taken, random) = (TakenFiles::default(), Random::seeded(7));
    let context = Context::system(64 << 20)?;
    let url = format!("file:{}", dir.join("lake").display());
    let operator = async || {
        let names = TableNames::try_new("events")?;
        TableOperator::open(&url, names, &context, &taken).await
    };
    let all = [
        Taking::Partition,
        Taking::ByHand,
        Taking::Missing,
        Taking::ByHand,
        Taking::Before,
    ];
    for how in all.iter().cycle() {
        tokio::time::sleep(Duration::from_millis(100 + random.below(300))).await;
        if ends.load(Ordering::Relaxed) {
            break;
        }
        let which = random.below(1_000) as usize;
        let taking = async { operator().await?.take(*how, which).await };
        // One that is dropped ends between two of its calls.
        let life = Duration::from_millis(20 + random.below(1_500));
        if let Ok(ended) = tokio::time::timeout(life, taking).await {
            ended?;
        }
    }
    operator().await?.complete().await?;
    for (key, body) in taken.below("") {
        let path = dir.join("taken").join(key);
        let parent = path.parent().expect("keys have directories");
        std::fs::create_dir_all(parent).expect("the directory is made");
        std::fs::write(path, body).expect("the file is written");
    }
    Ok(())
}

#[test]
fn kill_test_loses_and_doubles_nothing() {
    let records = setting("HYDRANT_KILL_RECORDS", 150_000);
    let seconds = setting("HYDRANT_KILL_SECONDS", 18);
    let kept = std::env::var_os("HYDRANT_KILL_DIR");
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = kept.as_ref().map_or(temporary.path(), Path::new);
    // The producer must live through the whole time: it is throttled to finish a little before the end.
    let rate = (records * 10 / (seconds * 9)).max(1);
    let mut pipeline = ProcessPipeline::start(dir, records, rate);
    let mut killed: BTreeMap<&str, u32> = BTreeMap::new();
    let mut resharded = 0;
    let ends = Arc::new(AtomicBool::new(false));
    let operator = {
        let (dir, ends) = (dir.to_owned(), Arc::clone(&ends));
        std::thread::spawn(move || operate(dir, ends))
    };
    let started = Instant::now();
    let mut turn = 0;
    // Kills the processes in turn, so that a short run kills each kind often enough.
    let order = [0, 1, 3, 0, 2, 4, 0, 1, 3, 2, 4];
    while started.elapsed() < Duration::from_secs(seconds) {
        let next = started + Duration::from_secs(seconds).mul_f64(f64::from(turn + 1) / 13.0);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let worker = match order[turn as usize % order.len()] {
            0 => &mut pipeline.producer,
            n @ 1..3 => &mut pipeline.transforms[n - 1],
            n => &mut pipeline.sinks[n - 3],
        };
        match worker.process.ended() {
            Some(code) => worker.assert_ended_well(code),
            None => {
                worker.kill_and_start_again();
                *killed.entry(worker.binary()).or_default() += 1;
            }
        }
        if turn % 5 == 2 {
            reshard(dir, "local:raw");
            reshard(dir, "local:clean");
            resharded += 1;
        }
        turn += 1;
    }
    eprintln!("killed {killed:?}, resharded each stream {resharded} times");
    assert!(resharded >= 2, "resharded only {resharded} times");
    let is_enough = killed.len() == 3 && killed.values().all(|times| *times >= 3);
    assert!(is_enough, "killed too rarely: {killed:?}");
    ends.store(true, Ordering::Relaxed);
    let operated = operator.join().expect("the operator does not panic");
    operated.expect("the operator does not fail");
    let taken = crate::lake::rows(&dir.join("taken/events")).len();
    eprintln!("{taken} rows were taken away");
    assert!(taken > 0, "nothing was taken away");
    pipeline.end(Duration::from_secs(seconds * 19 + 60));
}
