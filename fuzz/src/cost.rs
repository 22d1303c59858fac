//! Measures the cost of a check: processor time and memory of its thread.
//!
//! Owns the allocator of every test binary that links this crate. It counts the time of the thread, so that the load of
//! the machine does not matter.
#![allow(unsafe_code, reason = "a counting allocator needs unsafe code")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

thread_local! {
    /// The bytes that this thread holds beyond those at the start of the measurement. Below zero when it frees older
    /// memory, or memory of other threads.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread may allocate after its variables are dropped.
    let _ended = HELD.try_with(|held| {
        held.set(held.get().saturating_add(change));
        let _ended = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator with the same arguments; counting neither
// allocates nor panics, because the counters are constants without destructors.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller's promises are the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The cost of some work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Processor time of the thread.
    pub(crate) time: Duration,
    /// The most bytes that it held at once.
    pub(crate) bytes: usize,
}

/// Runs `work` and answers its result and cost.
pub(crate) fn of<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    HELD.set(0);
    PEAK.set(0);
    let before = thread_time();
    let done = work();
    let cost = Cost {
        time: thread_time().saturating_sub(before),
        bytes: usize::try_from(PEAK.get()).unwrap_or(0),
    };
    (done, cost)
}

/// The memory of some work, beyond what its thread held before.
#[derive(Clone, Copy, Debug)]
pub struct MemoryCost {
    /// The most bytes at once.
    pub peak_bytes: u64,
    /// The bytes that remain.
    pub held_bytes: u64,
}

/// Runs `work` and answers its result and memory, not counting memory of other threads.
pub fn memory<T>(work: impl FnOnce() -> T) -> (T, MemoryCost) {
    let (done, cost) = of(work);
    let memory = MemoryCost {
        peak_bytes: cost.bytes as u64,
        held_bytes: u64::try_from(HELD.get()).unwrap_or(0),
    };
    (done, memory)
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_counted_and_not_the_sum() {
        let (_, cost) = of(|| {
            for _ in 0..10 {
                std::hint::black_box(vec![1_u8; 1_000_000]);
            }
        });
        assert!((1_000_000..1_100_000).contains(&cost.bytes), "{cost:?}");
    }

    #[test]
    fn what_is_left_is_held() {
        let (kept, memory) = memory(|| {
            drop(std::hint::black_box(vec![1_u8; 3_000_000]));
            vec![1_u8; 1_000_000]
        });
        assert_eq!(
            (memory.peak_bytes, memory.held_bytes),
            (3_000_000, 1_000_000)
        );
        drop(kept);
    }

    #[test]
    fn time_is_that_of_the_thread() {
        let (_, cost) = of(|| (0..20_000_000_u64).map(std::hint::black_box).sum::<u64>());
        assert!(cost.time > Duration::from_millis(1), "{cost:?}");
    }
}
