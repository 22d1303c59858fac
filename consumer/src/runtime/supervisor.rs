//! Runs a stage over a stream: takes what the subscription grants, one task a claim, until the end.
//!
//! A run ends
//! - by a drain: intake stops, every task publishes and writes its ledger, claims are given back at once; tasks that
//!   need longer than the drain timeout are cut off, which is an error;
//! - with `exit_at_end`, when [`super::end_of_stream`] says that the end was reached: then as by a drain;
//! - by an error that no retry can mend, of one shard or of the subscription: the run drains and ends with the first
//!   such error. The other shards lose nothing by it, and a process manager that starts the process again does not hide
//!   the fault. Corrupt data is the exception: its shard stands still, the others go on, and the run ends with that
//!   error when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Disposition, Error, Result};
use hydrant_core::shard::ShardId;
use hydrant_core::shutdown::Phase;
use hydrant_core::stream::Assignment;
use hydrant_core::subscription::{Claim, ClaimId, Event, Subscription};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::end_of_stream::{EndWatch, Looked};
use super::leases::{Leased, LeasedSubscription, PrivateLeases};
use super::progress_board::Summary;
use super::run_context::{RunContext, say};
use super::run_spec::RunSpec;
use super::task::{Control, Outcome, ShardTask};

/// Runs a stage over a stream until the end. Dropping the future stops everything at once, like a death.
pub async fn run(spec: RunSpec) -> Result<Summary> {
    let known = spec.stream.shards().await?;
    let known = known.all().iter().map(|shard| shard.id.clone()).collect();
    let assignment = if spec.keeps_progress {
        spec.stream.assignment(&spec.app).await?
    } else {
        Assignment::Leases(Arc::new(PrivateLeases::default()))
    };
    let (subscription, by_leases): (Box<dyn Subscription>, bool) = match assignment {
        Assignment::Broker(subscription) => (subscription, false),
        Assignment::Leases(store) => {
            let leased = Leased {
                stream: Arc::clone(&spec.stream),
                store,
                app: spec.app.clone(),
                worker: spec.worker.clone(),
                start: spec.start,
                stage: Arc::clone(&spec.stage),
                settings: spec.leases,
                budget: spec.context.budget.clone(),
                random: spec.context.random.clone(),
            };
            (Box::new(LeasedSubscription::start(leased).await?), true)
        }
    };
    let end = EndWatch::new(spec.exit_at_end, spec.idle);
    let supervisor = Supervisor {
        shared: Arc::new(RunContext::new(spec)),
        subscription,
        by_leases,
        known,
        tasks: JoinSet::new(),
        working: BTreeMap::new(),
        waiting: BTreeMap::new(),
        drain: None,
        failure: None,
        end,
        measure_at: Some(clock::now() + MEASURE_EVERY),
        releases: JoinSet::new(),
        looks: JoinSet::new(),
        silent_until: None,
        deaf: false,
    };
    supervisor.run().await
}

/// How often lag is measured: one look at all shards' tips.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// A claim that a task works on.
struct Working {
    claim: ClaimId,
    task: tokio::task::AbortHandle,
    control: watch::Sender<Control>,
    until: Option<Instant>,
}

struct Supervisor {
    shared: Arc<RunContext>,
    subscription: Box<dyn Subscription>,
    by_leases: bool,
    /// The shards that were there when the run began.
    known: BTreeSet<ShardId>,
    tasks: JoinSet<(ShardId, Outcome)>,
    working: BTreeMap<ShardId, Working>,
    /// Claims granted while the task of the shard's former claim has not ended.
    waiting: BTreeMap<ShardId, Claim>,
    drain: Option<Drain>,
    failure: Option<Error>,
    end: EndWatch,
    measure_at: Option<Instant>,
    /// Claims that nobody works on, on their way back.
    releases: JoinSet<()>,
    looks: JoinSet<Look>,
    /// Until when the subscription is left alone after a failure.
    silent_until: Option<Instant>,
    /// The subscription has failed for good.
    deaf: bool,
}

/// A drain under way.
#[derive(Clone, Copy, Debug)]
struct Drain {
    until: Option<Instant>,
}

impl Drain {
    /// From now on, for `timeout` at most.
    fn new(timeout: Option<Duration>) -> Self {
        Drain {
            until: timeout.map(|timeout| clock::now() + timeout),
        }
    }

    /// After this, tasks are cut off.
    fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// A look at stream and ledgers, which may take long.
enum Look {
    Measured,
    End(Result<Looked>),
}

impl Supervisor {
    async fn run(mut self) -> Result<Summary> {
        let shutdown = self.shared.spec.shutdown.clone();
        loop {
            if self.drain.is_some() && self.tasks.is_empty() {
                break;
            }
            let draining = self.drain.is_some();
            let shared = Arc::clone(&self.shared);
            let drain_until = self.drain.as_ref().and_then(Drain::until);
            let revoke_until = self
                .working
                .values()
                .filter_map(|working| working.until)
                .min();
            // Every arm is cancel-safe: watches, joins, sleeps, a notification and the subscription's receive. No body
            // waits for a store or a stream, so that none keeps the others from being heard.
            tokio::select! {
                biased;
                () = shutdown.reached(Phase::Aborting) => {
                    self.tasks.shutdown().await;
                    return Err(Error::fatal("stopped at once: what was not published is done again after a restart"));
                }
                () = shutdown.draining(), if !draining => self.begin_drain(),
                Some(joined) = self.tasks.join_next_with_id() => self.joined(joined),
                () = clock::sleep_until(drain_until), if draining => {
                    let left = self.working.len();
                    self.tasks.shutdown().await;
                    self.working.clear();
                    self.fail(timed_out(left));
                    break;
                }
                () = clock::sleep_until(revoke_until) => self.cut_off(),
                () = clock::sleep_until(self.silent_until) => self.silent_until = None,
                event = self.subscription.next(), if !self.deaf && self.silent_until.is_none() => {
                    self.heard(event);
                }
                Some(_) = self.releases.join_next() => {}
                Some(look) = self.looks.join_next() => self.looked(look),
                () = shared.board.settled.notified(), if !draining && self.end.may_look() => {
                    self.look_for_end();
                }
                () = clock::sleep_until(self.end.next_look()), if !draining => self.look_for_end(),
                () = clock::sleep_until(self.measure_at), if !draining => self.begin_measure(),
            }
        }
        self.looks.abort_all();
        // Without an answer the summary tells what was known before.
        drop(tokio::time::timeout(MEASURE_EVERY, measure(&self.shared)).await);
        for claim in std::mem::take(&mut self.waiting).into_values() {
            self.releases.spawn(release(claim));
        }
        while self.releases.join_next().await.is_some() {}
        if let Err(error) = self.subscription.close().await {
            tracing::warn!("subscription: {}", error.report());
        }
        if self.failure.is_none() {
            self.failure = self.shared.first_corrupt();
        }
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.shared.board.summary()),
        }
    }

    fn heard(&mut self, event: Result<Event>) {
        match event {
            Ok(event) => self.follow(event),
            Err(error) => match error.disposition() {
                Disposition::Retry { after } => {
                    tracing::warn!("subscription: {}", error.report());
                    self.silent_until = Some(clock::now() + after);
                }
                _ => {
                    self.deaf = true;
                    self.fail(error);
                    self.begin_drain();
                }
            },
        }
    }

    fn fail(&mut self, error: Error) {
        if self.failure.is_none() {
            self.failure = Some(error);
        } else {
            tracing::error!("{}", error.report());
        }
    }

    fn begin_drain(&mut self) {
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(Drain::new(self.shared.spec.drain_timeout));
        for working in self.working.values() {
            working.control.send_if_modified(|control| {
                let changes = *control == Control::Run;
                if changes {
                    *control = Control::Drain;
                }
                changes
            });
        }
        self.subscription.stop_claiming();
        for claim in std::mem::take(&mut self.waiting).into_values() {
            self.releases.spawn(release(claim));
        }
    }

    fn follow(&mut self, event: Event) {
        match event {
            Event::Granted(claim) => {
                if self.drain.is_some() {
                    self.releases.spawn(release(claim));
                } else if self.working.contains_key(&claim.id.shard) {
                    self.waiting.insert(claim.id.shard.clone(), claim);
                } else {
                    self.spawn(claim);
                }
            }
            Event::Revoking { claim, until } => {
                if let Some(working) = self.current(&claim) {
                    working.until = Some(until);
                    working.control.send_if_modified(|control| {
                        let changes = *control == Control::Run;
                        if changes {
                            *control = Control::Revoke;
                        }
                        changes
                    });
                } else {
                    self.drop_waiting(&claim);
                }
            }
            Event::Lost(claim) => {
                if let Some(working) = self.current(&claim) {
                    working.task.abort();
                } else {
                    self.waiting.retain(|_, waiting| waiting.id != claim);
                }
            }
        }
    }

    fn current(&mut self, claim: &ClaimId) -> Option<&mut Working> {
        self.working
            .get_mut(&claim.shard)
            .filter(|working| working.claim == *claim)
    }

    fn drop_waiting(&mut self, id: &ClaimId) {
        if self
            .waiting
            .get(&id.shard)
            .is_some_and(|claim| claim.id == *id)
            && let Some(claim) = self.waiting.remove(&id.shard)
        {
            self.releases.spawn(release(claim));
        }
    }

    /// Ends what was to be given back by now and was not.
    fn cut_off(&mut self) {
        let now = clock::now();
        for working in self.working.values_mut() {
            if working.until.is_some_and(|until| until <= now) {
                working.until = None;
                working.task.abort();
            }
        }
    }

    fn spawn(&mut self, claim: Claim) {
        let (control, watch) = watch::channel(Control::Run);
        let (id, shard) = (claim.id.clone(), claim.id.shard.clone());
        // Under leases the rows hold where the app starts, and one without progress means the beginning.
        let born_under_way = self.by_leases || !self.known.contains(&shard);
        let task = ShardTask::new(Arc::clone(&self.shared), claim, watch, born_under_way);
        let name = shard.clone();
        let task = self.tasks.spawn(async move { (name, task.work().await) });
        self.working.insert(
            shard,
            Working {
                claim: id,
                task,
                control,
                until: None,
            },
        );
        self.gauge_claims();
    }

    fn gauge_claims(&self) {
        let stream = self.shared.spec.stream.id().name.to_string();
        metrics::gauge!("hydrant_consumer_claims", "stream" => stream)
            .set(self.working.len() as f64);
    }

    fn joined(&mut self, joined: Result<(Id, (ShardId, Outcome)), JoinError>) {
        let (shard, outcome) = match joined {
            Ok((_, ended)) => ended,
            Err(error) => {
                let found = self.working.iter().find(|(_, w)| w.task.id() == error.id());
                let Some(shard) = found.map(|(shard, _)| shard.clone()) else {
                    return;
                };
                let outcome = if error.is_cancelled() {
                    Outcome::Lost
                } else {
                    Outcome::Failed(Error::fatal(format!(
                        "the task of shard `{shard}` panicked, which is a fault of hydrant"
                    )))
                };
                (shard, outcome)
            }
        };
        self.working.remove(&shard);
        self.shared.board.update(&shard, |status| {
            status.active = false;
            status.held_bytes = 0;
        });
        self.gauge_claims();
        match outcome {
            Outcome::Ended => tracing::info!(%shard, "the shard has ended"),
            Outcome::Released => tracing::debug!(%shard, "the shard was given back"),
            Outcome::Lost => {
                self.shared.note_sound(&shard);
                tracing::info!(%shard, "the shard is another worker's now");
            }
            Outcome::Failed(error) => {
                let error = say(&shard, "cannot go on", error);
                self.failure.get_or_insert(error);
                self.begin_drain();
            }
        }
        if let Some(claim) = self.waiting.remove(&shard) {
            if self.drain.is_some() {
                self.releases.spawn(release(claim));
            } else {
                self.spawn(claim);
            }
        }
    }

    fn look_for_end(&mut self) {
        let progress = self.subscription.progress();
        if let Some(look) = self.end.look(&self.shared, progress) {
            self.looks.spawn(async move { Look::End(look.await) });
        }
    }

    fn begin_measure(&mut self) {
        self.measure_at = None;
        let shared = Arc::clone(&self.shared);
        self.looks.spawn(async move {
            measure(&shared).await;
            Look::Measured
        });
    }

    fn looked(&mut self, look: Result<Look, JoinError>) {
        let end = match look {
            Ok(Look::Measured) => {
                self.measure_at = Some(clock::now() + MEASURE_EVERY);
                return;
            }
            Ok(Look::End(looked)) => self.end.judge(&self.shared, looked, self.by_leases),
            Err(_) => Err(Error::fatal(
                "a look at the stream panicked, which is a fault of hydrant",
            )),
        };
        match end {
            Ok(true) => self.begin_drain(),
            Ok(false) => {}
            Err(error) => match error.disposition() {
                Disposition::Retry { .. } => tracing::warn!("end of stream: {}", error.report()),
                _ => {
                    self.fail(error);
                    self.begin_drain();
                }
            },
        }
    }
}

/// Compares what is published with the tips.
async fn measure(shared: &RunContext) {
    let spec = &shared.spec;
    match spec.stream.states().await {
        Ok(states) => shared.board.measure(&spec.stream.id().name, &states),
        Err(error) => tracing::debug!("lag: {}", error.report()),
    }
}

/// Gives back a claim that nobody worked on.
async fn release(claim: Claim) {
    let Claim { id, ledger, .. } = claim;
    if let Err(error) = ledger.release().await {
        tracing::debug!(shard = %id.shard, "release: {}", error.report());
    }
}

/// What a drain that took too long ends with.
fn timed_out(shards: usize) -> Error {
    Error::fatal(format!(
        "the drain took too long: {shards} shards were cut off; what they had not published is read \
         again at the next start"
    ))
}
