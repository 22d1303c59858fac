//! From a sealed interval to uploaded files.
//!
//! Owns how rows are brought under the stored schema (a row that does not fit becomes a dead letter) and which files
//! the interval has. Promises that the same interval by the same spec gives files with the same rows in the same order,
//! so that a lost file can be made again, and that a row whose conforming or encoding panics becomes a dead letter
//! while the other files are what they would be without it. Refuses to publish an interval when no single row causes a
//! panic.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::ArrowError;
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::workers::contain;
use hydrant_core::{Error, Interval, Position, Result, Sequence};

use super::buffer::{IntervalFacts, StreamShard, log_fault, own_dead_letter};
use super::column_values::ValueWarnings;
use super::culprits::{CULPRITS_MAX, culprits, others};
use super::upload::{PlannedFile, Uploader};
use crate::decode::{
    DecodedRows, PartitionRows, Provenance, Reject, RescueKind, RescueKinds, row_text,
};
use crate::lake::{ChainNames, CommitFile, FileKind, RescuedCount, UntimedRows};
use crate::schema::TableSchema;
use crate::table::dead_letter::{StoredDeadLetter, dead_letter_batch, dead_letter_hash};
use crate::table::event_time::UntimedReason;
use crate::table::spec::TableRules;

/// A sealed interval whose rows have the stored schema.
#[derive(Debug)]
pub(crate) struct ConformedInterval {
    pub(crate) facts: IntervalFacts,
    /// The time of the dead letters that are made here.
    time: i64,
    /// How many columns come from the records, `_rescued` included; those behind them say where a row came from.
    own_columns: usize,
    partitions: Vec<PartitionRows>,
    /// The index of the record and the kind of each rescued value.
    rescued_values: Vec<(u32, u32)>,
    rescue_kinds: RescueKinds,
    /// The indexes of the records whose rows have no believable event time.
    untimed: Vec<(u32, UntimedReason)>,
    /// How many records became dead letters while they were conformed or encoded.
    pub(crate) refused: u64,
    /// The positions of the records whose computation panicked.
    pub(crate) faults: Vec<Position>,
}

/// The error of a panic that no single record causes. Nothing of the interval is published; the next start reads it
/// again.
pub(crate) fn untraced(stream_shard: &StreamShard, interval: Interval) -> Error {
    Error::fatal(format!(
        "cannot compute the interval ({}, {}] of shard `{}`: it panics whichever record is left out, which is a fault of \
         hydrant; nothing is lost: start a version that fixes it, or end the interval elsewhere with another \
         `--flush-bytes` or `--flush-interval`",
        interval.from, interval.to, stream_shard.shard,
    ))
}

/// Brings rows under the stored schema. Rows that do not fit become dead letters with the time `time`.
pub(crate) fn conform(
    facts: IntervalFacts,
    decoded: DecodedRows,
    schema: &TableSchema,
    time: i64,
) -> Result<ConformedInterval> {
    let untraced = || untraced(&facts.stream_shard, facts.interval);
    let provenance = Provenance {
        stream: &facts.stream_shard.stream_text,
        shard: facts.stream_shard.shard.as_str(),
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
    let rows = decoded.rows() as u64;
    drop(decoded);
    let conformed = conformed.map_err(|error| arrow_refused(&error))?;
    let mut interval = ConformedInterval {
        facts,
        time,
        own_columns: schema.columns.len() + 1,
        partitions: conformed.partitions,
        rescued_values: conformed.rescued_values,
        rescue_kinds: conformed.rescue_kinds,
        untimed: conformed.untimed,
        refused: 0,
        faults: Vec::new(),
    };
    for reject in &conformed.rejects {
        interval.refuse(reject.record, &reject.reject, &reject.row);
    }
    for reject in &faulted {
        interval.fault(reject.record, &reject.row);
    }
    interval.sort_dead_letters();
    debug_assert_eq!(interval.rows() + interval.refused, rows);
    Ok(interval)
}

fn arrow_refused(error: &ArrowError) -> Error {
    Error::fatal(format!("cannot bring rows under the schema: {error}"))
}

impl ConformedInterval {
    /// The number of rows of the interval.
    pub(crate) fn rows(&self) -> u64 {
        let rows = self.partitions.iter().map(|rows| rows.records.len() as u64);
        rows.sum()
    }

    /// The number of rows without a believable event time, by reason.
    pub(crate) fn untimed_rows(&self) -> UntimedRows {
        let mut counts = UntimedRows::new();
        for (_, reason) in &self.untimed {
            *counts.entry(*reason).or_default() += 1;
        }
        counts
    }

    /// The rescued values, by path and reason.
    pub(crate) fn rescued(&self) -> Vec<RescuedCount> {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for (_, kind) in &self.rescued_values {
            *counts.entry(*kind).or_default() += 1;
        }
        let counts = counts.into_iter().map(|(kind, values)| {
            let RescueKind { path, reason } = self.rescue_kinds.get(kind).clone();
            let reason = reason.code().to_owned();
            RescuedCount {
                path,
                reason,
                values,
            }
        });
        let mut counts: Vec<RescuedCount> = counts.collect();
        counts.sort_by(|a, b| (&a.path, &a.reason).cmp(&(&b.path, &b.reason)));
        counts
    }

    /// What the values say of the settings.
    pub(super) fn warnings(
        &self,
        warnings: &ValueWarnings,
        rules: &TableRules,
        schema: &TableSchema,
    ) -> Vec<String> {
        let columns = &schema.partition_columns;
        warnings.look(rules, columns, &self.partitions, &self.rescued())
    }

    fn refuse(&mut self, record: u32, reject: &Reject, row: &[u8]) {
        let position = self.facts.positions.get(record);
        let (stream_shard, time) = (&self.facts.stream_shard, self.time);
        let dead_letter = own_dead_letter(stream_shard, position, None, reject, row, time);
        self.facts.dead_letters.push(dead_letter);
        self.refused += 1;
    }

    fn fault(&mut self, record: u32, row: &[u8]) {
        self.refuse(record, &Reject::internal_fault(), row);
        let (sequence, sub) = self.facts.positions.get(record);
        let position = Position::at(sequence, sub);
        log_fault(&self.facts.stream_shard.shard, position);
        self.faults.push(position);
    }

    /// Sorts the dead letters by position: the order in which they came depends on how the records were cut into
    /// batches.
    fn sort_dead_letters(&mut self) {
        if mutant::is(Mutant::LettersAsTheyCame) {
            return;
        }
        fn place(letter: &StoredDeadLetter) -> (&str, &str, Sequence, u32) {
            let entry = &letter.entry;
            (
                &entry.stream,
                entry.shard.as_str(),
                entry.sequence,
                entry.sub,
            )
        }
        let dead_letters = &mut self.facts.dead_letters;
        dead_letters.sort_by(|a, b| place(a).cmp(&place(b)));
    }

    /// Turns rows whose encoding panicked into dead letters. Each entry has the index of the file in the plan and its
    /// rows. A dead letter that cannot be encoded keeps its position and its reason only.
    ///
    /// # Errors
    /// Fatal when no single record causes the panic.
    fn give_up(&mut self, faulted: &[(usize, Vec<u32>)]) -> Result<()> {
        for (file, rows) in faulted {
            self.give_up_rows(*file, rows)?;
        }
        self.partitions
            .retain(|partition| !partition.records.is_empty());
        self.sort_dead_letters();
        Ok(())
    }

    fn give_up_rows(&mut self, file: usize, rows: &[u32]) -> Result<()> {
        let untraced = untraced(&self.facts.stream_shard, self.facts.interval);
        if rows.is_empty() || self.faults.len() + rows.len() > 2 * CULPRITS_MAX {
            return Err(untraced);
        }
        let Some(partition) = self.partitions.get_mut(file) else {
            for row in rows {
                match self.facts.dead_letters.get_mut(*row as usize) {
                    Some(dead_letter) if !dead_letter.is_bare() => dead_letter.strip(),
                    _ => return Err(untraced),
                }
            }
            return Ok(());
        };
        let own = self.own_columns;
        let fields = partition.rows.schema().fields().iter().take(own).cloned();
        let fields = fields.collect();
        let columns = &partition.rows.columns()[..own];
        let rest = others(partition.records.len(), rows);
        let given_up: Vec<(u32, Vec<u8>)> = rows
            .iter()
            .map(|row| *row as usize)
            .map(|row| (partition.records[row], row_text(&fields, columns, row)))
            .collect();
        let kept = partition.rows.pick(&rest);
        partition.rows = kept.map_err(|error| arrow_refused(&error))?;
        partition.records = rest
            .iter()
            .map(|row| partition.records[*row as usize])
            .collect();
        let is_kept = |record: &u32| given_up.iter().all(|(given_up, _)| given_up != record);
        self.untimed.retain(|(record, _)| is_kept(record));
        self.rescued_values.retain(|(record, _)| is_kept(record));
        for (record, row) in given_up {
            self.fault(record, &row);
        }
        Ok(())
    }

    /// Plans the files of the interval: one for each partition, then one for the dead letters.
    pub(crate) fn plan(
        &self,
        names: &ChainNames,
        metadata: &[(String, String)],
    ) -> Result<Vec<PlannedFile>> {
        let (from, to) = (self.facts.interval.from, self.facts.interval.to);
        let mut plans = Vec::with_capacity(self.partitions.len() + 1);
        for (index, partition) in self.partitions.iter().enumerate() {
            plans.push(PlannedFile {
                index,
                kind: FileKind::Rows,
                key: names.rows(&partition.path, from, to, index),
                position_hash: self.facts.positions.hash(&partition.records),
                rows: partition.rows.clone(),
                metadata: metadata.to_vec(),
            });
        }
        if !self.facts.dead_letters.is_empty() {
            let batch = dead_letter_batch(&self.facts.dead_letters)
                .map_err(|error| Error::fatal(format!("cannot write dead letters: {error}")))?;
            let index = plans.len();
            plans.push(PlannedFile {
                index,
                kind: FileKind::DeadLetters,
                key: names.dead_letters(from, to, index),
                position_hash: dead_letter_hash(&self.facts.dead_letters),
                rows: batch.into(),
                metadata: metadata.to_vec(),
            });
        }
        Ok(plans)
    }

    /// Encodes and uploads the files of the interval, or those that `choose` keeps of them. Returns the files in the order
    /// of the plan, and the interval without the rows whose encoding panicked.
    ///
    /// # Errors
    /// Those of the lake, after which no upload stays; fatal when encoding panics whichever row is left out.
    pub(crate) async fn upload(
        mut self,
        uploader: Uploader<'_>,
        names: &ChainNames,
        metadata: Vec<(String, String)>,
        choose: impl Fn(Vec<PlannedFile>) -> Result<Vec<PlannedFile>> + Send + Sync,
    ) -> Result<(Self, Vec<CommitFile>)> {
        let metadata: Arc<[_]> = metadata.into();
        loop {
            let (names, entries) = (names.clone(), Arc::clone(&metadata));
            let planning = uploader.context.workers.run(move || {
                let plans = contain(|| self.plan(&names, &entries));
                let plans = plans.unwrap_or_else(|| {
                    Err(untraced(&self.facts.stream_shard, self.facts.interval))
                });
                (self, plans)
            });
            let (conformed, plans) = planning.await?;
            let mut files = Vec::new();
            let mut faulted = Vec::new();
            for (index, file) in uploader.upload_all(choose(plans?)?).await? {
                match file {
                    Ok(file) => files.push(file),
                    Err(rows) => faulted.push((index, rows)),
                }
            }
            if faulted.is_empty() {
                return Ok((conformed, files));
            }
            // Names and numbers of files follow from the rows that are left, so all files are made again.
            uploader.uploads.discard_all().await;
            self = conformed;
            self.give_up(&faulted)?;
        }
    }
}

/// The footer of every file of an interval.
pub(crate) fn footer(
    stream_shard: &StreamShard,
    interval: Interval,
    schema: u64,
) -> Vec<(String, String)> {
    [
        ("hydrant.stream", stream_shard.stream_text.to_string()),
        ("hydrant.shard", stream_shard.shard.to_string()),
        ("hydrant.from", interval.from.to_string()),
        ("hydrant.to", interval.to.to_string()),
        ("hydrant.schema", schema.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}
