//! The lease store of an app: hands swaps to one task, which makes those that wait together.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use hydrant_core::disk::{self, DiskFile, Open};
use hydrant_core::error::OrCannot;
use hydrant_core::lease::{
    Generations, Lease, LeaseStore, Pace, Reprocess, Swap, WorkerRegistration, rows_that_count,
};
use hydrant_core::{Error, Result, clock};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::generations;
use super::presence::WorkerLocks;
use super::rows::LeaseRows;
use crate::local::stream_dir::StreamDir;

/// Swaps that wait for the one before them: as many as a worker has shards, so that all fit into the next sync.
const QUEUED_MAX: usize = 1024;
/// The pause after a failed look at the store, which may fail again at once.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// The leases of one app.
#[derive(Debug)]
pub(crate) struct FileLeases {
    stream_dir: Arc<StreamDir>,
    app: String,
    rows: Arc<LeaseRows>,
    workers: WorkerLocks,
    changes: PathBuf,
    watch: tokio::sync::Mutex<Option<Box<dyn disk::Watch>>>,
    swaps: mpsc::Sender<Request>,
    // Aborts the committer when it is dropped.
    _committer: JoinSet<()>,
}

/// A swap that a caller waits for.
struct Request {
    seen: Option<Lease>,
    next: Lease,
    answer: oneshot::Sender<Result<Swap>>,
}

/// Refuses what is not fit to be a file's name.
fn check_name(what: &str, name: &str) -> Result<()> {
    let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b':');
    if !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.bytes().all(fit) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "`{name}` is not a valid {what} name: write 1 to 128 letters, digits, `-`, `_`, `.`, `@` or `:`, the first one \
         not `.`"
    )))
}

fn app_dir(stream_dir: &StreamDir, app: &str) -> PathBuf {
    stream_dir.home.join("_apps").join(app)
}

impl FileLeases {
    /// The leases of `app`.
    pub(crate) async fn open(stream_dir: &Arc<StreamDir>, app: &str) -> Result<Self> {
        check_name("app", app)?;
        stream_dir.manifest().await?;
        let dir = app_dir(stream_dir, app);
        let workers = dir.join("workers");
        stream_dir.make_dir(&workers).await?;
        let changes = dir.join("changes");
        let signal = stream_dir.ctx.disk.open(&changes, Open::Create).await;
        let signal = signal.or_cannot("create", &changes)?;
        let me = Arc::new(OnceLock::new());
        let rows = Arc::new(LeaseRows::new(stream_dir, dir.clone(), Arc::clone(&me)));
        let (swaps, requests) = mpsc::channel(QUEUED_MAX);
        let mut committer = JoinSet::new();
        committer.spawn(commit(
            Arc::clone(stream_dir),
            Arc::clone(&rows),
            requests,
            signal,
        ));
        Ok(FileLeases {
            stream_dir: Arc::clone(stream_dir),
            app: app.to_owned(),
            rows,
            workers: WorkerLocks::new(stream_dir, dir, me),
            changes,
            watch: tokio::sync::Mutex::new(None),
            swaps,
            _committer: committer,
        })
    }

    /// The rows of `app` that count. It makes nothing, so it needs no right to write.
    pub(crate) async fn look(stream_dir: &Arc<StreamDir>, app: &str) -> Result<Vec<Lease>> {
        check_name("app", app)?;
        let dir = app_dir(stream_dir, app);
        let found = stream_dir.ctx.disk.stat(&dir).await;
        if found.or_cannot("look at", &dir)?.is_none() {
            return Ok(Vec::new());
        }
        let generations = generations::read(stream_dir, app).await?;
        let rows = LeaseRows::new(stream_dir, dir, Arc::default())
            .list()
            .await?;
        Ok(rows_that_count(&generations, rows))
    }

    async fn wait_for_change(&self) -> Result<()> {
        let mut watch = self.watch.lock().await;
        let Some(watch) = watch.as_mut() else {
            let disk = &self.stream_dir.ctx.disk;
            let new = disk.watch(&self.changes).await;
            *watch = Some(new.or_cannot("watch", &self.changes)?);
            // What happened before the watch counts as a change.
            return Ok(());
        };
        // Both arms only wait.
        tokio::select! {
            biased;
            () = watch.changed() => Ok(()),
            died = self.workers.one_dies() => died,
        }
    }
}

/// Makes the swaps that are asked for, all that wait at once.
async fn commit(
    stream_dir: Arc<StreamDir>,
    rows: Arc<LeaseRows>,
    mut requests: mpsc::Receiver<Request>,
    signal: Arc<dyn DiskFile>,
) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match requests.recv().await {
                Some(request) => waiting.push_back(request),
                None => return,
            }
        }
        while waiting.len() < QUEUED_MAX
            && let Ok(request) = requests.try_recv()
        {
            waiting.push_back(request);
        }
        // Swaps of one row are made one after another.
        let mut shards = BTreeSet::new();
        let mut batch = Vec::new();
        for request in std::mem::take(&mut waiting) {
            if shards.insert(request.next.shard.clone()) {
                batch.push(request);
            } else {
                waiting.push_back(request);
            }
        }
        let (swaps, answers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|request| ((request.seen, request.next), request.answer))
            .unzip();
        let (disk, rows) = (Arc::clone(&stream_dir.ctx.disk), Arc::clone(&rows));
        let swapping = async move {
            let results = rows.swap(&swaps).await;
            (swaps, results)
        };
        let (swaps, results) = disk::at_once(&*disk, swapping).await;
        let concerns_others = swaps.iter().zip(&results).any(|((seen, next), result)| {
            matches!(result, Ok(Swap::Swapped)) && concerns_others(seen.as_ref(), next)
        });
        if concerns_others && let Err(error) = signal.write_at(0, vec!["+".into()]).await {
            // They look at the rows from time to time all the same.
            tracing::warn!(%error, "cannot notify other workers of a change of leases");
        }
        for (answer, result) in answers.into_iter().zip(results) {
            // The asker may have stopped waiting.
            drop(answer.send(result));
        }
    }
}

/// Whether a swap is more than a renewal or a step of progress.
fn concerns_others(seen: Option<&Lease>, next: &Lease) -> bool {
    seen.is_none_or(|seen| {
        seen.owner != next.owner
            || seen.wanted != next.wanted
            || seen.has_ended() != next.has_ended()
            || seen.output() != next.output()
    })
}

#[async_trait]
impl LeaseStore for FileLeases {
    async fn register(&self, worker: &str) -> Result<Box<dyn WorkerRegistration>> {
        check_name("worker", worker)?;
        let registration = self.workers.register(worker).await;
        self.stream_dir.unless_gone(registration).await
    }

    async fn list(&self) -> Result<Vec<Lease>> {
        self.stream_dir.unless_gone(self.rows.list().await).await
    }

    async fn swap(&self, seen: Option<&Lease>, next: &Lease) -> Result<Swap> {
        check_name("shard", next.shard.as_str())?;
        if next.counter != seen.map_or(0, |seen| seen.counter + 1) {
            let shard = &next.shard;
            return Err(Error::fatal(format!(
                "the counter of the lease of shard `{shard}` was not raised by one, which is a fault of hydrant"
            )));
        }
        let (answer, answered) = oneshot::channel();
        let request = Request {
            seen: seen.cloned(),
            next: next.clone(),
            answer,
        };
        let ended = || Error::fatal("the task that writes the leases has ended");
        self.swaps.send(request).await.map_err(|_| ended())?;
        let swapped = answered.await.unwrap_or_else(|_| Err(ended()));
        self.stream_dir.unless_gone(swapped).await
    }

    async fn remove(&self, seen: &Lease) -> Result<Swap> {
        check_name("shard", seen.shard.as_str())?;
        self.stream_dir
            .unless_gone(self.rows.remove(seen).await)
            .await
    }

    fn pace(&self) -> Pace {
        Pace::LOCAL
    }

    async fn generations(&self) -> Result<Generations> {
        let generations = generations::read(&self.stream_dir, &self.app).await;
        self.stream_dir.unless_gone(generations).await
    }

    async fn reprocess(&self, what: &Reprocess) -> Result<Generations> {
        let Some(_alone) = self.workers.keep_out().await? else {
            return Err(Error::refused(format!(
                "a worker of app `{}` is starting: stop all workers of the app first",
                self.app
            )));
        };
        if let Some(worker) = self.workers.living().await? {
            return Err(Error::refused(format!(
                "worker `{worker}` of app `{}` is running: stop all workers of the app first",
                self.app
            )));
        }
        let moved = generations::reprocess(&self.stream_dir, &self.app, what).await;
        self.stream_dir.unless_gone(moved).await
    }

    async fn is_gone(&self, worker: &str) -> Result<bool> {
        check_name("worker", worker)?;
        self.workers.is_gone(worker).await
    }

    async fn changed(&self) {
        if let Err(error) = self.wait_for_change().await {
            tracing::warn!(error = %error.report(), "cannot watch the leases");
            clock::sleep(AFTER_FAILURE).await;
        }
    }
}
