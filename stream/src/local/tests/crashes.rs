//! Every call of a writer is a place to die: alone, or with the machine.
//!
//! A fleet appends, splits and merges; one process dies at its n-th call; a successor starts again from what was
//! acknowledged, as a lane does from its checkpoint. Afterwards every acknowledged record is there, each record is there
//! once and in order, and no offset that a reader has seen holds another record.

use std::collections::BTreeMap;
use std::time::Duration;

use hydrant_core::stream::{Read, SharedStream};
use hydrant_core::{Position, ShardId};
use hydrant_testing::disk::{Death, Loss, Moment, SimWorld};

use super::fixture::*;

const URL: &str = "local:/data/events";
const RECORDS: u64 = 24;

/// What was seen of a shard by readers: it must stay.
pub(super) type SeenRecords = BTreeMap<(ShardId, u64), u64>;

/// Appends records 1..=RECORDS in intervals of `cut`, from `done` on, as lanes of one origin to all open shards; a
/// split and a merge happen on the way. Answers how far everything was acknowledged.
async fn work(stream: &SharedStream, mut done: u64, cut: u64) -> hydrant_core::Result<u64> {
    let low = done;
    let admin = stream.admin();
    while done < RECORDS {
        let to = (done + cut).min(RECORDS);
        let map = stream.shards().await?;
        let open: Vec<_> = map.open().cloned().collect();
        if done >= 8 && map.all().len() == 1 {
            admin.split(&open[0].id, None).await?;
            continue;
        }
        if done >= 16 && open.len() == 2 && map.all().len() == 3 {
            admin.merge(&open[0].id, &open[1].id).await?;
            continue;
        }
        let writer = stream.writer().await?;
        let mut tickets = Vec::new();
        for shard in &open {
            let here: Vec<u64> = (done + 1..=to)
                .filter(|n| shard.range.contains(route(*n)))
                .collect();
            let p = Position::offset;
            let append = tracked("w", p(low), p(done), p(to), &here);
            tickets.push(writer.submit(&shard.id, append).await?);
        }
        for ticket in tickets {
            ticket.await?;
        }
        done = to;
    }
    Ok(done)
}

/// Reads all that is there; checks it against what was seen before.
pub(super) async fn look(stream: &SharedStream, seen: &mut SeenRecords) -> Vec<u64> {
    let mut all = Vec::new();
    for shard in stream.shards().await.unwrap().all() {
        let mut reader = reader(stream, &shard.id, Position::Begin).await;
        loop {
            match reader.next().await.unwrap() {
                Read::Batch(batch) => {
                    for (offset, n) in numbers(&batch) {
                        let before = seen.insert((shard.id.clone(), offset), n);
                        assert!(
                            before.is_none_or(|b| b == n),
                            "offset {offset} was {before:?}, is {n}"
                        );
                        all.push(n);
                    }
                }
                Read::Idle { .. } | Read::End { .. } => break,
                gap @ Read::Gap { .. } => panic!("{gap:?}"),
            }
        }
    }
    for ((shard, offset), n) in seen.iter() {
        assert!(
            all.contains(n),
            "record {n} at {shard}/{offset} was seen and is gone"
        );
    }
    all
}

/// One run: the first process dies at its call `nth`; answers whether it lived to the end.
async fn run(seed: u64, nth: u64, moment: Moment, death: Death) -> bool {
    let world = SimWorld::new(seed);
    let maker = context_on(world.process("maker").shared(), seed);
    let made = create(URL, options(1), &maker).await.unwrap();
    drop(made);
    let disk = world.process("first");
    let ctx = context_on(disk.shared(), seed + 1);
    world.die_at("first", nth, moment, death);
    let progress = std::sync::atomic::AtomicU64::new(0);
    let first = async {
        let stream = open(URL, &ctx).await.unwrap();
        let mut done = 0;
        while done < RECORDS {
            // Acknowledged step by step, so that the successor knows how far.
            done = work_once(&stream, done).await;
            progress.store(done, std::sync::atomic::Ordering::SeqCst);
        }
    };
    let lived = tokio::select! {
        () = first => true,
        () = disk.died() => false,
    };
    let done = progress.load(std::sync::atomic::Ordering::SeqCst);
    // Readers saw something before the successor came, unless the machine died.
    let mut seen = SeenRecords::new();
    let reading = open(URL, &context_on(world.process("reader").shared(), seed + 2)).await;
    let found = look(&reading.unwrap(), &mut seen).await;
    for n in 1..=done {
        assert!(found.contains(&n), "acknowledged record {n} is lost");
    }
    // The successor cuts its intervals elsewhere.
    let ctx = context_on(world.process("second").shared(), seed + 3);
    let stream = open(URL, &ctx).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), work(&stream, done, 3)).await;
    assert_eq!(ended.expect("the successor is stuck").unwrap(), RECORDS);
    let mut all = look(&stream, &mut seen).await;
    let mut by_key: BTreeMap<String, u64> = BTreeMap::new();
    for n in &all {
        let last = by_key.insert(key(*n), *n);
        assert!(
            last.is_none_or(|last| last < *n),
            "record {n} stands after {last:?}"
        );
    }
    all.sort_unstable();
    assert_eq!(all, (1..=RECORDS).collect::<Vec<_>>());
    // What was said to be durable is.
    world.power_cut(Loss::Everything);
    let last = open(URL, &context_on(world.process("third").shared(), seed + 4)).await;
    let mut again = look(&last.unwrap(), &mut seen).await;
    again.sort_unstable();
    assert_eq!(again, all);
    lived
}

/// One interval of the first process, or one reshard.
async fn work_once(stream: &SharedStream, done: u64) -> u64 {
    let map = stream.shards().await.unwrap();
    let resharded = (done >= 8 && map.all().len() == 1)
        || (done >= 16 && map.all().len() == 3 && map.open().count() == 2);
    if resharded {
        let open: Vec<_> = map.open().map(|s| s.id.clone()).collect();
        let admin = stream.admin();
        match open.as_slice() {
            [one] => drop(admin.split(one, None).await.unwrap()),
            [a, b] => drop(admin.merge(a, b).await.unwrap()),
            _ => unreachable!("one or two shards are open"),
        }
    }
    let to = (done + 4).min(RECORDS);
    let map = stream.shards().await.unwrap();
    let writer = stream.writer().await.unwrap();
    let p = Position::offset;
    for shard in map.open() {
        let here: Vec<u64> = (done + 1..=to)
            .filter(|n| shard.range.contains(route(*n)))
            .collect();
        let append = tracked(
            "w",
            Position::Begin,
            if done == 0 { Position::Begin } else { p(done) },
            p(to),
            &here,
        );
        writer
            .submit(&shard.id, append)
            .await
            .unwrap()
            .await
            .unwrap();
    }
    to
}

/// Each test takes its share of the places.
const SHARES: u64 = 5;

async fn every_place(share: u64, moment: Moment, death: Death) {
    let mut nth = 1 + share;
    while !run(nth * 1000, nth, moment, death).await {
        nth += SHARES;
    }
    assert!(nth > 100, "the run has only {nth} calls");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_before_any_call_loses_and_doubles_nothing() {
    every_place(0, Moment::Before, Death::Kill).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_after_any_call_loses_and_doubles_nothing() {
    every_place(1, Moment::After, Death::Kill).await;
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_at_any_call_loses_and_doubles_nothing() {
    every_place(2, Moment::After, Death::PowerCut(Loss::Some)).await;
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_that_takes_everything_unsynced_loses_and_doubles_nothing() {
    every_place(3, Moment::Before, Death::PowerCut(Loss::Everything)).await;
}
