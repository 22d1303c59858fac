//! The task of one claim, from its grant to its end. It alone owns the claim's reader, half of the stage and ledger.
//!
//! The task makes attempts. An attempt begins after what is durable ([`super::start_position`]), opens the stage and
//! drives it: it reads, pushes, asks whether a publish is due, publishes, and writes the ledger. It ends with the
//! claim or with an error. Nothing is repaired in place: stage, queue, buffers and permits of a failed attempt are
//! dropped before the next one.
//!
//! | error | what the task does |
//! |---|---|
//! | superseded | proves that the claim still holds by a ledger access, then opens after the winner's position |
//! | fenced | ends and writes nothing |
//! | retry, reroute | of a reader: reads on after the last push, while everything else goes on; of a ledger: writes again later; else a new attempt; with growing delays |
//! | corrupt data | publishes what came before it, keeps the claim and reads again from time to time, so that it
//! continues after a repair |
//! | refused, fatal | ends with the error, after which the whole run drains |
//!
//! The ledger is written after a publish, at most once a checkpoint interval, and always before the claim is given
//! back. Only the end of the claim waits for it: by protocol it may lag behind the output. All shards of a run write
//! their ledgers at the same moments, so that a store can make many rows durable at once.

use std::sync::Arc;
use std::time::Duration;

use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Disposition, Error, Result, Rewound};
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::retry::is_logged;
use hydrant_core::shard::ShardId;
use hydrant_core::stage::{Flush, Opened};
use hydrant_core::stream::{Read, Start};
use hydrant_core::subscription::Claim;
use tokio::sync::watch;

use super::attempt::{Attempt, ReaderState};
use super::control::{PACE, TaskOrder, TaskOutcome, wanted};
use super::place::Trail;
use super::prefetch::{Prefetch, shedding};
use super::progress_writer::ProgressWriter;
use super::silent_ledger::SilentLedger;
use super::unconfirmed::Unconfirmed;
use crate::runtime::leases::{SILENT, lineage};
use crate::runtime::progress_board::ShardStatus;
use crate::runtime::run_context::RunContext;
use crate::runtime::run_spec::OnCorrupt;
use crate::runtime::transaction::{Membership, aborted};

/// How often the shard that holds most is made to publish while the budget is under pressure and no stage publishes.
const PRESSURE_RECHECK: Duration = Duration::from_millis(100);
/// How often a stalled shard is read again.
const CORRUPT_RECHECK: Duration = Duration::from_secs(5);

/// The task of one claim.
pub(crate) struct ShardTask {
    pub(super) shared: Arc<RunContext>,
    pub(super) claim: Claim,
    /// A parent that the stream has, and of whose progress nothing is left.
    forgotten: Option<ShardId>,
    pub(super) control: watch::Receiver<TaskOrder>,
    pub(super) created_after_start: bool,
    /// Failures since a publish moved on last.
    pub(super) failures: u32,
    /// No attempt begins before this position, because another owner has published up to it.
    pub(super) min_position: Position,
    /// What the output may hold unconfirmed, from this task or an earlier one.
    pub(super) unconfirmed: Unconfirmed,
}

impl ShardTask {
    /// Creates the task of a claim that was just granted.
    pub(crate) fn new(
        shared: Arc<RunContext>,
        mut claim: Claim,
        control: watch::Receiver<TaskOrder>,
        created_after_start: bool,
    ) -> Self {
        if shared.output.commits_progress() {
            claim.ledger = Arc::new(SilentLedger(claim.ledger));
        }
        ShardTask {
            shared,
            claim,
            forgotten: None,
            control,
            created_after_start,
            failures: 0,
            min_position: Position::Begin,
            unconfirmed: Unconfirmed::Unknown,
        }
    }

    /// Works until the claim ends, in one attempt after the other.
    pub(crate) async fn work(mut self) -> TaskOutcome {
        self.status(|status| {
            (status.active, status.left) = (true, false);
            status.checkpointed = false;
            status.idle_since = None;
        });
        loop {
            let error = match self.attempt().await {
                Ok(outcome) => return outcome,
                Err(error) => self.with_remedy(error),
            };
            self.status(|status| {
                status.checkpointed = false;
                status.idle_since = None;
                status.held_bytes = 0;
            });
            let shard = &self.claim.shard.id;
            let delay = PACE.delay(self.failures, &self.shared.spec.context.random);
            let wait = match error.disposition() {
                Disposition::Superseded { after } => {
                    self.count("superseded");
                    tracing::info!(%shard, %after, "another worker published first");
                    self.min_position = self.min_position.max(after);
                    // The first time, the answer lies in the ledger access with which the next attempt begins.
                    if self.failures == 0 {
                        Duration::ZERO
                    } else {
                        delay
                    }
                }
                Disposition::Fenced => return TaskOutcome::Lost,
                disposition @ (Disposition::Retry { .. } | Disposition::Reroute) => {
                    let after = match disposition {
                        Disposition::Retry { after } => after,
                        _ => Duration::ZERO,
                    };
                    self.count("retry");
                    if self.shared.spec.shutdown.is_draining() {
                        tracing::debug!(%shard, "giving up while draining: {}", error.report());
                    } else if is_logged(self.failures) {
                        tracing::warn!(%shard, "the shard's task failed and starts again: {}", error.report());
                    }
                    delay.max(after)
                }
                Disposition::Refused | Disposition::Fatal if self.passes(&error) => {
                    return self.pass(error).await;
                }
                Disposition::Refused | Disposition::Fatal => {
                    self.unpin().await;
                    return TaskOutcome::Failed(error);
                }
            };
            self.failures = self.failures.saturating_add(1);
            tokio::select! {
                biased;
                () = wanted(&mut self.control) => {
                    self.unpin().await;
                    return self.give_back().await;
                }
                () = clock::sleep(wait) => {}
            }
        }
    }

    /// Whether the shard counts as read to its end after this error.
    fn passes(&self, error: &Error) -> bool {
        matches!(error, Error::Corrupt { .. }) && self.shared.spec.on_corrupt == OnCorrupt::EndShard
    }

    /// Ends the shard at corrupt data. What was read before is published.
    async fn pass(&mut self, error: Error) -> TaskOutcome {
        self.shared.note_corrupt(&self.claim.shard.id, error);
        let end = Progress::starting(Position::End);
        if let Err(error) = self.claim.ledger.write(&self.shared.output.sign(end)).await {
            return TaskOutcome::of(error);
        }
        match self.give_back().await {
            TaskOutcome::Released => TaskOutcome::Ended,
            other => other,
        }
    }

    pub(super) fn status<T>(&self, edit: impl FnOnce(&mut ShardStatus) -> T) -> T {
        self.shared.board.update(&self.claim.shard.id, edit)
    }

    pub(super) fn count(&self, what: &'static str) {
        let (stream, shard) = self.labels();
        metrics::counter!("hydrant_consumer_interruptions_total", "stream" => stream, "shard" => shard, "reason" => what)
            .increment(1);
    }

    pub(super) fn labels(&self) -> (String, String) {
        (
            self.shared.spec.stream.id().name.to_string(),
            self.claim.shard.id.to_string(),
        )
    }

    /// Adds the command that sends the app's records again.
    fn with_remedy(&self, error: Error) -> Error {
        let Error::Rewound(rewound) = error else {
            return error;
        };
        let Rewound { start, at, .. } = *rewound;
        let (app, shard) = (&self.shared.spec.app, &self.claim.shard.id);
        Error::refused(format!(
            "app `{app}` goes back to {at} in shard `{shard}`, but its output holds this shard only after {start}, \
             where the app first started; records before that can no longer be added: send all records again, as new \
             ones, with `{}`",
            self.reprocess(),
        ))
    }

    pub(super) fn reprocess(&self) -> String {
        let spec = &self.shared.spec;
        let (url, app, from) = (spec.stream.url(), &spec.app, spec.start);
        format!("hydrant stream reprocess {url} --app {app} --from {from}")
    }

    /// Returns the last progress of the shard's parents when nothing of it was read: from the source, and where that has
    /// none any more from the output. The parents are done, so no owner is in the way.
    async fn parents_before(&mut self, progress: &Progress) -> Result<Vec<(ShardId, Progress)>> {
        let mut parents = Vec::new();
        self.forgotten = None;
        if progress.to != Position::Begin {
            return Ok(parents);
        }
        for id in &self.claim.shard.parents {
            if let Some(known) = self.claim.parents.iter().find(|(parent, _)| parent == id) {
                parents.push(known.clone());
                continue;
            }
            let map = self.shared.spec.stream.shards().await?;
            let parent = lineage::parent(id, &self.claim.shard, &map);
            if let Some(known) = self.shared.output.resume(&parent).await? {
                parents.push((id.clone(), known));
            } else if map.get(id).is_some() {
                self.forgotten = Some(id.clone());
            }
        }
        Ok(parents)
    }

    async fn open(&mut self) -> Result<Attempt> {
        let progress = self.begin().await?;
        let parents = self.parents_before(&progress).await?;
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
        let prefetch = Prefetch::after(&self.claim.readers, &shard.id, &progress, parents);
        let (to, began) = (progress.to, progress.began);
        self.status(|status| {
            status.summary.to = to;
            status.began = began;
            status.checkpointed = true;
        });
        Ok(Attempt {
            stage,
            prefetch,
            membership,
            pushed: to,
            trail: Trail::after(&progress),
            published: progress,
            unpublished: false,
            ledger: ProgressWriter::new(&self.claim.ledger),
            reader: ReaderState::default(),
            pressed_since: None,
            asked_deadline: None,
        })
    }

    async fn attempt(&mut self) -> Result<TaskOutcome> {
        let mut attempt = self.open().await?;
        if attempt.published.to == Position::End {
            return Ok(self.finish(&mut attempt, TaskOutcome::Ended).await);
        }
        loop {
            if *self.control.borrow_and_update() != TaskOrder::Run {
                return self.hand_back(&mut attempt).await;
            }
            let wake = self.wake(&attempt);
            let budget = &self.shared.spec.context.budget;
            let ask_pressure = attempt.unpublished && attempt.pressed_since.is_none();
            // Every arm is cancel-safe: a watch, sleeps, a notification, receives. The work is in the bodies.
            tokio::select! {
                biased;
                changed = self.control.changed() => {
                    if changed.is_err() {
                        return Ok(TaskOutcome::Lost);
                    }
                }
                () = changed(&mut attempt.membership) => self.follow_transaction(&mut attempt).await?,
                written = attempt.ledger.done() => self.written(&mut attempt, written)?,
                () = attempt.stage.changed() => self.publish_if_due(&mut attempt).await?,
                () = clock::sleep_until(wake) => self.tick(&mut attempt).await?,
                () = budget.pressure(), if ask_pressure => {
                    attempt.pressed_since = Some(clock::now());
                    self.publish_if_due(&mut attempt).await?;
                }
                read = attempt.prefetch.next(), if attempt.reader.retry_at().is_none() => match read {
                    Ok(read) => {
                        if self.take_read(&mut attempt, read).await? {
                            return Ok(self.finish(&mut attempt, TaskOutcome::Ended).await);
                        }
                    }
                    Err(error) => self.reading_failed(&mut attempt, error).await?,
                },
            }
        }
    }

    /// Pushes what was read, and publishes what is due. Returns whether the shard has ended and its end is published.
    async fn take_read(&mut self, attempt: &mut Attempt, read: Read) -> Result<bool> {
        if matches!(attempt.reader, ReaderState::Stalled { .. }) {
            self.shared.note_resumed(&self.claim.shard.id);
        }
        let ended = matches!(read, Read::End { .. });
        let before = (attempt.unpublished, self.unconfirmed);
        if let Err(error) = self.push(attempt, read).await {
            let is_ours = error.disposition() != Disposition::Fenced;
            if is_ours && attempt.stage.outlives_a_failed_push() {
                self.publish_before_failure(attempt, before).await;
            }
            return Err(error);
        }
        if !ended {
            self.publish_if_due(attempt).await?;
            return Ok(false);
        }
        self.publish(attempt, Flush::End).await?;
        if attempt.published.to != Position::End {
            return Err(Error::fatal(format!(
                "the end of shard `{}` was published only up to {}",
                self.claim.shard.id, attempt.published.to
            )));
        }
        Ok(true)
    }

    /// Publishes what was pushed before a push that failed, whether anything is unpublished and what the output may hold
    /// unconfirmed being as they were before it. What fails here is logged: the caller has the cause.
    async fn publish_before_failure(
        &mut self,
        attempt: &mut Attempt,
        (unpublished, unconfirmed): (bool, Unconfirmed),
    ) {
        if !unpublished && self.unconfirmed == unconfirmed {
            return;
        }
        let published = match self.publish(attempt, Flush::Drain).await {
            Ok(()) => {
                // A stage that can still publish has sent nothing of what failed.
                self.unconfirmed = unconfirmed;
                self.write_now(attempt).await
            }
            failed => failed,
        };
        if let Err(error) = published {
            let shard = &self.claim.shard.id;
            tracing::warn!(%shard, error = error.report(), "cannot publish what was read before a failure, so it will be read again");
        }
    }

    /// Returns when something must be done although nothing was read.
    fn wake(&self, attempt: &Attempt) -> Option<Instant> {
        let spec = &self.shared.spec;
        let stage = attempt
            .stage
            .deadline()
            .filter(|deadline| attempt.asked_deadline.is_none_or(|asked| *deadline > asked));
        let ledger = attempt.ledger.wake_at();
        let idle = spec
            .ends_after()
            .zip(attempt.reader.idle_since())
            .filter(|_| !attempt.is_checkpointed())
            .map(|(idle, since)| since + idle);
        let pressure = attempt
            .pressed_since
            .filter(|_| attempt.unpublished)
            .map(|since| since + PRESSURE_RECHECK);
        [stage, ledger, idle, pressure, attempt.reader.retry_at()]
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
        let idle = self
            .shared
            .spec
            .ends_after()
            .zip(attempt.reader.idle_since());
        if idle.is_some_and(|(idle, since)| since + idle <= now) {
            let published = attempt.unpublished;
            if published {
                self.publish(attempt, Flush::Drain).await?;
            }
            if attempt.ledger.is_due(now) {
                self.write_now(attempt).await?;
            }
            if published || !attempt.is_checkpointed() {
                // A stage that published less than everything, and a ledger that refused, are asked again after another
                // idle time.
                attempt.reader.restart_idle_time(now);
            }
        }
        attempt.reader.retry(now);
        self.publish_if_due(attempt).await?;
        self.checkpoint(attempt);
        Ok(())
    }

    /// Refuses to read a shard without the marks of its parents from a stream whose readers need them.
    fn check_marks(&self, read: &Read) -> Result<()> {
        let has_marks = match read {
            Read::Batch(batch) => batch.marks.is_some(),
            Read::Gap { marks, .. } | Read::End { marks, .. } => !marks.is_empty(),
            Read::Idle { .. } => false,
        };
        let Some(parent) = self.forgotten.as_ref().filter(|_| has_marks) else {
            return Ok(());
        };
        Err(Error::refused(format!(
            "app `{app}` has lost its lease row for shard `{parent}`, so it cannot distinguish copies in the child \
             `{child}` from new records: restore the row, or send all records again, as new ones, with `{remedy}`",
            app = self.shared.spec.app,
            child = self.claim.shard.id,
            remedy = self.reprocess(),
        )))
    }

    async fn push(&mut self, attempt: &mut Attempt, read: Read) -> Result<()> {
        self.check_marks(&read)?;
        if !self.claim.ledger.is_held() {
            return Err(Error::Fenced {
                app: self.shared.spec.app.clone(),
                shard: self.claim.shard.id.clone(),
                owner: SILENT.to_owned(),
            });
        }
        let (to, idle) = match &read {
            Read::Batch(batch) => {
                self.note_batch(batch);
                (batch.to, None)
            }
            Read::Idle { through } => (*through, Some(clock::now())),
            Read::Gap { from, to, why, .. } => {
                let shard = &self.claim.shard.id;
                // Positions need not count records: the time says how much is lost.
                let stored_after = attempt.trail.arrival();
                let stored_after = stored_after.map(|micros| Start::At(micros).to_string());
                tracing::warn!(%shard, %from, %to, stored_after, why, "skipping records that the stream no longer has");
                self.status(|status| status.summary.gaps += 1);
                self.count("gap");
                (*to, None)
            }
            Read::End { .. } => (Position::End, None),
        };
        let moves = to > attempt.pushed || idle.is_none();
        attempt.reader = idle.map_or(ReaderState::Active, |since| ReaderState::Idle { since });
        attempt.unpublished |= moves;
        attempt.pushed = attempt.pushed.max(to);
        attempt.trail.push(&read);
        if self.shared.spec.pin.is_some() && to != Position::End {
            self.unconfirmed = self.unconfirmed.max(Unconfirmed::Through(to));
        }
        if idle.is_some() {
            self.unconfirmed.end_at(attempt.pushed);
        }
        let checkpointed = attempt.is_checkpointed();
        self.status(|status| {
            // A shard whose push waits is not idle until the push has returned.
            status.idle_since = None;
            status.checkpointed = checkpointed;
        });
        let budget = &self.shared.spec.context.budget;
        let push = shedding(&mut attempt.prefetch, budget, attempt.stage.push(read));
        match &attempt.membership {
            None => push.await?,
            // A push that is dropped is lost with its attempt.
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

    async fn reading_failed(&mut self, attempt: &mut Attempt, error: Error) -> Result<()> {
        match error.disposition() {
            Disposition::Retry { after } => {
                self.count("read");
                let shard = &self.claim.shard.id;
                if is_logged(self.failures) {
                    tracing::warn!(%shard, "cannot read the shard, retrying: {}", error.report());
                }
                let pause = PACE
                    .delay(self.failures, &self.shared.spec.context.random)
                    .max(after);
                self.failures = self.failures.saturating_add(1);
                attempt.reader.failed(clock::now() + pause);
                let idle = attempt.reader.idle_since();
                self.status(|status| status.idle_since = idle);
                Ok(())
            }
            Disposition::Fatal | Disposition::Refused => {
                // What was read before the error is good.
                if attempt.unpublished {
                    self.publish(attempt, Flush::Drain).await?;
                }
                self.write_now(attempt).await?;
                if !matches!(error, Error::Corrupt { .. }) || self.passes(&error) {
                    return Err(error);
                }
                self.count("corrupt");
                self.shared.note_corrupt(&self.claim.shard.id, error);
                let now = clock::now();
                attempt.reader = ReaderState::Stalled {
                    since: now,
                    retry_at: Some(now + CORRUPT_RECHECK),
                };
                self.status(|status| status.idle_since = Some(now));
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// Resolves at the next publish for all claims. Pending without a transaction. Cancel-safe.
async fn changed(membership: &mut Option<Membership>) {
    match membership {
        Some(membership) => membership.changed().await,
        None => std::future::pending().await,
    }
}
