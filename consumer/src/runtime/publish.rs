//! The publishing half of a shard's task: output first, ledger second, and the giving back of the claim.

use hydrant_core::clock;
use hydrant_core::error::{Disposition, Result};
use hydrant_core::lease::Progress;
use hydrant_core::stage::Flush;

use super::prefetch::shedding;
use super::shard_task::{Attempt, Control, Outcome, PACE, ShardTask};
use super::transaction::aborted;

impl ShardTask {
    pub(super) async fn publish_if_due(&mut self, attempt: &mut Attempt) -> Result<()> {
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

    pub(super) async fn publish(&mut self, attempt: &mut Attempt, why: Flush) -> Result<()> {
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
    pub(super) async fn checkpoint(&mut self, attempt: &mut Attempt, now: bool) -> Result<()> {
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

    /// Publishes everything pushed and gives the claim back.
    pub(super) async fn hand_back(&mut self, attempt: &mut Attempt) -> Result<Outcome> {
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
    pub(super) async fn finish(&mut self, attempt: &mut Attempt, outcome: Outcome) -> Outcome {
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

    pub(super) async fn give_back(&mut self) -> Outcome {
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
