//! Publishing where the output is one transaction of the whole worker ([`Scope::Worker`]).
//!
//! Whichever claim is due publishes for all of them, one publish at a time. Every task then finds its own progress here
//! and writes its own ledger. A publish that fails has thrown away what every claim had pushed, so every shard's task
//! opens again from what is durable.
//!
//! [`Scope::Worker`]: hydrant_core::stage::Scope::Worker

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hydrant_core::error::Result;
use hydrant_core::lease::Progress;
use hydrant_core::stage::{Flush, Stage};
use hydrant_core::subscription::ClaimId;
use tokio::sync::watch;

/// How many publishes succeeded and failed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Publishes that succeeded.
    pub(crate) commits: u64,
    /// Publishes that failed: what was pushed before is gone.
    pub(crate) aborts: u64,
}

/// The publisher of a worker's claims.
pub(crate) struct Transaction {
    stage: Arc<dyn Stage>,
    gate: tokio::sync::Mutex<()>,
    published: Mutex<BTreeMap<ClaimId, Progress>>,
    counts: watch::Sender<Counts>,
}

impl Transaction {
    /// For the claims of `stage`.
    pub(crate) fn new(stage: Arc<dyn Stage>) -> Self {
        Transaction {
            stage,
            gate: tokio::sync::Mutex::new(()),
            published: Mutex::new(BTreeMap::new()),
            counts: watch::Sender::new(Counts::default()),
        }
    }

    /// Publishes what all claims have pushed.
    pub(crate) async fn publish(&self, why: Flush) -> Result<()> {
        let _alone = self.gate.lock().await;
        // Counted as failed unless it returns with success: a dropped publish is one that nobody knows the end of.
        let mut failure = Failure {
            counts: &self.counts,
            armed: true,
        };
        let published = self.stage.publish_all(why).await?;
        failure.armed = false;
        let mut all = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.extend(published);
        drop(all);
        self.counts.send_modify(|counts| counts.commits += 1);
        Ok(())
    }

    /// The progress of a claim that its task has not taken yet.
    pub(crate) fn take(&self, claim: &ClaimId) -> Option<Progress> {
        let mut all = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.remove(claim)
    }

    /// Tells of publishes.
    pub(crate) fn counts(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }
}

struct Failure<'a> {
    counts: &'a watch::Sender<Counts>,
    armed: bool,
}

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.counts.send_modify(|counts| counts.aborts += 1);
        }
    }
}
