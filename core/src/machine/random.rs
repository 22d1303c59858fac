//! Injected randomness: identities, jitter and tie-breaks come from a [`Random`], which a simulation seeds.
//!
//! Outside a simulation, every number comes from the operating system. A generator seeded by the clock would give two
//! processes that start in the same instant the same identities: two workers of one name, two producers with one
//! origin.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A shared source of random numbers; cheap to clone.
#[derive(Clone)]
pub struct Random {
    source: RandomSource,
}

#[derive(Clone)]
enum RandomSource {
    System,
    Seeded(Arc<Mutex<fastrand::Rng>>),
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    /// Random numbers of the operating system, fit for secrets.
    pub fn system() -> Self {
        Random {
            source: RandomSource::System,
        }
    }

    /// Random numbers that depend on `seed` alone.
    pub fn seeded(seed: u64) -> Self {
        Random {
            source: RandomSource::Seeded(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)))),
        }
    }

    /// A random number of 64 bits.
    pub fn u64(&self) -> u64 {
        match &self.source {
            RandomSource::System => from_system(),
            RandomSource::Seeded(rng) => rng.lock().unwrap_or_else(PoisonError::into_inner).u64(..),
        }
    }

    /// A random number below `end`; 0 when `end` is 0.
    pub fn below(&self, end: u64) -> u64 {
        if end == 0 {
            return 0;
        }
        let number = match &self.source {
            RandomSource::System => fastrand::Rng::with_seed(from_system()).u64(..end),
            RandomSource::Seeded(rng) => rng
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .u64(..end),
        };
        debug_assert!(number < end);
        number
    }

    /// A unique identity of 32 hex digits.
    pub fn identity(&self) -> String {
        format!("{:016x}{:016x}", self.u64(), self.u64())
    }
}

/// # Panics
/// When the operating system provides no random numbers; the standard library panics likewise when it creates its first
/// hash map.
fn from_system() -> u64 {
    getrandom::u64().expect("the operating system gives random numbers")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn identities_are_drawn_once() {
        // Two processes whose own generators begin in the same state.
        let drawn = || {
            fastrand::seed(7);
            Random::system().identity()
        };
        assert_ne!(drawn(), drawn());
        let sources: Vec<Random> = (0..4).map(|_| Random::system()).collect();
        let drawn: HashSet<String> = (0..4_000).map(|n| sources[n % 4].identity()).collect();
        assert_eq!(drawn.len(), 4_000);
        assert!(drawn.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn a_seed_gives_the_same_numbers_again_and_none_is_too_large() {
        let (a, b) = (Random::seeded(7), Random::seeded(7));
        for end in [0, 1, 2, 1_000, u64::MAX] {
            let number = a.below(end);
            assert_eq!(number, b.below(end));
            assert!(number < end.max(1));
            assert!(Random::system().below(end) < end.max(1));
        }
        assert_eq!(a.identity(), b.identity());
    }
}
