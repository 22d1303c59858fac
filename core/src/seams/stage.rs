//! The seam of stages: what happens to the records of a claim.
//!
//! The runtime in `consumer/` owns a claim's reader and ledger and drives a [`ShardStage`]. The stage decides what is
//! durable: [`Stage::resume`] is what the *output* knows, which is the truth; the ledger comes second, for an output
//! that keeps no progress and only as far as it was written for this output ([`Stage::output`]); the start position
//! last. Nothing seeks in place: on a collision or a fence the shard's stage is dropped with its buffers, and a new one
//! is opened after the winner's position.

use std::fmt;

use async_trait::async_trait;

use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::lease::{OutputId, Progress};
use crate::position::Position;
use crate::shard::{Shard, ShardId};
use crate::stream::{Read, Stream};
use crate::subscription::ClaimId;

/// What is committed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each shard by itself.
    Shard,
    /// All claims of the worker: the output is one transaction.
    Worker,
}

/// Why an interval is cut and published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// It is large enough.
    Size,
    /// It is old enough.
    Time,
    /// The memory budget is spent and this shard holds the most.
    Memory,
    /// The claim is being revoked.
    Revoke,
    /// The process drains, or the end was reached and everything is wanted now.
    Drain,
    /// The shard has ended.
    End,
}

impl Flush {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Flush::Size => "size",
            Flush::Time => "time",
            Flush::Memory => "memory",
            Flush::Revoke => "revoke",
            Flush::Drain => "drain",
            Flush::End => "end",
        }
    }
}

/// What a stage writes into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Identifies it among all outputs.
    pub id: OutputId,
    /// Whether it knows by itself how far it is, by [`Stage::resume`]: then a ledger never says more than it does.
    pub keeps_progress: bool,
    /// What the runtime does with the ledger.
    pub ledger: LedgerUse,
}

/// What the runtime does with a claim's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerUse {
    /// It reads it at the beginning and writes it after each publish.
    Written,
    /// It neither reads nor writes it, and gives the claim back through it: the output commits the progress itself, in
    /// the source's own store and together with the records, where a later write would move it back. Such an output
    /// keeps progress.
    Silent,
}

impl Output {
    /// A stream, which keeps no progress of what is written into it: records may become nothing on the way.
    pub fn stream(stream: &dyn Stream) -> Self {
        Output {
            id: OutputId::of_stream(stream.id(), stream.url()),
            keeps_progress: false,
            ledger: LedgerUse::Written,
        }
    }
}

/// Makes the stages of shards.
#[async_trait]
pub trait Stage: Send + Sync + fmt::Debug {
    /// What is committed together.
    fn scope(&self) -> Scope;
    /// What it writes into. Progress in a source's ledger counts for the output that it was written for and for no
    /// other, and workers of one app never share the shards among several outputs. `None` for an output that cannot be
    /// mistaken for another: all progress of the app is then its own.
    fn output(&self) -> Option<Output> {
        None
    }
    /// What the output knows of a shard's progress; finishes what a dead owner left half done. `None` when the output
    /// keeps no progress or has none for this shard. Called under a claim of the
    /// shard, or of a child after its end: never while another worker may own it.
    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>>;
    /// How far the output is in a shard, which another worker may own; `None` as for [`Stage::resume`]. It changes nothing
    /// and fences no owner.
    async fn published_to(&self, shard: &Shard) -> Result<Option<Position>>;
    /// The stage of one claim, from `after` on.
    async fn open(&self, claim: Opened) -> Result<Box<dyn ShardStage>>;
    /// With [`Scope::Worker`]: publishes all claims at once.
    async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        Err(Error::fatal("each shard is published by itself"))
    }
}

/// What a shard's stage is opened with.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Shard and grant.
    pub claim: ClaimId,
    /// The shard as the map has it.
    pub shard: Shard,
    /// Where it starts, and by which rules.
    pub after: Progress,
    /// Where reading of this shard really began, for outputs that record it: equal to `after.to` the first time.
    pub start: Position,
    /// The generation of the app's outputs.
    pub generation: u64,
    /// The parents whose ends must be published before this shard's first record.
    pub parents: Vec<ShardId>,
}

/// The records of one claim on their way to the output.
///
/// ```
/// use hydrant_core::clock::Instant;
/// use hydrant_core::lease::Progress;
/// use hydrant_core::stage::{Flush, ShardStage};
/// use hydrant_core::stream::Read;
/// use hydrant_core::{Position, Result};
///
/// /// Counts records; what it publishes is a line with their number.
/// struct Count(u64, Position);
///
/// #[async_trait::async_trait]
/// impl ShardStage for Count {
///     async fn push(&mut self, read: Read) -> Result<()> {
///         if let Read::Batch(batch) = read {
///             (self.0, self.1) = (self.0 + batch.len() as u64, batch.to);
///         }
///         Ok(())
///     }
///     fn due(&self, _now: Instant) -> Option<Flush> {
///         (self.0 >= 1000).then_some(Flush::Size)
///     }
///     fn deadline(&self) -> Option<Instant> {
///         None
///     }
///     async fn publish(&mut self, _why: Flush) -> Result<Progress> {
///         println!("{} records", std::mem::take(&mut self.0));
///         Ok(Progress { to: self.1, ..Progress::default() })
///     }
/// }
/// ```
#[async_trait]
pub trait ShardStage: Send {
    /// Takes what the reader gave; waiting here is the backpressure.
    async fn push(&mut self, read: Read) -> Result<()>;
    /// Whether something is to be published at `now`, or was published beside the pushes; asked after each push, at
    /// [`ShardStage::deadline`], after [`ShardStage::changed`], and while the memory budget is pressed.
    fn due(&self, now: Instant) -> Option<Flush>;
    /// When [`ShardStage::due`] may answer differently although nothing was pushed.
    fn deadline(&self) -> Option<Instant>;
    /// Resolves when [`ShardStage::due`] may answer differently although nothing was pushed and no deadline has passed:
    /// when a publish that runs beside the pushes has ended. It resolves again and again until the result is taken by
    /// [`ShardStage::publish`]. Between the other calls a stage runs here what it has under way. Cancel-safe.
    async fn changed(&mut self) {
        std::future::pending().await
    }
    /// Makes what was pushed durable and visible, and answers how far: up to a boundary of units. The marks of that place
    /// are those that the batches hand out, if the answer has none: an output that keeps its progress stores them with the
    /// position. For [`Flush::Revoke`], [`Flush::Drain`] and [`Flush::End`] that is everything pushed; for the others it
    /// may be less, without waiting: a publish that has only begun answers as far as the one before it.
    async fn publish(&mut self, why: Flush) -> Result<Progress>;
    /// Leaves the output so that the shard's next owner has nothing to finish. Called when everything pushed is published and
    /// the claim is given back. It saves work only: what fails is logged.
    async fn settle(&mut self) {}
    /// Whether what was pushed before a push that failed is still there to be published, and nothing of what failed: then
    /// a record that cannot be taken holds up none of those before it.
    fn outlives_a_failed_push(&self) -> bool {
        false
    }
}
