//! What is done with bytes past the durable end: nothing there is trusted.
//!
//! An fsync over pages that an earlier, failed fsync marked clean answers that all is well without writing them. So the
//! intact frames past the durable end are *rewritten* into a new segment, with the offsets they have, and synced there;
//! a torn rest is cut. Then come the marks, then the durable end.

use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Result, error::OrCannot};

use super::shard_log::{AppendGroup, LockedShard};
use crate::local::end::intact_tail::IntactTail;
use crate::local::format::dedup_state::OriginInterval;

impl LockedShard<'_> {
    /// Rewrites or cuts what lies past the durable end.
    pub(crate) async fn recover_tail(&mut self) -> Result<()> {
        let salt = self.log.stream_dir.salt();
        let active = self.active()?;
        let known = self.known()?;
        let control = known.control;
        let end = control.durable_bytes;
        let len = active.len().await?;
        if len <= end {
            return Ok(());
        }
        let mut claims = Vec::new();
        let mut draft = None;
        let mut tail = IntactTail::new(&active, salt, control, len);
        while let Some((bytes, claim)) = tail.next().await? {
            if draft.is_none() && !mutant::is(Mutant::TailSyncedInPlace) {
                draft = Some(self.draft().await?);
            }
            if let Some(draft) = &mut draft {
                draft.append(vec![bytes]).await?;
            }
            claims.extend(claim);
        }
        let kept = tail.end.durable_bytes - end;
        let group = AppendGroup {
            parts: Vec::new(),
            bytes: kept,
            next_offset: tail.end.next_offset,
            records: tail.end.records - control.records,
            arrival: tail.end.newest_arrival,
        };
        match draft {
            Some(draft) => self.adopt(draft, Some(&group)).await?,
            // What recovery must never do.
            None if kept > 0 && mutant::is(Mutant::TailSyncedInPlace) => {
                active.file.sync().await.or_cannot("sync", &active.path)?;
                self.count(&group).await?;
            }
            None => {
                let cut = active.file.truncate(end).await;
                cut.or_cannot("cut", &active.path)?;
            }
        }
        let known = self.known()?;
        let is_counted = |_: &&OriginInterval| !mutant::is(Mutant::TailWithoutMarks);
        for claim in claims.iter().filter(is_counted) {
            known.marks.apply(claim);
        }
        self.log.metrics.recoveries.increment(1);
        tracing::warn!(
            stream = %self.log.stream_dir.stream.name,
            shard = %self.log.shard.id,
            kept_bytes = kept,
            cut_bytes = len - end - kept,
            "recovered the tail that a dead writer left"
        );
        Ok(())
    }
}
