//! Finds which code an input reaches, if the build counts it.
//!
//! LLVM's `sancov-module` pass, which stable Rust accepts as a code generation flag, gives every edge an 8-bit counter
//! and announces the counters here before `main`. Without the pass there are no counters, and [`Coverage::is_on`] is
//! `false`.
#![allow(
    unsafe_code,
    reason = "the counters are raw memory that LLVM announces"
)]

use std::sync::Mutex;

/// The counters of the modules: start and length of each.
static MODULES: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

// SAFETY: LLVM reserves this name and passes a range of counters that lives as long as the process.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    let length = (end as usize).saturating_sub(start as usize);
    if let Ok(mut modules) = MODULES.lock() {
        modules.push((start as usize, length));
    }
}

// SAFETY: LLVM reserves this name; the table of addresses is not needed.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_pcs_init(_start: *const usize, _end: *const usize) {}

/// The edges that a run has seen.
pub(crate) struct Coverage {
    modules: Vec<(usize, usize)>,
    /// The buckets of counts seen of each edge, one bit each.
    seen: Vec<u8>,
}

impl Coverage {
    pub(crate) fn new() -> Self {
        let modules = MODULES.lock().map(|modules| modules.clone());
        let mut modules = modules.unwrap_or_default();
        modules.sort_unstable();
        modules.dedup();
        let length = modules.iter().map(|module| module.1).sum();
        Self {
            modules,
            seen: vec![0; length],
        }
    }

    /// Whether the build counts.
    pub(crate) fn is_on(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Sets every counter to zero.
    pub(crate) fn reset(&self) {
        for &(start, length) in &self.modules {
            // SAFETY: LLVM announced the range; other threads may count there at the same time, and a lost count does
            // no harm.
            unsafe { std::ptr::write_bytes(start as *mut u8, 0, length) };
        }
    }

    /// Whether an edge was reached for the first time, or more often than before.
    pub(crate) fn grows(&mut self) -> bool {
        let mut grows = false;
        let mut seen = self.seen.iter_mut();
        for &(start, length) in &self.modules {
            // SAFETY: as above; each byte is read once.
            let counters = unsafe { std::slice::from_raw_parts(start as *const u8, length) };
            for (&count, seen) in counters.iter().zip(&mut seen) {
                if count != 0 {
                    let bucket = bucket(count);
                    grows |= *seen & bucket == 0;
                    *seen |= bucket;
                }
            }
        }
        grows
    }

    pub(crate) fn edges(&self) -> usize {
        self.seen.iter().filter(|seen| **seen != 0).count()
    }
}

/// The bucket of a count: similar counts share one.
fn bucket(count: u8) -> u8 {
    match count {
        0..=1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128.. => 128,
    }
}
