//! Temporary files that dead processes left.

use std::path::Path;

use hydrant_core::Result;
use hydrant_core::disk::Disk;
use hydrant_core::error::OrCannot;

/// Removes the temporary files that dead processes left of the files whose names begin with `name`; the caller holds
/// the lock under which they are made.
pub(crate) async fn remove_leftovers(disk: &dyn Disk, dir: &Path, name: &str) -> Result<()> {
    for listed in disk.list(dir).await.or_cannot("list", dir)? {
        let of = listed.name.strip_prefix('.');
        if of.is_some_and(|of| of.starts_with(name) && of.ends_with(".tmp")) {
            let path = dir.join(&listed.name);
            disk.remove(&path).await.or_cannot("remove", &path)?;
        }
    }
    Ok(())
}
