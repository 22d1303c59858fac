//! Closing shards for good: their children are made, and the manifest replaced by one that names them.

use std::sync::Arc;

use hydrant_core::{Error, HashRange, Result, Shard, ShardId, ShardMap};

use super::new_shards::{ChildShard, forget, make_child, remove_unnamed};
use crate::local::format::dedup_state::DedupState;
use crate::local::format::manifest::{self, Manifest};
use crate::local::format::segment::MARKS_BYTES_MAX;
use crate::local::format::shard_end::ShardEnd;
use crate::local::stream_dir::StreamDir;

/// Whether a process that finds a mark without an end waits for the manifest's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// It waits.
    Waits,
    /// It only looks, and continues without an answer.
    Looks,
}

/// A shard that is about to be closed.
#[derive(Debug)]
pub(crate) struct Closing {
    /// The shard.
    pub(crate) shard: Shard,
    /// Where it ends.
    pub(crate) end: ShardEnd,
    /// What it knows there.
    pub(crate) marks: DedupState,
}

/// What became of closing shards.
#[derive(Debug)]
pub(crate) enum CloseOutcome {
    /// These took over.
    Done(Vec<ShardId>),
    /// Another process has closed one of them meanwhile.
    ByOthers,
    /// Another process replaces the manifest just now.
    Busy,
}

/// Makes children of these ranges and replaces the manifest, if the parents are still open.
pub(crate) async fn close(
    stream_dir: &Arc<StreamDir>,
    parents: &[Closing],
    ranges: &[HashRange],
    haste: Haste,
) -> Result<CloseOutcome> {
    let parts = parents.iter().map(|parent| Some(parent.marks.clone()));
    let marks = parts.reduce(|before, marks| marks?.concatenated(&before?));
    let marks = marks
        .flatten()
        .ok_or_else(|| Error::fatal("the marks of two shards do not meet"))?;
    if marks.stored_bytes() > u64::from(MARKS_BYTES_MAX) {
        return Err(Error::refused(format!(
            "the two shards track {} origins together, more than one shard can hold: do not merge them",
            marks.len()
        )));
    }
    let ids: Vec<ShardId> = parents.iter().map(|one| one.shard.id.clone()).collect();
    let mut children = Vec::new();
    for range in ranges {
        match make_child(stream_dir, *range, &ids, &marks, &children).await {
            Ok(child) => children.push(child),
            Err(error) => {
                forget(stream_dir, &children).await;
                return Err(error);
            }
        }
    }
    let closed = name(stream_dir, parents, &children, haste).await;
    let may_be_named = match &closed {
        Ok(CloseOutcome::Done(_)) => true,
        Ok(CloseOutcome::ByOthers | CloseOutcome::Busy) => false,
        Err(_) => may_be_named(stream_dir, &children).await,
    };
    if !may_be_named {
        forget(stream_dir, &children).await;
    }
    closed
}

/// Whether a manifest names children after an error of the only call that does: it may have been replaced all the same.
async fn may_be_named(stream_dir: &StreamDir, children: &[ChildShard]) -> bool {
    match Manifest::read(&stream_dir.ctx, &stream_dir.dir).await {
        Ok(Some(now)) => children
            .iter()
            .any(|c| now.shards.get(&c.shard.id).is_some()),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Replaces the manifest by one that names the children.
async fn name(
    stream_dir: &StreamDir,
    parents: &[Closing],
    children: &[ChildShard],
    haste: Haste,
) -> Result<CloseOutcome> {
    let _manifest = match haste {
        Haste::Waits => manifest::lock(&stream_dir.ctx, &stream_dir.dir).await?,
        Haste::Looks => match manifest::try_lock(&stream_dir.ctx, &stream_dir.dir).await? {
            Some(lock) => lock,
            None => return Ok(CloseOutcome::Busy),
        },
    };
    let mut manifest = Manifest::clone(&*stream_dir.manifest().await?);
    for parent in parents {
        if manifest.shard(&parent.shard.id)?.closed {
            return Ok(CloseOutcome::ByOthers);
        }
    }
    if let Err(error) = remove_unnamed(stream_dir, &manifest).await {
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
    manifest.replace(&stream_dir.ctx, &stream_dir.dir).await?;
    let names = children.iter().map(|child| child.shard.id.clone());
    Ok(CloseOutcome::Done(names.collect()))
}
