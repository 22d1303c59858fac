//! Random numbers for the simulator: a splitmix64 stream that is a pure function of its seed.
//!
//! Owns the generator and the [`Share`] type (a probability as a 32-bit threshold). It keeps no
//! state between records, so that record `index` can be generated again in any process.

use hydrant_core::{Error, Result};

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// Finaliser of splitmix64: a bijection of 64-bit words whose output bits look independent.
pub(super) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// What a stream of draws is about: streams of different topics are independent.
#[derive(Clone, Copy)]
pub(super) enum Topic {
    Record = 1,
    Device = 2,
    Round = 3,
    Fleet = 4,
}

/// A stream of pseudo-random numbers.
pub(super) struct Draw {
    state: u64,
}

impl Draw {
    pub(super) const fn new(seed: u64, topic: Topic, item: u64) -> Self {
        let start = mix(seed ^ (topic as u64).wrapping_mul(GOLDEN_GAMMA));
        Self {
            state: mix(start ^ item.wrapping_mul(0xD6E8_FEB8_6659_FD93)),
        }
    }

    pub(super) const fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        mix(self.state)
    }

    /// A number in `0..bound`; `bound` is at most 2^32 and not 0.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        ((self.word() >> 32) * bound) >> 32
    }

    /// A number in `first..=last`, the distance being below 2^32.
    pub(super) const fn between(&mut self, first: i64, last: i64) -> i64 {
        first + self.below((last - first + 1) as u64) as i64
    }

    pub(super) const fn chance(&mut self, share: Share) -> bool {
        (self.word() >> 32) < share.threshold
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A probability, as the number of 32-bit words below which a draw counts as a hit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    threshold: u64,
}

impl Share {
    pub(super) fn try_new(name: &'static str, value: f64) -> Result<Self> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self {
                threshold: (value * 4_294_967_296.0) as u64,
            })
        } else {
            Err(Error::refused(format!(
                "the share `{name}` is `{value}`: give a number from 0 to 1"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_zero_never_hits_and_one_always_does() {
        let never = Share::try_new("late", 0.0).unwrap();
        let always = Share::try_new("late", 1.0).unwrap();
        let mut draw = Draw::new(1, Topic::Record, 1);
        for _ in 0..10_000 {
            assert!(!draw.chance(never));
            assert!(draw.chance(always));
        }
    }

    #[test]
    fn shares_outside_zero_to_one_are_refused_by_name() {
        for value in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let refusal = Share::try_new("late", value).unwrap_err().to_string();
            assert!(refusal.contains("`late`"), "{refusal}");
        }
    }

    #[test]
    fn between_reaches_both_ends_and_nothing_else() {
        let mut draw = Draw::new(7, Topic::Device, 3);
        let mut seen = [false; 5];
        for _ in 0..1_000 {
            seen[(draw.between(-2, 2) + 2) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
    }
}
