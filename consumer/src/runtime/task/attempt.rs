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
pub(super) enum ReaderState {
    /// There is something to read, or the reader has not said.
    #[default]
    Active,
    /// Nothing is left to read.
    Idle { since: Instant },
    /// A read failed.
    Failed { retry_at: Instant },
    /// The reader found corrupt data, and nothing good since.
    Stalled {
        since: Instant,
        retry_at: Option<Instant>,
    },
}

impl ReaderState {
    /// Since when nothing can be read.
    pub(super) fn idle_since(self) -> Option<Instant> {
        match self {
            ReaderState::Idle { since } | ReaderState::Stalled { since, .. } => Some(since),
            ReaderState::Active | ReaderState::Failed { .. } => None,
        }
    }

    /// When to read again after an error; until then nothing is read.
    pub(super) fn retry_at(self) -> Option<Instant> {
        match self {
            ReaderState::Failed { retry_at } => Some(retry_at),
            ReaderState::Stalled { retry_at, .. } => retry_at,
            ReaderState::Active | ReaderState::Idle { .. } => None,
        }
    }

    /// Counts the idle time from `now` on again.
    pub(super) fn restart_idle_time(&mut self, now: Instant) {
        if let ReaderState::Idle { since } | ReaderState::Stalled { since, .. } = self {
            *since = now;
        }
    }

    /// Follows a failed read, after which the reader is asked again at `at`.
    pub(super) fn failed(&mut self, at: Instant) {
        match self {
            ReaderState::Stalled { retry_at, .. } => *retry_at = Some(at),
            _ => *self = ReaderState::Failed { retry_at: at },
        }
    }

    /// Lets the reader be asked again if it is time.
    pub(super) fn retry(&mut self, now: Instant) {
        if self.retry_at().is_none_or(|at| at > now) {
            return;
        }
        match self {
            ReaderState::Stalled { retry_at, .. } => *retry_at = None,
            _ => *self = ReaderState::Active,
        }
    }
}

impl Attempt {
    /// Whether everything that was pushed is published and in the ledger.
    pub(super) fn is_checkpointed(&self) -> bool {
        !self.unpublished && self.ledger.is_written()
    }
}
