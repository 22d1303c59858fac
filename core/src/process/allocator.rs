//! How soon the allocator gives memory back to the system.
//!
//! The allocator of glibc maps large allocations one by one and returns each when it is freed. But its idea of *large*
//! rises, up to 32 MiB, with what was freed before, and what is smaller stays with the process: with a small budget the
//! gaps between batches came to more than the budget. So what is large is said here, in proportion to the budget:
//! mapping costs time, of which a process with much memory has no reason to spend any.

/// Allocations of a budget's share are mapped.
const SHARE: u64 = 64;
const BYTES_MIN: u64 = 128 << 10;
const BYTES_MAX: u64 = 32 << 20;

/// From which size on an allocation is mapped by itself.
fn large_bytes(memory_bytes: u64) -> i32 {
    (memory_bytes / SHARE).clamp(BYTES_MIN, BYTES_MAX) as i32
}

/// Settles it for a process with this budget; answers whether the allocator took it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the C library has no other way to be told")]
pub(super) fn settle(memory_bytes: u64) -> bool {
    const M_MMAP_THRESHOLD: i32 = -3;
    // SAFETY: this is the declaration of `malloc.h`; the call takes two numbers, touches no memory of the caller, and
    // may be made at any time by any thread.
    unsafe extern "C" {
        safe fn mallopt(param: i32, value: i32) -> i32;
    }
    mallopt(M_MMAP_THRESHOLD, large_bytes(memory_bytes)) == 1
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn settle(_memory_bytes: u64) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_the_budget_within_what_the_allocator_takes() {
        assert_eq!(large_bytes(0), 128 << 10);
        assert_eq!(large_bytes(64 << 20), 1 << 20);
        assert_eq!(large_bytes(u64::MAX), 32 << 20);
        let taken = cfg!(all(target_os = "linux", target_env = "gnu"));
        assert!(
            [0, 64 << 20, u64::MAX]
                .iter()
                .all(|memory| settle(*memory) == taken)
        );
    }
}
