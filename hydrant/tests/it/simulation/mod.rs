//! The whole pipeline on one simulated machine, seed by seed: everything that can fail does, and nothing is lost or
//! doubled.
//!
//! A seed is a [`plan`]: the shape of the pipeline (a producer with a ledger, transforms and sinks or both in one
//! process, two streams, a lake) and the faults that befall it. The [`world`] runs the libraries as the binaries wire
//! them ([`roles`]), one task a process, on a disk that forgets, tears, fails and fills up, a clock that jumps and time
//! that is paused. [`witness`] stands outside and remembers what producers were told and readers were given; [`oracle`]
//! judges by Parquet files, dead letters and logs alone. [`mutants`] tries the simulation itself: each broken variant of
//! the protocols ([`broken`]) must fall within a hundred seeds.
//!
//! One seed, one thread, one trace. Settings:
//! - `HYDRANT_SIMULATION_SEEDS=10000 cargo test --release -p hydrant --test it simulation_loses` runs ten thousand;
//! - `HYDRANT_SIMULATION_SEED=7` runs one, of a mutant as well;
//! - `HYDRANT_SIMULATION_EVENTS=1000000` keeps more of the trace for the report of a failure.

mod broken;
mod mutants;
mod oracle;
mod plan;
mod roles;
mod twice;
mod witness;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use world::{Outcome, simulate};

/// Seeds by default: what takes some ten seconds.
const SEEDS: u64 = if cfg!(debug_assertions) { 50 } else { 500 };

/// Seeds that run at the same time, each on one thread.
const THREADS: u64 = 2;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is `{text}`, which is no number")),
    )
}

/// Runs seeds until one fails; answers how many ran and the first failure.
fn run(seeds: std::ops::Range<u64>, one: impl Fn(u64) -> Outcome + Sync) -> Option<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<Outcome>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end
                        || failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .is_some()
                    {
                        return;
                    }
                    let outcome = one(seed);
                    if !outcome.faults.is_empty() {
                        failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(outcome);
                        return;
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn simulation_loses_and_doubles_nothing() {
    let seeds = match setting("HYDRANT_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("HYDRANT_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    if let Some(outcome) = run(seeds, |seed| simulate(seed, None)) {
        panic!("{}", outcome.report());
    }
}

#[test]
fn simulation_of_one_seed_is_the_same_twice() {
    for seed in 0..5 {
        let (once, again) = (simulate(seed, None), simulate(seed, None));
        assert_eq!(once.trace.count(), again.trace.count(), "seed {seed}");
        assert_eq!(once.trace.hash(), again.trace.hash(), "seed {seed}");
    }
}
