//! The identity of a worker's output: only progress of that output counts.
//!
//! Progress says how far one output is. For another output of the same app, such as a second lake or one that was
//! deleted and created again, it counts as none, even where it says that a shard has ended. Progress without an
//! output's name was written before outputs had identities. An output that tracks its own progress ignores it; every
//! other output continues from it.

use std::sync::Arc;

use hydrant_core::error::Result;
use hydrant_core::lease::{Lease, OutputId, Progress};
use hydrant_core::shard::Shard;
use hydrant_core::stage::{Output, Stage};

/// The output of this worker.
#[derive(Clone, Debug)]
pub(crate) struct OutputIdentity {
    stage: Arc<dyn Stage>,
    output: Option<Output>,
}

impl OutputIdentity {
    /// Returns the output of `stage`.
    pub(crate) fn of(stage: &Arc<dyn Stage>) -> Self {
        OutputIdentity {
            stage: Arc::clone(stage),
            output: stage.output(),
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

    /// Whether the output itself has progress of a shard, whichever worker owns it.
    pub(crate) async fn knows(&self, shard: &Shard) -> Result<bool> {
        Ok(self.keeps_progress() && self.stage.knows(shard).await?)
    }
}
