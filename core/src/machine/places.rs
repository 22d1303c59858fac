//! What lies in a directory, as one sees it from outside.
//!
//! Owns the marks by which a stream, a lake and a table of a lake are known. Promises that nothing is put where another
//! one lies: a reader of a table would count the files of a lake inside it as rows, and what removes a stream would take
//! along what was put into it. Beside each other they may lie, in a lake's own directory too. Refuses to guess: what
//! cannot be looked at counts as nothing.

use std::path::{Component, Path, PathBuf};

use crate::disk::Disk;
use crate::error::{Error, Result};

/// The directory in a lake that holds everything but rows.
pub const LAKE_SYSTEM: &str = "_hydrant";

/// The file that makes a directory a stream.
pub const STREAM_MANIFEST: &str = "manifest.json";

/// How the name of the directory begins that holds what a stream stores.
pub const STREAM_HOME: &str = "stream-";

/// The most names of a directory that are looked at one by one.
const NAMES_MAX: usize = 256;

/// Something that keeps a directory to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Occupant {
    Stream(PathBuf),
    Lake(PathBuf),
    Table(PathBuf, String),
    LakeSystem(PathBuf),
}

impl Occupant {
    fn text(&self) -> String {
        match self {
            Occupant::Stream(dir) => format!("the stream `local:{}`", shown(dir)),
            Occupant::Lake(dir) => format!("the lake `file:{}`", shown(dir)),
            Occupant::Table(lake, table) => {
                format!("the table `{table}` of the lake `file:{}`", shown(lake))
            }
            Occupant::LakeSystem(lake) => format!(
                "the directory `{LAKE_SYSTEM}` of the lake `file:{}`",
                shown(lake)
            ),
        }
    }
}

/// A path as one would write it in the working directory.
fn shown(path: &Path) -> String {
    let here = std::path::absolute(".").ok();
    let inside = here.and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned()));
    match inside.unwrap_or_else(|| path.to_owned()) {
        path if path.as_os_str().is_empty() => ".".to_owned(),
        path => path.display().to_string(),
    }
}

/// A path from the root on, without `..`.
fn whole(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole
}

async fn is_dir(disk: &dyn Disk, path: &Path) -> bool {
    let stat = disk.stat(path).await.ok().flatten();
    stat.is_some_and(|stat| stat.is_dir)
}

async fn is_stream(disk: &dyn Disk, dir: &Path) -> bool {
    // Other programs have manifests, too.
    let manifest = disk.stat(&dir.join(STREAM_MANIFEST)).await;
    let has_manifest = manifest.ok().flatten().is_some_and(|stat| !stat.is_dir);
    if !has_manifest {
        return false;
    }
    let homes = disk.list(dir).await.unwrap_or_default();
    homes
        .iter()
        .any(|listed| listed.is_dir && listed.name.starts_with(STREAM_HOME))
}

async fn is_lake(disk: &dyn Disk, dir: &Path) -> bool {
    is_dir(disk, &dir.join(LAKE_SYSTEM)).await
}

/// What owns this directory, beside a lake.
async fn owner(disk: &dyn Disk, dir: &Path) -> Option<Occupant> {
    if is_stream(disk, dir).await {
        return Some(Occupant::Stream(dir.to_owned()));
    }
    let (lake, name) = (dir.parent()?, dir.file_name()?.to_str()?);
    if name == LAKE_SYSTEM {
        return Some(Occupant::LakeSystem(lake.to_owned()));
    }
    // No table has such a name; a lake collects uploads there.
    let is_table = !name.starts_with('.') && !name.eq_ignore_ascii_case("staging");
    let system = lake.join(LAKE_SYSTEM).join(name);
    if is_table && is_dir(disk, &system).await {
        return Some(Occupant::Table(lake.to_owned(), name.to_owned()));
    }
    None
}

/// What owns a directory above this one.
async fn owner_above(disk: &dyn Disk, dir: &Path) -> Option<Occupant> {
    for above in dir.ancestors().skip(1) {
        if let Some(owner) = owner(disk, above).await {
            return Some(owner);
        }
    }
    None
}

/// Refuses a directory for a new stream that is, holds or lies in something else.
///
/// # Errors
/// Refused with what lies there.
pub async fn check_new_stream(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let dir = whole(dir);
    let mut found = match is_lake(disk, &dir).await {
        true => Some(Occupant::Lake(dir.clone())),
        false => owner(disk, &dir).await,
    };
    // Whether there is a stream already is said by who makes one.
    found = found.filter(|found| *found != Occupant::Stream(dir.clone()));
    if let Some(found) = found {
        return Err(Error::refused(format!(
            "`{}` is {}: a stream needs a directory of its own, name another one",
            shown(&dir),
            found.text()
        )));
    }
    if let Some(owner) = owner_above(disk, &dir).await {
        return Err(inside(&dir, &owner));
    }
    let names = disk.first(&dir, "", NAMES_MAX).await.unwrap_or_default();
    for listed in names.iter().filter(|listed| listed.is_dir) {
        let below = dir.join(&listed.name);
        let found = match is_lake(disk, &below).await {
            true => Some(Occupant::Lake(below)),
            false => owner(disk, &below).await,
        };
        if let Some(found) = found {
            return Err(Error::refused(format!(
                "`{}` holds {}: a stream needs a directory of its own, name another one, such as `local:{}`",
                shown(&dir),
                found.text(),
                shown(&dir.join("events"))
            )));
        }
    }
    Ok(())
}

/// Refuses a lake for a table whose directories are, hold or lie in something else.
///
/// # Errors
/// Refused with what lies there, and what to write instead.
pub async fn check_table(disk: &dyn Disk, lake: &Path, table: &str) -> Result<()> {
    let lake = whole(lake);
    if let Some(owner) = owner(disk, &lake).await {
        let remedy = match &owner {
            Occupant::Table(lake, table) => {
                format!("write `file:{}` and `--table {table}`", shown(lake))
            }
            _ => "name another directory".to_owned(),
        };
        return Err(Error::refused(format!(
            "`{}` is {}, which no lake can lie in: {remedy}",
            shown(&lake),
            owner.text()
        )));
    }
    if let Some(owner) = owner_above(disk, &lake).await {
        return Err(inside(&lake, &owner));
    }
    let parts = lake.components().map(|part| part.as_os_str());
    let parts = parts.map(|part| part.to_string_lossy());
    if let Some(part) = parts.into_iter().find(|part| part.contains('=')) {
        return Err(Error::refused(format!(
            "`{}` lies in `{part}`, which readers of the table would take for a column of it: name a directory without `=`",
            shown(&lake)
        )));
    }
    let dir = lake.join(table);
    let (found, remedy) = if is_stream(disk, &dir).await {
        let remedy = "name another `--table`, or a lake in a directory of its own".to_owned();
        (Occupant::Stream(dir.clone()), remedy)
    } else if is_lake(disk, &dir).await {
        let remedy = format!("write `file:{}`, or name another `--table`", shown(&dir));
        (Occupant::Lake(dir.clone()), remedy)
    } else {
        return Ok(());
    };
    Err(Error::refused(format!(
        "table `{table}` would lie in `{}`, which is {}: {remedy}",
        shown(&dir),
        found.text()
    )))
}

/// Refuses a file that would lie in a stream or a table.
///
/// # Errors
/// Refused with what lies there.
pub async fn check_new_file(disk: &dyn Disk, file: &Path) -> Result<()> {
    let file = whole(file);
    match owner_above(disk, &file).await {
        Some(owner) => Err(inside(&file, &owner)),
        None => Ok(()),
    }
}

fn inside(path: &Path, owner: &Occupant) -> Error {
    Error::refused(format!(
        "`{}` lies in {}, which keeps its directory to itself: name a place outside of it",
        shown(path),
        owner.text()
    ))
}
