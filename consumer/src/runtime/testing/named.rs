use async_trait::async_trait;
use hydrant_core::lease::OutputId;
use hydrant_core::stage::{LedgerUse, Output, Stage};
use hydrant_testing::layer::{Layered, StageLayer};

/// A stage whose output has an identity.
#[derive(Debug)]
pub(crate) struct NamedStage<S> {
    stage: S,
    output: Output,
}

impl<S> NamedStage<S> {
    /// `keeps_progress` says whether `stage` answers [`Stage::resume`].
    pub(crate) fn new(id: &str, keeps_progress: bool, stage: S) -> Layered<Self> {
        let id = OutputId::new(id, format!("lake {id}"));
        let output = Output {
            id,
            keeps_progress,
            ledger: LedgerUse::Written,
        };
        Layered(NamedStage { stage, output })
    }

    /// An output that commits the progress in the source's own store.
    pub(crate) fn committing(id: &str, stage: S) -> Layered<Self> {
        let mut named = NamedStage::new(id, true, stage);
        named.0.output.ledger = LedgerUse::Silent;
        named
    }
}

#[async_trait]
impl<S: Stage> StageLayer for NamedStage<S> {
    fn below(&self) -> &dyn Stage {
        &self.stage
    }

    fn output(&self) -> Option<Output> {
        Some(self.output.clone())
    }
}
