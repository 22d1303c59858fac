//! Decides when a stream has been read to its end: everything in it is published, and nothing was appended for the idle
//! time.
//!
//! The app's *shared* progress with this run's output counts, whichever worker owns the shards: the rows of the lease
//! store, or what the broker keeps ([`Subscription::progress`](hydrant_core::subscription::Subscription::progress)).
//! If a broker reports nothing about the shards of other workers, the end is reached only when this worker holds all
//! shards. A closed shard is done when its *end* was published, because only then do its children start. A shard that
//! is stalled at corrupt data, and all shards that would begin after it, do not keep the others from reaching the
//! end; the run then ends with the error.
//!
//! A shard is done when its tip is published. Where the stream does not know the tip, a shard of this worker is done when
//! its reader has nothing left and the rest is in the ledger; for a shard of another worker the stream is asked how far
//! the app is behind, at most once an idle time.

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
use hydrant_core::stream::{Behind, ShardState};

use super::run_context::RunContext;

/// A shard, its tip or else what of it is published, and whether the shard is closed.
type ShardTip = (ShardId, Position, bool);

/// Watches for the end of a stream.
#[derive(Debug)]
pub(crate) struct EndWatch {
    /// For how long nothing may move before the end is reached; `None` while it is not watched for.
    idle: Option<Duration>,
    tips: Option<(Vec<ShardTip>, Instant)>,
    next: Instant,
    /// When the stream was last asked how far the app is behind.
    asked: Option<Instant>,
    /// An observation is under way.
    looking: bool,
}

/// What an observation found.
#[derive(Debug)]
pub(crate) struct EndObservation {
    at: Instant,
    states: Vec<ShardState>,
    /// Read after the states.
    progress: BTreeMap<ShardId, Progress>,
    /// The shards without a tip that another worker has done, as the stream says if it was asked.
    done: BTreeSet<ShardId>,
}

impl EndWatch {
    /// Watches for the end if `idle` says when it is reached: when nothing moves for so long.
    pub(crate) fn new(idle: Option<Duration>) -> Self {
        EndWatch {
            idle,
            tips: None,
            next: clock::now(),
            asked: None,
            looking: false,
        }
    }

    /// Watches from now on; `idle` as for [`EndWatch::new`].
    pub(crate) fn watch(&mut self, idle: Option<Duration>) {
        self.idle = idle;
        self.next = clock::now();
    }

    /// Whether an observation may begin: the end is watched for, and none is under way.
    pub(crate) fn may_look(&self) -> bool {
        self.idle.is_some() && !self.looking
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
        let (at, idle) = (clock::now(), self.idle?);
        self.next = at + (idle / 4).max(Duration::from_millis(1));
        if !shared.board.all_idle() {
            self.tips = None;
            return None;
        }
        self.looking = true;
        let passed = |since: &Instant| at.duration_since(*since) >= idle;
        let is_quiet = self.tips.as_ref().is_some_and(|(_, since)| passed(since));
        let asks = is_quiet && self.asked.as_ref().is_none_or(passed);
        if asks {
            self.asked = Some(at);
        }
        let stream = Arc::clone(&shared.spec.stream);
        let output = shared.output.clone();
        let mut ours = shared.board.statuses();
        ours.retain(|_, status| status.active);
        let look = async move {
            let states = stream.states().await?;
            let progress: BTreeMap<_, _> = progress
                .await?
                .into_iter()
                .filter(|(_, progress)| output.owns(progress))
                .collect();
            let unknown = states
                .iter()
                .filter(|state| asks && state.tip.is_none() && !state.shard.closed)
                .map(|state| &state.shard.id)
                .filter(|shard| !ours.contains_key(shard));
            let mut done = BTreeSet::new();
            for shard in unknown {
                let progress = progress.get(shard).cloned().unwrap_or_default();
                if stream.behind(shard, &progress).await? == Behind::Done {
                    done.insert(shard.clone());
                }
            }
            Ok(EndObservation {
                at,
                states,
                progress,
                done,
            })
        };
        Some(look.boxed())
    }

    /// Whether an observation shows that the end is reached.
    pub(crate) fn judge(
        &mut self,
        shared: &RunContext,
        observed: Result<EndObservation>,
    ) -> Result<bool> {
        self.looking = false;
        let EndObservation {
            at,
            states,
            progress,
            done,
        } = observed?;
        let board = &shared.board;
        if !board.all_idle() {
            self.tips = None;
            return Ok(false);
        }
        let mut published: BTreeMap<ShardId, Position> = progress
            .into_iter()
            .map(|(shard, progress)| (shard, progress.to))
            .collect();
        let ours = board.statuses();
        for (shard, status) in ours.iter().filter(|(_, status)| status.checkpointed) {
            let known = published.entry(shard.clone()).or_default();
            *known = status.summary.to.max(*known);
        }
        let published = |id: &ShardId| published.get(id).copied().unwrap_or_default();
        let tips: Vec<_> = states
            .iter()
            .map(|ShardState { shard, tip, .. }| {
                let tip = tip.unwrap_or_else(|| published(&shard.id));
                (shard.id.clone(), tip, shard.closed)
            })
            .collect();
        // A reader that reports the end of a shard without a tip may not have looked since the last append.
        let knows_tips = states.iter().all(|state| state.tip.is_some());
        let idle = self.idle.map(|idle| match knows_tips {
            true => idle,
            false => idle.max(shared.spec.idle),
        });
        match &self.tips {
            Some((known, since)) if *known == tips => {
                if idle.is_none_or(|idle| at.duration_since(*since) < idle) {
                    return Ok(false);
                }
            }
            _ => {
                self.tips = Some((tips, at));
                return Ok(false);
            }
        }
        let is_done = |state: &ShardState| {
            let to = published(&state.shard.id);
            match state.tip {
                _ if state.shard.closed => to == Position::End,
                Some(tip) => to >= tip,
                None => match ours.get(&state.shard.id) {
                    Some(status) if status.active => status.is_quiet(),
                    _ => done.contains(&state.shard.id),
                },
            }
        };
        let shards = states.iter().map(|state| &state.shard);
        let out_of_reach = out_of_reach(shards, |shard| shared.is_stalled(shard));
        Ok(states
            .iter()
            .all(|state| is_done(state) || out_of_reach.contains(&state.shard.id)))
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
