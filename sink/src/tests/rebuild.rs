//! Files that vanish before they are visible, made again from the source.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::batch::{AccountOf, Batch, RunBuilder, Span, Step};
use hydrant_core::lake::SharedLake;
use hydrant_core::origin::{DeadLetter, WriterId};
use hydrant_core::stage::{Flush, Stage as _};
use hydrant_core::stream::Read;
use hydrant_core::transform::{self, Transform, Transformed};
use hydrant_core::{Disposition, Position, Result};
use hydrant_testing::layer::Layered;

use super::owners::{OwnersPlan, all_vanished, between};
use super::slow_lake::Events;
use super::support::*;
use crate::lake::{Chain, ChainTip, FileKind};
use crate::table::spec::TableRules;
use crate::verify::{Depth, verify};

#[tokio::test]
async fn vanished_uploads_are_made_again_from_the_source() {
    let world = world(1);
    let (process, _) = between(
        &world,
        "a",
        OwnersPlan {
            remove_uploads: true,
            ..OwnersPlan::default()
        },
    )
    .await;
    let (mut shard, _) = process.claim("000000").await.unwrap();
    publish(&mut shard, 0..12).await.unwrap();
    publish(&mut shard, 12..15).await.unwrap();
    assert_exactly_once(&world, 0..15, "").await;
    let files = process.lake.list(&names().data()).await.unwrap();
    assert!(
        files.iter().any(|file| file.key.ends_with(".g1.parquet")),
        "{files:?}"
    );
    // An heir finds the rebuilt files in place.
    let heir = ProcessSetup::named(&world, "b").run().await.unwrap();
    let (_, from) = heir.claim("000000").await.unwrap();
    assert_eq!(from, Position::offset(14));
}

/// The recorded rules apply, not the configured ones: a newer schema changes no row.
#[tokio::test]
async fn a_file_is_made_again_by_the_rules_of_its_record() {
    let world = world(1);
    all_vanished(&world, &payloads(0..8)).await;
    let other = ProcessSetup::named(&world, "b").run().await.unwrap();
    let (mut elsewhere, _) = other.claim("000001").await.unwrap();
    let wider = vec!["{\"n\":1000,\"more\":\"x\"}".to_owned()];
    elsewhere
        .push(Read::Batch(batch(1000, &wider)))
        .await
        .unwrap();
    elsewhere.publish(Flush::Drain).await.unwrap();
    assert_eq!(other.stage.registry().newest().number, 2);
    let heir = ProcessSetup::named(&world, "c")
        .over(stream_of(40))
        .await
        .unwrap();
    heir.claim("000000").await.unwrap();
    let mut found = found(&world).await;
    assert_eq!(found.remove(&1000), Some(1));
    assert_eq!(found, (0..8).map(|n| (n, 1)).collect());
}

/// Under the settings of the heir every value would be rescued.
#[tokio::test]
async fn a_file_is_made_again_by_the_settings_of_its_record() {
    let world = world(1);
    all_vanished(&world, &payloads(0..8)).await;
    let heir = ProcessSetup {
        rules: TableRules {
            frozen: true,
            ..TableRules::default()
        },
        ..ProcessSetup::named(&world, "b")
    };
    let heir = heir.over(stream_of(40)).await.unwrap();
    heir.claim("000000").await.unwrap();
    assert_exactly_once(&world, 0..8, "").await;
}

#[tokio::test]
async fn a_source_that_holds_other_records_is_an_alarm() {
    let world = world(1);
    all_vanished(&world, &payloads(0..8)).await;
    let changed = Arc::new(stream_with(40, |n| format!("{{\"n\":{n}}}")));
    let heir = ProcessSetup::named(&world, "b")
        .over(changed)
        .await
        .unwrap();
    let error = heir
        .stage
        .resume(&super::support::shard("000000"))
        .await
        .unwrap_err();
    assert_eq!(error.disposition(), Disposition::Fatal);
    let without = ProcessSetup::named(&world, "c").run().await.unwrap();
    let error = without
        .stage
        .resume(&super::support::shard("000000"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("start the sink"), "{error}");
    assert!(found(&world).await.is_empty());
}

/// A stream that was restored from an older moment than its lake never comes to the end of the interval.
#[tokio::test(start_paused = true)]
async fn a_source_that_ends_before_the_interval_is_an_alarm() {
    let world = world(1);
    all_vanished(&world, &payloads(0..8)).await;
    let heir = ProcessSetup::named(&world, "heir").over(stream_of(5));
    let heir = heir.await.unwrap();
    let id = super::support::shard("000000");
    let resuming = tokio::time::timeout(Duration::from_secs(60), heir.stage.resume(&id));
    let error = resuming.await.expect("it does not wait").unwrap_err();
    assert_eq!(error.disposition(), Disposition::Fatal);
    assert!(error.to_string().contains("no longer holds"), "{error}");
    assert!(heir.lake.list_uploads().await.unwrap().is_empty());
}

/// All files of a record that vanished come from one reading of the interval.
#[tokio::test(start_paused = true)]
async fn the_files_of_a_record_are_made_again_from_one_reading() {
    let world = world(1);
    all_vanished(&world, &payloads(0..12)).await;
    let events = Events::default();
    let stream = Arc::new(Layered(PacedStream {
        below: stream_of(40),
        every: Duration::ZERO,
        events: events.clone(),
    }));
    let heir = ProcessSetup::named(&world, "heir").over(stream);
    heir.await.unwrap().claim("000000").await.unwrap();
    assert_exactly_once(&world, 0..12, "").await;
    assert_eq!(events.opened().len(), 1);
}

/// Keeps the records with these numbers.
fn keep(batch: &mut Batch, kept: &[u32]) {
    let all: Vec<_> = batch.positions().collect();
    let mut runs = RunBuilder::default();
    for n in kept {
        let (sequence, sub, arrival) = all[*n as usize];
        runs.push(sequence, sub, Step::Sequence, arrival);
    }
    batch.runs = runs.finish();
    batch.records = kept.iter().map(|n| batch.records[*n as usize]).collect();
}

/// Drops every third record and hides the numbers of the others.
#[derive(Debug)]
struct Hiding(&'static str);

impl Transform for Hiding {
    fn apply(&self, mut batch: Batch, _source: transform::Source<'_>) -> Result<Transformed> {
        let input = batch.len() as u32;
        let all: Vec<_> = batch.positions().collect();
        let kept: Vec<u32> = (0..input)
            .filter(|n| all[*n as usize].0.offset().unwrap() % 3 > 0)
            .collect();
        keep(&mut batch, &kept);
        let hidden = Bytes::from_static(b"{\"n\":0}");
        let mut segments = batch.segments.to_vec();
        segments.push(hidden.clone());
        for entry in &mut batch.records {
            entry.segment = segments.len() as u32 - 1;
            entry.key = None;
            entry.payload = Span::new(0, hidden.len() as u32);
        }
        batch.segments = segments.into();
        let dropped = (0..input)
            .filter(|n| !kept.contains(n))
            .map(|n| (n, "third".into()));
        Ok(Transformed {
            sources: kept.clone(),
            rekeyed: vec![false; kept.len()],
            dead_letters: Vec::new(),
            dropped: dropped.collect(),
            input,
            batch,
        })
    }

    fn digest(&self) -> &str {
        self.0
    }
}

/// What a transform in the same process hides does not come back when a file is rebuilt. Without that transform no file
/// is rebuilt.
#[tokio::test]
async fn a_file_is_made_again_through_the_transform_only() {
    let world = world(1);
    let hiding = || -> Option<Arc<dyn Transform>> { Some(Arc::new(Hiding("one"))) };
    let dead = ProcessSetup::named(&world, "a")
        .behind(stream_of(40), hiding())
        .await
        .unwrap();
    let (mut shard, _) = dead.claim("000000").await.unwrap();
    let source = transform::Source {
        stream: &stream_id(),
        shard: &super::support::shard("000000").id,
        now: NOW,
    };
    // Not where the reader of the rebuild cuts its batches.
    let raw = batch(0, &payloads(0..10));
    let of = AccountOf {
        writer: WriterId(1),
        shard: source.shard.clone(),
    };
    let runs = raw.runs.clone();
    let through = Hiding("one")
        .apply(raw, source)
        .unwrap()
        .into_batch(of, &runs);
    shard.push(Read::Batch(through)).await.unwrap();
    shard.publish(Flush::Drain).await.unwrap();
    let key = dead.lake.list(&names().data()).await.unwrap()[0]
        .key
        .clone();
    let before = dead.lake.get(&key).await.unwrap().unwrap();
    dead.lake.delete(&key).await.unwrap();

    let resume =
        async |process: SinkProcess| process.stage.resume(&super::support::shard("000000")).await;
    let other =
        ProcessSetup::named(&world, "b").behind(stream_of(40), Some(Arc::new(Hiding("two"))));
    let error = resume(other.await.unwrap()).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Refused, "{error}");
    let without = ProcessSetup::named(&world, "c")
        .over(stream_of(40))
        .await
        .unwrap();
    let error = resume(without).await.unwrap_err();
    assert!(error.to_string().contains("no policy"), "{error}");
    assert!(found(&world).await.is_empty());

    let same = ProcessSetup::named(&world, "d")
        .behind(stream_of(40), hiding())
        .await
        .unwrap();
    let lake = SharedLake::clone(&same.lake);
    resume(same).await.unwrap();
    let again = lake
        .get(&crate::lake::generation_key(&key, 1))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again, before);
}

/// Makes a dead letter of every record whose number leaves three over when divided by seven.
#[derive(Debug)]
struct Quarantining;

impl Transform for Quarantining {
    fn apply(&self, mut batch: Batch, source: transform::Source<'_>) -> Result<Transformed> {
        let input = batch.len() as u32;
        let all: Vec<_> = batch.positions().collect();
        let (kept, bad): (Vec<u32>, Vec<u32>) =
            (0..input).partition(|n| all[*n as usize].0.offset().unwrap() % 7 != 3);
        let dead_letters = bad.iter().map(|n| {
            let (sequence, sub, _) = all[*n as usize];
            let letter = DeadLetter {
                stream: source.stream.to_string().into(),
                shard: source.shard.clone(),
                sequence,
                sub,
                key: None,
                stage: "transform".into(),
                reason: "malformed_json".into(),
                detail: String::new(),
                length: 1,
                time: source.now,
            };
            (*n, letter)
        });
        let dead_letters = dead_letters.collect();
        keep(&mut batch, &kept);
        Ok(Transformed {
            sources: kept.clone(),
            rekeyed: vec![false; kept.len()],
            dead_letters,
            dropped: Vec::new(),
            input,
            batch,
        })
    }

    fn digest(&self) -> &str {
        "quarantining"
    }
}

/// A full decoder ends an interval in the middle of a batch. Records that a transform in the same process gave up
/// before that position belong to the interval, also when it is read again.
#[tokio::test]
async fn letters_of_a_cut_batch_are_made_again_in_the_interval_of_their_records() {
    let world = world(1);
    let rules = || TableRules {
        rows_max: 1,
        ..TableRules::default()
    };
    let behind = || -> Option<Arc<dyn Transform>> { Some(Arc::new(Quarantining)) };
    let start = ProcessSetup {
        rules: rules(),
        ..ProcessSetup::named(&world, "a")
    };
    let dead = start.behind(stream_of(40), behind()).await.unwrap();
    let (mut shard, _) = dead.claim("000000").await.unwrap();
    let source = transform::Source {
        stream: &stream_id(),
        shard: &super::support::shard("000000").id,
        now: NOW,
    };
    let of = AccountOf {
        writer: WriterId(1),
        shard: source.shard.clone(),
    };
    let raw = batch(0, &payloads(0..20));
    let runs = raw.runs.clone();
    let through = Quarantining
        .apply(raw, source)
        .unwrap()
        .into_batch(of, &runs);
    shard.push(Read::Batch(through)).await.unwrap();
    let chain = Chain::new(&dead.lake, &names(), &stream_id(), source.shard);
    let (mut dead_letters, mut cuts) = (0, 0);
    // After each publish the files of the newest record vanish and an heir makes them again.
    loop {
        shard.publish(Flush::Size).await.unwrap();
        if shard.deadline().is_some() {
            break;
        }
        shard.changed().await;
        cuts += 1;
        let ChainTip::Record(tip) = chain.tip().await.unwrap() else {
            panic!("a record");
        };
        for file in &tip.commit.files {
            dead_letters += u64::from(file.kind == FileKind::DeadLetters) * file.rows;
            dead.lake.delete(&file.sealed.key).await.unwrap();
        }
        let start = ProcessSetup {
            rules: rules(),
            ..ProcessSetup::named(&world, &format!("heir-{cuts}"))
        };
        let heir = start.behind(stream_of(40), behind()).await.unwrap();
        let resumed = heir.stage.resume(&super::support::shard("000000")).await;
        resumed.unwrap();
    }
    assert!(cuts > 10, "{cuts}");
    assert_eq!(dead_letters, 3, "the records 3, 10 and 17");
}

/// Drops every second record.
#[derive(Debug)]
struct Halving;

impl Transform for Halving {
    fn apply(&self, mut batch: Batch, _: transform::Source<'_>) -> Result<Transformed> {
        let input = batch.len() as u32;
        let all: Vec<_> = batch.positions().collect();
        let (kept, dropped): (Vec<u32>, Vec<u32>) =
            (0..input).partition(|n| all[*n as usize].0.offset().unwrap() % 2 == 0);
        keep(&mut batch, &kept);
        Ok(Transformed {
            rekeyed: vec![false; kept.len()],
            sources: kept,
            dead_letters: Vec::new(),
            dropped: dropped.into_iter().map(|n| (n, "odd".into())).collect(),
            input,
            batch,
        })
    }

    fn digest(&self) -> &str {
        "halving"
    }
}

/// A full decoder ends an interval in the middle of a batch, and the process dies before the rest is published. Records
/// that were dropped before that position are counted with the interval, and nothing is counted twice.
#[tokio::test]
async fn drops_of_a_cut_batch_count_once_in_every_owner() {
    let world = world(1);
    let id = super::support::shard("000000").id;
    let source = transform::Source {
        stream: &stream_id(),
        shard: &id,
        now: NOW,
    };
    let of = || AccountOf {
        writer: WriterId(1),
        shard: id.clone(),
    };
    // Of the records that go on, one day and another in turn.
    let record = |n: u64| {
        let day = 19 + n / 2 % 2;
        format!("{{\"n\":{n},\"time\":\"2026-11-{day:02}T10:00:00Z\"}}")
    };
    let mut lives = 0;
    loop {
        let rules = TableRules {
            rows_max: 1,
            ..TableRules::default()
        };
        let start = ProcessSetup {
            rules,
            ..ProcessSetup::named(&world, &format!("life-{lives}"))
        };
        let process = start.run().await.unwrap();
        let (mut shard, after) = process.claim("000000").await.unwrap();
        let next = after.next_offset().unwrap();
        if next == 20 {
            let quick = Depth {
                contents: false,
                now: None,
            };
            let report = verify(&process.lake, &names(), quick).await.unwrap();
            assert!(report.is_good(), "{report:?}");
            assert_eq!(
                (report.units.input, report.units.rows, report.units.dropped),
                (20, 10, 10)
            );
            let accounted: u64 = report.origins.iter().map(|origin| origin.input).sum();
            assert_eq!(accounted, 20);
            break;
        }
        let records: Vec<String> = (next..20).map(record).collect();
        let raw = batch(next, &records);
        let runs = raw.runs.clone();
        let through = Halving.apply(raw, source).unwrap().into_batch(of(), &runs);
        shard.push(Read::Batch(through)).await.unwrap();
        shard.publish(Flush::Size).await.unwrap();
        shard.changed().await;
        lives += 1;
    }
    assert!(lives >= 10, "{lives}");
}
