//! Starts and kills the binaries under test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Forbids tests to skip themselves; removed for the binaries, which would warn of an unknown variable.
pub(crate) const NO_SKIP: &str = "HYDRANT_TEST_NO_SKIP";

/// The binary `name` of the profile under test.
pub(crate) fn binary(name: &str) -> PathBuf {
    let hydrant = PathBuf::from(env!("CARGO_BIN_EXE_hydrant"));
    let path = hydrant.with_file_name(name);
    assert!(
        path.exists(),
        "`{name}` is not built: run the tests with `--workspace`"
    );
    path
}

/// A number that the environment may set.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A command that runs binary `name` in `dir`.
pub(crate) fn command(name: &str, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary(name));
    command
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .env_remove(NO_SKIP);
    command
}

/// Runs a binary to its end and answers its standard output; fails the test unless it exits with `code`.
pub(crate) fn run_for(name: &str, dir: &Path, args: &[&str], code: i32) -> String {
    let output = command(name, dir, args)
        .output()
        .expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{name} {args:?}\n{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs a binary to success and answers its standard output.
pub(crate) fn run(name: &str, dir: &Path, args: &[&str]) -> String {
    run_for(name, dir, args, 0)
}

/// A process that is killed when the test ends.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts binary `name`; its messages go to `log` in `dir`.
    pub(crate) fn start(name: &str, dir: &Path, args: &[String], log: &str) -> Self {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (input, output) = (Stdio::null(), Stdio::null());
        Running::between(input, output, name, dir, &args, log)
    }

    /// Starts binary `name` as part of a pipe; its messages go to `log` in `dir`.
    pub(crate) fn between(
        input: Stdio,
        output: Stdio,
        name: &str,
        dir: &Path,
        args: &[&str],
        log: &str,
    ) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join(log))
            .expect("the log opens");
        let child = command(name, dir, args)
            .stdin(input)
            .stdout(output)
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        Running { child }
    }

    /// The peak of its memory in bytes; `None` when it has ended.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = peak.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib << 10)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process can be waited for");
    }
    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `-STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the process can be signalled"
        );
    }

    /// Asks it to stop and answers its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child
            .wait()
            .expect("the process can be waited for")
            .code()
    }

    /// The exit code, once it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<Option<i32>> {
        self.child
            .try_wait()
            .expect("the process can be asked")
            .map(|status| status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
