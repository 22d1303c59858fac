//! Splitting and merging shards, and replacing one whose lock is stuck.
//!
//! 1. Under the parents' locks, the parents are recovered and marked as *sealing*, durably. A parent whose lock is held
//!    by a process that does not go on is [fenced](super::fence) instead.
//! 2. The children's directories are made, under names that nobody has taken: their first segment's head holds the
//!    parents' marks, segment by segment.
//! 3. Under the manifest's lock, and if the parents are still open, the manifest is replaced: this is the moment at which
//!    it happens. It says where the parents end.
//! 4. The parents are marked as sealed.
//!
//! A process that finds a parent sealing without its reshard looks into the manifest and finishes or takes back the
//! mark. Who makes or removes a child that no manifest names holds its lock; the directories of the dead are removed by
//! the next reshard.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use hydrant_core::disk::{Disk, Lock, LockKind, Open};
use hydrant_core::{Error, HashRange, Result, Shard, ShardId, ShardMap};

use super::create::make_shard;
use super::end::End;
use super::fence::{self, Haste};
use super::manifest::{self, Manifest};
use super::marks::Marks;
use super::metrics;
use super::place::Place;
use super::segment::MARKS_BYTES_MAX;
use super::shard_log::{ShardLog, Taken};

/// A shard that is about to be closed.
#[derive(Debug)]
pub(super) struct Closing {
    /// The shard.
    pub(super) shard: Shard,
    /// Where it ends.
    pub(super) end: End,
    /// What it knows there.
    pub(super) marks: Marks,
}

/// What became of closing shards.
#[derive(Debug)]
pub(super) enum Closed {
    /// These took over.
    Done(Vec<ShardId>),
    /// Another process has closed one of them meanwhile.
    ByOthers,
    /// Another process replaces the manifest just now.
    Busy,
}

/// A child that no manifest names yet.
#[derive(Debug)]
struct Child {
    number: u64,
    shard: Shard,
    /// Says that its maker lives.
    _lock: Box<dyn Lock>,
}

/// Closes a shard and opens two children.
pub(super) async fn split(
    place: &Arc<Place>,
    shard: &ShardId,
    at: Option<u128>,
) -> Result<Vec<ShardId>> {
    reshard(place, std::slice::from_ref(shard), |parents| {
        let range = parents[0].range;
        let halves = at.or_else(|| range.middle()).and_then(|at| range.split(at));
        let (low, high) = halves.ok_or_else(|| {
            Error::refused(format!(
                "shard `{shard}` cannot be split there: choose a hash from {} to {}",
                range.first.saturating_add(1),
                range.last
            ))
        })?;
        Ok(vec![low, high])
    })
    .await
}

/// Closes two neighbours and opens one child.
pub(super) async fn merge(place: &Arc<Place>, a: &ShardId, b: &ShardId) -> Result<ShardId> {
    let children = reshard(place, &[a.clone(), b.clone()], |parents| {
        let joined = parents[0].range.join(parents[1].range);
        let joined = joined.ok_or_else(|| {
            Error::refused(format!(
                "shards `{a}` and `{b}` are not neighbours: merge two whose hash ranges meet"
            ))
        })?;
        Ok(vec![joined])
    })
    .await?;
    let child = children.into_iter().next();
    child.ok_or_else(|| Error::fatal("a merge made no child"))
}

async fn reshard(
    place: &Arc<Place>,
    parents: &[ShardId],
    ranges: impl FnOnce(&[Shard]) -> Result<Vec<HashRange>>,
) -> Result<Vec<ShardId>> {
    let manifest = place.manifest().await?;
    let mut shards = Vec::new();
    for id in parents {
        let shard = manifest.shard(id)?;
        if shard.closed {
            return Err(Error::Sealed { shard: id.clone() });
        }
        shards.push(shard.clone());
    }
    let ranges = ranges(&shards)?;
    // Two who take the same locks take them in one order.
    shards.sort_by(|a, b| a.id.cmp(&b.id));
    let mut logs: Vec<ShardLog> = shards.iter().map(|s| ShardLog::new(place, s)).collect();
    let (mut held, mut stuck, mut closing) = (Vec::new(), Vec::new(), Vec::new());
    for log in &mut logs {
        let shard = log.shard.clone();
        match log.take_or_leave().await? {
            Taken::Held(mut parent) => {
                parent.refuse_if_sealed()?;
                parent
                    .set_control(true, |control| control.sealing = true)
                    .await?;
                let known = parent.known()?;
                closing.push(Closing {
                    shard,
                    end: End::at(&known.control, known.base),
                    marks: known.marks.clone(),
                });
                held.push(parent);
            }
            Taken::Stuck => {
                fence::mark(place, &shard.id).await?;
                closing.push(fence::find_end(place, &shard).await?);
                stuck.push(shard.id);
            }
        }
    }
    let children = match close(place, &closing, &ranges, Haste::Waits).await? {
        Closed::Done(children) => children,
        Closed::ByOthers | Closed::Busy => {
            let manifest = place.manifest().await?;
            let closed = parents
                .iter()
                .find(|id| manifest.shard(id).is_ok_and(|s| s.closed));
            let shard = closed.unwrap_or(&parents[0]).clone();
            return Err(Error::Sealed { shard });
        }
    };
    for shard in &stuck {
        metrics::fenced(&place.stream.name, shard);
    }
    for parent in &mut held {
        let sealed = parent
            .set_control(true, |control| control.sealed = true)
            .await;
        if let Err(error) = sealed {
            // It has happened; the next holder sets the mark.
            tracing::warn!(error = %error.report(), "cannot mark a closed shard as sealed");
        }
    }
    Ok(children)
}

/// Makes children of these ranges and replaces the manifest, if the parents are still open.
pub(super) async fn close(
    place: &Arc<Place>,
    parents: &[Closing],
    ranges: &[HashRange],
    haste: Haste,
) -> Result<Closed> {
    let mut marks: Option<Marks> = None;
    for parent in parents {
        marks = match marks {
            None => Some(parent.marks.clone()),
            Some(before) => parent.marks.concatenated(&before),
        };
    }
    let marks = marks.ok_or_else(|| Error::fatal("the marks of two shards do not meet"))?;
    if marks.stored_bytes() > u64::from(MARKS_BYTES_MAX) {
        return Err(Error::refused(format!(
            "the shards know {} origins together, more than one can hold: leave them apart",
            marks.len()
        )));
    }
    let ids: Vec<ShardId> = parents
        .iter()
        .map(|parent| parent.shard.id.clone())
        .collect();
    let mut children = Vec::new();
    for range in ranges {
        let made = make_child(place, *range, &ids, &marks, &children).await;
        match made {
            Ok(child) => children.push(child),
            Err(error) => {
                forget(place, &children).await;
                return Err(error);
            }
        }
    }
    let closed = name(place, parents, &children, haste).await;
    let may_be_named = match &closed {
        Ok(Closed::Done(_)) => true,
        Ok(Closed::ByOthers | Closed::Busy) => false,
        Err(_) => may_be_named(place, &children).await,
    };
    if !may_be_named {
        forget(place, &children).await;
    }
    closed
}

/// Whether a manifest names children after an error of the only call that does: it may have been replaced all the same.
async fn may_be_named(place: &Place, children: &[Child]) -> bool {
    match Manifest::read(&place.ctx, &place.dir).await {
        Ok(Some(now)) => children
            .iter()
            .any(|c| now.shards.get(&c.shard.id).is_some()),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Replaces the manifest by one that names the children.
async fn name(
    place: &Place,
    parents: &[Closing],
    children: &[Child],
    haste: Haste,
) -> Result<Closed> {
    let _manifest = match haste {
        Haste::Waits => manifest::lock(&place.ctx, &place.dir).await?,
        Haste::Looks => match manifest::try_lock(&place.ctx, &place.dir).await? {
            Some(lock) => lock,
            None => return Ok(Closed::Busy),
        },
    };
    let mut manifest = Manifest::clone(&*place.manifest().await?);
    for parent in parents {
        if manifest.shard(&parent.shard.id)?.closed {
            return Ok(Closed::ByOthers);
        }
    }
    if let Err(error) = remove_unnamed(place, &manifest).await {
        tracing::debug!(error = %error.report(), "cannot remove what a dead reshard left");
    }
    let mut all = manifest.shards.all().to_vec();
    for shard in &mut all {
        if let Some(parent) = parents.iter().find(|parent| parent.shard.id == shard.id) {
            shard.closed = true;
            manifest.ends.insert(shard.id.clone(), parent.end);
        }
    }
    for child in children {
        manifest.next_shard = manifest.next_shard.max(child.number + 1);
        all.push(child.shard.clone());
    }
    manifest.shards = ShardMap::new(all);
    manifest.replace(&place.ctx, &place.dir).await?;
    Ok(Closed::Done(
        children
            .iter()
            .map(|child| child.shard.id.clone())
            .collect(),
    ))
}

/// Makes a shard under the first name that nobody has taken. Another process that makes one may stand still and go on
/// later, so that no directory is ever used for two.
async fn make_child(
    place: &Place,
    range: HashRange,
    parents: &[ShardId],
    marks: &Marks,
    before: &[Child],
) -> Result<Child> {
    let disk = &*place.ctx.disk;
    let mut number = before.last().map_or(0, |child| child.number + 1);
    loop {
        number = number.max(place.manifest().await?.next_shard);
        let shard = Shard {
            id: Manifest::name_of(number),
            range,
            parents: parents.to_vec(),
            closed: false,
        };
        let dir = place.shard_dir(&shard.id);
        let made = disk.create_dir_all(&dir).await;
        made.map_err(|e| Error::io("create", &dir, e))?;
        let path = dir.join("lock");
        match disk.open(&path, Open::CreateNew).await {
            Ok(_) => {}
            // Another process makes it, or takes it for one that a dead process left.
            Err(error)
                if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) =>
            {
                number += 1;
                continue;
            }
            Err(error) => return Err(Error::io("create", &path, error)),
        }
        let Some(lock) = own(disk, &dir).await? else {
            number += 1;
            continue;
        };
        // Another process may have filled the directory, and a manifest name it, since the lock file was made.
        let names = disk.list(&dir).await;
        if names.map_err(|e| Error::io("list", &dir, e))?.len() > 1 {
            number += 1;
            continue;
        }
        let child = Child {
            number,
            shard,
            _lock: lock,
        };
        return match fill(place, &child.shard, &marks.restricted(range)).await {
            Ok(()) => Ok(child),
            Err(error) => {
                forget(place, std::slice::from_ref(&child)).await;
                Err(error)
            }
        };
    }
}

/// Takes the lock of a child that no manifest names; `None` when another process has it. Whoever has this lock, and
/// nobody else, fills or removes the directory.
async fn own(disk: &dyn Disk, dir: &Path) -> Result<Option<Box<dyn Lock>>> {
    let path = dir.join("lock");
    let lock = match disk.try_lock(&path, LockKind::Exclusive).await {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("lock", &path, error)),
    };
    // The file that was locked may have been removed meanwhile, and be another one by now.
    let stat = disk.stat(&path).await;
    let stat = stat.map_err(|e| Error::io("look at", &path, e))?;
    Ok(stat
        .is_some_and(|stat| stat.identity == lock.identity())
        .then_some(lock))
}

/// Fills the directory of a child. The lock file is durable before anything else lies there: so a directory without one
/// is empty, also after a power cut. Another process may have made the directory, and died before it was durable.
async fn fill(place: &Place, shard: &Shard, marks: &Marks) -> Result<()> {
    let disk = &*place.ctx.disk;
    for made in [place.shard_dir(&shard.id), place.shards_dir()] {
        let synced = disk.sync_dir(&made).await;
        synced.map_err(|e| Error::io("sync", &made, e))?;
    }
    make_shard(place, shard, marks).await
}

/// Removes children that no manifest will name.
async fn forget(place: &Place, children: &[Child]) {
    for child in children {
        let dir = place.shard_dir(&child.shard.id);
        if let Err(error) = remove_owned(&*place.ctx.disk, &dir).await {
            tracing::debug!(error = %error.report(), "cannot remove a shard that was not needed");
        }
    }
}

/// Removes directories of shards that no manifest will name and whose makers are dead.
async fn remove_unnamed(place: &Place, manifest: &Manifest) -> Result<()> {
    let (disk, shards) = (&*place.ctx.disk, place.shards_dir());
    let names = disk.list(&shards).await;
    for listed in names.map_err(|e| Error::io("list", &shards, e))? {
        let is_past = |number: u64| number < manifest.next_shard;
        let is_unnamed = manifest.shards.get(&ShardId::new(&listed.name)).is_none();
        if !listed.is_dir || !listed.name.parse().is_ok_and(is_past) || !is_unnamed {
            continue;
        }
        let dir = shards.join(&listed.name);
        if let Some(_lock) = own(disk, &dir).await? {
            remove_owned(disk, &dir).await?;
        }
    }
    Ok(())
}

/// Removes the directory of a child whose lock the caller has. The lock file goes last: then the name is free, and what
/// lies in the directory is of whoever took it.
async fn remove_owned(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let names = disk.list(dir).await;
    let names = names.map_err(|e| Error::io("list", dir, e))?;
    let (lock, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|n| n.name == "lock");
    for listed in others.into_iter().chain(lock) {
        let path = dir.join(&listed.name);
        let removed = disk.remove(&path).await;
        removed.map_err(|e| Error::io("remove", &path, e))?;
    }
    match disk.remove_dir(dir).await {
        Err(error)
            if !matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(Error::io("remove", dir, error))
        }
        _ => Ok(()),
    }
}
