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
//! mark. Who makes a child holds its lock; the directories of the dead are removed by the next reshard.

use std::io::ErrorKind;
use std::sync::Arc;

use hydrant_core::disk::{Lock, LockKind, Open};
use hydrant_core::{Error, HashRange, Result, Shard, ShardId, ShardMap};

use super::create::{make_shard, remove_tree};
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
    if let Ok(Closed::ByOthers | Closed::Busy) = &closed {
        forget(place, &children).await;
    }
    closed
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
        let lock = match disk.try_lock(&path, LockKind::Exclusive).await {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                number += 1;
                continue;
            }
            // It was taken for one that a dead process left, and removed.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                number += 1;
                continue;
            }
            Err(error) => return Err(Error::io("lock", &path, error)),
        };
        // Before anything else lies there: so a directory without the lock is empty, also after a power cut. Another
        // process may have made it, and died before it was durable.
        for made in [&dir, &place.dir.join("shards")] {
            let synced = disk.sync_dir(made).await;
            synced.map_err(|e| Error::io("sync", made, e))?;
        }
        let child = Child {
            number,
            shard,
            _lock: lock,
        };
        return match make_shard(place, &child.shard, &marks.restricted(range)).await {
            Ok(()) => Ok(child),
            Err(error) => {
                forget(place, std::slice::from_ref(&child)).await;
                Err(error)
            }
        };
    }
}

/// Removes children that no manifest will name.
async fn forget(place: &Place, children: &[Child]) {
    for child in children {
        let dir = place.shard_dir(&child.shard.id);
        if let Err(error) = remove_tree(&*place.ctx.disk, &dir).await {
            tracing::debug!(error = %error.report(), "cannot remove a shard that was not needed");
        }
    }
}

/// Removes directories of shards that no manifest will name and whose makers are dead.
async fn remove_unnamed(place: &Place, manifest: &Manifest) -> Result<()> {
    let (disk, shards) = (&*place.ctx.disk, place.dir.join("shards"));
    let names = disk.list(&shards).await;
    for listed in names.map_err(|e| Error::io("list", &shards, e))? {
        let is_past = |number: u64| number < manifest.next_shard;
        let is_unnamed = manifest.shards.get(&ShardId::new(&listed.name)).is_none();
        if !listed.is_dir || !listed.name.parse().is_ok_and(is_past) || !is_unnamed {
            continue;
        }
        let (dir, path) = (
            shards.join(&listed.name),
            shards.join(&listed.name).join("lock"),
        );
        let lock = disk.try_lock(&path, LockKind::Exclusive).await;
        if lock.map_err(|e| Error::io("lock", &path, e))?.is_some() {
            remove_tree(disk, &dir).await?;
        }
    }
    Ok(())
}
