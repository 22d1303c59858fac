//! The seam of subscriptions: which shards this worker may read now.
//!
//! Leases are one implementation, a broker's group is the other. A claim is the right to read a shard from one grant to
//! its loss; it carries a grant number, because a shard can be granted again before the revoke of its earlier grant was
//! answered, and an answer with an old number is a no-op.
//!
//! A source that takes a claim back hears when nothing of it is at work any more ([`ClaimAnswer`]). A broker's client waits for
//! that before it lets its group go on: records of a lost claim must be out of the worker's transaction before another
//! worker reads them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::clock::Instant;
use crate::error::Result;
use crate::lease::Progress;
use crate::read::Readers;
use crate::shard::{Shard, ShardId};

/// A shard and the number of the grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId {
    /// The shard.
    pub shard: ShardId,
    /// Rises with each grant of this subscription.
    pub grant: u64,
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.shard, self.grant)
    }
}

/// The source's own memory of progress. It is written after the output is durable and may lag behind it. It keeps
/// [`Progress::output`] with the rest, so that progress for another output does not count for this one.
#[async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// The progress, as of now.
    async fn read(&self) -> Result<Option<Progress>>;
    /// Stores progress; [`crate::Error::Fenced`] when the claim is lost.
    async fn write(&self, progress: &Progress) -> Result<()>;
    /// Gives the claim back, so that another worker takes it at once.
    async fn release(&self) -> Result<()>;
    /// Whether no other worker can have the claim yet. While it is so, what is read lies before the tip that a successor will
    /// find; when it is not, the claim is as good as lost.
    fn is_held(&self) -> bool {
        true
    }
    /// Which generation of the app's outputs this is.
    fn generation(&self) -> u64;
}

/// The right to read a shard now.
#[derive(Debug)]
pub struct Claim {
    /// Shard and grant.
    pub id: ClaimId,
    /// The shard as the map has it.
    pub shard: Shard,
    /// Opens its readers.
    pub readers: Arc<dyn Readers>,
    /// Its ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The last progress of its parents, where the source knows it.
    pub parents: Vec<(ShardId, Progress)>,
}

/// What happens to claims.
#[derive(Debug)]
pub enum Event {
    /// A shard to read from now on.
    Granted(Claim),
    /// Publish and give the claim back before the deadline.
    Revoking {
        /// The claim.
        claim: ClaimId,
        /// After this it is lost.
        until: Instant,
        /// Answers once the claim is given back, or cut off.
        answer: ClaimAnswer,
    },
    /// The claim is gone: write nothing more.
    Lost {
        /// The claim.
        claim: ClaimId,
        /// Answers once nothing more can be written.
        answer: ClaimAnswer,
    },
}

/// Answers for a claim that is taken back: by being dropped, when its task has ended, its half of the stage is gone, and no
/// publish is under way that may hold its records. So an answer comes whatever becomes of the worker.
#[derive(Debug)]
pub struct ClaimAnswer {
    _hears: oneshot::Sender<()>,
}

/// What the source of a claim waits for; see [`ClaimAnswer`].
#[derive(Debug)]
#[must_use = "a source that does not wait takes `ClaimAnswer::unheard`"]
pub struct ClaimLeft(oneshot::Receiver<()>);

impl ClaimAnswer {
    /// Creates an answer and what waits for it.
    pub fn new() -> (Self, ClaimLeft) {
        let (hears, left) = oneshot::channel();
        (ClaimAnswer { _hears: hears }, ClaimLeft(left))
    }

    /// An answer that no one waits for.
    pub fn unheard() -> Self {
        Self::new().0
    }
}

impl Future for ClaimLeft {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

/// The claims of one worker on one stream.
#[async_trait]
pub trait Subscription: Send {
    /// The next event. Cancel-safe.
    async fn next(&mut self) -> Result<Event>;
    /// The app's progress in every shard that has any, whichever worker owns it. A source that keeps only what its own worker
    /// wrote answers with nothing. An app that begins at the latest record reads a shard without progress from its beginning
    /// when another one has some: it appeared since.
    fn progress(&self) -> BoxFuture<'static, Result<Vec<(ShardId, Progress)>>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
    /// Stops taking claims, without waiting; those held stay until their ledgers release them, and some may still come.
    fn stop_claiming(&mut self);
    /// Leaves: nothing is held any more.
    async fn close(&mut self) -> Result<()>;
}
