//! The sender's half of exactly once from stream to stream.
//!
//! Owns how records get from one stream into another: the seam ([`Delivery`], [`Session`]), the choice ([`deliver`]), and
//! the lanes, which fit any input and an output whose log or readers know origins. Promises, for such an
//! output: each unit of the input is in the output once, in order per key, whatever is lost, repeated, resharded or taken
//! over by another worker; what is answered as confirmed is durable; bytes on their way are bounded. Refuses to write a
//! stream into itself, and a transform that lost count of its records.
//!
//! The parts: [`RouteRule`] says where a record goes, by its *input* key; [`Planner`] cuts what a transform made of a
//! batch into appends for the shards of one map; a session submits these in order, follows confirmations and mends
//! what failed.

mod begun;
mod confirmed_by_range;
mod lane;
mod lane_output;
mod lanes;
mod output_limits;
mod plan;
mod route;
mod session;
mod upstream;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::lease::Progress;
use hydrant_core::stage::{Flush, Output, Scope};
use hydrant_core::stream::{KeyRule, SharedStream};
use hydrant_core::subscription::ClaimId;
use hydrant_core::{Batch, Context, Error, Position, Result, Shard};

pub use plan::{Plan, Planner};
pub use route::{Keys, RouteRule, Routes};
pub use upstream::Upstream;

use lane_output::LaneLimits;
use lanes::Lanes;

/// The way of records into one output stream. A stage that writes a stream forwards to it what
/// [`hydrant_core::stage::Stage`] asks of the output.
#[async_trait]
pub trait Delivery: Send + Sync + fmt::Debug {
    /// What is committed together.
    fn scope(&self) -> Scope;
    /// What is written into.
    fn output(&self) -> Output;
    /// The largest sum of key, payload and header bytes of one record that the output takes.
    fn record_bytes_max(&self) -> usize;
    /// The keys that a record of the output can have.
    fn keys(&self) -> KeyRule;
    /// What the output knows of a shard's progress; finishes what a dead owner left half done. Called under a claim of
    /// the shard only.
    async fn resume(&self, shard: &Shard) -> Result<Option<Progress>>;
    /// How far the output is in a shard, which another worker may own. It changes nothing and fences no owner.
    async fn published_to(&self, shard: &Shard) -> Result<Option<Position>>;
    /// The session of one upstream shard, from `upstream.after` on.
    async fn open(&self, upstream: Upstream) -> Result<Box<dyn Session>>;
    /// With [`Scope::Worker`]: commits what all sessions sent.
    async fn publish_all(&self, _why: Flush) -> Result<Vec<(ClaimId, Progress)>> {
        Err(Error::fatal("each shard is published by itself"))
    }
}

/// The records of one upstream shard on their way into an output stream. After a failure it is dropped, and a new one is
/// opened after what was confirmed.
#[async_trait]
pub trait Session: Send + fmt::Debug {
    /// What cuts this session's batches; taken for each batch, so that it uses the newest map.
    fn planner(&self) -> Planner;
    /// Waits for the memory that a batch may grow by on its way into [`Session::send`], which takes it over: a record of
    /// two bytes that becomes a dead letter takes a hundred times as many.
    async fn room(&mut self, batch: &Batch) -> Result<()>;
    /// Takes a plan; the order of calls is the order of the upstream shard. Waits while too much is unconfirmed.
    async fn send(&mut self, plan: Plan) -> Result<()>;
    /// Lets the checkpoint pass to `through` when everything before is confirmed: there is nothing in between.
    fn skip(&mut self, through: Position);
    /// Says that nothing of the upstream shard follows, ever: readers that keep track of its origin may forget it in time.
    /// That is on its way like a record.
    async fn end(&mut self) -> Result<()>;
    /// How far everything is confirmed, in order; waits for no confirmation.
    async fn progress(&mut self) -> Result<Position>;
    /// Waits until everything that was sent is confirmed, and answers how far that is.
    async fn drain(&mut self) -> Result<Position>;
    /// Waits until more is confirmed than when it was called, and answers how far that is; without end when nothing was
    /// sent that is not confirmed. Cancel-safe.
    async fn advance(&mut self) -> Result<Position>;
    /// Follows what was sent, without end: hands on what waited for room and sends again what failed. A failure for good
    /// is reported by the next call. Cancel-safe.
    async fn tend(&mut self);
    /// How far everything was confirmed when this was last looked at.
    fn confirmed(&self) -> Position;
    /// Whether everything that was sent is confirmed, as far as is known.
    fn is_idle(&self) -> bool;
    /// How many records the output had already, of those confirmed.
    fn duplicates(&self) -> u64;
}

/// Chooses how records get from `from` into `to`, and opens the output for writing.
///
/// Lanes with origins fit every pair. An input that is its own output is refused: it would feed itself without end.
pub async fn deliver(
    from: &SharedStream,
    to: &SharedStream,
    keys: Keys,
    context: &Context,
) -> Result<Arc<dyn Delivery>> {
    if from.id() == to.id() {
        return Err(Error::refused(format!(
            "`{}` is both input and output: name another stream to write to",
            to.url()
        )));
    }
    deliver_into(to, keys, context).await
}

/// Chooses how records that come from no stream get into `to`, and opens the output for writing.
pub async fn deliver_into(
    to: &SharedStream,
    keys: Keys,
    context: &Context,
) -> Result<Arc<dyn Delivery>> {
    let to = SharedStream::clone(to);
    let lanes = Lanes::open(to, keys, LaneLimits::default(), context);
    Ok(Arc::new(lanes.await?))
}
