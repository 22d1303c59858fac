//! The disk as one process sees it: each call yields, may die or fail, has its effect, may die or fail again.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::model::{Inode, Node, error};
use super::{Fall, Moment, Op, Shared, State, YIELDS_MAX};
use crate::clock;
use crate::disk::{Disk, DiskFile, Listed, Lock, LockKind, Open, SharedDisk, Stat, Watch};

/// The disk as one process sees it; cheap to clone. When the process has died, its calls never return.
#[derive(Clone)]
pub struct SimDisk {
    pub(super) shared: Arc<Shared>,
    pub(super) name: Arc<str>,
    pub(super) id: u64,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk({}#{})", self.name, self.id)
    }
}

impl SimDisk {
    /// As the shared disk of a [`crate::Context`].
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

    /// One call: yields, may die or fail, has its effect, may die or fail again.
    async fn call<T>(
        &self,
        op: Op,
        path: &Path,
        file: Option<Inode>,
        effect: impl FnOnce(&mut State, i64) -> io::Result<T>,
    ) -> io::Result<T> {
        let yields = {
            let mut state = self.shared.lock();
            1 + state.rng.u64(..YIELDS_MAX)
        };
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        if matches!(op, Op::Sync | Op::SyncDir) {
            let time = {
                let mut state = self.shared.lock();
                let most = u64::try_from(state.sync_time.as_micros()).unwrap_or(u64::MAX);
                Duration::from_micros(if most == 0 { 0 } else { state.rng.u64(..most) })
            };
            if !time.is_zero() {
                clock::sleep(time).await;
            }
        }
        self.wait_while_hanging().await;
        let caught = self.spring(op, path);
        if let Some((Moment::Before, Fall::Hangs(time))) = caught {
            self.hang(time).await;
        }
        let answer = match self.attempt(op, path, file, caught, effect) {
            Some(answer) => answer,
            None => std::future::pending().await,
        };
        if let Some((Moment::After, Fall::Hangs(time))) = caught {
            self.hang(time).await;
        }
        answer
    }

    fn spring(&self, op: Op, path: &Path) -> Option<(Moment, Fall)> {
        let mut state = self.shared.lock();
        if !state.is_alive(self.id) {
            return None;
        }
        let caught = state.spring(&self.name, op, &path.to_string_lossy());
        if let Some((moment, fall)) = caught {
            let (trace, path) = (&self.shared.trace, path.display());
            trace.event(format_args!("{self:?} {op:?} {path}: {fall:?} {moment:?}"));
        }
        caught
    }

    /// All calls of this process wait for so long, or until somebody lets it go on.
    async fn hang(&self, time: Duration) {
        self.shared.set_hanging(&self.name, true);
        tokio::select! {
            biased;
            () = self.wait_while_hanging() => {}
            () = clock::sleep(time) => self.shared.set_hanging(&self.name, false),
        }
    }

    async fn wait_while_hanging(&self) {
        loop {
            let changed = self.shared.lives.notified();
            if !self.shared.lock().hangs(self.id) {
                return;
            }
            changed.await;
        }
    }

    /// `None` when the process is dead, before or after the effect.
    fn attempt<T>(
        &self,
        op: Op,
        path: &Path,
        file: Option<Inode>,
        caught: Option<(Moment, Fall)>,
        effect: impl FnOnce(&mut State, i64) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let text = path.to_string_lossy();
        let state = &mut *self.shared.lock();
        if !state.is_alive(self.id) {
            return None;
        }
        let fate = state.processes.get_mut(&*self.name).and_then(|process| {
            process.calls += 1;
            let fate = process.fate.filter(|(nth, _, _)| *nth == process.calls);
            fate.map(|(_, moment, death)| (moment, death))
        });
        let fate = fate.or(match caught {
            Some((moment, Fall::Dies(death))) => Some((moment, death)),
            _ => None,
        });
        if let Some((Moment::Before, death)) = fate {
            self.shared
                .trace
                .event(format_args!("{self:?} {op:?} {text}: not done"));
            self.shared.die(state, &self.name, death);
            return None;
        }
        let now = self.shared.now();
        let before = state.model.touched;
        let answer = match state.fault(op, &text) {
            Some((Moment::Before, kind)) => {
                state.half_done(op, file, |state| drop(effect(state, now)));
                Err(error(kind))
            }
            Some((Moment::After, kind)) => effect(state, now).and(Err(error(kind))),
            None => effect(state, now),
        };
        let outcome: &dyn fmt::Display = match &answer {
            Ok(_) => &"ok",
            Err(error) => &error.kind(),
        };
        self.shared
            .trace
            .event(format_args!("{self:?} {op:?} {text}: {outcome}"));
        if state.model.touched != before {
            self.shared.changes.notify_waiters();
        }
        if let Some((Moment::After, death)) = fate {
            self.shared.die(state, &self.name, death);
            return None;
        }
        Some(answer)
    }

    fn file(&self, path: &Path, inode: Inode, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            path: path.to_owned(),
            inode,
            writable,
        })
    }

    /// Opens the file of a lock, which is made if absent.
    fn lock_file(&self, state: &mut State, path: &Path, now: i64) -> io::Result<Inode> {
        match state.model.find(path)? {
            Some(inode) => state.model.file(inode).map(|_| inode),
            None => state.model.create(path, now),
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    inode: Inode,
    writable: bool,
}

impl SimFile {
    fn writable(&self) -> io::Result<()> {
        match self.writable {
            true => Ok(()),
            false => Err(error(ErrorKind::PermissionDenied)),
        }
    }
}

#[async_trait]
impl DiskFile for SimFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let read = |state: &mut State, _| {
            let seen = &state.model.file(self.inode)?.seen;
            let start = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(seen.len());
            let end = start.saturating_add(len).min(seen.len());
            Ok(Bytes::copy_from_slice(&seen[start..end]))
        };
        self.disk
            .call(Op::ReadAt, &self.path, Some(self.inode), read)
            .await
    }

    async fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> io::Result<()> {
        let write = |state: &mut State, now| {
            self.writable()?;
            let mut at = offset;
            for part in parts {
                let len = part.len() as u64;
                if !state.model.write(self.inode, at, part, now)? {
                    return Err(error(ErrorKind::StorageFull));
                }
                at += len;
            }
            Ok(())
        };
        self.disk
            .call(Op::WriteAt, &self.path, Some(self.inode), write)
            .await
    }

    async fn sync(&self) -> io::Result<()> {
        let sync = |state: &mut State, _| state.model.sync(self.inode);
        self.disk
            .call(Op::Sync, &self.path, Some(self.inode), sync)
            .await
    }

    async fn len(&self) -> io::Result<u64> {
        let len = |state: &mut State, _| Ok(state.model.file(self.inode)?.seen.len() as u64);
        self.disk
            .call(Op::Len, &self.path, Some(self.inode), len)
            .await
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        let cut = |state: &mut State, now| {
            self.writable()?;
            state.model.cut(self.inode, len, now)
        };
        self.disk
            .call(Op::Truncate, &self.path, Some(self.inode), cut)
            .await
    }
}

#[async_trait]
impl Disk for SimDisk {
    async fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let open = |state: &mut State, now| {
            let inode = match (state.model.find(path)?, how) {
                (Some(_), Open::CreateNew) => return Err(error(ErrorKind::AlreadyExists)),
                (Some(inode), _) => state.model.file(inode).map(|_| inode)?,
                (None, Open::Read | Open::Write) => return Err(error(ErrorKind::NotFound)),
                (None, Open::Create | Open::CreateNew) => state.model.create(path, now)?,
            };
            Ok(self.file(path, inode, how != Open::Read))
        };
        self.call(Op::Open, path, None, open).await
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let create = |state: &mut State, now| state.model.create_dir_all(path, now);
        self.call(Op::CreateDirAll, path, None, create).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let list = |state: &mut State, _| {
            let model = &state.model;
            let Node::Dir(names) = model.node(model.find_or_fail(path)?)? else {
                return Err(error(ErrorKind::NotADirectory));
            };
            let listed = names.iter().map(|(name, inode)| {
                let node = model.node(*inode)?;
                Ok(Listed {
                    name: name.clone(),
                    is_dir: matches!(node, Node::Dir(_)),
                    len: len_of(node),
                    identity: *inode,
                    modified: model.modified(*inode),
                })
            });
            listed.collect()
        };
        self.call(Op::List, path, None, list).await
    }

    async fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let stat = |state: &mut State, _| {
            let Some(inode) = state.model.find(path)? else {
                return Ok(None);
            };
            let node = state.model.node(inode)?;
            Ok(Some(Stat {
                is_dir: matches!(node, Node::Dir(_)),
                len: len_of(node),
                identity: inode,
                modified: state.model.modified(inode),
            }))
        };
        self.call(Op::Stat, path, None, stat).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let remove = |state: &mut State, now| state.model.remove(path, now);
        self.call(Op::Remove, path, None, remove).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let remove = |state: &mut State, now| state.model.remove_dir(path, now);
        self.call(Op::RemoveDir, path, None, remove).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let rename = |state: &mut State, now| state.model.rename(from, to, true, now);
        self.call(Op::Rename, to, None, rename).await
    }

    async fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let rename = |state: &mut State, now| state.model.rename(from, to, false, now);
        self.call(Op::RenameNew, to, None, rename).await
    }

    async fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let link = |state: &mut State, now| state.model.link(from, to, now);
        self.call(Op::LinkNew, to, None, link).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let sync = |state: &mut State, _| {
            let inode = state.model.find_or_fail(path)?;
            state.model.sync_names(inode);
            Ok(())
        };
        self.call(Op::SyncDir, path, None, sync).await
    }

    async fn lock(&self, path: &Path, kind: LockKind) -> io::Result<Box<dyn Lock>> {
        let open = |state: &mut State, now| self.lock_file(state, path, now);
        let inode = self.call(Op::Lock, path, None, open).await?;
        loop {
            let freed = self.shared.freed.notified();
            {
                let mut state = self.shared.lock();
                if state.is_alive(self.id)
                    && !state.hangs(self.id)
                    && let Some(number) = state.take_lock(inode, self.id, kind)
                {
                    self.shared
                        .trace
                        .event(format_args!("{self:?} holds {}", path.display()));
                    return Ok(self.held(number));
                }
            }
            // A dead process waits for ever.
            freed.await;
        }
    }

    async fn try_lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>> {
        let take = |state: &mut State, now| {
            let inode = self.lock_file(state, path, now)?;
            Ok(state.take_lock(inode, self.id, kind))
        };
        let number = self.call(Op::Lock, path, None, take).await?;
        Ok(number.map(|number| self.held(number)))
    }

    async fn watch(&self, path: &Path) -> io::Result<Box<dyn Watch>> {
        let find = |state: &mut State, _| {
            let inode = state.model.find_or_fail(path)?;
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

impl SimDisk {
    fn held(&self, number: u64) -> Box<dyn Lock> {
        Box::new(SimLock {
            disk: self.clone(),
            number,
        })
    }
}

fn len_of(node: &Node) -> u64 {
    match node {
        Node::File(file) => file.seen.len() as u64,
        Node::Dir(_) => 0,
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    number: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let shared = &self.disk.shared;
        shared
            .lock()
            .locks
            .retain(|held| held.number != self.number);
        shared.freed.notify_waiters();
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
            // A dead process waits for ever.
            changed.await;
        }
    }
}
