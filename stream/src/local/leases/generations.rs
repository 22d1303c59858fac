//! The generations of the apps' outputs: one JSON file per app that was reprocessed.
//!
//! ```text
//! HOME/_generations/<APP>.json
//! ```
//!
//! They lie apart from the rows of the app: their removal must not make the app send records under origins that
//! its output has seen already for other records. A file is replaced as a whole, so a reprocessing is done or not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hydrant_core::disk;
use hydrant_core::lease::{Generations, Reprocess};
use hydrant_core::{Error, Result};

use crate::local::format::json_file;
use crate::local::stream_dir::StreamDir;

fn dir(stream_dir: &StreamDir) -> PathBuf {
    stream_dir.home.join("_generations")
}

fn path(stream_dir: &StreamDir, app: &str) -> PathBuf {
    dir(stream_dir).join(format!("{app}.json"))
}

/// The generations of `app`.
pub(crate) async fn read(stream_dir: &StreamDir, app: &str) -> Result<Generations> {
    let read = json_file::read(&*stream_dir.ctx.disk, &path(stream_dir, app)).await?;
    Ok(read.unwrap_or_default())
}

/// Moves the generations of `app`. The caller holds the app's lock, and no worker of it lives.
pub(crate) async fn reprocess(
    stream_dir: &StreamDir,
    app: &str,
    what: &Reprocess,
) -> Result<Generations> {
    let (dir, path) = (dir(stream_dir), path(stream_dir, app));
    let next = read(stream_dir, app).await?.after(what);
    let next = next.ok_or_else(|| {
        let detail = format!("generation {} is the last one: restore the file", u64::MAX);
        Error::corrupt(&path, 0, detail)
    })?;
    stream_dir.make_dir(&dir).await?;
    json_file::replace(&stream_dir.ctx, &path, &next).await?;
    Ok(next)
}

/// The apps that keep progress in the stream, or did so when they were reprocessed.
pub(crate) async fn apps(stream_dir: &StreamDir) -> Result<Vec<String>> {
    let mut apps = BTreeSet::new();
    for listed in list(stream_dir, &stream_dir.home.join("_apps")).await? {
        apps.extend(listed.is_dir.then_some(listed.name));
    }
    for listed in list(stream_dir, &dir(stream_dir)).await? {
        let app = listed.name.strip_suffix(".json");
        apps.extend(app.filter(|app| !app.starts_with('.')).map(str::to_owned));
    }
    Ok(apps.into_iter().collect())
}

async fn list(stream_dir: &StreamDir, dir: &Path) -> Result<Vec<disk::Listed>> {
    match stream_dir.ctx.disk.list(dir).await {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", dir, error)),
    }
}
