//! What an operator has skipped: corrupt bytes of a segment, or offsets that are missing between two intact frames,
//! recorded beside it so that every reader passes them alike.

use std::path::{Path, PathBuf};

use hydrant_core::{Context, Result};
use serde::{Deserialize, Serialize};

use super::json_file;

/// Corrupt bytes and the offsets that were lost with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skip {
    /// The number of the segment.
    pub(crate) segment: u64,
    /// Where the corrupt bytes start.
    pub(crate) from_byte: u64,
    /// Where sound bytes go on.
    pub(crate) to_byte: u64,
    /// The first offset that is lost.
    pub(crate) first_offset: u64,
    /// The first offset after what is lost.
    pub(crate) next_offset: u64,
    /// What was found.
    pub(crate) why: String,
}

/// The skips of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skips {
    /// By segment and byte.
    pub(crate) skips: Vec<Skip>,
}

impl Skips {
    /// Nothing was skipped.
    pub(crate) const NONE: &Skips = &Skips { skips: Vec::new() };

    fn path(dir: &Path) -> PathBuf {
        dir.join("skips.json")
    }

    /// Those of the shard in `dir`.
    pub(crate) async fn read(ctx: &Context, dir: &Path) -> Result<Self> {
        let skips = json_file::read(&*ctx.disk, &Skips::path(dir)).await?;
        Ok(skips.unwrap_or_default())
    }

    /// Replaces those of the shard in `dir`.
    pub(crate) async fn replace(&self, ctx: &Context, dir: &Path) -> Result<()> {
        json_file::replace(ctx, &Skips::path(dir), self).await
    }

    /// These and others, each once.
    pub(crate) fn join(mut self, found: &[Skip]) -> Self {
        self.skips.extend_from_slice(found);
        let stream_dir = |skip: &Skip| (skip.segment, skip.from_byte, skip.to_byte);
        self.skips.sort_by_key(stream_dir);
        self.skips.dedup_by_key(|skip| stream_dir(skip));
        self
    }

    /// The skip of the bytes that start here. One of offsets alone has none.
    pub(crate) fn at(&self, segment: u64, byte: u64) -> Option<&Skip> {
        let starts_here =
            |skip: &&Skip| (skip.segment, skip.from_byte) == (segment, byte) && byte < skip.to_byte;
        self.skips.iter().find(starts_here)
    }

    /// The skip with which this offset was lost.
    pub(crate) fn over(&self, offset: u64) -> Option<&Skip> {
        let covers = |skip: &&Skip| (skip.first_offset..skip.next_offset).contains(&offset);
        self.skips.iter().find(covers)
    }
}
