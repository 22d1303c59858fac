//! The state that all tasks of a run share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hydrant_core::clock::{self, Instant};
use hydrant_core::error::Error;
use hydrant_core::shard::ShardId;
use hydrant_core::stage::Scope;

use super::output_identity::OutputIdentity;
use super::progress_board::ProgressBoard;
use super::run_spec::{OnCorrupt, RunSpec};
use super::transaction::Transaction;

/// What the tasks of a run share.
pub(crate) struct RunContext {
    pub(crate) spec: RunSpec,
    pub(crate) output: OutputIdentity,
    pub(crate) board: ProgressBoard,
    pub(crate) transaction: Option<Arc<Transaction>>,
    /// The stalled shards, each with the error that was logged, and that the run ends with.
    corrupt: Mutex<BTreeMap<ShardId, Error>>,
    checkpoint: Duration,
    began: Instant,
}

impl RunContext {
    /// Creates the context of a run that begins now; `checkpoint` is the pace of its ledgers.
    pub(crate) fn new(spec: RunSpec, output: OutputIdentity, checkpoint: Duration) -> Self {
        let transaction = match spec.stage.scope() {
            Scope::Shard => None,
            Scope::Worker => Some(Transaction::new(Arc::clone(&spec.stage))),
        };
        RunContext {
            spec,
            output,
            board: ProgressBoard::default(),
            transaction,
            corrupt: Mutex::new(BTreeMap::new()),
            checkpoint,
            began: clock::now(),
        }
    }

    /// Returns when ledgers are written next. All shards write at the same moments.
    pub(crate) fn next_checkpoint(&self) -> Instant {
        let (now, every) = (clock::now(), self.checkpoint);
        if every.is_zero() {
            return now;
        }
        let since = now.duration_since(self.began).as_nanos() % every.as_nanos();
        now + every - Duration::from_nanos(since as u64)
    }

    /// Records that corrupt data keeps a shard from being read on, and logs it unless the same error was logged before.
    pub(crate) fn note_corrupt(&self, shard: &ShardId, error: Error) {
        let mut corrupt = self.corrupt.lock().unwrap_or_else(PoisonError::into_inner);
        let known = corrupt.get(shard).map(Error::report);
        if known != Some(error.report()) {
            let what = match self.spec.on_corrupt {
                OnCorrupt::Stall => "the shard is stalled",
                OnCorrupt::EndShard => "skipping the rest of the corrupt shard",
            };
            let error = log_shard_error(shard, what, error);
            corrupt.insert(shard.clone(), error);
        }
    }

    /// Records that a shard is read again, or that another worker has it.
    pub(crate) fn note_resumed(&self, shard: &ShardId) {
        let mut corrupt = self.corrupt.lock().unwrap_or_else(PoisonError::into_inner);
        corrupt.remove(shard);
    }

    /// Whether a shard is stalled.
    pub(crate) fn is_stalled(&self, shard: &ShardId) -> bool {
        let corrupt = self.corrupt.lock().unwrap_or_else(PoisonError::into_inner);
        self.spec.on_corrupt == OnCorrupt::Stall && corrupt.contains_key(shard)
    }

    /// Removes the first stalled shard and returns its error.
    pub(crate) fn take_stalled(&self) -> Option<Error> {
        let mut corrupt = self.corrupt.lock().unwrap_or_else(PoisonError::into_inner);
        corrupt.pop_first().map(|(_, error)| error)
    }
}

/// Logs the error that stops a shard at once; the run ends with it later.
pub(crate) fn log_shard_error(shard: &ShardId, what: &str, error: Error) -> Error {
    tracing::error!(%shard, "{what}: {}", error.report());
    error
}
