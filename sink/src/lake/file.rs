//! A lake in a directory.
//!
//! Owns how the lake's two ways to make an object work on a file system. A record is a temporary file, synced, then
//! *linked* to its name, which replaces nothing. A data file is collected below `_hydrant/staging/` and *renamed* to
//! its name, which replaces nothing either and consumes the upload. Everything that a caller learns survives a power
//! cut: the directory of each name is synced, also by a process that only finds the name, because the process that made
//! it may have died before its sync.
//!
//! Promises that two processes may use one directory at once. Refuses file systems without hard links, keys that leave
//! the directory, and any change after a failed sync: what the disk then holds is unknown.

mod listing;
mod upload;

use std::collections::{BTreeSet, HashSet};
use std::io::{self, ErrorKind};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hydrant_core::disk::{self, Open};
use hydrant_core::lake::{Lake, Object, Put, Reveal, Sealed, Upload};
use hydrant_core::{Context, Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::commit::checksum;
use super::names::{STAGING, SYSTEM, TEMPORARY};
use listing::VISITED_AT_ONCE;
use upload::{FileUpload, Syncs, is_gone, parent};

/// The most directories whose names are known to be durable. A partition has two: its own, and that of its uploads.
const DIRECTORIES_KNOWN_MAX: usize = 16_384;

/// How many files are written at once. Each costs a descriptor: hundreds of shards may publish at the same time, and
/// more files make no disk faster.
const FILES_OPEN: usize = 16;

/// Separates a key from the nonce in the name of an upload; the keys of the sink never have it.
const NONCE_MARK: char = '~';

/// A lake in a directory.
#[derive(Debug)]
pub struct FileLake {
    pub(super) root: PathBuf,
    url: String,
    pub(super) context: Context,
    writable: bool,
    durable_dirs: Mutex<HashSet<PathBuf>>,
    syncs: Arc<Syncs>,
    files: Arc<Semaphore>,
}

impl FileLake {
    /// Opens the lake in `root` for reading and writing; creates the directory if it is missing.
    ///
    /// # Errors
    /// Refused when the file system has no hard links or lets a name be replaced.
    pub async fn open(root: &Path, context: &Context) -> Result<Self> {
        let lake = Self::new(root, context, true);
        lake.ensure_dir(&root.join(TEMPORARY)).await?;
        disk::sync_above(&*lake.context.disk, root)
            .await
            .map_err(|e| lake.syncs.failed(root, &e))?;
        lake.probe().await?;
        Ok(lake)
    }

    /// Opens the lake in `root` for reading only: nothing is created, synced or removed.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such directory.
    pub async fn open_read(root: &Path, context: &Context) -> Result<Self> {
        let stat = context
            .disk
            .stat(root)
            .await
            .map_err(|e| Error::io("look at", root, e))?;
        if !stat.is_some_and(|stat| stat.is_dir) {
            return Err(Error::NotFound {
                message: format!("there is no lake in `{}`", root.display()),
            });
        }
        Ok(Self::new(root, context, false))
    }

    fn new(root: &Path, context: &Context, writable: bool) -> Self {
        FileLake {
            root: root.to_owned(),
            url: format!("file:{}", root.display()),
            context: context.for_results().apart(root),
            writable,
            durable_dirs: Mutex::default(),
            syncs: Arc::default(),
            files: Arc::new(Semaphore::new(FILES_OPEN)),
        }
    }

    /// Waits until one more file may be written. A task that writes a file never waits for a second one. Reads are
    /// bounded by the threads instead: a read may be started ahead and stand still until its task has read something
    /// else.
    async fn file(&self) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.files).acquire_owned().await;
        permit.map_err(|_| Error::fatal("the lake opens no more files"))
    }

    /// Tries on scratch names the operations that exactly-once needs.
    async fn probe(&self) -> Result<()> {
        let disk = &self.context.disk;
        let nonce = self.context.random.identity();
        let path = |dir: &str, n: u8| self.root.join(dir).join(format!(".probe-{nonce}-{n}.tmp"));
        let (first, second) = (path(TEMPORARY, 1), path(TEMPORARY, 2));
        let third = path(SYSTEM, 3);
        for file in [&first, &second] {
            let opened = disk.open(file, Open::CreateNew).await;
            opened.map_err(|e| Error::io("create", file, e))?;
        }
        let linked = disk.link_new(&first, &third).await;
        let relinked = disk.link_new(&second, &third).await;
        let renamed = disk.rename_new(&second, &third).await;
        for file in [&first, &second, &third] {
            drop(disk.remove(file).await);
        }
        let replaces_nothing = |answer: &io::Result<()>| {
            answer
                .as_ref()
                .is_err_and(|e| e.kind() == ErrorKind::AlreadyExists)
        };
        if linked.is_ok() && replaces_nothing(&relinked) && replaces_nothing(&renamed) {
            return Ok(());
        }
        let answers: Vec<String> = [
            ("link", &linked),
            ("link to a taken name", &relinked),
            ("rename", &renamed),
        ]
        .iter()
        .map(|(what, answer)| match answer {
            Ok(()) => format!("{what} worked"),
            Err(error) => format!("{what}: {error}"),
        })
        .collect();
        Err(Error::refused(format!(
            "the file system of `{}` cannot hold a lake: a lake needs hard links that never replace a name ({}); use a \
             local file system such as ext4 or xfs",
            self.root.display(),
            answers.join("; "),
        )))
    }

    pub(super) fn path(&self, key: &str) -> Result<PathBuf> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
        if key.split('/').all(plain) {
            let path = self.root.join(key);
            debug_assert!(path.starts_with(&self.root), "a key leaves the lake");
            Ok(path)
        } else {
            Err(Error::refused(format!(
                "`{key}` is not a valid key of an object in a lake"
            )))
        }
    }

    fn check_writable(&self) -> Result<()> {
        self.syncs.check()?;
        if self.writable {
            return Ok(());
        }
        Err(Error::fatal(format!(
            "the lake `{}` was opened for reading only",
            self.url
        )))
    }

    /// Makes a directory, and makes its name and all names above it durable, up to the lake's root, even if another
    /// process made them.
    async fn ensure_dir(&self, dir: &Path) -> Result<()> {
        if self.durable().contains(dir) {
            return Ok(());
        }
        let made = self.context.disk.make_dirs(dir).await;
        made.map_err(|e| Error::directory("make the directory", dir, e))?;
        let mut known = vec![dir.to_owned()];
        let mut above = dir.parent();
        while let Some(parent) = above.filter(|parent| parent.starts_with(&self.root)) {
            self.sync_shared(parent).await?;
            if self.durable().contains(parent) {
                break;
            }
            if parent != self.root {
                known.push(parent.to_owned());
            }
            above = parent.parent();
        }
        let mut durable = self.durable();
        if durable.len() >= DIRECTORIES_KNOWN_MAX {
            durable.clear();
        }
        durable.extend(known);
        Ok(())
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.durable_dirs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.context
            .disk
            .sync_dir(dir)
            .await
            .map_err(|e| self.syncs.failed(dir, &e))
    }

    /// Syncs a directory together with others who need it. Only for files on their way into the table, which nobody
    /// waits for half way: those who read may stop in the middle of a read, and would hold all others up.
    async fn sync_shared(&self, dir: &Path) -> Result<()> {
        self.syncs.sync_dir(&*self.context.disk, dir).await
    }

    /// Writes a new file below an existing directory. On an error nothing is left of it.
    async fn write_file(&self, path: &Path, body: Bytes) -> Result<()> {
        let disk = &self.context.disk;
        let _open = self.file().await?;
        let file = disk
            .open(path, Open::CreateNew)
            .await
            .map_err(|e| Error::io("create", path, e))?;
        let written = match file.write_at(0, vec![body]).await {
            Ok(()) => file.sync().await.map_err(|e| self.syncs.failed(path, &e)),
            Err(error) => Err(Error::io("write", path, error)),
        };
        if written.is_err() {
            drop(disk.remove(path).await);
        }
        written
    }

    /// Whether the visible file has the size and checksum of `sealed`; `None` without a file. A file is open only while a
    /// part of it is read: hundreds of shards may compare at once.
    async fn is_same(&self, sealed: &Sealed) -> Result<Option<bool>> {
        match self.head(&sealed.key).await? {
            None => Ok(None),
            Some(found) if found.size != sealed.size => Ok(Some(false)),
            Some(found) => {
                let crc = checksum(self, &found.key, found.size).await?;
                Ok(crc.map(|crc| crc == sealed.crc))
            }
        }
    }

    fn other_content(&self, path: &Path, sealed: &Sealed) -> Error {
        Error::fatal(format!(
            "`{}` is not the file that the commit record names ({} bytes, checksum {:08x}): another program wrote it; \
             move it away and run `hydrant lake verify`",
            path.display(),
            sealed.size,
            sealed.crc,
        ))
    }
}

/// The temporary name under which the object with this key is written first.
fn temporary_of(key: &str, nonce: &str) -> String {
    let (dir, name) = key.rsplit_once('/').unwrap_or(("", key));
    format!("{TEMPORARY}/{dir}/.{name}{NONCE_MARK}{nonce}").replace("//", "/")
}

/// The inverse of [`temporary_of`].
fn key_of_temporary(temporary: &str) -> String {
    let temporary = temporary.strip_prefix(TEMPORARY).unwrap_or(temporary);
    let written = temporary.rsplit_once(NONCE_MARK);
    let key = written.map_or(temporary, |(key, _)| key);
    let (dir, name) = key.rsplit_once("/.").unwrap_or(("", key));
    format!("{dir}/{name}").trim_start_matches('/').to_owned()
}

#[async_trait]
impl Lake for FileLake {
    fn url(&self) -> &str {
        &self.url
    }

    async fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        self.check_writable()?;
        match self.try_put_new(key, body.clone()).await {
            Err(error) if self.lacks_directory(&error) => self.try_put_new(key, body).await,
            answer => answer,
        }
    }

    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>> {
        self.check_writable()?;
        match self.try_upload(key).await {
            Err(error) if self.lacks_directory(&error) => self.try_upload(key).await,
            answer => answer,
        }
    }

    async fn reveal(&self, sealed: &Sealed) -> Result<Reveal> {
        self.check_writable()?;
        match self.try_reveal(sealed).await {
            Err(error) if self.lacks_directory(&error) => self.try_reveal(sealed).await,
            answer => answer,
        }
    }

    async fn discard(&self, upload: &str) -> Result<()> {
        self.check_writable()?;
        let path = self.upload_path(upload)?;
        self.remove(&path).await?;
        self.sync_if_any(parent(&path)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let path = self.path(key)?;
        let (disk, file) = (Arc::clone(&self.context.disk), path.clone());
        let reading = async move { disk::read_file(&*disk, &file).await };
        let body = disk::at_once(&*self.context.disk, reading).await;
        let body = body.map_err(|e| Error::io("read", &path, e))?;
        // The caller may act on what it finds, so a power cut must not undo the name.
        if body.is_some() && self.writable && key.starts_with(SYSTEM) {
            self.sync_dir(parent(&path)).await?;
        }
        Ok(body)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let path = self.path(key)?;
        let (disk, file) = (Arc::clone(&self.context.disk), path.clone());
        let reading = async move {
            let file = match disk.open(&file, Open::Read).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let wanted = range.end.saturating_sub(range.start);
            let mut found = BytesMut::new();
            while (found.len() as u64) < wanted {
                let (at, left) = (
                    range.start + found.len() as u64,
                    wanted - found.len() as u64,
                );
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                let part = file.read_at(at, most).await?;
                if part.is_empty() {
                    break;
                }
                found.extend_from_slice(&part);
            }
            Ok(Some(found.freeze()))
        };
        let found: io::Result<Option<Bytes>> = disk::at_once(&*self.context.disk, reading).await;
        found.map_err(|e| Error::io("read", &path, e))
    }

    async fn page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<Object>> {
        let mut page = Vec::new();
        let mut seen = |object: Object| {
            if after.is_empty() || object.key.as_str() > after {
                page.push(object);
            }
            match page.len() < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        let at_once = match after {
            "" => most.min(VISITED_AT_ONCE),
            _ => VISITED_AT_ONCE,
        };
        self.walk(prefix, false, at_once, &mut seen).await?;
        Ok(page)
    }

    async fn head(&self, key: &str) -> Result<Option<Object>> {
        let path = self.path(key)?;
        let stat = self.context.disk.stat(&path).await;
        let stat = stat.map_err(|e| Error::io("look at", &path, e))?;
        Ok(stat.filter(|stat| !stat.is_dir).map(|stat| Object {
            key: key.to_owned(),
            size: stat.len,
        }))
    }

    async fn visit(&self, prefix: &str, seen: &mut (dyn FnMut(Object) + Send)) -> Result<()> {
        let mut seen = |object| {
            seen(object);
            ControlFlow::Continue(())
        };
        self.walk(prefix, false, VISITED_AT_ONCE, &mut seen).await
    }

    async fn list_dirs(&self, prefix: &str) -> Result<Vec<String>> {
        let names = self.names(&self.dir(prefix)?, "", usize::MAX).await?;
        let names = names.into_iter();
        Ok(names
            .filter(|listed| listed.is_dir)
            .map(|listed| listed.name)
            .collect())
    }

    async fn list_uploads(&self) -> Result<Vec<(String, String)>> {
        let uploads = self.hidden(&format!("{STAGING}/")).await?;
        let upload = |object: Object| {
            let key = &object.key[STAGING.len() + 1..];
            let key = key.rsplit_once(NONCE_MARK).map_or(key, |(key, _)| key);
            let key = key.to_owned();
            (object.key, key)
        };
        Ok(uploads.into_iter().map(upload).collect())
    }

    async fn tidy(&self, prefix: &str) -> Result<()> {
        self.check_writable()?;
        let temporaries = format!("{TEMPORARY}/{prefix}");
        for temporary in self.hidden(&temporaries).await? {
            if self
                .head(&key_of_temporary(&temporary.key))
                .await?
                .is_some()
            {
                self.remove(&self.path(&temporary.key)?).await?;
            }
        }
        Ok(())
    }

    async fn delete_many(&self, keys: &[String]) -> Result<()> {
        self.check_writable()?;
        let mut dirs = BTreeSet::new();
        for key in keys {
            let path = self.path(key)?;
            self.remove(&path).await?;
            dirs.insert(parent(&path).to_owned());
            // The file may have become visible a moment ago: with its upload it would be back after a power cut.
            let staged = self.path(&format!("{STAGING}/{key}"))?;
            dirs.insert(parent(&staged).to_owned());
        }
        // Also of names that were only found gone: their removal may not be durable yet.
        for dir in dirs {
            self.sync_if_any(&dir).await?;
        }
        Ok(())
    }
}

impl FileLake {
    /// Whether an operation failed because another program removed a directory that was known to be durable. From then
    /// on no directory counts as durable, so that the next attempt makes them again.
    fn lacks_directory(&self, error: &Error) -> bool {
        let gone = is_gone(error);
        if gone {
            self.durable().clear();
        }
        gone
    }

    /// The uploads or temporary files below `prefix`.
    async fn hidden(&self, prefix: &str) -> Result<Vec<Object>> {
        let mut found = Vec::new();
        let mut seen = |object| {
            found.push(object);
            ControlFlow::Continue(())
        };
        self.walk(prefix, true, VISITED_AT_ONCE, &mut seen).await?;
        Ok(found)
    }

    async fn try_put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        let disk = &self.context.disk;
        let path = self.path(key)?;
        let dir = parent(&path);
        self.ensure_dir(dir).await?;
        let temporary = temporary_of(key, &self.context.random.identity());
        let temporary = self.path(&temporary)?;
        self.ensure_dir(parent(&temporary)).await?;
        self.write_file(&temporary, body).await?;
        let linked = match disk.link_new(&temporary, &path).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            // The link may have been made although its answer was lost.
            Err(error) => match (disk.stat(&temporary).await, disk.stat(&path).await) {
                (Ok(Some(ours)), Ok(Some(there))) if ours.identity == there.identity => Ok(true),
                // The clean-up of another owner removed the temporary file, because the name existed.
                (Ok(None), Ok(Some(_))) => Ok(false),
                _ => Err(Error::io("link", &path, error)),
            },
        };
        // Also when the name was only found: it may not be durable yet.
        let synced = self.sync_dir(dir).await;
        drop(disk.remove(&temporary).await);
        let made = linked?;
        synced?;
        if made {
            return Ok(Put::Created);
        }
        match self.get(key).await? {
            Some(body) => Ok(Put::Exists(body)),
            None => Err(Error::fatal(format!(
                "`{}` was removed while it was being read: objects below `{SYSTEM}` are never removed",
                path.display(),
            ))),
        }
    }

    async fn try_upload(&self, key: &str) -> Result<Box<dyn Upload>> {
        self.path(key)?;
        let nonce = self.context.random.u64();
        let upload = format!("{STAGING}/{key}{NONCE_MARK}{nonce:016x}");
        let path = self.path(&upload)?;
        self.ensure_dir(parent(&path)).await?;
        let open = self.file().await?;
        let (context, syncs) = (&self.context, &self.syncs);
        let upload_file = FileUpload::create(context, syncs, open, path, key, upload).await?;
        Ok(Box::new(upload_file))
    }

    async fn try_reveal(&self, sealed: &Sealed) -> Result<Reveal> {
        let disk = &self.context.disk;
        let (hidden, path) = (self.upload_path(&sealed.upload)?, self.path(&sealed.key)?);
        let (from, to) = (parent(&hidden), parent(&path));
        self.ensure_dir(to).await?;
        let reveal = match disk.rename_new(&hidden, &path).await {
            Ok(()) => Reveal::Revealed,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if self.is_same(sealed).await? != Some(true) {
                    return Err(self.other_content(&path, sealed));
                }
                self.discard(&sealed.upload).await?;
                Reveal::Already
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The upload may still exist: then another program removed the directory of the partition.
                let stat = disk
                    .stat(&hidden)
                    .await
                    .map_err(|e| Error::io("look at", &hidden, e))?;
                if stat.is_some() {
                    return Err(Error::io("make visible", &path, error));
                }
                match self.is_same(sealed).await? {
                    Some(true) => Reveal::Already,
                    Some(false) => return Err(self.other_content(&path, sealed)),
                    None => Reveal::Vanished,
                }
            }
            Err(error) => return Err(Error::io("make visible", &path, error)),
        };
        let hidden = async {
            match self.sync_shared(from).await {
                // Another process may have removed it.
                Err(error) if is_gone(&error) => Ok(()),
                synced => synced,
            }
        };
        futures::try_join!(self.sync_shared(to), hidden)?;
        Ok(reveal)
    }

    fn upload_path(&self, upload: &str) -> Result<PathBuf> {
        if upload
            .strip_prefix(STAGING)
            .is_some_and(|rest| rest.starts_with('/'))
        {
            self.path(upload)
        } else {
            Err(Error::refused(format!(
                "`{upload}` is not an upload of a lake in a directory"
            )))
        }
    }

    /// Removes a file; no error when it is gone.
    async fn remove(&self, path: &Path) -> Result<()> {
        match self.context.disk.remove(path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    /// Syncs a directory, which another process may have removed.
    async fn sync_if_any(&self, dir: &Path) -> Result<()> {
        match self.sync_dir(dir).await {
            Err(error) if is_gone(&error) => Ok(()),
            synced => synced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_temporary_file_is_read_from_its_name() {
        for key in [
            "x",
            "a/b",
            "_hydrant/t/commits/a@1/0/r/9.json",
            "_hydrant/.x/~y",
        ] {
            let temporary = temporary_of(key, "77");
            assert!(temporary.starts_with(TEMPORARY), "{temporary}");
            assert_eq!(key_of_temporary(&temporary), key);
        }
    }
}
