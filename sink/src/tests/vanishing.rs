//! Files that are gone when their record is finished: removed on purpose, or vanished with or without their records.

use std::sync::Arc;
use std::time::Duration;

use hydrant_core::admin::Trim;
use hydrant_core::lake::SharedLake;
use hydrant_core::stage::{Flush, ShardStage, Stage as _};
use hydrant_core::stream::{Read, Stream as _};
use hydrant_core::{Position, Random, clock};

use super::owners::all_vanished;
use super::slow_lake::{LakeEvent, slowed};
use super::support::*;
use crate::lake::{Chain, ChainTip, GivenUp, RebuildOutcome, RebuildRecord, TableRetention};
use crate::shard::flush_rules::FlushRules;
use crate::verify::{Depth, ProblemKind, verify};

async fn marks(lake: &SharedLake) -> usize {
    let objects = lake.list(&names().commits()).await.unwrap();
    let marks = objects
        .iter()
        .filter(|object| object.key.ends_with(".done"));
    marks.count()
}

async fn rebuild_records(lake: &SharedLake) -> Vec<RebuildRecord> {
    let prefix = format!("{}rebuild/", names().system());
    let mut records = Vec::new();
    for object in lake.list(&prefix).await.unwrap() {
        let body = lake.get(&object.key).await.unwrap().unwrap();
        records.push(RebuildRecord::from_body(&object.key, &body).unwrap());
    }
    records
}

/// Somebody removes the newest files while no sink runs, such as a partition by hand.
#[tokio::test]
async fn files_that_were_removed_after_a_drain_stay_removed_and_stop_no_start() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    publish(&mut shard, 0..12).await.unwrap();
    shard.settle().await;
    let keys = visible(&a.lake).await;
    assert_eq!(keys.len(), 3, "two days and dead letters: {keys:?}");
    a.lake.delete_many(&keys).await.unwrap();
    // Also when the stream lacks the records, and in each life.
    for (name, stream) in [
        ("b", stream_of(40)),
        ("c", trimmed(30).await),
        ("d", stream_of(40)),
    ] {
        let heir = ProcessSetup::named(&world, name).over(stream).await;
        let (_, from) = heir.unwrap().claim("000000").await.unwrap();
        assert_eq!(from, Position::offset(11));
        assert!(visible(&a.lake).await.is_empty(), "{name}");
    }
    assert!(rebuild_records(&a.lake).await.is_empty());
    // What is gone without a word of an operator is a problem for the one who looks.
    let report = check(&a.lake).await;
    assert_eq!(report.problem_counts[&ProblemKind::Missing], 3);
    let remedies = report.remedies;
    assert!(
        remedies.len() == 1 && remedies.iter().all(|it| it.contains(" --missing`")),
        "{remedies:?}"
    );
}

/// An owner that was killed left no mark, so that its heir finishes the record and marks it: from then on a removal is
/// final.
#[tokio::test]
async fn an_heir_marks_what_it_finished() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    publish(&mut shard, 0..12).await.unwrap();
    assert_eq!(marks(&a.lake).await, 0);
    drop(shard);
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    heir.claim("000000").await.unwrap();
    assert_eq!(marks(&a.lake).await, 1);
    a.lake.delete_many(&visible(&a.lake).await).await.unwrap();
    let heir = ProcessSetup::named(&world, "c").over(stream_of(40)).await;
    heir.unwrap().claim("000000").await.unwrap();
    assert!(visible(&a.lake).await.is_empty());
}

/// Where a mark is, a takeover is one listing and one read.
#[tokio::test(start_paused = true)]
async fn a_takeover_of_a_marked_record_reads_that_record_and_nothing_else() {
    let world = world(1);
    let mut a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    for n in 0..20 {
        publish(&mut shard, n * 7..n * 7 + 7).await.unwrap();
    }
    shard.settle().await;
    let events = slowed(&mut a, Duration::ZERO).await;
    let before = events.all().len();
    a.stage
        .resume(&super::support::shard("000000"))
        .await
        .unwrap();
    let chain = names().chain(&stream_id(), &"000000".into());
    let record = LakeEvent::Got(chain.record(20));
    assert_eq!(events.all()[before..], [record]);
}

/// The stage's own work between the calls, for a while.
async fn rests(shard: &mut Box<dyn ShardStage>, time: Duration) {
    drop(tokio::time::timeout(time, shard.changed()).await);
}

#[tokio::test(start_paused = true)]
async fn only_a_record_that_nothing_follows_is_marked() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let interval = FlushRules::default().interval;
    let (mut shard, _) = a.claim("000000").await.unwrap();
    for n in 0..10 {
        publish(&mut shard, n * 3..n * 3 + 3).await.unwrap();
        rests(&mut shard, interval * 2 - Duration::from_millis(1)).await;
    }
    assert_eq!(marks(&a.lake).await, 0, "a busy chain has no marks");
    // What comes late is published before the mark is due.
    let next = batch(30, &payloads(30..33));
    shard.push(Read::Batch(next)).await.unwrap();
    rests(&mut shard, interval * 3).await;
    assert_eq!(marks(&a.lake).await, 0);
    shard.publish(Flush::Drain).await.unwrap();
    let (published, due) = (clock::now(), interval * 2);
    rests(&mut shard, interval * 9).await;
    assert!(clock::now() >= published + due);
    assert_eq!(marks(&a.lake).await, 1);
    // One is enough.
    rests(&mut shard, interval * 9).await;
    shard.settle().await;
    assert_eq!(marks(&a.lake).await, 1);
    let report = check(&a.lake).await;
    assert!(report.is_good() && report.warnings.is_empty(), "{report:?}");
}

#[tokio::test]
async fn files_whose_records_the_stream_lacks_are_given_up_and_stop_no_start() {
    let world = world(1);
    let lake = all_vanished(&world, &payloads(0..12)).await.lake;
    let stream = trimmed(20).await;
    for name in ["b", "c"] {
        let heir = ProcessSetup::named(&world, name)
            .over(Arc::clone(&stream))
            .await;
        let heir = heir.unwrap();
        let (mut shard, from) = heir.claim("000000").await.unwrap();
        assert_eq!(from, Position::offset(11), "{name}");
        if name == "c" {
            publish(&mut shard, 30..33).await.unwrap();
        }
    }
    let records = rebuild_records(&lake).await;
    assert_eq!(records.len(), 3, "two days and dead letters: {records:?}");
    for record in &records {
        let RebuildOutcome::GivenUp { why, rows, .. } = record.outcome else {
            panic!("{record:?}");
        };
        assert!(why == GivenUp::Source && rows > 0, "{record:?}");
    }
    assert_exactly_once(&world, 30..33, "").await;
    let report = check(&lake).await;
    assert!(report.is_good(), "{report:?}");
    let lost = report.lost;
    assert_eq!((lost.files, lost.rows + lost.dead_letters), (3, 12));
    assert_eq!(report.units.input, 15, "what is lost stays counted");
    assert_eq!(warned(&report), [ProblemKind::Lost; 3]);
    let detail = &report.warnings[0].detail;
    assert!(
        detail.contains(&format!(
            "of ({}, {}]",
            Position::Begin,
            Position::offset(11)
        )),
        "{detail}"
    );
}

#[tokio::test]
async fn what_the_stream_still_has_of_vanished_files_is_made_again() {
    let world = world(1);
    let lake = all_vanished(&world, &payloads(0..12)).await.lake;
    // The stream holds appends of seven records.
    let heir = ProcessSetup::named(&world, "b")
        .over(trimmed(6).await)
        .await;
    heir.unwrap().claim("000000").await.unwrap();
    assert_exactly_once(&world, 7..12, "").await;
    let report = check(&lake).await;
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.lost.rows + report.lost.dead_letters, 7);
    assert!(!warned(&report).is_empty());
    let chain = Chain::new(&lake, &names(), &stream_id(), &"000000".into());
    let ChainTip::Record(tip) = chain.tip().await.unwrap() else {
        panic!("a record");
    };
    assert!(tip.is_finished);
}

/// A partition of which nothing is left has no file, and the files of the others keep their names.
#[tokio::test]
async fn of_vanished_files_those_without_records_are_given_up_and_the_others_made_again() {
    let world = world(1);
    // The first seven records are of the first day, the others of a second one.
    let day: fn(u64) -> String = |n| {
        format!(
            "{{\"n\":{n},\"time\":\"2026-11-{:02}T10:00:00Z\"}}",
            18 + n / 7
        )
    };
    let records: Vec<String> = (0..14).map(day).collect();
    let dead = all_vanished(&world, &records).await;
    let stream = stream_with(40, day);
    let trim = Trim::After(Position::offset(6));
    stream.admin().trim(None, trim).await.unwrap();
    let heir = ProcessSetup::named(&world, "b")
        .over(Arc::new(stream))
        .await;
    heir.unwrap().claim("000000").await.unwrap();
    assert_exactly_once(&world, 7..14, "").await;
    let keys = visible(&dead.lake).await;
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(
        keys[0].contains("2026-11-19/") && keys[0].ends_with("_0001.g1.parquet"),
        "{keys:?}"
    );
    let report = check(&dead.lake).await;
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.lost.files, report.lost.rows), (1, 7));
}

/// Past the declared retention a file has no promise: it is not made again, though the stream has its records.
#[tokio::test]
async fn what_is_past_the_declared_retention_is_not_made_again() {
    for (days, made_again) in [(90, true), (3, false)] {
        let world = world(1);
        // The newest event time lies two days and the records' own time nothing before the present of the first sink.
        let lake = all_vanished(&world, &payloads(0..12)).await.lake;
        let later = NOW + 5 * DAY;
        let heir = ProcessSetup {
            now: later,
            ..ProcessSetup::named(&world, "b")
        };
        let heir = heir.over(stream_of(40)).await.unwrap();
        let retention = Some(Duration::from_secs(days * 86_400));
        let random = Random::seeded(1);
        TableRetention::declare(&lake, &names(), retention, later, &random)
            .await
            .unwrap();
        heir.claim("000000").await.unwrap();
        assert_eq!(!visible(&lake).await.is_empty(), made_again, "{days} days");
        let records = rebuild_records(&lake).await;
        let retained = records.iter().filter(|record| {
            matches!(
                record.outcome,
                RebuildOutcome::GivenUp {
                    why: GivenUp::Retention,
                    ..
                }
            )
        });
        assert_eq!(retained.count(), if made_again { 0 } else { 3 });
        let report = verify(&lake, &names(), Depth::default()).await.unwrap();
        assert!(report.is_good() && report.warnings.is_empty(), "{report:?}");
        let expired = report.expired.rows + report.expired.dead_letters;
        assert_eq!(expired, if made_again { 0 } else { 12 });
    }
}

/// Files of any age that a rule of a bucket removes are no problem once they are past the declared retention.
#[tokio::test]
async fn a_removal_past_the_declared_retention_is_counted_and_no_problem() {
    let world = world(1);
    let a = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = a.claim("000000").await.unwrap();
    publish(&mut shard, 0..12).await.unwrap();
    publish(&mut shard, 12..15).await.unwrap();
    a.lake.delete_many(&visible(&a.lake).await).await.unwrap();
    let random = Random::seeded(1);
    let retention = Some(Duration::from_secs(3 * 86_400));
    TableRetention::declare(&a.lake, &names(), retention, NOW, &random)
        .await
        .unwrap();
    for (now, is_good) in [(NOW + 2 * DAY, false), (NOW + 4 * DAY, true)] {
        let depth = Depth {
            now: Some(now),
            ..Depth::default()
        };
        let report = verify(&a.lake, &names(), depth).await.unwrap();
        assert_eq!(report.is_good(), is_good, "{report:?}");
        let expired = report.expired.rows + report.expired.dead_letters;
        assert_eq!(expired, if is_good { 15 } else { 0 });
    }
}
