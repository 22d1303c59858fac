//! Intervals end between aggregates, with the reader's marks of that place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hydrant_core::batch::{Batch, Entry, MarksAt, RunBuilder, Span, Step};
use hydrant_core::lease::Progress;
use hydrant_core::mutant::Mutant;
use hydrant_core::stage::{Flush, Opened, ShardStage, Stage as _};
use hydrant_core::stream::{OpenAt, Read, Start};
use hydrant_core::subscription::ClaimId;
use hydrant_core::{Position, Sequence, clock};
use hydrant_testing::disk::SimWorld;
use hydrant_testing::layer::Layered;
use proptest::prelude::*;

use super::beside::with;
use super::faults::contents;
use super::owners::{OwnersPlan, between};
use super::slow_lake::Events;
use super::support::*;
use crate::lake::{Chain, Commit};
use crate::schema::TableSchema;
use crate::shard::buffer::{Buffer, StreamShard, TakeOutcome};
use crate::table::spec::TableRules;
use crate::verify::{Depth, verify};

/// Marks that are the position at which they are asked for.
#[derive(Debug)]
struct PositionMarks;

impl MarksAt for PositionMarks {
    fn at(&self, to: Position) -> Vec<u8> {
        to.name().into_bytes()
    }
}

/// A record at `n` whose event time is on this day.
fn on_day(n: u64, day: u64) -> String {
    format!(
        "{{\"n\":{n},\"time\":\"2026-11-{:02}T10:00:00Z\"}}",
        1 + day % 20
    )
}

/// Aggregates with sequence numbers from `first` on, two apart, with marks.
fn aggregates(first: u64, aggregates: &[Vec<String>]) -> Batch {
    let (mut bytes, mut records, mut runs) = (BytesMut::new(), Vec::new(), RunBuilder::default());
    let mut to = Position::Begin;
    for (nth, aggregate) in (0..).zip(aggregates) {
        let sequence = Sequence::from(first + 2 * nth);
        for (sub, payload) in (0..).zip(aggregate) {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(payload.as_bytes());
            records.push(Entry {
                segment: 0,
                key: None,
                payload: Span::new(start, payload.len() as u32),
                stamp: NOW - 1_000_000 * (1 + i64::from(sub)),
            });
            runs.push(sequence, sub, Step::Sub, NOW);
            to = Position::at(sequence, sub);
        }
    }
    Batch {
        segments: Arc::new([bytes.freeze()]),
        records,
        runs: runs.finish(),
        marks: Some(Arc::new(PositionMarks)),
        to,
        ..Batch::default()
    }
}

/// The records of a chain, the oldest first.
async fn commits(process: &SinkProcess) -> Vec<Commit> {
    let chain = Chain::new(&process.lake, &names(), &stream_id(), &shard("000000").id);
    let mut commits = Vec::new();
    while let Some(commit) = chain.record(commits.len() as u64 + 1).await.unwrap() {
        commits.push(commit);
    }
    commits
}

fn end(commit: &Commit) -> Position {
    commit.interval().to
}

/// A process whose intervals hold so many rows.
async fn narrow(world: &hydrant_testing::disk::SimWorld, rows_max: usize) -> SinkProcess {
    let rules = TableRules {
        rows_max,
        ..TableRules::default()
    };
    let setup = ProcessSetup {
        rules,
        ..ProcessSetup::named(world, "a")
    };
    setup.run().await.unwrap()
}

/// The ends of intervals of aggregates that each bring one row too many in the middle.
async fn ends_of_crowded_intervals() -> Vec<Position> {
    let world = world(1);
    let process = narrow(&world, 4).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let aggregate = |k: u64| (0..3).map(|sub| on_day(3 * k + sub, 2 * k + sub)).collect();
    let all: Vec<Vec<String>> = (0..6).map(aggregate).collect();
    shard.push(Read::Batch(aggregates(10, &all))).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    assert_exactly_once(&world, 0..18, "").await;
    let commits = commits(&process).await;
    for commit in &commits {
        assert_eq!(commit.marks, end(commit).name().into_bytes());
    }
    commits.iter().map(end).collect()
}

#[test]
fn an_interval_ends_where_the_sequence_number_changes() {
    let wanted: Vec<Position> = (0..6)
        .map(|k| Position::at(Sequence::from(10 + 2 * k), 2))
        .collect();
    assert_eq!(with(None, ends_of_crowded_intervals()), wanted);
    let cut = with(Some(Mutant::AggregatesCut), ends_of_crowded_intervals());
    assert_ne!(cut, wanted, "the mutant cuts aggregates");
}

/// What the reader says of an aggregate behind its last record counts in the interval of the aggregate.
#[tokio::test]
async fn copies_that_were_dropped_count_with_their_aggregate() {
    let world = world(1);
    let process = narrow(&world, 1).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let mut batch = aggregates(10, &[vec![on_day(0, 0)], vec![on_day(1, 1)]]);
    let behind = |sequence: u64, sub| Position::at(Sequence::from(sequence), sub);
    batch.duplicates = vec![(behind(10, 4), 3), (behind(12, 1), 1)];
    batch.to = behind(12, 1);
    shard.push(Read::Batch(batch)).await.unwrap();
    // Nothing but copies.
    let copies = Batch {
        duplicates: vec![(behind(14, 0), 2)],
        to: behind(14, 0),
        marks: Some(Arc::new(PositionMarks)),
        ..Batch::default()
    };
    shard.push(Read::Batch(copies)).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    let commits = commits(&process).await;
    let found: Vec<(Position, u64)> = commits
        .iter()
        .map(|commit| (end(commit), commit.counts.duplicates))
        .collect();
    assert_eq!(found, [(behind(10, 4), 3), (behind(14, 0), 3)]);
    let report = verify(&process.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert!(report.is_good(), "{report:?}");
}

#[tokio::test]
async fn an_aggregate_that_fits_into_no_interval_becomes_dead_letters_where_room_ends() {
    let world = world(1);
    let process = narrow(&world, 2).await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let days = |n: u64, days: &[u64]| {
        let records = (n..).zip(days).map(|(n, day)| on_day(n, *day));
        records.collect::<Vec<String>>()
    };
    let all = [days(0, &[0]), days(1, &[0, 1, 2, 1, 3, 0]), days(7, &[5])];
    shard.push(Read::Batch(aggregates(10, &all))).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    let commits = commits(&process).await;
    let ends: Vec<Position> = commits.iter().map(end).collect();
    let at = |sequence: u64, sub| Position::at(Sequence::from(sequence), sub);
    assert_eq!(ends, [at(10, 0), at(12, 5), at(14, 0)]);
    let dead_letters = rows_of(&*process.lake, &names().dead_letters()).await;
    let dead_letters: Vec<(&str, &str)> = dead_letters
        .iter()
        .map(|row| {
            (
                row["sub"].as_str().unwrap_or_default(),
                row["reason"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(dead_letters.len(), 4, "{dead_letters:?}");
    assert!(
        dead_letters
            .iter()
            .all(|(_, reason)| *reason == "aggregate_too_large")
    );
    let report = verify(&process.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.units.rows, report.units.dead_letters), (4, 4));
}

/// The budget is spent in the middle of an aggregate: the interval takes the rest of the aggregate all the same.
#[tokio::test]
async fn a_spent_budget_cuts_no_aggregate() {
    let world = world(1);
    let setup = ProcessSetup {
        budget: 4 << 20,
        ..ProcessSetup::named(&world, "a")
    };
    let process = setup.run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    // Dead letters take many times the bytes of such records, so that an aggregate asks for memory again on its way.
    const RECORDS: usize = 6_000;
    const UNITS: u64 = 6;
    for nth in 0..UNITS {
        let aggregate = vec!["ab".to_owned(); RECORDS];
        let batch = aggregates(10 + 2 * nth, &[aggregate]);
        shard.push(Read::Batch(batch)).await.unwrap();
        if let Some(why) = shard.due(clock::now()) {
            shard.publish(why).await.unwrap();
        }
    }
    shard.publish(Flush::Drain).await.unwrap();
    let commits = commits(&process).await;
    assert!(commits.len() >= 2, "{}", commits.len());
    for commit in &commits {
        let Position::At { sub, .. } = end(commit) else {
            panic!("{:?}", end(commit));
        };
        assert_eq!(sub as usize, RECORDS - 1);
    }
    let report = verify(&process.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.units.dead_letters, UNITS * RECORDS as u64);
}

/// A batch of many aggregates is cut behind the one in which the budget is spent.
#[tokio::test]
async fn a_spent_budget_ends_an_interval_inside_a_batch() {
    const RECORDS: usize = 997;
    const AGGREGATES: usize = 40;
    let world = world(1);
    let setup = ProcessSetup {
        budget: 4 << 20,
        ..ProcessSetup::named(&world, "a")
    };
    let process = setup.run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let all = vec![vec!["ab".to_owned(); RECORDS]; AGGREGATES];
    shard.push(Read::Batch(aggregates(10, &all))).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    let commits = commits(&process).await;
    assert!(commits.len() >= 2, "{}", commits.len());
    for commit in &commits {
        let Position::At { sub, .. } = end(commit) else {
            panic!("{:?}", end(commit));
        };
        assert_eq!(sub as usize, RECORDS - 1);
    }
    let report = verify(&process.lake, &names(), Depth::default()).await;
    let report = report.unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.units.dead_letters, (AGGREGATES * RECORDS) as u64);
}

/// A claim's position, with what its reader knew there.
async fn open(process: &SinkProcess, after: Progress) -> Box<dyn ShardStage> {
    open_shard(process, "000000", after).await
}

async fn open_shard(process: &SinkProcess, name: &str, after: Progress) -> Box<dyn ShardStage> {
    let opened = Opened {
        claim: ClaimId {
            shard: shard(name).id,
            grant: 1,
        },
        shard: shard(name),
        start: after.to,
        after,
        generation: 0,
        parents: Vec::new(),
    };
    process.stage.open(opened).await.unwrap()
}

/// Gaps and the end bring marks; what brings none leaves those of before.
#[tokio::test]
async fn the_lake_answers_marks_with_the_position_they_belong_to() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let began = Progress {
        began: Some(Start::At(NOW)),
        ..Progress::default()
    };
    let mut stage = open(&process, began.clone()).await;
    let resume = async || {
        process
            .stage
            .resume(&shard("000000"))
            .await
            .unwrap()
            .unwrap()
    };
    assert_eq!(
        resume().await,
        began,
        "as it was asked for until a record was read"
    );
    let two = [vec![on_day(0, 0)], vec![on_day(1, 0)]];
    stage.push(Read::Batch(aggregates(10, &two))).await.unwrap();
    let progress = stage.publish(Flush::Drain).await.unwrap();
    let found = resume().await;
    assert_eq!(found.marks, progress.to.name().into_bytes());
    assert_eq!((found.to, found.began), (progress.to, None));
    let gap = |sequence: u64, marks: &[u8]| Read::Gap {
        from: progress.to,
        to: Position::offset(sequence),
        why: "lost".to_owned(),
        marks: marks.to_vec(),
    };
    for (sequence, marks, wanted) in [(20, "gap", "gap"), (30, "", "gap")] {
        stage.push(gap(sequence, marks.as_bytes())).await.unwrap();
        stage.publish(Flush::Drain).await.unwrap();
        let found = resume().await;
        assert_eq!(found.to, Position::offset(sequence));
        assert_eq!(found.marks, wanted.as_bytes());
    }
    drop(stage);
    let mut stage = open(&process, resume().await).await;
    stage
        .push(Read::End {
            children: Vec::new(),
            marks: b"final".to_vec(),
        })
        .await
        .unwrap();
    stage.publish(Flush::End).await.unwrap();
    let found = resume().await;
    assert_eq!((found.to, found.marks), (Position::End, b"final".to_vec()));
}

/// A file is made again by a reader that knows what the first one knew.
#[tokio::test]
async fn a_rebuild_reads_with_the_marks_of_the_record_before() {
    let world = world(1);
    let (dead, lake) = between(&world, "a", OwnersPlan::default()).await;
    let began = Progress {
        began: Some(Start::At(NOW)),
        ..Progress::default()
    };
    let mut stage = open(&dead, began).await;
    stage.push(marked(0..4)).await.unwrap();
    stage.publish(Flush::Drain).await.unwrap();
    lake.plan.lock().await.hold_reveals = true;
    stage.push(marked(4..8)).await.unwrap();
    stage.publish(Flush::Drain).await.unwrap_err();
    let (heir, events) = heir_of(&world, &dead).await;
    heir.claim("000000").await.unwrap();
    assert_exactly_once(&world, 0..8, "").await;
    let to = Position::offset(3);
    let known = Progress {
        to,
        marks: to.name().into_bytes(),
        ..Progress::default()
    };
    let opened = events.opened();
    assert!(!opened.is_empty());
    assert!(
        opened
            .iter()
            .all(|at| *at == OpenAt::progress(known.clone()))
    );
}

/// The first file of a child is made again with the marks of its parent, also when the stream has that no more.
#[tokio::test]
async fn a_rebuild_of_a_child_reads_with_the_marks_of_a_parent_that_is_gone() {
    let world = world(1);
    let (dead, lake) = between(&world, "a", OwnersPlan::default()).await;
    let mut parent = open_shard(&dead, "gone", Progress::default()).await;
    let end = Read::End {
        children: vec!["child".into()],
        marks: b"final".to_vec(),
    };
    parent.push(end).await.unwrap();
    parent.publish(Flush::End).await.unwrap();
    let mut child = open_shard(&dead, "child", Progress::default()).await;
    lake.plan.lock().await.hold_reveals = true;
    child.push(marked(0..4)).await.unwrap();
    child.publish(Flush::Drain).await.unwrap_err();
    let (heir, events) = heir_of(&world, &dead).await;
    heir.claim("child").await.unwrap();
    assert_exactly_once(&world, 0..4, "").await;
    let known = Progress {
        to: Position::End,
        marks: b"final".to_vec(),
        ..Progress::default()
    };
    let opened = events.opened();
    assert!(!opened.is_empty());
    for at in opened {
        let OpenAt::After { progress, parents } = at else {
            panic!("{at:?}");
        };
        assert_eq!(progress.to, Position::Begin);
        assert_eq!(parents, [("gone".into(), known.clone())]);
    }
}

fn marked(range: std::ops::Range<u64>) -> Read {
    let mut batch = batch(range.start, &payloads(range));
    batch.marks = Some(Arc::new(PositionMarks));
    Read::Batch(batch)
}

/// A process that has to make again what was uploaded, and where it reads that.
async fn heir_of(world: &SimWorld, dead: &SinkProcess) -> (SinkProcess, Events) {
    for (upload, _) in dead.lake.list_uploads().await.unwrap() {
        dead.lake.discard(&upload).await.unwrap();
    }
    let events = Events::default();
    let stream = stream_with(40, payload);
    stream.add_partition("gone");
    stream.split_into("gone", "child", "sibling");
    fill(&stream, "child", 40, payload);
    stream.forget("gone");
    let stream = Arc::new(Layered(PacedStream {
        below: Arc::new(stream),
        every: Duration::ZERO,
        events: events.clone(),
    }));
    let heir = ProcessSetup::named(world, "c").over(stream).await.unwrap();
    (heir, events)
}

/// The intervals of some aggregates, by a buffer that may grow by so much at a time, and what is in them.
fn made(all: &[Vec<String>], rows_max: usize, growth: u64) -> Vec<(Position, Vec<String>)> {
    let source = StreamShard::new(&stream_id(), &shard("000000").id);
    let base = Arc::new(TableSchema::default());
    let rules = TableRules {
        rows_max,
        ..TableRules::default()
    };
    let batch = aggregates(10, all);
    let (mut made, mut from, mut start) = (Vec::new(), Position::Begin, 0);
    while start < batch.len() {
        let mut buffer = Buffer::open(&source, &rules, &base, NOW, from, from).unwrap();
        loop {
            match buffer.take(&batch, start, NOW, growth, false).unwrap() {
                TakeOutcome::Grown { next, .. } => start = next,
                TakeOutcome::Full { next } => {
                    start = next;
                    break;
                }
                TakeOutcome::All => {
                    start = batch.len();
                    break;
                }
            }
        }
        let sealed = buffer.seal();
        from = sealed.1.interval.to;
        let mut found = contents(sealed);
        found.sort();
        made.push((from, found));
    }
    made
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// An interval ends between two aggregates, wherever they overflow and grow, and holds what its aggregates alone would give.
    #[test]
    fn an_interval_holds_whole_aggregates_and_nothing_of_others(
        shapes in prop::collection::vec(prop::collection::vec((0_u64..6, 0_usize..5), 1..5), 1..8),
        rows_max in 1_usize..5,
        growth in prop_oneof![Just(0_u64), Just(64), Just(u64::MAX)],
    ) {
        let mut n = 0;
        let all: Vec<Vec<String>> = shapes.iter().map(|aggregate| {
            aggregate.iter().map(|(day, kind)| {
                n += 1;
                let rest = ["", ",\"a\":1", ",\"a\":1.5", ",\"b\":{\"c\":[1]}", ",\"n\":2"][*kind];
                format!("{{\"n\":{n},\"time\":\"2026-11-{:02}T10:00:00Z\"{rest}}}", 1 + day)
            }).collect()
        }).collect();
        let made = made(&all, rows_max, growth);
        let mut first = 0;
        let mut counts = BTreeMap::new();
        for (end, found) in made {
            let Position::At { sequence, sub } = end else { panic!("{end}") };
            let last = (sequence.offset().unwrap() as usize - 10) / 2;
            prop_assert_eq!(sub as usize, all[last].len() - 1);
            let alone = self::made(&all[first..=last], rows_max, u64::MAX);
            prop_assert_eq!(alone.len(), 1);
            let texts = |found: &[String]| -> Vec<String> {
                let texts = found.iter().map(|text| text.split_once(' ').unwrap().1);
                let mut texts: Vec<String> = texts.map(str::to_owned).collect();
                texts.sort();
                texts
            };
            prop_assert_eq!(texts(&alone[0].1), texts(&found));
            *counts.entry(first).or_insert(0) += 1;
            first = last + 1;
        }
        prop_assert_eq!(first, all.len());
        prop_assert!(counts.values().all(|count| *count == 1));
    }
}
