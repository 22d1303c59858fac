//! From a cut interval to staged files.
//!
//! Owns the order: what the rows need of the schema is settled first, then rows are brought under it (what does not fit
//! becomes a dead letter), then each partition is encoded on a worker and staged. Promises that the same interval by the
//! same spec gives files with the same rows in the same order, so that a lost one can be made again. Refuses to keep
//! more than a few encoded files in memory.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hydrant_core::lake::{Sealed, SharedLake};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Context, Error, Result};

use crate::buffer::{Cut, Source, own_letter};
use crate::dead_letter::{Letter, letter_batch, letter_hash, letter_schema};
use crate::decode::{PartitionRows, Provenance};
use crate::encode::{EncodeOptions, encode};
use crate::lake::{ChainNames, CommitFile, FileKind, persist};
use crate::position_hash::Positions;
use crate::schema::TableSchema;

/// Files of one interval that are encoded and staged at a time.
const FILES_AT_ONCE: usize = 3;

/// How a Parquet file is written at a time: bytes handed to the lake at once.
const WRITE_BYTES: usize = 4 << 20;

/// What becomes of a cut interval under a schema.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) schema: Arc<Schema>,
    pub(crate) partitions: Vec<PartitionRows>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) positions: Positions,
    pub(crate) rows: u64,
    /// Dead letters that conforming added.
    pub(crate) refused: u64,
}

/// A file before it is encoded.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kind: FileKind,
    pub(crate) key: String,
    pub(crate) position_hash: String,
    pub(crate) schema: Arc<Schema>,
    pub(crate) batch: RecordBatch,
    pub(crate) metadata: Vec<(String, String)>,
}

/// Brings rows under the stored schema. `time` is that of the dead letters this makes.
pub(crate) fn conform(
    source: &Source,
    decoded: crate::decode::Decoded,
    positions: Positions,
    mut letters: Vec<Letter>,
    schema: &TableSchema,
    time: i64,
) -> Result<Ready> {
    let provenance = Provenance {
        stream: &source.stream_text,
        shard: source.shard.as_str(),
    };
    let conformed = decoded.conform(schema, provenance).map_err(|error| {
        Error::fatal(format!("rows cannot be brought under the schema: {error}"))
    })?;
    let refused = conformed.rejects.len() as u64;
    for reject in &conformed.rejects {
        let position = positions.get(reject.record);
        letters.push(own_letter(
            source,
            position,
            None,
            &reject.reject,
            &reject.row,
            time,
        ));
    }
    // By their places: in which order they came depends on how the records were cut into batches.
    if !mutant::is(Mutant::LettersAsTheyCame) {
        letters.sort_by(|a, b| {
            let place = |letter: &Letter| (letter.letter.sequence, letter.letter.sub);
            let (a_of, b_of) = (&a.letter, &b.letter);
            (&a_of.stream, &a_of.shard, place(a)).cmp(&(&b_of.stream, &b_of.shard, place(b)))
        });
    }
    let rows = conformed
        .partitions
        .iter()
        .map(|p| p.records.len() as u64)
        .sum();
    Ok(Ready {
        schema: conformed.schema,
        partitions: conformed.partitions,
        letters,
        positions,
        rows,
        refused,
    })
}

impl Ready {
    /// The files of the interval `(from, to]`: one a partition, then the dead letters.
    pub(crate) fn plan(
        self,
        names: &ChainNames,
        interval: hydrant_core::Interval,
        metadata: &[(String, String)],
    ) -> Result<Vec<Plan>> {
        let (from, to) = (interval.from, interval.to);
        let mut plans = Vec::with_capacity(self.partitions.len() + 1);
        for (index, partition) in self.partitions.into_iter().enumerate() {
            plans.push(Plan {
                kind: FileKind::Rows,
                key: names.rows(&partition.path, from, to, index),
                position_hash: self.positions.hash(&partition.records),
                schema: Arc::clone(&self.schema),
                batch: partition.batch,
                metadata: metadata.to_vec(),
            });
        }
        if !self.letters.is_empty() {
            let batch = letter_batch(&self.letters).map_err(|error| {
                Error::fatal(format!("dead letters cannot be written: {error}"))
            })?;
            plans.push(Plan {
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
}

/// Encodes and stages files, a few at a time; answers them in the order of the plans.
pub(crate) async fn stage_all(
    lake: &SharedLake,
    context: &Context,
    options: &EncodeOptions,
    plans: Vec<Plan>,
) -> Result<Vec<CommitFile>> {
    let staging = plans.into_iter().enumerate().map(|(index, plan)| {
        let staged = stage_one(lake, context, options, plan);
        async move { staged.await.map(|file| (index, file)) }
    });
    // Collected, because the compiler cannot follow a lazy iterator of borrowing futures across threads.
    let staging: Vec<_> = staging.collect();
    let mut files: Vec<(usize, CommitFile)> = stream::iter(staging)
        .buffer_unordered(FILES_AT_ONCE)
        .try_collect()
        .await?;
    files.sort_by_key(|(index, _)| *index);
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// Encodes and stages one file.
pub(crate) async fn stage_one(
    lake: &SharedLake,
    context: &Context,
    options: &EncodeOptions,
    plan: Plan,
) -> Result<CommitFile> {
    let Plan {
        kind,
        key,
        position_hash,
        schema,
        batch,
        metadata,
    } = plan;
    let options = options.clone();
    let (body, rows) = context
        .workers
        .run(move || {
            let mut body = Vec::new();
            encode(
                &schema,
                std::slice::from_ref(&batch),
                &options,
                &metadata,
                &mut body,
            )
            .map(|encoded| (Bytes::from(body), encoded.rows))
        })
        .await?
        .map_err(|error| Error::fatal(format!("a file cannot be encoded: {error}")))?;
    let sealed = persist("stage a file", &context.random, || stage(lake, &key, &body));
    Ok(CommitFile {
        kind,
        sealed: sealed.await?,
        rows,
        position_hash,
    })
}

async fn stage(lake: &SharedLake, key: &str, body: &Bytes) -> Result<Sealed> {
    let mut staging = lake.stage(key).await?;
    let mut at = 0;
    while at < body.len() {
        let end = (at + WRITE_BYTES).min(body.len());
        staging.write(body.slice(at..end)).await?;
        at = end;
    }
    staging.seal().await
}

/// What the footer of every file of an interval says.
pub(crate) fn footer(cut: &Cut, schema: u64) -> Vec<(String, String)> {
    footer_of(
        &cut.source,
        hydrant_core::Interval::new(cut.from, cut.to),
        schema,
    )
}

/// The footer's entries.
pub(crate) fn footer_of(
    source: &Source,
    interval: hydrant_core::Interval,
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
