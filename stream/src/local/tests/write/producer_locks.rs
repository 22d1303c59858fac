//! Producers without a ledger come and go: their marks go with them, and never before.

use std::path::PathBuf;

use hydrant_core::disk::Open;
use hydrant_core::origin::WriterId;
use hydrant_core::stream::{Append, SharedStream};
use hydrant_core::{Context, Error};
use hydrant_testing::disk::{Loss, SimWorld};

use super::super::fixture::*;
use crate::local::format::segment::{self, Segment};

const URL: &str = "local:/events";
const RUNS: u64 = 1_000;
/// What the marks of the runs of one process and of one segment of the tests' size take at most.
const HEAD_BYTES_MAX: u64 = 4_096;
/// Runs of one process.
const RUNS_PER_PROCESS: u64 = 20;

/// The records after `from` up to `to`, as a run of a process makes them.
fn of_run(run: u64, from: u64, to: u64) -> Append {
    let mut append = interval("", 0, from, to);
    let entry = append.entry.as_mut().unwrap();
    entry.writer = WriterId::of_run(&run.to_string());
    append
}

async fn shard_dir(context: &Context) -> PathBuf {
    let home = home(&*context.disk, "/events").await;
    home.join("shards/000000")
}

/// Bytes of the newest segment's head.
async fn head_bytes(context: &Context, stream: &SharedStream) -> u64 {
    let dir = &shard_dir(context).await;
    let newest = segment::list(&*context.disk, dir).await.unwrap();
    let newest = newest.last().unwrap();
    let opened = Segment::open(&*context.disk, dir, newest.number, newest.base, Open::Read);
    let incarnation = u128::from_str_radix(&stream.id().incarnation, 16).unwrap();
    let head = opened.await.unwrap().unwrap().head(incarnation).await;
    head.unwrap().len
}

/// Appends of another writer, until the next segment was started.
async fn roll(context: &Context, stream: &SharedStream, from: u64) -> u64 {
    let writer = stream.writer().await.unwrap();
    let newest = async || {
        let segments = segment::list(&*context.disk, &shard_dir(context).await).await;
        segments.unwrap().last().unwrap().number
    };
    let (before, mut to) = (newest().await, from);
    while newest().await == before {
        let one = interval("pipeline", 0, to, to + 20);
        append(&writer, &first(), one).await.unwrap();
        to += 20;
    }
    to
}

#[tokio::test(start_paused = true)]
async fn the_marks_of_short_producers_do_not_add_up() {
    let world = SimWorld::new(1);
    let context = context_on(world.process("a").shared(), 1);
    create(URL, options(1), &context).await.unwrap();
    let keeper = open(URL, &context).await.unwrap();
    let named = keeper.writer().await.unwrap();
    append(&named, &first(), interval("named", 0, 0, 1))
        .await
        .unwrap();
    let mut most = 0;
    for process in 0..RUNS / RUNS_PER_PROCESS {
        // Closing the stream frees what a process holds, like its death.
        let stream = open(URL, &context).await.unwrap();
        let writer = stream.writer().await.unwrap();
        for n in 0..RUNS_PER_PROCESS {
            let run = of_run(process * RUNS_PER_PROCESS + n, 0, 1);
            append(&writer, &first(), run).await.unwrap();
        }
        most = most.max(head_bytes(&context, &keeper).await);
    }
    assert!(most < HEAD_BYTES_MAX, "{most} bytes");
    // Their files go as well.
    let runs = home(&*context.disk, "/events").await.join("_runs");
    let left = context.disk.list(&runs).await.unwrap();
    assert!(left.len() < 64, "{} files", left.len());
    // A name that has a ledger is never forgotten.
    let again = append(&named, &first(), interval("named", 0, 0, 1)).await;
    assert_eq!(again.unwrap().duplicates, 1);
    delete(URL, &context).await.unwrap();
    assert!(context.disk.list(&runs).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_stood_still_doubles_nothing_when_it_goes_on() {
    let world = SimWorld::new(1);
    let context = context_on(world.process("other").shared(), 1);
    let other = create(URL, options(1), &context).await.unwrap();
    let producer = context_on(world.process("producer").shared(), 2);
    let stream = open(URL, &producer).await.unwrap();
    let writer = stream.writer().await.unwrap();
    append(&writer, &first(), of_run(7, 0, 3)).await.unwrap();
    world.hang("producer");
    let rolled = roll(&context, &other, 0).await;
    let known = head_bytes(&context, &other).await;
    world.resume("producer");
    // Its answer was lost, say.
    let again = append(&writer, &first(), of_run(7, 0, 3)).await.unwrap();
    assert_eq!(again.duplicates, 3);
    // No other process can append as this run while its own lives.
    let theirs = other.writer().await.unwrap();
    let error = append(&theirs, &first(), of_run(7, 3, 6))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Fatal { .. }), "{error}");
    append(&writer, &first(), of_run(7, 3, 6)).await.unwrap();

    world.kill("producer");
    roll(&context, &other, rolled).await;
    assert!(head_bytes(&context, &other).await < known);
    // What follows something forgotten is refused.
    let error = append(&theirs, &first(), of_run(7, 6, 9))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OutOfOrder { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_ends_every_run() {
    let world = SimWorld::new(1);
    let context = context_on(world.process("a").shared(), 1);
    let stream = create(URL, options(1), &context).await.unwrap();
    let writer = stream.writer().await.unwrap();
    for run in 0..5 {
        append(&writer, &first(), of_run(run, 0, 1)).await.unwrap();
    }
    world.power_cut(Loss::Everything);
    let context = context_on(world.process("b").shared(), 2);
    let stream = open(URL, &context).await.unwrap();
    roll(&context, &stream, 0).await;
    let pipeline_alone = head_bytes(&context, &stream).await;
    assert!(pipeline_alone < 200, "{pipeline_alone} bytes");
}
