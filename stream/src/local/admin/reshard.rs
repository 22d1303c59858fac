//! Splitting and merging shards, and replacing one whose lock is stuck.
//!
//! 1. Under the parents' locks, the parents are recovered and marked as *sealing*, durably. A parent whose lock is held
//!    by a process that does not go on is [fenced](fence) instead.
//! 2. The children's directories are made, under names that are not taken: their first segment's head holds the
//!    parents' marks, segment by segment.
//! 3. Under the manifest's lock, and if the parents are still open, the manifest is replaced: this is the moment at which
//!    it happens. It says where the parents end.
//! 4. The parents are marked as sealed.
//!
//! A process that finds a parent sealing without its reshard looks into the manifest and finishes or takes back the
//! mark. Who makes or removes a child that no manifest names holds its lock; the directories of the dead are removed by
//! the next reshard.

use std::sync::Arc;

use hydrant_core::{Error, HashRange, Result, Shard, ShardId};

use crate::local::end::closing::{CloseOutcome, Closing, Haste, close};
use crate::local::end::{fence, fence_mark};
use crate::local::format::shard_end::ShardEnd;
use crate::local::metrics;
use crate::local::stream_dir::StreamDir;
use crate::local::write::shard_log::ShardLog;

/// Closes a shard and opens two children.
pub(crate) async fn split(
    stream_dir: &Arc<StreamDir>,
    shard: &ShardId,
    at: Option<u128>,
) -> Result<Vec<ShardId>> {
    reshard(stream_dir, std::slice::from_ref(shard), |parents| {
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
pub(crate) async fn merge(
    stream_dir: &Arc<StreamDir>,
    a: &ShardId,
    b: &ShardId,
) -> Result<ShardId> {
    let children = reshard(stream_dir, &[a.clone(), b.clone()], |parents| {
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
    stream_dir: &Arc<StreamDir>,
    parents: &[ShardId],
    ranges: impl FnOnce(&[Shard]) -> Result<Vec<HashRange>>,
) -> Result<Vec<ShardId>> {
    let manifest = stream_dir.manifest().await?;
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
    let mut logs: Vec<ShardLog> = shards
        .iter()
        .map(|s| ShardLog::new(stream_dir, s))
        .collect();
    let (mut held, mut stuck, mut closing) = (Vec::new(), Vec::new(), Vec::new());
    for log in &mut logs {
        let shard = log.shard.clone();
        match log.take_or_leave().await? {
            Some(mut parent) => {
                parent.refuse_if_sealed()?;
                parent
                    .set_control(true, |control| control.sealing = true)
                    .await?;
                let known = parent.known()?;
                closing.push(Closing {
                    shard,
                    end: ShardEnd::at(&known.control, known.base),
                    marks: known.marks.clone(),
                });
                held.push(parent);
            }
            None => {
                fence_mark::create(stream_dir, &shard.id).await?;
                closing.push(fence::find_end(stream_dir, &shard).await?);
                stuck.push(shard.id);
            }
        }
    }
    let children = match close(stream_dir, &closing, &ranges, Haste::Waits).await? {
        CloseOutcome::Done(children) => children,
        CloseOutcome::ByOthers | CloseOutcome::Busy => {
            let manifest = stream_dir.manifest().await?;
            let closed = parents
                .iter()
                .find(|id| manifest.shard(id).is_ok_and(|s| s.closed));
            let shard = closed.unwrap_or(&parents[0]).clone();
            return Err(Error::Sealed { shard });
        }
    };
    for shard in &stuck {
        metrics::fenced(&stream_dir.stream.name, shard);
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
