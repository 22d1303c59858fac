//! Where every unit went.

use std::sync::Arc;

use hydrant_core::batch::{AccountOf, AccountSpan, Batch, RunBuilder, Step};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::origin::{Account, DeadLetter, WriterId};
use hydrant_core::stage::{Flush, ShardStage};
use hydrant_core::stream::Read;
use hydrant_core::{Position, Sequence};

use super::support::*;
use crate::lake::{Chain, Commit, FileKind};
use crate::schema::TableSchema;
use crate::shard::buffer::{Buffer, StreamShard, TakeOutcome};
use crate::shard::interval::conform;
use crate::shard::sink_shard::growth_bytes;
use crate::table::dead_letter::dead_letter_hash;
use crate::table::spec::{OnConflict, TableRules};
use crate::verify::{Depth, verify};

const HOUR: i64 = 3_600_000_000;

fn account(records: u64, dead_letters: u64, dropped: u64) -> Account {
    let letter = |n: u64| DeadLetter {
        stream: "raw@1".into(),
        shard: "raw-0".into(),
        sequence: Sequence::from(1000 + n),
        sub: 0,
        key: Some("[EMAIL]".into()),
        stage: "transform".into(),
        reason: "malformed_json".into(),
        detail: "at byte 3".to_owned(),
        length: 9,
        time: NOW,
    };
    let mut account = Account {
        input: records + dead_letters + dropped,
        records,
        dead_letters: (0..dead_letters).map(letter).collect(),
        ..Account::default()
    };
    account.drop_by("noise", dropped);
    account
}

fn with_account(mut batch: Batch, at: u64, account: Account) -> Batch {
    let entry = AccountOf {
        writer: WriterId(7),
        shard: "raw-0".into(),
    };
    batch.accounts.push(AccountSpan {
        at: Position::offset(at),
        entry,
        account,
    });
    batch.to = batch.to.max(Position::offset(at));
    batch
}

async fn commit_of(process: &SinkProcess, slot: u64) -> Commit {
    let id = shard("000000").id;
    let chain = Chain::new(&process.lake, &names(), &stream_id(), &id);
    chain.record(slot).await.unwrap().unwrap()
}

async fn push(shard: &mut Box<dyn ShardStage>, batch: Batch) {
    shard.push(Read::Batch(batch)).await.unwrap();
}

/// The commit record itself balances: input = rows + dead letters + dropped. Upstream dead letters have no payload.
#[tokio::test]
async fn letters_and_drops_of_earlier_stages_count_in_the_commit() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    // Five records, one of which this sink refuses, then their account in a slot of its own.
    push(
        &mut shard,
        with_account(batch(0, &payloads(0..5)), 5, account(5, 2, 3)),
    )
    .await;
    let progress = shard.publish(Flush::Drain).await.unwrap();
    assert_eq!(progress.to, Position::offset(5));
    let commit = commit_of(&process, 1).await;
    let counts = &commit.counts;
    assert_eq!((counts.input, counts.rows), (10, 4));
    assert_eq!(
        (counts.own_dead_letters, counts.upstream_dead_letters),
        (1, 2)
    );
    assert_eq!(counts.dropped_units(), 3);
    let times = commit.event_times.unwrap();
    assert_eq!((times.min, times.max), (NOW - 38 * HOUR, NOW - 14 * HOUR));
    assert_eq!(commit.stamps.unwrap().max, NOW - 1_000_000);
    assert_eq!(commit.origins.len(), 1);
    assert!(commit.origins[0].balances());
    let dead_letters = rows_of(&*process.lake, &names().dead_letters()).await;
    let stages: Vec<&str> = dead_letters
        .iter()
        .map(|row| row["stage"].as_str().unwrap())
        .collect();
    assert_eq!(stages, ["sink", "transform", "transform"]);
    assert_eq!(dead_letters[0]["reason"], "malformed_json");
    assert_eq!(dead_letters[0]["key"], "device-3");
    assert_eq!(dead_letters[0]["sequence"], "3");
    let key = &commit
        .files_of(FileKind::DeadLetters)
        .next()
        .unwrap()
        .sealed
        .key;
    let body = process.lake.get(key).await.unwrap().unwrap();
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(body).unwrap();
    let rows = reader.build().unwrap().next().unwrap().unwrap();
    let payloads =
        arrow_array::cast::AsArray::as_binary::<i32>(rows.column_by_name("payload").unwrap());
    assert_eq!(payloads.value(0), payload(3).as_bytes());
    assert_eq!(
        arrow_array::Array::null_count(payloads),
        2,
        "the payloads of upstream dead letters were not scanned"
    );
    let report = verify(&process.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(
        (
            report.units.input,
            report.units.rows,
            report.units.dead_letters,
            report.units.dropped
        ),
        (10, 4, 3, 3)
    );
}

#[tokio::test]
async fn an_account_without_records_is_published_and_an_empty_one_too() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    push(
        &mut shard,
        with_account(Batch::default(), 0, account(0, 1, 0)),
    )
    .await;
    push(
        &mut shard,
        with_account(Batch::default(), 1, account(0, 0, 4)),
    )
    .await;
    shard.publish(Flush::Drain).await.unwrap();
    let commit = commit_of(&process, 1).await;
    assert_eq!(
        (commit.counts.input, commit.counts.rows, commit.schema),
        (5, 0, 0)
    );
    assert_eq!(commit.files.len(), 1);
    let report = verify(&process.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert!(report.is_good(), "{report:?}");
}

/// An account at the very end of an interval counts there, and not again with what is left of its batch.
#[tokio::test]
async fn an_account_counts_once_although_its_batch_is_cut() {
    let world = world(1);
    let rules = TableRules {
        rows_max: 1,
        ..TableRules::default()
    };
    let start = ProcessSetup {
        rules,
        ..ProcessSetup::named(&world, "a")
    };
    let process = start.run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let sealed = with_account(batch(0, &payloads(0..2)), 0, account(1, 1, 0));
    push(&mut shard, with_account(sealed, 2, account(1, 1, 1))).await;
    shard.publish(Flush::Drain).await.unwrap();
    let (first, second) = (commit_of(&process, 1).await, commit_of(&process, 2).await);
    assert_eq!(first.interval().to, Position::offset(0));
    assert_eq!((first.counts.input, second.counts.input), (2, 3));
    let report = verify(&process.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(
        (
            report.units.rows,
            report.units.dead_letters,
            report.units.dropped
        ),
        (2, 2, 1)
    );
}

/// What a reader dropped counts in the interval that holds its position, once, also without a record.
#[tokio::test]
async fn copies_that_the_reader_dropped_count_where_they_were() {
    let world = world(1);
    let rules = TableRules {
        rows_max: 1,
        ..TableRules::default()
    };
    let start = ProcessSetup {
        rules,
        ..ProcessSetup::named(&world, "a")
    };
    let process = start.run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    // Each record becomes an interval, as two days are in turn.
    let at = Position::offset;
    let mut whole = batch(11, &payloads(11..14));
    whole.duplicates = vec![(at(4), 1), (at(11), 10), (at(12), 100), (at(14), 1000)];
    whole.to = at(14);
    push(&mut shard, whole).await;
    shard.publish(Flush::Drain).await.unwrap();
    let alone = Batch {
        duplicates: vec![(at(20), 7)],
        to: at(21),
        ..Batch::default()
    };
    push(&mut shard, alone).await;
    shard.publish(Flush::Drain).await.unwrap();
    let mut found = Vec::new();
    for slot in 1..=4 {
        let commit = commit_of(&process, slot).await;
        let counts = &commit.counts;
        assert_eq!(counts.input, counts.rows + counts.duplicates);
        found.push((commit.interval().to, counts.rows, counts.duplicates));
    }
    assert_eq!(
        found,
        [
            (at(11), 1, 11),
            (at(12), 1, 100),
            (at(14), 1, 1000),
            (at(21), 0, 7)
        ]
    );
    let report = verify(&process.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.units.input, report.units.duplicates), (1121, 1118));
}

/// A table of events has no row for a record without payload. Headers say nothing to it.
#[tokio::test]
async fn a_tombstone_is_a_dead_letter_without_payload() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let texts = [payload(0), String::new(), String::new(), payload(1)];
    let mut whole = batch(0, &texts);
    whole.tombstones = vec![1];
    let key = whole.records[0].key.unwrap();
    whole.headers = vec![key; 4];
    // A record without stamp has the time at which it arrived.
    whole.records[3].stamp = 0;
    whole.arrivals = vec![NOW, NOW, NOW, NOW + 5];
    assert!(whole.is_aligned());
    push(&mut shard, whole).await;
    shard.publish(Flush::Drain).await.unwrap();
    let commit = commit_of(&process, 1).await;
    let counts = &commit.counts;
    assert_eq!(
        (counts.input, counts.rows, counts.own_dead_letters),
        (4, 2, 2)
    );
    assert_eq!(commit.stamps.unwrap().max, NOW + 5);
    let dead_letters = rows_of(&*process.lake, &names().dead_letters()).await;
    let reasons: Vec<_> = dead_letters
        .iter()
        .map(|letter| (letter["sequence"].as_str(), letter["reason"].as_str()))
        .collect();
    assert_eq!(
        reasons,
        [
            (Some("1"), Some("tombstone")),
            (Some("2"), Some("malformed_json"))
        ]
    );
    assert_eq!(dead_letters[0]["key"], "device-1");
    let key = &commit
        .files_of(FileKind::DeadLetters)
        .next()
        .unwrap()
        .sealed
        .key;
    let body = process.lake.get(key).await.unwrap().unwrap();
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(body).unwrap();
    let rows = reader.build().unwrap().next().unwrap().unwrap();
    let payloads =
        arrow_array::cast::AsArray::as_binary::<i32>(rows.column_by_name("payload").unwrap());
    let nulls = [0, 1].map(|row| arrow_array::Array::is_null(payloads, row));
    assert_eq!(nulls, [true, false], "no payload is not an empty one");
    let report = verify(&process.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert!(report.is_good(), "{report:?}");
}

/// An account of an earlier stage that does not add up stops nothing, and verification finds it.
#[tokio::test]
async fn an_upstream_account_that_is_wrong_is_found_by_verification() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let wrong = Account {
        input: 9,
        ..account(5, 2, 1)
    };
    push(
        &mut shard,
        with_account(batch(0, &payloads(0..5)), 5, wrong),
    )
    .await;
    shard.publish(Flush::Drain).await.unwrap();
    let report = verify(&process.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(report.problems[0].place.contains("raw-0"), "{report:?}");
}

#[tokio::test]
async fn an_interval_with_nothing_in_it_leaves_no_record_but_moves_on() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    shard
        .push(Read::Idle {
            through: Position::offset(4),
        })
        .await
        .unwrap();
    assert!(shard.deadline().is_some());
    let progress = shard.publish(Flush::Drain).await.unwrap();
    assert_eq!(progress.to, Position::offset(4));
    assert!(shard.deadline().is_none());
    let at = |to: u64| Batch {
        to: Position::offset(to),
        ..Batch::default()
    };
    push(&mut shard, at(6)).await;
    assert_eq!(
        shard.publish(Flush::Drain).await.unwrap().to,
        Position::offset(6)
    );
    assert!(process.lake.list(&names().data()).await.unwrap().is_empty());
    publish(&mut shard, 9..11).await.unwrap();
    let commit = commit_of(&process, 1).await;
    assert_eq!(
        commit.interval().from,
        Position::Begin,
        "FROM is the chain's, not the reader's"
    );
    assert_exactly_once(&world, 9..11, "").await;
}

#[tokio::test]
async fn lost_records_stand_in_the_commit() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    let (from, to) = (Position::Begin, Position::offset(8));
    shard
        .push(Read::Gap {
            from,
            to,
            why: "retention passed".to_owned(),
            marks: Vec::new(),
        })
        .await
        .unwrap();
    let progress = shard.publish(Flush::Drain).await.unwrap();
    assert_eq!(progress.to, Position::offset(8));
    assert_eq!(commit_of(&process, 1).await.gaps[0].why, "retention passed");
    let report = verify(&process.lake, &names(), Depth::default())
        .await
        .unwrap();
    assert!(report.is_good() && report.warnings.len() == 1, "{report:?}");
}

#[tokio::test]
async fn a_reader_that_goes_back_is_refused() {
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let (mut shard, _) = process.claim("000000").await.unwrap();
    push(&mut shard, batch(0, &payloads(0..5))).await;
    let error = shard
        .push(Read::Batch(batch(4, &payloads(4..6))))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("went back"), "{error}");
}

/// Dead letters of earlier stages come without records. They take memory all the same, and the sink acquires it first.
#[test]
fn letters_of_earlier_stages_take_what_their_interval_may_grow_by() {
    let source = StreamShard::new(&stream_id(), &shard("000000").id);
    let (rules, base) = (TableRules::default(), Arc::new(TableSchema::default()));
    let begin = Position::Begin;
    let mut buffer = Buffer::open(&source, &rules, &base, NOW, begin, begin).unwrap();
    let batch = with_account(Batch::default(), 5, account(0, 10_000, 0));
    let growth = growth_bytes(&batch);
    let (taken, memory) =
        hydrant_fuzz::memory(|| buffer.take(&batch, 0, NOW, growth, false).unwrap());
    assert_eq!(taken, TakeOutcome::All);
    assert!(memory.peak_bytes <= growth, "{memory:?} of {growth}");
    assert!(buffer.bytes() <= growth, "{} of {growth}", buffer.bytes());
}

/// The batches of a reader must not show in the files of an interval: a vanished file is rebuilt from other batches.
#[test]
fn letters_lie_in_the_same_order_however_their_records_were_read() {
    let digest = |batches: &[Batch]| {
        let source = StreamShard::new(&stream_id(), &shard("000000").id);
        let (rules, base) = (TableRules::default(), Arc::new(TableSchema::default()));
        let (begin, end) = (Position::Begin, Position::Begin);
        let mut buffer = Buffer::open(&source, &rules, &base, NOW, begin, end).unwrap();
        for batch in batches {
            assert_eq!(
                buffer.take(batch, 0, NOW, u64::MAX, false).unwrap(),
                TakeOutcome::All
            );
        }
        let (decoded, facts) = buffer.seal();
        let schema = decoded.schema().clone();
        let conformed = conform(facts, decoded, &schema, NOW);
        dead_letter_hash(&conformed.unwrap().facts.dead_letters)
    };
    let apart = [
        with_account(batch(0, &payloads(0..5)), 5, account(5, 2, 0)),
        with_account(batch(6, &payloads(6..11)), 11, account(5, 0, 0)),
    ];
    let mut whole: Vec<String> = payloads(0..11);
    whole.remove(5);
    let mut together = batch(0, &whole);
    let mut runs = RunBuilder::default();
    for n in (0..5).chain(6..11) {
        runs.push(Sequence::from(n), 0, Step::Sequence, NOW);
    }
    together.runs = runs.finish();
    together.to = Position::offset(11);
    let together = with_account(together, 5, account(5, 2, 0));
    assert_eq!(digest(&apart), digest(&[together]));
}

/// Records that are refused when they are read, and those that are refused at the end of the interval.
#[test]
fn letters_stand_by_position_however_batches_are_cut() {
    let records = [
        "{\"n\":1}",
        "{\"n\":\"x\"}",
        "bad",
        "{\"n\":2}",
        "{\"n\":[]}",
        "{",
        "{\"n\":3}",
    ];
    let records = records.map(str::to_owned);
    let source = StreamShard::new(&stream_id(), &shard("000000").id);
    let rules = TableRules {
        on_conflict: OnConflict::DeadLetter,
        ..TableRules::default()
    };
    let letters = |batches: usize| {
        let (base, begin) = (Arc::new(TableSchema::default()), Position::Begin);
        let mut buffer = Buffer::open(&source, &rules, &base, NOW, begin, begin).unwrap();
        for (at, records) in records.chunks(batches).enumerate() {
            let batch = batch((at * batches) as u64, records);
            let taken = buffer.take(&batch, 0, NOW, u64::MAX, false).unwrap();
            assert_eq!(taken, TakeOutcome::All);
        }
        let (decoded, facts) = buffer.seal();
        let schema = decoded.schema().clone();
        let conformed = conform(facts, decoded, &schema, NOW).unwrap();
        let letters = conformed.facts.dead_letters.iter();
        letters
            .map(|letter| letter.entry.sequence)
            .collect::<Vec<_>>()
    };
    let wanted = [1, 2, 4, 5].map(Sequence::from).to_vec();
    for batches in 1..=records.len() {
        assert_eq!(letters(batches), wanted, "{batches}");
        let unsorted = mutant::with(Some(Mutant::LettersAsTheyCame), || letters(batches));
        assert_ne!(unsorted, wanted, "the order in which they are refused");
    }
}
