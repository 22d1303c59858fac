//! Files of JSON, which are replaced as a whole.

use std::path::Path;

use hydrant_core::disk::{self, Disk};
use hydrant_core::error::OrCannot;
use hydrant_core::{Context, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads one; `None` when it does not exist.
pub(crate) async fn read<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> Result<Option<T>> {
    let bytes = disk::read_file(disk, path).await.or_cannot("read", path)?;
    bytes.map(|bytes| parse(&bytes, path)).transpose()
}

/// What these bytes of it say.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(path, 0, error.to_string()))
}

/// Replaces one.
pub(crate) async fn replace(ctx: &Context, path: &Path, value: &impl Serialize) -> Result<()> {
    let body = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::fatal(format!("cannot write `{}`: {e}", path.display())))?;
    let nonce = ctx.random.identity();
    let replaced = disk::replace_file(&*ctx.disk, path, body.into(), &nonce).await;
    replaced.or_cannot("replace", path)
}
