//! Starting, feeding, watching and killing the binary.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use hydrant_core::clock;
use serde_json::Value;

/// Nothing that a test waits for takes this long.
const DEADLINE: Duration = Duration::from_secs(60);

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant-producer"));
    command
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs to the end, which must have this exit code; answers standard error.
pub(crate) fn fails(dir: &Path, args: &[&str], code: i32) -> String {
    let output = command(dir, args).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{said}");
    said
}

/// Like [`fails`], with these bytes as standard input.
pub(crate) fn fails_piped(dir: &Path, args: &[&str], input: &[u8], code: i32) -> String {
    let mut child = command(dir, args).stdin(Stdio::piped()).spawn().unwrap();
    // It may end before it has read everything.
    drop(child.stdin.take().unwrap().write_all(input));
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{said}");
    said
}

/// Runs to success with `--json` and answers the report and standard error.
pub(crate) fn produce_saying(dir: &Path, args: &[&str]) -> (Value, String) {
    let args = [args, &["--json"]].concat();
    let output = command(dir, &args).output().unwrap();
    (report(&output), text(&output.stderr))
}

/// Runs to success with `--json` and answers the report.
pub(crate) fn produce(dir: &Path, args: &[&str]) -> Value {
    let args = [args, &["--json"]].concat();
    report(&command(dir, &args).output().unwrap())
}

/// Like [`produce`], with these bytes as standard input.
pub(crate) fn produce_piped(dir: &Path, args: &[&str], input: &[u8]) -> Value {
    let args = [args, &["--json"]].concat();
    let mut child = command(dir, &args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    report(&child.wait_with_output().unwrap())
}

fn report(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A process that is killed when the test ends.
pub(crate) struct RunningProducer {
    child: Option<Child>,
}

impl RunningProducer {
    /// Starts with `--json`.
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        let args = [args, &["--json"]].concat();
        let child = command(dir, &args).stdin(Stdio::piped()).spawn().unwrap();
        RunningProducer { child: Some(child) }
    }

    /// Like [`RunningProducer::start`], with what it says in the file `said`.
    pub(crate) fn start_saying(dir: &Path, args: &[&str], said: &Path) -> Self {
        let args = [args, &["--json"]].concat();
        let said = std::fs::File::create(said).unwrap();
        let child = command(dir, &args).stderr(said).spawn().unwrap();
        RunningProducer { child: Some(child) }
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap()
    }

    /// The process.
    pub(crate) fn id(&mut self) -> u32 {
        self.child().id()
    }

    /// Writes to standard input.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child().stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    /// Ends standard input, waits for success and answers the report.
    pub(crate) fn finish(mut self) -> Value {
        drop(self.child().stdin.take());
        report(&self.child.take().unwrap().wait_with_output().unwrap())
    }

    /// Sends it a signal, such as `-STOP`.
    pub(crate) fn signal(&mut self, signal: &str) {
        let id = self.child().id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(status.success());
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
        self.child = None;
    }

    /// SIGTERM, waits for success and answers the report.
    pub(crate) fn terminate(mut self) -> Value {
        self.signal("-TERM");
        // Standard input stays open: a pipe that says nothing must not hold the process.
        let stdin = self.child().stdin.take();
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        drop(stdin);
        report(&output)
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }
}

impl Drop for RunningProducer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Looks until there is something to see.
pub(crate) fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = clock::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The index up to which a ledger says that everything is stored.
pub(crate) fn ledger_index(path: &Path) -> Option<u64> {
    let text = std::fs::read(path).ok()?;
    let ledger: Value = serde_json::from_slice(&text).expect("a ledger is whole at any time");
    ledger["next_index"].as_u64()
}
