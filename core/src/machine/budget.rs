//! The memory budget of a process: every buffer that can grow holds a [`Permit`] for its bytes.
//!
//! [`Budget::acquire`] waits while the bytes are spent, which is how a slow sink slows its source. A task whose flush
//! would free bytes watches [`Budget::pressure`], which fires while a request waits. A request larger than the whole
//! budget is cut to the budget, so that one huge record passes alone instead of blocking without end. Holders that need
//! more bytes could wait for each other without end: of those that share an [`Overdraft`], one at a time takes bytes
//! that the budget does not have.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The bytes of one semaphore unit: the semaphore takes 32-bit requests, and budgets may exceed 4 GiB.
const UNIT_BYTES: u64 = 1024;

struct BudgetState {
    units: Semaphore,
    units_total: u32,
    waiting: AtomicUsize,
    held_bytes: AtomicU64,
    pressure: Notify,
}

/// A budget of bytes shared by all stages of a process; cheap to clone.
///
/// ```
/// use hydrant_core::Budget;
///
/// let budget = Budget::new(8 * 1024);
/// let mut permit = budget.try_acquire(6 * 1024).unwrap();
/// assert!(budget.try_acquire(4 * 1024).is_none(), "the bytes are spent");
/// permit.shrink_to(1024);
/// assert!(budget.try_acquire(4 * 1024).is_some());
/// drop(permit);
/// assert_eq!(budget.held_bytes(), 0);
/// ```
#[derive(Clone)]
pub struct Budget {
    shared: Arc<BudgetState>,
}

/// Lets one holder at a time exceed the budget while it holds bytes already; cheap to clone.
///
/// What the holder does with the bytes must end without waiting for others that share the same overdraft.
#[derive(Clone, Debug)]
pub struct Overdraft {
    one: Arc<Semaphore>,
}

impl Default for Overdraft {
    fn default() -> Self {
        Overdraft {
            one: Arc::new(Semaphore::new(1)),
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("total_bytes", &self.total_bytes())
            .field("held_bytes", &self.held_bytes())
            .finish()
    }
}

impl Budget {
    /// Creates a budget of `bytes`, at least one KiB.
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Budget {
            shared: Arc::new(BudgetState {
                units: Semaphore::new(units as usize),
                units_total: units,
                waiting: AtomicUsize::new(0),
                held_bytes: AtomicU64::new(0),
                pressure: Notify::new(),
            }),
        }
    }

    /// The whole budget in bytes.
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.shared.units_total) * UNIT_BYTES
    }

    /// The bytes held by permits now.
    pub fn held_bytes(&self) -> u64 {
        self.shared.held_bytes.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` are free and takes them. Cancel-safe: a dropped call takes nothing.
    pub async fn acquire(&self, bytes: u64) -> Permit {
        let units = self.units(bytes);
        if let Ok(taken) = self.shared.units.try_acquire_many(units) {
            taken.forget();
        } else {
            let _waiting = WaitingRequest::enter(&self.shared);
            match self.shared.units.acquire_many(units).await {
                Ok(taken) => taken.forget(),
                Err(_) => unreachable!("the semaphore of a budget is never closed"),
            }
        }
        self.granted(bytes, units)
    }

    /// Waits until `bytes` are free, or until no other holder uses `overdraft`, and takes them. Cancel-safe: a dropped
    /// call takes nothing.
    pub async fn acquire_more(&self, bytes: u64, overdraft: &Overdraft) -> Permit {
        if let Some(permit) = self.try_acquire(bytes) {
            return permit;
        }
        tokio::select! {
            biased;
            permit = self.acquire(bytes) => permit,
            Ok(one) = Arc::clone(&overdraft.one).acquire_owned() => {
                let mut permit = self.granted(bytes, 0);
                permit.overdraft = Some(one);
                permit
            }
        }
    }

    /// Takes `bytes` if they are free now.
    pub fn try_acquire(&self, bytes: u64) -> Option<Permit> {
        let units = self.units(bytes);
        self.shared.units.try_acquire_many(units).ok()?.forget();
        Some(self.granted(bytes, units))
    }

    /// Whether a request waits for bytes now.
    pub fn is_pressed(&self) -> bool {
        self.shared.waiting.load(Ordering::SeqCst) > 0
    }

    /// Resolves once a request waits for bytes. Cancel-safe.
    pub async fn pressure(&self) {
        loop {
            let notified = self.shared.pressure.notified();
            if self.is_pressed() {
                return;
            }
            notified.await;
        }
    }

    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES))
            .unwrap_or(u32::MAX)
            .min(self.shared.units_total)
    }

    /// A permit for `bytes`, which hold `units` of the semaphore: none for an overdraft.
    fn granted(&self, bytes: u64, units: u32) -> Permit {
        debug_assert!(
            units == 0 || u64::from(units) * UNIT_BYTES >= bytes.min(self.total_bytes()),
            "{units} units do not cover {bytes} bytes"
        );
        self.shared.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        Permit {
            held: Some(PermitBytes {
                shared: Arc::clone(&self.shared),
                bytes,
                units,
            }),
            overdraft: None,
        }
    }
}

struct WaitingRequest<'a>(&'a BudgetState);

impl<'a> WaitingRequest<'a> {
    fn enter(shared: &'a BudgetState) -> Self {
        shared.waiting.fetch_add(1, Ordering::SeqCst);
        shared.pressure.notify_waiters();
        WaitingRequest(shared)
    }
}

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

struct PermitBytes {
    shared: Arc<BudgetState>,
    bytes: u64,
    units: u32,
}

impl Drop for PermitBytes {
    fn drop(&mut self) {
        let held = self
            .shared
            .held_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
        debug_assert!(held >= self.bytes, "more bytes go back than were taken");
        self.shared.units.add_permits(self.units as usize);
    }
}

/// Bytes taken from a [`Budget`]; they go back when it is dropped. The default permit holds none.
#[derive(Default)]
pub struct Permit {
    held: Option<PermitBytes>,
    overdraft: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({} bytes)", self.bytes())
    }
}

impl Permit {
    /// The bytes that the permit holds.
    pub fn bytes(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.bytes)
    }

    /// Whether the bytes come from an [`Overdraft`] and not from the budget.
    pub fn is_overdrawn(&self) -> bool {
        self.overdraft.is_some()
    }

    /// Lets an overdrawn permit hold `bytes` more, which the budget does not have.
    pub fn overdraw(&mut self, bytes: u64) {
        debug_assert!(self.is_overdrawn());
        if let Some(held) = &mut self.held {
            held.bytes += bytes;
            held.shared.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Returns all but `bytes` to the budget; does nothing when the permit holds fewer.
    pub fn shrink_to(&mut self, bytes: u64) {
        if let Some(held) = &mut self.held
            && bytes < held.bytes
        {
            let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
            let freed = held.units.saturating_sub(units);
            held.units -= freed;
            held.shared
                .held_bytes
                .fetch_sub(held.bytes - bytes, Ordering::Relaxed);
            held.bytes = bytes;
            held.shared.units.add_permits(freed as usize);
        }
    }

    /// Takes over the bytes of `other`. Those of another budget and overdrawn ones go back instead.
    pub fn merge(&mut self, mut other: Permit) {
        if other.is_overdrawn() {
            return;
        }
        match (&mut self.held, &mut other.held) {
            (mine @ None, theirs) => *mine = theirs.take(),
            (Some(mine), Some(theirs)) if Arc::ptr_eq(&mine.shared, &theirs.shared) => {
                mine.bytes += std::mem::take(&mut theirs.bytes);
                mine.units += std::mem::take(&mut theirs.units);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_when_bytes_come_back_and_raises_pressure() {
        let budget = Budget::new(10 * 1024);
        let mut first = budget.acquire(9 * 1024).await;
        assert!(budget.try_acquire(2 * 1024).is_none());
        let waiter = {
            let budget = budget.clone();
            tokio::spawn(async move { budget.acquire(4 * 1024).await.bytes() })
        };
        budget.pressure().await;
        assert!(budget.is_pressed());
        first.shrink_to(5 * 1024);
        assert_eq!(waiter.await.unwrap(), 4 * 1024);
        assert!(!budget.is_pressed());
        drop(first);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[tokio::test]
    async fn a_request_beyond_the_budget_passes_alone() {
        let budget = Budget::new(2048);
        let huge = budget.acquire(1 << 40).await;
        assert!(budget.try_acquire(1).is_none());
        drop(huge);
        assert!(budget.try_acquire(2048).is_some());
    }

    #[tokio::test]
    async fn of_those_that_need_more_one_at_a_time_overdraws() {
        let budget = Budget::new(4096);
        let overdraft = Overdraft::default();
        let mut held = vec![budget.acquire(2048).await, budget.acquire(2048).await];
        let one = budget.acquire_more(3000, &overdraft).await;
        assert_eq!((one.bytes(), budget.held_bytes()), (3000, 7096));
        let mut other = Box::pin(budget.acquire_more(1000, &overdraft));
        assert!(futures::poll!(&mut other).is_pending());
        assert!(budget.is_pressed());
        // Another overdraft does not concern this one.
        drop(budget.acquire_more(1000, &Overdraft::default()).await);
        let mut one = one;
        one.overdraw(500);
        assert_eq!((one.bytes(), budget.held_bytes()), (3500, 7596));
        drop(one);
        let other = other.await;
        assert!(!budget.is_pressed());
        // What the budget has is not overdrawn.
        held.pop();
        let mut third = budget.acquire_more(1000, &overdraft).await;
        let bytes = third.bytes();
        third.merge(other);
        assert_eq!(third.bytes(), bytes, "what is overdrawn goes back");
        drop((held, third));
        assert_eq!(budget.held_bytes(), 0);
        assert!(budget.try_acquire(4096).is_some());
    }

    #[tokio::test]
    async fn merged_permits_return_once() {
        let budget = Budget::new(8192);
        let mut a = budget.acquire(1000).await;
        a.merge(budget.acquire(3000).await);
        assert_eq!((a.bytes(), budget.held_bytes()), (4000, 4000));
        let other = Budget::new(4096);
        a.merge(other.acquire(1).await);
        assert_eq!((a.bytes(), other.held_bytes()), (4000, 0));
        drop(a);
        assert!(budget.try_acquire(8192).is_some());
    }
}
