//! From a cut interval to staged files.
//!
//! Owns the order: what the rows need of the schema is settled first, then rows are brought under it (what does not fit
//! becomes a dead letter), then each partition is encoded on a worker and staged. Promises that the same interval by the
//! same spec gives files with the same rows in the same order, so that a lost one can be made again; that a row whose
//! conforming or encoding panics becomes a dead letter and the other files are what they would be without it; and that
//! nothing staged stays when staging fails. Refuses to keep more than a few encoded files in memory, and to write an
//! interval when no single row causes a panic.

use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::{ArrowError, Schema};
use arrow_select::take::take_record_batch;
use hydrant_core::lake::SharedLake;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::workers::contain;
use hydrant_core::{Context, Error, Interval, Position, Result};

use super::buffer::{SealedInterval, StreamShard, log_fault, own_letter};
use super::culprits::{CULPRITS_MAX, culprits, others};
use super::upload::{PlannedFile, UploadOutcome, Uploads, stage_all};
use crate::decode::{DecodedRows, PartitionRows, Provenance, Reject, row_text};
use crate::encode::EncodeOptions;
use crate::lake::position_hash::Positions;
use crate::lake::{ChainNames, CommitFile, FileKind};
use crate::schema::TableSchema;
use crate::table::dead_letter::{StoredDeadLetter, letter_batch, letter_hash, letter_schema};

/// What becomes of a cut interval under a schema.
#[derive(Debug)]
pub(crate) struct ConformedInterval {
    source: StreamShard,
    interval: Interval,
    /// The time of the dead letters that are made here.
    time: i64,
    schema: Arc<Schema>,
    /// The columns of the records themselves; those behind them say where a row came from.
    own_columns: usize,
    partitions: Vec<PartitionRows>,
    pub(crate) letters: Vec<StoredDeadLetter>,
    positions: Positions,
    /// The records, by index, whose rows have no believable event time.
    untimed: Vec<u32>,
    /// Dead letters that were made here.
    pub(crate) refused: u64,
    /// The records whose computation panicked.
    pub(crate) faults: Vec<Position>,
}

/// A panic that no single record causes. What it means for the data is that nothing of the interval is published: it is
/// read again by the next start.
pub(crate) fn untraced(source: &StreamShard, interval: Interval) -> Error {
    Error::fatal(format!(
        "the interval ({}, {}] of shard `{}` cannot be computed: it panics whichever record is left out, which is a fault \
         of hydrant; nothing is lost: start a version that mends it, or cut the interval elsewhere by another \
         `--flush-bytes` or `--flush-interval`",
        interval.from, interval.to, source.shard,
    ))
}

/// Brings rows under the stored schema. `time` is that of the dead letters this makes.
pub(crate) fn conform(
    source: StreamShard,
    interval: Interval,
    decoded: DecodedRows,
    positions: Positions,
    letters: Vec<StoredDeadLetter>,
    schema: &TableSchema,
    time: i64,
) -> Result<ConformedInterval> {
    let untraced = || untraced(&source, interval);
    let provenance = Provenance {
        stream: &source.stream_text,
        shard: source.shard.as_str(),
    };
    let part = |rows: &[u32]| {
        contain(|| {
            decoded
                .take(rows)
                .and_then(|part| part.conform(schema, provenance))
        })
    };
    let mut faulted = Vec::new();
    let conformed = match contain(|| decoded.conform(schema, provenance)) {
        Some(conformed) => conformed,
        None => {
            let rows = decoded.rows();
            let bad = culprits(rows, |rows| part(rows).is_some()).ok_or_else(untraced)?;
            let rest = part(&others(rows, &bad)).ok_or_else(untraced)?;
            faulted = decoded.give_up(&bad, &Reject::internal_fault());
            rest
        }
    };
    drop(decoded);
    let conformed = conformed.map_err(|error| arrow_refused(&error))?;
    let mut ready = ConformedInterval {
        interval,
        time,
        schema: conformed.schema,
        own_columns: schema.columns().len(),
        partitions: conformed.partitions,
        letters,
        positions,
        untimed: conformed.untimed,
        refused: 0,
        faults: Vec::new(),
        source,
    };
    for reject in &conformed.rejects {
        ready.refuse(reject.record, &reject.reject, &reject.row);
    }
    for reject in &faulted {
        ready.fault(reject.record, &reject.row);
    }
    ready.sort_letters();
    Ok(ready)
}

fn arrow_refused(error: &ArrowError) -> Error {
    Error::fatal(format!("rows cannot be brought under the schema: {error}"))
}

impl ConformedInterval {
    /// The rows of the interval.
    pub(crate) fn rows(&self) -> u64 {
        let rows = self.partitions.iter().map(|rows| rows.records.len() as u64);
        rows.sum()
    }

    /// Those of them without a believable event time.
    pub(crate) fn untimed_rows(&self) -> u64 {
        self.untimed.len() as u64
    }

    fn refuse(&mut self, record: u32, reject: &Reject, row: &[u8]) {
        let position = self.positions.get(record);
        let (source, time) = (&self.source, self.time);
        let letter = own_letter(source, position, None, reject, row, time);
        self.letters.push(letter);
        self.refused += 1;
    }

    fn fault(&mut self, record: u32, row: &[u8]) {
        self.refuse(record, &Reject::internal_fault(), row);
        let (sequence, sub) = self.positions.get(record);
        let position = Position::at(sequence, sub);
        log_fault(&self.source.shard, position);
        self.faults.push(position);
    }

    /// By their places: in which order they came depends on how the records were cut into batches.
    fn sort_letters(&mut self) {
        if mutant::is(Mutant::LettersAsTheyCame) {
            return;
        }
        self.letters.sort_by(|a, b| {
            let place = |letter: &StoredDeadLetter| (letter.letter.sequence, letter.letter.sub);
            let (a_of, b_of) = (&a.letter, &b.letter);
            (&a_of.stream, &a_of.shard, place(a)).cmp(&(&b_of.stream, &b_of.shard, place(b)))
        });
    }

    /// Makes dead letters of the rows of files, by the number of the file in the plan, whose encoding panicked. A dead
    /// letter that cannot be encoded keeps its place and its reason only.
    ///
    /// # Errors
    /// Fatal when this is no matter of single records.
    pub(crate) fn give_up(&mut self, faulted: &[(usize, Vec<u32>)]) -> Result<()> {
        for (file, rows) in faulted {
            self.give_up_rows(*file, rows)?;
        }
        self.partitions
            .retain(|partition| !partition.records.is_empty());
        self.sort_letters();
        Ok(())
    }

    fn give_up_rows(&mut self, file: usize, rows: &[u32]) -> Result<()> {
        let untraced = untraced(&self.source, self.interval);
        if rows.is_empty() || self.faults.len() + rows.len() > 2 * CULPRITS_MAX {
            return Err(untraced);
        }
        let Some(partition) = self.partitions.get_mut(file) else {
            for row in rows {
                match self.letters.get_mut(*row as usize) {
                    Some(letter) if !letter.is_bare() => letter.strip(),
                    _ => return Err(untraced),
                }
            }
            return Ok(());
        };
        let fields: Vec<_> = partition
            .batch
            .schema()
            .fields()
            .iter()
            .take(self.own_columns)
            .map(|field| field.as_ref().clone())
            .collect();
        let columns: Vec<ArrayRef> = partition
            .batch
            .columns()
            .iter()
            .take(self.own_columns)
            .cloned()
            .collect();
        let rest = others(partition.records.len(), rows);
        let given_up: Vec<(u32, Vec<u8>)> = rows
            .iter()
            .map(|row| {
                (
                    partition.records[*row as usize],
                    row_text(&fields, &columns, *row as usize),
                )
            })
            .collect();
        partition.batch = take_record_batch(&partition.batch, &UInt32Array::from(rest.clone()))
            .map_err(|error| arrow_refused(&error))?;
        partition.records = rest
            .iter()
            .map(|row| partition.records[*row as usize])
            .collect();
        self.untimed
            .retain(|record| given_up.iter().all(|(given_up, _)| given_up != record));
        for (record, row) in given_up {
            self.fault(record, &row);
        }
        Ok(())
    }

    /// The files of the interval: one a partition, then the dead letters.
    pub(crate) fn plan(
        &self,
        names: &ChainNames,
        metadata: &[(String, String)],
    ) -> Result<Vec<PlannedFile>> {
        let (from, to) = (self.interval.from, self.interval.to);
        let mut plans = Vec::with_capacity(self.partitions.len() + 1);
        for (index, partition) in self.partitions.iter().enumerate() {
            plans.push(PlannedFile {
                kind: FileKind::Rows,
                key: names.rows(&partition.path, from, to, index),
                position_hash: self.positions.hash(&partition.records),
                schema: Arc::clone(&self.schema),
                batch: partition.batch.clone(),
                metadata: metadata.to_vec(),
            });
        }
        if !self.letters.is_empty() {
            let batch = letter_batch(&self.letters).map_err(|error| {
                Error::fatal(format!("dead letters cannot be written: {error}"))
            })?;
            plans.push(PlannedFile {
                kind: FileKind::DeadLetters,
                key: names.dead_letters(from, to, plans.len()),
                position_hash: letter_hash(&self.letters),
                schema: letter_schema(),
                batch,
                metadata: metadata.to_vec(),
            });
        }
        Ok(plans)
    }

    /// Encodes and stages the files of the interval, and answers them in the order of the plan, with what became of the
    /// interval by then.
    ///
    /// # Errors
    /// Those of the lake, after which nothing staged stays; fatal when encoding panics whichever row is left out.
    pub(crate) async fn stage(
        mut self,
        stagings: &Uploads,
        lake: &SharedLake,
        context: &Context,
        options: &EncodeOptions,
        names: &ChainNames,
        metadata: Vec<(String, String)>,
    ) -> Result<(Self, Vec<CommitFile>)> {
        let metadata: Arc<[_]> = metadata.into();
        loop {
            let (names, entries) = (names.clone(), Arc::clone(&metadata));
            let planning = context.workers.run(move || {
                let plans = contain(|| self.plan(&names, &entries));
                let plans = plans.unwrap_or_else(|| Err(untraced(&self.source, self.interval)));
                (self, plans)
            });
            let (ready, plans) = planning.await?;
            let outcomes = stage_all(stagings, lake, context, options, plans?).await?;
            let mut files = Vec::with_capacity(outcomes.len());
            let mut faulted = Vec::new();
            for (index, outcome) in outcomes.into_iter().enumerate() {
                match outcome {
                    UploadOutcome::Staged(file) => files.push(file),
                    UploadOutcome::Faulted(rows) => faulted.push((index, rows)),
                }
            }
            if faulted.is_empty() {
                return Ok((ready, files));
            }
            // Names and numbers of files follow from the rows that are left, so all are made again.
            stagings.discard(lake).await;
            self = ready;
            self.give_up(&faulted)?;
        }
    }
}

/// What the footer of every file of an interval says.
pub(crate) fn footer(cut: &SealedInterval, schema: u64) -> Vec<(String, String)> {
    footer_of(&cut.source, Interval::new(cut.from, cut.to), schema)
}

/// The footer's entries.
pub(crate) fn footer_of(
    source: &StreamShard,
    interval: Interval,
    schema: u64,
) -> Vec<(String, String)> {
    [
        ("hydrant.stream", source.stream_text.to_string()),
        ("hydrant.shard", source.shard.to_string()),
        ("hydrant.from", interval.from.to_string()),
        ("hydrant.to", interval.to.to_string()),
        ("hydrant.schema", schema.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}
