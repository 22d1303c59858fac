//! A simulated disk in memory that forgets, tears, fails and fills up as disks do, shared by processes that die.
//!
//! A [`SimWorld`] is one machine: its files, and its processes, each of which sees the files through a [`SimDisk`].
//!
//! - [`SimWorld::power_cut`] keeps what was synced. Of the rest, any set of sectors (the last one torn), any length
//!   that the file had since, and any set of operations on names survive ([`Loss`] narrows that). A rename survives
//!   whole or not at all, and for certain only when both its directories were synced. All processes die.
//! - [`SimWorld::kill`] is `kill -9`: the page cache stays, locks are released at once, calls under way never return. A
//!   process can die at each call, before or after its effect ([`SimWorld::die_at`]).
//! - [`SimWorld::fail`] makes calls fail, before or after their effect. A failed sync marks the bytes as clean: a later
//!   sync reports success without writing them, as Linux does.
//! - [`SimWorld::inject`] makes a process die, hang for a while or get an error at any of its calls;
//!   [`SimWorld::set_breakpoint`] does so at one call of one kind on one path.
//! - [`SimWorld::detach`] runs abandoned calls to their end, as a blocking thread does; [`SimWorld::unwind`] ends a
//!   process while its threads still work. [`SimWorld::set_threads`] bounds the threads.
//! - [`SimWorld::tear_listings`] allows other calls in the middle of a listing.
//! - [`SimWorld::set_quota`] makes the disk full.
//!
//! A directory's name survives when its parent was synced, as a file's does: [`Disk::create_dir_all`] shows a directory
//! before it is durable, so a process that finds a directory of another process cannot rely on it.
//!
//! Each call yields to the scheduler a seeded number of times and adds a line to the [`Trace`]. Reads answer from the
//! page cache. Only named files count: an open file without a name takes no quota.

mod breakpoint;
mod call;
mod model;
mod process;

pub use breakpoint::{Breakpoint, BreakpointHit, Fault};
pub use process::SimDisk;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use crate::clock::ManualClock;
use crate::trace::Trace;
use hydrant_core::clock::SharedClock;
#[cfg(doc)]
use hydrant_core::disk::Disk;
use hydrant_core::disk::LockKind;
use model::{Inode, Model};

/// A call yields to other tasks up to this many times, so that seeds explore the interleavings.
const YIELDS_MAX: u64 = 3;

/// How much of the unsynced state a power cut or a failed sync loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Everything,
    /// Any part of it; the seed decides.
    Some,
    /// None of it: the kernel wrote it back in time.
    Nothing,
}

/// When something happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before its effect: it did nothing, or wrote a part.
    Before,
    /// After its effect and before its answer: it took effect without an answer.
    After,
}

/// A call of a process, counted from 1 from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The call of this number.
    Call(u64),
    /// The call of this number among those of one kind.
    Nth(Op, u64),
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// A rule that makes calls fail.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which call.
    pub op: Op,
    /// The calls whose path, relative to the root, contains this.
    pub path: String,
    /// How many of these calls succeed before the first one fails.
    pub skip: u32,
    /// How many fail; `None` for all that follow.
    pub times: Option<u32>,
    /// Whether the call takes effect nevertheless. A failed write has written a part (before) or all (after); a failed
    /// sync has made a part durable, or all.
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
    /// Whether its calls wait.
    hangs: bool,
    calls: u64,
    calls_of: BTreeMap<Op, u64>,
    fates: Vec<(At, Moment, Fault)>,
    /// Whether it is unwinding: its calls under way take effect, and it makes no other calls.
    unwound: bool,
    threads: Option<Arc<Semaphore>>,
}

#[derive(Debug)]
struct HeldLock {
    number: u64,
    inode: Inode,
    process: u64,
    kind: LockKind,
}

#[derive(Debug)]
struct WorldState {
    model: Model,
    processes: BTreeMap<String, ProcessState>,
    next_process: u64,
    locks: Vec<HeldLock>,
    next_lock: u64,
    rules: Vec<Rule>,
    breakpoints: Vec<breakpoint::SetBreakpoint>,
    sync_loss: Loss,
    sync_time: Duration,
    /// The most by which abandoned calls are late; `None` when they are cancelled.
    detached: Option<Duration>,
    /// The number of threads of each process that starts.
    threads: Option<usize>,
    listings_torn: bool,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct WorldShared {
    state: Mutex<WorldState>,
    clock: SharedClock,
    trace: Trace,
    /// Wakes tasks that wait for a change, in order: tokio's watch channel wakes in an order that differs between runs.
    changes: Notify,
    /// Wakes tasks that wait for a lock.
    freed: Notify,
    /// Wakes tasks that wait for a process to die or to continue.
    lives: Notify,
}

/// One machine and its disk; cheap to clone.
#[derive(Clone, Debug)]
pub struct SimWorld {
    shared: Arc<WorldShared>,
}

impl SimWorld {
    /// Creates an empty disk. All random decisions depend on `seed`.
    pub fn new(seed: u64) -> Self {
        SimWorld::with(
            seed,
            Arc::new(ManualClock::new(1_700_000_000_000_000)),
            Trace::new(),
        )
    }

    /// Creates an empty disk with timestamps of `clock` whose calls go to `trace`.
    pub fn with(seed: u64, clock: SharedClock, trace: Trace) -> Self {
        let state = WorldState {
            model: Model::new(),
            processes: BTreeMap::new(),
            next_process: 1,
            locks: Vec::new(),
            next_lock: 1,
            rules: Vec::new(),
            breakpoints: Vec::new(),
            sync_loss: Loss::Some,
            sync_time: Duration::ZERO,
            detached: None,
            threads: None,
            listings_torn: false,
            rng: fastrand::Rng::with_seed(seed),
        };
        SimWorld {
            shared: Arc::new(WorldShared {
                state: Mutex::new(state),
                clock,
                trace,
                changes: Notify::new(),
                freed: Notify::new(),
                lives: Notify::new(),
            }),
        }
    }

    /// Starts a process and answers its view of the disk; a living process of this name is killed first.
    pub fn process(&self, name: &str) -> SimDisk {
        self.kill(name);
        let mut state = self.shared.lock();
        let id = state.next_process;
        state.next_process += 1;
        let process = ProcessState {
            id,
            alive: true,
            hangs: false,
            calls: 0,
            calls_of: BTreeMap::new(),
            fates: Vec::new(),
            unwound: false,
            threads: state
                .threads
                .map(|threads| Arc::new(Semaphore::new(threads))),
        };
        state.processes.insert(name.to_owned(), process);
        SimDisk {
            shared: Arc::clone(&self.shared),
            name: Arc::from(name),
            id,
            calls: Arc::default(),
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

    /// Makes a living process die at call number `nth`, counted from 1.
    pub fn die_at(&self, name: &str, nth: u64, moment: Moment, death: Death) {
        self.inject(name, At::Call(nth), moment, Fault::Dies(death));
    }

    /// Makes every call of a living process wait, as in a process that is stopped or swapped out; its locks stay held.
    pub fn hang(&self, name: &str) {
        self.shared.set_hanging(name, true);
    }

    /// Makes a hanging process continue, although it may have been superseded meanwhile.
    pub fn resume(&self, name: &str) {
        self.shared.set_hanging(name, false);
    }

    /// The bytes of all files together.
    pub fn used_bytes(&self) -> u64 {
        self.shared.lock().model.used_bytes()
    }

    /// The number of calls that the latest process of this name has made.
    pub fn calls(&self, name: &str) -> u64 {
        self.shared
            .lock()
            .processes
            .get(name)
            .map_or(0, |process| process.calls)
    }

    /// Makes calls fail from now on. The first rule that matches a call decides.
    pub fn fail(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// Removes all rules of [`SimWorld::fail`] and all breakpoints.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        state.rules.clear();
        state.breakpoints.clear();
    }

    /// Sets what a failed sync loses of its bytes; any part of them by default.
    pub fn set_sync_loss(&self, loss: Loss) {
        self.shared.lock().sync_loss = loss;
    }

    /// Makes syncs take up to this long, so that other processes can act between a write and its sync. Default: no
    /// time.
    pub fn set_sync_time(&self, most: Duration) {
        self.shared.lock().sync_time = most;
    }

    /// Limits the bytes of all files together; `None` removes the limit.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.shared.lock().model.quota = bytes;
    }

    /// The trace of all calls.
    pub fn trace(&self) -> &Trace {
        &self.shared.trace
    }
}

impl WorldShared {
    fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all waiting tasks: a process died, hangs or continues.
    fn changed(&self) {
        self.lives.notify_waiters();
        self.freed.notify_waiters();
        self.changes.notify_waiters();
    }

    fn now(&self) -> i64 {
        self.clock.wall_micros()
    }

    fn set_hanging(&self, name: &str, hangs: bool) {
        if let Some(process) = self.lock().processes.get_mut(name) {
            process.hangs = hangs;
        }
        self.changed();
    }

    fn die(&self, state: &mut WorldState, name: &str, death: Death) {
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

impl WorldState {
    fn living(&self, id: u64) -> Option<&ProcessState> {
        self.processes
            .values()
            .find(|process| process.id == id && process.alive)
    }

    fn is_alive(&self, id: u64) -> bool {
        self.living(id).is_some()
    }

    fn is_unwound(&self, id: u64) -> bool {
        self.living(id).is_some_and(|process| process.unwound)
    }

    fn hangs(&self, id: u64) -> bool {
        self.living(id).is_some_and(|process| process.hangs)
    }

    fn threads_of(&self, id: u64) -> Option<Arc<Semaphore>> {
        self.living(id)?.threads.clone()
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

    /// Applies the partial effect of a failed call: a sync forgets its bytes, a write writes a part, other calls do
    /// nothing.
    fn half_done(&mut self, op: Op, file: Option<Inode>, effect: impl FnOnce(&mut WorldState)) {
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
        debug_assert!(
            !exclusive || self.locks.iter().filter(|held| held.inode == inode).count() == 1,
            "an exclusive lock has one holder"
        );
        Some(number)
    }
}

#[cfg(test)]
mod tests;
