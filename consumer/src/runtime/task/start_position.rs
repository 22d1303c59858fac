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
//! would make of them. An output that reports the progress itself ([`Stage::resume`]) holds nothing past it, so it
//! needs no pin.
//!
//! A successor cannot know how far its predecessor got, only that it did not pass the tip at the take-over. From
//! there on it can stop cleanly. Where the stream does not know its tip, the reader has passed it once it has reported that
//! nothing is left.

use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Pin, Progress};
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId};
use hydrant_core::stage::Stage;
use hydrant_core::stream::{SharedStream, Start};
use hydrant_core::subscription::Ledger;

use crate::runtime::leases::lineage;
use crate::runtime::output_identity::OutputIdentity;

/// Up to where the output may hold unconfirmed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unconfirmed {
    /// Up to this position.
    Through(Position),
    /// Up to the tip at the take-over, which the stream does not know.
    UntilIdle,
}

impl Default for Unconfirmed {
    fn default() -> Self {
        Unconfirmed::Through(Position::Begin)
    }
}

impl Unconfirmed {
    /// The reader has read up to `position` and nothing is left.
    pub(crate) fn end_at(&mut self, position: Position) {
        if *self == Unconfirmed::UntilIdle {
            *self = Unconfirmed::Through(position);
        }
    }

    /// Whether everything is confirmed once everything up to `published` is. An ended shard holds nothing more.
    pub(crate) fn is_within(self, published: Position) -> bool {
        match self {
            Unconfirmed::Through(position) => published >= position,
            Unconfirmed::UntilIdle => published == Position::End,
        }
    }
}

/// Where a claim begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartPoint {
    /// The progress to begin after, with the pin that the ledger must hold from now on.
    pub(crate) progress: Progress,
    /// What the output may hold unconfirmed.
    pub(crate) unconfirmed: Unconfirmed,
    /// What the ledger holds: if it differs from `progress`, it must be written at once.
    pub(crate) in_ledger: Option<Progress>,
}

/// The rules that decide where claims begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartRules<'a> {
    pub(crate) app: &'a str,
    /// Where the app starts without progress.
    pub(crate) start: Start,
    /// The digest of the policy to work under.
    pub(crate) pin: Option<&'a str>,
    /// The output of this worker.
    pub(crate) output: &'a OutputIdentity,
    /// The shard was created after the app started: it is read from its beginning if `start` is the latest record.
    pub(crate) created_after_start: bool,
}

impl StartRules<'_> {
    /// Decides where a claim of `shard` begins, from the output, the ledger and the stream, in this order.
    pub(crate) async fn begin(
        &self,
        stream: &SharedStream,
        stage: &dyn Stage,
        shard: &Shard,
        ledger: &dyn Ledger,
    ) -> Result<StartPoint> {
        let StartRules { output, .. } = self;
        let resumed = stage.resume(shard).await?;
        let in_ledger = ledger.read().await?;
        let known = in_ledger.clone().filter(|known| output.owns(known));
        if resumed.is_some() || output.keeps_progress() {
            let progress = match (resumed, known) {
                (Some(mut resumed), known) => {
                    // What the ledger holds of the same place, the output need not keep as well.
                    let same = known.filter(|known| known.to == resumed.to);
                    let same = same.unwrap_or_default();
                    if resumed.marks.is_empty() {
                        resumed.marks = same.marks;
                    }
                    Progress {
                        pin: None,
                        began: resumed.began.or(same.began),
                        arrival: same.arrival,
                        ..resumed
                    }
                }
                (None, Some(known)) if self.start == Start::Latest => Progress {
                    to: known.to,
                    began: known.began,
                    ..Progress::default()
                },
                (None, _) => self.start_of(stream, shard).await?,
            };
            return Ok(StartPoint {
                progress: output.sign(progress),
                unconfirmed: Unconfirmed::default(),
                in_ledger,
            });
        }
        let progress = match known {
            Some(known) => known,
            None => self.start_of(stream, shard).await?,
        };
        let mut progress = output.sign(progress);
        let mut unconfirmed = Unconfirmed::default();
        progress.pin = match (progress.pin.take(), self.pin) {
            (None, None) => None,
            (None, Some(digest)) => Some(Pin {
                digest: digest.to_owned(),
                after: progress.to,
            }),
            (Some(pinned), Some(digest)) if pinned.digest == digest => {
                let tip = stream.state(&shard.id).await?.tip;
                unconfirmed = tip.map_or(Unconfirmed::UntilIdle, Unconfirmed::Through);
                Some(pinned)
            }
            (Some(pinned), _) => return Err(self.refusal(&shard.id, &pinned)),
        };
        debug_assert!(
            progress
                .pin
                .as_ref()
                .is_none_or(|pin| pin.after <= progress.to),
            "progress does not fall behind its pin"
        );
        Ok(StartPoint {
            progress,
            unconfirmed,
            in_ledger,
        })
    }

    /// Returns the progress of an app that starts in `shard` now.
    async fn start_of(&self, stream: &SharedStream, shard: &Shard) -> Result<Progress> {
        Ok(
            match lineage::start_in(self.start, self.created_after_start) {
                Some(start) => stream.start(&shard.id, start).await?,
                None => Progress::default(),
            },
        )
    }

    fn refusal(&self, shard: &ShardId, pinned: &Pin) -> Error {
        let StartRules { app, .. } = self;
        Error::refused(format!(
            "app `{app}` worked on shard `{shard}` under policy `{}` and did not stop cleanly; now it has {}: start it \
             once more with the former policy, let it catch up and stop it with SIGTERM, then change the policy",
            pinned.digest,
            match self.pin {
                Some(digest) => format!("policy `{digest}`"),
                None => "none".to_owned(),
            },
        ))
    }
}
