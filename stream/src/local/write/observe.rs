//! Looking at a shard without appending to it.
//!
//! A process that opens a stream or reads it makes good what a dead writer or a power cut left, and completes the
//! [fence](crate::local::end::fence) of a dead process: there may never be another append, and what was acknowledged must be read all the
//! same. It never waits for a lock: a lock that is held is held by a living process, and what the control file says is
//! durable may be read meanwhile. Nor does it need the right to take one.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use hydrant_core::disk::{Disk, LockKind};
use hydrant_core::{Error, Result, Shard};

use super::shard_log::ShardLog;
use crate::local::end::durable_end::{Durable, durable};
use crate::local::end::fence::decided;
use crate::local::format::control::{ControlFile, ControlSlot};
use crate::local::format::segment;
use crate::local::stream_dir::StreamDir;

/// What may be said of a shard's durable end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// All that was acknowledged lies before it.
    Recovered,
    /// What lies past it is not made good, and this process may not do it.
    Unrecovered,
    /// A living process holds the lock, and may be about to find more of what a dead one left.
    Busy,
}

/// Finds the durable end and makes good what lies past it. `needs_recovery` says what else has to be made good.
pub(crate) async fn observe(
    stream_dir: &Arc<StreamDir>,
    shard: &Shard,
    file: &ControlFile,
    needs_recovery: impl Fn(&ControlSlot) -> bool,
) -> Result<(Durable, Sight)> {
    let disk = &*stream_dir.ctx.disk;
    let dir = stream_dir.shard_dir(&shard.id);
    let found = decided(stream_dir, shard, file).await?;
    if found.is_undecided {
        return Ok((found, Sight::Busy));
    }
    let is_sound = async |control: Option<ControlSlot>| match control {
        Some(control) if !needs_recovery(&control) => Ok(!has_tail(disk, &dir, &control).await?),
        _ => Ok::<bool, Error>(false),
    };
    if found.end.is_some() || is_sound(found.control).await? {
        return Ok((found, Sight::Recovered));
    }
    let path = dir.join("lock");
    let sight = match disk.try_lock(&path, LockKind::Exclusive).await {
        Ok(Some(lock)) => {
            // A living writer was between its write and the control file, and is done.
            if !is_sound(file.read().await?).await? {
                match ShardLog::new(stream_dir, shard).take_under(lock).await {
                    Ok(_) | Err(Error::Sealed { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Sight::Recovered
        }
        Ok(None) => Sight::Busy,
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Sight::Unrecovered,
            _ => return Err(stream_dir.failed("lock", &path, error)),
        },
    };
    Ok((durable(stream_dir, shard, file).await?, sight))
}

/// Whether there is something past the durable end: another process appends now, or died; or a power cut has taken back
/// what the control file said of frames that are durable.
async fn has_tail(disk: &dyn Disk, dir: &Path, control: &ControlSlot) -> Result<bool> {
    let segments = segment::list(disk, dir).await?;
    Ok(match segments.last() {
        Some(newest) if newest.number == control.active => newest.len > control.durable_bytes,
        Some(newest) => newest.number > control.active,
        None => true,
    })
}
