//! The task that takes, requests, hands over and releases a worker's leases; see [`super::subscription`].
//!
//! Owns the rows as this worker last saw them, and decides in rounds. Renewals have tasks of their own (`renewals`),
//! because they must not wait for a slow round.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Disposition, Error, Result};
use hydrant_core::lease::{Generations, Lease, LeaseStore, Progress, Swap, WorkerRegistration};
use hydrant_core::position::Position;
use hydrant_core::shard::{Shard, ShardId, ShardMap};
use hydrant_core::subscription::{Claim, ClaimAnswer, ClaimId, Event};
use tokio::sync::{Notify, mpsc, watch};

use super::balance::{BalanceView, WorkableShard};
use super::held_lease::{HeldLease, LeaseLedger, LeaseState};
use super::lineage;
use super::readers::LeasedReaders;
use super::renewals::Renewals;
use super::settings::{AT_ONCE, LeaseTimes, limited};
use crate::runtime::output_identity::OutputIdentity;
use crate::runtime::run_spec::RunSpec;

/// A lease row as this worker observed it.
pub(super) struct ObservedRow {
    pub(super) row: Lease,
    /// When this worker first saw the row in this state, by its own clock.
    pub(super) since: Instant,
    /// The row changed after this worker had first seen it, by a write of another worker, which holds it.
    pub(super) moved: bool,
}

/// A lease that this worker holds, and the claim that it was granted for.
struct GrantedLease {
    claim: ClaimId,
    lease: Arc<HeldLease>,
    /// The end of the hand-over, if one has begun.
    leaving: Option<Instant>,
}

/// What the subscription asks of the coordinator.
pub(crate) enum LeaseCommand {
    /// Ask for no lease any more.
    StopClaiming,
    /// Give all leases back and end.
    Close,
}

/// Coordinates the leases of one worker.
pub(crate) struct LeaseCoordinator {
    pub(super) spec: RunSpec,
    store: Arc<dyn LeaseStore>,
    pub(super) times: LeaseTimes,
    pub(super) output: OutputIdentity,
    pub(super) generations: Arc<Generations>,
    pub(super) me: String,
    pub(super) map: ShardMap,
    map_is_stale: bool,
    pub(super) rows: BTreeMap<ShardId, ObservedRow>,
    pub(super) dead: BTreeSet<String>,
    /// When a call of the store last ended.
    pub(super) looked_at: Instant,
    leases: BTreeMap<ShardId, GrantedLease>,
    renewals: Renewals,
    pending: VecDeque<Result<Event>>,
    /// Whether leases are taken; a change also takes effect in the middle of a round.
    pub(super) claiming: Arc<AtomicBool>,
    grants: u64,
    asked: Option<(ShardId, Instant)>,
    nudge: Arc<Notify>,
    events: mpsc::Sender<Result<Event>>,
    /// Whether the rows say no more than the output has.
    pub(super) rows_are_true: watch::Sender<bool>,
    _registration: Box<dyn WorkerRegistration>,
}

impl LeaseCoordinator {
    /// Creates the coordinator of a worker, which reports what happens through `events`.
    pub(crate) fn new(
        spec: RunSpec,
        worker: String,
        store: Arc<dyn LeaseStore>,
        generations: Arc<Generations>,
        claiming: Arc<AtomicBool>,
        events: mpsc::Sender<Result<Event>>,
        registration: Box<dyn WorkerRegistration>,
    ) -> Self {
        let times = LeaseTimes::at(store.pace(), spec.lease_time, spec.handover);
        LeaseCoordinator {
            output: OutputIdentity::of(&spec.stage),
            generations,
            times,
            renewals: Renewals::new(times),
            me: worker,
            spec,
            store,
            map: ShardMap::default(),
            map_is_stale: true,
            rows: BTreeMap::new(),
            dead: BTreeSet::new(),
            looked_at: clock::now(),
            leases: BTreeMap::new(),
            pending: VecDeque::new(),
            claiming,
            grants: 0,
            asked: None,
            nudge: Arc::new(Notify::new()),
            events,
            rows_are_true: watch::Sender::default(),
            _registration: registration,
        }
    }

    /// Returns what changes once the rows say no more than the output has.
    pub(super) fn rows_are_true(&self) -> watch::Receiver<bool> {
        self.rows_are_true.subscribe()
    }

    fn may_take(&self) -> bool {
        self.claiming.load(Ordering::Relaxed)
    }

    /// Works in rounds until a command closes the subscription.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<LeaseCommand>) {
        let store = Arc::clone(&self.store);
        let stream = Arc::clone(&self.spec.stream);
        let nudge = Arc::clone(&self.nudge);
        let mut due = clock::now();
        let mut earliest = due;
        loop {
            if clock::now() >= due {
                let half = self.times.observe / 2;
                let mut pause = self.times.round_gap();
                if let Err(error) = self.round().await {
                    match error.disposition() {
                        Disposition::Retry { after } => {
                            // The rows that the failed round wrote must not wake the next round at once.
                            pause = pause.max(after.min(half));
                            tracing::warn!(
                                app = self.spec.app,
                                "cannot update leases, retrying: {}",
                                error.report()
                            );
                        }
                        _ => self.pending.push_back(Err(error)),
                    }
                }
                earliest = clock::now() + pause;
                let jitter = self.spec.context.random.below(half.as_micros() as u64 + 1);
                due = clock::now() + half + Duration::from_micros(jitter);
                if let Some(free) = self.next_free() {
                    due = due.min(free.max(earliest));
                }
            }
            let soon = due > earliest;
            let events = self.events.clone();
            // Every arm is cancel-safe: receiving, reserving, waiting. The bodies do the work.
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None => return,
                    Some(LeaseCommand::StopClaiming) => self.withdraw().await,
                    Some(LeaseCommand::Close) => return self.release_all().await,
                },
                permit = events.reserve(), if !self.pending.is_empty() => {
                    let Ok(permit) = permit else { return };
                    if let Some(event) = self.pending.pop_front() {
                        permit.send(event);
                    }
                }
                () = nudge.notified() => due = due.min(earliest),
                () = store.changed(), if soon => due = due.min(earliest),
                changed = stream.shards_changed(), if soon => {
                    self.map_is_stale = true;
                    match changed {
                        Ok(()) => due = due.min(earliest),
                        // The next regular round reads the map; until then the stream is not asked again.
                        Err(_) => earliest = due,
                    }
                }
                () = clock::sleep_until(Some(due)) => {}
            }
        }
    }

    async fn round(&mut self) -> Result<()> {
        if self.map_is_stale {
            self.map = limited(
                "the shards of the stream",
                self.times.patience(),
                self.spec.stream.shards(),
            )
            .await?;
            self.map_is_stale = false;
        }
        self.read_rows().await?;
        self.detect_losses();
        self.detect_deaths().await?;
        if self.may_take() && self.claim_rows().await? {
            self.hand_over().await;
            self.take_free().await?;
            self.ask().await?;
            self.remove_gone().await?;
        }
        self.end_handovers().await;
        Ok(())
    }

    async fn read_rows(&mut self) -> Result<()> {
        let rows = limited("all rows", self.times.patience(), self.store.list()).await;
        self.note_look();
        let rows = rows?;
        let mine = self.spec.stream.id();
        let foreign = rows
            .iter()
            .find(|row| row.stream.as_ref().is_some_and(|id| id != mine));
        if let Some(foreign) = foreign {
            self.claiming.store(false, Ordering::Relaxed);
            return Err(self.foreign(foreign));
        }
        // A row that is gone was of a shard that is gone, or is made again.
        let there: BTreeSet<ShardId> = rows.iter().map(|row| row.shard.clone()).collect();
        self.rows.retain(|shard, _| there.contains(shard));
        rows.into_iter().for_each(|row| self.observe(row));
        Ok(())
    }

    /// The refusal of a row of another stream, or of an earlier one of the same name.
    fn foreign(&self, row: &Lease) -> Error {
        let (app, mine) = (&self.spec.app, self.spec.stream.id());
        let theirs = row.stream.as_ref().unwrap_or(mine);
        let what = match theirs.name == mine.name {
            true => format!(
                "an earlier stream `{}`, which was deleted and recreated",
                theirs.name
            ),
            false => format!("stream `{}`", theirs.name),
        };
        Error::refused(format!(
            "app `{app}` keeps its progress in {what} (the lease of shard `{shard}` names `{theirs}`, this stream is \
             `{mine}`): choose another app name with `--app NAME`, or delete the lease rows of `{app}` in its lease \
             store",
            shard = row.shard,
        ))
    }

    /// Removes the rows of shards that the map no longer has: their records are gone.
    async fn remove_gone(&mut self) -> Result<()> {
        if !self.rows.values().any(|seen| self.is_needless(seen)) {
            return Ok(());
        }
        // Another worker may have made a row by a newer map than ours.
        self.map = limited(
            "the shards of the stream",
            self.times.patience(),
            self.spec.stream.shards(),
        )
        .await?;
        let gone = self.rows.values().filter(|seen| self.is_needless(seen));
        let gone: Vec<Lease> = gone.map(|seen| seen.row.clone()).collect();
        for row in gone {
            let remove = self.store.remove(&row);
            match limited("removing a row", self.times.patience(), remove).await? {
                Swap::Swapped | Swap::Conflict(None) => {
                    self.rows.remove(&row.shard);
                    self.note_removed(&row);
                }
                Swap::Conflict(Some(other)) => self.observe(other),
            }
        }
        Ok(())
    }

    fn note_removed(&self, row: &Lease) {
        let (app, shard) = (&self.spec.app, &row.shard);
        if row.has_ended() {
            tracing::debug!(app, %shard, "removed the lease of a shard that is gone");
            return;
        }
        let after = row.progress.as_ref().map(|progress| progress.to);
        let after = after.unwrap_or_default();
        tracing::warn!(app, %shard, %after, "the stream no longer has the shard: what it held after this was not read");
        let stream = self.spec.stream.id().name.to_string();
        metrics::counter!("hydrant_consumer_interruptions_total", "stream" => stream, "shard" => shard.to_string(), "reason" => "gap")
            .increment(1);
    }

    /// Whether a row is of a shard that is gone, no worker has moved it for a lease time, and no child has still to begin
    /// with what it says.
    fn is_needless(&self, seen: &ObservedRow) -> bool {
        let shard = &seen.row.shard;
        let age = clock::now().duration_since(seen.since);
        let has_begun = |child: &Shard| self.progress_of(&child.id).is_some_and(lineage::has_begun);
        self.map.get(shard).is_none()
            && age >= self.times.lease_time
            && self.holder(seen).is_none()
            && self.map.children(shard).all(has_begun)
    }

    /// Returns the progress of a shard that counts for this output.
    pub(super) fn progress_of(&self, shard: &ShardId) -> Option<&Progress> {
        let row = &self.rows.get(shard)?.row;
        row.progress.as_ref().filter(|_| self.counts(row))
    }

    /// Returns the closed shards without a row that have ended; see [`lineage::ended_without_rows`].
    pub(super) fn ended_without_rows(&self) -> BTreeSet<ShardId> {
        let progress = |shard: &ShardId| self.progress_of(shard);
        lineage::ended_without_rows(&self.map, |shard| self.rows.contains_key(shard), progress)
    }

    /// Swaps rows, many at once, and observes what they have become. Returns the rows that were swapped, also beside
    /// an error.
    pub(super) async fn swap_all(
        &mut self,
        swaps: Vec<(Option<Lease>, Lease)>,
    ) -> (Vec<Lease>, Result<()>) {
        let (store, patience) = (Arc::clone(&self.store), self.times.patience());
        let store = &store;
        let mut answers = futures::stream::iter(swaps)
            .map(|(seen, next)| async move {
                let answer =
                    limited("changing a row", patience, store.swap(seen.as_ref(), &next)).await;
                (next, answer)
            })
            .buffer_unordered(AT_ONCE);
        let (mut swapped, mut outcome) = (Vec::new(), Ok(()));
        while let Some((next, answer)) = answers.next().await {
            self.note_look();
            match answer {
                Ok(Swap::Swapped) => {
                    self.observe(next.clone());
                    swapped.push(next);
                }
                Ok(Swap::Conflict(Some(other))) => self.observe(other),
                Ok(Swap::Conflict(None)) => {
                    self.rows.remove(&next.shard);
                }
                // An error that no retry can fix outranks the others.
                Err(error) if outcome.as_ref().err().is_none_or(may_pass) => outcome = Err(error),
                Err(_) => {}
            }
        }
        (swapped, outcome)
    }

    pub(super) fn observe(&mut self, row: Lease) {
        let known = self.rows.get(&row.shard);
        let same = known.is_some_and(|seen| {
            (seen.row.epoch, seen.row.counter) == (row.epoch, row.counter)
                && seen.row.owner == row.owner
        });
        if same {
            return;
        }
        if row.has_ended() && !known.is_some_and(|seen| seen.row.has_ended()) {
            self.map_is_stale = true;
            self.nudge.notify_one();
        }
        let held = row.owner.as_ref().is_some_and(|owner| *owner != self.me);
        let seen = ObservedRow {
            moved: held && known.is_some(),
            since: clock::now(),
            row,
        };
        self.rows.insert(seen.row.shard.clone(), seen);
    }

    fn detect_losses(&mut self) {
        for (shard, granted) in &self.leases {
            if let Some(seen) = self.rows.get(shard)
                && seen.row.epoch > granted.lease.epoch
            {
                granted
                    .lease
                    .lose(seen.row.owner.as_deref().unwrap_or("no worker"));
            }
        }
        let pending = &mut self.pending;
        self.leases
            .retain(|_, granted| match granted.lease.state() {
                LeaseState::Held => true,
                LeaseState::Released => false,
                LeaseState::Lost(_) => {
                    pending.push_back(Ok(lost(granted.claim.clone())));
                    false
                }
            });
    }

    async fn detect_deaths(&mut self) -> Result<()> {
        let names: BTreeSet<String> = self
            .rows
            .values()
            .flat_map(|seen| [&seen.row.owner, &seen.row.wanted])
            .flatten()
            .filter(|name| **name != self.me)
            .cloned()
            .collect();
        let mut dead = BTreeSet::new();
        for name in names {
            let is_gone = limited(
                "whether a worker is gone",
                self.times.patience(),
                self.store.is_gone(&name),
            )
            .await;
            self.note_look();
            if is_gone? {
                dead.insert(name);
            }
        }
        self.dead = dead;
        Ok(())
    }

    /// Returns the live worker that holds a row, or for which the row is reserved.
    pub(super) fn holder(&self, seen: &ObservedRow) -> Option<String> {
        let row = &seen.row;
        match &row.owner {
            Some(owner) if *owner == self.me => {
                self.leases.contains_key(&row.shard).then(|| owner.clone())
            }
            Some(owner) => self.may_live(owner, seen).then(|| owner.clone()),
            None => {
                let age = clock::now().duration_since(seen.since);
                let kept = age < self.times.reserve();
                row.wanted
                    .clone()
                    .filter(|name| kept && *name != self.me && !self.dead.contains(name))
            }
        }
    }

    /// Returns the shards that can be worked on now, for the balance.
    fn view(&self) -> BalanceView {
        let without_row = self.ended_without_rows();
        let ended = |id: &ShardId| {
            let progress = self.progress_of(id);
            progress.is_some_and(|progress| progress.to == Position::End)
                || without_row.contains(id)
        };
        let is_held = |id: &ShardId| {
            let seen = self.rows.get(id).filter(|seen| self.counts(&seen.row));
            seen.is_some_and(|seen| self.holder(seen).is_some())
        };
        let workable = self.map.all().iter().filter_map(|shard| {
            let seen = self.rows.get(&shard.id)?;
            let blocked = !self.counts(&seen.row)
                || seen.row.has_ended()
                || !lineage::parents_are_done(shard, &self.map, ended, is_held);
            if blocked {
                return None;
            }
            let holder = self.holder(seen);
            // A worker that asked for a free shard and does not take it may be stuck.
            let wanted = seen.row.wanted.clone().filter(|_| holder.is_some());
            Some(WorkableShard {
                shard: shard.id.clone(),
                holder,
                wanted: wanted.filter(|name| !self.dead.contains(name)),
                neglected: clock::now().duration_since(seen.since) >= self.times.lease_time * 2,
            })
        });
        BalanceView::new(&self.me, workable.collect())
    }

    /// Takes the leases that the balance allows, more of them in each step. Between two steps it reads what other
    /// workers, which may have started at the same time, have taken.
    async fn take_free(&mut self) -> Result<()> {
        let mut tried = BTreeSet::new();
        let mut step = 1;
        loop {
            let takes = self
                .view()
                .shards_to_take(&self.spec.context.random)
                .into_iter();
            let new: Vec<_> = takes
                .filter(|shard| !tried.contains(shard))
                .take(step)
                .collect();
            if new.is_empty() || !self.may_take() {
                return Ok(());
            }
            self.take(&new).await?;
            tried.extend(new);
            step = (step * 2).min(AT_ONCE);
            self.read_rows().await?;
        }
    }

    async fn take(&mut self, shards: &[ShardId]) -> Result<()> {
        let takes = shards.iter().filter_map(|id| {
            let row = &self.rows.get(id)?.row;
            let next = Lease {
                owner: Some(self.me.clone()),
                epoch: row.epoch + 1,
                counter: row.counter + 1,
                wanted: None,
                stream: Some(self.spec.stream.id().clone()),
                progress: self.signed(row),
                ..row.clone()
            };
            Some((Some(row.clone()), next))
        });
        let takes = takes.collect();
        let taken = clock::now();
        let (swapped, outcome) = self.swap_all(takes).await;
        if !swapped.is_empty() {
            let (app, shards) = (&self.spec.app, swapped.len());
            tracing::info!(app, shards, "leases taken");
        }
        for row in swapped {
            if let Some(shard) = self.map.get(&row.shard).cloned() {
                self.grant(shard, row, taken);
            }
        }
        outcome
    }

    /// Returns the progress of a row, with the identity of this output where the row lacks one.
    fn signed(&self, row: &Lease) -> Option<Progress> {
        let progress = row.progress.clone();
        match self.output.id() {
            Some(_) => Some(self.output.sign(progress.unwrap_or_default())),
            None => progress,
        }
    }

    fn grant(&mut self, shard: Shard, row: Lease, taken: Instant) {
        self.grants += 1;
        let claim = ClaimId {
            shard: shard.id.clone(),
            grant: self.grants,
        };
        tracing::debug!(app = self.spec.app, shard = %shard.id, epoch = row.epoch, "lease taken");
        let held = Arc::new(HeldLease::new(
            &self.spec.app,
            &self.me,
            row,
            taken,
            Arc::clone(&self.store),
            self.times,
            Arc::clone(&self.nudge),
        ));
        self.renewals.add(&held);
        let readers = Arc::new(LeasedReaders {
            stream: Arc::clone(&self.spec.stream),
            shard: shard.id.clone(),
            budget: self.spec.context.budget.clone(),
        });
        let parents = self.last_of_parents(&shard);
        let granted = GrantedLease {
            claim: claim.clone(),
            lease: Arc::clone(&held),
            leaving: None,
        };
        self.leases.insert(shard.id.clone(), granted);
        self.pending.push_back(Ok(Event::Granted(Claim {
            id: claim,
            shard,
            readers,
            ledger: Arc::new(LeaseLedger(held)),
            parents,
        })));
    }

    /// Returns the last progress of a shard's parents, as far as there are rows of it.
    fn last_of_parents(&self, shard: &Shard) -> Vec<(ShardId, Progress)> {
        let parents = shard.parents.iter();
        parents
            .filter_map(|id| Some((id.clone(), self.progress_of(id)?.clone())))
            .collect()
    }

    /// Hands over or declines the shards that other workers ask this worker for.
    async fn hand_over(&mut self) {
        let leaving = |shard: &ShardId| {
            let granted = self.leases.get(shard);
            granted.is_some_and(|granted| granted.leaving.is_some())
        };
        let (given, declined) = self.view().handovers(leaving);
        let until = clock::now() + self.times.handover;
        for shard in given {
            if let Some(granted) = self.leases.get_mut(&shard) {
                granted.leaving = Some(until);
                let claim = granted.claim.clone();
                let answer = ClaimAnswer::unheard();
                self.pending.push_back(Ok(Event::Revoking {
                    claim,
                    until,
                    answer,
                }));
            }
        }
        for shard in declined {
            if let Some(granted) = self.leases.get(&shard) {
                granted.lease.try_update(|row| row.wanted = None).await;
            }
        }
    }

    /// Gives up the leases whose hand-over took too long.
    async fn end_handovers(&mut self) {
        let now = clock::now();
        let is_late = |_: &ShardId, granted: &mut GrantedLease| {
            granted.leaving.is_some_and(|until| until <= now)
        };
        let late: Vec<_> = self.leases.extract_if(.., is_late).collect();
        for (_, granted) in late {
            self.pending.push_back(Ok(lost(granted.claim)));
            granted.lease.try_update(|row| row.owner = None).await;
            // If the store did not answer, the lease runs out.
            granted.lease.lose("no worker");
        }
    }

    async fn ask(&mut self) -> Result<()> {
        if let Some((shard, since)) = self.asked.clone() {
            let open = self.rows.get(&shard).is_some_and(|seen| {
                seen.row.wanted.as_ref() == Some(&self.me)
                    && self.holder(seen).is_some_and(|holder| holder != self.me)
            });
            let settings = &self.times;
            let patience = settings.handover + settings.lease_time * 2;
            if !open {
                self.asked = None;
            } else if clock::now().duration_since(since) >= patience {
                // The holder renews but neither hands over nor declines, so its runtime ignores requests.
                self.asked = None;
                return self.take(&[shard]).await;
            } else {
                return Ok(());
            }
        }
        let Some((shard, holder)) = self.view().shard_to_ask_for(&self.spec.context.random) else {
            return Ok(());
        };
        tracing::debug!(app = self.spec.app, %shard, holder, "asking for a lease");
        let me = Some(self.me.clone());
        let (asked, outcome) = self.set_wanted(&shard, me).await;
        if !asked.is_empty() {
            self.asked = Some((shard, clock::now()));
        }
        outcome
    }

    /// Withdraws the request for a lease, if there is one.
    async fn withdraw(&mut self) {
        if let Some((shard, _)) = self.asked.take() {
            // If the store does not answer, the shard stays reserved for this worker for a moment.
            drop(self.set_wanted(&shard, None).await);
        }
    }

    /// Says in a row which worker wants its shard.
    async fn set_wanted(
        &mut self,
        shard: &ShardId,
        wanted: Option<String>,
    ) -> (Vec<Lease>, Result<()>) {
        let swaps = self.rows.get(shard).map(|seen| {
            let next = Lease {
                counter: seen.row.counter + 1,
                wanted,
                ..seen.row.clone()
            };
            (Some(seen.row.clone()), next)
        });
        self.swap_all(swaps.into_iter().collect()).await
    }

    async fn release_all(&mut self) {
        futures::stream::iter(std::mem::take(&mut self.leases).into_values())
            .map(|granted| async move {
                granted.lease.try_update(|row| row.owner = None).await;
            })
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }
}

fn may_pass(error: &Error) -> bool {
    matches!(error.disposition(), Disposition::Retry { .. })
}

/// A lease has no one who waits: the row says that it is gone, and the output protects itself.
fn lost(claim: ClaimId) -> Event {
    Event::Lost {
        claim,
        answer: ClaimAnswer::unheard(),
    }
}
