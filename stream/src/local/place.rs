//! A stream's directory and what is the same for all its parts in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hydrant_core::{Context, Error, Result, ShardId, StreamId};

use super::manifest::{Manifest, Settings};
use super::runs::Runs;

/// A stream's directory, identity and settings.
#[derive(Debug)]
pub(super) struct Place {
    /// What is injected.
    pub(super) ctx: Context,
    /// The directory.
    pub(super) dir: PathBuf,
    /// Name and incarnation.
    pub(super) stream: StreamId,
    /// The incarnation as a number.
    pub(super) incarnation: u128,
    /// What was decided at creation.
    pub(super) settings: Settings,
    /// Which producers without a ledger live.
    pub(super) runs: Runs,
    /// The manifest's version that is known to survive a power cut.
    durable_version: AtomicU64,
}

impl Place {
    /// Of the stream with this manifest.
    pub(super) fn try_new(ctx: &Context, dir: &Path, manifest: &Manifest) -> Result<Arc<Self>> {
        Ok(Arc::new(Place {
            ctx: ctx.clone(),
            dir: dir.to_owned(),
            stream: manifest.stream.clone(),
            incarnation: manifest.incarnation()?,
            settings: manifest.settings.clone(),
            runs: Runs::new(dir.join("_runs")),
            durable_version: AtomicU64::new(0),
        }))
    }

    /// What ties frames to this stream.
    pub(super) fn salt(&self) -> u64 {
        self.incarnation as u64
    }

    /// The directory of a shard.
    pub(super) fn shard_dir(&self, shard: &ShardId) -> PathBuf {
        self.dir.join("shards").join(shard.as_str())
    }

    /// Reads the manifest again; refused when the stream is not the one that was opened.
    ///
    /// Who replaced it may have died before its name was durable: nothing is done by a manifest that a power cut could
    /// take back.
    pub(super) async fn manifest(&self) -> Result<Manifest> {
        let manifest = match Manifest::read(&self.ctx, &self.dir).await? {
            Some(manifest) if manifest.stream == self.stream => manifest,
            _ => return Err(self.gone()),
        };
        if self.durable_version.load(Ordering::Relaxed) < manifest.version {
            let synced = self.ctx.disk.sync_dir(&self.dir).await;
            synced.map_err(|e| Error::io("sync", &self.dir, e))?;
            self.durable_version
                .fetch_max(manifest.version, Ordering::Relaxed);
        }
        Ok(manifest)
    }

    /// The stream that was opened is no more.
    pub(super) fn gone(&self) -> Error {
        Error::fatal(format!(
            "stream `{}` in `{}` was deleted, or deleted and made again, while it was open: start again",
            self.stream.name,
            self.dir.display()
        ))
    }
}
