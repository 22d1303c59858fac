//! What an operator does to a stream.

use std::sync::Arc;

use async_trait::async_trait;
use hydrant_core::admin::{LeaseAccess, Repair, Reshard, Retention, Trim};
use hydrant_core::lease::LeaseStore;
use hydrant_core::{Interval, Result, Shard, ShardId};

use super::{repair, reshard};
use crate::local::leases::FileLeases;
use crate::local::stream_dir::StreamDir;
use crate::local::write::shard_log::ShardLog;

/// The administration of one stream.
#[derive(Debug)]
pub(crate) struct LocalAdmin {
    stream_dir: Arc<StreamDir>,
}

impl LocalAdmin {
    pub(crate) fn new(stream_dir: &Arc<StreamDir>) -> Self {
        LocalAdmin {
            stream_dir: Arc::clone(stream_dir),
        }
    }

    async fn trim_one(&self, shard: &Shard, what: Trim) -> Result<u64> {
        let mut log = ShardLog::new(&self.stream_dir, shard);
        let held = log.take_or_leave().await?;
        let mut held = held.ok_or_else(|| self.stream_dir.stuck(&shard.id))?;
        held.trim(what).await
    }
}

#[async_trait]
impl Reshard for LocalAdmin {
    async fn split(&self, shard: &ShardId, at: Option<u128>) -> Result<Vec<ShardId>> {
        let split = reshard::split(&self.stream_dir, shard, at).await;
        self.stream_dir.unless_gone(split).await
    }

    async fn merge(&self, a: &ShardId, b: &ShardId) -> Result<ShardId> {
        let merged = reshard::merge(&self.stream_dir, a, b).await;
        self.stream_dir.unless_gone(merged).await
    }
}

#[async_trait]
impl Retention for LocalAdmin {
    async fn trim(&self, shard: Option<&ShardId>, what: Trim) -> Result<u64> {
        let manifest = self.stream_dir.manifest().await?;
        let shards = match shard {
            Some(id) => vec![manifest.shard(id)?.clone()],
            None => manifest.shards.all().to_vec(),
        };
        let (mut freed, mut first_failed) = (0, None);
        for shard in &shards {
            match self
                .stream_dir
                .unless_gone(self.trim_one(shard, what).await)
                .await
            {
                Ok(bytes) => freed += bytes,
                Err(error) => {
                    first_failed.get_or_insert(error);
                }
            }
        }
        let Some(error) = first_failed else {
            return Ok(freed);
        };
        if freed > 0 {
            tracing::warn!(freed, "trimmed the other shards");
        }
        Err(error)
    }
}

#[async_trait]
impl Repair for LocalAdmin {
    async fn repair(&self, shard: &ShardId) -> Result<Vec<Interval>> {
        let manifest = self.stream_dir.manifest().await?;
        let lost = repair::repair(&self.stream_dir, manifest.shard(shard)?).await;
        self.stream_dir.unless_gone(lost).await
    }
}

#[async_trait]
impl LeaseAccess for LocalAdmin {
    async fn leases(&self, app: &str) -> Result<Arc<dyn LeaseStore>> {
        let leases = FileLeases::open(&self.stream_dir, app).await;
        Ok(Arc::new(self.stream_dir.unless_gone(leases).await?))
    }
}
