//! The disk as one process sees it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::call::{Effect, LockHold};
use super::model::{Inode, Node, error};
use super::{Op, WorldShared, WorldState};
use hydrant_core::disk::calls::Calls;
use hydrant_core::disk::{
    Disk, DiskFile, Listed, Lock, LockKind, Open, SharedDisk, Stat, Watch, failed_sync,
};

/// The disk as one process sees it; cheap to clone. Calls of a dead process never return.
#[derive(Clone)]
pub struct SimDisk {
    pub(super) shared: Arc<WorldShared>,
    pub(super) name: Arc<str>,
    pub(super) id: u64,
    /// The calls of the process, which locks outlive.
    pub(super) calls: Arc<Calls<LockHold>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk({}#{})", self.name, self.id)
    }
}

impl SimDisk {
    /// The disk for a [`hydrant_core::Context`].
    pub fn shared(&self) -> SharedDisk {
        Arc::new(self.clone())
    }

    /// Whether the process lives.
    pub fn is_alive(&self) -> bool {
        self.shared.lock().is_alive(self.id)
    }

    /// Resolves when the process has died. Cancel-safe.
    pub async fn died(&self) {
        loop {
            let changed = self.shared.lives.notified();
            if !self.is_alive() {
                return;
            }
            changed.await;
        }
    }

    fn file(&self, path: &Path, inode: Inode, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            path: path.to_owned(),
            inode,
            writable,
        })
    }
}

/// Opens the file of a lock, which is created if it does not exist.
fn lock_file(state: &mut WorldState, path: &Path, now: i64) -> io::Result<Inode> {
    match state.model.find(path)? {
        Some(inode) => state.model.file(inode).map(|_| inode),
        None => state.model.create(path, now),
    }
}

fn writable(is: bool) -> io::Result<()> {
    match is {
        true => Ok(()),
        false => Err(error(ErrorKind::PermissionDenied)),
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    inode: Inode,
    writable: bool,
}

#[async_trait]
impl DiskFile for SimFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let inode = self.inode;
        let read = move |state: &mut WorldState, _| {
            let seen = &state.model.file(inode)?.seen;
            let start = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(seen.len());
            let end = start.saturating_add(len).min(seen.len());
            Ok(Bytes::copy_from_slice(&seen[start..end]))
        };
        self.call(Op::ReadAt, read).await
    }

    async fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> io::Result<()> {
        let (inode, may) = (self.inode, self.writable);
        let write = move |state: &mut WorldState, now| {
            writable(may)?;
            let mut at = offset;
            for part in parts {
                let len = part.len() as u64;
                if !state.model.write(inode, at, part, now)? {
                    return Err(error(ErrorKind::StorageFull));
                }
                at += len;
            }
            Ok(())
        };
        self.call(Op::WriteAt, write).await
    }

    async fn sync(&self) -> io::Result<()> {
        let inode = self.inode;
        let sync = move |state: &mut WorldState, _| state.model.sync(inode);
        self.call(Op::Sync, sync).await
    }

    async fn len(&self) -> io::Result<u64> {
        let inode = self.inode;
        let len = move |state: &mut WorldState, _| Ok(state.model.file(inode)?.seen.len() as u64);
        self.call(Op::Len, len).await
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        let (inode, may) = (self.inode, self.writable);
        let cut = move |state: &mut WorldState, now| {
            writable(may)?;
            state.model.cut(inode, len, now)
        };
        self.call(Op::Truncate, cut).await
    }
}

impl SimFile {
    async fn call<T: Send + 'static>(&self, op: Op, effect: impl Effect<T>) -> io::Result<T> {
        let file = Some(self.inode);
        self.disk.call(op, &self.path, file, effect).await
    }
}

#[async_trait]
impl Disk for SimDisk {
    async fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let (disk, at) = (self.clone(), path.to_owned());
        let open = move |state: &mut WorldState, now| {
            let inode = match (state.model.find(&at)?, how) {
                (Some(_), Open::CreateNew) => return Err(error(ErrorKind::AlreadyExists)),
                (Some(inode), _) => state.model.file(inode).map(|_| inode)?,
                (None, Open::Read | Open::Write) => return Err(error(ErrorKind::NotFound)),
                (None, Open::Create | Open::CreateNew) => state.model.create(&at, now)?,
            };
            Ok(disk.file(&at, inode, how != Open::Read))
        };
        self.call(Op::Open, path, None, open).await
    }

    async fn make_dirs(&self, path: &Path) -> io::Result<()> {
        let at = path.to_owned();
        let create =
            move |state: &mut WorldState, now| state.model.create_dir_all(&at, now).map(|_| ());
        self.call(Op::CreateDirAll, path, None, create).await
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let at = path.to_owned();
        let create = move |state: &mut WorldState, now| state.model.create_dir_all(&at, now);
        let homes = self.call(Op::CreateDirAll, path, None, create).await?;
        // Each new directory is visible before it is durable.
        for home in homes.into_iter().rev() {
            let sync = move |state: &mut WorldState, _| {
                state.model.sync_names(home);
                Ok(())
            };
            let synced = self.call(Op::SyncDir, path, None, sync).await;
            synced.map_err(failed_sync)?;
        }
        Ok(())
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let (at, cut) = (path.to_owned(), self.shared.lock().cut_of_listing());
        let list = move |state: &mut WorldState, _| {
            let dir = state.model.find_or_fail(&at)?;
            let listed = state
                .model
                .list(dir, |place| cut.is_none_or(|cut| place < cut))?;
            Ok((dir, listed))
        };
        let (dir, mut listed) = self.call(Op::List, path, None, list).await?;
        if let Some(cut) = cut {
            let list = move |state: &mut WorldState, _| state.model.list(dir, |place| place >= cut);
            listed.extend(self.call(Op::List, path, None, list).await?);
            listed.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(listed)
    }

    async fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let at = path.to_owned();
        let stat = move |state: &mut WorldState, _| {
            let Some(inode) = state.model.find(&at)? else {
                return Ok(None);
            };
            let node = state.model.node(inode)?;
            Ok(Some(Stat {
                is_dir: matches!(node, Node::Dir(_)),
                len: node.len(),
                identity: inode,
                device: 0,
                modified: state.model.modified(inode),
            }))
        };
        self.call(Op::Stat, path, None, stat).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let at = path.to_owned();
        let remove = move |state: &mut WorldState, now| state.model.remove(&at, now);
        self.call(Op::Remove, path, None, remove).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let at = path.to_owned();
        let remove = move |state: &mut WorldState, now| state.model.remove_dir(&at, now);
        self.call(Op::RemoveDir, path, None, remove).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (at, name) = (from.to_owned(), to.to_owned());
        let rename = move |state: &mut WorldState, now| state.model.rename(&at, &name, true, now);
        self.call(Op::Rename, to, None, rename).await
    }

    async fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (at, name) = (from.to_owned(), to.to_owned());
        let rename = move |state: &mut WorldState, now| state.model.rename(&at, &name, false, now);
        self.call(Op::RenameNew, to, None, rename).await
    }

    async fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (at, name) = (from.to_owned(), to.to_owned());
        let link = move |state: &mut WorldState, now| state.model.link(&at, &name, now);
        self.call(Op::LinkNew, to, None, link).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let at = path.to_owned();
        let sync = move |state: &mut WorldState, _| {
            let inode = state.model.find_or_fail(&at)?;
            state.model.sync_names(inode);
            Ok(())
        };
        self.call(Op::SyncDir, path, None, sync).await
    }

    async fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Box<dyn Lock>> {
        let at = path.to_owned();
        let open = move |state: &mut WorldState, now| lock_file(state, &at, now);
        let inode = self.call(Op::Lock, path, None, open).await?;
        let held = self.wait_for_lock(path, inode, kind).await;
        Ok(self.keep(held, inode))
    }

    async fn try_lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>> {
        let (disk, at) = (self.clone(), path.to_owned());
        let take = move |state: &mut WorldState, now| {
            let inode = lock_file(state, &at, now)?;
            let taken = state.take_lock(inode, disk.id, kind);
            Ok(taken.map(|number| (disk.shared.holds(number), inode)))
        };
        let taken = self.call(Op::Lock, path, None, take).await?;
        Ok(taken.map(|(held, inode)| self.keep(held, inode)))
    }

    async fn watch(&self, path: &Path) -> io::Result<Box<dyn Watch>> {
        let at = path.to_owned();
        let find = move |state: &mut WorldState, _| {
            let inode = state.model.find_or_fail(&at)?;
            Ok((inode, state.model.version(inode)))
        };
        let (inode, version) = self.call(Op::Watch, path, None, find).await?;
        Ok(Box::new(SimWatch {
            disk: self.clone(),
            inode,
            version,
        }))
    }
}

#[derive(Debug)]
struct SimWatch {
    disk: SimDisk,
    inode: Inode,
    version: u64,
}

#[async_trait]
impl Watch for SimWatch {
    async fn changed(&mut self) {
        let shared = Arc::clone(&self.disk.shared);
        loop {
            let changed = shared.changes.notified();
            {
                let state = self.disk.shared.lock();
                let version = state.model.version(self.inode);
                if state.is_alive(self.disk.id) && version != self.version {
                    self.version = version;
                    return;
                }
            }
            // A dead process waits without end.
            changed.await;
        }
    }
}
