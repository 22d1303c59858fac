//! Decides when a stream is done: everything up to the tip is published, and no append has come for a while.
//!
//! The app's *shared* progress with this run's output counts, whichever worker owns the shards: the rows of the lease
//! store, or what the broker keeps ([`Subscription::progress`](hydrant_core::subscription::Subscription::progress)).
//! If a broker reports nothing about the shards of other workers, the end is reached only when this worker holds all
//! shards. A closed shard is done when its *end* was published, because only then do its children start. A shard that
//! is stalled at corrupt data, and all shards that would begin after it, do not keep the others from reaching the
//! end; the run then ends with the error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::Result;
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId};
use hydrant_core::stream::ShardState;

use super::run_context::RunContext;

/// A shard, its tip, and whether the shard is closed.
type ShardTip = (ShardId, Position, bool);

/// Watches for the end of a stream.
#[derive(Debug)]
pub(crate) struct EndWatch {
    enabled: bool,
    idle: Duration,
    tips: Option<(Vec<ShardTip>, Instant)>,
    next: Instant,
    /// An observation is under way.
    looking: bool,
}

/// What an observation found.
#[derive(Debug)]
pub(crate) struct EndObservation {
    at: Instant,
    states: Vec<ShardState>,
    /// Read after the states.
    progress: Vec<(ShardId, Progress)>,
}

impl EndWatch {
    /// Watches only if `enabled`; the end is reached when the tips do not move for `idle`.
    pub(crate) fn new(enabled: bool, idle: Duration) -> Self {
        EndWatch {
            enabled,
            idle,
            tips: None,
            next: clock::now(),
            looking: false,
        }
    }

    /// Whether an observation may begin: the end is watched for, and none is under way.
    pub(crate) fn may_look(&self) -> bool {
        self.enabled && !self.looking
    }

    /// Returns when to observe next.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.may_look().then_some(self.next)
    }

    /// Begins an observation, unless something is being read; `progress` is that of the subscription.
    pub(crate) fn look(
        &mut self,
        shared: &RunContext,
        progress: BoxFuture<'static, Result<Vec<(ShardId, Progress)>>>,
    ) -> Option<BoxFuture<'static, Result<EndObservation>>> {
        let at = clock::now();
        self.next = at + (self.idle / 4).max(Duration::from_millis(1));
        if !shared.board.all_idle() {
            self.tips = None;
            return None;
        }
        self.looking = true;
        let stream = Arc::clone(&shared.spec.stream);
        let look = async move {
            let states = stream.states().await?;
            let progress = progress.await?;
            Ok(EndObservation {
                at,
                states,
                progress,
            })
        };
        Some(look.boxed())
    }

    /// Whether an observation shows that the end is reached.
    pub(crate) fn judge(
        &mut self,
        shared: &RunContext,
        observed: Result<EndObservation>,
        by_leases: bool,
    ) -> Result<bool> {
        self.looking = false;
        let EndObservation {
            at,
            states,
            progress,
        } = observed?;
        let RunContext { output, board, .. } = shared;
        if !board.all_idle() {
            self.tips = None;
            return Ok(false);
        }
        let tips: Vec<_> = states
            .iter()
            .map(|state| (state.shard.id.clone(), state.tip, state.shard.closed))
            .collect();
        match &self.tips {
            Some((known, since)) if *known == tips => {
                if at.duration_since(*since) < self.idle {
                    return Ok(false);
                }
            }
            _ => {
                self.tips = Some((tips, at));
                return Ok(false);
            }
        }
        let mut progress: BTreeMap<ShardId, Position> = progress
            .into_iter()
            .filter(|(_, progress)| output.owns(progress))
            .map(|(shard, progress)| (shard, progress.to))
            .collect();
        if !by_leases {
            progress.extend(board.checkpointed());
        }
        let shards = states.iter().map(|state| &state.shard);
        let out_of_reach = out_of_reach(shards, |shard| shared.is_stalled(shard));
        Ok(states
            .iter()
            .all(|state| is_done(state, &progress) || out_of_reach.contains(&state.shard.id)))
    }
}

/// Returns the shards that are stalled at corrupt data and all that begin after their ends: nothing more can be done
/// there.
fn out_of_reach<'a>(
    shards: impl Iterator<Item = &'a Shard> + Clone,
    is_stalled: impl Fn(&ShardId) -> bool,
) -> BTreeSet<ShardId> {
    let mut found: BTreeSet<ShardId> = BTreeSet::new();
    loop {
        let before = found.len();
        for shard in shards.clone() {
            if is_stalled(&shard.id) || shard.parents.iter().any(|parent| found.contains(parent)) {
                found.insert(shard.id.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn is_done(state: &ShardState, progress: &BTreeMap<ShardId, Position>) -> bool {
    let to = progress
        .get(&state.shard.id)
        .copied()
        .unwrap_or(Position::Begin);
    if state.shard.closed {
        to == Position::End
    } else {
        to >= state.tip
    }
}
