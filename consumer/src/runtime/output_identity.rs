//! The identity of a worker's output: only progress of that output counts.
//!
//! Progress says how far one output is. For another output of the same app, such as a second lake or one that was
//! deleted and created again, it counts as none, even where it says that a shard has ended. Progress without an
//! output's name was written before outputs had identities. An output that tracks its own progress ignores it; every
//! other output continues from it.

use std::sync::Arc;

use hydrant_core::error::Result;
use hydrant_core::lease::{Lease, OutputId, Progress};
use hydrant_core::position::Position;
use hydrant_core::shard::Shard;
use hydrant_core::stage::{LedgerUse, Output, Stage};

/// The output of this worker.
#[derive(Clone, Debug)]
pub(crate) struct OutputIdentity {
    stage: Arc<dyn Stage>,
    output: Option<Output>,
}

impl OutputIdentity {
    /// Returns the output of `stage`.
    pub(crate) fn of(stage: &Arc<dyn Stage>) -> Self {
        let output = stage.output();
        debug_assert!(
            output
                .as_ref()
                .is_none_or(|output| output.keeps_progress || output.ledger == LedgerUse::Written),
            "who leaves the ledger alone knows by itself how far it is"
        );
        OutputIdentity {
            stage: Arc::clone(stage),
            output,
        }
    }

    /// Returns the identity of the output, if it has one.
    pub(crate) fn id(&self) -> Option<&OutputId> {
        self.output.as_ref().map(|output| &output.id)
    }

    /// Whether the output itself tracks how far it is.
    pub(crate) fn keeps_progress(&self) -> bool {
        self.output
            .as_ref()
            .is_some_and(|output| output.keeps_progress)
    }

    /// Whether the output commits the progress where the ledger has it, so that the runtime leaves the ledger alone.
    pub(crate) fn commits_progress(&self) -> bool {
        let output = self.output.as_ref();
        output.is_some_and(|output| output.ledger == LedgerUse::Silent)
    }

    /// Whether `progress` belongs to this output.
    pub(crate) fn owns(&self, progress: &Progress) -> bool {
        match (&self.output, &progress.output) {
            (None, _) => true,
            (Some(mine), Some(other)) => mine.id.id == other.id,
            (Some(mine), None) => !mine.keeps_progress,
        }
    }

    /// Whether the progress of a row belongs to this output.
    pub(crate) fn owns_row(&self, row: &Lease) -> bool {
        row.progress
            .as_ref()
            .is_none_or(|progress| self.owns(progress))
    }

    /// Returns the other output that the owner of a row works for.
    pub(crate) fn other<'a>(&self, row: &'a Lease) -> Option<&'a OutputId> {
        let mine = self.id()?;
        row.output().filter(|other| other.id != mine.id)
    }

    /// Returns `progress` with the identity of this output.
    pub(crate) fn sign(&self, progress: Progress) -> Progress {
        Progress {
            output: self.id().cloned(),
            ..progress
        }
    }

    /// Returns the progress that the output itself has of a shard.
    pub(crate) async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
        match self.keeps_progress() {
            true => self.stage.resume(shard).await,
            false => Ok(None),
        }
    }

    /// Returns how far the output itself is in a shard, whichever worker owns it.
    pub(crate) async fn published_to(&self, shard: &Shard) -> Result<Option<Position>> {
        match self.keeps_progress() {
            true => self.stage.published_to(shard).await,
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use hydrant_core::stage::{Opened, Scope, ShardStage};

    use super::*;

    /// An output that fences the owner of each shard that it resumes.
    #[derive(Debug)]
    struct FencingOutput;

    #[async_trait]
    impl Stage for FencingOutput {
        fn scope(&self) -> Scope {
            Scope::Worker
        }

        fn output(&self) -> Option<Output> {
            Some(Output {
                id: OutputId::new("cluster", "a cluster"),
                keeps_progress: true,
                ledger: LedgerUse::Silent,
            })
        }

        async fn resume(&self, shard: &Shard) -> Result<Option<Progress>> {
            panic!("the owner of {shard:?} was fenced");
        }

        async fn published_to(&self, shard: &Shard) -> Result<Option<Position>> {
            Ok(shard.closed.then_some(Position::End))
        }

        async fn open(&self, _claim: Opened) -> Result<Box<dyn ShardStage>> {
            panic!("nothing is opened");
        }
    }

    #[tokio::test]
    async fn what_the_output_knows_of_others_is_asked_without_resuming_them() {
        let stage: Arc<dyn Stage> = Arc::new(FencingOutput);
        let output = OutputIdentity::of(&stage);
        for closed in [true, false] {
            let shard = Shard {
                id: "a".into(),
                range: hydrant_core::HashRange::ALL,
                parents: Vec::new(),
                closed,
            };
            let to = output.published_to(&shard).await.unwrap();
            assert_eq!(to, closed.then_some(Position::End));
        }
    }
}
