//! An interval is published while the next one fills.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hydrant_consumer::runtime::{self, RunSpec};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::shutdown::Shutdown;
use hydrant_core::stage::{Flush, ShardStage};
use hydrant_core::stream::Read;
use hydrant_core::{Disposition, Position, clock};
use hydrant_testing::layer::Layered;

use super::owners::{OwnersPlan, between};
use super::slow_lake::{Events, LakeEvent, slowed, slowed_over};
use super::support::*;
use crate::encode::EncodeOptions;
use crate::shard::flush_rules::FlushRules;
use crate::table::spec::TableRules;
use crate::verify::{Depth, verify};

pub(super) const PUT: Duration = Duration::from_millis(100);

/// Where the publish of each interval begins and ends among the events, in order: from the first upload to the last
/// reveal of its files.
fn publishes(events: &[LakeEvent]) -> Vec<std::ops::RangeInclusive<usize>> {
    let mut found: Vec<(String, usize, usize)> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let (LakeEvent::Began(key) | LakeEvent::Revealed(key)) = event else {
            continue;
        };
        let name = key.rsplit_once('/').unwrap().1;
        let interval = name.rsplit_once('_').unwrap().0;
        match found.iter_mut().find(|(known, ..)| known == interval) {
            Some((.., end)) => *end = at,
            None => found.push((interval.to_owned(), at, at)),
        }
    }
    found
        .into_iter()
        .map(|(_, start, end)| start..=end)
        .collect()
}

pub(super) async fn push(shard: &mut Box<dyn ShardStage>, range: std::ops::Range<u64>) {
    let batch = batch(range.start, &payloads(range));
    shard.push(Read::Batch(batch)).await.unwrap();
}

pub(super) fn recorded(events: &Events) -> usize {
    let all = events.all();
    let records = all
        .iter()
        .filter(|event| matches!(event, LakeEvent::Recorded(_)));
    records.count()
}

/// Each write, put and reveal takes 100 ms and a publish takes several of them. The reader is asked on.
#[tokio::test(start_paused = true)]
async fn reading_goes_on_during_every_publish() {
    const RECORDS: u64 = 7 * 400;
    let world = world(1);
    let mut process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let flush = FlushRules {
        interval: Duration::from_secs(1),
        ..FlushRules::default()
    };
    let events = slowed_over(
        &mut process,
        PUT,
        stream_of(RECORDS),
        TableRules::default(),
        flush,
    )
    .await;
    let stream = PacedStream {
        below: stream_of(RECORDS),
        every: Duration::from_millis(20),
        events: events.clone(),
    };
    let spec = RunSpec {
        keeps_progress: false,
        exit_at_end: true,
        ..RunSpec::new(
            process.context.clone(),
            Arc::new(Layered(stream)),
            "sink",
            Arc::new(process.stage.clone()),
            Shutdown::new(),
        )
    };
    runtime::run(spec).await.unwrap();
    assert_exactly_once(&world, 0..RECORDS, "").await;
    let all = events.all();
    let publishes = publishes(&all);
    assert!(publishes.len() >= 6, "{}", publishes.len());
    let last_read = all
        .iter()
        .rposition(|event| matches!(event, LakeEvent::Read(_)))
        .unwrap();
    for publish in &publishes {
        let during = &all[publish.clone()];
        let reads = during
            .iter()
            .filter(|event| matches!(event, LakeEvent::Read(_)));
        assert!(
            reads.count() >= 10 || *publish.end() > last_read,
            "{during:?}"
        );
    }
    let overlap = publishes
        .windows(2)
        .any(|pair| pair[0].end() > pair[1].start());
    assert!(!overlap, "one interval at a time");
}

/// What fills while another interval is published waits for it when it is full, and not before.
#[tokio::test(start_paused = true)]
async fn a_full_interval_waits_until_the_one_before_it_is_visible() {
    let world = world(1);
    let flush = FlushRules {
        bytes: 400,
        interval: Duration::from_secs(1),
    };
    let mut process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let events = slowed_over(
        &mut process,
        PUT,
        stream_of(40),
        TableRules::default(),
        flush,
    )
    .await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    push(&mut shard, 0..5).await;
    let progress = shard.publish(Flush::Time).await.unwrap();
    assert_eq!(progress.to, Position::Begin, "it has only begun");
    // Younger than it has to be, older than that, and full.
    push(&mut shard, 5..7).await;
    assert_eq!((shard.due(clock::now()), shard.deadline()), (None, None));
    let late = clock::now() + 2 * flush.interval;
    assert_eq!(shard.due(late), None);
    let progress = shard.publish(Flush::Memory).await.unwrap();
    assert_eq!(progress.to, Position::Begin);
    push(&mut shard, 7..20).await;
    assert_eq!(shard.due(clock::now()), Some(Flush::Size));
    assert_eq!(recorded(&events), 0);
    let progress = shard.publish(Flush::Size).await.unwrap();
    assert_eq!(progress.to, Position::offset(4));
    assert_eq!(recorded(&events), 1, "the second one has only begun");
    // Its end is due, and so is what has come meanwhile.
    push(&mut shard, 20..22).await;
    shard.changed().await;
    assert_eq!(shard.due(clock::now()), Some(Flush::Size));
    let progress = shard.publish(Flush::Size).await.unwrap();
    assert_eq!(progress.to, Position::offset(19));
    let progress = shard.publish(Flush::Drain).await.unwrap();
    assert_eq!(progress.to, Position::offset(21));
    let publishes = publishes(&events.all());
    assert_eq!(publishes.len(), 3);
    assert!(
        publishes
            .windows(2)
            .all(|pair| pair[0].end() < pair[1].start())
    );
    assert_exactly_once(&world, 0..22, "").await;
    assert_eq!(process.context.budget.held_bytes(), 0);
}

/// What a test answers under a mutant, on a runtime of its own.
pub(super) fn with<T>(mutant: Option<Mutant>, test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    mutant::with(mutant, || runtime.block_on(test))
}

/// The interval that ran ahead of a lost slot goes with it, and nothing of it is in the lake.
#[test]
fn what_ran_ahead_of_a_lost_slot_is_dropped() {
    let wanted: BTreeMap<u64, u64> = (0..9).map(|n| (n, 1)).collect();
    assert_eq!(with(None, ahead_of_a_lost_slot()), wanted);
    let kept = with(Some(Mutant::RanAheadKept), ahead_of_a_lost_slot());
    assert_ne!(kept, wanted);
}

/// What is found when an interval ran ahead of a slot that another owner took for less.
async fn ahead_of_a_lost_slot() -> BTreeMap<u64, u64> {
    let world = world(1);
    let mut slow = ProcessSetup::named(&world, "a").run().await.unwrap();
    slowed(&mut slow, PUT).await;
    let quick = ProcessSetup::named(&world, "b").run().await.unwrap();
    let (mut ours, _) = slow.claim("000000").await.unwrap();
    let (mut theirs, _) = quick.claim("000000").await.unwrap();
    push(&mut ours, 0..4).await;
    ours.publish(Flush::Time).await.unwrap();
    push(&mut ours, 4..9).await;
    publish(&mut theirs, 0..6).await.unwrap();
    ours.changed().await;
    for _ in 0..2 {
        let Err(error) = ours.publish(Flush::Drain).await else {
            return found(&world).await;
        };
        let Disposition::Superseded { after } = error.disposition() else {
            panic!("{error}");
        };
        assert_eq!(after, Position::offset(5));
    }
    drop(ours);
    let (mut ours, after) = slow.claim("000000").await.unwrap();
    assert_eq!(after, Position::offset(5));
    publish(&mut ours, 6..9).await.unwrap();
    assert!(quick.lake.list_uploads().await.unwrap().is_empty());
    found(&world).await
}

/// What a failed publish has not made visible is never answered as progress.
#[tokio::test]
async fn a_publish_after_a_failed_one_fails() {
    let world = world(1);
    let plan = OwnersPlan {
        hold_reveals: true,
        ..OwnersPlan::default()
    };
    let (process, _) = between(&world, "a", plan).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    push(&mut shard, 0..4).await;
    for why in [Flush::Drain, Flush::Drain, Flush::Time, Flush::Revoke] {
        shard.publish(why).await.unwrap_err();
    }
}

/// An interval that takes more than its permit covers is visible before the next one grows.
#[tokio::test(start_paused = true)]
async fn a_push_publishes_what_is_short_before_anything_grows() {
    let world = world(1);
    let setup = ProcessSetup {
        budget: 4 << 20,
        ..ProcessSetup::named(&world, "a")
    };
    let mut process = setup.run().await.unwrap();
    let events = slowed(&mut process, PUT).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    // Dead letters take many times the bytes of such records.
    let records = vec!["ab".to_owned(); 20_000];
    shard.push(Read::Batch(batch(0, &records))).await.unwrap();
    assert_eq!(recorded(&events), 0);
    let idle = Read::Idle {
        through: Position::Begin,
    };
    shard.push(idle).await.unwrap();
    assert!(recorded(&events) > 0);
    let changed = tokio::time::timeout(100 * PUT, shard.changed()).await;
    assert!(changed.is_err(), "something is still being published");
}

/// No record can name the uploads of a publish that was dropped before it put one: they are thrown away at once.
#[tokio::test(start_paused = true)]
async fn a_publish_that_is_dropped_before_its_record_leaves_no_upload() {
    let world = world(1);
    let mut process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let events = slowed(&mut process, PUT).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    push(&mut shard, 0..6).await;
    shard.publish(Flush::Time).await.unwrap();
    while process.lake.list_uploads().await.unwrap().len() < 3 {
        clock::sleep(PUT / 10).await;
    }
    drop(shard);
    clock::sleep(PUT).await;
    assert!(process.lake.list_uploads().await.unwrap().is_empty());
    assert_eq!(recorded(&events), 0);
    assert_eq!(process.context.budget.held_bytes(), 0);
    let (mut shard, after) = process.claim("000000").await.unwrap();
    assert_eq!(after, Position::Begin);
    publish(&mut shard, 0..6).await.unwrap();
    assert_exactly_once(&world, 0..6, "").await;
}

/// A file goes out row group by row group.
#[tokio::test(start_paused = true)]
async fn no_more_than_a_row_group_of_a_file_is_written_at_once() {
    let world = world(1);
    let rules = TableRules {
        encode: EncodeOptions {
            row_group_bytes: 32 << 10,
            ..EncodeOptions::default()
        },
        ..TableRules::default()
    };
    let mut process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (stream, flush) = (stream_of(40), FlushRules::default());
    let events = slowed_over(&mut process, PUT, stream, rules, flush).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let record = |n: u64| {
        format!(
            "{{\"n\":{n},\"text\":\"{:032x}\"}}",
            hydrant_core::hash::identity(&[&n.to_be_bytes()])
        )
    };
    let records: Vec<String> = (0..20_000).map(record).collect();
    shard.push(Read::Batch(batch(0, &records))).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    let all = events.all();
    let written: Vec<usize> = all
        .iter()
        .filter_map(|event| match event {
            LakeEvent::Wrote(_, bytes) => Some(*bytes),
            _ => None,
        })
        .collect();
    let (most, sum): (usize, usize) = (*written.iter().max().unwrap(), written.iter().sum());
    assert!(written.len() >= 4 && most < sum / 2, "{written:?}");
    assert_exactly_once(&world, 0..20_000, "").await;
}

/// A verification holds a part of a file, never a whole one.
#[tokio::test(start_paused = true)]
async fn verification_reads_no_file_at_once() {
    let world = world(1);
    let mut process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let events = slowed(&mut process, PUT).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    publish(&mut shard, 0..9).await.unwrap();
    let report = verify(&process.lake, &names(), Depth::default()).await;
    let report = report.unwrap();
    assert!(report.is_good() && report.units.rows > 0, "{report:?}");
    let is_file =
        |event: &LakeEvent| matches!(event, LakeEvent::Got(key) if key.ends_with(".parquet"));
    assert!(!events.all().iter().any(is_file));
}
