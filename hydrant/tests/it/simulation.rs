//! Simulates the whole pipeline on one machine, seed by seed: everything that can fail does, and nothing is lost or
//! doubled.
//!
//! A seed is a [`plan`]: the shape of the pipeline (a producer with a ledger, transforms and sinks or both in one
//! process, two streams, a lake) and the faults that happen to it. The [`world`] runs the libraries as the binaries
//! wire them ([`roles`]), one task a process, on a [`machine`] whose disk forgets, tears, fails and fills up, whose
//! clock jumps and whose time is paused. [`witness`] stands outside and remembers what was acknowledged to producers
//! and given to readers; [`oracle`] judges by Parquet files, dead letters and logs alone. [`mutants`] tests the
//! simulation itself: it must kill each broken variant of the protocols ([`broken`]) within a number of seeds.
//!
//! The [`streams`] lie on the machine's disk, or in a service outside that stores what comes and whose readers
//! deduplicate; processes reach it over a [`network`]. `simulation/README.md` says how to write a scenario.
//!
//! A seed runs on one thread and gives one trace. Settings:
//! - `HYDRANT_SIMULATION_SEEDS=10000 cargo test --release -p hydrant --test it simulation_loses` runs ten thousand;
//! - `HYDRANT_SIMULATION_SEED=7` runs one, of a mutant as well;
//! - `HYDRANT_SIMULATION_EVENTS=1000000` keeps more of the trace for the report of a failure.

mod broken;
mod chance;
mod machine;
mod mutants;
mod network;
mod oracle;
mod plan;
mod roles;
mod streams;
mod twice;
mod witness;
mod world;
mod writers;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use machine::{Outcome, lock};
use world::{simulate, simulate_over_service};

/// The default number of seeds: they take some ten seconds.
const SEEDS: u64 = if cfg!(debug_assertions) { 50 } else { 500 };

/// The number of seeds that run at the same time, each on one thread.
const THREADS: u64 = 2;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is `{text}`, which is not a number")),
    )
}

/// Whether the plans of mutants are steered to where the mutants may show. They are not when the number of killing
/// seeds is counted.
fn is_steered() -> bool {
    setting("HYDRANT_SIMULATION_SEEDS").is_none()
}

/// The seeds to run, and whether all of them run although one has failed, as they do when a number is set.
fn seeds(default: u64) -> (Range<u64>, bool) {
    match (
        setting("HYDRANT_SIMULATION_SEED"),
        setting("HYDRANT_SIMULATION_SEEDS"),
    ) {
        (Some(seed), _) => (seed..seed + 1, false),
        (None, Some(seeds)) => (0..seeds, true),
        (None, None) => (0..default, false),
    }
}

/// Runs seeds on some threads, and answers those that failed: at most one per thread unless `all` are wanted. A seed
/// that is set explicitly is reported in any case.
#[allow(clippy::print_stdout, reason = "the report of one seed")]
fn run(seeds: Range<u64>, all: bool, one: impl Fn(u64) -> Outcome + Sync) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Vec<Outcome>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while all || lock(&failed).is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = one(seed);
                    if setting("HYDRANT_SIMULATION_SEED").is_some() {
                        println!("{}", outcome.report());
                    }
                    if !outcome.faults.is_empty() {
                        lock(&failed).push(outcome);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by_key(|outcome| outcome.seed);
    failed
}

/// Runs seeds; panics with the report of the first failed seed, and a line for each of the others.
fn must_hold(default: u64, one: impl Fn(u64) -> Outcome + Sync) {
    let (seeds, all) = seeds(default);
    let failed = run(seeds, all, one);
    let Some(first) = failed.first() else {
        return;
    };
    let others: Vec<String> = failed[1..]
        .iter()
        .map(|outcome| format!("seed {}: {}", outcome.seed, outcome.faults.join(" ## ")))
        .collect();
    panic!("{}\n{}", first.report(), others.join("\n"));
}

#[test]
fn simulation_loses_and_doubles_nothing() {
    must_hold(SEEDS, |seed| simulate(seed, None));
}

#[test]
fn simulation_over_a_service_loses_and_doubles_nothing() {
    must_hold(SEEDS, |seed| simulate_over_service(seed, None));
}

#[test]
fn simulation_of_one_seed_is_the_same_twice() {
    for seed in 0..5 {
        for simulate in [simulate, simulate_over_service] {
            let (once, again) = (simulate(seed, None), simulate(seed, None));
            assert_eq!(once.trace.count(), again.trace.count(), "seed {seed}");
            assert_eq!(once.trace.hash(), again.trace.hash(), "seed {seed}");
        }
    }
}
