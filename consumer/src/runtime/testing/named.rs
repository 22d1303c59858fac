use async_trait::async_trait;
use hydrant_core::error::Result;
use hydrant_core::lease::{OutputId, Progress};
use hydrant_core::shard::Shard;
use hydrant_core::stage::{Flush, LedgerUse, Opened, Output, Scope, ShardStage, Stage};
use hydrant_core::subscription::ClaimId;

/// A stage whose output has an identity.
#[derive(Debug)]
pub(crate) struct NamedStage<S> {
    stage: S,
    output: Output,
}

impl<S> NamedStage<S> {
    /// `keeps_progress` says whether `stage` answers [`Stage::resume`].
    pub(crate) fn new(id: &str, keeps_progress: bool, stage: S) -> Self {
        let id = OutputId::new(id, format!("lake {id}"));
        let output = Output {
            id,
            keeps_progress,
            ledger: LedgerUse::Written,
        };
        NamedStage { stage, output }
    }

    /// An output that commits the progress in the source's own store.
    pub(crate) fn committing(id: &str, stage: S) -> Self {
        let named = NamedStage::new(id, true, stage);
        let output = Output {
            ledger: LedgerUse::Silent,
            ..named.output
        };
        NamedStage { output, ..named }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Stage> Stage for NamedStage<S> {
    fn scope(&self) -> Scope {
        self.stage.scope()
    }

    fn output(&self) -> Option<Output> {
        Some(self.output.clone())
    }

    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        self.stage.resume(shard).await
    }

    async fn knows(&self, shard: &Shard) -> Result<bool> {
        self.stage.knows(shard).await
    }

    async fn open(&self, claim: Opened) -> Result<Box<dyn ShardStage>> {
        self.stage.open(claim).await
    }

    async fn publish_all(&self, why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        self.stage.publish_all(why).await
    }
}
