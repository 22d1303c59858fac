//! Where what a stream holds lies.
//!
//! A process may stand still at any call of the disk, while the stream is deleted and made again under its name, and go on
//! with that call: write, name or remove a file. So each stream has a home, a directory below its own whose name no other
//! stream ever gets. What is late happens in the home of the stream that is gone, and finds nothing there. Beside the homes
//! lies the manifest alone, which is replaced and removed under its lock.
//!
//! The name holds 48 bits of the incarnation: of a million streams that follow one another under a name, two get the same
//! one with a probability of 0.2 %, and that matters only to a process that slept through all those between.

use std::ffi::OsStr;
use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
use std::path::{Path, PathBuf};

use hydrant_core::Result;
use hydrant_core::disk::{Disk, remove_if_there};
use hydrant_core::error::OrCannot;
use hydrant_core::places::STREAM_HOME;

use super::segment::{self, EMPTY_HEAD_BYTES};

/// The digits that follow.
const DIGITS: usize = 12;
/// How often one directory into which others still write is emptied again.
const EMPTIED_MAX: u32 = 100;

/// The name of the home of a stream.
pub(crate) fn name(incarnation: u128) -> String {
    format!(
        "{STREAM_HOME}{:0DIGITS$x}",
        incarnation >> (128 - 4 * DIGITS)
    )
}

/// Whether this is the name of a home.
pub(crate) fn is_name(name: &str) -> bool {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    name.strip_prefix(STREAM_HOME)
        .is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(is_digit))
}

/// Removes the homes in `dir`; answers whether there was one. No stream is there, and the caller holds the manifest's lock.
pub(crate) async fn remove_all(disk: &dyn Disk, dir: &Path) -> Result<bool> {
    let homes = homes(disk, dir).await?;
    for home in &homes {
        remove_tree(disk, home).await?;
    }
    Ok(!homes.is_empty())
}

/// Whether a home in `dir` holds records, or what is known of records that it held: more than a creation makes.
pub(crate) async fn hold_records(disk: &dyn Disk, dir: &Path) -> Result<bool> {
    for home in homes(disk, dir).await? {
        for shard in dirs(disk, &home.join("shards")).await? {
            let segments = segment::list(disk, &shard).await?;
            if segments.iter().any(|one| one.len > EMPTY_HEAD_BYTES) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

async fn homes(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>> {
    let mut homes = dirs(disk, dir).await?;
    homes.retain(|home| {
        home.file_name()
            .and_then(OsStr::to_str)
            .is_some_and(is_name)
    });
    Ok(homes)
}

/// The directories in a directory; none when it is not there.
async fn dirs(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>> {
    let names = match disk.list(dir).await {
        Err(error) if error.kind() == NotFound => return Ok(Vec::new()),
        names => names.or_cannot("list", dir)?,
    };
    let names = names.iter().filter(|listed| listed.is_dir);
    Ok(names.map(|listed| dir.join(&listed.name)).collect())
}

/// Removes a directory with everything in it; nothing when it is not there. Workers that do not know yet that the
/// stream is gone may still write and remove files in it.
async fn remove_tree(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let mut times = 0;
    loop {
        let names = match disk.list(dir).await {
            Err(error) if error.kind() == NotFound => return Ok(()),
            names => names.or_cannot("list", dir)?,
        };
        for listed in names {
            let path = dir.join(&listed.name);
            match listed.is_dir {
                true => Box::pin(remove_tree(disk, &path)).await?,
                false => remove_if_there(disk, &path)
                    .await
                    .or_cannot("remove", &path)?,
            }
        }
        times += 1;
        match disk.remove_dir(dir).await {
            Err(error) if error.kind() == NotFound => return Ok(()),
            Err(error) if error.kind() == DirectoryNotEmpty && times < EMPTIED_MAX => {}
            removed => return removed.or_cannot("remove", dir),
        }
    }
}
