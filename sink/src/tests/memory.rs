//! When intervals are cut, and what they hold.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::clock;
use hydrant_core::stage::{Flush, ShardStage};
use hydrant_core::stream::Read;
use hydrant_core::{Budget, Position, Workers};

use super::beside::{PUT, recorded};
use super::slow_lake::{LakeEvent, slowed};
use super::support::*;
use crate::schema::TableSchema;
use crate::shard::buffer::{Buffer, StreamShard, TakeOutcome};
use crate::shard::flush_rules::FlushRules;
use crate::shard::interval::conform;
use crate::shard::sink_shard::growth_bytes;
use crate::table::spec::TableRules;

/// A batch that holds a permit for its bytes, as a reader gives it.
async fn held(budget: &Budget, range: std::ops::Range<u64>) -> Read {
    let mut batch = batch(range.start, &payloads(range));
    batch.permit = budget.acquire(batch.payload_len()).await;
    Read::Batch(batch)
}

async fn push(shard: &mut Box<dyn ShardStage>, budget: &Budget, range: std::ops::Range<u64>) {
    shard.push(held(budget, range).await).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn size_and_age_cut_an_interval() {
    let world = world(1);
    let flush = FlushRules {
        bytes: 400,
        interval: Duration::from_secs(5),
    };
    let process = ProcessSetup {
        flush,
        ..ProcessSetup::named(&world, "a")
    }
    .run()
    .await
    .unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    assert_eq!((shard.due(clock::now()), shard.deadline()), (None, None));
    let budget = &process.context.budget;
    push(&mut shard, budget, 0..2).await;
    assert_eq!(shard.due(clock::now()), None);
    clock::sleep(Duration::from_secs(4)).await;
    assert_eq!(shard.due(clock::now()), None);
    clock::sleep(Duration::from_secs(1)).await;
    assert_eq!(shard.deadline(), Some(clock::now()));
    assert_eq!(shard.due(clock::now()), Some(Flush::Time));
    shard.publish(Flush::Time).await.unwrap();
    assert_eq!((shard.due(clock::now()), shard.deadline()), (None, None));
    shard.changed().await;
    assert_eq!(shard.due(clock::now()), Some(Flush::Time));
    let progress = shard.publish(Flush::Time).await.unwrap();
    assert_eq!(progress.to, Position::offset(1));
    assert_eq!((shard.due(clock::now()), shard.deadline()), (None, None));
    push(&mut shard, budget, 2..14).await;
    assert_eq!(shard.due(clock::now()), Some(Flush::Size));
}

/// The permit of the raw bytes becomes one of the decoded rows, and all of it is returned.
#[tokio::test]
async fn an_open_interval_holds_the_bytes_of_its_rows() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let budget = process.context.budget.clone();
    let mut held = Vec::new();
    for from in (0..4000).step_by(1000) {
        push(&mut shard, &budget, from..from + 1000).await;
        held.push(budget.held_bytes());
    }
    assert!(held.windows(2).all(|pair| pair[0] < pair[1]), "{held:?}");
    shard.publish(Flush::Memory).await.unwrap();
    shard.changed().await;
    assert_eq!(budget.held_bytes(), 0);
    push(&mut shard, &budget, 4000..4100).await;
    drop(shard);
    assert_eq!(budget.held_bytes(), 0, "a dropped shard gives all back");
}

/// Under pressure the largest shard is flushed, and no other.
#[tokio::test]
async fn pressure_flushes_the_largest_shard() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let budget = process.context.budget.clone();
    let (mut small, _) = process.claim("000000").await.unwrap();
    let (mut large, _) = process.claim("000001").await.unwrap();
    push(&mut small, &budget, 0..100).await;
    push(&mut large, &budget, 0..900).await;
    let now = clock::now();
    assert_eq!((small.due(now), large.due(now)), (None, None));
    let rest = budget
        .acquire(budget.total_bytes() - budget.held_bytes() - 16 * 1024)
        .await;
    let waiting = {
        let budget = budget.clone();
        tokio::spawn(async move { budget.acquire(24 * 1024).await.bytes() })
    };
    budget.pressure().await;
    assert_eq!(
        (small.due(now), large.due(now)),
        (None, Some(Flush::Memory))
    );
    large.publish(Flush::Memory).await.unwrap();
    // It holds its memory until its files are uploaded: one flushes and not all of them.
    assert!(budget.is_pressed());
    assert_eq!(small.due(now), None);
    assert_eq!(waiting.await.unwrap(), 24 * 1024);
    assert_eq!(small.due(now), None);
    drop(rest);
}

/// More input than the budget passes through it, and the budget is never exceeded by more than one batch may grow by.
#[tokio::test]
async fn memory_stays_within_the_budget() {
    let world = world(1);
    let total = 256 * 1024;
    let process = ProcessSetup {
        budget: total,
        ..ProcessSetup::named(&world, "a")
    }
    .run()
    .await
    .unwrap();
    let budget = process.context.budget.clone();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let growth = growth_bytes(&batch(0, &payloads(0..500)));
    let row_bytes = taken_and_counted(&payloads(0..500)).1 / 500;
    let mut published = vec![0];
    for from in (0..12_000).step_by(500) {
        // As the runtime does it: who reads ahead waits, and the pressure and the end of a publish publish.
        let mut reading = Box::pin(held(&budget, from..from + 500));
        let mut pressed = false;
        let read = loop {
            tokio::select! {
                biased;
                read = &mut reading => break read,
                () = shard.changed() => {}
                () = budget.pressure(), if !pressed => pressed = true,
            }
            if let Some(why) = shard.due(clock::now()) {
                shard.publish(why).await.unwrap();
                published.push(from);
            }
        };
        shard.push(read).await.unwrap();
        let held = budget.held_bytes();
        assert!(held <= total + growth, "{held}");
        if let Some(why) = shard.due(clock::now()) {
            shard.publish(why).await.unwrap();
            published.push(from + 500);
        }
    }
    shard.publish(Flush::Drain).await.unwrap();
    assert!(published.len() > 3, "{published:?}");
    // What publishing takes is not set aside before: most of the budget is for rows.
    let largest = published.windows(2).map(|pair| pair[1] - pair[0]).max();
    let rows_max = total / row_bytes;
    assert!(
        largest.unwrap() * 10 > rows_max * 6,
        "{published:?} of {rows_max}"
    );
    assert_exactly_once(&world, 0..12_000, "").await;
}

/// While the budget is spent, a shard grows when the one before it has uploaded what it grew by.
#[tokio::test(start_paused = true)]
async fn of_shards_that_exceed_the_budget_one_at_a_time_grows_and_uploads() {
    const SHARDS: u64 = 8;
    let world = world(1);
    let mut process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let events = slowed(&mut process, PUT).await;
    let budget = process.context.budget.clone();
    let _spent = budget.acquire(budget.total_bytes()).await;
    let mut shards = Vec::new();
    for n in 0..SHARDS {
        shards.push(process.claim(&format!("{n:06}")).await.unwrap().0);
    }
    let filled = shards.iter_mut().map(async |shard| {
        let records = vec!["ab".to_owned(); 2_000];
        shard.push(Read::Batch(batch(0, &records))).await.unwrap();
        assert!(
            budget.held_bytes() > budget.total_bytes(),
            "what exceeds the budget is counted"
        );
        while let Some(why) = shard.due(clock::now()) {
            shard.publish(why).await.unwrap();
        }
    });
    futures::future::join_all(filled).await;
    assert_eq!(budget.held_bytes(), budget.total_bytes());
    let intervals = events.uploading();
    let distinct: HashSet<&String> = intervals.iter().collect();
    assert!(distinct.len() as u64 >= SHARDS, "{intervals:?}");
    assert_eq!(distinct.len(), intervals.len(), "{intervals:?}");
    let wanted = (0..2_000).map(|n| (n, SHARDS)).collect();
    assert_eq!(found(&world).await, wanted);
}

/// A shard that waits for its files to become visible has given its memory back: the next one flushes.
#[tokio::test(start_paused = true)]
async fn a_shard_without_memory_is_not_the_largest() {
    let world = world(1);
    let mut process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let events = slowed(&mut process, PUT).await;
    let budget = process.context.budget.clone();
    let (mut small, _) = process.claim("000000").await.unwrap();
    let (mut large, _) = process.claim("000001").await.unwrap();
    push(&mut small, &budget, 0..100).await;
    push(&mut large, &budget, 0..900).await;
    large.publish(Flush::Time).await.unwrap();
    while recorded(&events) == 0 {
        clock::sleep(PUT / 10).await;
    }
    let _rest = budget
        .acquire(budget.total_bytes() - budget.held_bytes() - 16 * 1024)
        .await;
    let mut waiting = Box::pin(budget.acquire(24 * 1024));
    assert!(futures::poll!(&mut waiting).is_pending());
    let now = clock::now();
    assert_eq!(
        (large.due(now), small.due(now)),
        (None, Some(Flush::Memory))
    );
    let is_visible = |event: &LakeEvent| matches!(event, LakeEvent::Revealed(_));
    assert!(!events.all().iter().any(is_visible));
}

/// A full decoder ends the interval before the record that it did not take.
#[tokio::test]
async fn a_full_decoder_cuts_inside_a_batch() {
    let world = world(1);
    let rules = TableRules {
        rows_max: 1,
        ..TableRules::default()
    };
    let process = ProcessSetup {
        rules,
        ..ProcessSetup::named(&world, "a")
    }
    .run()
    .await
    .unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    // Each row is one too many for the row before.
    push(&mut shard, &process.context.budget, 0..3).await;
    assert_eq!(shard.due(clock::now()), Some(Flush::Size));
    shard.publish(Flush::Size).await.unwrap();
    shard.changed().await;
    let progress = shard.publish(Flush::Size).await.unwrap();
    assert_eq!(progress.to, Position::offset(0));
    push(&mut shard, &process.context.budget, 3..6).await;
    let progress = shard.publish(Flush::Drain).await.unwrap();
    assert_eq!(progress.to, Position::offset(5));
    assert_exactly_once(&world, 0..6, "").await;
    assert_eq!(process.context.budget.held_bytes(), 0);
}

/// A drain publishes all shards at once, which asks for far more computations than wait for the threads.
#[tokio::test]
async fn a_thousand_shards_publish_at_once() {
    const SHARDS: u64 = 1_000;
    let world = world(1);
    let process = ProcessSetup {
        workers: Workers::threads(1).unwrap(),
        ..ProcessSetup::named(&world, "a")
    }
    .run()
    .await
    .unwrap();
    let mut shards = Vec::new();
    for n in 0..SHARDS {
        let (mut shard, _) = process.claim(&format!("{n:06}")).await.unwrap();
        // Two days and a dead letter: three files each.
        push(&mut shard, &process.context.budget, 0..4).await;
        shards.push(shard);
    }
    let published = shards.iter_mut().map(|shard| shard.publish(Flush::Drain));
    for progress in futures::future::join_all(published).await {
        assert_eq!(progress.unwrap().to, Position::offset(3));
    }
    let wanted = (0..4).map(|n| (n, SHARDS)).collect();
    assert_eq!(found(&world).await, wanted);
}

/// What an interval of these records takes until its files are planned, and what it counts.
fn taken_and_counted(records: &[String]) -> (u64, u64) {
    let source = StreamShard::new(&stream_id(), &shard("000000").id);
    let (rules, base) = (TableRules::default(), Arc::new(TableSchema::default()));
    let (begin, batch) = (Position::Begin, batch(0, records));
    let mut counted = 0;
    let (_, memory) = hydrant_fuzz::memory(|| {
        let mut buffer = Buffer::open(&source, &rules, &base, NOW, begin, begin).unwrap();
        let taken = buffer.take(&batch, 0, NOW, u64::MAX, false).unwrap();
        assert_eq!(taken, TakeOutcome::All);
        let (copy, _) = buffer.publishing_bytes();
        counted = buffer.bytes() + copy;
        let (decoded, facts) = buffer.seal();
        let schema = decoded.schema().clone();
        conform(facts, decoded, &schema, NOW).unwrap()
    });
    (memory.peak_bytes, counted)
}

/// Columns take memory beside their values, and each column of each file does.
#[test]
fn the_columns_of_an_interval_and_of_its_files_take_what_is_counted() {
    let wide = |columns: usize| {
        let columns: Vec<String> = (0..columns).map(|n| format!("\"column{n}\":{n}")).collect();
        columns.join(",")
    };
    let day = |n: usize| {
        let (month, day) = (1 + n / 28, 1 + n % 28);
        let time = format!("2026-{month:02}-{day:02}T00:00:00Z");
        format!("{{\"time\":\"{time}\",{}}}", wide(200))
    };
    let days: Vec<String> = (0..280).map(day).collect();
    for records in [vec![format!("{{{}}}", wide(1_900))], days] {
        let (taken, counted) = taken_and_counted(&records);
        assert!(taken <= counted, "{taken} of {counted}");
        assert!(counted < 2 * taken, "{taken} of {counted}");
    }
}
