//! One claim, from its grant to its end: reader, stage half and ledger have one owner, this task.
//!
//! The task makes attempts. An attempt begins after what is durable ([`super::begin`]), opens the stage and drives it:
//! read, push, ask whether something is due, publish, write the ledger. It ends with the claim or with an error, and
//! nothing is sought in place: stage, queue, buffers and permits of a failed attempt are dropped before the next one.
//!
//! | error | what the task does |
//! |---|---|
//! | superseded | proves that the claim still holds by a ledger access, then opens after the winner's position |
//! | fenced | ends and writes nothing |
//! | retry, reroute | of a reader: reads on after the last push; of a ledger: writes again later; else a new attempt; with growing delays |
//! | corrupt data | publishes what came before it, keeps the claim and looks again, so that it goes on once it is repaired; with `exit_at_end` it is fatal |
//! | refused, fatal | ends with the error, after which the whole run drains |
//!
//! The ledger is written after a publish, at most once a checkpoint interval, and always before the claim is given back.

use std::sync::Arc;
use std::time::Duration;

use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Disposition, Error, Result};
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::retry::Backoff;
use hydrant_core::stage::{Flush, Opened, ShardStage};
use hydrant_core::stream::Read;
use hydrant_core::subscription::Claim;
use tokio::sync::watch;

use super::begin::{Begin, Rules};
use super::prefetch::Prefetch;
use super::supervisor::Shared;
use super::transaction::{Membership, aborted};

/// What the supervisor wants of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Control {
    /// To go on.
    Run,
    /// To publish and give the claim back, for another worker.
    Revoke,
    /// To publish and give the claim back, because the process ends.
    Drain,
}

/// How a task ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The shard has ended and its end is published.
    Ended,
    /// Everything is published and the claim given back.
    Released,
    /// The claim was lost.
    Lost,
    /// It cannot go on.
    Failed(Error),
}

/// While the budget is pressed and no stage publishes, the shard that holds most is made to, this often.
const PRESSURE_RECHECK: Duration = Duration::from_millis(100);
/// What was read ahead is shed when a push or a publish waits under pressure for this long.
const SHED_AFTER: Duration = Duration::from_secs(1);
/// How often a shard that stopped at corrupt data is looked at again.
const CORRUPT_RECHECK: Duration = Duration::from_secs(5);
/// Delays between attempts; a shard is tried for as long as the claim holds.
const PACE: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_secs(5),
    attempts: None,
};

/// The task of one claim.
pub(crate) struct ShardTask {
    shared: Arc<Shared>,
    claim: Claim,
    control: watch::Receiver<Control>,
    born_under_way: bool,
    /// Failures since the last publish.
    failures: u32,
    /// No attempt begins before this: another owner is known to be this far.
    floor: Position,
    /// The output may hold unconfirmed records up to here, from this task or one before.
    suspect: Position,
    first_reader: bool,
}

/// What an attempt has under way.
struct Attempt {
    stage: Box<dyn ShardStage>,
    prefetch: Prefetch,
    // Declared after the stage, so that it leaves after the stage's half is gone.
    membership: Option<Membership>,
    pushed: Position,
    published: Progress,
    /// Something was pushed since the last publish that said so.
    unpublished: bool,
    /// Progress that is not in the ledger yet, and when to write it.
    unwritten: Option<(Progress, Instant)>,
    ledger_at: Instant,
    idle_since: Option<Instant>,
    /// Since when the pressure is known that `due` did not answer.
    pressed_since: Option<Instant>,
    /// A stage's deadline at which `due` had nothing to say.
    answered: Option<Instant>,
    /// Reading stopped at corrupt data; it is tried again at this time.
    stopped_until: Option<Instant>,
    /// It was reported as standing still.
    standing: bool,
}

enum Step {
    Control,
    Timer,
    Pressure,
    Transaction,
    Read(Result<Read>),
}

impl ShardTask {
    /// For a claim just granted.
    pub(crate) fn new(
        shared: Arc<Shared>,
        claim: Claim,
        control: watch::Receiver<Control>,
        born_under_way: bool,
    ) -> Self {
        ShardTask {
            shared,
            claim,
            control,
            born_under_way,
            failures: 0,
            floor: Position::Begin,
            suspect: Position::Begin,
            first_reader: true,
        }
    }

    /// Works until the claim ends.
    pub(crate) async fn work(mut self) -> Outcome {
        self.status(|status| {
            status.active = true;
            status.settled = false;
            status.idle_since = None;
        });
        let outcome = self.attempts().await;
        self.status(|status| {
            status.active = false;
            status.held_bytes = 0;
        });
        outcome
    }

    async fn attempts(&mut self) -> Outcome {
        loop {
            let error = match self.attempt().await {
                Ok(outcome) => return outcome,
                Err(error) => error,
            };
            self.status(|status| {
                status.settled = false;
                status.idle_since = None;
                status.held_bytes = 0;
            });
            let shard = &self.claim.shard.id;
            let delay = PACE.delay(self.failures, &self.shared.spec.context.random);
            let wait = match error.disposition() {
                Disposition::Superseded { after } => {
                    self.count("superseded");
                    tracing::info!(%shard, %after, "another owner published first");
                    self.floor = self.floor.max(after);
                    // The first time the answer lies in the ledger access that the next attempt begins with.
                    if self.failures == 0 {
                        Duration::ZERO
                    } else {
                        delay
                    }
                }
                Disposition::Fenced => return Outcome::Lost,
                Disposition::Retry { after } => {
                    self.count("retry");
                    tracing::warn!(%shard, "will try again: {}", error.report());
                    delay.max(after)
                }
                Disposition::Reroute => delay,
                Disposition::Refused | Disposition::Fatal => return Outcome::Failed(error),
            };
            self.failures = self.failures.saturating_add(1);
            tokio::select! {
                biased;
                () = wanted(&mut self.control) => {
                    // Nothing is under way; what an attempt left in the output stays pinned in the ledger.
                    return self.give_back().await;
                }
                () = clock::sleep(wait) => {}
            }
        }
    }

    fn status<T>(&self, edit: impl FnOnce(&mut super::lag::Status) -> T) -> T {
        self.shared.board.update(&self.claim.shard.id, edit)
    }

    fn count(&self, what: &'static str) {
        let (stream, shard) = self.labels();
        metrics::counter!("hydrant_consumer_interruptions_total", "stream" => stream, "shard" => shard, "reason" => what)
            .increment(1);
    }

    fn labels(&self) -> (String, String) {
        (
            self.shared.spec.stream.id().name.to_string(),
            self.claim.shard.id.to_string(),
        )
    }

    /// Finds where to begin, and stores it before the first output when a restart could not find it again.
    async fn begin(&mut self) -> Result<Progress> {
        let spec = &self.shared.spec;
        let rules = Rules {
            app: &spec.app,
            start: spec.start,
            pin: spec.pin.as_deref(),
            born_under_way: self.born_under_way,
        };
        let Begin {
            mut progress,
            suspect,
            in_ledger,
        } = rules
            .begin(
                &spec.stream,
                &*spec.stage,
                &self.claim.shard,
                &*self.claim.ledger,
            )
            .await?;
        self.suspect = self.suspect.max(suspect);
        if progress.to < self.floor {
            progress.to = self.floor;
            progress.marks.clear();
        }
        let unsaid = in_ledger.is_none() && progress == Progress::default();
        if !unsaid && in_ledger.as_ref() != Some(&progress) {
            self.claim.ledger.write(&progress).await?;
        }
        Ok(progress)
    }

    async fn open(&mut self) -> Result<Attempt> {
        let progress = self.begin().await?;
        let transaction = self.shared.transaction.as_ref();
        let membership = transaction.map(|transaction| transaction.join(&self.claim.id));
        let shared = Arc::clone(&self.shared);
        let spec = &shared.spec;
        let shard = self.claim.shard.clone();
        let stage = spec
            .stage
            .open(Opened {
                claim: self.claim.id.clone(),
                shard: shard.clone(),
                after: progress.clone(),
                start: progress.to,
                generation: self.claim.ledger.generation(),
                parents: shard.parents.clone(),
            })
            .await?;
        let first = self.first_reader.then(|| self.take_reader());
        let prefetch = Prefetch::start(
            &spec.stream,
            &shard.id,
            &spec.context.budget,
            progress.to,
            first,
        );
        self.first_reader = false;
        let to = progress.to;
        self.status(|status| {
            status.pushed = to;
            status.summary.to = to;
            status.settled = true;
        });
        Ok(Attempt {
            stage,
            prefetch,
            membership,
            pushed: to,
            published: progress,
            unpublished: false,
            unwritten: None,
            ledger_at: clock::now(),
            idle_since: None,
            pressed_since: None,
            answered: None,
            stopped_until: None,
            standing: false,
        })
    }

    /// The claim's own reader; what it leaves behind makes a new one when asked.
    fn take_reader(&mut self) -> Box<dyn hydrant_core::stream::ShardReader> {
        let spec = &self.shared.spec;
        let late = super::leased::OpenedLate::new(
            &spec.stream,
            &self.claim.shard.id,
            &spec.context.budget,
        );
        std::mem::replace(&mut self.claim.reader, Box::new(late))
    }

    async fn attempt(&mut self) -> Result<Outcome> {
        let mut attempt = self.open().await?;
        if attempt.published.to == Position::End {
            return Ok(self.finish(&mut attempt, Outcome::Ended).await);
        }
        loop {
            if *self.control.borrow_and_update() != Control::Run {
                return self.hand_back(&mut attempt).await;
            }
            let wake = self.wake(&attempt);
            let budget = &self.shared.spec.context.budget;
            let ask_pressure = attempt.unpublished && attempt.pressed_since.is_none();
            // Every arm is cancel-safe: a watch, a sleep, a notification, a receive; the work is in the bodies.
            let step = tokio::select! {
                biased;
                changed = self.control.changed() => match changed {
                    Ok(()) => Step::Control,
                    Err(_) => return Ok(Outcome::Lost),
                },
                () = changed(&mut attempt.membership) => Step::Transaction,
                () = clock::sleep_until(wake) => Step::Timer,
                () = budget.pressure(), if ask_pressure => Step::Pressure,
                read = attempt.prefetch.next(), if attempt.stopped_until.is_none() => Step::Read(read),
            };
            match step {
                Step::Control => {}
                Step::Timer => self.tick(&mut attempt).await?,
                Step::Pressure => {
                    attempt.pressed_since = Some(clock::now());
                    self.publish_if_due(&mut attempt).await?;
                }
                Step::Transaction => self.follow_transaction(&mut attempt).await?,
                Step::Read(Ok(read)) => {
                    if std::mem::take(&mut attempt.standing) {
                        self.shared.note_corrupt(&self.claim.shard.id, None);
                    }
                    let ended = matches!(read, Read::End { .. });
                    self.push(&mut attempt, read).await?;
                    if ended {
                        self.publish(&mut attempt, Flush::End).await?;
                        if attempt.published.to != Position::End {
                            return Err(Error::fatal(format!(
                                "the end of shard `{}` was published only up to {}",
                                self.claim.shard.id, attempt.published.to
                            )));
                        }
                        return Ok(self.finish(&mut attempt, Outcome::Ended).await);
                    }
                    self.publish_if_due(&mut attempt).await?;
                }
                Step::Read(Err(error)) => self.reading_failed(&mut attempt, error).await?,
            }
        }
    }

    /// When something is to be done although nothing was read.
    fn wake(&self, attempt: &Attempt) -> Option<Instant> {
        let spec = &self.shared.spec;
        let stage = attempt
            .stage
            .deadline()
            .filter(|deadline| attempt.answered.is_none_or(|answered| *deadline > answered));
        let ledger = attempt.unwritten.as_ref().map(|(_, at)| *at);
        let idle = attempt
            .idle_since
            .filter(|_| spec.exit_at_end && (attempt.unpublished || attempt.unwritten.is_some()))
            .map(|since| since + spec.idle);
        let pressure = attempt
            .pressed_since
            .filter(|_| attempt.unpublished)
            .map(|since| since + PRESSURE_RECHECK);
        [stage, ledger, idle, pressure, attempt.stopped_until]
            .into_iter()
            .flatten()
            .min()
    }

    async fn tick(&mut self, attempt: &mut Attempt) -> Result<()> {
        let now = clock::now();
        let spec = &self.shared.spec;
        if let Some(since) = attempt.pressed_since
            && since + PRESSURE_RECHECK <= now
        {
            attempt.pressed_since = None;
            let pressed = spec.context.budget.is_pressed();
            if pressed && attempt.unpublished && self.shared.board.holds_most(&self.claim.shard.id)
            {
                self.publish(attempt, Flush::Memory).await?;
            }
        }
        let idle_over = attempt
            .idle_since
            .is_some_and(|since| since + self.shared.spec.idle <= now);
        if idle_over && self.shared.spec.exit_at_end {
            if attempt.unpublished {
                self.publish(attempt, Flush::Drain).await?;
                // A stage that published less than all is asked again after another idle time.
                attempt.idle_since = Some(now);
            }
            self.checkpoint(attempt, true).await?;
        }
        attempt.stopped_until = attempt.stopped_until.filter(|until| *until > now);
        self.publish_if_due(attempt).await?;
        self.checkpoint(attempt, false).await
    }

    async fn publish_if_due(&mut self, attempt: &mut Attempt) -> Result<()> {
        if let Some(why) = attempt.stage.due(clock::now()) {
            self.publish(attempt, why).await?;
        }
        // A deadline that stands although it has passed is not asked about again before it moves.
        attempt.answered = attempt
            .stage
            .deadline()
            .filter(|deadline| *deadline <= clock::now());
        Ok(())
    }

    async fn push(&mut self, attempt: &mut Attempt, read: Read) -> Result<()> {
        let (to, idle) = match &read {
            Read::Batch(batch) => {
                self.note_batch(batch);
                (batch.to, None)
            }
            Read::Idle { through } => (*through, Some(clock::now())),
            Read::Gap { from, to, why } => {
                let shard = &self.claim.shard.id;
                tracing::warn!(%shard, %from, %to, why, "records are lost to this reader");
                self.status(|status| status.summary.gaps += 1);
                self.count("gap");
                (*to, None)
            }
            Read::End { .. } => (Position::End, None),
        };
        let moves = to > attempt.pushed || idle.is_none();
        attempt.idle_since = idle;
        attempt.unpublished |= moves;
        attempt.pushed = attempt.pushed.max(to);
        if self.shared.spec.pin.is_some() && to != Position::End {
            self.suspect = self.suspect.max(to);
        }
        let (pushed, settled) = (attempt.pushed, attempt.is_settled());
        self.status(|status| {
            status.pushed = pushed;
            // A push that waits is no idleness; it is told when it has returned.
            status.idle_since = None;
            status.settled = settled;
        });
        let budget = &self.shared.spec.context.budget;
        let push = shedding(&mut attempt.prefetch, budget, attempt.stage.push(read));
        match &attempt.membership {
            None => push.await?,
            // A push cut short is lost with its attempt.
            Some(membership) => tokio::select! {
                biased;
                () = membership.voided() => return Err(aborted()),
                pushed = push => pushed?,
            },
        }
        self.status(|status| status.idle_since = idle);
        Ok(())
    }

    fn note_batch(&self, batch: &hydrant_core::Batch) {
        let (records, bytes) = (batch.len() as u64, batch.payload_len());
        let held = batch.permit.bytes();
        self.status(|status| {
            status.summary.records += records;
            status.summary.bytes += bytes;
            status.summary.batches += 1;
            status.held_bytes += held;
        });
        let (stream, shard) = self.labels();
        metrics::counter!("hydrant_consumer_records_total", "stream" => stream.clone(), "shard" => shard.clone())
            .increment(records);
        metrics::counter!("hydrant_consumer_read_bytes_total", "stream" => stream, "shard" => shard)
            .increment(bytes);
    }

    async fn publish(&mut self, attempt: &mut Attempt, why: Flush) -> Result<()> {
        let budget = &self.shared.spec.context.budget;
        let progress = match &attempt.membership {
            None => {
                let publish = attempt.stage.publish(why);
                Some(shedding(&mut attempt.prefetch, budget, publish).await?)
            }
            Some(membership) => {
                shedding(
                    &mut attempt.prefetch,
                    budget,
                    membership.publish(why, attempt.pushed),
                )
                .await?
            }
        };
        attempt.pressed_since = None;
        self.published(attempt, progress, why).await
    }

    async fn published(
        &mut self,
        attempt: &mut Attempt,
        progress: Option<Progress>,
        why: Flush,
    ) -> Result<()> {
        let Some(mut progress) = progress.filter(|found| found.to >= attempt.published.to) else {
            return Ok(());
        };
        progress.pin = attempt.published.pin.clone();
        self.failures = 0;
        let all = progress.to >= attempt.pushed;
        attempt.unpublished &= !all;
        if progress != attempt.published {
            let at = attempt.unwritten.as_ref().map_or(
                attempt.ledger_at + self.shared.spec.checkpoint,
                |(_, at)| *at,
            );
            attempt.unwritten = Some((progress.clone(), at));
            attempt.published = progress;
        }
        let (to, settled) = (attempt.published.to, attempt.is_settled());
        self.status(|status| {
            status.summary.to = to;
            status.summary.published += 1;
            status.settled = settled;
            status.held_bytes = 0;
        });
        let (stream, shard) = self.labels();
        metrics::counter!("hydrant_consumer_published_total", "stream" => stream, "shard" => shard, "reason" => why.as_str())
            .increment(1);
        self.checkpoint(attempt, false).await
    }

    /// Writes the ledger when it is time, or now; a store that does not answer is asked again later.
    async fn checkpoint(&mut self, attempt: &mut Attempt, now: bool) -> Result<()> {
        let Some((progress, at)) = &attempt.unwritten else {
            return Ok(());
        };
        if !now && *at > clock::now() {
            return Ok(());
        }
        match self.claim.ledger.write(progress).await {
            Ok(()) => {
                attempt.unwritten = None;
                attempt.ledger_at = clock::now();
                let settled = attempt.is_settled();
                self.status(|status| status.settled = settled);
                Ok(())
            }
            Err(error) => match error.disposition() {
                Disposition::Retry { after } => {
                    self.count("ledger");
                    tracing::warn!(shard = %self.claim.shard.id, "ledger: {}", error.report());
                    let next = clock::now() + after.max(PACE.first);
                    if let Some((_, at)) = &mut attempt.unwritten {
                        *at = next;
                    }
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// What a publish for all claims did to this one.
    async fn follow_transaction(&mut self, attempt: &mut Attempt) -> Result<()> {
        let Some(membership) = &attempt.membership else {
            return Ok(());
        };
        if membership.is_void() {
            return Err(aborted());
        }
        let progress = membership.take();
        self.published(attempt, progress, Flush::Size).await
    }

    async fn reading_failed(&mut self, attempt: &mut Attempt, error: Error) -> Result<()> {
        match error.disposition() {
            Disposition::Retry { after } => {
                self.count("read");
                let shard = &self.claim.shard.id;
                tracing::warn!(%shard, "will read again: {}", error.report());
                let pause = PACE
                    .delay(self.failures, &self.shared.spec.context.random)
                    .max(after);
                self.failures = self.failures.saturating_add(1);
                tokio::select! {
                    biased;
                    () = wanted(&mut self.control) => {}
                    () = clock::sleep(pause) => {}
                }
                Ok(())
            }
            Disposition::Fatal | Disposition::Refused => {
                // What was read before stays good.
                if attempt.unpublished {
                    self.publish(attempt, Flush::Drain).await?;
                }
                self.checkpoint(attempt, true).await?;
                if self.shared.spec.exit_at_end || !matches!(error, Error::Corrupt { .. }) {
                    return Err(error);
                }
                self.count("corrupt");
                tracing::error!(shard = %self.claim.shard.id, "the shard stands still: {}", error.report());
                self.shared.note_corrupt(&self.claim.shard.id, Some(error));
                attempt.stopped_until = Some(clock::now() + CORRUPT_RECHECK);
                attempt.standing = true;
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Publishes everything pushed and gives the claim back.
    async fn hand_back(&mut self, attempt: &mut Attempt) -> Result<Outcome> {
        attempt.prefetch.shed();
        let why = match *self.control.borrow() {
            Control::Revoke => Flush::Revoke,
            Control::Run | Control::Drain => Flush::Drain,
        };
        if attempt.unpublished {
            self.publish(attempt, why).await?;
        }
        Ok(self.finish(attempt, Outcome::Released).await)
    }

    /// Writes the last progress, without the pin when nothing of unknown fate can be in the output, and releases.
    async fn finish(&mut self, attempt: &mut Attempt, outcome: Outcome) -> Outcome {
        let clean = !attempt.unpublished && attempt.published.to >= self.suspect;
        if clean && attempt.published.pin.take().is_some() {
            attempt.unwritten = Some((attempt.published.clone(), clock::now()));
        }
        let mut failures = 0;
        while attempt.unwritten.is_some() {
            match self.checkpoint(attempt, true).await {
                Ok(()) => {}
                Err(error) if error.disposition() == Disposition::Fenced => return Outcome::Lost,
                Err(error) => return Outcome::Failed(error),
            }
            if attempt.unwritten.is_some() {
                clock::sleep(PACE.delay(failures, &self.shared.spec.context.random)).await;
                failures += 1;
            }
        }
        match self.give_back().await {
            Outcome::Released => outcome,
            other => other,
        }
    }

    async fn give_back(&mut self) -> Outcome {
        for n in 0.. {
            match self.claim.ledger.release().await {
                Ok(()) => return Outcome::Released,
                Err(error) => match error.disposition() {
                    Disposition::Retry { after } => {
                        let pause = PACE.delay(n, &self.shared.spec.context.random).max(after);
                        clock::sleep(pause).await;
                    }
                    Disposition::Fenced => return Outcome::Lost,
                    _ => return Outcome::Failed(error),
                },
            }
        }
        Outcome::Released
    }
}

impl Attempt {
    fn is_settled(&self) -> bool {
        !self.unpublished && self.unwritten.is_none()
    }
}

/// Resolves when the supervisor wants the claim back. Cancel-safe.
async fn wanted(control: &mut watch::Receiver<Control>) {
    // A supervisor that is gone wants nothing any more; its tasks are aborted with it.
    drop(control.wait_for(|control| *control != Control::Run).await);
}

/// Resolves at the next publish for all claims; never without such. Cancel-safe.
async fn changed(membership: &mut Option<Membership>) {
    match membership {
        Some(membership) => membership.changed().await,
        None => std::future::pending().await,
    }
}

/// Awaits `work`; gives back what was read ahead when memory is short for long, for `work` may be waiting for it.
async fn shedding<T>(
    prefetch: &mut Prefetch,
    budget: &hydrant_core::Budget,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        // Both arms are polled to their end or kept: `work` is pinned outside of the loop.
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = pressed_for(budget, SHED_AFTER), if prefetch.is_running() => prefetch.shed(),
        }
    }
}

async fn pressed_for(budget: &hydrant_core::Budget, duration: Duration) {
    loop {
        budget.pressure().await;
        clock::sleep(duration).await;
        if budget.is_pressed() {
            return;
        }
    }
}
