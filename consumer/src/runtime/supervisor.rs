//! Runs a stage over a stream: starts one task for each claim that the subscription grants, until the end.
//!
//! A run ends
//! - by a drain: reading stops, every task publishes, writes its ledger and gives its claim back at once. The process
//!   limits the time of that: when it stops at once, the tasks that are left are aborted, which is an error;
//! - with `exit_at_end`, or after the order to finish, when [`super::end_of_stream`] finds that the end is reached: then
//!   by a drain;
//! - by an error of a shard or of the subscription that no retry can fix: the run drains and ends with the first such
//!   error. The other shards lose nothing, and a restart by a process manager does not hide the fault. Corrupt data
//!   is the exception: its shard is stalled, the others continue, and the run ends with that error when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Disposition, Error, Result};
use hydrant_core::lease::{Pace, Progress};
use hydrant_core::shard::ShardId;
use hydrant_core::shutdown::Phase;
use hydrant_core::stream::{Assignment, Join, Start};
use hydrant_core::subscription::{Claim, ClaimAnswer, ClaimId, Event, Subscription};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use crate::metrics::METRICS;

use super::end_of_stream::{EndObservation, EndWatch};
use super::leases::{LeasedSubscription, PrivateLeases};
use super::output_identity::OutputIdentity;
use super::progress_board::Summary;
use super::run_context::{RunContext, log_shard_error};
use super::run_spec::RunSpec;
use super::task::{ShardTask, TaskOrder, TaskOutcome};

/// Runs a stage over a stream until the end. Dropping the future stops everything at once, as a death would.
pub async fn run(spec: RunSpec) -> Result<Summary> {
    for metrics in [METRICS, hydrant_stream::METRICS] {
        hydrant_process::telemetry::describe(metrics);
    }
    let initial_shards = spec.stream.shards().await?;
    let context = &spec.context;
    let draw = context.random.u64() as u32;
    let worker = format!("{}-{draw:08x}", spec.worker);
    let assignment = if spec.keeps_progress {
        let join = Join::new(&spec.app, &worker, &context.budget);
        spec.stream.assignment(&join).await?
    } else {
        Assignment::Leases(Arc::new(PrivateLeases::default()))
    };
    let pace = match &assignment {
        Assignment::Leases(store) => store.pace(),
        Assignment::Broker(_) => Pace::LOCAL,
    };
    let checkpoint = spec.checkpoint.unwrap_or(pace.checkpoint);
    let output = OutputIdentity::of(&spec.stage);
    let mut first_shards = BTreeSet::new();
    let subscription: Box<dyn Subscription> = match assignment {
        Assignment::Broker(subscription) => {
            if spec.start == Start::Latest {
                let progress = subscription.progress().await?;
                if !progress.iter().any(|(_, progress)| output.owns(progress)) {
                    let all = initial_shards.all().iter();
                    first_shards = all.map(|shard| shard.id.clone()).collect();
                }
            }
            subscription
        }
        Assignment::Leases(_) if output.commits_progress() => {
            return Err(Error::refused(format!(
                "the output commits its own progress in `{}`, which needs a broker that assigns the shards; the shards \
                 of this stream are shared by leases: read a stream of such a broker",
                spec.stream.url()
            )));
        }
        Assignment::Leases(store) => {
            Box::new(LeasedSubscription::start(spec.clone(), worker, store).await?)
        }
    };
    let measure_every = spec.stream.states_every();
    let finish = spec.finish.subscribe();
    let end = EndWatch::new(spec.ends_after());
    let supervisor = Supervisor {
        shared: Arc::new(RunContext::new(spec, output, checkpoint)),
        first_shards,
        tasks: JoinSet::new(),
        active: BTreeMap::new(),
        waiting: BTreeMap::new(),
        draining: false,
        failure: None,
        end,
        finish,
        measure_at: Some(clock::now() + measure_every),
        releases: JoinSet::new(),
        observations: JoinSet::new(),
        retry_at: None,
        subscription_failed: false,
        subscription,
    };
    supervisor.run().await
}

/// How long the lag is measured once more at the end of a run.
const MEASURED_WITHIN: Duration = Duration::from_secs(1);

/// A claim and the task that works on it.
struct ActiveClaim {
    claim: ClaimId,
    task: tokio::task::AbortHandle,
    control: watch::Sender<TaskOrder>,
    until: Option<Instant>,
    answers: ClaimAnswers,
}

/// What a claim's source waits for. The task has them, too, so that they answer only when it is gone, also where the
/// supervisor goes first.
type ClaimAnswers = Arc<Mutex<Vec<ClaimAnswer>>>;

struct Supervisor {
    shared: Arc<RunContext>,
    /// The shards that existed when the app began, if it begins at the latest record. Under leases the rows say where it
    /// did, and a row without progress means the beginning; with a broker an app with progress in any shard began before.
    first_shards: BTreeSet<ShardId>,
    tasks: JoinSet<(ShardId, TaskOutcome)>,
    active: BTreeMap<ShardId, ActiveClaim>,
    /// Claims granted while the task of the shard's former claim has not ended.
    waiting: BTreeMap<ShardId, Claim>,
    draining: bool,
    failure: Option<Error>,
    end: EndWatch,
    finish: watch::Receiver<Option<Duration>>,
    measure_at: Option<Instant>,
    /// Claims without a task that are being given back.
    releases: JoinSet<()>,
    observations: JoinSet<Observation>,
    /// When to listen to the subscription again after a failure.
    retry_at: Option<Instant>,
    /// The subscription has failed and is not listened to any more.
    subscription_failed: bool,
    // Dropped after everything that works on its claims or answers for them.
    subscription: Box<dyn Subscription>,
}

/// A reading of stream and ledgers, which may take long.
enum Observation {
    Measured,
    End(Result<EndObservation>),
}

impl Supervisor {
    async fn run(mut self) -> Result<Summary> {
        let shutdown = self.shared.spec.shutdown.clone();
        loop {
            if self.draining && self.tasks.is_empty() {
                break;
            }
            let draining = self.draining;
            let shared = Arc::clone(&self.shared);
            let revoke_until = self.active.values().filter_map(|active| active.until).min();
            // Every arm is cancel-safe: watches, joins, sleeps, a notification and the subscription's receive. No
            // body waits for a store or a stream, so that no arm delays the others.
            tokio::select! {
                biased;
                () = shutdown.reached(Phase::Aborting) => {
                    self.tasks.shutdown().await;
                    self.releases.shutdown().await;
                    return Err(Error::fatal("stopped at once: what was not published is read again after a restart"));
                }
                () = shutdown.draining(), if !draining => self.begin_drain(),
                Ok(()) = self.finish.changed() => self.finish(),
                Some(joined) = self.tasks.join_next_with_id() => self.joined(joined),
                () = clock::sleep_until(revoke_until) => self.cut_off(),
                () = clock::sleep_until(self.retry_at) => self.retry_at = None,
                event = self.subscription.next(), if !self.subscription_failed && self.retry_at.is_none() => {
                    self.on_event(event);
                }
                Some(_) = self.releases.join_next() => {}
                Some(look) = self.observations.join_next() => self.on_observation(look),
                () = shared.board.became_quiet.notified(), if !draining && self.end.may_look() => {
                    self.look_for_end();
                }
                () = clock::sleep_until(self.end.next_look()), if !draining => self.look_for_end(),
                () = clock::sleep_until(self.measure_at), if !draining => self.begin_measure(),
            }
        }
        self.observations.abort_all();
        while self.releases.join_next().await.is_some() {}
        if let Err(error) = self.subscription.close().await {
            tracing::warn!("cannot close the subscription: {}", error.report());
        }
        // No worker waits for this one any more. Without an answer the summary has the lag that was measured before.
        drop(tokio::time::timeout(MEASURED_WITHIN, measure(&self.shared)).await);
        if self.failure.is_none() {
            self.failure = self.shared.take_stalled();
        }
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.shared.board.summary()),
        }
    }

    fn on_event(&mut self, event: Result<Event>) {
        match event {
            Ok(event) => self.handle(event),
            Err(error) => match error.disposition() {
                Disposition::Retry { after } => {
                    tracing::warn!("cannot read the subscription, retrying: {}", error.report());
                    self.retry_at = Some(clock::now() + after);
                }
                _ => {
                    self.subscription_failed = true;
                    self.fail(error);
                }
            },
        }
    }

    /// Ends the run with the first error.
    fn fail(&mut self, error: Error) {
        if self.failure.is_none() {
            self.failure = Some(error);
        } else {
            tracing::error!("{}", error.report());
        }
        self.begin_drain();
    }

    fn begin_drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        for active in self.active.values() {
            active.order(TaskOrder::Drain);
        }
        self.subscription.stop_claiming();
        for claim in std::mem::take(&mut self.waiting).into_values() {
            self.releases.spawn(release(claim, None));
        }
    }

    /// Watches for the end from now on, and lets the tasks look again at what they wait for.
    fn finish(&mut self) {
        self.end.watch(self.shared.spec.ends_after());
        for active in self.active.values() {
            active.control.send_modify(|_order| {});
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Granted(claim) => {
                if self.draining {
                    self.releases.spawn(release(claim, None));
                } else if self.active.contains_key(&claim.id.shard) {
                    self.waiting.insert(claim.id.shard.clone(), claim);
                } else {
                    self.spawn(claim);
                }
            }
            Event::Revoking {
                claim,
                until,
                answer,
            } => {
                if let Some(active) = self.current(&claim) {
                    active.answer_with(answer);
                    active.until = Some(until);
                    active.order(TaskOrder::Revoke);
                } else if let Some(waiting) = self.take_waiting(&claim) {
                    self.releases.spawn(release(waiting, Some(answer)));
                } else {
                    self.answer(answer);
                }
            }
            Event::Lost { claim, answer } => {
                if let Some(active) = self.current(&claim) {
                    active.answer_with(answer);
                    active.task.abort();
                } else {
                    self.take_waiting(&claim);
                    self.answer(answer);
                }
            }
        }
    }

    fn current(&mut self, claim: &ClaimId) -> Option<&mut ActiveClaim> {
        self.active
            .get_mut(&claim.shard)
            .filter(|active| active.claim == *claim)
    }

    fn take_waiting(&mut self, id: &ClaimId) -> Option<Claim> {
        self.waiting
            .get(&id.shard)
            .filter(|claim| claim.id == *id)?;
        self.waiting.remove(&id.shard)
    }

    /// Aborts the tasks that should have given their claims back by now.
    fn cut_off(&mut self) {
        let now = clock::now();
        for active in self.active.values_mut() {
            if active.until.is_some_and(|until| until <= now) {
                active.until = None;
                active.task.abort();
            }
        }
    }

    fn spawn(&mut self, claim: Claim) {
        debug_assert!(
            !self.active.contains_key(&claim.id.shard),
            "one task for each shard"
        );
        let (control, watch) = watch::channel(TaskOrder::Run);
        let (id, shard) = (claim.id.clone(), claim.id.shard.clone());
        let created_after_start = !self.first_shards.contains(&shard);
        let task = ShardTask::new(Arc::clone(&self.shared), claim, watch, created_after_start);
        let (name, answers) = (shard.clone(), ClaimAnswers::default());
        let left = Arc::clone(&answers);
        let task = self.tasks.spawn(async move {
            // Dropped after everything that works.
            let _left = left;
            (name, task.work().await)
        });
        self.active.insert(
            shard,
            ActiveClaim {
                claim: id,
                task,
                control,
                until: None,
                answers,
            },
        );
        self.gauge_claims();
    }

    fn gauge_claims(&self) {
        let stream = self.shared.spec.stream.id().name.to_string();
        metrics::gauge!("hydrant_consumer_claims", "stream" => stream)
            .set(self.active.len() as f64);
    }

    fn joined(&mut self, joined: Result<(Id, (ShardId, TaskOutcome)), JoinError>) {
        let (shard, outcome) = match joined {
            Ok((_, ended)) => ended,
            Err(error) => {
                let found = self.active.iter().find(|(_, w)| w.task.id() == error.id());
                let Some(shard) = found.map(|(shard, _)| shard.clone()) else {
                    return;
                };
                let outcome = if error.is_cancelled() {
                    TaskOutcome::Lost
                } else {
                    let task = format!("the task of shard `{shard}`");
                    TaskOutcome::Failed(Error::panicked(task))
                };
                (shard, outcome)
            }
        };
        if let Some(active) = self.active.remove(&shard) {
            self.answer(active.answers);
        }
        let left = match &outcome {
            TaskOutcome::Ended | TaskOutcome::Lost => true,
            TaskOutcome::Released => !self.draining,
            TaskOutcome::Failed(_) => false,
        };
        let stream = &self.shared.spec.stream.id().name;
        self.shared.board.stopped(stream, &shard, left);
        self.gauge_claims();
        match outcome {
            TaskOutcome::Ended => tracing::info!(%shard, "the shard has ended"),
            TaskOutcome::Released => {
                if !self.draining {
                    self.shared.note_resumed(&shard);
                }
                tracing::debug!(%shard, "the shard was given back");
            }
            TaskOutcome::Lost => {
                self.shared.note_resumed(&shard);
                tracing::info!(%shard, "lost the claim of the shard");
            }
            TaskOutcome::Failed(error) => {
                let error = log_shard_error(&shard, "the shard cannot continue", error);
                self.failure.get_or_insert(error);
                self.begin_drain();
            }
        }
        // None waits once a drain has begun.
        if let Some(claim) = self.waiting.remove(&shard) {
            self.spawn(claim);
        }
    }

    /// Answers, by a drop, for a claim that has no task, once no publish of the worker is under way that may hold its
    /// records.
    fn answer(&mut self, answer: impl Send + 'static) {
        if let Some(transaction) = self.shared.transaction.clone() {
            self.releases.spawn(async move {
                transaction.wait_for_publish().await;
                drop(answer);
            });
        }
    }

    fn look_for_end(&mut self) {
        let progress = self.subscription.progress();
        if let Some(look) = self.end.look(&self.shared, progress) {
            self.observations
                .spawn(async move { Observation::End(look.await) });
        }
    }

    fn begin_measure(&mut self) {
        self.measure_at = None;
        let shared = Arc::clone(&self.shared);
        self.observations.spawn(async move {
            measure(&shared).await;
            Observation::Measured
        });
    }

    fn on_observation(&mut self, look: Result<Observation, JoinError>) {
        let end = match look {
            Ok(Observation::Measured) => {
                let every = self.shared.spec.stream.states_every();
                self.measure_at = Some(clock::now() + every);
                return;
            }
            Ok(Observation::End(looked)) => self.end.judge(&self.shared, looked),
            Err(_) => Err(Error::panicked("reading the state of the stream")),
        };
        match end {
            Ok(true) => self.begin_drain(),
            Ok(false) => {}
            Err(error) => match error.disposition() {
                Disposition::Retry { .. } => tracing::warn!(
                    "cannot check for the end of the stream, retrying: {}",
                    error.report()
                ),
                _ => self.fail(error),
            },
        }
    }
}

/// Measures how far each shard of this worker is behind.
async fn measure(shared: &RunContext) {
    let stream = &shared.spec.stream;
    let statuses = shared.board.statuses().into_iter();
    for (shard, status) in statuses.filter(|(_, status)| !status.left) {
        let progress = Progress {
            to: status.summary.to,
            began: status.began,
            ..Progress::default()
        };
        match stream.behind(&shard, &progress).await {
            Ok(behind) => shared.board.measured(&stream.id().name, &shard, behind),
            Err(error) => tracing::debug!(%shard, "lag: {}", error.report()),
        }
    }
}

impl ActiveClaim {
    fn answer_with(&self, answer: ClaimAnswer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(answer);
    }

    /// Gives the task its first order to end; a later one changes nothing.
    fn order(&self, order: TaskOrder) {
        self.control.send_if_modified(|control| {
            let changes = *control == TaskOrder::Run;
            if changes {
                *control = order;
            }
            changes
        });
    }
}

/// Gives back a claim that no task worked on, and answers for it.
async fn release(claim: Claim, _answer: Option<ClaimAnswer>) {
    let Claim { id, ledger, .. } = claim;
    if let Err(error) = ledger.release().await {
        tracing::debug!(shard = %id.shard, "release: {}", error.report());
    }
}
