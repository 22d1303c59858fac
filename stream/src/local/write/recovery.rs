//! What is done with bytes past the durable end: nothing there is trusted.
//!
//! An fsync over pages that an earlier, failed fsync marked clean answers that all is well without writing them. So the
//! intact frames past the durable end are *rewritten* into a new segment, with the offsets they have, and synced there;
//! a torn rest is cut. Then come the marks, then the durable end.

use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Error, Result};

use super::shard_log::{AppendGroup, LockedShard};
use crate::local::format::dedup_state::OriginInterval;
use crate::local::format::frame::intact;
use crate::local::format::segment::FrameWalk;
use crate::local::format::skips::Skips;

impl LockedShard<'_> {
    /// Rewrites or cuts what lies past the durable end.
    pub(crate) async fn recover_tail(&mut self) -> Result<()> {
        let salt = self.log.place.salt();
        let active = self.active()?;
        let known = self.known()?;
        let end = known.control.durable_bytes;
        let len = active.file.len().await;
        let len = len.map_err(|e| Error::io("read", &active.path, e))?;
        if len <= end {
            return Ok(());
        }
        let mut group = AppendGroup {
            next_offset: known.control.next_offset,
            arrival: known.control.newest_arrival,
            ..AppendGroup::default()
        };
        let mut claims = Vec::new();
        let mut draft = None;
        let none = Skips::default();
        let mut walk = FrameWalk::new(&active, salt, end, len, &none);
        while let Some(Ok((at, header))) = walk.next().await? {
            if header.base != group.next_offset {
                break;
            }
            let bytes = active.read(at, header.frame_len() as usize).await?;
            let Some(entry) = intact(&header, &bytes) else {
                break;
            };
            if draft.is_none() && !mutant::is(Mutant::TailSyncedInPlace) {
                draft = Some(self.draft().await?);
            }
            if let Some(draft) = &mut draft {
                draft.append(vec![bytes]).await?;
            }
            claims.extend(entry.as_ref().map(OriginInterval::from));
            group.bytes += header.frame_len();
            group.next_offset = header.next_offset();
            group.records += u64::from(header.records);
            group.arrival = header.arrival;
        }
        let kept = group.bytes;
        match draft {
            Some(draft) => self.adopt(draft, Some(&group)).await?,
            // What recovery must never do.
            None if kept > 0 && mutant::is(Mutant::TailSyncedInPlace) => {
                let synced = active.file.sync().await;
                synced.map_err(|e| Error::io("sync", &active.path, e))?;
                self.count(&group).await?;
            }
            None => {
                let cut = active.file.truncate(end).await;
                cut.map_err(|e| Error::io("cut", &active.path, e))?;
            }
        }
        let known = self.known()?;
        let is_counted = |_: &&OriginInterval| !mutant::is(Mutant::TailWithoutMarks);
        for claim in claims.iter().filter(is_counted) {
            known.marks.apply(claim);
        }
        self.log.metrics.recovered();
        tracing::warn!(
            stream = %self.log.place.stream.name,
            shard = %self.log.shard.id,
            kept_bytes = kept,
            cut_bytes = len - end - kept,
            "recovered the tail that a dead writer left"
        );
        Ok(())
    }
}
