//! Creates and takes over the lease rows of an app, and refuses a worker whose output is not the one that they belong
//! to.
//!
//! A row is created with the position where the app starts in its shard; see [`super::lineage`]. It names the output
//! that it belongs to. A worker of another output takes the row over only while no worker of the former output is
//! alive. The progress in the row is then void: the new output starts where an app without progress does. While a
//! worker of another output is alive, the new worker is refused, because each of the two outputs would get only some
//! of the shards.
//!
//! A row also names its generation of the app's outputs. A row of an earlier generation is void: an operator had the
//! records of its shard sent again, and the row is created again with the position where that begins.
//!
//! An output that keeps its progress may come back from a backup: its rows then say more than it has, even that a shard
//! has ended. So a worker that starts asks the output about each row of a shard that has ended or that no worker holds,
//! before it takes any lease, and sets back what is not true.
//!
//! A worker counts as alive when its row *moved* while this worker watched. Until that is decided, or the lease time
//! has passed, nothing is taken. Two workers that start in the same instant may both hold a lease for a moment. Then
//! each sees the other one, and the worker whose output has the greater identity gives way. Neither output has lost
//! anything by then, because each reads on from what it holds itself.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt};
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::{Lease, Progress};
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId};
use hydrant_core::stream::Start;

use super::coordinator::{LeaseCoordinator, ObservedRow};
use super::lineage;
use super::settings::{AT_ONCE, limited};
use crate::runtime::run_spec::OnCorrupt;

/// Returns a row, and what becomes of it if its output is only as far as `known`, or where the app began if it has
/// nothing.
fn set_back(row: Lease, known: Option<Position>) -> Option<(Option<Lease>, Lease)> {
    let progress = row.progress.as_ref()?;
    let to = known.or(progress.start).unwrap_or(Position::Begin);
    let next = Lease {
        owner: None,
        wanted: None,
        epoch: row.epoch + 1,
        counter: row.counter + 1,
        progress: Some(Progress {
            to,
            start: progress.start,
            began: progress.began,
            output: progress.output.clone(),
            ..Progress::default()
        }),
        ..row.clone()
    };
    (to < progress.to).then_some((Some(row), next))
}

impl LeaseCoordinator {
    /// Creates the rows of new shards and takes over those of another output. Returns whether leases may be taken
    /// now.
    pub(super) async fn claim_rows(&mut self) -> Result<bool> {
        if !*self.rows_are_true.borrow() {
            self.set_rows_back().await?;
        }
        let Some(rival) = self.rival() else {
            self.make_rows().await?;
            self.take_rows_over().await?;
            return Ok(true);
        };
        let ours = self.we_are_at_work();
        let outputs = self.output.id().zip(rival.row.output());
        let yields = !ours || outputs.is_some_and(|(mine, theirs)| mine.id > theirs.id);
        if rival.moved && yields {
            self.claiming.store(false, Ordering::Relaxed);
            return Err(self.taken_by(&rival.row));
        }
        Ok(ours)
    }

    /// Sets back the rows that say more than an output has which keeps its progress. Once is enough: what is written from
    /// now on follows the output.
    async fn set_rows_back(&mut self) -> Result<()> {
        let (output, patience) = (self.output.clone(), self.times.patience());
        let doubtful = self.map.all().iter().filter_map(|shard| {
            let seen = self
                .rows
                .get(&shard.id)
                .filter(|seen| self.counts(&seen.row))?;
            // The holder of a shard that has not ended begins where the output says.
            let asks = seen.row.has_ended() || self.holder(seen).is_none();
            (output.keeps_progress() && asks).then(|| (shard.clone(), seen.row.clone()))
        });
        let doubtful: Vec<(Shard, Lease)> = doubtful.collect();
        let output = &output;
        let asked = futures::stream::iter(doubtful).map(|(shard, row)| async move {
            let known = limited(
                "the progress of the output",
                patience,
                output.published_to(&shard),
            )
            .await?;
            Ok::<_, Error>(set_back(row, known))
        });
        let asked: Vec<_> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
        let swaps: Vec<_> = asked.into_iter().flatten().collect();
        let all = swaps.len();
        let (swapped, outcome) = self.swap_all(swaps).await;
        for row in &swapped {
            let to = row.progress.as_ref().map(|progress| progress.to);
            let (app, shard, to) = (&self.spec.app, &row.shard, to.unwrap_or_default());
            tracing::warn!(app, %shard, %to, "the output has less than it had once: reading on from what it has");
        }
        outcome?;
        self.rows_are_true.send_replace(swapped.len() == all);
        Ok(())
    }

    /// Returns the row of a worker of another output: of one that is alive, whose row moved, or else of one that may be.
    fn rival(&self) -> Option<&ObservedRow> {
        let rivals = self.rows.values().filter(|seen| {
            let owner = seen.row.owner.as_ref();
            self.output.other(&seen.row).is_some()
                && owner.is_some_and(|owner| self.may_live(owner, seen))
        });
        rivals.max_by_key(|seen| seen.moved)
    }

    /// Whether any worker of this output holds a shard.
    fn we_are_at_work(&self) -> bool {
        self.rows.values().any(|seen| {
            let owner = seen.row.owner.as_ref();
            self.counts(&seen.row) && owner.is_some() && self.holder(seen).is_some()
        })
    }

    fn taken_by(&self, row: &Lease) -> Error {
        let worker = row.owner.as_deref().unwrap_or_default();
        let theirs = row.output().map_or("", |output| &output.name);
        let mine = self.output.id().map_or("", |mine| &mine.name);
        Error::refused(format!(
            "app `{}` is already writing to {theirs} (worker `{worker}`) and cannot write to {mine} at the same time: \
             give this worker another app name with `--app NAME`, or start it after the other worker has stopped",
            self.spec.app,
        ))
    }

    /// Whether a row belongs to this output and to its current generation.
    pub(super) fn counts(&self, row: &Lease) -> bool {
        self.output.owns_row(row) && self.generations.count(row)
    }

    /// Returns the progress that a new row starts with.
    async fn start_of(
        &mut self,
        shard: &Shard,
        created_after_start: bool,
    ) -> Result<Option<Progress>> {
        let start = lineage::start_in(self.spec.start, created_after_start);
        let found = match start {
            Some(start) => {
                let find = self.spec.stream.start(&shard.id, start);
                match limited("the start in the stream", self.times.patience(), find).await {
                    // The reader meets the damage, and its shard ends there.
                    Err(Error::Corrupt { .. }) if self.spec.on_corrupt == OnCorrupt::EndShard => {
                        Some(Progress::default())
                    }
                    found => Some(found?),
                }
            }
            None => None,
        };
        let says_something = found.is_some() || self.output.id().is_some();
        Ok(says_something.then(|| self.output.sign(found.unwrap_or_default())))
    }

    /// Creates the rows of new shards, children first.
    async fn make_rows(&mut self) -> Result<()> {
        let ended = self.ended_without_rows();
        let has_row = |id: &ShardId| self.rows.contains_key(id) || ended.contains(id);
        if self.map.all().iter().all(|shard| has_row(&shard.id)) {
            return Ok(());
        }
        let map = self.map.clone();
        let since = self.appeared_since(&ended).await?;
        for level in lineage::children_first(&map) {
            let mut swaps = Vec::new();
            for shard in level {
                if self.rows.contains_key(&shard.id) || ended.contains(&shard.id) {
                    continue;
                }
                let mut row = Lease::new(shard.id.clone());
                let generation = self.generations.of(&shard.id);
                row.generation = generation.number;
                row.stream = Some(self.spec.stream.id().clone());
                row.progress = match generation.beginning() {
                    Some(beginning) => Some(self.output.sign(beginning)),
                    None => self.start_of(shard, since.contains(&shard.id)).await?,
                };
                swaps.push((None, row));
            }
            self.swap_all(swaps).await.1?;
        }
        Ok(())
    }

    /// Takes over the rows of another output or an earlier generation, children first.
    async fn take_rows_over(&mut self) -> Result<()> {
        if self.rows.values().all(|seen| self.counts(&seen.row)) {
            return Ok(());
        }
        let map = self.map.clone();
        let since = self.appeared_since(&BTreeSet::new()).await?;
        for level in lineage::children_first(&map) {
            let mut swaps = Vec::new();
            for shard in level {
                let Some(ObservedRow { row, .. }) = self
                    .rows
                    .get(&shard.id)
                    .filter(|seen| !self.counts(&seen.row) && self.holder(seen).is_none())
                else {
                    continue;
                };
                let row = row.clone();
                let generation = self.generations.of(&shard.id);
                let again = generation.beginning();
                let again = again.filter(|_| !self.generations.count(&row));
                let is_again = again.is_some();
                let progress = match again {
                    Some(beginning) => Some(self.output.sign(beginning)),
                    None => self.start_of(shard, since.contains(&shard.id)).await?,
                };
                let next = Lease {
                    owner: None,
                    wanted: None,
                    // The higher epoch fences a former owner that has only gone silent.
                    epoch: row.epoch + 1,
                    counter: row.counter + 1,
                    generation: row.generation.max(generation.number),
                    progress,
                    ..row.clone()
                };
                match is_again {
                    true => tracing::info!(
                        app = self.spec.app, shard = %shard.id, generation = next.generation,
                        "sending records again {generation}, as new ones",
                    ),
                    false => tracing::warn!(
                        app = self.spec.app, shard = %shard.id,
                        "ignoring stored progress that belongs to another output, {}: this output continues after what it holds, or begins at `--start`",
                        row.output().map_or("an output without identity", |output| &output.name),
                    ),
                }
                swaps.push((Some(row), next));
            }
            self.swap_all(swaps).await.1?;
        }
        Ok(())
    }

    /// Returns the shards that appeared after this output had begun: it has read an ancestor of each, even if another output
    /// has taken over the row since or the records are sent again, or a shard that is gone like an ancestor, which may
    /// have been between the two. It matters only where a start at the latest record would skip what such a shard holds.
    async fn appeared_since(&self, ended: &BTreeSet<ShardId>) -> Result<BTreeSet<ShardId>> {
        let mut since = BTreeSet::new();
        if self.spec.start != Start::Latest {
            return Ok(since);
        }
        let has_read = |id: &ShardId| {
            let seen = self.rows.get(id);
            seen.is_some_and(|seen| self.output.owns_row(&seen.row))
        };
        let is_gone = |id: &ShardId| self.map.get(id).is_none();
        let has_read_gone = self.rows.keys().any(|id| is_gone(id) && has_read(id));
        let parents_first = lineage::children_first(&self.map).into_iter().rev();
        for shard in parents_first.flatten() {
            for id in &shard.parents {
                let appeared = since.contains(id)
                    || ended.contains(id)
                    || has_read(id)
                    || is_gone(id) && has_read_gone
                    || {
                        let parent = lineage::parent(id, shard, &self.map);
                        let known = self.output.published_to(&parent);
                        limited("the progress of the output", self.times.patience(), known)
                            .await?
                            .is_some()
                    };
                if appeared {
                    since.insert(shard.id.clone());
                    break;
                }
            }
        }
        Ok(since)
    }
}
