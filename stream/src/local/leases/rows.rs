//! Rows that are swapped without a lock.
//!
//! A version of a row is a name, `<SHARD>.<COUNTER>.json`, and the newest one is the row. The names of a batch of swaps
//! are links to one file that holds all their rows: one sync for the file, one for the names. `link` never replaces a
//! name, so of several who would follow the same version one does, and the others conflict.
//!
//! **Names are removed**, which could give one away twice: a worker lists version 6, stands still, wakes when there is
//! version 9 and 7 is gone, and its link of 7 succeeds. Therefore the version before the newest stays, older ones go in
//! ascending order, and a link counts only if after it *the very file* that it follows is still there: had its own name
//! ever been removed, that of the version before it would have been so earlier. A link that does not count is older than
//! the newest version and goes with the next swap. The first version follows none: it counts if it is the only one.
//!
//! An observer must not act on a name that a power cut could take back: who reads a version that another worker made
//! syncs the directory first.
//!
//! The row of a shard that is gone for good is removed with all of its names, in ascending order: a link that was on its way
//! meanwhile does not count, since what it follows is gone. It leaves a row that is removed again; a shard never comes back.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hydrant_core::disk::{Stat, remove_if_there, write_new};
use hydrant_core::error::OrCannot;
use hydrant_core::lease::{Lease, Swap};
use hydrant_core::{Error, Result, ShardId};

use crate::local::format::json_file;
use crate::local::stream_dir::StreamDir;

/// The digits of a counter in a name.
const DIGITS: usize = 20;
/// Listings that a row must be missing from before it counts as gone.
const LISTINGS: usize = 3;
/// When a swap is tried again whose file others took for that of a dead worker.
const SOON: Duration = Duration::from_millis(50);

/// The rows of an app.
#[derive(Debug)]
pub(crate) struct LeaseRows {
    stream_dir: Arc<StreamDir>,
    dir: PathBuf,
    /// The name of this process' worker, for what it leaves when it dies.
    me: Arc<OnceLock<String>>,
    known: Mutex<Arc<AllKnown>>,
}

type AllKnown = BTreeMap<ShardId, KnownRow>;

/// Identifies a file among all that have had its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowFileId {
    identity: u64,
    modified: i64,
}

impl RowFileId {
    fn of(stat: &Stat) -> Self {
        RowFileId {
            identity: stat.identity,
            modified: stat.modified,
        }
    }
}

/// The newest version of a row when it was looked at last.
#[derive(Clone, Debug)]
struct KnownRow {
    file: RowFileId,
    row: Lease,
}

/// The versions of each row, ascending.
type Names = BTreeMap<ShardId, BTreeMap<u64, RowFileId>>;

/// The name of a row's version, which is its counter.
fn name_of(shard: &ShardId, version: u64) -> String {
    format!("{shard}.{version:0DIGITS$}.json")
}

/// The row and version of a name.
fn version_of(name: &str) -> Option<(ShardId, u64)> {
    let (shard, counter) = name.strip_suffix(".json")?.rsplit_once('.')?;
    let (shard, version) = (ShardId::new(shard), counter.parse().ok()?);
    // Numbers may be written in other ways, names may not.
    (name_of(&shard, version) == name).then_some((shard, version))
}

/// The worker that left rows on their way under this name.
pub(crate) fn worker_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    name.rsplit_once('.').map(|(worker, _)| worker)
}

fn key(row: &Lease) -> (u64, u64) {
    (row.epoch, row.counter)
}

impl LeaseRows {
    /// Those in this directory.
    pub(crate) fn new(
        stream_dir: &Arc<StreamDir>,
        dir: PathBuf,
        me: Arc<OnceLock<String>>,
    ) -> Self {
        LeaseRows {
            stream_dir: Arc::clone(stream_dir),
            dir,
            me,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> Arc<AllKnown> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known)
    }

    fn set_known(&self, known: Arc<AllKnown>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn path(&self, shard: &ShardId, version: u64) -> PathBuf {
        self.dir.join(name_of(shard, version))
    }

    /// Every row, by shard name.
    pub(crate) async fn list(&self) -> Result<Vec<Lease>> {
        let (_, known) = self.look().await?;
        Ok(known.values().map(|known| known.row.clone()).collect())
    }

    /// The names, at least the newest known of each row.
    ///
    /// A listing may show neither of two versions of a row: it has passed the place of the new one before that was made,
    /// and comes to that of the old one after it was removed. So it is made again where it lacks a row, or shows only an
    /// older version of it; what several listings in a row lack is gone.
    async fn all_names(&self) -> Result<Names> {
        let known = self.known();
        let mut names = self.names().await?;
        for _ in 1..LISTINGS {
            let is_there = |(shard, known): (&ShardId, &KnownRow)| {
                let newest = names.get(shard).and_then(BTreeMap::last_key_value);
                newest.is_some_and(|(version, _)| *version >= known.row.counter)
            };
            // Who knows no row yet does not know which is missing.
            if !known.is_empty() && known.iter().all(is_there) {
                break;
            }
            for (shard, versions) in self.names().await? {
                names.entry(shard).or_default().extend(versions);
            }
        }
        Ok(names)
    }

    async fn names(&self) -> Result<Names> {
        let listed = self.stream_dir.ctx.disk.list(&self.dir).await;
        let mut names = Names::new();
        for listed in listed.map_err(|e| self.stream_dir.failed("list", &self.dir, e))? {
            if let Some((shard, version)) = version_of(&listed.name) {
                let file = RowFileId {
                    identity: listed.identity,
                    modified: listed.modified,
                };
                names.entry(shard).or_default().insert(version, file);
            }
        }
        Ok(names)
    }

    /// All names, and all rows; reads only what is new, and each file once.
    async fn look(&self) -> Result<(Names, Arc<AllKnown>)> {
        'again: loop {
            let names = self.all_names().await?;
            let mut known = self.known();
            if known.keys().any(|shard| !names.contains_key(shard)) {
                Arc::make_mut(&mut known).retain(|shard, _| names.contains_key(shard));
            }
            let mut files: BTreeMap<RowFileId, Vec<Lease>> = BTreeMap::new();
            for (shard, versions) in &names {
                let Some((version, file)) = versions.last_key_value() else {
                    continue;
                };
                let same = |known: &KnownRow| known.row.counter == *version && known.file == *file;
                if known.get(shard).is_some_and(same) {
                    continue;
                }
                let path = self.path(shard, *version);
                if !files.contains_key(file) {
                    let disk = &*self.stream_dir.ctx.disk;
                    let Some(rows) = json_file::read::<Vec<Lease>>(disk, &path).await? else {
                        // A newer version took its place.
                        continue 'again;
                    };
                    files.insert(*file, rows);
                }
                let rows = files.get(file).map_or(&[][..], Vec::as_slice);
                let Some(row) = rows.iter().find(|row| row.shard == *shard) else {
                    let detail = format!("it does not hold the lease of shard `{shard}`");
                    return Err(Error::corrupt(&path, 0, detail));
                };
                let new = KnownRow {
                    file: *file,
                    row: row.clone(),
                };
                Arc::make_mut(&mut known).insert(shard.clone(), new);
            }
            if !files.is_empty() {
                self.sync_names().await?;
            }
            self.set_known(Arc::clone(&known));
            return Ok((names, known));
        }
    }

    async fn sync_names(&self) -> Result<()> {
        let synced = self.stream_dir.ctx.disk.sync_dir(&self.dir).await;
        synced.map_err(|e| self.stream_dir.failed("sync", &self.dir, e))
    }

    /// Swaps rows, of different shards, each for itself.
    pub(crate) async fn swap(&self, swaps: &[(Option<Lease>, Lease)]) -> Vec<Result<Swap>> {
        let mut results: Vec<Option<Result<Swap>>> = Vec::new();
        results.resize_with(swaps.len(), || None);
        if let Err(error) = self.try_swap(swaps, &mut results).await {
            let open = results.iter_mut().filter(|result| result.is_none());
            open.for_each(|result| *result = Some(Err(error.clone())));
        }
        let unanswered = || Err(Error::fatal("a swap of leases was left without an answer"));
        let answers = results.into_iter();
        answers
            .map(|result| result.unwrap_or_else(unanswered))
            .collect()
    }

    /// An error is that of all swaps without a result.
    async fn try_swap(
        &self,
        swaps: &[(Option<Lease>, Lease)],
        results: &mut [Option<Result<Swap>>],
    ) -> Result<()> {
        let (names, known) = self.look().await?;
        let mut fit = Vec::new();
        for (n, (seen, next)) in swaps.iter().enumerate() {
            let now = known.get(&next.shard);
            if now.map(|known| key(&known.row)) == seen.as_ref().map(key) {
                fit.push(n);
            } else {
                results[n] = Some(Ok(Swap::Conflict(now.map(|known| known.row.clone()))));
            }
        }
        if fit.is_empty() {
            return Ok(());
        }
        let rows: Vec<&Lease> = fit.iter().map(|n| &swaps[*n].1).collect();
        let (temporary, file) = self.write(&rows).await?;
        let linked = self.link(&temporary, swaps, &fit, results).await;
        // The names hold the file now; what is not removed here is cleared away when a worker registers.
        drop(self.stream_dir.ctx.disk.remove(&temporary).await);
        let mut won = Vec::new();
        for n in linked? {
            let shard = &swaps[n].1.shard;
            let counts = match known.get(shard) {
                Some(followed) => self.is_there(shard, followed).await?,
                None => true,
            };
            if counts {
                won.push(n);
            }
        }
        self.sync_names().await?;
        let is_first = |n: &usize| swaps[*n].0.is_none();
        if won.len() < fit.len() || won.iter().any(is_first) {
            let (_, mut known) = self.look().await?;
            if won.iter().any(is_first) {
                // Several listings have to show no other version; what one of them shows stays known.
                for _ in 1..LISTINGS {
                    (_, known) = self.look().await?;
                }
            }
            let now = |n: usize| known.get(&swaps[n].1.shard).map(|known| &known.row);
            won.retain(|n| !is_first(n) || now(*n).is_some_and(|now| now.counter == 0));
            for n in fit {
                if !won.contains(&n) && results[n].is_none() {
                    results[n] = Some(Ok(Swap::Conflict(now(n).cloned())));
                }
            }
        }
        let mut known = self.known();
        for n in won {
            let row = swaps[n].1.clone();
            if let Some(versions) = names.get(&row.shard) {
                self.remove_old(&row.shard, versions).await;
            }
            Arc::make_mut(&mut known).insert(row.shard.clone(), KnownRow { file, row });
            results[n] = Some(Ok(Swap::Swapped));
        }
        self.set_known(known);
        Ok(())
    }

    /// Removes the row of a shard that is gone for good, the newest version last.
    pub(crate) async fn remove(&self, seen: &Lease) -> Result<Swap> {
        let shard = &seen.shard;
        let (names, known) = self.look().await?;
        let now = known.get(shard).map(|known| &known.row);
        if now.map(key) != Some(key(seen)) {
            return Ok(Swap::Conflict(now.cloned()));
        }
        for version in names.get(shard).into_iter().flat_map(BTreeMap::keys) {
            let path = self.path(shard, *version);
            let removed = remove_if_there(&*self.stream_dir.ctx.disk, &path).await;
            removed.or_cannot("remove", &path)?;
        }
        self.sync_names().await?;
        // A swap that was under way has followed what was removed: its row is there, though it may count as a conflict.
        let (_, known) = self.look().await?;
        Ok(match known.get(shard) {
            None => Swap::Swapped,
            Some(known) => Swap::Conflict(Some(known.row.clone())),
        })
    }

    /// Writes rows into a file that no name leads to yet.
    async fn write(&self, rows: &[&Lease]) -> Result<(PathBuf, RowFileId)> {
        let ctx = &self.stream_dir.ctx;
        let me = self.me.get().map_or("-", String::as_str);
        let path = self
            .dir
            .join(format!(".{me}.{}.tmp", ctx.random.identity()));
        let body = serde_json::to_vec(rows)
            .map_err(|e| Error::fatal(format!("cannot write `{}`: {e}", path.display())))?;
        let write = async {
            write_new(&*ctx.disk, &path, body.into()).await?;
            ctx.disk.stat(&path).await
        };
        match write.await {
            Ok(Some(stat)) => Ok((path, RowFileId::of(&stat))),
            Ok(None) => Err(self.cleared_away(&path).await?),
            Err(error) => Err(self.stream_dir.failed("write", &path, error)),
        }
    }

    /// What a file that is gone before it has its names comes to: others may take this worker for dead. An error is that
    /// of a stream that is gone as well.
    async fn cleared_away(&self, file: &Path) -> Result<Error> {
        self.stream_dir.manifest().await?;
        Ok(Error::Unavailable {
            message: format!("`{}` was cleared away", file.display()),
            after: SOON,
        })
    }

    /// Gives a file the names of its rows; answers which of them were free.
    async fn link(
        &self,
        file: &Path,
        swaps: &[(Option<Lease>, Lease)],
        fit: &[usize],
        results: &mut [Option<Result<Swap>>],
    ) -> Result<Vec<usize>> {
        let mut linked = Vec::new();
        for n in fit {
            let next = &swaps[*n].1;
            let path = self.path(&next.shard, next.counter);
            match self.stream_dir.ctx.disk.link_new(file, &path).await {
                Ok(()) => linked.push(*n),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    results[*n] = Some(Err(self.cleared_away(file).await?));
                }
                Err(error) => results[*n] = Some(Err(Error::io("link", &path, error))),
            }
        }
        Ok(linked)
    }

    /// Whether a version is still the file that it was.
    async fn is_there(&self, shard: &ShardId, known: &KnownRow) -> Result<bool> {
        let path = self.path(shard, known.row.counter);
        let stat = self.stream_dir.ctx.disk.stat(&path).await;
        let stat = stat.or_cannot("look at", &path)?;
        Ok(stat.is_some_and(|stat| RowFileId::of(&stat) == known.file))
    }

    /// Removes the versions before the newest of these, which the version that was just made follows.
    async fn remove_old(&self, shard: &ShardId, versions: &BTreeMap<u64, RowFileId>) {
        for version in versions.keys().take(versions.len().saturating_sub(1)) {
            let path = self.path(shard, *version);
            if let Err(error) = remove_if_there(&*self.stream_dir.ctx.disk, &path).await {
                // The order matters: what comes after it stays as long as it does.
                tracing::debug!(path = %path.display(), %error, "cannot remove an old lease");
                return;
            }
        }
    }
}
