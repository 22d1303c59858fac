//! Temporary files that dead processes left.

use std::path::Path;

use hydrant_core::disk::Disk;
use hydrant_core::{Error, Result};

/// Removes the temporary files that dead processes left of the files whose names begin with `name`; the caller holds
/// the lock under which they are made.
pub(crate) async fn remove_leftovers(disk: &dyn Disk, dir: &Path, name: &str) -> Result<()> {
    let names = disk.list(dir).await;
    for listed in names.map_err(|e| Error::io("list", dir, e))? {
        let of = listed.name.strip_prefix('.');
        if of.is_some_and(|of| of.starts_with(name) && of.ends_with(".tmp")) {
            let path = dir.join(&listed.name);
            let removed = disk.remove(&path).await;
            removed.map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    Ok(())
}
