//! The task that keeps a worker's leases: takes, renews, hands over, asks, gives back; see [`super::subscription`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Disposition, Error, Result};
use hydrant_core::lease::{Enlisted, Generations, Lease, Progress, Swap};
use hydrant_core::shard::{Shard, ShardId, ShardMap};
use hydrant_core::subscription::{Claim, ClaimId, Event};
use tokio::sync::{Notify, mpsc, oneshot};

use super::balance::{View, Workable};
use super::held_lease::{Fate, Held, LeaseLedger};
use super::lineage;
use super::renewals::Renewals;
use super::settings::{AT_ONCE, Leased, limited};
use crate::runtime::late_reader::OpenedLate;
use crate::runtime::output_identity::Target;

/// A row as this worker saw it.
pub(super) struct Seen {
    pub(super) row: Lease,
    /// Since when it is this row, by this worker's clock.
    pub(super) since: Instant,
    /// It became this row after the first look at it, by a write of another worker that holds it.
    pub(super) moved: bool,
}

/// A lease of this worker.
struct Mine {
    claim: ClaimId,
    held: Arc<Held>,
    /// Until when it must be handed over.
    leaving: Option<Instant>,
}

/// What the subscription asks of its keeper.
pub(crate) enum Command {
    /// To take and ask no more.
    StopClaiming,
    /// To give everything back and end.
    Close(oneshot::Sender<()>),
}

/// Keeps the leases of one worker.
pub(crate) struct Keeper {
    pub(super) leased: Leased,
    pub(super) target: Target,
    pub(super) generations: Arc<Generations>,
    me: String,
    pub(super) map: ShardMap,
    map_is_stale: bool,
    pub(super) seen: BTreeMap<ShardId, Seen>,
    pub(super) dead: BTreeSet<String>,
    held: BTreeMap<ShardId, Mine>,
    renewals: Renewals,
    pending: VecDeque<Result<Event>>,
    pub(super) claiming: bool,
    /// The run takes no more; heeded also amid a round.
    stopping: Arc<AtomicBool>,
    grants: u64,
    asked: Option<(ShardId, Instant)>,
    nudge: Arc<Notify>,
    events: mpsc::Sender<Result<Event>>,
    _enlisted: Box<dyn Enlisted>,
}

impl Keeper {
    /// Of the worker `me`; tells what happens through `events`.
    pub(crate) fn new(
        leased: Leased,
        me: String,
        generations: Arc<Generations>,
        events: mpsc::Sender<Result<Event>>,
        enlisted: Box<dyn Enlisted>,
    ) -> Self {
        Keeper {
            target: Target::of(&leased.stage),
            generations,
            renewals: Renewals::start(leased.settings),
            leased,
            me,
            map: ShardMap::default(),
            map_is_stale: true,
            seen: BTreeMap::new(),
            dead: BTreeSet::new(),
            held: BTreeMap::new(),
            pending: VecDeque::new(),
            claiming: true,
            stopping: Arc::default(),
            grants: 0,
            asked: None,
            nudge: Arc::new(Notify::new()),
            events,
            _enlisted: enlisted,
        }
    }

    /// To be set when nothing more is to be taken.
    pub(crate) fn stopping(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stopping)
    }

    fn may_take(&self) -> bool {
        self.claiming && !self.stopping.load(Ordering::Relaxed)
    }

    fn patience(&self) -> Duration {
        self.leased.settings.patience()
    }

    /// Keeps the leases until a command closes it.
    pub(crate) async fn keep(mut self, mut commands: mpsc::Receiver<Command>) {
        let store = Arc::clone(&self.leased.store);
        let stream = Arc::clone(&self.leased.stream);
        let nudge = Arc::clone(&self.nudge);
        let mut due = clock::now();
        let mut earliest = due;
        loop {
            if clock::now() >= due {
                let half = self.leased.settings.observe() / 2;
                let mut pause = self.leased.settings.round_gap();
                if let Err(error) = self.round().await {
                    match error.disposition() {
                        Disposition::Retry { after } => {
                            // What the failed round wrote must not wake the next one at once.
                            pause = pause.max(after.min(half));
                            tracing::warn!(app = self.leased.app, "leases: {}", error.report());
                        }
                        _ => self.pending.push_back(Err(error)),
                    }
                }
                earliest = clock::now() + pause;
                let jitter = self.leased.random.below(half.as_micros() as u64 + 1);
                due = clock::now() + half + Duration::from_micros(jitter);
                if let Some(free) = self.next_free() {
                    due = due.min(free.max(earliest));
                }
            }
            let soon = due > earliest;
            let events = self.events.clone();
            // Every arm is cancel-safe: receiving, reserving, waiting; the work is done in the bodies.
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None => return,
                    Some(Command::StopClaiming) => self.stop().await,
                    Some(Command::Close(answer)) => {
                        self.leave().await;
                        answer.send(()).ok();
                        return;
                    }
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
                        // The next regular round reads the map; until then nobody is asked again.
                        Err(_) => earliest = due,
                    }
                }
                () = clock::sleep_until(Some(due)) => {}
            }
        }
    }

    /// When the next lease of another worker runs out, unless that renews it: then it is taken at once, and not when a
    /// round happens to come.
    fn next_free(&self) -> Option<Instant> {
        let theirs = self.seen.values().filter(|seen| {
            let owner = seen.row.owner.as_ref();
            owner.is_some_and(|owner| *owner != self.me)
        });
        let now = clock::now();
        theirs
            .map(|seen| seen.since + self.leased.settings.lease_time)
            .filter(|runs_out| *runs_out > now)
            .min()
    }

    async fn round(&mut self) -> Result<()> {
        if self.map_is_stale {
            self.map = limited(self.patience(), self.leased.stream.shards()).await?;
            self.map_is_stale = false;
        }
        self.look().await?;
        self.find_losses();
        self.find_deaths().await?;
        if self.may_take() && self.claim_rows().await? {
            self.hand_over().await;
            self.take_free().await?;
            self.ask().await?;
        }
        self.end_handovers().await;
        Ok(())
    }

    async fn look(&mut self) -> Result<()> {
        let rows = limited(self.patience(), self.leased.store.list()).await?;
        rows.into_iter().for_each(|row| self.note_row(row));
        Ok(())
    }

    /// Swaps rows, many at once, and notes what they are now; answers those that were swapped, also beside a failure.
    pub(super) async fn swap_all(
        &mut self,
        swaps: Vec<(Option<Lease>, Lease)>,
    ) -> (Vec<Lease>, Result<()>) {
        let (store, patience) = (Arc::clone(&self.leased.store), self.patience());
        let store = &store;
        let answers: Vec<_> = futures::stream::iter(swaps)
            .map(|(seen, next)| async move {
                let answer = limited(patience, store.swap(seen.as_ref(), &next)).await;
                (next, answer)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let (mut swapped, mut outcome) = (Vec::new(), Ok(()));
        for (next, answer) in answers {
            match answer {
                Ok(Swap::Swapped) => {
                    self.note_row(next.clone());
                    swapped.push(next);
                }
                Ok(Swap::Beaten(Some(other))) => self.note_row(other),
                Ok(Swap::Beaten(None)) => {
                    self.seen.remove(&next.shard);
                }
                Err(error) => outcome = Err(error),
            }
        }
        (swapped, outcome)
    }

    pub(super) fn note_row(&mut self, row: Lease) {
        let known = self.seen.get(&row.shard);
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
        let seen = Seen {
            moved: held && known.is_some(),
            since: clock::now(),
            row,
        };
        self.seen.insert(seen.row.shard.clone(), seen);
    }

    fn find_losses(&mut self) {
        for (shard, mine) in &self.held {
            if let Some(seen) = self.seen.get(shard)
                && seen.row.epoch > mine.held.epoch()
            {
                mine.held
                    .lose(seen.row.owner.as_deref().unwrap_or("nobody"));
            }
        }
        let pending = &mut self.pending;
        self.held.retain(|_, mine| match mine.held.fate() {
            Fate::Held => true,
            Fate::Released => false,
            Fate::Lost(_) => {
                pending.push_back(Ok(Event::Lost(mine.claim.clone())));
                false
            }
        });
    }

    async fn find_deaths(&mut self) -> Result<()> {
        let names: BTreeSet<String> = self
            .seen
            .values()
            .flat_map(|seen| [&seen.row.owner, &seen.row.wanted])
            .flatten()
            .filter(|name| **name != self.me)
            .cloned()
            .collect();
        let mut dead = BTreeSet::new();
        for name in names {
            if limited(self.patience(), self.leased.store.is_gone(&name)).await? {
                dead.insert(name);
            }
        }
        self.dead = dead;
        Ok(())
    }

    /// The live worker that holds a row or for whom it is kept.
    pub(super) fn holder(&self, seen: &Seen) -> Option<String> {
        let row = &seen.row;
        match &row.owner {
            Some(owner) if *owner == self.me => {
                self.held.contains_key(&row.shard).then(|| owner.clone())
            }
            Some(owner) => self.may_live(owner, seen).then(|| owner.clone()),
            None => {
                let age = clock::now().duration_since(seen.since);
                let kept = age < self.leased.settings.reserve();
                row.wanted
                    .clone()
                    .filter(|name| kept && *name != self.me && !self.dead.contains(name))
            }
        }
    }

    /// The shards that can be worked on now, as the balance sees them.
    fn view(&self) -> View {
        let ended = |id: &ShardId| {
            let seen = self.seen.get(id);
            seen.is_some_and(|seen| seen.row.has_ended() && self.counts(&seen.row))
        };
        let workable = self.map.all().iter().filter_map(|shard| {
            let seen = self.seen.get(&shard.id)?;
            let blocked = !self.counts(&seen.row)
                || seen.row.has_ended()
                || !lineage::parents_have_ended(shard, &self.map, ended);
            if blocked {
                return None;
            }
            let holder = self.holder(seen);
            // Who asked for a shard and does not take it, although nobody holds it, may stand still.
            let wanted = seen.row.wanted.clone().filter(|_| holder.is_some());
            Some(Workable {
                shard: shard.id.clone(),
                holder,
                wanted: wanted.filter(|name| !self.dead.contains(name)),
                neglected: clock::now().duration_since(seen.since)
                    >= self.leased.settings.lease_time * 2,
            })
        });
        View::new(&self.me, workable.collect())
    }

    /// Takes what it may, more at each step; between them it sees what others took, who may have started with it.
    async fn take_free(&mut self) -> Result<()> {
        let mut tried = BTreeSet::new();
        let mut step = 1;
        loop {
            let takes = self.view().takes(&self.leased.random).into_iter();
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
            self.look().await?;
        }
    }

    async fn take(&mut self, shards: &[ShardId]) -> Result<()> {
        let takes = shards.iter().filter_map(|id| {
            let row = &self.seen.get(id)?.row;
            let next = Lease {
                owner: Some(self.me.clone()),
                epoch: row.epoch + 1,
                counter: row.counter + 1,
                wanted: None,
                progress: self.signed(row),
                ..row.clone()
            };
            Some((Some(row.clone()), next))
        });
        let takes = takes.collect();
        let taken = clock::now();
        let (swapped, outcome) = self.swap_all(takes).await;
        if !swapped.is_empty() {
            let (app, shards) = (&self.leased.app, swapped.len());
            tracing::info!(app, shards, "leases taken");
        }
        for row in swapped {
            if let Some(shard) = self.map.get(&row.shard).cloned() {
                self.grant(shard, row, taken);
            }
        }
        outcome
    }

    /// The progress in a row of this output, with the output's name where it was written without.
    fn signed(&self, row: &Lease) -> Option<Progress> {
        let progress = row.progress.clone();
        match self.target.id() {
            Some(_) => Some(self.target.sign(progress.unwrap_or_default())),
            None => progress,
        }
    }

    fn grant(&mut self, shard: Shard, row: Lease, taken: Instant) {
        self.grants += 1;
        let claim = ClaimId {
            shard: shard.id.clone(),
            grant: self.grants,
        };
        tracing::debug!(app = self.leased.app, shard = %shard.id, epoch = row.epoch, "lease taken");
        let held = Arc::new(Held::new(
            &self.leased.app,
            &self.me,
            row,
            taken,
            Arc::clone(&self.leased.store),
            self.leased.settings.lease_time,
            Arc::clone(&self.nudge),
        ));
        self.renewals.add(&held);
        let reader = OpenedLate::new(&self.leased.stream, &shard.id, &self.leased.budget);
        let mine = Mine {
            claim: claim.clone(),
            held: Arc::clone(&held),
            leaving: None,
        };
        self.held.insert(shard.id.clone(), mine);
        self.pending.push_back(Ok(Event::Granted(Claim {
            id: claim,
            shard,
            reader: Box::new(reader),
            ledger: Arc::new(LeaseLedger(held)),
        })));
    }

    /// Answers those who asked for a shard of this worker.
    async fn hand_over(&mut self) {
        let leaving = self
            .held
            .iter()
            .filter(|(_, mine)| mine.leaving.is_some())
            .map(|(shard, _)| shard.clone())
            .collect();
        let (given, declined) = self.view().hands_over(&leaving);
        let until = clock::now() + self.leased.settings.handover;
        for shard in given {
            if let Some(mine) = self.held.get_mut(&shard) {
                mine.leaving = Some(until);
                let claim = mine.claim.clone();
                self.pending.push_back(Ok(Event::Revoking { claim, until }));
            }
        }
        let patience = self.patience();
        for shard in declined {
            if let Some(mine) = self.held.get(&shard) {
                Self::try_change(patience, &mine.held, |row| row.wanted = None).await;
            }
        }
    }

    /// A change that may be left undone: the next round finds what it was about.
    async fn try_change(patience: Duration, held: &Held, edit: impl Fn(&mut Lease) + Send + Sync) {
        match tokio::time::timeout(patience, held.change(edit)).await {
            Ok(Ok(_) | Err(Error::Fenced { .. })) => {}
            Ok(Err(error)) => tracing::warn!("leases: {}", error.report()),
            Err(_) => tracing::warn!("leases: the store does not answer"),
        }
    }

    /// Takes from its owner's hands what was not handed over in time.
    async fn end_handovers(&mut self) {
        let now = clock::now();
        let late: Vec<_> = self
            .held
            .iter()
            .filter(|(_, mine)| mine.leaving.is_some_and(|until| until <= now))
            .map(|(shard, _)| shard.clone())
            .collect();
        let patience = self.patience();
        for shard in late {
            if let Some(mine) = self.held.remove(&shard) {
                self.pending.push_back(Ok(Event::Lost(mine.claim)));
                Self::try_change(patience, &mine.held, |row| row.owner = None).await;
                // Where the store did not answer, the lease runs out.
                mine.held.lose("nobody");
            }
        }
    }

    async fn ask(&mut self) -> Result<()> {
        if let Some((shard, since)) = self.asked.clone() {
            let open = self.seen.get(&shard).is_some_and(|seen| {
                seen.row.wanted.as_ref() == Some(&self.me)
                    && self.holder(seen).is_some_and(|holder| holder != self.me)
            });
            let settings = &self.leased.settings;
            let patience = settings.handover + settings.lease_time * 2;
            if !open {
                self.asked = None;
            } else if clock::now().duration_since(since) >= patience {
                // The holder renews but neither hands over nor declines: it does not know how.
                self.asked = None;
                return self.take(&[shard]).await;
            } else {
                return Ok(());
            }
        }
        let Some((shard, holder)) = self.view().asks(&self.leased.random) else {
            return Ok(());
        };
        let Some(seen) = self.seen.get(&shard) else {
            return Ok(());
        };
        let mut next = seen.row.clone();
        next.counter += 1;
        next.wanted = Some(self.me.clone());
        tracing::debug!(app = self.leased.app, %shard, holder, "asking for a lease");
        let swap = self.leased.store.swap(Some(&seen.row), &next);
        match limited(self.patience(), swap).await? {
            Swap::Swapped => {
                self.note_row(next);
                self.asked = Some((shard, clock::now()));
            }
            Swap::Beaten(Some(other)) => self.note_row(other),
            Swap::Beaten(None) => {}
        }
        Ok(())
    }

    /// Takes and asks no more.
    async fn stop(&mut self) {
        self.claiming = false;
        let asked = self
            .asked
            .take()
            .and_then(|(shard, _)| self.seen.get(&shard));
        if let Some(seen) = asked {
            let mut next = seen.row.clone();
            next.counter += 1;
            next.wanted = None;
            // Left undone, the shard is kept for this worker for a moment and then goes on.
            let swap = self.leased.store.swap(Some(&seen.row), &next);
            drop(limited(self.patience(), swap).await);
        }
    }

    /// Gives everything back.
    async fn leave(&mut self) {
        let patience = self.patience();
        futures::stream::iter(std::mem::take(&mut self.held).into_values())
            .map(|mine| async move {
                Self::try_change(patience, &mine.held, |row| row.owner = None).await;
            })
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }
}
