//! The publishing half of a shard's task. Promises the order: output first, then ledger, then the release of the claim.

use hydrant_core::clock;
use hydrant_core::error::{Disposition, Result};
use hydrant_core::lease::Progress;
use hydrant_core::retry::{is_logged, retry_forever};
use hydrant_core::stage::Flush;

use super::attempt::Attempt;
use super::control::{PACE, TaskOrder, TaskOutcome};
use super::prefetch::shedding;
use super::shard_task::ShardTask;
use crate::runtime::transaction::aborted;

impl ShardTask {
    pub(super) async fn publish_if_due(&mut self, attempt: &mut Attempt) -> Result<()> {
        if let Some(why) = attempt.stage.due(clock::now()) {
            self.publish(attempt, why).await?;
        }
        // `due` is not asked again about a deadline that has passed, until the stage moves it.
        attempt.asked_deadline = attempt
            .stage
            .deadline()
            .filter(|deadline| *deadline <= clock::now());
        Ok(())
    }

    pub(super) async fn publish(&mut self, attempt: &mut Attempt, why: Flush) -> Result<()> {
        let (stage, pushed) = (&mut attempt.stage, attempt.pushed);
        let publish = async {
            match &attempt.membership {
                None => stage.publish(why).await.map(Some),
                Some(membership) => membership.publish(why, pushed).await,
            }
        };
        let budget = &self.shared.spec.context.budget;
        let progress = shedding(&mut attempt.prefetch, budget, publish).await?;
        attempt.pressed_since = None;
        self.published(attempt, progress, why).await
    }

    pub(super) async fn published(
        &mut self,
        attempt: &mut Attempt,
        progress: Option<Progress>,
        why: Flush,
    ) -> Result<()> {
        let Some(mut progress) = progress.filter(|found| found.to >= attempt.published.to) else {
            return Ok(());
        };
        progress.pin = attempt.published.pin.clone();
        progress.output = attempt.published.output.clone();
        progress.start = attempt.published.start;
        progress.began = attempt.published.began;
        debug_assert!(
            progress.to <= attempt.pushed,
            "an output publishes no more than was pushed"
        );
        let progress = attempt.trail.publish(progress.to).complete(progress);
        let all = progress.to >= attempt.pushed;
        if !all && progress.to == attempt.published.to {
            // It has only begun, beside what is read next. How it went is not known, and it holds its memory.
            self.checkpoint(attempt);
            return Ok(());
        }
        if progress.to > attempt.published.to {
            self.failures = 0;
        }
        attempt.unpublished &= !all;
        if progress != attempt.published {
            let next = self.shared.next_checkpoint();
            attempt.ledger.owe(progress.clone(), next);
            attempt.published = progress;
        }
        let (to, checkpointed) = (attempt.published.to, attempt.is_checkpointed());
        self.status(|status| {
            status.summary.to = to;
            status.summary.published += 1;
            status.checkpointed = checkpointed;
            status.held_bytes = 0;
        });
        let (stream, shard) = self.labels();
        metrics::counter!("hydrant_consumer_published_total", "stream" => stream, "shard" => shard, "reason" => why.as_str())
            .increment(1);
        self.checkpoint(attempt);
        Ok(())
    }

    /// Begins to write the ledger when it is time.
    pub(super) fn checkpoint(&mut self, attempt: &mut Attempt) {
        if attempt
            .ledger
            .wake_at()
            .is_some_and(|at| at <= clock::now())
        {
            attempt.ledger.begin();
        }
    }

    /// Writes the ledger and waits for the answer. Without an answer the progress stays unwritten.
    pub(super) async fn write_now(&mut self, attempt: &mut Attempt) -> Result<()> {
        if attempt.ledger.is_writing() {
            let written = attempt.ledger.done().await;
            self.written(attempt, written)?;
        }
        if !attempt.ledger.is_written() {
            attempt.ledger.begin();
            let written = attempt.ledger.done().await;
            self.written(attempt, written)?;
        }
        Ok(())
    }

    /// Handles the answer to a write of the ledger; a store without an answer is asked again later.
    pub(super) fn written(&mut self, attempt: &mut Attempt, written: Result<()>) -> Result<()> {
        let next = match written {
            Ok(()) => {
                attempt.ledger.failures = 0;
                self.shared.next_checkpoint()
            }
            Err(error) => match error.disposition() {
                Disposition::Retry { after } => {
                    self.count("ledger");
                    let failures = attempt.ledger.failures;
                    if is_logged(failures) {
                        tracing::warn!(shard = %self.claim.shard.id, "cannot write the ledger, retrying: {}", error.report());
                    }
                    attempt.ledger.failures = failures.saturating_add(1);
                    let delay = PACE.delay(failures, &self.shared.spec.context.random);
                    clock::now() + after.max(delay)
                }
                _ => return Err(error),
            },
        };
        attempt.ledger.write_at(next);
        let checkpointed = attempt.is_checkpointed();
        self.status(|status| status.checkpointed = checkpointed);
        Ok(())
    }

    /// Takes over what a publish for all claims did to this one.
    pub(super) async fn follow_transaction(&mut self, attempt: &mut Attempt) -> Result<()> {
        let Some(membership) = &attempt.membership else {
            return Ok(());
        };
        if membership.is_void() {
            return Err(aborted());
        }
        let progress = membership.take();
        self.published(attempt, progress, Flush::Size).await
    }

    /// Publishes everything that was pushed and gives the claim back.
    pub(super) async fn hand_back(&mut self, attempt: &mut Attempt) -> Result<TaskOutcome> {
        attempt.prefetch.shed();
        let why = match *self.control.borrow() {
            TaskOrder::Revoke => Flush::Revoke,
            TaskOrder::Run | TaskOrder::Drain => Flush::Drain,
        };
        if attempt.unpublished {
            self.publish(attempt, why).await?;
        }
        Ok(self.finish(attempt, TaskOutcome::Released).await)
    }

    /// Writes the last progress and releases the claim. The pin is removed if the output cannot hold unconfirmed
    /// records.
    pub(super) async fn finish(
        &mut self,
        attempt: &mut Attempt,
        outcome: TaskOutcome,
    ) -> TaskOutcome {
        if !attempt.unpublished {
            attempt.stage.settle().await;
        }
        let clean = !attempt.unpublished && self.unconfirmed.is_within(attempt.published.to);
        if clean && attempt.published.pin.take().is_some() {
            attempt.ledger.owe(attempt.published.clone(), clock::now());
        }
        let mut failures = 0;
        while !attempt.ledger.is_written() {
            if let Err(error) = self.write_now(attempt).await {
                return TaskOutcome::of(error);
            }
            if !attempt.ledger.is_written() {
                clock::sleep(PACE.delay(failures, &self.shared.spec.context.random)).await;
                failures += 1;
            }
        }
        match self.give_back().await {
            TaskOutcome::Released => outcome,
            other => other,
        }
    }

    /// Removes the pin from the ledger after the last attempt, if the output can hold nothing that is not confirmed and in
    /// the ledger. What fails here is logged: the rules stay pinned.
    pub(super) async fn unpin(&self) {
        if self.shared.spec.pin.is_none() {
            return;
        }
        let unpinned = async {
            let known = self.claim.ledger.read().await?;
            let clean = known.filter(|known| self.unconfirmed.is_within(known.to));
            match clean {
                Some(progress) if progress.pin.is_some() => {
                    let progress = Progress {
                        pin: None,
                        ..progress
                    };
                    self.claim.ledger.write(&progress).await
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = unpinned.await {
            tracing::warn!(shard = %self.claim.shard.id, "cannot unpin the rules in the ledger, so only the same ones may continue: {}", error.report());
        }
    }

    pub(super) async fn give_back(&mut self) -> TaskOutcome {
        let random = &self.shared.spec.context.random;
        match retry_forever("giving a shard back", random, || {
            self.claim.ledger.release()
        })
        .await
        {
            Ok(()) => TaskOutcome::Released,
            Err(error) => TaskOutcome::of(error),
        }
    }
}
