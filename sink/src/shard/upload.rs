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

/// How many files of one interval are encoded and uploaded at a time.
const FILES_AT_ONCE: usize = 3;

/// How many bytes of a file are handed to the lake at once.
const WRITE_BYTES: usize = 4 << 20;

/// A file of an interval before it is encoded.
#[derive(Debug)]
pub(crate) struct PlannedFile {
    pub(crate) kind: FileKind,
    pub(crate) key: String,
    pub(crate) position_hash: String,
    pub(crate) schema: Arc<Schema>,
    pub(crate) batch: RecordBatch,
    pub(crate) metadata: Vec<(String, String)>,
}

/// The result of encoding and uploading a planned file.
#[derive(Debug)]
pub(crate) enum UploadOutcome {
    /// The file is uploaded.
    Uploaded(CommitFile),
    /// Nothing is uploaded: encoding these rows panicked.
    Faulted(Vec<u32>),
}

/// The uploads of an interval until a record names them. None stays when one of them fails. Those of a publish that is
/// dropped half way become [`Leftovers`], which the shard's next owner cleans up.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    leftovers: Option<Arc<Leftovers>>,
    /// The ids of the uploads and the keys they are for.
    pending: Mutex<Vec<(String, String)>>,
}

impl Uploads {
    pub(crate) fn new(leftovers: &Arc<Leftovers>) -> Self {
        Uploads {
            leftovers: Some(Arc::clone(leftovers)),
            pending: Mutex::default(),
        }
    }

    fn add(&self, upload: &str, key: &str) {
        self.lock().push((upload.to_owned(), key.to_owned()));
    }

    /// Forgets the uploads: a record names them and its files are visible, or its owner threw them away.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    /// Throws all uploads away. One that cannot be thrown away is left to the next owner's clean-up.
    pub(crate) async fn discard(&self, lake: &SharedLake) {
        let pending = std::mem::take(&mut *self.lock());
        for (upload, key) in pending {
            if let Err(error) = lake.discard(&upload).await {
                let error = error.report();
                tracing::warn!(upload, %error, "cannot remove an upload; the next owner of the shard does");
                self.add(&upload, &key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        let pending = std::mem::take(&mut *self.lock());
        if let Some(leftovers) = &self.leftovers {
            for (upload, key) in pending {
                leftovers.add(upload, key);
            }
        }
    }
}

/// Encodes and uploads files, a few at a time. The outcomes are in the order of the plans.
pub(crate) async fn upload_all(
    uploads: &Uploads,
    lake: &SharedLake,
    context: &Context,
    options: &EncodeOptions,
    plans: Vec<PlannedFile>,
) -> Result<Vec<UploadOutcome>> {
    let uploading = plans.into_iter().enumerate().map(|(index, plan)| {
        let uploaded = upload_tracked(uploads, lake, context, options, plan);
        async move { uploaded.await.map(|outcome| (index, outcome)) }
    });
    // Collected, because the compiler cannot follow a lazy iterator of borrowing futures across threads.
    let uploading: Vec<_> = uploading.collect();
    let outcomes = stream::iter(uploading)
        .buffer_unordered(FILES_AT_ONCE)
        .try_collect::<Vec<(usize, UploadOutcome)>>()
        .await;
    match outcomes {
        Ok(mut outcomes) => {
            outcomes.sort_by_key(|(index, _)| *index);
            debug_assert!(
                outcomes
                    .iter()
                    .map(|(index, _)| *index)
                    .eq(0..outcomes.len())
            );
            Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
        }
        Err(error) => {
            uploads.discard(lake).await;
            Err(error)
        }
    }
}

/// Encodes and uploads one file.
pub(crate) async fn upload_one(
    lake: &SharedLake,
    context: &Context,
    options: &EncodeOptions,
    plan: PlannedFile,
) -> Result<UploadOutcome> {
    upload_tracked(&Uploads::default(), lake, context, options, plan).await
}

async fn upload_tracked(
    uploads: &Uploads,
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
            return Err(Error::fatal(format!(
                "cannot encode `{}`: {error}",
                plan.key
            )));
        }
        Err(rows) => return Ok(UploadOutcome::Faulted(rows)),
    };
    let PlannedFile {
        kind,
        key,
        position_hash,
        ..
    } = plan;
    let sealed = retry_forever("upload a file", &context.random, || {
        upload_body(uploads, lake, &key, &body)
    });
    Ok(UploadOutcome::Uploaded(CommitFile {
        kind,
        sealed: sealed.await?,
        rows,
        position_hash,
    }))
}

/// The encoded file and its number of rows, or the rows whose encoding panics; no rows when no single row causes the
/// panic.
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

async fn upload_body(
    uploads: &Uploads,
    lake: &SharedLake,
    key: &str,
    body: &Bytes,
) -> Result<Sealed> {
    let mut upload = lake.upload(key).await?;
    let id = upload.id().to_owned();
    uploads.add(&id, key);
    let writing = async {
        let mut at = 0;
        while at < body.len() {
            let end = (at + WRITE_BYTES).min(body.len());
            upload.write(body.slice(at..end)).await?;
            at = end;
        }
        upload.seal().await
    };
    let sealed = writing.await;
    if sealed.is_err() {
        // The next attempt starts another upload.
        lake.discard(&id).await?;
    }
    sealed
}
