//! Publishes where the output is one transaction of the whole worker ([`Scope::Worker`]).
//!
//! The claim that is due first publishes for all claims, one publish at a time. Every task then finds its own
//! progress here and writes its own ledger. A failed publish has discarded what all claims had pushed. So the task of
//! every shard opens again from what is durable, and the next publish waits until the last task has dropped its old
//! half of the stage; otherwise records pushed after the discarded ones could be committed without them.
//!
//! A stage of this scope must abort the transaction when a half with unpublished records is dropped, because the
//! claim of that half may be lost.
//!
//! [`Scope::Worker`]: hydrant_core::stage::Scope::Worker

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hydrant_core::error::{Error, Result};
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::stage::{Flush, Stage};
use hydrant_core::subscription::ClaimId;
use tokio::sync::{Notify, watch};

/// Publishes for all claims of a worker.
pub(crate) struct Transaction {
    stage: Arc<dyn Stage>,
    gate: tokio::sync::Mutex<()>,
    claims: Mutex<MemberClaims>,
    left: Notify,
    /// The publishes that failed so far and discarded what was pushed before them; a change also tells of one that succeeded.
    aborts: watch::Sender<u64>,
}

#[derive(Default)]
struct MemberClaims {
    /// The open halves of the stage, each with the number of failed publishes when it was opened.
    members: BTreeMap<ClaimId, u64>,
    published: BTreeMap<ClaimId, Progress>,
}

/// The membership of an open half of the stage, dropped after it.
pub(crate) struct Membership {
    transaction: Arc<Transaction>,
    claim: ClaimId,
    /// The aborts when the half was opened.
    opened_at: u64,
    aborts: watch::Receiver<u64>,
}

impl Membership {
    /// Whether a publish has failed since the half was opened.
    pub(crate) fn is_void(&self) -> bool {
        *self.aborts.borrow() != self.opened_at
    }

    /// Resolves when a publish has succeeded or failed since the last call. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        // The sender lives in the transaction, which is held here.
        drop(self.aborts.changed().await);
    }

    /// Resolves when a publish has failed since the half was opened. Cancel-safe.
    pub(crate) async fn voided(&self) {
        let mut aborts = self.aborts.clone();
        drop(aborts.wait_for(|aborts| *aborts != self.opened_at).await);
    }

    /// Publishes what all claims have pushed, unless another claim has just done so up to `pushed`.
    pub(crate) async fn publish(&self, why: Flush, pushed: Position) -> Result<Option<Progress>> {
        let transaction = &self.transaction;
        // The holder of the gate may be waiting for this half to be dropped. Both arms only wait.
        let _alone = tokio::select! {
            biased;
            () = self.voided() => return Err(aborted()),
            alone = transaction.gate.lock() => alone,
        };
        let published = self.take();
        if published
            .as_ref()
            .is_some_and(|progress| progress.to >= pushed)
        {
            return Ok(published);
        }
        transaction.old_halves_left(self.opened_at).await;
        // The outcome of a dropped publish is unknown, so it counts as failed.
        let failure = AbortGuard(&transaction.aborts);
        let all = transaction.stage.publish_all(why).await?;
        std::mem::forget(failure);
        transaction.claims().published.extend(all);
        transaction.aborts.send_modify(|_| ());
        // A publish need not name a claim again whose progress it did not move.
        Ok(self.take().or(published))
    }

    /// Returns the progress that was published and not taken yet.
    pub(crate) fn take(&self) -> Option<Progress> {
        self.transaction.claims().published.remove(&self.claim)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut claims = self.transaction.claims();
        claims.members.remove(&self.claim);
        claims.published.remove(&self.claim);
        drop(claims);
        self.transaction.left.notify_waiters();
    }
}

/// Returns the error that the other claims get when a publish has failed.
pub(crate) fn aborted() -> Error {
    Error::Unavailable {
        message: "the transaction of this worker was aborted".to_owned(),
        after: Duration::ZERO,
    }
}

impl Transaction {
    /// Creates the transaction of the claims of `stage`.
    pub(crate) fn new(stage: Arc<dyn Stage>) -> Arc<Self> {
        Arc::new(Transaction {
            stage,
            gate: tokio::sync::Mutex::new(()),
            claims: Mutex::default(),
            left: Notify::new(),
            aborts: watch::Sender::default(),
        })
    }

    fn claims(&self) -> MutexGuard<'_, MemberClaims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the publish that is under way is over.
    pub(crate) async fn wait_for_publish(&self) {
        drop(self.gate.lock().await);
    }

    /// Adds a claim, before it opens its half of the stage.
    pub(crate) fn join(self: &Arc<Self>, claim: &ClaimId) -> Membership {
        let aborts = self.aborts.subscribe();
        let opened_at = *aborts.borrow();
        let mut claims = self.claims();
        claims.published.remove(claim);
        claims.members.insert(claim.clone(), opened_at);
        drop(claims);
        Membership {
            transaction: Arc::clone(self),
            claim: claim.clone(),
            opened_at,
            aborts,
        }
    }

    async fn old_halves_left(&self, aborts: u64) {
        loop {
            let left = self.left.notified();
            if self
                .claims()
                .members
                .values()
                .all(|opened| *opened == aborts)
            {
                return;
            }
            left.await;
        }
    }
}

/// Counts an abort when it is dropped.
struct AbortGuard<'a>(&'a watch::Sender<u64>);

impl Drop for AbortGuard<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|aborts| *aborts += 1);
    }
}

#[cfg(test)]
mod tests {
    use hydrant_core::shard::Shard;
    use hydrant_core::stage::{Opened, Scope, ShardStage};

    use super::*;

    /// A stage that fails its first publish, and moves no progress after the third one.
    #[derive(Debug, Default)]
    struct FailsOnce(Mutex<u32>);

    #[async_trait::async_trait]
    impl Stage for FailsOnce {
        fn scope(&self) -> Scope {
            Scope::Worker
        }

        async fn resume(&self, _shard: &Shard) -> Result<Option<Progress>> {
            Ok(None)
        }

        async fn published_to(&self, _shard: &Shard) -> Result<Option<Position>> {
            Ok(None)
        }

        async fn open(&self, _claim: Opened) -> Result<Box<dyn ShardStage>> {
            Err(Error::fatal("not opened here"))
        }

        async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
            let mut publishes = self.0.lock().unwrap();
            *publishes += 1;
            if *publishes == 1 {
                return Err(Error::fatal("the first one"));
            }
            if *publishes > 3 {
                return Ok(Vec::new());
            }
            let progress = Progress {
                to: Position::offset(9),
                ..Progress::default()
            };
            let claim = |shard: &str| ClaimId {
                shard: shard.into(),
                grant: 1,
            };
            Ok(vec![(claim("a"), progress.clone()), (claim("b"), progress)])
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_a_publish_waits_for_the_last_old_half() {
        let transaction = Transaction::new(Arc::new(FailsOnce::default()));
        let claim = |shard: &str| ClaimId {
            shard: shard.into(),
            grant: 1,
        };
        let (a, b) = (transaction.join(&claim("a")), transaction.join(&claim("b")));
        assert!(a.publish(Flush::Time, Position::offset(9)).await.is_err());
        b.voided().await;
        assert!(
            b.publish(Flush::Time, Position::offset(9)).await.is_err(),
            "it is void"
        );
        drop(a);
        let a = transaction.join(&claim("a"));
        let mut publish = std::pin::pin!(a.publish(Flush::Time, Position::offset(9)));
        let wait = Duration::from_secs(1);
        assert!(
            tokio::time::timeout(wait, &mut publish).await.is_err(),
            "`b` is still open"
        );
        let late = b.publish(Flush::Revoke, Position::offset(9));
        let late = tokio::time::timeout(wait, late).await;
        assert!(
            late.expect("it does not wait for the one that waits for it")
                .is_err()
        );
        drop(b);
        assert_eq!(publish.await.unwrap().unwrap().to, Position::offset(9));
        // The other claims take what one claim published without another publish.
        let b = transaction.join(&claim("b"));
        assert!(
            a.publish(Flush::Time, Position::offset(20))
                .await
                .unwrap()
                .is_some()
        );
        let left = b.publish(Flush::End, Position::offset(20)).await.unwrap();
        assert_eq!(
            left.unwrap().to,
            Position::offset(9),
            "the last publish did not name it"
        );
    }
}
