//! The listings of a lake in a directory.
//!
//! Owns how directories become listings of keys. Promises that visiting objects by key takes memory for few names,
//! however many a directory has: a chain of records grows for years.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use hydrant_core::disk::Listed;
use hydrant_core::lake::Object;
use hydrant_core::{Error, Result};

use super::FileLake;
use crate::lake::names::{STAGING, TEMPORARY};

/// How many names of a directory a visit holds at once. With more names, large directories are read fewer times.
pub(super) const VISITED_AT_ONCE: usize = 1 << 15;

/// Whether the name belongs to a file that has not got its final name: it is not an object.
fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// A directory that is being visited.
struct VisitedDir {
    /// What the keys of its files start with.
    prefix: String,
    path: PathBuf,
    /// What was read of it and not visited: the keys, with the sizes of files. Keys below a directory continue with a
    /// slash, so that directories have one here.
    read: BTreeMap<String, Option<u64>>,
    /// The last name that was read; `None` when all were.
    last: Option<String>,
}

impl FileLake {
    fn visited(&self, prefix: String) -> Result<VisitedDir> {
        Ok(VisitedDir {
            path: self.dir(&prefix)?,
            prefix,
            read: BTreeMap::new(),
            last: Some(String::new()),
        })
    }

    /// The directory of the objects whose keys start with `prefix`, which is empty or ends with a slash.
    pub(super) fn dir(&self, prefix: &str) -> Result<PathBuf> {
        match prefix.strip_suffix('/') {
            None => Ok(self.root.clone()),
            Some(dir) => self.path(dir),
        }
    }

    /// Shows the files whose keys start with `prefix` to `seen`, by key, until that breaks. Reads `at_once` names of a
    /// directory at a time. `hidden` includes uploads and temporary files.
    pub(super) async fn walk(
        &self,
        prefix: &str,
        hidden: bool,
        at_once: usize,
        seen: &mut (dyn FnMut(Object) -> ControlFlow<()> + Send),
    ) -> Result<()> {
        let top = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        let mut open = vec![self.visited(top.to_owned())?];
        while let Some(dir) = open.last_mut() {
            // The names that are not read yet come behind the last one that is.
            let next = dir.read.first_entry();
            let next = next.filter(|next| dir.last.as_ref().is_none_or(|last| next.key() <= last));
            match (next.map(|next| next.remove_entry()), &dir.last) {
                (Some((name, size)), _) => {
                    let key = format!("{}{name}", dir.prefix);
                    match size {
                        None => open.push(self.visited(key)?),
                        Some(size) if seen(Object { key, size }).is_break() => return Ok(()),
                        Some(_) => {}
                    }
                }
                (None, Some(last)) => {
                    let names = self.names(&dir.path, last, at_once).await?;
                    let more = names.last().filter(|_| names.len() == at_once);
                    dir.last = more.map(|last| last.name.clone());
                    for listed in names.iter().filter(|listed| !is_temporary(&listed.name)) {
                        let slash = if listed.is_dir { "/" } else { "" };
                        let name = format!("{}{slash}", listed.name);
                        if Self::may_hold(&format!("{}{name}", dir.prefix), prefix, hidden) {
                            dir.read
                                .insert(name, (!listed.is_dir).then_some(listed.len));
                        }
                    }
                }
                (None, None) => drop(open.pop()),
            }
        }
        Ok(())
    }

    /// The first names in a directory behind `after`; no names when the directory does not exist.
    pub(super) async fn names(&self, dir: &Path, after: &str, most: usize) -> Result<Vec<Listed>> {
        let names = match self.context.disk.first(dir, after, most).await {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(Vec::new());
            }
            names => names.map_err(|e| Error::io("list", dir, e))?,
        };
        debug_assert!(names.len() <= most && names.iter().all(|listed| *listed.name > *after));
        Ok(names)
    }

    /// Whether `key`, which ends with a slash when it is a directory, starts with `prefix` or may hold keys that do.
    fn may_hold(key: &str, prefix: &str, hidden: bool) -> bool {
        let dir = key.strip_suffix('/');
        let is_hidden = dir.is_some_and(|dir| dir == STAGING || dir == TEMPORARY);
        (hidden || !is_hidden)
            && (key.starts_with(prefix) || (dir.is_some() && prefix.starts_with(key)))
    }
}
