//! Several processes append to the same shards of one log, and at each call of each of them something may happen: it
//! dies alone or with the machine, stands still for longer than a lease, is answered wrongly, or unwinds while its
//! blocking threads still work.
//!
//! No stage is here and no lake, only the log: so a seed takes milliseconds, and thousands of them meet what the
//! pipeline would meet once in a long time. [`plan`] says what a seed means, [`fleet`] runs it, and the same
//! [witness](super::witness) as the pipeline's reads along; [`judge`] compares what writers were told and readers were
//! given with what is there.

mod fleet;
mod judge;
mod plan;

pub(super) use fleet::simulate;

use super::must_hold;

/// Seeds by default.
const SEEDS: u64 = if cfg!(debug_assertions) { 150 } else { 3_000 };

#[test]
fn simulation_of_writers_loses_and_doubles_nothing() {
    must_hold(SEEDS, |seed| simulate(seed, None));
}

#[test]
fn simulation_of_writers_is_the_same_twice() {
    for seed in 0..20 {
        let (once, again) = (simulate(seed, None), simulate(seed, None));
        assert_eq!(once.trace.count(), again.trace.count(), "seed {seed}");
        assert_eq!(once.trace.hash(), again.trace.hash(), "seed {seed}");
    }
}
