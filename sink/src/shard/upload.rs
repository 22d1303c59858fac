//! From planned files to files that are uploaded and not visible.
//!
//! Owns the encoding of each file on a worker, its upload, and the uploads of an interval until a record names them.
//! Promises that no upload stays when one of them fails. Refuses to keep more than a few encoded files in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::Schema;
use arrow_select::take::take_record_batch;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hydrant_core::lake::{Sealed, SharedLake};
use hydrant_core::retry::retry_forever;
use hydrant_core::workers::contain;
use hydrant_core::{Context, Error, Result};

use super::culprits::culprits;
use crate::encode::{EncodeError, EncodeOptions, encode};
use crate::lake::{CommitFile, FileKind, Leftovers};

/// Files of one interval that are encoded and staged at a time.
const FILES_AT_ONCE: usize = 3;

/// How a Parquet file is written at a time: bytes handed to the lake at once.
const WRITE_BYTES: usize = 4 << 20;

/// A file before it is encoded.
#[derive(Debug)]
pub(crate) struct PlannedFile {
    pub(crate) kind: FileKind,
    pub(crate) key: String,
    pub(crate) position_hash: String,
    pub(crate) schema: Arc<Schema>,
    pub(crate) batch: RecordBatch,
    pub(crate) metadata: Vec<(String, String)>,
}

/// What came of a plan.
#[derive(Debug)]
pub(crate) enum UploadOutcome {
    /// A staged file.
    Staged(CommitFile),
    /// None: encoding these rows of it panicked.
    Faulted(Vec<u32>),
}

/// The stagings of an interval on their way to a record: none stays when one of them fails, and those of a publish that
/// is dropped half way are left to the clean-up of the shard's next owner.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    leftovers: Option<Arc<Leftovers>>,
    /// Uploads and their keys.
    staged: Mutex<Vec<(String, String)>>,
}

impl Uploads {
    pub(crate) fn new(leftovers: &Arc<Leftovers>) -> Self {
        Uploads {
            leftovers: Some(Arc::clone(leftovers)),
            staged: Mutex::default(),
        }
    }

    fn add(&self, upload: &str, key: &str) {
        let staged = (upload.to_owned(), key.to_owned());
        self.lock().push(staged);
    }

    /// A record names them and its files are visible, or its owner threw them away.
    pub(crate) fn done(&self) {
        self.lock().clear();
    }

    /// Throws all of them away. One that cannot be thrown away stays for the next owner's clean-up.
    pub(crate) async fn discard(&self, lake: &SharedLake) {
        let staged = std::mem::take(&mut *self.lock());
        for (upload, key) in staged {
            if let Err(error) = lake.discard(&upload).await {
                tracing::warn!(upload, error = %error.report(), "a staging stays");
                self.add(&upload, &key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        let staged = std::mem::take(&mut *self.lock());
        if let Some(leftovers) = &self.leftovers {
            for (upload, key) in staged {
                leftovers.add(upload, key);
            }
        }
    }
}

/// Encodes and stages files, a few at a time; answers what came of them in the order of the plans.
pub(crate) async fn stage_all(
    stagings: &Uploads,
    lake: &SharedLake,
    context: &Context,
    options: &EncodeOptions,
    plans: Vec<PlannedFile>,
) -> Result<Vec<UploadOutcome>> {
    let staging = plans.into_iter().enumerate().map(|(index, plan)| {
        let staged = stage_in(stagings, lake, context, options, plan);
        async move { staged.await.map(|outcome| (index, outcome)) }
    });
    // Collected, because the compiler cannot follow a lazy iterator of borrowing futures across threads.
    let staging: Vec<_> = staging.collect();
    let outcomes = stream::iter(staging)
        .buffer_unordered(FILES_AT_ONCE)
        .try_collect::<Vec<(usize, UploadOutcome)>>()
        .await;
    match outcomes {
        Ok(mut outcomes) => {
            outcomes.sort_by_key(|(index, _)| *index);
            Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
        }
        Err(error) => {
            stagings.discard(lake).await;
            Err(error)
        }
    }
}

/// Encodes and stages one file.
pub(crate) async fn stage_one(
    lake: &SharedLake,
    context: &Context,
    options: &EncodeOptions,
    plan: PlannedFile,
) -> Result<UploadOutcome> {
    stage_in(&Uploads::default(), lake, context, options, plan).await
}

async fn stage_in(
    stagings: &Uploads,
    lake: &SharedLake,
    context: &Context,
    options: &EncodeOptions,
    plan: PlannedFile,
) -> Result<UploadOutcome> {
    let options = options.clone();
    let (plan, encoded) = context
        .workers
        .run(move || {
            let encoded = encode_plan(&plan, &options);
            (plan, encoded)
        })
        .await?;
    let (body, rows) = match encoded {
        Ok(Ok(encoded)) => encoded,
        Ok(Err(error)) => {
            return Err(Error::fatal(format!("a file cannot be encoded: {error}")));
        }
        Err(rows) => return Ok(UploadOutcome::Faulted(rows)),
    };
    let PlannedFile {
        kind,
        key,
        position_hash,
        ..
    } = plan;
    let sealed = retry_forever("stage a file", &context.random, || {
        stage(stagings, lake, &key, &body)
    });
    Ok(UploadOutcome::Staged(CommitFile {
        kind,
        sealed: sealed.await?,
        rows,
        position_hash,
    }))
}

/// The file and its rows, or the rows whose encoding panics: none when it is no single one's.
fn encode_plan(
    plan: &PlannedFile,
    options: &EncodeOptions,
) -> Result<Result<(Bytes, u64), EncodeError>, Vec<u32>> {
    let encoding = |batch: &RecordBatch| {
        contain(|| {
            let (batches, mut body) = (std::slice::from_ref(batch), Vec::new());
            let encoded = encode(&plan.schema, batches, options, &plan.metadata, &mut body);
            encoded.map(|encoded| (Bytes::from(body), encoded.rows))
        })
    };
    encoding(&plan.batch).ok_or_else(|| {
        let holds = |rows: &[u32]| {
            let part = take_record_batch(&plan.batch, &UInt32Array::from(rows.to_vec()));
            part.is_ok_and(|part| encoding(&part).is_some())
        };
        culprits(plan.batch.num_rows(), holds).unwrap_or_default()
    })
}

async fn stage(stagings: &Uploads, lake: &SharedLake, key: &str, body: &Bytes) -> Result<Sealed> {
    let mut staging = lake.stage(key).await?;
    let upload = staging.upload().to_owned();
    stagings.add(&upload, key);
    let writing = async {
        let mut at = 0;
        while at < body.len() {
            let end = (at + WRITE_BYTES).min(body.len());
            staging.write(body.slice(at..end)).await?;
            at = end;
        }
        staging.seal().await
    };
    let sealed = writing.await;
    if sealed.is_err() {
        // The next attempt has another one.
        lake.discard(&upload).await?;
    }
    sealed
}
