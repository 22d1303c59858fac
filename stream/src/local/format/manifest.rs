//! The manifest of a stream: identity, settings and shards.
//!
//! It is one JSON file, replaced as a whole under `manifest.lock`; its replacement is the moment at which a reshard
//! happens. It says where each shard that was closed ends.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hydrant_core::disk::{self, Lock, LockKind};
use hydrant_core::error::OrCannot;
use hydrant_core::places::STREAM_MANIFEST;
use hydrant_core::{Context, Error, Result, Shard, ShardId, ShardMap, StreamId, clock};
use serde::{Deserialize, Serialize};

use super::frame::Codec;
use super::json_file;
use super::leftovers::remove_leftovers;
use super::shard_end::ShardEnd;

/// The version of the directory's format.
pub(crate) const FORMAT: u32 = 3;
/// A process that holds the manifest's lock for longer is taken to stand still.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was decided when the stream was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamSettings {
    /// How bodies are compressed.
    pub(crate) codec: Codec,
    /// A segment that would grow beyond this is followed by a new one.
    pub(crate) segment_bytes: u64,
    /// How long an append waits for others to share its sync, microseconds.
    pub(crate) linger_micros: u64,
    /// Data older than this goes, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention_micros: Option<u64>,
    /// The oldest data of a shard beyond this goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention_bytes: Option<u64>,
}

impl StreamSettings {
    /// How long an append waits for others to share its sync.
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_micros(self.linger_micros)
    }
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The version of the directory's format.
    pub(crate) format: u32,
    /// Rises with each replacement.
    pub(crate) version: u64,
    /// Name and incarnation.
    pub(crate) stream: StreamId,
    /// The secret for routing by keys that may be personal, 64 hex digits.
    pub(crate) routing_secret: String,
    /// What was decided at creation.
    pub(crate) settings: StreamSettings,
    /// The number of the next shard to be made.
    pub(crate) next_shard: u64,
    /// The shards.
    pub(crate) shards: ShardMap,
    /// Where closed shards end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ends: BTreeMap<ShardId, ShardEnd>,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Manifest {
    /// Where the manifest of the stream in `dir` is.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(STREAM_MANIFEST)
    }

    /// Reads it; `None` when there is no stream.
    pub(crate) async fn read(ctx: &Context, dir: &Path) -> Result<Option<Self>> {
        let path = Manifest::path(dir);
        let bytes = disk::read_file(&*ctx.disk, &path).await;
        let bytes = bytes.map_err(|e| match e.kind() {
            ErrorKind::NotADirectory => Error::directory("read", dir, e),
            _ => Error::io("read", &path, e),
        });
        let Some(bytes) = bytes? else {
            return Ok(None);
        };
        let FormatOnly { format } = json_file::parse(&bytes, &path)?;
        if format != FORMAT {
            return Err(Error::refused(format!(
                "`{}` has format {format}, this build reads {FORMAT}: use the version of hydrant that made it",
                path.display()
            )));
        }
        json_file::parse(&bytes, &path).map(Some)
    }

    /// Replaces it; the caller holds [`lock`].
    pub(crate) async fn replace(&mut self, ctx: &Context, dir: &Path) -> Result<()> {
        self.version += 1;
        remove_leftovers(&*ctx.disk, dir, STREAM_MANIFEST).await?;
        json_file::replace(ctx, &Manifest::path(dir), self).await
    }

    /// The incarnation as a number.
    pub(crate) fn incarnation(&self) -> Result<u128> {
        of_hex(&self.stream.incarnation)
            .ok_or_else(|| Error::fatal("the manifest's incarnation is not 32 hex digits"))
    }

    /// The routing secret as bytes.
    pub(crate) fn secret(&self) -> Result<[u8; 32]> {
        let halves = self.routing_secret.split_at_checked(32);
        let halves = halves.and_then(|(high, low)| Some([of_hex(high)?, of_hex(low)?]));
        let halves = halves
            .ok_or_else(|| Error::fatal("the manifest's routing secret is not 64 hex digits"))?;
        let mut secret = [0; 32];
        for (part, half) in secret.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
            *part = half.to_be_bytes();
        }
        Ok(secret)
    }

    /// The name of shard `number`.
    pub(crate) fn name_of(number: u64) -> ShardId {
        ShardId::new(format!("{number:06}"))
    }

    /// The shard of this name, or an error that names it.
    pub(crate) fn shard(&self, id: &ShardId) -> Result<&Shard> {
        self.shards.get(id).ok_or_else(|| Error::NotFound {
            message: format!("stream `{}` has no shard `{id}`", self.stream.name),
        })
    }
}

/// The number of 32 hex digits.
fn of_hex(text: &str) -> Option<u128> {
    let number = u128::from_str_radix(text, 16).ok();
    number.filter(|_| text.len() == 32 && !text.starts_with('+'))
}

/// Takes the lock that guards the manifest's replacement.
pub(crate) async fn lock(ctx: &Context, dir: &Path) -> Result<Box<dyn Lock>> {
    let path = lock_path(dir);
    let lock = ctx.disk.lock(&path, LockKind::Exclusive);
    let mut lock = std::pin::pin!(lock);
    let taken = tokio::select! {
        biased;
        taken = &mut lock => taken,
        () = clock::sleep(PATIENCE) => {
            tracing::warn!(
                "the process that holds `{0}` has stopped making progress, and no shard can be created or closed until \
                 it releases it: resume or kill that process (`fuser {0}` names it)",
                path.display()
            );
            lock.await
        }
    };
    taken.or_cannot("lock", &path)
}

/// Takes that lock if it is free.
pub(crate) async fn try_lock(ctx: &Context, dir: &Path) -> Result<Option<Box<dyn Lock>>> {
    let path = lock_path(dir);
    let lock = ctx.disk.try_lock(&path, LockKind::Exclusive).await;
    lock.or_cannot("lock", &path)
}

fn lock_path(dir: &Path) -> PathBuf {
    dir.join("manifest.lock")
}
