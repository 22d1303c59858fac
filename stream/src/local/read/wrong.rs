//! Broken variants of the reader, which the tests must detect. Without the feature `mutants` nothing here does anything.

use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Result, Shard};

use super::seek::{OpenedShard, ShardSource};
use crate::local::end::intact_tail::IntactTail;
use crate::local::format::control::ControlSlot;
use crate::local::format::segment;
use crate::local::stream_dir::StreamDir;

/// Ends a shard where it ended when it was looked at last, or at the end of what is written.
pub(super) async fn seen(
    source: &ShardSource,
    before: &OpenedShard,
    control: ControlSlot,
    has_ended: bool,
) -> Result<ControlSlot> {
    if mutant::is(Mutant::EndedOnStaleControl) && has_ended {
        return Ok(ControlSlot {
            sealed: true,
            ..before.control
        });
    }
    match mutant::is(Mutant::ReadersPastDurableEnd) {
        true => written(&source.stream_dir, &source.shard, control).await,
        false => Ok(control),
    }
}

/// The control file as if everything written were durable.
async fn written(
    stream_dir: &StreamDir,
    shard: &Shard,
    mut control: ControlSlot,
) -> Result<ControlSlot> {
    let segments = stream_dir.segments(&shard.id, None).await?;
    let Some(newest) = segments.last().filter(|s| s.number == control.active) else {
        return Ok(control);
    };
    let opened = stream_dir.segment(&shard.id, newest.number, newest.base);
    let Some(segment) = opened.await? else {
        return Ok(control);
    };
    let mut tail = IntactTail::new(&segment, stream_dir.salt(), control, newest.len);
    while tail.next().await?.is_some() {
        control = tail.end;
    }
    Ok(control)
}

/// Resolves when something is written, durable or not; never where readers are right.
pub(super) async fn writes(source: &ShardSource, opened: &OpenedShard) {
    if mutant::is(Mutant::ReadersPastDurableEnd)
        && let Some(at) = &opened.cursor
    {
        let path = source.dir.join(segment::name(at.number, at.base));
        if let Ok(mut segment) = source.stream_dir.ctx.disk.watch(&path).await {
            return segment.changed().await;
        }
    }
    std::future::pending().await
}
