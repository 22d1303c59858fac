//! One attempt of a shard's task: the open half of the stage and everything that belongs to it.

use hydrant_core::clock::Instant;
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::stage::ShardStage;

use super::ledger_write::LedgerWrite;
use super::prefetch::Prefetch;
use crate::runtime::transaction::Membership;

/// An attempt under way.
pub(crate) struct Attempt {
    pub(super) stage: Box<dyn ShardStage>,
    pub(super) prefetch: Prefetch,
    // Declared after the stage, so that it is dropped after the half of the stage.
    pub(super) membership: Option<Membership>,
    pub(super) pushed: Position,
    pub(super) published: Progress,
    /// Something was pushed that the last publish did not cover.
    pub(super) unpublished: bool,
    /// The progress that is not in the ledger yet, and when to write it.
    pub(super) unwritten: Option<(Progress, Instant)>,
    /// The write of the ledger that is under way.
    pub(super) writing: LedgerWrite,
    pub(super) idle_since: Option<Instant>,
    /// When the budget came under pressure and `due` did not want to publish.
    pub(super) pressed_since: Option<Instant>,
    /// The deadline of the stage at which `due` did not want to publish.
    pub(super) answered: Option<Instant>,
    /// When a reader that found corrupt data is tried again.
    pub(super) stopped_until: Option<Instant>,
    /// The shard was recorded as stalled.
    pub(super) standing: bool,
}

impl Attempt {
    /// Whether everything that was pushed is published and in the ledger.
    pub(super) fn is_checkpointed(&self) -> bool {
        !self.unpublished && self.unwritten.is_none()
    }
}
