//! From planned files to files that are uploaded and not visible.
//!
//! Owns the encoding of each file on a worker, its upload part by part while the rest of it is encoded, and the uploads
//! of an interval until a record names them. Promises that no upload stays when one of them fails or when the publish
//! is dropped before a record could name it, and that a worker never waits for a lake. Refuses to hold a whole file where
//! a row group is enough, or more files at once than the interval has room for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hydrant_core::lake::{Sealed, SharedLake, Upload};
use hydrant_core::retry::retry_forever;
use hydrant_core::workers::contain;
use hydrant_core::{Context, Error, Permit, Result};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

use super::culprits::culprits;
use crate::encode::{EncodeError, EncodeOptions, FileEncoder, FileRows, encode};
use crate::lake::requests::{Requests, UPLOADS_MAX, one_of};
use crate::lake::{CommitFile, FileKind, Leftovers};
use crate::table::dead_letter::DEAD_LETTER_TEXTS;

/// How many bytes of a file are handed to the lake at once: more than the least size of a part in object stores.
const PART_BYTES: usize = 8 << 20;

/// How many pieces of a file are encoded ahead of its upload: one, so that neither of the two waits for the other.
const PIECES_AHEAD: usize = 1;

/// How often a row group is in memory at most: while it is written, as a piece that is uploaded, and as the pieces
/// before and behind that.
const ROW_GROUP_COPIES: u64 = 4;

/// The share of the budget that the row groups of a file may take.
const BUDGET_SHARE: u64 = 4;

/// The unit in which files share the room of an interval.
const ROOM_UNIT_BYTES: u64 = 1024;

/// The memory that the files of an interval take while they are encoded and uploaded, beside its rows.
#[derive(Debug)]
pub(crate) struct EncodingRoom {
    units: u32,
    free: Semaphore,
    /// The bytes of a row group at which it ends.
    row_group_bytes: usize,
    _permit: Permit,
}

impl EncodingRoom {
    /// How much room files of so many bytes in all get, of a budget of `total` bytes: more would not be used at a time.
    pub(crate) fn bytes_for(options: &EncodeOptions, total: u64, bytes: u64) -> u64 {
        let group = Self::row_group_bytes(options, total) as u64;
        let least = UPLOADS_MAX as u64 * ROOM_UNIT_BYTES;
        bytes
            .saturating_mul(2)
            .max(least)
            .min(group * ROW_GROUP_COPIES)
    }

    /// A row group ends early when the budget is small.
    fn row_group_bytes(options: &EncodeOptions, total: u64) -> usize {
        let share = total / (BUDGET_SHARE * ROW_GROUP_COPIES);
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        options.row_group_bytes.min(share.max(1 << 16))
    }

    /// Room of `bytes`, which `permit` holds.
    pub(crate) fn new(options: &EncodeOptions, total: u64, bytes: u64, permit: Permit) -> Self {
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT_BYTES)).unwrap_or(u32::MAX);
        let units = units.max(1);
        EncodingRoom {
            units,
            free: Semaphore::new(units as usize),
            row_group_bytes: Self::row_group_bytes(options, total),
            _permit: permit,
        }
    }

    /// Waits for the room of a file; one that needs more than all of it passes alone.
    async fn of_file(&self, plan: &PlannedFile) -> Result<SemaphorePermit<'_>> {
        let bytes = plan.rows.bytes() * 2;
        let units = u32::try_from(bytes / ROOM_UNIT_BYTES).unwrap_or(u32::MAX);
        let room = self.free.acquire_many(units.clamp(1, self.units)).await;
        room.map_err(|_| Error::fatal("no more files are encoded"))
    }
}

/// A file of an interval before it is encoded.
#[derive(Debug)]
pub(crate) struct PlannedFile {
    /// The number of the file in its interval.
    pub(crate) index: usize,
    pub(crate) kind: FileKind,
    pub(crate) key: String,
    pub(crate) position_hash: String,
    pub(crate) rows: FileRows,
    pub(crate) metadata: Vec<(String, String)>,
}

/// What came of a file, or the rows whose encoding panics; no rows when no single row causes the panic.
pub(crate) type Unfaulted<T> = Result<T, Vec<u32>>;

/// The uploads of an interval until a record names them. None stays when one of them fails. Those of a publish that is
/// dropped half way are thrown away at once, or become [`Leftovers`], which the shard's next owner cleans up, when a
/// record that names them may yet land.
#[derive(Debug)]
pub(crate) struct Uploads {
    lake: SharedLake,
    leftovers: Arc<Leftovers>,
    pending: Arc<Mutex<PendingUploads>>,
}

#[derive(Debug, Default)]
struct PendingUploads {
    /// The ids of the uploads and the keys they are for.
    uploads: Vec<(String, String)>,
    /// A record that names them was put, or may have been.
    named: bool,
    /// What began them is gone: an upload that begins now has none to write it.
    dropped: bool,
}

impl Uploads {
    pub(crate) fn new(lake: &SharedLake, leftovers: &Arc<Leftovers>) -> Self {
        Uploads {
            lake: SharedLake::clone(lake),
            leftovers: Arc::clone(leftovers),
            pending: Arc::default(),
        }
    }

    /// Begins an upload, in a task of its own: one that begins to exist when its publish is dropped must not stay.
    async fn begin(&self, key: &str) -> Result<Box<dyn Upload>> {
        let (lake, key) = (SharedLake::clone(&self.lake), key.to_owned());
        let pending = Arc::clone(&self.pending);
        let leftovers = Arc::downgrade(&self.leftovers);
        let (began, begun) = oneshot::channel();
        self.leftovers.spawn_on(&Handle::current(), async move {
            let upload = lake.upload(&key).await;
            if let Ok(upload) = &upload {
                let named = (upload.id().to_owned(), key);
                let mut pending = lock(&pending);
                if !pending.dropped {
                    pending.uploads.push(named);
                } else if let Some(leftovers) = leftovers.upgrade() {
                    leftovers.abandon(&lake, vec![named]);
                }
            }
            // Without a receiver the publish is gone, and the upload goes the way of its others.
            drop(began.send(upload));
        });
        begun
            .await
            .map_err(|_| Error::fatal("the lake begins no more uploads"))?
    }

    /// From now on a record may name the uploads, whether it is answered for or not.
    pub(crate) fn name(&self) {
        lock(&self.pending).named = true;
    }

    /// Forgets the uploads of files that are visible, or that others look after. What is left could not be thrown away,
    /// and no record names it.
    pub(crate) fn forget(&self, files: &[CommitFile]) {
        let mut pending = lock(&self.pending);
        pending.named = false;
        let is_left = |id: &str| files.iter().all(|file| file.sealed.upload != *id);
        pending.uploads.retain(|(id, _)| is_left(id));
    }

    /// Throws one upload away.
    async fn discard(&self, upload: &str) -> Result<()> {
        self.lake.discard(upload).await?;
        lock(&self.pending).uploads.retain(|(id, _)| id != upload);
        Ok(())
    }

    /// Throws all uploads away. One that cannot be thrown away is left to the next owner's clean-up.
    pub(crate) async fn discard_all(&self) {
        let pending = lock(&self.pending).uploads.clone();
        for (upload, _) in pending {
            if let Err(error) = self.discard(&upload).await {
                let error = error.report();
                tracing::warn!(upload, %error, "cannot remove an upload; the next owner of the shard does");
            }
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Uploads {
    fn drop(&mut self) {
        let mut pending = lock(&self.pending);
        pending.dropped = true;
        let (uploads, named) = (std::mem::take(&mut pending.uploads), pending.named);
        drop(pending);
        if named {
            for (upload, key) in uploads {
                self.leftovers.add(upload, key);
            }
        } else if !uploads.is_empty() {
            self.leftovers.abandon(&self.lake, uploads);
        }
    }
}

/// What files are encoded and uploaded with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uploader<'a> {
    pub(crate) context: &'a Context,
    pub(crate) options: &'a EncodeOptions,
    pub(crate) requests: &'a Requests,
    pub(crate) uploads: &'a Uploads,
    pub(crate) room: &'a EncodingRoom,
}

impl Uploader<'_> {
    /// Encodes and uploads files, many at a time. What comes of each follows its number, in order.
    pub(crate) async fn upload_all(
        self,
        plans: Vec<PlannedFile>,
    ) -> Result<Vec<(usize, Unfaulted<CommitFile>)>> {
        // Collected, because the compiler cannot follow a lazy iterator of borrowing futures across threads.
        let uploading: Vec<_> = plans.into_iter().map(|plan| self.upload(plan)).collect();
        let outcomes = stream::iter(uploading).buffer_unordered(UPLOADS_MAX);
        match outcomes.try_collect::<Vec<_>>().await {
            Ok(mut outcomes) => {
                outcomes.sort_by_key(|(index, _)| *index);
                Ok(outcomes)
            }
            Err(error) => {
                self.uploads.discard_all().await;
                Err(error)
            }
        }
    }

    /// Encodes and uploads one file. The lake tries the parts of an upload again by itself; when it refuses an upload, or
    /// the upload as such is gone, the file is uploaded once more. What is encoded is encoded again only when it is
    /// gone: the first row groups of a file that has several.
    async fn upload(self, plan: PlannedFile) -> Result<(usize, Unfaulted<CommitFile>)> {
        let _room = self.room.of_file(&plan).await?;
        let plan = Arc::new(plan);
        let first = match self.encode(&plan, Encoding::Planned).await? {
            Ok(first) => Mutex::new(Some(first)),
            Err(rows) => return Ok((plan.index, Err(rows))),
        };
        let what = "upload a file";
        let uploaded = retry_forever(what, &self.context.random, || {
            self.upload_once(&plan, &first)
        });
        let file = uploaded.await?.map(|(sealed, rows)| CommitFile {
            kind: plan.kind,
            sealed,
            rows,
            position_hash: plan.position_hash.clone(),
        });
        Ok((plan.index, file))
    }

    /// The uploaded file and its number of rows. Takes `first` unless it is the whole file.
    async fn upload_once(
        self,
        plan: &Arc<PlannedFile>,
        first: &Mutex<Option<(Encoding, Bytes)>>,
    ) -> Result<Unfaulted<(Sealed, u64)>> {
        let _one = one_of(&self.requests.uploads).await?;
        let upload = self.uploads.begin(&plan.key).await?;
        let id = upload.id().to_owned();
        let ready = lock(first).take();
        let ready = match ready {
            Some(ready) => Ok(Ok(ready)),
            None => self.encode(plan, Encoding::Planned).await,
        };
        let sealed = match ready {
            Ok(Ok((encoding, piece))) => {
                if let Encoding::Done(rows) = encoding {
                    *lock(first) = Some((Encoding::Done(rows), piece.clone()));
                }
                self.send(plan, encoding, piece, upload).await
            }
            Ok(Err(rows)) => Ok(Err(rows)),
            Err(error) => Err(error),
        };
        if !matches!(sealed, Ok(Ok(_))) {
            self.uploads.discard(&id).await?;
        }
        sealed
    }

    /// Uploads a file of which `first` is encoded while the rest of it is encoded.
    async fn send(
        self,
        plan: &Arc<PlannedFile>,
        mut encoding: Encoding,
        first: Bytes,
        mut upload: Box<dyn Upload>,
    ) -> Result<Unfaulted<(Sealed, u64)>> {
        let (pieces, mut written) = mpsc::channel(PIECES_AHEAD);
        let encode = async move {
            let mut piece = first;
            loop {
                // The other half has failed, which ends this one too.
                if pieces.send(piece).await.is_err() {
                    return Ok(Ok(0));
                }
                if let Encoding::Done(rows) = encoding {
                    return Ok(Ok(rows));
                }
                (encoding, piece) = match self.encode(plan, encoding).await? {
                    Ok(encoded) => encoded,
                    Err(rows) => return Ok(Err(rows)),
                };
            }
        };
        let write = async {
            while let Some(mut piece) = written.recv().await {
                while !piece.is_empty() {
                    let part = piece.split_to(PART_BYTES.min(piece.len()));
                    upload.write(part).await?;
                }
            }
            Ok::<(), Error>(())
        };
        let (encoded, ()) = futures::try_join!(encode, write)?;
        match encoded {
            Ok(rows) => Ok(Ok((upload.seal().await?, rows))),
            Err(rows) => Ok(Err(rows)),
        }
    }

    /// Encodes the next piece of a file on a worker.
    async fn encode(
        self,
        plan: &Arc<PlannedFile>,
        encoding: Encoding,
    ) -> Result<Unfaulted<(Encoding, Bytes)>> {
        let (file, mut options) = (Arc::clone(plan), self.options.clone());
        options.row_group_bytes = self.room.row_group_bytes;
        if plan.kind == FileKind::DeadLetters {
            options.without_statistics = DEAD_LETTER_TEXTS;
        }
        let encoded = self.context.workers.run(move || {
            contain(|| encoding.advance(&file, &options)).ok_or_else(|| faulted(&file, &options))
        });
        match encoded.await? {
            Ok(Ok(encoded)) => Ok(Ok(encoded)),
            Ok(Err(error)) => {
                let key = &plan.key;
                Err(Error::fatal(format!("cannot encode `{key}`: {error}")))
            }
            Err(rows) => Ok(Err(rows)),
        }
    }
}

/// A file that is being encoded.
enum Encoding {
    /// Nothing of it is encoded.
    Planned,
    /// A part of it is encoded.
    Begun(Box<FileEncoder<Vec<u8>>>),
    /// All of it is encoded; it has this many rows.
    Done(u64),
}

impl Encoding {
    /// Encodes until a row group is complete or the file is, and returns the bytes.
    fn advance(
        self,
        plan: &PlannedFile,
        options: &EncodeOptions,
    ) -> Result<(Self, Bytes), EncodeError> {
        let mut encoder = match self {
            Encoding::Done(_) => return Ok((self, Bytes::new())),
            Encoding::Begun(encoder) => encoder,
            Encoding::Planned => {
                let (rows, metadata) = (&plan.rows, &plan.metadata);
                Box::new(FileEncoder::try_new(rows, options, metadata, Vec::new())?)
            }
        };
        while encoder.write_some()? {
            // The encoder keeps a row group until it is complete.
            if !encoder.output().is_empty() {
                let piece = std::mem::take(encoder.output());
                return Ok((Encoding::Begun(encoder), piece.into()));
            }
        }
        let rows = encoder.finish()?;
        let piece = std::mem::take(encoder.output());
        Ok((Encoding::Done(rows), piece.into()))
    }
}

/// The rows whose encoding panics; none when no single row causes it.
fn faulted(plan: &PlannedFile, options: &EncodeOptions) -> Vec<u32> {
    let holds = |rows: &[u32]| {
        plan.rows.pick(rows).is_ok_and(|part| {
            contain(|| encode(&part, options, &plan.metadata, std::io::sink())).is_some()
        })
    };
    culprits(plan.rows.num_rows(), holds).unwrap_or_default()
}
