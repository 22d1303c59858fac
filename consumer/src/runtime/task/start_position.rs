//! Decides where a claim begins: where the output says, else where the ledger says, else at the start position.
//!
//! The ledger counts only for an output that does not track progress, and only progress that was written for this
//! very output. If the output tracks progress but has none for this shard, the ledger is ignored, except for the
//! `latest` position that was captured at the first start.
//!
//! **The pin.** A stage whose output depends on a policy works under the policy's digest. The ledger holds the digest
//! from before the first output under that policy until a clean stop, when everything that may lie in the output is
//! confirmed and in the ledger. Then the pin is removed. So a ledger without a pin may continue under any policy,
//! from its `to` on. A ledger with a pin may continue only under that policy: another worker may have put unconfirmed
//! records past `to` into the output, and the output drops them when they are sent again, whatever another policy
//! would make of them. An output that reports the progress itself ([`Stage::resume`](hydrant_core::stage::Stage::resume)) holds nothing past it, so it
//! needs no pin.
//!
//! The pin is removed, too, when the task fails for good or gives the claim back after a failed attempt, if the output
//! holds nothing that is unconfirmed: the remedy may be other rules.
//!
//! A successor cannot know how far its predecessor got, only that it did not get past the tip at the takeover. Once the
//! successor has confirmed everything up to that tip, it can stop cleanly. Where the stream does not know its tip, the
//! reader has passed it once it has reported that nothing is left.

use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Pin, Progress};
use hydrant_core::stream::Start;

use super::shard_task::ShardTask;
use super::unconfirmed::Unconfirmed;
use crate::runtime::leases::lineage;

impl ShardTask {
    /// Finds the start position, and stores it before the first output if a restart could not find it again.
    pub(super) async fn begin(&mut self) -> Result<Progress> {
        let resumed = self.shared.spec.stage.resume(&self.claim.shard).await?;
        let in_ledger = self.claim.ledger.read().await?;
        let (mut progress, unconfirmed) = self.start_point(resumed, in_ledger.clone()).await?;
        if self.unconfirmed == Unconfirmed::Unknown {
            // Of an earlier attempt this task knows itself what it sent.
            self.unconfirmed = unconfirmed;
        }
        if progress.to < self.min_position {
            // No source says what the reader had seen there.
            progress.to = self.min_position;
            progress.marks.clear();
            progress.arrival = None;
        }
        let nothing = self.shared.output.sign(Progress::default());
        let unsaid = in_ledger.is_none() && progress == nothing;
        if !unsaid && in_ledger.as_ref() != Some(&progress) {
            self.claim.ledger.write(&progress).await?;
        }
        Ok(progress)
    }

    /// Decides where the claim begins, from the output, the ledger and the stream, in this order. Returns the progress to
    /// begin after, with the pin that the ledger must hold from now on, and what the output may hold unconfirmed.
    async fn start_point(
        &self,
        resumed: Option<Progress>,
        in_ledger: Option<Progress>,
    ) -> Result<(Progress, Unconfirmed)> {
        let (spec, output, shard) = (&self.shared.spec, &self.shared.output, &self.claim.shard);
        let known = in_ledger.filter(|known| output.owns(known));
        if resumed.is_some() || output.keeps_progress() {
            let progress = match (resumed, known) {
                (Some(mut resumed), known) => {
                    let start = known.as_ref().and_then(|known| known.start);
                    // What the ledger holds of the same place, the output need not keep as well.
                    let same = known.filter(|known| known.to == resumed.to);
                    let same = same.unwrap_or_default();
                    if resumed.marks.is_empty() {
                        resumed.marks = same.marks;
                    }
                    Progress {
                        pin: None,
                        start,
                        began: resumed.began.or(same.began),
                        arrival: same.arrival,
                        ..resumed
                    }
                }
                (None, Some(known)) if spec.start == Start::Latest => Progress {
                    began: known.began,
                    ..Progress::starting(known.start.unwrap_or_default())
                },
                (None, _) => self.start_of_app().await?,
            };
            return Ok((output.sign(progress), Unconfirmed::NOTHING));
        }
        let progress = match known {
            Some(known) => known,
            None => self.start_of_app().await?,
        };
        let mut progress = output.sign(progress);
        let mut unconfirmed = Unconfirmed::NOTHING;
        progress.pin = match (progress.pin.take(), spec.pin.as_deref()) {
            (None, None) => None,
            (None, Some(digest)) => Some(Pin {
                digest: digest.to_owned(),
                after: progress.to,
            }),
            (Some(pinned), Some(digest)) if pinned.digest == digest => {
                let tip = spec.stream.state(&shard.id).await?.tip;
                unconfirmed = tip.map_or(Unconfirmed::UntilIdle, Unconfirmed::Through);
                Some(pinned)
            }
            (Some(pinned), _) => return Err(self.refusal(&pinned)),
        };
        debug_assert!(
            progress
                .pin
                .as_ref()
                .is_none_or(|pin| pin.after <= progress.to),
            "progress does not fall behind its pin"
        );
        Ok((progress, unconfirmed))
    }

    /// Returns the progress of an app that starts in the shard now.
    async fn start_of_app(&self) -> Result<Progress> {
        let spec = &self.shared.spec;
        match lineage::start_in(spec.start, self.created_after_start) {
            Some(start) => spec.stream.start(&self.claim.shard.id, start).await,
            None => Ok(Progress::default()),
        }
    }

    fn refusal(&self, pinned: &Pin) -> Error {
        let (spec, shard) = (&self.shared.spec, &self.claim.shard.id);
        Error::refused(format!(
            "app `{}` worked on shard `{shard}` under other rules (policy, or filters and `--on-poison`: digest `{}`, now \
             {}) and did not stop cleanly: start it once more with the former rules (and, after an upgrade, the former \
             version of Hydrant), let it catch up and stop it with SIGTERM, then change them. If it cannot catch up, send \
             all records again, as new ones, with `{}`",
            spec.app,
            pinned.digest,
            match &spec.pin {
                Some(digest) => format!("`{digest}`"),
                None => "none".to_owned(),
            },
            self.reprocess(),
        ))
    }
}
