//! Simulates several processes that append to the same shards of one log. At each of its calls a process may die alone
//! or with the machine, hang for longer than a lease, get a wrong answer, or unwind while its blocking threads still
//! work.
//!
//! Only the log runs, without stages and lake: so a seed takes milliseconds, and thousands of seeds find what the
//! pipeline would rarely find. [`plan`] draws the plan of a seed, [`fleet`] runs it, and the [witness](super::witness)
//! of the pipeline reads along; [`judge`] compares what was acknowledged to writers and given to readers with the log.

mod fleet;
mod judge;
mod plan;

pub(super) use fleet::simulate;

use super::must_hold;

/// The default number of seeds.
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
