//! Splitting and merging shards.
//!
//! 1. Under the manifest's lock and the parents' locks, the parents are recovered and marked as *sealing*, durably.
//! 2. The children's directories are made: their first segment's head holds the parents' marks, segment by segment.
//! 3. The manifest is replaced: this is the moment at which it happens.
//! 4. The parents are marked as sealed.
//!
//! Whoever finds a parent sealing without its reshard looks into the manifest and finishes or takes back the mark. The
//! directories of children that no manifest names are made anew by the next reshard, which gives out the same names.

use std::sync::Arc;

use hydrant_core::{Error, HashRange, Result, Shard, ShardId, ShardMap};

use super::create::make_shard;
use super::manifest::{self, Manifest};
use super::place::Place;
use super::segment::MARKS_BYTES_MAX;
use super::shard_log::ShardLog;

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
    let _manifest = manifest::lock(&place.ctx, &place.dir).await?;
    let mut manifest = Manifest::clone(&*place.manifest().await?);
    let mut closing = Vec::new();
    for id in parents {
        let shard = manifest.shard(id)?;
        if shard.closed {
            return Err(Error::Sealed { shard: id.clone() });
        }
        closing.push(shard.clone());
    }
    let ranges = ranges(&closing)?;
    let mut logs: Vec<ShardLog> = closing.iter().map(|s| ShardLog::new(place, s)).collect();
    let mut held = Vec::new();
    for log in &mut logs {
        held.push(log.take().await?);
    }
    let mut marks = None;
    for parent in &mut held {
        parent.refuse_if_sealed()?;
        parent
            .set_control(true, |control| control.sealing = true)
            .await?;
        let its = parent.known()?.marks.clone();
        marks = match marks {
            None => Some(its),
            Some(before) => its.concatenated(&before),
        };
    }
    let marks = marks.ok_or_else(|| Error::fatal("the marks of two shards do not meet"))?;
    if marks.stored_bytes() > u64::from(MARKS_BYTES_MAX) {
        return Err(Error::refused(format!(
            "the shards know {} origins together, more than one can hold: leave them apart",
            marks.len()
        )));
    }
    let mut children = Vec::new();
    for range in ranges {
        let child = Shard {
            id: manifest.name_shard(),
            range,
            parents: parents.to_vec(),
            closed: false,
        };
        make_shard(place, &child, &marks.restricted(range)).await?;
        children.push(child);
    }
    let mut all = manifest.shards.all().to_vec();
    for shard in &mut all {
        shard.closed |= parents.contains(&shard.id);
    }
    let names = children.iter().map(|child| child.id.clone()).collect();
    all.extend(children);
    manifest.shards = ShardMap::new(all);
    manifest.replace(&place.ctx, &place.dir).await?;
    for parent in &mut held {
        let sealed = parent
            .set_control(true, |control| control.sealed = true)
            .await;
        if let Err(error) = sealed {
            // It has happened; the mark is set by whoever comes next.
            tracing::warn!(error = %error.report(), "cannot mark a closed shard as sealed");
        }
    }
    Ok(names)
}
