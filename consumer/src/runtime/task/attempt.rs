//! One attempt of a shard's task: the open half of the stage and everything that belongs to it.

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
    pub(super) reading: ReaderState,
    /// When the budget came under pressure and `due` did not want to publish.
    pub(super) pressed_since: Option<Instant>,
    /// The deadline of the stage at which `due` did not want to publish.
    pub(super) asked_deadline: Option<Instant>,
}

/// The state of an attempt's reader.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReaderState {
    /// The reader has records, or has not said yet.
    Active,
    /// The reader has had no more records since then.
    Idle { since: Instant },
    /// The reader found corrupt data.
    Stalled {
        since: Instant,
        /// When to read again; `None` while the reader is trying.
        retry_at: Option<Instant>,
    },
}

impl ReaderState {
    /// Whether the reader is asked for its next read.
    pub(crate) fn may_read(&self) -> bool {
        self.retry_at().is_none()
    }

    /// Returns when a stalled shard is read again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        match self {
            ReaderState::Stalled { retry_at, .. } => *retry_at,
            ReaderState::Active | ReaderState::Idle { .. } => None,
        }
    }

    /// Returns since when no record has come from a reader that has none.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        match self {
            ReaderState::Active => None,
            ReaderState::Idle { since } | ReaderState::Stalled { since, .. } => Some(*since),
        }
    }

    /// Counts the idle time from `now` on, and lets a stalled reader try again if it is time.
    pub(crate) fn tick(&mut self, now: Instant, restart_idle: bool) {
        match self {
            ReaderState::Active => {}
            ReaderState::Idle { since } if restart_idle => *since = now,
            ReaderState::Idle { .. } => {}
            ReaderState::Stalled { since, retry_at } => {
                if restart_idle {
                    *since = now;
                }
                retry_at.take_if(|at| *at <= now);
            }
        }
    }
}

impl Attempt {
    /// Whether everything that was pushed is published and in the ledger.
    pub(super) fn is_checkpointed(&self) -> bool {
        !self.unpublished && self.ledger.is_written()
    }
}
