//! One call of a process: it takes a thread, yields, may hang, die or fail, takes effect, and may hang, die or fail
//! again.
//!
//! A call runs on one of the process' blocking threads, as with tokio on a real disk: it continues while its future is
//! not polled and, with [`SimWorld::detach`], also after its future was dropped.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::model::{Inode, error};
use super::{At, Death, Fault, Moment, Op, SimDisk, SimWorld, WorldShared, WorldState, YIELDS_MAX};
use hydrant_core::clock;
use hydrant_core::disk::calls::{Awaited, Kept};
use hydrant_core::disk::{Lock, LockKind};
use hydrant_core::mutant::{self, Mutant};

/// Holds a lock until it is dropped.
#[derive(Debug)]
pub(super) struct LockHold {
    shared: Arc<WorldShared>,
    number: u64,
}

impl Drop for LockHold {
    fn drop(&mut self) {
        self.shared.release(self.number);
    }
}

/// The effect of a call on the machine at a wall time.
pub(super) trait Effect<T>:
    FnOnce(&mut WorldState, i64) -> io::Result<T> + Send + 'static
{
}

impl<T, F: FnOnce(&mut WorldState, i64) -> io::Result<T> + Send + 'static> Effect<T> for F {}

impl SimWorld {
    /// Makes abandoned calls take effect up to `late` later, as those of `spawn_blocking` do: also after the lock under
    /// which they were made is free. With `None`, the default, abandoned calls are cancelled.
    pub fn detach(&self, late: Option<Duration>) {
        self.shared.lock().detached = late;
    }

    /// Gives each process that starts from now on this many threads for its calls; with `None`, the default, as many as
    /// it needs. A wait for a lock takes no thread.
    pub fn set_threads(&self, threads: Option<usize>) {
        self.shared.lock().threads = threads;
    }

    /// Sets whether listings are made in two halves, with other calls in between, as the system reads large
    /// directories: a name that moves meanwhile is missed or seen twice. Default: `false`.
    pub fn tear_listings(&self, torn: bool) {
        self.shared.lock().listings_torn = torn;
    }

    /// Makes a living process die, hang, fail or unwind at one of its calls.
    pub fn inject(&self, name: &str, at: At, moment: Moment, fault: Fault) {
        if let Some(process) = self.shared.lock().processes.get_mut(name) {
            process.fates.push((at, moment, fault));
        }
    }

    /// Drops everything that a living process has, as a runtime does that shuts down during blocking calls: those take
    /// effect, and the process makes no other calls. Its locks stay held until it is dead.
    pub fn unwind(&self, name: &str) {
        self.shared.unwind(name);
    }
}

impl WorldShared {
    /// The holder of the lock with this number.
    pub(super) fn holds(self: &Arc<Self>, number: u64) -> LockHold {
        let shared = Arc::clone(self);
        LockHold { shared, number }
    }

    fn release(&self, number: u64) {
        self.lock().locks.retain(|held| held.number != number);
        self.freed.notify_waiters();
    }

    fn unwind(&self, name: &str) {
        let state = &mut *self.lock();
        if let Some(process) = state.processes.get_mut(name).filter(|one| one.alive) {
            process.unwound = true;
            let id = process.id;
            if mutant::is(Mutant::LockFreedEarly) {
                state.locks.retain(|lock| lock.process != id);
            }
            self.trace.event(format_args!("unwind {name}"));
        }
        self.changed();
    }
}

/// A call that has begun and has not taken effect yet.
struct PendingCall<T: Send + 'static, F: Effect<T>> {
    disk: SimDisk,
    op: Op,
    path: PathBuf,
    file: Option<Inode>,
    effect: F,
    /// How late it takes effect, once it is abandoned.
    late: Arc<OnceLock<Duration>>,
    answers: PhantomData<fn() -> T>,
}

/// Waits for the answer of a call, which runs in a separate task.
struct PendingAnswer<T> {
    task: JoinHandle<Option<io::Result<T>>>,
    disk: SimDisk,
    op: Op,
    path: PathBuf,
    late: Arc<OnceLock<Duration>>,
    _awaited: Awaited<LockHold>,
}

impl SimDisk {
    /// Makes one call; never returns when the process dies at it.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        op: Op,
        path: &Path,
        file: Option<Inode>,
        effect: impl Effect<T>,
    ) -> io::Result<T> {
        if self.shared.lock().is_unwound(self.id) {
            std::future::pending::<()>().await;
        }
        let (under_way, awaited) = self.calls.begin();
        let late = Arc::<OnceLock<Duration>>::default();
        let call = PendingCall {
            disk: self.clone(),
            op,
            path: path.to_owned(),
            file,
            effect,
            late: Arc::clone(&late),
            answers: PhantomData,
        };
        let task = tokio::spawn(async move {
            let answer = call.carry_out().await;
            drop(under_way);
            answer
        });
        let mut answer = PendingAnswer {
            task,
            disk: self.clone(),
            op,
            path: path.to_owned(),
            late,
            _awaited: awaited,
        };
        match (&mut answer.task).await {
            Ok(Some(answer)) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => std::future::pending().await,
        }
    }

    /// Waits for one of the process' threads.
    async fn thread(&self) -> Option<OwnedSemaphorePermit> {
        let threads = self.shared.lock().threads_of(self.id)?;
        threads.acquire_owned().await.ok()
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

    /// Makes all calls of this process wait for `time`, or until it is resumed.
    async fn hang(&self, time: Duration) {
        self.shared.set_hanging(&self.name, true);
        let disk = self.clone();
        // The hang ends even if the call at which it began was dropped.
        drop(tokio::spawn(async move {
            clock::sleep(time).await;
            if disk.is_alive() {
                disk.shared.set_hanging(&disk.name, false);
            }
        }));
        self.wait_while_hanging().await;
    }

    /// Unwinds the process, which dies after `time`; the call under way takes a part of that time.
    async fn unwind_and_die(&self, time: Duration) {
        self.shared.unwind(&self.name);
        let takes = self.shared.lock().up_to(time);
        let disk = self.clone();
        drop(tokio::spawn(async move {
            clock::sleep(time).await;
            let state = &mut *disk.shared.lock();
            if state.is_alive(disk.id) {
                disk.shared.die(state, &disk.name, Death::Kill);
            }
        }));
        clock::sleep(takes).await;
    }

    /// What the plan has for a call.
    fn planned_fault(&self, op: Op, path: &Path) -> Option<(Moment, Fault)> {
        let state = &mut *self.shared.lock();
        if !state.is_alive(self.id) {
            return None;
        }
        let caught = state.fate(&self.name, op);
        let caught =
            caught.or_else(|| state.hit_breakpoint(&self.name, op, &path.to_string_lossy()));
        if let Some((moment, fault)) = caught {
            let (trace, path) = (&self.shared.trace, path.display());
            trace.event(format_args!("{self:?} {op:?} {path}: {fault:?} {moment:?}"));
        }
        caught
    }

    /// Waits for a lock, and answers its holder; never returns when the process dies.
    pub(super) async fn wait_for_lock(
        &self,
        path: &Path,
        inode: Inode,
        kind: LockKind,
    ) -> LockHold {
        let mut waits = LockWait {
            disk: self.clone(),
            path: path.to_owned(),
            inode,
            kind,
            thread: None,
            over: false,
        };
        if mutant::is(Mutant::LocksWaitOnThreads) {
            waits.thread = self.thread().await;
        }
        let held = self.take_when_free(path, inode, kind).await;
        waits.over = true;
        held
    }

    /// Tracks a lock that was just taken.
    pub(super) fn keep(&self, held: LockHold, inode: Inode) -> Box<dyn Lock> {
        let _kept = self.calls.keep(held);
        Box::new(SimLock { inode, _kept })
    }

    async fn take_when_free(&self, path: &Path, inode: Inode, kind: LockKind) -> LockHold {
        loop {
            let freed = self.shared.freed.notified();
            {
                let mut state = self.shared.lock();
                if state.is_alive(self.id)
                    && !state.is_unwound(self.id)
                    && !state.hangs(self.id)
                    && let Some(number) = state.take_lock(inode, self.id, kind)
                {
                    let (trace, path) = (&self.shared.trace, path.display());
                    trace.event(format_args!("{self:?} holds {path}"));
                    return self.shared.holds(number);
                }
            }
            // A dead process waits without end.
            freed.await;
        }
    }
}

impl<T: Send + 'static, F: Effect<T>> PendingCall<T, F> {
    /// Runs the call; answers `None` when the process dies before or after the effect.
    async fn carry_out(self) -> Option<io::Result<T>> {
        let disk = self.disk.clone();
        let _thread = disk.thread().await;
        let (yields, time) = disk.shared.lock().time_of(self.op);
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        if !time.is_zero() {
            clock::sleep(time).await;
        }
        if let Some(late) = self.late.get() {
            clock::sleep(*late).await;
        }
        disk.wait_while_hanging().await;
        let caught = disk.planned_fault(self.op, &self.path);
        match caught {
            Some((Moment::Before, Fault::Hangs(time))) => disk.hang(time).await,
            Some((Moment::Before, Fault::Unwinds(time))) => disk.unwind_and_die(time).await,
            _ => {}
        }
        let answer = self.attempt(caught)?;
        if let Some((Moment::After, Fault::Hangs(time))) = caught {
            disk.hang(time).await;
        }
        Some(answer)
    }

    fn attempt(self, caught: Option<(Moment, Fault)>) -> Option<io::Result<T>> {
        let SimDisk {
            shared, name, id, ..
        } = &self.disk;
        let (disk, op, text) = (&self.disk, self.op, self.path.to_string_lossy());
        let effect = self.effect;
        let mut guard = shared.lock();
        let state = &mut *guard;
        if !state.is_alive(*id) {
            return None;
        }
        let trace = &shared.trace;
        if let Some((Moment::Before, Fault::Dies(death))) = caught {
            let part = op == Op::WriteAt && state.rng.bool();
            if part {
                state.half_done(op, self.file, |state| drop(effect(state, shared.now())));
            }
            let done = if part { "partly done" } else { "not done" };
            trace.event(format_args!("{disk:?} {op:?} {text}: {done}"));
            shared.die(state, name, death);
            return None;
        }
        let (now, before) = (shared.now(), state.model.touched);
        let fault = match caught {
            Some((moment, Fault::Fails(kind))) => Some((moment, kind)),
            _ => state.fault(op, &text),
        };
        let done = match fault {
            Some((Moment::Before, _)) => {
                state.half_done(op, self.file, |state| drop(effect(state, now)));
                None
            }
            _ => Some(effect(state, now)),
        };
        let failed = match (&done, fault) {
            (Some(Err(error)), _) => Some(error.kind()),
            (_, Some((_, kind))) => Some(kind),
            _ => None,
        };
        match failed {
            Some(kind) => trace.event(format_args!("{disk:?} {op:?} {text}: {kind}")),
            None => trace.event(format_args!("{disk:?} {op:?} {text}: ok")),
        }
        if state.model.touched != before {
            shared.changes.notify_waiters();
        }
        if let Some((Moment::After, Fault::Dies(death))) = caught {
            shared.die(state, name, death);
        }
        // A call under way when the process unwinds takes effect without an answer.
        let is_heard = state.is_alive(*id) && !state.is_unwound(*id);
        // The answer may hold a lock, whose drop takes the guard again.
        drop(guard);
        is_heard.then_some(match (done, fault) {
            (Some(Ok(_)) | None, Some((_, kind))) => Err(error(kind)),
            (Some(done), _) => done,
            (None, None) => Err(error(io::ErrorKind::Other)),
        })
    }
}

impl<T> Drop for PendingAnswer<T> {
    /// Abandons the call: it continues alone or is cancelled.
    fn drop(&mut self) {
        if self.task.is_finished() {
            return;
        }
        let Some(late) = self.disk.lateness() else {
            return self.task.abort();
        };
        let (disk, op, path) = (&self.disk, self.op, self.path.display());
        let trace = &disk.shared.trace;
        trace.event(format_args!("{disk:?} {op:?} {path}: continues alone"));
        self.late.get_or_init(|| late);
    }
}

impl SimDisk {
    /// How late an abandoned call takes effect; `None` when it is cancelled.
    fn lateness(&self) -> Option<Duration> {
        let state = &mut *self.shared.lock();
        let most = state.detached.filter(|_| state.is_alive(self.id))?;
        Some(state.up_to(most))
    }
}

#[derive(Debug)]
struct SimLock {
    inode: Inode,
    _kept: Kept<LockHold>,
}

impl Lock for SimLock {
    fn identity(&self) -> u64 {
        self.inode
    }
}

/// A wait for a lock.
struct LockWait {
    disk: SimDisk,
    path: PathBuf,
    inode: Inode,
    kind: LockKind,
    thread: Option<OwnedSemaphorePermit>,
    over: bool,
}

impl Drop for LockWait {
    /// A thread would continue to wait, and release the lock as soon as it gets it.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take().filter(|_| !self.over) else {
            return;
        };
        let (Some(_), Ok(runtime)) = (self.disk.lateness(), Handle::try_current()) else {
            return;
        };
        let (disk, path) = (self.disk.clone(), self.path.clone());
        let (inode, kind) = (self.inode, self.kind);
        drop(runtime.spawn(async move {
            drop(disk.take_when_free(&path, inode, kind).await);
            drop(thread);
        }));
    }
}

impl WorldState {
    /// Where a listing is cut in two; `None` when it is made in one piece.
    pub(super) fn cut_of_listing(&mut self) -> Option<u64> {
        self.listings_torn.then(|| self.rng.u64(..))
    }

    /// How often a call yields, and how much time it takes.
    fn time_of(&mut self, op: Op) -> (u64, Duration) {
        let yields = 1 + self.rng.u64(..YIELDS_MAX);
        let time = match op {
            Op::Sync | Op::SyncDir => self.up_to(self.sync_time),
            _ => Duration::ZERO,
        };
        (yields, time)
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(if most == 0 { 0 } else { self.rng.u64(..most) })
    }

    /// Counts a call, and answers what the plan has for it.
    fn fate(&mut self, name: &str, op: Op) -> Option<(Moment, Fault)> {
        let process = self.processes.get_mut(name)?;
        process.calls += 1;
        let of_kind = process.calls_of.entry(op).or_default();
        *of_kind += 1;
        let (call, nth) = (At::Call(process.calls), At::Nth(op, *of_kind));
        let fits = |(at, _, _): &(At, Moment, Fault)| *at == call || *at == nth;
        let first = process.fates.iter().position(fits)?;
        let (_, moment, fault) = process.fates.remove(first);
        Some((moment, fault))
    }
}

#[cfg(test)]
mod tests;
