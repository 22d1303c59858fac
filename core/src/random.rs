//! Chance, injected: identities, jitter and tie-breaks come from a [`Random`], which a simulation seeds.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A shared source of random numbers; cheap to clone.
#[derive(Clone)]
pub struct Random {
    rng: Arc<Mutex<fastrand::Rng>>,
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    /// Seeded by the operating system.
    #[allow(clippy::disallowed_methods, reason = "the one unseeded generator")]
    pub fn system() -> Self {
        Random {
            rng: Arc::new(Mutex::new(fastrand::Rng::new())),
        }
    }

    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Random {
            rng: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))),
        }
    }

    /// A number of all 64 bits.
    pub fn u64(&self) -> u64 {
        self.rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .u64(..)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&self, end: u64) -> u64 {
        if end == 0 {
            return 0;
        }
        self.rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .u64(..end)
    }

    /// 32 hex digits that nobody else draws.
    pub fn identity(&self) -> String {
        format!("{:016x}{:016x}", self.u64(), self.u64())
    }
}
