//! What an operator has skipped: corrupt bytes of a segment, recorded beside it so that every reader passes them alike.

use std::path::{Path, PathBuf};

use hydrant_core::disk;
use hydrant_core::{Context, Error, Result};
use serde::{Deserialize, Serialize};

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
    fn path(dir: &Path) -> PathBuf {
        dir.join("skips.json")
    }

    /// Those of the shard in `dir`.
    pub(crate) async fn read(ctx: &Context, dir: &Path) -> Result<Self> {
        let path = Skips::path(dir);
        let bytes = disk::read_file(&*ctx.disk, &path).await;
        match bytes.map_err(|e| Error::io("read", &path, e))? {
            None => Ok(Skips::default()),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt {
                path,
                offset: 0,
                detail: error.to_string(),
            }),
        }
    }

    /// Replaces those of the shard in `dir`.
    pub(crate) async fn replace(&self, ctx: &Context, dir: &Path) -> Result<()> {
        let path = Skips::path(dir);
        let body = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::fatal(format!("cannot write `{}`: {e}", path.display())))?;
        let nonce = ctx.random.identity();
        let replaced = disk::replace_file(&*ctx.disk, &path, body.into(), &nonce).await;
        replaced.map_err(|e| Error::io("replace", &path, e))
    }

    /// The skip that starts at this byte.
    pub(crate) fn at(&self, segment: u64, byte: u64) -> Option<&Skip> {
        self.skips
            .iter()
            .find(|skip| skip.segment == segment && skip.from_byte == byte)
    }
}
