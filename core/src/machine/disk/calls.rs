//! Tracks calls under way, and keeps the locks that guard them.
//!
//! A blocking call cannot be cancelled: when its waiter is dropped, by a timeout or with its task, the call continues
//! and takes effect later. A lock that the waiter held is dropped at the same moment, but must not become free until
//! the call has ended: its late effect would otherwise hit the work of the next holder. So a released lock stays held
//! until every abandoned call that began under it has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mutant::{self, Mutant};

/// The calls of one disk; `L` holds a lock, and releases it when it is dropped.
#[derive(Debug)]
pub struct Calls<L> {
    state: Mutex<CallsState<L>>,
}

#[derive(Debug)]
struct CallsState<L> {
    /// The number of calls so far.
    begun: u64,
    /// The calls under way by number, and whether each is abandoned.
    under_way: BTreeMap<u64, bool>,
    /// Locks that their holders have released, each with the number of the first call that could begin under it.
    kept: Vec<(u64, L)>,
}

/// A call under way. Its thread drops this once the call has taken effect or never will.
#[derive(Debug)]
pub struct RunningCall<L> {
    calls: Arc<Calls<L>>,
    number: u64,
}

/// The waiter of a call; the call is abandoned when this is dropped.
#[derive(Debug)]
pub struct Awaited<L> {
    calls: Arc<Calls<L>>,
    number: u64,
}

/// A held lock.
#[derive(Debug)]
pub struct Kept<L> {
    calls: Arc<Calls<L>>,
    since: u64,
    lock: Option<L>,
}

impl<L> Default for Calls<L> {
    fn default() -> Self {
        Calls {
            state: Mutex::new(CallsState {
                begun: 0,
                under_way: BTreeMap::new(),
                kept: Vec::new(),
            }),
        }
    }
}

impl<L> Calls<L> {
    fn state(&self) -> MutexGuard<'_, CallsState<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call.
    pub fn begin(self: &Arc<Self>) -> (RunningCall<L>, Awaited<L>) {
        let mut state = self.state();
        let number = state.begun;
        state.begun += 1;
        debug_assert!(state.under_way.keys().all(|earlier| *earlier < number));
        state.under_way.insert(number, false);
        let (calls, awaited) = (Arc::clone(self), Arc::clone(self));
        (
            RunningCall { calls, number },
            Awaited {
                calls: awaited,
                number,
            },
        )
    }

    /// Tracks a lock that was just taken.
    pub fn keep(self: &Arc<Self>, lock: L) -> Kept<L> {
        Kept {
            since: self.state().begun,
            calls: Arc::clone(self),
            lock: Some(lock),
        }
    }
}

impl<L> CallsState<L> {
    fn is_guarding(&self, since: u64) -> bool {
        self.under_way.range(since..).any(|(_, alone)| *alone)
    }
}

impl<L> Drop for RunningCall<L> {
    fn drop(&mut self) {
        let mut state = self.calls.state();
        let alone = state.under_way.remove(&self.number);
        if alone != Some(true) || state.kept.is_empty() {
            return;
        }
        let kept = std::mem::take(&mut state.kept);
        let (still, free): (Vec<_>, Vec<_>) = kept
            .into_iter()
            .partition(|(since, _)| state.is_guarding(*since));
        state.kept = still;
        // Releasing a lock may wake a waiter that makes a call.
        drop(state);
        drop(free);
    }
}

impl<L> Drop for Awaited<L> {
    fn drop(&mut self) {
        if let Some(alone) = self.calls.state().under_way.get_mut(&self.number) {
            *alone = true;
        }
    }
}

impl<L> Drop for Kept<L> {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else {
            return;
        };
        let mut state = self.calls.state();
        if state.is_guarding(self.since) && !mutant::is(Mutant::LockFreedEarly) {
            state.kept.push((self.since, lock));
            return;
        }
        drop(state);
        drop(lock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_free(lock: &Arc<()>) -> bool {
        Arc::strong_count(lock) == 1
    }

    #[test]
    fn a_lock_is_free_when_it_is_dropped_and_no_call_is_alone() {
        let calls = Arc::new(Calls::default());
        let (earlier, waits_no_more) = calls.begin();
        drop(waits_no_more);
        let lock = Arc::new(());
        let held = calls.keep(Arc::clone(&lock));
        let (other, awaited) = calls.begin();
        drop(held);
        assert!(is_free(&lock), "no call under it is abandoned");
        drop((other, awaited, earlier));
    }

    #[test]
    fn a_lock_waits_for_each_abandoned_call_that_began_under_it() {
        let calls = Arc::new(Calls::default());
        let lock = Arc::new(());
        let held = calls.keep(Arc::clone(&lock));
        let begun: Vec<_> = (0..3).map(|_| calls.begin()).collect();
        let mut under_way = Vec::new();
        for (call, awaited) in begun {
            drop(awaited);
            under_way.push(call);
        }
        drop(held);
        while let Some(call) = under_way.pop() {
            assert!(
                !is_free(&lock),
                "{} calls are under way",
                under_way.len() + 1
            );
            drop(call);
        }
        assert!(is_free(&lock));
        // A later lock need not wait for them.
        drop(calls.keep(Arc::clone(&lock)));
        assert!(is_free(&lock));
    }

    #[test]
    fn a_lock_that_is_freed_early_leaves_a_call_behind() {
        let calls = Arc::new(Calls::default());
        let lock = Arc::new(());
        let held = calls.keep(Arc::clone(&lock));
        let (_under_way, awaited) = calls.begin();
        drop(awaited);
        mutant::with(Some(Mutant::LockFreedEarly), || drop(held));
        assert!(is_free(&lock));
    }
}
