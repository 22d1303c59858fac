//! Leases as files: one JSON row per shard and app, swapped under the app's lock.
//!
//! ```text
//! DIR/_apps/<APP>/lock              held for each swap
//! DIR/_apps/<APP>/<SHARD>.json      a row
//! DIR/_apps/<APP>/workers/<WORKER>.lock   held as long as the worker lives
//! ```
//!
//! The kernel frees a worker's lock when its process dies, so that its shards can be taken over at once; a worker that
//! hangs is noticed by its counter like in any lease store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::disk::{self, Lock, LockKind};
use hydrant_core::lease::{Enlisted, Generations, Lease, LeaseStore, Reprocess, Swap};
use hydrant_core::{Error, Result, ShardId, clock};

use super::generations;
use super::place::Place;

/// How often the locks of other workers are tried while somebody waits for a change: a freed lock tells nobody.
const DEATH_CHECK: Duration = Duration::from_millis(250);

/// The leases of one app.
#[derive(Debug)]
pub(super) struct FileLeases {
    place: Arc<Place>,
    app: String,
    dir: PathBuf,
    workers: PathBuf,
    watch: tokio::sync::Mutex<Option<Box<dyn disk::Watch>>>,
}

/// A worker's lock.
#[derive(Debug)]
struct Presence {
    _lock: Box<dyn Lock>,
}

impl Enlisted for Presence {}

/// Refuses what is not fit to be a file's name.
fn check_name(what: &str, name: &str) -> Result<()> {
    let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b':');
    if !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.bytes().all(fit) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "`{name}` is no {what} name: write 1 to 128 letters, digits, `-`, `_`, `.`, `@` or `:`, the first one no `.`"
    )))
}

impl FileLeases {
    /// The leases of `app`.
    pub(super) async fn open(place: &Arc<Place>, app: &str) -> Result<Self> {
        check_name("app", app)?;
        place.manifest().await?;
        let dir = place.dir.join("_apps").join(app);
        let workers = dir.join("workers");
        let made = place.ctx.disk.create_dir_all(&workers).await;
        made.map_err(|e| Error::io("create", &workers, e))?;
        Ok(FileLeases {
            place: Arc::clone(place),
            app: app.to_owned(),
            dir,
            workers,
            watch: tokio::sync::Mutex::new(None),
        })
    }

    /// A failed call; a missing file or directory means that the stream was deleted.
    fn failed(&self, action: &'static str, path: &Path, error: std::io::Error) -> Error {
        match error.kind() {
            std::io::ErrorKind::NotFound => self.place.gone(),
            _ => Error::io(action, path, error),
        }
    }

    async fn lock(&self) -> Result<Box<dyn Lock>> {
        let path = self.dir.join("lock");
        match self.place.ctx.disk.lock(&path, LockKind::Exclusive).await {
            Ok(lock) => Ok(lock),
            Err(error) => Err(self.failed("lock", &path, error)),
        }
    }

    fn row(&self, shard: &ShardId) -> PathBuf {
        self.dir.join(format!("{shard}.json"))
    }

    async fn read(&self, path: &Path) -> Result<Option<Lease>> {
        let bytes = disk::read_file(&*self.place.ctx.disk, path).await;
        let Some(bytes) = bytes.map_err(|e| Error::io("read", path, e))? else {
            return Ok(None);
        };
        let row = serde_json::from_slice(&bytes);
        row.map(Some).map_err(|error| Error::Corrupt {
            path: path.to_owned(),
            offset: 0,
            detail: error.to_string(),
        })
    }

    fn worker(&self, worker: &str) -> PathBuf {
        self.workers.join(format!("{worker}.lock"))
    }

    /// Whether nobody holds this worker's lock; the caller holds the app's lock, so that a try is not mistaken for a
    /// holder.
    async fn is_free(&self, path: &Path) -> Result<Option<Box<dyn Lock>>> {
        let taken = self
            .place
            .ctx
            .disk
            .try_lock(path, LockKind::Exclusive)
            .await;
        taken.map_err(|e| self.failed("lock", path, e))
    }

    async fn dead_workers(&self) -> Result<Vec<PathBuf>> {
        let disk = &*self.place.ctx.disk;
        let names = disk.list(&self.workers).await;
        let names = names.map_err(|e| self.failed("list", &self.workers, e))?;
        let mut dead = Vec::new();
        for listed in names.iter().filter(|listed| listed.name.ends_with(".lock")) {
            let path = self.workers.join(&listed.name);
            if self.is_free(&path).await?.is_some() {
                dead.push(path);
            }
        }
        Ok(dead)
    }

    /// Resolves when a worker's lock is free that was held or unknown at the first look.
    async fn a_worker_dies(&self) -> Result<()> {
        let mut dead_before: Option<Vec<PathBuf>> = None;
        loop {
            let lock = self.lock().await?;
            let dead = self.dead_workers().await?;
            drop(lock);
            if let Some(before) = &dead_before
                && dead.iter().any(|path| !before.contains(path))
            {
                return Ok(());
            }
            dead_before = Some(dead);
            clock::sleep(DEATH_CHECK).await;
        }
    }
}

#[async_trait]
impl LeaseStore for FileLeases {
    async fn enlist(&self, worker: &str) -> Result<Box<dyn Enlisted>> {
        check_name("worker", worker)?;
        let _app = self.lock().await?;
        let disk = &*self.place.ctx.disk;
        for path in self.dead_workers().await? {
            let removed = disk.remove(&path).await;
            removed.map_err(|e| self.failed("remove", &path, e))?;
        }
        let path = self.worker(worker);
        match self.is_free(&path).await? {
            Some(lock) => Ok(Box::new(Presence { _lock: lock })),
            None => Err(Error::refused(format!(
                "a worker named `{worker}` is running: give each worker a name of its own"
            ))),
        }
    }

    async fn list(&self) -> Result<Vec<Lease>> {
        let names = self.place.ctx.disk.list(&self.dir).await;
        let mut rows = Vec::new();
        for listed in names.map_err(|e| self.failed("list", &self.dir, e))? {
            if listed.name.ends_with(".json") && !listed.name.starts_with('.') {
                rows.extend(self.read(&self.dir.join(&listed.name)).await?);
            }
        }
        rows.sort_by(|a, b| a.shard.cmp(&b.shard));
        Ok(rows)
    }

    async fn swap(&self, seen: Option<&Lease>, next: &Lease) -> Result<Swap> {
        check_name("shard", next.shard.as_str())?;
        let _app = self.lock().await?;
        let path = self.row(&next.shard);
        let now = self.read(&path).await?;
        let key = |lease: &Lease| (lease.epoch, lease.counter);
        if now.as_ref().map(key) != seen.map(key) {
            return Ok(Swap::Beaten(now));
        }
        let body = serde_json::to_vec(next)
            .map_err(|e| Error::fatal(format!("cannot write `{}`: {e}", path.display())))?;
        let ctx = &self.place.ctx;
        let replaced =
            disk::replace_file(&*ctx.disk, &path, body.into(), &ctx.random.identity()).await;
        replaced.map_err(|e| self.failed("replace", &path, e))?;
        Ok(Swap::Swapped)
    }

    async fn generations(&self) -> Result<Generations> {
        generations::read(&self.place, &self.app).await
    }

    async fn reprocess(&self, what: &Reprocess) -> Result<Generations> {
        let _app = self.lock().await?;
        let disk = &*self.place.ctx.disk;
        let names = disk.list(&self.workers).await;
        let names = names.map_err(|e| self.failed("list", &self.workers, e))?;
        for name in names
            .iter()
            .filter_map(|one| one.name.strip_suffix(".lock"))
        {
            if self.is_free(&self.worker(name)).await?.is_none() {
                return Err(Error::refused(format!(
                    "worker `{name}` of app `{}` is running: stop all workers of the app first",
                    self.app
                )));
            }
        }
        generations::reprocess(&self.place, &self.app, what).await
    }

    async fn is_gone(&self, worker: &str) -> Result<bool> {
        check_name("worker", worker)?;
        let path = self.worker(worker);
        let _app = self.lock().await?;
        let stat = self.place.ctx.disk.stat(&path).await;
        if stat.map_err(|e| Error::io("look at", &path, e))?.is_none() {
            return Ok(true);
        }
        Ok(self.is_free(&path).await?.is_some())
    }

    async fn changed(&self) {
        let mut watch = self.watch.lock().await;
        if watch.is_none() {
            match self.place.ctx.disk.watch(&self.dir).await {
                // What happened before the watch is told as a change.
                Ok(new) => {
                    *watch = Some(new);
                    return;
                }
                Err(error) => {
                    tracing::warn!(dir = %self.dir.display(), %error, "cannot watch the leases");
                    return clock::sleep(DEATH_CHECK).await;
                }
            }
        }
        if let Some(watch) = watch.as_mut() {
            // Both arms only wait.
            tokio::select! {
                biased;
                () = watch.changed() => {}
                answer = self.a_worker_dies() => {
                    if let Err(error) = answer {
                        tracing::warn!(dir = %self.dir.display(), error = %error.report(), "cannot look at the workers");
                        clock::sleep(DEATH_CHECK).await;
                    }
                }
            }
        }
    }
}
