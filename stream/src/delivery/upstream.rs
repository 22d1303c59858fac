//! Whose records a session carries.

use std::sync::Arc;

use hydrant_core::origin::WriterId;
use hydrant_core::stage::Opened;
use hydrant_core::subscription::ClaimId;
use hydrant_core::{Position, ShardId, StreamId};

/// The upstream shard whose records a session carries.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Who writes; see [`WriterId::of_app`].
    pub writer: WriterId,
    /// The claim under which the shard is read; `None` for a producer, which reads no stream.
    pub claim: Option<ClaimId>,
    /// The stream that is read, or for a producer the one that it writes.
    pub stream: StreamId,
    /// Its shard.
    pub shard: ShardId,
    /// Where the app began in the shard: what lies before was never sent.
    pub start: Position,
    /// The session's start: everything up to here was confirmed before.
    pub after: Position,
    /// The route of everything of this origin that is not a record. It depends on the origin alone, so that it stays
    /// the same whatever becomes of the output's shards, of the policy and of the worker: what is sent again is found
    /// to be there already.
    pub unit_route: u128,
    /// The stage that dead letters name.
    pub stage: Arc<str>,
}

impl Upstream {
    /// The shard of a claim on `input`, as `stage` of `app` sends it on.
    pub fn of_claim(app: &str, input: &StreamId, claim: &Opened, stage: &str) -> Self {
        Upstream {
            writer: WriterId::of_app(app, claim.generation, input),
            claim: Some(claim.claim.clone()),
            stream: input.clone(),
            shard: claim.shard.id.clone(),
            start: claim.after.start.unwrap_or_default(),
            after: claim.after.to,
            // Where most of its records route, if the output is divided alike.
            unit_route: claim.shard.range.first,
            stage: Arc::from(stage),
        }
    }
}
