//! An attempt of a shard's task: what it has under way.

use hydrant_core::clock::Instant;
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::stage::ShardStage;

use super::ledger_write::LedgerWrite;
use super::prefetch::Prefetch;
use crate::runtime::transaction::Membership;

/// What an attempt has under way.
pub(crate) struct Attempt {
    pub(super) stage: Box<dyn ShardStage>,
    pub(super) prefetch: Prefetch,
    // Declared after the stage, so that it leaves after the stage's half is gone.
    pub(super) membership: Option<Membership>,
    pub(super) pushed: Position,
    pub(super) published: Progress,
    /// Something was pushed since the last publish that said so.
    pub(super) unpublished: bool,
    /// Progress that is not in the ledger yet, and when to write it.
    pub(super) unwritten: Option<(Progress, Instant)>,
    /// The write of the ledger that is under way.
    pub(super) writing: LedgerWrite,
    pub(super) idle_since: Option<Instant>,
    /// Since when the pressure is known that `due` did not answer.
    pub(super) pressed_since: Option<Instant>,
    /// A stage's deadline at which `due` had nothing to say.
    pub(super) answered: Option<Instant>,
    /// Reading stopped at corrupt data; it is tried again at this time.
    pub(super) stopped_until: Option<Instant>,
    /// It was reported as standing still.
    pub(super) standing: bool,
}

impl Attempt {
    /// Everything pushed is published and in the ledger.
    pub(super) fn is_checkpointed(&self) -> bool {
        !self.unpublished && self.unwritten.is_none()
    }
}
