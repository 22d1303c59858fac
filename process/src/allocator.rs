//! Sets how soon the allocator returns memory to the system.
//!
//! The allocator of glibc maps large allocations one by one and returns each when it is freed. But its threshold for
//! *large* rises, up to 32 MiB, with the sizes freed before, and smaller allocations stay with the process: with a
//! small budget, the gaps between batches added up to more than the budget. So the threshold is set here, in proportion
//! to the budget, since mapping costs time that a process with much memory need not spend.
//!
//! A fixed threshold has a price: the allocator then returns all free memory at the end of a heap, down to 128 KiB, and
//! faults it in again for the next batch. So the memory that may stay there is set as well, and the number of heaps:
//! threads come and go, and each could leave a heap behind.

/// Allocations of at least this share of the budget (1/64) are mapped.
const SHARE: u64 = 64;
/// The share of the budget (1/8) that may be free at the ends of all heaps together.
const FREE_SHARE: u64 = 8;
/// Heaps per core: one for a thread that computes, one for a thread that waits for a disk.
const HEAPS_PER_CORE: u64 = 2;
const BYTES_MIN: u64 = 128 << 10;
const BYTES_MAX: u64 = 32 << 20;

/// The settings of the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    /// The smallest allocation that is mapped by itself.
    large_bytes: i32,
    /// The most memory that stays free at the end of a heap.
    free_bytes: i32,
    heaps: i32,
}

impl Rules {
    fn new(memory_bytes: u64, cores: usize) -> Self {
        let clamped = |bytes: u64| bytes.clamp(BYTES_MIN, BYTES_MAX) as i32;
        let heaps = (cores as u64).clamp(1, 1024) * HEAPS_PER_CORE;
        debug_assert!(heaps >= HEAPS_PER_CORE && i32::try_from(heaps).is_ok());
        Rules {
            large_bytes: clamped(memory_bytes / SHARE),
            free_bytes: clamped(memory_bytes / FREE_SHARE / heaps),
            heaps: heaps as i32,
        }
    }
}

/// Configures the allocator for a process with this budget; answers whether it took the settings.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the C library has no other interface for this")]
pub(super) fn configure(memory_bytes: u64) -> bool {
    const M_TRIM_THRESHOLD: i32 = -1;
    const M_MMAP_THRESHOLD: i32 = -3;
    const M_ARENA_MAX: i32 = -8;
    // SAFETY: this is the declaration of `malloc.h`; the call takes two numbers, touches no memory of the caller, and
    // may be made at any time by any thread.
    unsafe extern "C" {
        safe fn mallopt(param: i32, value: i32) -> i32;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rules = Rules::new(memory_bytes, cores);
    [
        (M_MMAP_THRESHOLD, rules.large_bytes),
        (M_TRIM_THRESHOLD, rules.free_bytes),
        (M_ARENA_MAX, rules.heaps),
    ]
    .iter()
    .all(|(param, value)| mallopt(*param, *value) == 1)
}

/// Other allocators keep their settings.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn configure(_memory_bytes: u64) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_follow_the_budget_within_what_the_allocator_takes() {
        let rules = |memory_bytes, cores| {
            let rules = Rules::new(memory_bytes, cores);
            (rules.large_bytes, rules.free_bytes, rules.heaps)
        };
        assert_eq!(rules(0, 0), (128 << 10, 128 << 10, 2));
        assert_eq!(rules(64 << 20, 2), (1 << 20, 2 << 20, 4));
        assert_eq!(rules(64 << 20, 64), (1 << 20, 128 << 10, 128));
        assert_eq!(rules(u64::MAX, 2), (32 << 20, 32 << 20, 4));
        let taken = cfg!(all(target_os = "linux", target_env = "gnu"));
        assert!(
            [0, 64 << 20, u64::MAX]
                .iter()
                .all(|memory| configure(*memory) == taken)
        );
    }
}
