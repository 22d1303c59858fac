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
//! - [`SimWorld::befall`] lets a process die, hang for a while or be answered with an error at any of its calls;
//!   [`SimWorld::snare`] at one call of one kind on one path.
//! - [`SimWorld::detach`] carries calls out whose waiter has gone, as a blocking thread does; [`SimWorld::unwind`] ends
//!   a process while its threads still work. [`SimWorld::set_threads`] bounds these threads.
//! - [`SimWorld::tear_listings`] lets other calls happen in the middle of a listing.
//! - [`SimWorld::set_quota`] makes the disk full.
//!
//! A directory's name survives when its parent was synced, as a file's does: [`Disk::create_dir_all`] shows a directory
//! before it is durable, and who finds one there that another process made knows nothing of that.
//!
//! Each call yields to the scheduler a seeded number of times and leaves a line in the [`Trace`]. Reads answer from the
//! page cache. A name is a file's only place in the accounts: an open file without a name takes no quota.

mod call;
mod model;
mod process;
mod snare;

pub use process::SimDisk;
pub use snare::{Caught, Fall, Snare};

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

/// When something happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before its effect: nothing was done, or a part of a write.
    Before,
    /// After its effect, before its answer: it was done and nobody knows.
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
    /// Its calls wait.
    hangs: bool,
    calls: u64,
    calls_of: BTreeMap<Op, u64>,
    fates: Vec<(At, Moment, Fall)>,
    /// Its calls that are under way have their effect, and nothing else of it happens any more.
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
    snares: Vec<snare::Laid>,
    sync_loss: Loss,
    sync_time: Duration,
    /// How late calls come at most that nobody waits for any more.
    detached: Option<Duration>,
    /// Threads of each process that starts.
    threads: Option<usize>,
    listings_torn: bool,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct WorldShared {
    state: Mutex<WorldState>,
    clock: SharedClock,
    trace: Trace,
    /// Wakes those that wait for a change, first come first served: tokio's watch channel wakes in an order that differs
    /// from run to run.
    changes: Notify,
    /// Wakes those that wait for a lock.
    freed: Notify,
    /// Wakes those that wait for a process to die or to go on.
    lives: Notify,
}

/// One machine and its disk; cheap to clone.
#[derive(Clone, Debug)]
pub struct SimWorld {
    shared: Arc<WorldShared>,
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

    /// An empty disk whose files are stamped by `clock` and whose calls go to `trace`.
    pub fn with(seed: u64, clock: SharedClock, trace: Trace) -> Self {
        let state = WorldState {
            model: Model::new(),
            processes: BTreeMap::new(),
            next_process: 1,
            locks: Vec::new(),
            next_lock: 1,
            rules: Vec::new(),
            snares: Vec::new(),
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

    /// Starts a process and answers its view of the disk; a living one of this name is killed first.
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

    /// Lets a living process die at its call number `nth` from its start, counted from 1.
    pub fn die_at(&self, name: &str, nth: u64, moment: Moment, death: Death) {
        self.befall(name, At::Call(nth), moment, Fall::Dies(death));
    }

    /// Lets every call of a living process wait, like a process that is stopped or swapped out; its locks stay held.
    pub fn hang(&self, name: &str) {
        self.shared.set_hanging(name, true);
    }

    /// Lets a process go on, which may have been superseded meanwhile.
    pub fn resume(&self, name: &str) {
        self.shared.set_hanging(name, false);
    }

    /// Bytes of all files together.
    pub fn used_bytes(&self) -> u64 {
        self.shared.lock().model.used_bytes()
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

    /// Ends all rules of [`SimWorld::fail`], and takes up all snares.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        state.rules.clear();
        state.snares.clear();
    }

    /// What a sync that fails loses of the bytes it should have written; any part of them by default.
    pub fn set_sync_loss(&self, loss: Loss) {
        self.shared.lock().sync_loss = loss;
    }

    /// Lets syncs take up to this long, so that others can do much between a write and its sync. Default: no time.
    pub fn set_sync_time(&self, most: Duration) {
        self.shared.lock().sync_time = most;
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

impl WorldShared {
    fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process died, hangs or goes on: everybody looks again.
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

    /// What a failed call leaves: a sync has forgotten its bytes, a write has written a part, all else did nothing.
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
        Some(number)
    }
}

#[cfg(test)]
mod tests;
