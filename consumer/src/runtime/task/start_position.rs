//! Where a claim begins, and by which rules: the output's word, else the ledger, else the start position.
//!
//! The ledger counts for an output that keeps no progress, and only what was written for this very output. One that
//! keeps its own and knows nothing of a shard has nothing of it, whatever a ledger says; from there only the memory is
//! taken of what the *latest* record was when the app began.
//!
//! **The pin.** A stage whose outputs depend on a policy works under a digest. The ledger holds the digest from before
//! the first output made under it until a clean stop, at which everything that may lie in the output is confirmed and
//! in the ledger: then the pin is taken out. So a ledger without a pin may go on under any policy, from its `to` on, and
//! a ledger with one only under that policy: another worker may have put records past `to` into the output that nobody
//! confirmed, and the output drops what is sent again of them, whatever another policy would make of it. An output that
//! tells the progress itself ([`Stage::resume`]) holds nothing past it, so it needs no pin.
//!
//! A successor cannot know how far its predecessor got, only that it was not past the tip at the take-over; it stops
//! cleanly from there on.

use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Pin, Progress};
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId};
use hydrant_core::stage::Stage;
use hydrant_core::stream::{SharedStream, Start};
use hydrant_core::subscription::Ledger;

use crate::runtime::leases::lineage;
use crate::runtime::output_identity::OutputIdentity;

/// Where a claim begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartPoint {
    /// Progress, with the pin to keep in the ledger from now on.
    pub(crate) progress: Progress,
    /// The output may hold unconfirmed records up to here.
    pub(crate) unconfirmed_through: Position,
    /// What the ledger says: behind `progress` when it must be written at once.
    pub(crate) in_ledger: Option<Progress>,
}

/// What decides where claims begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartRules<'a> {
    /// The app.
    pub(crate) app: &'a str,
    /// Where an app without progress starts.
    pub(crate) start: Start,
    /// The digest to work under.
    pub(crate) pin: Option<&'a str>,
    /// The output.
    pub(crate) output: &'a OutputIdentity,
    /// The shard is read from its beginning when `start` is the latest record: it was born while the app was under way.
    pub(crate) created_after_start: bool,
}

impl StartRules<'_> {
    /// Asks output, ledger and stream, in this order.
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
                (Some(resumed), _) => Progress {
                    pin: None,
                    ..resumed
                },
                (None, Some(began)) if self.start == Start::Latest => Progress {
                    to: began.to,
                    ..Progress::default()
                },
                (None, _) => self.start_of(stream, shard).await?,
            };
            return Ok(StartPoint {
                progress: output.sign(progress),
                unconfirmed_through: Position::Begin,
                in_ledger,
            });
        }
        let progress = match known {
            Some(known) => known,
            None => self.start_of(stream, shard).await?,
        };
        let mut progress = output.sign(progress);
        let mut unconfirmed_through = Position::Begin;
        progress.pin = match (progress.pin.take(), self.pin) {
            (None, None) => None,
            (None, Some(digest)) => Some(Pin {
                digest: digest.to_owned(),
                after: progress.to,
            }),
            (Some(pinned), Some(digest)) if pinned.digest == digest => {
                unconfirmed_through = stream.state(&shard.id).await?.tip;
                Some(pinned)
            }
            (Some(pinned), _) => return Err(self.refusal(&shard.id, &pinned)),
        };
        Ok(StartPoint {
            progress,
            unconfirmed_through,
            in_ledger,
        })
    }

    /// The start position.
    async fn start_of(&self, stream: &SharedStream, shard: &Shard) -> Result<Progress> {
        Ok(
            match lineage::start_in(self.start, self.created_after_start) {
                Some(start) => Progress::starting(stream.start(&shard.id, start).await?),
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
