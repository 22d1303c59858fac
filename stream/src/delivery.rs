//! The sender's half of exactly once from stream to stream.
//!
//! Owns the choice of how records get from one stream into another ([`deliver`]) and the lanes that carry them
//! ([`Lanes`], [`LaneSession`]). Promises, for an output that appends idempotently by origin: each unit of the input is in
//! the output once, in order per key, whatever is lost, repeated, resharded or taken over by another worker; what is
//! answered as confirmed is durable; bytes on their way are bounded. Refuses to write a stream into itself, and a
//! transform that lost count of its records.
//!
//! The parts: [`RouteRule`] says where a record goes, by its *input* key; [`Planner`] cuts what a transform made of a
//! batch into appends for the shards of one map; [`LaneSession`] submits these in order, follows confirmations and mends
//! what failed.

mod begun;
mod confirmed_by_range;
mod lane;
mod lanes;
mod plan;
mod route;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_room;

use std::sync::Arc;

use hydrant_core::stream::SharedStream;
use hydrant_core::{Context, Error, Result};

pub use lanes::{LaneLimits, LaneSession, Lanes};
pub use plan::{Plan, Planner, Upstream};
pub use route::{Keys, RouteRule, Routes};

/// How records get from one stream into another.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// Appends with origins, confirmed shard by shard: any input, an output that checks origins at append.
    Lanes(Arc<Lanes>),
}

/// Chooses how records get from `from` into `to`, and opens the output for writing.
///
/// Two brokers of one cluster can commit outputs and input offsets in one transaction; every other pair goes by lanes
/// with origins. An input that is its own output is refused: it would feed itself without end.
pub async fn deliver(
    from: &SharedStream,
    to: &SharedStream,
    keys: Keys,
    context: &Context,
) -> Result<Delivery> {
    if from.id() == to.id() {
        return Err(Error::refused(format!(
            "`{}` is both input and output: name another stream to write to",
            to.url()
        )));
    }
    let lanes = Lanes::open(
        SharedStream::clone(to),
        keys,
        LaneLimits::default(),
        context,
    )
    .await?;
    Ok(Delivery::Lanes(lanes))
}
