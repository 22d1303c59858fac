//! A disk in memory that forgets, tears, fails and fills up like disks do, shared by processes that die.
//!
//! A [`SimWorld`] is one machine: its files, and processes that each see them through a [`SimDisk`].
//!
//! - [`SimWorld::power_cut`] keeps what was synced; of what was not, any set of sectors (the last one torn), any of the
//!   lengths that a file had since, and any set of operations on names survive ([`Loss`] narrows that). A rename
//!   survives whole or not at all, and for certain only when both its directories were synced. All processes die.
//! - [`SimWorld::kill`] is `kill -9`: the page cache stays, locks are free at once, calls under way never return. Each
//!   call is a place to die, before its effect or after it ([`SimWorld::die_at`]).
//! - [`SimWorld::fail`] makes calls fail, before or after their effect. A failed sync marks the bytes as clean: a later
//!   sync reports success without writing them, which is what Linux does.
//! - [`SimWorld::set_quota`] makes the disk full.
//!
//! Each call yields to the scheduler a seeded number of times and leaves a line in the [`Trace`]. Reads answer from the
//! page cache. A name is a file's only place in the accounts: an open file without a name takes no quota.

mod model;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::clock::SharedClock;
use crate::disk::{Disk, DiskFile, Listed, Lock, LockKind, Open, SharedDisk, Stat, Watch};
use crate::testing::clock::ManualClock;
use crate::testing::trace::Trace;
use model::{Inode, Model, Node, error};

/// A call yields to other tasks up to this many times, so that seeds explore the ways to interleave.
const YIELDS_MAX: u64 = 3;

/// What a power cut, or a failed sync, takes of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Everything,
    /// Any part of it, drawn by the seed.
    Some,
    /// None of it: the kernel had written it back in time.
    Nothing,
}

/// When something befalls a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before its effect: nothing was done.
    Before,
    /// After its effect, before its answer: it was done and nobody knows.
    After,
}

/// How a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Alone.
    Kill,
    /// With all others and what was not synced.
    PowerCut(Loss),
}

/// The calls of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the call of its name")]
pub enum Op {
    Open,
    CreateDirAll,
    List,
    Stat,
    Remove,
    RemoveDir,
    Rename,
    RenameNew,
    LinkNew,
    SyncDir,
    Lock,
    Watch,
    ReadAt,
    WriteAt,
    Sync,
    Len,
    Truncate,
}

/// Calls that fail.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which call.
    pub op: Op,
    /// Whose path, relative to the root, contains this.
    pub path: String,
    /// How many of these calls pass before the first one fails.
    pub skip: u32,
    /// How many fail; `None` for all from then on.
    pub times: Option<u32>,
    /// Whether the effect takes place all the same. A failed write has written a part before, all after; a failed sync
    /// has written a part, or all without saying so.
    pub moment: Moment,
    /// The error.
    pub kind: ErrorKind,
}

impl Rule {
    /// The first `op` on a path that contains `path` fails with an I/O error, without effect.
    pub fn once(op: Op, path: impl Into<String>) -> Self {
        Rule {
            op,
            path: path.into(),
            skip: 0,
            times: Some(1),
            moment: Moment::Before,
            kind: ErrorKind::Other,
        }
    }

    /// Every `op` on a path that contains `path` fails with an I/O error, without effect.
    pub fn always(op: Op, path: impl Into<String>) -> Self {
        Rule {
            times: None,
            ..Rule::once(op, path)
        }
    }
}

#[derive(Debug)]
struct ProcessState {
    id: u64,
    alive: bool,
    calls: u64,
    fate: Option<(u64, Moment, Death)>,
}

#[derive(Debug)]
struct HeldLock {
    number: u64,
    inode: Inode,
    process: u64,
    kind: LockKind,
}

#[derive(Debug)]
struct State {
    model: Model,
    processes: BTreeMap<String, ProcessState>,
    next_process: u64,
    locks: Vec<HeldLock>,
    next_lock: u64,
    rules: Vec<Rule>,
    sync_loss: Loss,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    clock: SharedClock,
    trace: Trace,
    /// Wakes those that wait for a lock, a change or a death, first come first served: tokio's watch channel wakes in
    /// an order that differs from run to run.
    changes: Notify,
}

/// One machine and its disk; cheap to clone.
#[derive(Clone, Debug)]
pub struct SimWorld {
    shared: Arc<Shared>,
}

impl SimWorld {
    /// An empty disk. Everything that is left to chance is drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        SimWorld::with(
            seed,
            Arc::new(ManualClock::new(1_700_000_000_000_000)),
            Trace::new(),
        )
    }

    /// An empty disk whose files are stamped by `clock` and whose calls are told to `trace`.
    pub fn with(seed: u64, clock: SharedClock, trace: Trace) -> Self {
        let state = State {
            model: Model::new(),
            processes: BTreeMap::new(),
            next_process: 1,
            locks: Vec::new(),
            next_lock: 1,
            rules: Vec::new(),
            sync_loss: Loss::Some,
            rng: fastrand::Rng::with_seed(seed),
        };
        SimWorld {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                clock,
                trace,
                changes: Notify::new(),
            }),
        }
    }

    /// Starts a process and answers its view of the disk; a living one of this name is killed first.
    pub fn process(&self, name: &str) -> SimDisk {
        self.kill(name);
        let mut state = self.shared.lock();
        let id = state.next_process;
        state.next_process += 1;
        let process = ProcessState {
            id,
            alive: true,
            calls: 0,
            fate: None,
        };
        state.processes.insert(name.to_owned(), process);
        SimDisk {
            shared: Arc::clone(&self.shared),
            name: Arc::from(name),
            id,
        }
    }

    /// Kills a process as `kill -9` does.
    pub fn kill(&self, name: &str) {
        self.shared.die(&mut self.shared.lock(), name, Death::Kill);
    }

    /// Cuts the power: all processes die, and what was not synced is lost as far as `loss` says.
    pub fn power_cut(&self, loss: Loss) {
        self.shared
            .die(&mut self.shared.lock(), "", Death::PowerCut(loss));
    }

    /// Lets a living process die at its call number `nth` from its start, counted from 1.
    pub fn die_at(&self, name: &str, nth: u64, moment: Moment, death: Death) {
        if let Some(process) = self.shared.lock().processes.get_mut(name) {
            process.fate = Some((nth, moment, death));
        }
    }

    /// How many calls the latest process of this name has made.
    pub fn calls(&self, name: &str) -> u64 {
        self.shared
            .lock()
            .processes
            .get(name)
            .map_or(0, |process| process.calls)
    }

    /// Makes calls fail from now on. The first rule that fits a call decides.
    pub fn fail(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// Ends all rules of [`SimWorld::fail`].
    pub fn heal(&self) {
        self.shared.lock().rules.clear();
    }

    /// What a sync that fails loses of the bytes it should have written; any part of them by default.
    pub fn set_sync_loss(&self, loss: Loss) {
        self.shared.lock().sync_loss = loss;
    }

    /// Lets all files together hold this many bytes; `None` for no limit.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.shared.lock().model.quota = bytes;
    }

    /// What happened.
    pub fn trace(&self) -> &Trace {
        &self.shared.trace
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.notify_waiters();
    }

    fn now(&self) -> i64 {
        self.clock.wall_micros()
    }

    fn die(&self, state: &mut State, name: &str, death: Death) {
        match death {
            Death::Kill => {
                let Some(process) = state.processes.get_mut(name).filter(|one| one.alive) else {
                    return;
                };
                process.alive = false;
                let id = process.id;
                state.locks.retain(|lock| lock.process != id);
                self.trace.event(format_args!("kill {name}"));
            }
            Death::PowerCut(loss) => {
                state
                    .processes
                    .values_mut()
                    .for_each(|one| one.alive = false);
                state.locks.clear();
                state.model.power_cut(loss, &mut state.rng);
                self.trace.event(format_args!("power cut, losing {loss:?}"));
            }
        }
        self.changed();
    }
}

impl State {
    fn is_alive(&self, id: u64) -> bool {
        self.processes
            .values()
            .any(|process| process.id == id && process.alive)
    }

    fn fault(&mut self, op: Op, path: &str) -> Option<(Moment, ErrorKind)> {
        let rule = self
            .rules
            .iter_mut()
            .find(|rule| rule.op == op && rule.times != Some(0) && path.contains(&rule.path))?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        Some((rule.moment, rule.kind))
    }

    /// What a failed call leaves: a sync has forgotten its bytes, a write has written a part, all else did nothing.
    fn half_done(&mut self, op: Op, file: Option<Inode>, effect: impl FnOnce(&mut State)) {
        match (op, file) {
            (Op::Sync, Some(inode)) => {
                self.model.fail_sync(inode, self.sync_loss, &mut self.rng);
            }
            (Op::WriteAt, _) => {
                let quota = self.model.quota;
                let part = self.rng.u64(..4096);
                self.model.quota = Some(self.model.used_bytes().saturating_add(part));
                effect(self);
                self.model.quota = quota;
            }
            _ => {}
        }
    }

    /// Takes a lock if it is free, and answers its number.
    fn take_lock(&mut self, inode: Inode, process: u64, kind: LockKind) -> Option<u64> {
        let exclusive = kind == LockKind::Exclusive;
        let taken = self
            .locks
            .iter()
            .any(|held| held.inode == inode && (exclusive || held.kind == LockKind::Exclusive));
        if taken {
            return None;
        }
        let number = self.next_lock;
        self.next_lock += 1;
        self.locks.push(HeldLock {
            number,
            inode,
            process,
            kind,
        });
        Some(number)
    }
}

/// The disk as one process sees it; cheap to clone. When the process has died, its calls never return.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    name: Arc<str>,
    id: u64,
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
            let changed = self.shared.changes.notified();
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
        match self.attempt(op, path, file, effect) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// `None` when the process is dead, before or after the effect.
    fn attempt<T>(
        &self,
        op: Op,
        path: &Path,
        file: Option<Inode>,
        effect: impl FnOnce(&mut State, i64) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let text = path.to_string_lossy();
        let state = &mut *self.shared.lock();
        if !state.is_alive(self.id) {
            return None;
        }
        let fate = state.processes.get_mut(&*self.name).and_then(|process| {
            process.calls += 1;
            process.fate.filter(|(nth, _, _)| *nth == process.calls)
        });
        if let Some((_, Moment::Before, death)) = fate {
            self.shared
                .trace
                .event(format_args!("{self:?} {op:?} {text}: not done"));
            self.shared.die(state, &self.name, death);
            return None;
        }
        let now = self.shared.now();
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
        self.shared.changed();
        if let Some((_, Moment::After, death)) = fate {
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
            let changed = self.shared.changes.notified();
            {
                let mut state = self.shared.lock();
                if state.is_alive(self.id)
                    && let Some(number) = state.take_lock(inode, self.id, kind)
                {
                    self.shared
                        .trace
                        .event(format_args!("{self:?} holds {}", path.display()));
                    return Ok(self.held(number));
                }
            }
            // A dead process waits for ever.
            changed.await;
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
        shared.changed();
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

#[cfg(test)]
mod tests;
