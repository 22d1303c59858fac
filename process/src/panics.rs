//! Handles a panic: one line for the user, the backtrace in a file, a drain, and exit code 1.
//!
//! A panic is a bug in Hydrant, never the user's mistake, so the line says where it happened, that nothing acknowledged
//! is lost, and what to do. A formatted panic message may quote a record and is withheld; a backtrace quotes no values.
//! With `RUST_BACKTRACE` set, the backtrace goes to standard error instead of a file. A panic that its caller contains
//! ([`hydrant_core::workers::contain`]) ends nothing; a device may cause one with each record, so only the first
//! [`CONTAINED_LINES`] of them are printed.

use std::backtrace::Backtrace;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::PanicHookInfo;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::exit_code::complain;
use crate::output::{self, Stdout};
use crate::telemetry::Latch;
use hydrant_core::shutdown::{Phase, Shutdown};

/// The most contained panics that a process prints.
const CONTAINED_LINES: u32 = 5;
/// The most backtraces that a process writes to files.
const BACKTRACE_FILES: u32 = 3;

/// The panic hook of a process.
struct Hook {
    name: &'static str,
    shutdown: Shutdown,
    stdout: Stdout,
    failed: Latch,
    panics: AtomicU32,
    contained: AtomicU32,
}

/// Makes each panic drain the process and fail it, except a panic of `println!` to a closed standard output and one
/// that its caller contains.
pub(super) fn watch(name: &'static str, shutdown: &Shutdown, stdout: &Stdout, failed: &Latch) {
    let hook = Hook {
        name,
        shutdown: shutdown.clone(),
        stdout: stdout.clone(),
        failed: failed.clone(),
        panics: AtomicU32::new(0),
        contained: AtomicU32::new(0),
    };
    std::panic::set_hook(Box::new(move |panic| hook.run(panic)));
}

impl Hook {
    fn run(&self, panic: &PanicHookInfo<'_>) {
        if output::is_broken_pipe(panic) {
            self.stdout.close();
            return;
        }
        let contained = hydrant_core::workers::is_contained();
        if contained && self.contained.fetch_add(1, Ordering::Relaxed) >= CONTAINED_LINES {
            return;
        }
        let consequence = if contained {
            "the record that caused it is set aside and the process continues"
        } else {
            self.failed.set();
            "nothing acknowledged is lost: start it again"
        };
        complain(&format!(
            "internal fault at {}: {consequence}, and report this line{}",
            place_of(panic),
            self.backtrace(),
        ));
        if !contained {
            self.shutdown.advance(Phase::Draining);
        }
    }

    /// Writes the backtrace to a file, and answers a text that names the file.
    fn backtrace(&self) -> String {
        let wanted = std::env::var_os("RUST_BACKTRACE").is_some_and(|wanted| wanted != "0");
        if wanted {
            return format!("\n{}", Backtrace::force_capture());
        }
        let number = self.panics.fetch_add(1, Ordering::Relaxed);
        if number >= BACKTRACE_FILES {
            return String::new();
        }
        match self.write_backtrace(number) {
            Ok(path) => format!(" with the backtrace in {}", path.display()),
            Err(_) => "; `RUST_BACKTRACE=1` prints a backtrace".to_owned(),
        }
    }

    fn write_backtrace(&self, number: u32) -> io::Result<PathBuf> {
        let name = format!("{}-panic-{}-{number}.txt", self.name, std::process::id());
        let path = std::env::temp_dir().join(name);
        // An existing name is not opened: another user may have put a link there.
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&path)?;
        write!(file, "{}", Backtrace::force_capture())?;
        Ok(path)
    }
}

/// File, line and thread of a panic, and its message if that is a fixed text.
fn place_of(panic: &PanicHookInfo<'_>) -> String {
    let place = panic
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed").to_owned();
    let message = match panic.payload().downcast_ref::<&'static str>() {
        Some(fixed) => format!(", {fixed}"),
        None => String::new(),
    };
    format!("{place} (thread `{thread}`{message})")
}
