//! One attempt of a shard's task. Owns the open half of the stage, its reads ahead and its unpublished progress; all of
//! it is dropped together when the attempt fails.

use hydrant_core::clock::Instant;
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::stage::ShardStage;

use super::place::Trail;
use super::prefetch::Prefetch;
use super::progress_writer::ProgressWriter;
use crate::runtime::transaction::Membership;

/// An attempt under way.
pub(crate) struct Attempt {
    pub(super) stage: Box<dyn ShardStage>,
    pub(super) prefetch: Prefetch,
    // Declared after the stage, so that it is dropped after the half of the stage.
    pub(super) membership: Option<Membership>,
    pub(super) pushed: Position,
    pub(super) published: Progress,
    /// The places of what was pushed.
    pub(super) trail: Trail,
    /// Something was pushed that the last publish did not cover.
    pub(super) unpublished: bool,
    pub(super) ledger: ProgressWriter,
    pub(super) reader: ReaderState,
    /// When the budget came under pressure and `due` did not want to publish.
    pub(super) pressed_since: Option<Instant>,
    /// The deadline of the stage at which `due` did not want to publish.
    pub(super) asked_deadline: Option<Instant>,
}

/// What is known of an attempt's reader.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReaderState {
    /// Since when nothing is left to read; `None` while there is some, or the reader has not said.
    pub(super) idle_since: Option<Instant>,
    /// When to read again after an error.
    pub(super) retry_at: Option<Instant>,
    /// The reader found corrupt data, and nothing good since.
    pub(super) is_stalled: bool,
}

impl Attempt {
    /// Whether everything that was pushed is published and in the ledger.
    pub(super) fn is_checkpointed(&self) -> bool {
        !self.unpublished && self.ledger.is_written()
    }
}
