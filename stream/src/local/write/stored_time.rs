//! How the stream's time is found at an opening, and noted for the next one.

use std::path::PathBuf;

use hydrant_core::disk::{self, Open};
use hydrant_core::error::OrCannot;
use hydrant_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::local::stream_dir::StreamDir;
use crate::local::stream_time::CLOCK_IS_SET;

#[derive(Debug, Default, Serialize, Deserialize)]
struct StoredTime {
    /// Microseconds since 1970.
    time: i64,
}

impl StreamDir {
    /// The stream's time now; `None` while nothing has arrived, or the clock is not set. It is noted once it has moved by
    /// `step` microseconds.
    pub(crate) async fn find_age(&self, step: i64) -> Result<Option<i64>> {
        let wall = self.ctx.clock.wall_micros();
        if wall < CLOCK_IS_SET {
            return Ok(None);
        }
        let path = self.shards_dir().join("time.json");
        let stored = disk::read_file(&*self.ctx.disk, &path).await;
        let stored = stored.or_cannot("read", &path)?;
        // What is not legible was not written by this program: the arrivals count.
        let stored: StoredTime = stored
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        if self.age.now(wall).is_none() {
            let newest = self.newest_arrival().await?.max(stored.time);
            if newest < CLOCK_IS_SET {
                return Ok(None);
            }
            self.age.begin(newest, wall);
        }
        let now = self.age.now(wall);
        if let Some(time) = now.filter(|now| now.saturating_sub(stored.time) >= step)
            && let Err(error) = self.note_age(path, time).await
        {
            // It will have moved further at the next look.
            tracing::debug!(error = %error.report(), "cannot note the time of a stream");
        }
        Ok(now)
    }

    async fn note_age(&self, path: PathBuf, time: i64) -> Result<()> {
        let body = serde_json::to_vec(&StoredTime { time })
            .map_err(|e| Error::fatal(format!("cannot write `{}`: {e}", path.display())))?;
        // One temporary name for all, so that the dead leave no more than one. What two write at once may be torn, and
        // counts as absent.
        let replaced = disk::replace_file(&*self.ctx.disk, &path, body.into(), "new").await;
        replaced.or_cannot("replace", &path)
    }

    /// The newest arrival in any shard; 0 when there is none.
    async fn newest_arrival(&self) -> Result<i64> {
        let mut newest = 0;
        for shard in self.manifest().await?.shards.all() {
            let file = self.control_file(&shard.id, Open::Read).await?;
            newest = newest.max(file.read().await?.unwrap_or_default().newest_arrival);
        }
        Ok(newest)
    }
}
