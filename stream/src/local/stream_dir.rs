//! A stream's directory and what is the same for all its parts in this process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hydrant_core::disk::{SharedDisk, Stat};
use hydrant_core::error::OrCannot;
use hydrant_core::{Context, Error, Result, ShardId, StreamId};

use super::format::home;
use super::format::manifest::{Manifest, StreamSettings};
use super::producer_locks::ProducerLocks;
use super::stream_time::StreamTime;

/// How often a process looks whether a lock is free whose holder it needs: a freed lock sends no signal.
pub(super) const HOLDER_CHECK: Duration = Duration::from_millis(250);

/// A stream's directory, identity and settings.
#[derive(Debug)]
pub(super) struct StreamDir {
    /// What is injected.
    pub(super) ctx: Context,
    /// The same disk with room of its own for the locks of [pulses](super::write::pulse).
    pub(super) pulse_disk: SharedDisk,
    /// The directory, in which the manifest is.
    pub(super) dir: PathBuf,
    /// Where everything else [lies](super::format::home).
    pub(super) home: PathBuf,
    /// Name and incarnation.
    pub(super) stream: StreamId,
    /// The incarnation as a number.
    pub(super) incarnation: u128,
    /// What was decided at creation.
    pub(super) settings: StreamSettings,
    /// Which producers without a ledger live.
    pub(super) runs: ProducerLocks,
    /// The time by which data ages.
    pub(super) age: StreamTime,
    /// The manifest as it was read last, durable, and the file that it was read from.
    manifest: Mutex<Option<(Stat, Arc<Manifest>)>>,
}

impl StreamDir {
    /// Of the stream with this manifest.
    pub(super) fn try_new(ctx: &Context, dir: &Path, manifest: &Manifest) -> Result<Arc<Self>> {
        let incarnation = manifest.incarnation()?;
        let home = dir.join(home::name(incarnation));
        Ok(Arc::new(StreamDir {
            ctx: ctx.apart(dir),
            pulse_disk: ctx.apart(&dir.join("pulse")).disk,
            dir: dir.to_owned(),
            runs: ProducerLocks::new(home.join("_runs")),
            home,
            stream: manifest.stream.clone(),
            incarnation,
            settings: manifest.settings.clone(),
            age: StreamTime::default(),
            manifest: Mutex::new(None),
        }))
    }

    /// What ties frames to this stream.
    pub(super) fn salt(&self) -> u64 {
        self.incarnation as u64
    }

    /// The directory of the shards' directories.
    pub(super) fn shards_dir(&self) -> PathBuf {
        self.home.join("shards")
    }

    /// The directory of a shard.
    pub(super) fn shard_dir(&self, shard: &ShardId) -> PathBuf {
        self.shards_dir().join(shard.as_str())
    }

    /// The manifest as it is now; refused when the stream is not the one that was opened. It is read once for each
    /// version.
    ///
    /// Who replaced it may have died before its name was durable: nothing is done by a manifest that a power cut could
    /// take back.
    pub(super) async fn manifest(&self) -> Result<Arc<Manifest>> {
        let path = Manifest::path(&self.dir);
        // Looked at before it is read: what is read may be newer, and is then read once more.
        let stat = self
            .ctx
            .disk
            .stat(&path)
            .await
            .or_cannot("look at", &path)?;
        let stat = stat.ok_or_else(|| self.gone())?;
        if let Some((seen, manifest)) = &*self.known()
            && *seen == stat
        {
            return Ok(Arc::clone(manifest));
        }
        let manifest = match Manifest::read(&self.ctx, &self.dir).await? {
            Some(manifest) if manifest.stream == self.stream => Arc::new(manifest),
            _ => return Err(self.gone()),
        };
        let synced = self.ctx.disk.sync_dir(&self.dir).await;
        synced.or_cannot("sync", &self.dir)?;
        *self.known() = Some((stat, Arc::clone(&manifest)));
        Ok(manifest)
    }

    fn known(&self) -> MutexGuard<'_, Option<(Stat, Arc<Manifest>)>> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A failed call; a missing file or directory means that the stream was deleted.
    pub(super) fn failed(&self, action: &'static str, path: &Path, error: std::io::Error) -> Error {
        match error.kind() {
            std::io::ErrorKind::NotFound => self.gone(),
            _ => Error::io(action, path, error),
        }
    }

    /// What a power cut or a death took back of a shard is not there until a process makes that good which may.
    pub(super) fn unrecovered(&self, shard: &ShardId) -> Error {
        let dir = self.dir.display();
        Error::Unavailable {
            message: format!(
                "shard `{shard}` of `{dir}` needs recovery, for which this user lacks write permission: open the \
                 stream once as its owner"
            ),
            after: HOLDER_CHECK,
        }
    }

    /// Makes a directory below the stream's home, durably with those above it: who made one of them before may have died
    /// before its name was durable.
    pub(super) async fn make_dir(&self, dir: &Path) -> Result<()> {
        let disk = &*self.ctx.disk;
        let below: Vec<_> = dir.ancestors().take_while(|d| *d != self.home).collect();
        let mut parent = self.home.as_path();
        for dir in below.into_iter().rev() {
            disk.create_dir_all(dir).await.or_cannot("create", dir)?;
            disk.sync_dir(parent).await.or_cannot("sync", parent)?;
            parent = dir;
        }
        // In the home of a stream that is gone it is of no use.
        self.manifest().await.map(drop)
    }

    /// The same, unless the stream is gone: that explains what is missing or looks damaged.
    pub(super) async fn unless_gone<T>(&self, found: Result<T>) -> Result<T> {
        match found {
            Ok(found) => Ok(found),
            Err(error) => Err(self.explained(error).await),
        }
    }

    /// As [`StreamDir::unless_gone`], of an error.
    pub(super) async fn explained(&self, error: Error) -> Error {
        match error {
            Error::Io { .. } | Error::Corrupt { .. } => match self.manifest().await {
                Err(gone @ Error::Fatal { .. }) => gone,
                _ => error,
            },
            _ => error,
        }
    }

    /// What was asked for needs the lock of a shard whose holder stands still.
    pub(super) fn stuck(&self, shard: &ShardId) -> Error {
        Error::refused(format!(
            "the process that holds the lock of shard `{shard}` has stopped making progress: resume or kill it (`fuser \
             {}` names it), then try again",
            self.shard_dir(shard).join("lock").display()
        ))
    }

    /// The stream that was opened no longer exists.
    pub(super) fn gone(&self) -> Error {
        Error::fatal(format!(
            "stream `{}` in `{}` was deleted or recreated while it was open: restart this process",
            self.stream.name,
            self.dir.display()
        ))
    }
}
