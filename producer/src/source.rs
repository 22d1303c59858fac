//! One face for all inputs: the simulator, files and standard input as chunks of records.
//!
//! Promises: chunks in input order; memory taken from the budget before a chunk is handed on, so that
//! a slow stream slows the input; nothing that waits for a file or a pipe runs on a thread of the
//! runtime. A restart begins at any index: the simulator jumps there, lines are read and passed over.

mod fleet;
mod lines;

use hydrant_core::{Context, Result};

use crate::batcher::Chunk;
use crate::config::{Config, Origin};
use crate::ledger::InputIdentity;
use crate::pace::Pace;

use fleet::FleetSource;
use lines::LineSource;

/// What every input must know of the stream and the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Key and payload bytes of one record.
    pub(crate) record_bytes_max: usize,
    /// Where a chunk of simulated records ends.
    pub(crate) chunk_bytes: usize,
}

/// An input.
pub(crate) enum Source {
    /// Simulated records.
    Fleet(FleetSource),
    /// Lines.
    Lines(LineSource),
}

impl Source {
    /// Opens the input; waits for its first line, where it has lines.
    ///
    /// # Errors
    /// When it cannot be opened or begins like something that is no text.
    pub(crate) async fn open(config: &Config, context: &Context, limits: Limits) -> Result<Self> {
        let key = config.key.clone();
        Ok(match &config.origin {
            Origin::Simulator { spec, records } => {
                Source::Fleet(FleetSource::open(spec, *records, key, context, limits)?)
            }
            Origin::File(path) => {
                let path = path.clone();
                Source::Lines(LineSource::open_file(path, key, context, limits).await?)
            }
            Origin::Stdin => Source::Lines(LineSource::open_stdin(key, context, limits).await?),
        })
    }

    /// What tells equal inputs.
    pub(crate) fn identity(&self) -> InputIdentity {
        match self {
            Source::Fleet(fleet) => fleet.identity(),
            Source::Lines(lines) => lines.identity(),
        }
    }

    /// Begins with the record of this index. Called once, before [`Source::next`].
    pub(crate) fn start(&mut self, index: u64) {
        match self {
            Source::Fleet(fleet) => fleet.start(index),
            Source::Lines(lines) => lines.start(index),
        }
    }

    /// The next chunk, paced; `None` at the end. A dropped call may have lost a chunk, so that this is
    /// the end of the input.
    ///
    /// # Errors
    /// When the input fails; what came before it was handed out.
    pub(crate) async fn next(&mut self, pace: Option<&mut Pace>) -> Result<Option<Chunk>> {
        let Some(pace) = pace else {
            return self.take(u64::MAX).await;
        };
        let due = pace.due().await;
        let mut taken = self.take(due.records).await?;
        if let Some(chunk) = &mut taken {
            pace.give_back(due.records.saturating_sub(chunk.records.len() as u64));
            chunk.produced = match self {
                // A record is made when it is due, however late its turn comes.
                Source::Fleet(_) => due.since,
                // A line cannot be due before it is there.
                Source::Lines(_) => chunk.produced.max(due.since),
            };
        }
        Ok(taken)
    }

    async fn take(&mut self, most: u64) -> Result<Option<Chunk>> {
        match self {
            Source::Fleet(fleet) => fleet.take(most).await,
            Source::Lines(lines) => lines.take(most).await,
        }
    }
}
