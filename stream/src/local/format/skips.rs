//! What an operator has skipped: corrupt bytes of a segment, recorded beside it so that every reader passes them alike.

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

    /// The skip that starts at this byte.
    pub(crate) fn at(&self, segment: u64, byte: u64) -> Option<&Skip> {
        self.skips
            .iter()
            .find(|skip| skip.segment == segment && skip.from_byte == byte)
    }
}
