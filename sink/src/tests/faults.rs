//! A panic over record data costs the record at which it happens, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Once};

use hydrant_core::stage::Flush;
use hydrant_core::stream::Read;
use hydrant_core::{Disposition, Position};
use proptest::prelude::*;

use super::support::*;
use crate::decode::DecodedRows;
use crate::lake::{Chain, Commit, generation_key};
use crate::schema::TableSchema;
use crate::shard::buffer::{Buffer, IntervalFacts, StreamShard, TakeOutcome};
use crate::shard::culprits::CULPRITS_MAX;
use crate::shard::interval::conform;
use crate::table::spec::TableRules;
use crate::verify::{Depth, verify};

/// Silences the panics that a test asks for.
fn quietly() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let fault = panic.payload().downcast_ref::<&str>();
            if fault != Some(&"a fault that a test asked for") {
                hook(panic);
            }
        }));
    });
}

/// The record at `n`: one in five has a fault of its own kind, in the middle of it and with new columns, and one in
/// seven is refused.
fn faulty(n: u64) -> String {
    let fault = match n % 20 {
        1 => "fault:decode fault:letter",
        6 => "fault:route",
        11 => "fault:conform",
        16 => "fault:encode",
        _ => return payload(n),
    };
    format!(
        "{{\"new{n}\":{n},\"n\":{n},\"time\":\"2026-11-22T10:00:00Z\",\"o\":{{\"l\":[{{\"x\":\"y\"}}]}},\
         \"text\":\"{fault}\",\"z\":true}}"
    )
}

fn is_faulty(n: u64) -> bool {
    n % 5 == 1
}

/// The same record for a later program that has no fault.
fn mended(n: u64) -> String {
    faulty(n).replace("fault:", "")
}

async fn push(process: &SinkProcess, payloads: &[String]) -> hydrant_core::Result<()> {
    let (mut shard, _) = process.claim("000000").await?;
    shard.push(Read::Batch(batch(0, payloads))).await?;
    shard.publish(Flush::Drain).await.map(drop)
}

async fn commit_of(process: &SinkProcess, slot: u64) -> Commit {
    let id = shard("000000").id;
    let chain = Chain::new(&process.lake, &names(), &stream_id(), &id);
    chain.record(slot).await.unwrap().unwrap()
}

/// The reasons of the dead letters, by the number of their record.
async fn dead_letters(process: &SinkProcess) -> BTreeMap<u64, String> {
    let rows = rows_of(&*process.lake, &names().dead_letters()).await;
    let dead_letters = rows.iter().map(|row| {
        let n = row["sequence"].as_str().unwrap().parse().unwrap();
        (n, row["reason"].as_str().unwrap().to_owned())
    });
    dead_letters.collect()
}

#[tokio::test]
async fn a_panic_makes_a_dead_letter_of_its_record_and_stops_nothing() {
    quietly();
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let payloads: Vec<String> = (0..40).map(faulty).collect();
    push(&process, &payloads).await.unwrap();
    assert_exactly_once(&world, 0..40, "").await;
    for (n, reason) in dead_letters(&process).await {
        let wanted = if is_faulty(n) {
            "internal_fault"
        } else {
            "malformed_json"
        };
        assert_eq!(reason, wanted, "record {n}");
    }
    let commit = commit_of(&process, 1).await;
    assert_eq!(commit.faults.len(), 8);
    assert_eq!(
        (commit.counts.input, commit.counts.own_dead_letters),
        (40, 8 + 5)
    );
    let report = verify(&process.lake, &names(), Depth::default()).await;
    let report = report.unwrap();
    assert!(report.is_good() && report.warnings.is_empty(), "{report:?}");
}

/// A dead letter has the payload of its record, or the row once the record was decoded.
#[tokio::test]
async fn the_letter_of_a_fault_has_the_record() {
    quietly();
    for fault in ["fault:decode", "fault:conform", "fault:encode"] {
        let world = world(1);
        let process = ProcessSetup::named(&world, "a").run().await.unwrap();
        let record = format!("{{\"n\":1,\"text\":\"{fault}\"}}");
        push(&process, &[payload(0), record.clone()]).await.unwrap();
        let key = commit_of(&process, 1).await.files[1].sealed.key.clone();
        let body = process.lake.get(&key).await.unwrap().unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(body);
        let rows = reader.unwrap().build().unwrap().next().unwrap().unwrap();
        let payloads = rows.column_by_name("payload").unwrap();
        let payloads = arrow_array::cast::AsArray::as_binary::<i32>(payloads);
        assert_eq!(payloads.value(0), record.as_bytes(), "{fault}");
    }
}

/// A partition whose only row became a dead letter gets no file, and the files are numbered without it.
#[tokio::test]
async fn a_partition_that_a_fault_empties_is_no_file() {
    quietly();
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let alone = "{\"n\":1,\"time\":\"2026-11-01T00:00:00Z\",\"text\":\"fault:encode\"}";
    push(&process, &[payload(0), alone.to_owned(), payload(2)])
        .await
        .unwrap();
    let files = commit_of(&process, 1).await.files;
    assert_eq!(files.len(), 2);
    assert!(files[0].sealed.key.ends_with("_0000.parquet"), "{files:?}");
    assert!(files[1].sealed.key.ends_with("_0001.parquet"), "{files:?}");
    assert!(process.lake.list_uploads().await.unwrap().is_empty());
    assert_exactly_once(&world, 0..3, "").await;
}

/// A record that became a row before something panicked stays that row.
#[tokio::test]
async fn a_row_that_was_taken_stays_a_row() {
    quietly();
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let record = "{\"n\":1,\"text\":\"fault:counted\"}".to_owned();
    push(&process, &[payload(0), record, payload(2)])
        .await
        .unwrap();
    assert_exactly_once(&world, 0..3, "").await;
    assert!(dead_letters(&process).await.is_empty());
}

/// A dead letter that cannot be encoded stops nothing either.
#[tokio::test]
async fn a_letter_that_cannot_be_written_keeps_its_place_and_reason() {
    quietly();
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let record = "{\"n\":1,\"torn\":\"fault:letter\"".to_owned();
    push(&process, &[payload(0), record, payload(3)])
        .await
        .unwrap();
    assert_exactly_once(&world, [0, 1, 2].into_iter(), "").await;
    let rows = rows_of(&*process.lake, &names().dead_letters()).await;
    assert_eq!(rows[0]["reason"], "malformed_json");
    assert!(rows[0].get("key").is_none() && rows[0]["detail"] == "");
    assert_eq!(rows[1]["key"], "device-2");
}

/// When no single record is the cause, nothing is published and the error says what to do.
#[tokio::test]
async fn a_panic_of_no_single_record_names_the_interval_and_a_remedy() {
    quietly();
    for [first, second] in [["fault:first", "fault:second"], ["fault:finish", "a"]] {
        let world = world(1);
        let process = ProcessSetup::named(&world, "a").run().await.unwrap();
        let record = |n: u64, text: &str| format!("{{\"n\":{n},\"text\":\"{text}\"}}");
        let records = [record(0, first), record(1, second)];
        let error = push(&process, &records).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Fatal);
        let error = error.to_string();
        for said in ["(begin, 1]", "000000", "--flush-bytes"] {
            assert!(error.contains(said), "`{said}` is not in: {error}");
        }
        assert!(process.lake.list_uploads().await.unwrap().is_empty());
        assert!(found(&world).await.is_empty());
    }
}

#[tokio::test]
async fn an_interval_ends_where_its_faults_are_too_many() {
    quietly();
    let world = world(1);
    let process = ProcessSetup::named(&world, "a").run().await.unwrap();
    let many = CULPRITS_MAX as u64 + 3;
    let records: Vec<String> = (0..many)
        .map(|n| format!("{{\"n\":{n},\"text\":\"fault:decode\"}}"))
        .collect();
    push(&process, &records).await.unwrap();
    let (first, second) = (commit_of(&process, 1).await, commit_of(&process, 2).await);
    assert_eq!((first.faults.len(), second.faults.len()), (CULPRITS_MAX, 3));
    assert_exactly_once(&world, 0..many, "").await;
}

/// A vanished file is rebuilt without the records that were given up, also by a program that could compute them.
#[tokio::test]
async fn a_later_program_gives_up_what_was_given_up() {
    quietly();
    for payload in [faulty as fn(u64) -> String, mended] {
        let world = world(1);
        let process = ProcessSetup::named(&world, "a").run().await.unwrap();
        let payloads: Vec<String> = (0..20).map(faulty).collect();
        push(&process, &payloads).await.unwrap();
        let files = commit_of(&process, 1).await.files;
        assert_eq!(files.len(), 3);
        for file in &files {
            process.lake.delete(&file.sealed.key).await.unwrap();
        }
        let stream = Arc::new(stream_with(20, payload));
        let heir = ProcessSetup::named(&world, "b").over(stream).await.unwrap();
        heir.claim("000000").await.unwrap();
        assert_exactly_once(&world, 0..20, "").await;
        for file in &files {
            let again = generation_key(&file.sealed.key, 1);
            assert!(heir.lake.get(&again).await.unwrap().is_some());
        }
    }
}

/// The rows and dead letters of an interval.
fn made_of(records: &[(u64, String)]) -> (Vec<String>, Vec<(String, String)>) {
    let source = StreamShard::new(&stream_id(), &shard("000000").id);
    let (rules, base) = (TableRules::default(), Arc::new(TableSchema::default()));
    let begin = Position::Begin;
    let mut buffer = Buffer::open(&source, &rules, &base, NOW, begin, begin).unwrap();
    for (n, record) in records {
        let batch = batch(*n, std::slice::from_ref(record));
        assert_eq!(
            buffer.take(&batch, 0, NOW, u64::MAX, false).unwrap(),
            TakeOutcome::All
        );
    }
    contents_of(buffer.seal())
}

/// The rows and dead letters of a sealed interval, each as a text behind a word about its file.
pub(super) fn contents(sealed: (DecodedRows, IntervalFacts)) -> Vec<String> {
    let (mut all, dead_letters) = contents_of(sealed);
    all.extend(
        dead_letters
            .into_iter()
            .map(|(at, why)| format!("letter@{at} {why}")),
    );
    all
}

fn contents_of(
    (decoded, facts): (DecodedRows, IntervalFacts),
) -> (Vec<String>, Vec<(String, String)>) {
    let schema = decoded.schema().clone();
    let conformed = conform(facts, decoded, &schema, NOW).unwrap();
    let dead_letters = conformed.facts.dead_letters.iter().map(|letter| {
        let at = letter.entry.sequence.to_string();
        (at, letter.entry.reason.to_string())
    });
    let dead_letters = dead_letters.collect();
    let names = names().chain(&stream_id(), &shard("000000").id);
    let mut rows = Vec::new();
    for plan in conformed.plan(&names, &[]).unwrap() {
        if plan.key.contains("dead-letters") {
            continue;
        }
        let batch = plan.rows.to_batch().unwrap();
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let mut json = Vec::new();
            let columns = batch.columns();
            crate::encode::write_json_row(schema.fields(), columns, row, &mut json).unwrap();
            rows.push(format!(
                "{} {}",
                plan.position_hash,
                String::from_utf8(json).unwrap()
            ));
        }
    }
    (rows, dead_letters)
}

fn record() -> impl Strategy<Value = String> {
    let key = "[a-d]";
    let value = prop_oneof![
        Just("1".to_owned()),
        Just("2.5".to_owned()),
        Just("\"x\"".to_owned()),
        Just("[1,2]".to_owned()),
        Just("{\"y\":true}".to_owned()),
        Just("null".to_owned()),
    ];
    prop::collection::btree_map(key, value, 0..4).prop_map(|fields| {
        let fields: Vec<String> = fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn good_records_are_what_they_are_without_those_that_panic(
        records in prop::collection::vec((record(), prop::option::weighted(0.3, record()), 0..2_usize), 1..12),
    ) {
        quietly();
        let (mut all, mut good) = (Vec::new(), Vec::new());
        for (n, (record, before, kind)) in (0u64..).zip(&records) {
            if let Some(before) = before {
                let fault = ["fault:decode", "fault:route"][*kind];
                let (fields, end) = before.split_at(before.len() - 1);
                let comma = if fields.len() > 1 { "," } else { "" };
                all.push((2 * n, format!("{fields}{comma}\"e\":\"{fault}\"{end}")));
            }
            all.push((2 * n + 1, record.clone()));
            good.push((2 * n + 1, record.clone()));
        }
        let ((rows, mut dead_letters), wanted) = (made_of(&all), made_of(&good));
        let odd = |at: &str| at.parse::<u64>().unwrap() % 2 == 1;
        dead_letters.retain(|(at, _)| odd(at));
        prop_assert_eq!((rows, dead_letters), wanted);
    }
}
