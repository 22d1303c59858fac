//! What a check costs: processor time and memory of its thread.
//!
//! Owns the allocator of every test binary that links this crate. Time is that of the thread, so
//! that a loaded machine changes no verdict.
#![allow(
    unsafe_code,
    reason = "an allocator that counts can be written in no other way"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

thread_local! {
    /// The bytes that this thread holds beyond those at the start of the measurement. Below zero
    /// where it frees what is older or what other threads have allocated.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that ends may allocate when its variables are gone.
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

/// What a piece of work took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Processor time of the thread.
    pub(crate) time: Duration,
    /// The most bytes it held at once.
    pub(crate) bytes: usize,
}

/// Does `work` and says what it took.
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

/// The memory that a piece of work took, beyond what its thread held before.
#[derive(Clone, Copy, Debug)]
pub struct MemoryCost {
    /// The most at once.
    pub peak_bytes: u64,
    /// What it left behind.
    pub held_bytes: u64,
}

/// Does `work` and says what memory it took, unless other threads took it.
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
