//! Judges a run by its results: every Parquet file, every dead letter, both logs.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::{Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use hydrant_core::lake::SharedLake;
use hydrant_core::{Context, Error, Position, Result, ShardId};
use hydrant_producer::simulate::Fleet;
use hydrant_sink::lake::{Lakes, RebuildRecord};
use hydrant_sink::verify::{Depth, TableReport, verify};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::plan::{Log, PipelineShape};
use super::roles;
use super::streams::SimStreams;
use super::witness::{self, RecordPlace, Seen, StoredUnits, index_of};
use crate::taking::TakenFiles;

/// The most faults that a report lists.
const LISTED: usize = 12;

/// The contents of both logs.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) stored: BTreeMap<RecordPlace, Seen>,
    clean_units: StoredUnits,
    /// The index of each raw record, by shard and position.
    indexes: BTreeMap<(String, Position), u64>,
    /// The number of records of each raw shard, as the log counts them, or as a reader does where it cannot.
    raw_counts: BTreeMap<String, u64>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LakeRow {
    shard: String,
    position: Position,
    index: u64,
    seq: u64,
}

/// The contents of a lake, and of the files that were taken from it.
#[derive(Debug)]
pub(super) struct LakeContents {
    pub(super) rows: Vec<LakeRow>,
    /// Stream, shard and position.
    pub(super) dead_letters: Vec<(String, String, Position)>,
    verified: TableReport,
    /// The number of files that were rebuilt.
    pub(super) made_again: usize,
    /// Files whose rows are not in the order of their positions.
    disordered: Vec<String>,
    /// How many rows and dead letters lie in taken files.
    taken: u64,
}

/// Reads both logs to their ends.
pub(super) async fn read_logs(streams: &SimStreams, context: &Context) -> Result<Logs> {
    let (mut stored, _) = witness::read_all(Log::Raw, streams, context).await?;
    let mut indexes = BTreeMap::new();
    let mut counts: BTreeMap<ShardId, u64> = BTreeMap::new();
    for ((_, shard, position), seen) in &stored {
        *counts.entry(shard.clone()).or_default() += 1;
        let index = seen.origin.as_ref().and_then(|(_, at)| index_of(*at));
        indexes.extend(index.map(|index| ((shard.to_string(), *position), index)));
    }
    let (clean, clean_units) = witness::read_all(Log::Clean, streams, context).await?;
    stored.extend(clean);
    let states = streams.open(Log::Raw, context).await?.states().await?;
    let raw_counts = states
        .into_iter()
        .map(|state| {
            let read = counts.get(&state.shard.id).copied().unwrap_or(0);
            (state.shard.id.to_string(), state.records.unwrap_or(read))
        })
        .collect();
    Ok(Logs {
        stored,
        clean_units,
        indexes,
        raw_counts,
    })
}

/// Reads the table as any reader that lists its prefix would, and verifies it.
pub(super) async fn read_lake(context: &Context, taken: &TakenFiles) -> Result<LakeContents> {
    let lake = Lakes::default()
        .open_read(&format!("file:{}", roles::LAKE), context)
        .await?;
    let names = roles::table();
    let verified = verify(&lake, &names, Depth::default()).await?;
    let (mut rows, mut dead_letters, mut disordered) = (Vec::new(), Vec::new(), Vec::new());
    let (data, letters) = (names.data(), names.dead_letters());
    let [rows_taken, letters_taken] = [&data, &letters].map(|prefix| parsed(taken.below(prefix)));
    let (rows_taken, letters_taken) = (rows_taken?, letters_taken?);
    let batches = rows_taken.iter().chain(&letters_taken);
    let batches = batches.flat_map(|(_, batches)| batches);
    let taken = batches.map(|batch| batch.num_rows() as u64).sum();
    for (key, batches) in [files(&lake, &data).await?, rows_taken].concat() {
        let before = rows.len();
        for batch in &batches {
            let (shards, sequences) = (texts(batch, "_shard")?, texts(batch, "_sequence")?);
            let subs = integers(batch, "_sub")?;
            let (indexes, seqs) = (integers(batch, "index")?, integers(batch, "seq")?);
            for row in 0..batch.num_rows() {
                rows.push(LakeRow {
                    shard: shards.value(row).to_owned(),
                    position: place(sequences.value(row), subs.value(row))?,
                    index: indexes.value(row).unsigned_abs(),
                    seq: seqs.value(row).unsigned_abs(),
                });
            }
        }
        if !rows[before..].is_sorted_by(|a, b| a.position < b.position) {
            disordered.push(key);
        }
    }
    for (_, batches) in [files(&lake, &letters).await?, letters_taken].concat() {
        for batch in &batches {
            let (streams, shards) = (texts(batch, "stream")?, texts(batch, "shard")?);
            let (sequences, subs) = (texts(batch, "sequence")?, integers(batch, "sub")?);
            for row in 0..batch.num_rows() {
                let text = |column: &StringArray| column.value(row).to_owned();
                let at = place(sequences.value(row), subs.value(row))?;
                dead_letters.push((text(streams), text(shards), at));
            }
        }
    }
    let rebuilds = format!("{}rebuild/", names.system());
    let mut made_again = 0;
    for object in lake.list(&rebuilds).await? {
        let body = lake.get(&object.key).await?.unwrap_or_default();
        let record = RebuildRecord::from_body(&object.key, &body)?;
        made_again += usize::from(record.sealed().is_some());
    }
    Ok(LakeContents {
        rows,
        dead_letters,
        verified,
        made_again,
        disordered,
        taken,
    })
}

async fn files(lake: &SharedLake, prefix: &str) -> Result<Vec<(String, Vec<RecordBatch>)>> {
    let mut files = Vec::new();
    for object in lake.list(prefix).await? {
        let body = lake.get(&object.key).await?;
        let body = body.ok_or_else(|| unreadable(&object.key))?;
        files.push((object.key, body));
    }
    parsed(files)
}

fn unreadable(key: &str) -> Error {
    Error::fatal(format!("`{key}` is not a Parquet file"))
}

/// The batches of files.
fn parsed(
    files: impl IntoIterator<Item = (String, Bytes)>,
) -> Result<Vec<(String, Vec<RecordBatch>)>> {
    let batches_of = |(key, body): (String, Bytes)| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(body).and_then(|made| made.build());
        let batches = reader.map_err(|_| unreadable(&key))?;
        let batches: Result<Vec<_>, _> = batches.collect();
        Ok((key.clone(), batches.map_err(|_| unreadable(&key))?))
    };
    files.into_iter().map(batches_of).collect()
}

/// The position that two columns say.
fn place(sequence: &str, sub: i64) -> Result<Position> {
    let unreadable = |_| Error::fatal(format!("`{sequence}` is not a sequence number"));
    let sequence = sequence.parse().map_err(unreadable)?;
    Ok(Position::at(sequence, sub as u32))
}

fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    let column = batch
        .column_by_name(name)
        .and_then(|column| column.as_any().downcast_ref());
    column.ok_or_else(|| Error::fatal(format!("no column `{name}` of its type")))
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    column(batch, name)
}

fn integers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array> {
    column(batch, name)
}

/// Answers what is wrong.
pub(super) fn judge(
    shape: &PipelineShape,
    logs: &Logs,
    lake: &LakeContents,
    acked: &BTreeSet<u64>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let problems = &lake.verified.problems;
    faults.extend(
        problems
            .iter()
            .map(|p| format!("{}: {}: {}", p.kind, p.place, p.detail)),
    );
    faults.extend(
        lake.disordered
            .iter()
            .map(|key| format!("{key}: rows are out of order")),
    );
    let (expired, never) = (lake.verified.expired, lake.verified.lost);
    let gone = expired.rows + expired.dead_letters;
    if (gone, never.files) != (lake.taken, 0) {
        let taken = lake.taken;
        faults.push(format!(
            "{taken} rows and dead letters were taken, and told as {expired:?}, and as lost {never:?}"
        ));
    }
    judge_log(logs, &mut faults);
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for row in &lake.rows {
        let place = format!("row of {} at {}", row.shard, row.position);
        found.entry(row.index).or_default().push(place);
    }
    for (stream, shard, at) in &lake.dead_letters {
        match index_of_letter(logs, stream, shard, *at) {
            Some(index) => {
                let place = format!("dead letter of {stream} {shard} at {at}");
                found.entry(index).or_default().push(place);
            }
            None => faults.push(format!(
                "a dead letter of {stream} {shard} at {at} belongs to no record"
            )),
        }
    }
    for index in 0..shape.records {
        let wanted = shape.producer_returns || acked.contains(&index);
        match found.remove(&index).as_deref() {
            None if wanted => faults.push(lost(logs, index)),
            None | Some([_]) => {}
            Some(places) => {
                faults.push(format!("record {index} appears more than once: {places:?}"))
            }
        }
    }
    faults.extend(
        found
            .keys()
            .map(|index| format!("record {index} was never sent")),
    );
    if shape.keeps_order() {
        judge_order(shape, lake, &mut faults);
    }
    judge_accounts(logs, lake, &mut faults);
    faults.truncate(LISTED);
    faults
}

/// Says how far a lost record came.
fn lost(logs: &Logs, index: u64) -> String {
    let mut text = format!("record {index} was acknowledged and is lost");
    let raw = logs.indexes.iter().find(|(_, stored)| **stored == index);
    let Some(((shard, at), _)) = raw else {
        return text + ": it is not in the raw log";
    };
    text += &format!(": it is in raw shard {shard} at {at}");
    let origin = Some((ShardId::new(shard.as_str()), *at));
    let clean = |(place, seen): &(&RecordPlace, &Seen)| {
        place.0 == Log::Clean.url() && seen.origin == origin
    };
    if let Some((place, seen)) = logs.stored.iter().find(clean) {
        let payload = String::from_utf8_lossy(&seen.payload);
        text += &format!(" and in clean shard {} at {}: {payload}", place.1, place.2);
    }
    text
}

/// Judges the streams alone, where a transform lies between them: each raw record is in the clean log once, as a record or
/// as a dead letter, and each raw shard is accounted for.
pub(super) fn judge_streams(
    shape: &PipelineShape,
    logs: &Logs,
    acked: &BTreeSet<u64>,
) -> Vec<String> {
    let mut faults = Vec::new();
    judge_log(logs, &mut faults);
    let indexes: BTreeSet<u64> = logs.indexes.values().copied().collect();
    for index in 0..shape.records {
        let wanted = shape.producer_returns || acked.contains(&index);
        if wanted && !indexes.contains(&index) {
            faults.push(lost(logs, index));
        }
    }
    let index_at = |shard: String, at| logs.indexes.get(&(shard, at)).copied();
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (place, seen) in &logs.stored {
        if place.0 == Log::Clean.url()
            && let Some((shard, at)) = &seen.origin
            && let Some(index) = index_at(shard.to_string(), *at)
        {
            found.entry(index).or_default().push(format!("{place:?}"));
        }
    }
    for (stream, shard, at) in &logs.clean_units.dead_letters {
        match index_at(shard.clone(), *at) {
            Some(index) => {
                let place = format!("dead letter of {stream} {shard} at {at}");
                found.entry(index).or_default().push(place);
            }
            None => faults.push(format!(
                "a dead letter of {stream} {shard} at {at} belongs to no record"
            )),
        }
    }
    for index in indexes {
        match found.remove(&index).as_deref() {
            Some([_]) => {}
            None => faults.push(lost(logs, index)),
            Some(places) => faults.push(format!("record {index} is there {places:?}")),
        }
    }
    if shape.keeps_order() {
        judge_order_of_streams(shape, logs, &mut faults);
    }
    for (shard, stored) in &logs.raw_counts {
        let answered = logs.clean_units.answered.get(shard).copied().unwrap_or(0);
        if answered != *stored {
            faults.push(format!(
                "raw shard {shard} holds {stored} records, and {answered} are answered for in the clean log"
            ));
        }
    }
    faults.truncate(LISTED);
    faults
}

/// Checks that the number of each device rises along each stream, from shard to shard by creation.
fn judge_order_of_streams(shape: &PipelineShape, logs: &Logs, faults: &mut Vec<String>) {
    let fleet = Fleet::try_new(&roles::fleet(shape)).expect("the fleet of the producer");
    let mut newest: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for (place, seen) in &logs.stored {
        let index = match &seen.origin {
            Some((_, at)) if place.0 == Log::Raw.url() => index_of(*at),
            Some((shard, at)) => logs.indexes.get(&(shard.to_string(), *at)).copied(),
            None => None,
        };
        let Some(index) = index else { continue };
        let (device, seq) = fleet.device_and_seq(index);
        if let Some(before) = newest.insert((&place.0, device), seq)
            && before >= seq
        {
            faults.push(format!(
                "{place:?} with seq {seq} of device {device} stands after its seq {before}"
            ));
        }
    }
}

/// Checks that no index appears twice in the raw log: its readers need not deduplicate.
fn judge_log(logs: &Logs, faults: &mut Vec<String>) {
    let mut places: BTreeMap<u64, &(String, Position)> = BTreeMap::new();
    for (place, index) in &logs.indexes {
        if let Some(before) = places.insert(*index, place) {
            faults.push(format!(
                "record {index} is in the raw log at {before:?} and at {place:?}"
            ));
        }
    }
    let mut origins: BTreeMap<&(ShardId, Position), &RecordPlace> = BTreeMap::new();
    for (place, seen) in logs
        .stored
        .iter()
        .filter(|(place, _)| place.0 == Log::Clean.url())
    {
        let Some(origin) = &seen.origin else {
            faults.push(format!("{place:?} has no origin"));
            continue;
        };
        if let Some(before) = origins.insert(origin, place) {
            faults.push(format!(
                "raw record {origin:?} is in the clean log at {before:?} and at {place:?}"
            ));
        }
    }
}

fn index_of_letter(logs: &Logs, stream: &str, shard: &str, at: Position) -> Option<u64> {
    if stream.starts_with("raw") {
        return logs.indexes.get(&(shard.to_owned(), at)).copied();
    }
    let place = (Log::Clean.url().to_owned(), ShardId::new(shard), at);
    let (shard, position) = logs.stored.get(&place)?.origin.clone()?;
    logs.indexes.get(&(shard.to_string(), position)).copied()
}

/// Checks that the number of each device rises along the lineage of shards, whose names sort by creation, and along
/// each shard.
fn judge_order(shape: &PipelineShape, lake: &LakeContents, faults: &mut Vec<String>) {
    let fleet = Fleet::try_new(&roles::fleet(shape)).expect("the fleet of the producer");
    let mut rows = lake.rows.clone();
    rows.sort();
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    for row in &rows {
        let (device, seq) = fleet.device_and_seq(row.index);
        if seq != row.seq {
            faults.push(format!(
                "record {} has seq {} and was sent with {seq}",
                row.index, row.seq
            ));
        }
        if let Some(before) = newest.insert(device, row.seq)
            && before >= row.seq
        {
            faults.push(format!(
                "{row:?} of device {device} comes after its seq {before}"
            ));
        }
    }
}

/// Checks that the lake accounts for the records of each raw shard.
fn judge_accounts(logs: &Logs, lake: &LakeContents, faults: &mut Vec<String>) {
    let mut accounted: BTreeMap<&str, u64> = BTreeMap::new();
    for origin in &lake.verified.origins {
        *accounted.entry(origin.shard.as_str()).or_default() += origin.input;
    }
    let mut read: BTreeMap<&str, u64> = BTreeMap::new();
    for (shard, _) in logs.indexes.keys() {
        *read.entry(shard).or_default() += 1;
    }
    for (shard, stored) in &logs.raw_counts {
        let count = |counts: &BTreeMap<&str, u64>| counts.get(shard.as_str()).copied().unwrap_or(0);
        let (accounted, read) = (count(&accounted), count(&read));
        if accounted != *stored || read != *stored {
            faults.push(format!(
                "raw shard {shard} counts {stored} records, holds {read}, and {accounted} are accounted for"
            ));
        }
    }
}
