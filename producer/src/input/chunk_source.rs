//! The one interface of all inputs: the simulator, files and standard input as chunks of records.
//!
//! Promises: chunks in input order; memory taken from the budget before a chunk is handed on, so that
//! a slow stream slows the input; nothing that waits for a file or a pipe runs on a thread of the
//! runtime. A restart begins where a ledger says: the simulator jumps there; files are read from their start, and what
//! was taken is skipped.

use hydrant_core::clock::SharedClock;
use hydrant_core::{Context, Result};

use super::fleet::{self, FleetSource};
use super::indexer::{ChunkLimits, Indexer};
use super::lines::LineSource;
use super::pace::SendPace;
use crate::batcher::InputChunk;
use crate::config::{Config, InputSpec};
use crate::ledger::{InputIdentity, ProducerLedger};

/// An input.
pub(crate) enum ChunkSource {
    /// Simulated records.
    Fleet(FleetSource),
    /// Lines.
    Lines(LineSource),
}

/// The identity of the input that the ledger keeps.
pub(crate) fn identity(config: &Config) -> InputIdentity {
    let key = config.key.as_ref().map(|key| key.text().to_owned());
    match &config.origin {
        InputSpec::Simulator { spec, .. } => fleet::identity(spec, key),
        InputSpec::Files(files) => InputIdentity::Records {
            key,
            format: files.format,
        },
    }
}

impl ChunkSource {
    /// Prepares the input; it is opened when it starts.
    ///
    /// # Errors
    /// When it cannot be.
    pub(crate) fn open(config: &Config, context: &Context, limits: ChunkLimits) -> Result<Self> {
        let indexer = Indexer {
            key: config.key.clone(),
            limits,
            clock: SharedClock::clone(&context.clock),
        };
        Ok(match &config.origin {
            InputSpec::Simulator { spec, records } => {
                ChunkSource::Fleet(FleetSource::open(spec, *records, indexer, context)?)
            }
            InputSpec::Files(files) => {
                ChunkSource::Lines(LineSource::open(files, config, context, indexer)?)
            }
        })
    }

    /// Begins where the ledger says, if there is one. Called once, before [`ChunkSource::next`].
    pub(crate) fn start(&mut self, ledger: Option<&ProducerLedger>) {
        match self {
            ChunkSource::Fleet(fleet) => fleet.start(ledger.map_or(0, ProducerLedger::next_index)),
            ChunkSource::Lines(lines) => lines.start(ledger.map(|ledger| ledger.files().to_vec())),
        }
    }

    /// The next chunk, paced; `None` at the end. A dropped call may have lost a chunk, so that this is
    /// the end of the input.
    ///
    /// # Errors
    /// When the input fails; what came before it was handed out.
    pub(crate) async fn next(&mut self, pace: Option<&mut SendPace>) -> Result<Option<InputChunk>> {
        let Some(pace) = pace else {
            return self.take(u64::MAX).await;
        };
        let due = pace.due().await;
        let mut taken = self.take(due.records).await?;
        if let Some(chunk) = &mut taken {
            pace.give_back(due.records.saturating_sub(chunk.records.len() as u64));
            chunk.produced = match self {
                // A record is made when it is due, however late its turn comes.
                ChunkSource::Fleet(_) => due.since,
                // A line cannot be due before it is there.
                ChunkSource::Lines(_) => chunk.produced.max(due.since),
            };
        }
        Ok(taken)
    }

    async fn take(&mut self, most: u64) -> Result<Option<InputChunk>> {
        let taken = match self {
            ChunkSource::Fleet(fleet) => fleet.take(most).await,
            ChunkSource::Lines(lines) => lines.take(most).await,
        }?;
        let payload_bytes = |chunk: &InputChunk| -> u64 {
            let lengths = chunk.records.iter().map(|entry| entry.payload.len);
            lengths.map(u64::from).sum()
        };
        debug_assert!(
            (taken.iter()).all(|chunk| chunk.permit.bytes() >= payload_bytes(chunk)),
            "the budget knows the records of a chunk"
        );
        Ok(taken)
    }
}
