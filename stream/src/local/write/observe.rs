//! Looking at a shard without appending to it.
//!
//! A process that opens a stream or reads it makes good what a dead writer or a power cut left, and completes the
//! [fence](crate::local::end::fence) of a dead process: there may never be another append, and what was acknowledged must be read all the
//! same. It never waits for a lock: a lock that is held is held by a living process, and what the control file says is
//! durable may be read meanwhile. Nor does it need the right to take one.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use hydrant_core::disk::{Disk, Lock, LockKind, Open};
use hydrant_core::{Error, Result, Shard};

use super::shard_log::ShardLog;
use crate::local::end::durable_end::{Durable, durable};
use crate::local::end::fence::decided;
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::segment::{self, FrameWalk, Segment};
use crate::local::format::shard_end::ShardEnd;
use crate::local::format::skips::Skips;
use crate::local::stream_dir::StreamDir;

/// What is known of a shard's end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ShardObservation {
    /// All that was acknowledged lies before the durable end. `None`: no slot of the control file is intact.
    Settled(Option<ControlSlot>),
    /// What lies past the durable end is not made good, and this process may not do it.
    Unrecovered(Option<ControlSlot>),
    /// A living process holds the lock, and may be about to find more of what a dead one left. `None` too when it is
    /// being decided where a fenced shard ends.
    Busy(Option<ControlSlot>),
    /// The shard is closed and ends there.
    Ended(ControlSlot, ShardEnd),
}

/// What was found of the shard's lock.
enum Try {
    Free(Box<dyn Lock>),
    Taken,
    Forbidden,
}

/// Reads the control file and makes good what lies past its durable end. `unsettled` says what else has to be made good.
pub(crate) async fn observe(
    place: &Arc<StreamDir>,
    shard: &Shard,
    file: &ControlFile,
    unsettled: impl Fn(&ControlSlot) -> bool,
) -> Result<ShardObservation> {
    let disk = &*place.ctx.disk;
    let dir = place.shard_dir(&shard.id);
    let control = match decided(place, shard, file).await? {
        Durable::Moving(control) => control,
        Durable::Final(control, end) => return Ok(ShardObservation::Ended(control, end)),
        Durable::Undecided => return Ok(ShardObservation::Busy(None)),
    };
    let is_sound = async |control: Option<ControlSlot>| match control {
        Some(control) if !unsettled(&control) => Ok(!has_tail(disk, &dir, &control).await?),
        _ => Ok::<bool, Error>(false),
    };
    if is_sound(control).await? {
        return Ok(ShardObservation::Settled(control));
    }
    let lock = match try_lock(place, &dir).await? {
        Try::Free(lock) => lock,
        Try::Taken => return again(place, shard, file, ShardObservation::Busy).await,
        Try::Forbidden => return again(place, shard, file, ShardObservation::Unrecovered).await,
    };
    // A living writer was between its write and the control file, and is done.
    let control = file.read().await?;
    if !is_sound(control).await? {
        match ShardLog::new(place, shard).take_under(lock).await {
            Ok(held) => drop(held),
            Err(Error::Sealed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    again(place, shard, file, ShardObservation::Settled).await
}

/// Reads once more what is durable.
async fn again(
    place: &Arc<StreamDir>,
    shard: &Shard,
    file: &ControlFile,
    seen: impl Fn(Option<ControlSlot>) -> ShardObservation,
) -> Result<ShardObservation> {
    Ok(match durable(place, shard, file).await? {
        Durable::Moving(control) => seen(control),
        Durable::Final(control, end) => ShardObservation::Ended(control, end),
        Durable::Undecided => ShardObservation::Busy(None),
    })
}

/// Whether there is something past the durable end: another process appends now, or died; or a power cut has taken back
/// what the control file said of frames that are durable.
async fn has_tail(disk: &dyn Disk, dir: &Path, control: &ControlSlot) -> Result<bool> {
    let segments = segment::list(disk, dir).await?;
    Ok(match segments.last() {
        Some(newest) if newest.number == control.active => newest.len > control.durable_bytes,
        Some(newest) => newest.number > control.active,
        None => !control.sealed,
    })
}

async fn try_lock(place: &StreamDir, dir: &Path) -> Result<Try> {
    let path = dir.join("lock");
    match place.ctx.disk.try_lock(&path, LockKind::Exclusive).await {
        Ok(Some(lock)) => Ok(Try::Free(lock)),
        Ok(None) => Ok(Try::Taken),
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Ok(Try::Forbidden),
            ErrorKind::NotFound => Err(place.gone()),
            _ => Err(Error::io("lock", &path, error)),
        },
    }
}

/// The control file as if everything written were durable; only a mutant asks for it.
pub(crate) async fn written(
    place: &StreamDir,
    dir: &Path,
    mut control: ControlSlot,
) -> Result<ControlSlot> {
    let disk = &*place.ctx.disk;
    let segments = segment::list(disk, dir).await?;
    let Some(newest) = segments.last().filter(|s| s.number == control.active) else {
        return Ok(control);
    };
    let (number, base) = (newest.number, newest.base);
    let Some(segment) = Segment::open(disk, dir, number, base, Open::Read).await? else {
        return Ok(control);
    };
    let none = Skips::default();
    let from = control.durable_bytes;
    let mut walk = FrameWalk::new(&segment, place.salt(), from, newest.len, &none);
    while let Some(Ok((_, header))) = walk.next().await? {
        control.durable_bytes = walk.at();
        control.next_offset = header.next_offset();
    }
    Ok(control)
}
