//! Checks the protocols of `docs/protocols.md`: every model must keep every promise in each state
//! that it can reach, and each mutant, which lacks one rule, must break one.
//!
//! ```sh
//! cargo run --release --manifest-path docs/models/Cargo.toml
//! cargo run --release --manifest-path docs/models/Cargo.toml -- --trace MUTANT
//! ```

mod append;
mod catalog;
mod chain;
mod claims;
mod disk;
mod leases;
mod search;
mod transactions;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use catalog::{Check, Kind};
use search::Outcome;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => run_all(&catalog::all()),
        ["--list"] => list(&catalog::all()),
        ["--trace", name] => show(&catalog::all(), name),
        ["--only", part] => {
            let some: Vec<Check> = catalog::all()
                .into_iter()
                .filter(|check| check.is_called(part))
                .collect();
            run_all(&some)
        }
        _ => {
            eprintln!("usage: hydrant-models [--list | --trace MUTANT | --only PART-OF-A-NAME]");
            ExitCode::from(2)
        }
    }
}

struct Ran {
    outcome: Outcome,
    took: Duration,
}

fn run_all(checks: &[Check]) -> ExitCode {
    #[allow(clippy::disallowed_methods, reason = "a command measures itself")]
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let ran: Mutex<Vec<Option<Ran>>> = Mutex::new(checks.iter().map(|_| None).collect());
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(check) = checks.get(at) else { return };
                    #[allow(clippy::disallowed_methods, reason = "a command measures itself")]
                    let began = Instant::now();
                    let outcome = (check.run)();
                    let mut ran = ran
                        .lock()
                        .expect("no search panics while it holds the lock");
                    ran[at] = Some(Ran {
                        outcome,
                        took: began.elapsed(),
                    });
                }
            });
        }
    });
    let ran = ran.into_inner().expect("all searches have ended");
    let ran: Vec<(&Check, Ran)> = checks.iter().zip(ran.into_iter().flatten()).collect();

    let mut faults = 0;
    println!(
        "{:<14}{:<52}{:>10}{:>8}  result",
        "model", "bounds", "states", "seconds"
    );
    for (check, ran) in ran
        .iter()
        .filter(|(check, _)| matches!(check.kind, Kind::Model))
    {
        let verdict = verdict(check, &ran.outcome);
        faults += usize::from(verdict.is_err());
        println!(
            "{:<14}{:<52}{:>10}{:>8.1}  {}",
            check.model,
            check.name,
            ran.outcome.states,
            ran.took.as_secs_f32(),
            verdict.unwrap_or_else(|fault| fault)
        );
    }
    println!();
    println!(
        "{:<14}{:<52}{:>10}{:>8}  result",
        "model", "mutant", "states", "steps"
    );
    for (check, ran) in ran
        .iter()
        .filter(|(check, _)| matches!(check.kind, Kind::Mutant))
    {
        let verdict = verdict(check, &ran.outcome);
        faults += usize::from(verdict.is_err());
        println!(
            "{:<14}{:<52}{:>10}{:>8}  {}",
            check.model,
            check.name,
            ran.outcome.states,
            ran.outcome
                .violation
                .as_ref()
                .map_or(0, |(_, trace)| trace.len()),
            verdict.unwrap_or_else(|fault| fault)
        );
    }
    for (check, ran) in &ran {
        if let (Kind::Model, Some((broken, trace))) = (check.kind, &ran.outcome.violation) {
            println!("\n{}, {}: {}", check.model, check.name, broken.what);
            print_trace(trace);
        }
    }
    println!(
        "\n{} models and {} mutants in {:.0} s, {faults} faults",
        ran.iter()
            .filter(|(check, _)| matches!(check.kind, Kind::Model))
            .count(),
        ran.iter()
            .filter(|(check, _)| matches!(check.kind, Kind::Mutant))
            .count(),
        began.elapsed().as_secs_f32()
    );
    ExitCode::from(u8::from(faults > 0 || ran.is_empty()))
}

/// What to say of a search: `Err` if a model violates or a mutant survives.
fn verdict(check: &Check, outcome: &Outcome) -> Result<String, String> {
    match (check.kind, &outcome.violation) {
        (Kind::Model, Some((broken, trace))) => Err(format!(
            "VIOLATED: {} in {} steps: {}",
            broken.promise.violated(),
            trace.len(),
            broken.what
        )),
        (Kind::Model, None) if !outcome.complete => Err("UNFINISHED: too many states".into()),
        (Kind::Model, None) if !outcome.ends => Err("VACUOUS: no end is reached".into()),
        (Kind::Model, None) => Ok("holds".into()),
        (Kind::Mutant, Some((broken, _))) => {
            Ok(format!("{}: {}", broken.promise.violated(), broken.what))
        }
        (Kind::Mutant, None) => Err("SURVIVED".into()),
    }
}

fn list(checks: &[Check]) -> ExitCode {
    for check in checks {
        let kind = match check.kind {
            Kind::Model => "model",
            Kind::Mutant => "mutant",
        };
        println!("{kind:<8}{:<14}{}", check.model, check.name);
    }
    ExitCode::SUCCESS
}

fn show(checks: &[Check], name: &str) -> ExitCode {
    let Some(check) = checks.iter().find(|check| check.name == name) else {
        eprintln!("error: `{name}` is not the name of a mutant; `--list` prints the names");
        return ExitCode::from(2);
    };
    let outcome = (check.run)();
    match outcome.violation {
        Some((broken, trace)) => {
            println!(
                "{}: {} ({})",
                check.name,
                broken.promise.violated(),
                broken.what
            );
            print_trace(&trace);
            ExitCode::SUCCESS
        }
        None => {
            println!(
                "{}: no promise is broken in {} states",
                check.name, outcome.states
            );
            ExitCode::FAILURE
        }
    }
}

fn print_trace(trace: &[String]) {
    for (step, name) in trace.iter().enumerate() {
        println!("  {:>3}. {name}", step + 1);
    }
}
