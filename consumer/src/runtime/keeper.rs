//! The task that keeps a worker's leases: takes, renews, hands over, asks, gives back; see [`super::leased`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Disposition, Error, Result};
use hydrant_core::lease::{Enlisted, Generations, Lease, Progress, Swap};
use hydrant_core::shard::{Shard, ShardId, ShardMap};
use hydrant_core::subscription::{Claim, ClaimId, Event};
use tokio::sync::{Notify, mpsc};

use super::balance::{View, Workable};
use super::held::{Fate, Held, LeaseLedger};
use super::leased::{Command, Leased};
use super::lineage;
use super::prefetch::OpenedLate;
use super::target::Target;

/// Renewals under way at once, so that hundreds of leases fit into a third of a lease time on a remote store.
const RENEWALS_AT_ONCE: usize = 16;

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
    pending: VecDeque<Result<Event>>,
    pub(super) claiming: bool,
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
            leased,
            me,
            map: ShardMap::default(),
            map_is_stale: true,
            seen: BTreeMap::new(),
            dead: BTreeSet::new(),
            held: BTreeMap::new(),
            pending: VecDeque::new(),
            claiming: true,
            grants: 0,
            asked: None,
            nudge: Arc::new(Notify::new()),
            events,
            _enlisted: enlisted,
        }
    }

    /// Keeps them until it is told to close.
    pub(crate) async fn keep(mut self, mut commands: mpsc::Receiver<Command>) {
        let store = Arc::clone(&self.leased.store);
        let stream = Arc::clone(&self.leased.stream);
        let nudge = Arc::clone(&self.nudge);
        let mut due = clock::now();
        let mut earliest = due;
        loop {
            if clock::now() >= due {
                let half = self.leased.settings.observe / 2;
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
            }
            let soon = due > earliest;
            let events = self.events.clone();
            // Every arm is cancel-safe: receiving, reserving, waiting; the work is done in the bodies.
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None => return,
                    Some(Command::StopClaiming(answer)) => {
                        self.stop().await;
                        answer.send(()).ok();
                    }
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

    async fn round(&mut self) -> Result<()> {
        self.renew().await;
        if self.map_is_stale {
            self.map = self.leased.stream.shards().await?;
            self.map_is_stale = false;
        }
        let rows = self.leased.store.list().await?;
        self.note(rows);
        self.find_losses();
        self.find_deaths().await?;
        if self.claiming && self.claim_rows().await? {
            self.hand_over().await;
            self.take_free().await?;
            self.ask().await?;
        }
        self.end_handovers().await;
        Ok(())
    }

    /// Renews what is due; a lease that could not be renewed for a lease time is lost.
    async fn renew(&mut self) {
        let now = clock::now();
        let settings = self.leased.settings;
        let due: Vec<_> = self
            .held
            .values()
            .filter(|mine| now.duration_since(mine.held.written()) >= settings.renew_after())
            .map(|mine| Arc::clone(&mine.held))
            .collect();
        let patience = settings.renew_after();
        futures::stream::iter(due)
            .map(|held| async move {
                let renewed = tokio::time::timeout(patience, held.change(|_| {})).await;
                let too_old = clock::now().duration_since(held.written()) >= settings.lease_time;
                if !matches!(renewed, Ok(Ok(_))) && too_old {
                    held.lose("nobody known: it could not be renewed in time");
                }
            })
            .buffer_unordered(RENEWALS_AT_ONCE)
            .collect::<()>()
            .await;
    }

    fn note(&mut self, rows: Vec<Lease>) {
        for row in rows {
            self.note_row(row);
        }
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
            if self.leased.store.is_gone(&name).await? {
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
            let wanted = seen.row.wanted.clone();
            Some(Workable {
                shard: shard.id.clone(),
                holder: self.holder(seen),
                wanted: wanted.filter(|name| !self.dead.contains(name)),
                neglected: clock::now().duration_since(seen.since)
                    >= self.leased.settings.lease_time * 2,
            })
        });
        View::new(&self.me, workable.collect())
    }

    async fn take_free(&mut self) -> Result<()> {
        let mut tried = BTreeSet::new();
        // Each look at the view counts what was taken, and who beat this worker to what.
        while let Some(shard) = self
            .view()
            .takes(&self.leased.random)
            .into_iter()
            .find(|shard| !tried.contains(shard))
        {
            tried.insert(shard.clone());
            self.take(&shard).await?;
        }
        Ok(())
    }

    async fn take(&mut self, id: &ShardId) -> Result<()> {
        let (Some(shard), Some(seen)) = (self.map.get(id), self.seen.get(id)) else {
            return Ok(());
        };
        let (shard, row) = (shard.clone(), &seen.row);
        let next = Lease {
            owner: Some(self.me.clone()),
            epoch: row.epoch + 1,
            counter: row.counter + 1,
            wanted: None,
            progress: self.signed(row),
            ..row.clone()
        };
        let taken = clock::now();
        match self.leased.store.swap(Some(row), &next).await? {
            Swap::Swapped => {
                self.note_row(next.clone());
                self.grant(shard, next, taken);
            }
            Swap::Beaten(Some(other)) => self.note_row(other),
            Swap::Beaten(None) => {
                self.seen.remove(id);
            }
        }
        Ok(())
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
        tracing::info!(app = self.leased.app, shard = %shard.id, epoch = row.epoch, "lease taken");
        let held = Arc::new(Held::new(
            &self.leased.app,
            &self.me,
            row,
            taken,
            Arc::clone(&self.leased.store),
            Arc::clone(&self.nudge),
        ));
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
            ledger: Box::new(LeaseLedger(held)),
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
        let patience = self.leased.settings.renew_after();
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
        let patience = self.leased.settings.renew_after();
        for shard in late {
            if let Some(mine) = self.held.remove(&shard) {
                self.pending.push_back(Ok(Event::Lost(mine.claim)));
                Self::try_change(patience, &mine.held, |row| row.owner = None).await;
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
                return self.take(&shard).await;
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
        match self.leased.store.swap(Some(&seen.row), &next).await? {
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
            drop(self.leased.store.swap(Some(&seen.row), &next).await);
        }
    }

    /// Gives everything back.
    async fn leave(&mut self) {
        let patience = self.leased.settings.renew_after();
        for mine in std::mem::take(&mut self.held).into_values() {
            Self::try_change(patience, &mine.held, |row| row.owner = None).await;
        }
    }
}
