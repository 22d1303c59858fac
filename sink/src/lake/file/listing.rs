//! The listings of a lake in a directory.
//!
//! Owns how directories become listings of keys. Promises that listing the first keys, or visiting all of them one
//! after another, takes memory for few names, however many a directory has: a chain of records grows for years.

use std::io::{self, ErrorKind};
use std::path::Path;

use hydrant_core::disk;
use hydrant_core::lake::Object;
use hydrant_core::{Error, Result};

use super::FileLake;
use crate::lake::names::{STAGING, TEMPORARY};

/// How many names of a directory a visit holds at once. With more names, large directories are read fewer times.
const VISITED_AT_ONCE: usize = 1 << 15;

/// Whether the name belongs to a file that has not got its final name: it is not an object.
fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

impl FileLake {
    /// The first objects of a directory; `None` when something else is among its first names. A chain of records grows
    /// for years, and each owner asks for its first names: no others are held.
    pub(super) async fn first(&self, prefix: &str, most: usize) -> Result<Option<Vec<Object>>> {
        let Some(dir) = prefix.strip_suffix('/') else {
            return Ok(None);
        };
        let path = self.path(dir)?;
        let found = Self::or_empty(self.context.disk.first(&path, "", most).await);
        let found = found.map_err(|e| Error::io("list", &path, e))?;
        let is_object = |listed: &disk::Listed| !listed.is_dir && !is_temporary(&listed.name);
        let all = found.iter().all(is_object);
        let objects = found.into_iter().map(|listed| Object {
            key: format!("{prefix}{}", listed.name),
            size: listed.len,
        });
        Ok(all.then(|| objects.collect()))
    }

    /// The first files by key whose keys start with `prefix` and come behind `after`, at most `most`. Holds the names of
    /// the directories on the path to one file. `hidden` includes uploads and temporary files.
    pub(super) async fn walk(
        &self,
        prefix: &str,
        hidden: bool,
        after: &str,
        most: usize,
    ) -> Result<Vec<Object>> {
        let mut found = Vec::new();
        let top = prefix.rfind('/').map_or("", |slash| &prefix[..slash]);
        // The directories and files that are left to visit; the next one is the last.
        let mut left = vec![(top.to_owned(), None)];
        while found.len() < most
            && let Some((key, len)) = left.pop()
        {
            if let Some(size) = len {
                if after.is_empty() || key.as_str() > after {
                    found.push(Object { key, size });
                }
                continue;
            }
            let dir = if key.is_empty() {
                self.root.clone()
            } else {
                self.path(&key)?
            };
            let mut names: Vec<(String, Option<u64>)> = self
                .names(&dir)
                .await?
                .into_iter()
                .filter(|listed| !is_temporary(&listed.name))
                .map(|listed| {
                    let slash = if key.is_empty() { "" } else { "/" };
                    let key = format!("{key}{slash}{}", listed.name);
                    (key, (!listed.is_dir).then_some(listed.len))
                })
                .filter(|(key, len)| match len {
                    Some(_) => key.starts_with(prefix),
                    None => Self::may_hold(key, prefix, hidden),
                })
                .collect();
            // In the order of the keys: the keys below a directory continue with a slash.
            names.sort_by_cached_key(|(key, len)| match len {
                Some(_) => key.clone(),
                None => format!("{key}/"),
            });
            left.extend(names.into_iter().rev());
        }
        Ok(found)
    }

    pub(super) async fn names(&self, dir: &Path) -> Result<Vec<disk::Listed>> {
        let names = Self::or_empty(self.context.disk.list(dir).await);
        names.map_err(|e| Error::io("list", dir, e))
    }

    /// The names in a directory; no names when the directory does not exist.
    fn or_empty(names: io::Result<Vec<disk::Listed>>) -> io::Result<Vec<disk::Listed>> {
        match names {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(Vec::new())
            }
            names => names,
        }
    }

    /// Whether the directory `dir` may contain keys that start with `prefix`.
    fn may_hold(dir: &str, prefix: &str, hidden: bool) -> bool {
        (hidden || (dir != STAGING && dir != TEMPORARY))
            && (dir.starts_with(prefix) || prefix.starts_with(&format!("{dir}/")))
    }

    /// Shows all files whose keys start with `prefix` to `seen`, a part of a directory at a time.
    pub(super) async fn visit_all(
        &self,
        prefix: &str,
        seen: &mut (dyn FnMut(Object) + Send),
    ) -> Result<()> {
        let top = prefix.rfind('/').map_or("", |slash| &prefix[..slash]);
        let mut left = vec![top.to_owned()];
        while let Some(dir) = left.pop() {
            let (path, slash) = match dir.as_str() {
                "" => (self.root.clone(), ""),
                dir => (self.path(dir)?, "/"),
            };
            let mut after = String::new();
            loop {
                let names = self
                    .context
                    .disk
                    .first(&path, &after, VISITED_AT_ONCE)
                    .await;
                let names = Self::or_empty(names).map_err(|e| Error::io("list", &path, e))?;
                if let Some(last) = names.last() {
                    after.clone_from(&last.name);
                }
                for listed in names.iter().filter(|listed| !is_temporary(&listed.name)) {
                    let key = format!("{dir}{slash}{}", listed.name);
                    match listed.is_dir {
                        true if Self::may_hold(&key, prefix, false) => left.push(key),
                        false if key.starts_with(prefix) => seen(Object {
                            key,
                            size: listed.len,
                        }),
                        _ => {}
                    }
                }
                if names.len() < VISITED_AT_ONCE {
                    break;
                }
            }
        }
        Ok(())
    }
}
