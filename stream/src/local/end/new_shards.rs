//! The directories of new shards: how they are made, and removed when no manifest names them.

use std::io::ErrorKind;
use std::path::Path;

use hydrant_core::disk::{Disk, Lock, LockKind, Open};
use hydrant_core::error::OrCannot;
use hydrant_core::{Error, HashRange, Result, Shard, ShardId};

use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::dedup_state::DedupState;
use crate::local::format::manifest::Manifest;
use crate::local::format::segment::Head;
use crate::local::format::segment_draft::Draft;
use crate::local::stream_dir::StreamDir;

/// A child that no manifest names yet.
#[derive(Debug)]
pub(crate) struct ChildShard {
    pub(crate) number: u64,
    pub(crate) shard: Shard,
    /// Says that its maker lives.
    _lock: Box<dyn Lock>,
}

/// Fills the empty directory of a shard that is in no manifest yet, durably.
pub(crate) async fn make_shard(
    stream_dir: &StreamDir,
    shard: &Shard,
    marks: &DedupState,
) -> Result<()> {
    let disk = &*stream_dir.ctx.disk;
    let dir = stream_dir.shard_dir(&shard.id);
    let mut head = Head {
        incarnation: stream_dir.incarnation,
        number: 1,
        ..Head::default()
    };
    let bytes = head.encode(marks);
    let control = ControlSlot {
        counter: 1,
        incarnation: stream_dir.incarnation,
        active: 1,
        durable_bytes: head.len,
        ..ControlSlot::default()
    };
    let draft = Draft::begin(&stream_dir.ctx, &dir, head, bytes).await?;
    draft.publish().await?;
    ControlFile::create(disk, &dir, &control).await?;
    disk.sync_dir(&dir).await.or_cannot("sync", &dir)
}

/// Makes a shard under the first name that is not taken. Another process that makes one may stand still and go on
/// later, so that no directory is ever used for two.
pub(crate) async fn make_child(
    stream_dir: &StreamDir,
    range: HashRange,
    parents: &[ShardId],
    marks: &DedupState,
    before: &[ChildShard],
) -> Result<ChildShard> {
    let disk = &*stream_dir.ctx.disk;
    let mut number = before.last().map_or(0, |child| child.number + 1);
    loop {
        number = number.max(stream_dir.manifest().await?.next_shard);
        let shard = Shard {
            id: Manifest::name_of(number),
            range,
            parents: parents.to_vec(),
            closed: false,
        };
        let dir = stream_dir.shard_dir(&shard.id);
        disk.create_dir_all(&dir).await.or_cannot("create", &dir)?;
        let path = dir.join("lock");
        let lock = match disk.open(&path, Open::CreateNew).await {
            Ok(_) => own(disk, &dir).await?,
            Err(error) => match error.kind() {
                // Another process makes it, or takes it for one that a dead process left.
                ErrorKind::AlreadyExists | ErrorKind::NotFound => None,
                _ => return Err(Error::io("create", &path, error)),
            },
        };
        // Another process may have filled the directory, and a manifest name it, since the lock file was made.
        let lock = match lock {
            Some(lock) if disk.list(&dir).await.or_cannot("list", &dir)?.len() <= 1 => lock,
            _ => {
                number += 1;
                continue;
            }
        };
        let child = ChildShard {
            number,
            shard,
            _lock: lock,
        };
        return match fill(stream_dir, &child.shard, &marks.restricted(range)).await {
            Ok(()) => Ok(child),
            Err(error) => {
                forget(stream_dir, std::slice::from_ref(&child)).await;
                Err(error)
            }
        };
    }
}

/// Takes the lock of a child that no manifest names; `None` when another process has it. Only the process that holds
/// this lock fills or removes the directory.
async fn own(disk: &dyn Disk, dir: &Path) -> Result<Option<Box<dyn Lock>>> {
    let path = dir.join("lock");
    let lock = match disk.try_lock(&path, LockKind::Exclusive).await {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("lock", &path, error)),
    };
    // The file that was locked may have been removed meanwhile, and be another one by now.
    let stat = disk.stat(&path).await.or_cannot("look at", &path)?;
    Ok(stat
        .is_some_and(|stat| stat.identity == lock.identity())
        .then_some(lock))
}

/// Fills the directory of a child. The lock file is durable before anything else lies there: so a directory without one
/// is empty, also after a power cut. Another process may have made the directory, and died before it was durable.
async fn fill(stream_dir: &StreamDir, shard: &Shard, marks: &DedupState) -> Result<()> {
    let disk = &*stream_dir.ctx.disk;
    for made in [stream_dir.shard_dir(&shard.id), stream_dir.shards_dir()] {
        disk.sync_dir(&made).await.or_cannot("sync", &made)?;
    }
    make_shard(stream_dir, shard, marks).await
}

/// Removes children that no manifest will name.
pub(crate) async fn forget(stream_dir: &StreamDir, children: &[ChildShard]) {
    for child in children {
        let dir = stream_dir.shard_dir(&child.shard.id);
        if let Err(error) = remove_owned(&*stream_dir.ctx.disk, &dir).await {
            tracing::debug!(error = %error.report(), "cannot remove a shard that was not needed");
        }
    }
}

/// Removes directories of shards that no manifest will name and whose makers are dead.
pub(crate) async fn remove_unnamed(stream_dir: &StreamDir, manifest: &Manifest) -> Result<()> {
    let (disk, shards) = (&*stream_dir.ctx.disk, stream_dir.shards_dir());
    for listed in disk.list(&shards).await.or_cannot("list", &shards)? {
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
/// lies in the directory belongs to the process that took it.
async fn remove_owned(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let names = disk.list(dir).await.or_cannot("list", dir)?;
    let (lock, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|n| n.name == "lock");
    for listed in others.into_iter().chain(lock) {
        let path = dir.join(&listed.name);
        disk.remove(&path).await.or_cannot("remove", &path)?;
    }
    use ErrorKind::{DirectoryNotEmpty, NotFound};
    match disk.remove_dir(dir).await {
        Err(error) if matches!(error.kind(), NotFound | DirectoryNotEmpty) => Ok(()),
        removed => removed.or_cannot("remove", dir),
    }
}
