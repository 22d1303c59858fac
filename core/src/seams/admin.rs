//! The seam of a stream's administration: what an operator can do with it, capability by capability.
//!
//! Systems differ: an embedded log can be split, trimmed and repaired; Kinesis can be split and not trimmed; a Kafka topic
//! can be trimmed and not split. A stream offers what it has ([`Admin`]), and each capability has a conformance suite of
//! its own.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::interval::Interval;
use crate::lease::LeaseStore;
use crate::position::Position;
use crate::shard::ShardId;

/// What to remove from a shard's old end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Everything that can go while records after this position stay.
    After(Position),
    /// Everything that arrived before this time, microseconds since 1970.
    OlderThan(i64),
    /// The oldest data beyond this many bytes a shard.
    ToBytes(u64),
}

/// Changes how many shards a stream has.
#[async_trait]
pub trait Reshard: Send + Sync {
    /// Closes a shard and opens two children; `at` is the first hash of the second, the middle by default. Answers
    /// the children.
    async fn split(&self, shard: &ShardId, at: Option<u128>) -> Result<Vec<ShardId>>;
    /// Closes two neighbours and opens one child. Answers the child.
    async fn merge(&self, a: &ShardId, b: &ShardId) -> Result<ShardId>;
}

/// Removes old data.
#[async_trait]
pub trait Retention: Send + Sync {
    /// Removes old data of a shard, or of all shards. Answers the bytes freed.
    async fn trim(&self, shard: Option<&ShardId>, what: Trim) -> Result<u64>;
}

/// Makes a damaged shard readable again.
#[async_trait]
pub trait Repair: Send + Sync {
    /// Skips corrupt data that stops a shard; its readers see a gap. Answers what was skipped.
    async fn repair(&self, shard: &ShardId) -> Result<Vec<Interval>>;
}

/// Opens the leases of an app for an operator, without joining the app as a worker.
#[async_trait]
pub trait LeaseAccess: Send + Sync {
    /// The leases of the app of this name.
    async fn leases(&self, app: &str) -> Result<Arc<dyn LeaseStore>>;
}

/// What an operator can do with a stream from here. A call of a capability that is absent is refused.
#[derive(Clone, Default)]
pub struct Admin {
    /// `None` where shards are not split and merged.
    pub reshard: Option<Arc<dyn Reshard>>,
    /// `None` where others decide what is kept.
    pub retention: Option<Arc<dyn Retention>>,
    /// `None` where others see to the data.
    pub repair: Option<Arc<dyn Repair>>,
    /// `None` where a broker keeps the progress of apps.
    pub leases: Option<Arc<dyn LeaseAccess>>,
}

impl Admin {
    /// Of what has all capabilities.
    pub fn of<T: Reshard + Retention + Repair + LeaseAccess + 'static>(admin: &Arc<T>) -> Self {
        Admin {
            reshard: Some(Arc::<T>::clone(admin)),
            retention: Some(Arc::<T>::clone(admin)),
            repair: Some(Arc::<T>::clone(admin)),
            leases: Some(Arc::<T>::clone(admin)),
        }
    }

    /// As [`Reshard::split`].
    ///
    /// # Errors
    /// Refused where shards are not split.
    pub async fn split(&self, shard: &ShardId, at: Option<u128>) -> Result<Vec<ShardId>> {
        capability(&self.reshard, "split shards")?
            .split(shard, at)
            .await
    }

    /// As [`Reshard::merge`].
    ///
    /// # Errors
    /// Refused where shards are not merged.
    pub async fn merge(&self, a: &ShardId, b: &ShardId) -> Result<ShardId> {
        capability(&self.reshard, "merge shards")?.merge(a, b).await
    }

    /// As [`Retention::trim`].
    ///
    /// # Errors
    /// Refused where others decide what is kept.
    pub async fn trim(&self, shard: Option<&ShardId>, what: Trim) -> Result<u64> {
        capability(&self.retention, "remove old data")?
            .trim(shard, what)
            .await
    }

    /// As [`Repair::repair`].
    ///
    /// # Errors
    /// Refused where others see to the data.
    pub async fn repair(&self, shard: &ShardId) -> Result<Vec<Interval>> {
        capability(&self.repair, "skip corrupt data")?
            .repair(shard)
            .await
    }

    /// As [`LeaseAccess::leases`].
    ///
    /// # Errors
    /// Refused where a broker keeps the progress of apps.
    pub async fn leases(&self, app: &str) -> Result<Arc<dyn LeaseStore>> {
        capability(&self.leases, "reset the progress of an app")?
            .leases(app)
            .await
    }
}

fn capability<'a, T: ?Sized>(found: &'a Option<Arc<T>>, what: &str) -> Result<&'a Arc<T>> {
    found.as_ref().ok_or_else(|| {
        Error::refused(format!(
            "hydrant cannot {what} in this kind of stream: use the tools of its service"
        ))
    })
}
