//! Reports a check that never ends, because a hanging test prints nothing.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::corpus;

/// How long a check may take before the process ends.
const LONGEST: Duration = Duration::from_secs(120);

/// The running checks, one entry for each thread.
static WATCHED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());

struct Watched {
    thread: thread::ThreadId,
    target: &'static str,
    input: Vec<u8>,
    since: Option<Instant>,
}

fn watched() -> MutexGuard<'static, Vec<Watched>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work`; if it takes too long, prints the input and ends the process.
#[expect(clippy::disallowed_methods, reason = "a check takes real time")]
pub(crate) fn over<T>(target: &'static str, input: &[u8], work: impl FnOnce() -> T) -> T {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(thread::spawn(watch)));
    let thread = thread::current().id();
    let since = Some(Instant::now());
    let mut all = watched();
    match all.iter_mut().find(|entry| entry.thread == thread) {
        Some(entry) => {
            entry.target = target;
            entry.input.clear();
            entry.input.extend_from_slice(input);
            entry.since = since;
        }
        None => all.push(Watched {
            thread,
            target,
            input: input.to_vec(),
            since,
        }),
    }
    drop(all);
    let done = work();
    let mut all = watched();
    if let Some(entry) = all.iter_mut().find(|entry| entry.thread == thread) {
        entry.since = None;
    }
    done
}

#[expect(clippy::print_stderr, reason = "the process ends with it")]
fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        for entry in watched().iter() {
            if entry.since.is_some_and(|since| since.elapsed() > LONGEST) {
                eprintln!(
                    "fuzz {}: an input takes more than {LONGEST:?}\nFix it, and keep this line in {}:\n{}",
                    entry.target,
                    corpus::path(entry.target).display(),
                    corpus::escape(&entry.input),
                );
                std::process::abort();
            }
        }
    }
}
