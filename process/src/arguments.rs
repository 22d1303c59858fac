//! The flags that all binaries share, and their keys in the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use serde::{Serialize, Serializer};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::config::{Flags, Layers, Problems, ROOT};
use crate::exit_code::{DONE, REFUSED, complain};
use hydrant_core::disk::real::FileMode;

/// The heading of these flags in `--help`.
const COMMON: &str = "Common options";
/// The default memory budget.
const MEMORY_DEFAULT: u64 = 512 << 20;
/// The smallest memory budget: one batch of each stage.
const MEMORY_MIN: u64 = 8 << 20;
/// The default time for a drain: the grace period of Kubernetes.
const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The longest time for a drain.
const DRAIN_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// The longest name of an app or a worker.
const NAME_MAX: usize = 64;
/// The default number of I/O threads; computation has its own threads.
const IO_THREADS_DEFAULT: u64 = 2;

/// The flags of every binary. A flag outranks its environment variable, which outranks the file.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
#[command(next_help_heading = COMMON)]
pub struct CommonArgs {
    /// Configuration file, TOML [env: HYDRANT_CONFIG]
    #[arg(long, value_name = "FILE", global = true)]
    #[serde(serialize_with = "shown")]
    pub config: Option<PathBuf>,
    /// Name of the app: progress is kept under it, and workers with the same app name share the shards [env:
    /// HYDRANT_APP]
    #[arg(long, value_name = "NAME", global = true)]
    pub app: Option<String>,
    /// Name of this worker; a random suffix is added [default: the host name] [env: HYDRANT_WORKER_NAME]
    #[arg(long, value_name = "NAME", global = true)]
    pub worker_name: Option<String>,
    /// Address that serves /metrics, /healthz and /readyz; port 0 picks a free port [env: HYDRANT_METRICS_LISTEN]
    #[arg(long, value_name = "ADDR", global = true)]
    pub metrics: Option<String>,
    /// What to log: error, warn, info, debug, trace, or a filter by module [env: HYDRANT_LOG_LEVEL]
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
    /// How to log: text or json [env: HYDRANT_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT", global = true)]
    pub log_format: Option<String>,
    /// Memory budget of all buffers [default: 512MiB] [env: HYDRANT_MEMORY]
    #[arg(long, value_name = "BYTES", global = true)]
    pub memory: Option<String>,
    /// How long the process may take to drain after a signal [default: 30s] [env: HYDRANT_DRAIN_TIMEOUT]
    #[arg(long, value_name = "DURATION", global = true)]
    pub drain_timeout: Option<String>,
    /// Threads for decoding, scanning and encoding; one per core by default [env: HYDRANT_WORKERS]
    #[arg(long, value_name = "N", global = true)]
    pub workers: Option<String>,
    /// File mode of streams and ledgers, such as 0640 [default: 0600, owner only] [env:
    /// HYDRANT_FILE_MODE]
    #[arg(long, value_name = "MODE", global = true)]
    pub file_mode: Option<String>,
    /// Threads for network and disk [env: HYDRANT_IO_THREADS]
    #[arg(long, value_name = "N", global = true)]
    pub io_threads: Option<String>,
}

/// A path as it is shown: one that is not UTF-8 has no other text.
fn shown<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    let path = path.as_ref().map(|path| path.display().to_string());
    path.serialize(serializer)
}

/// How a binary is run: its name, flags and tables.
#[derive(Clone, Debug)]
pub struct Setup {
    pub(super) name: &'static str,
    common: CommonArgs,
    log_level: &'static str,
}

impl Setup {
    /// A binary of this name with these flags; it logs from `info` on.
    pub fn new(name: &'static str, common: &CommonArgs) -> Self {
        Setup {
            name,
            common: common.clone(),
            log_level: "info",
        }
    }

    /// Sets the default log level, such as `warn` for commands that print a result.
    pub fn log_level(mut self, level: &'static str) -> Self {
        self.log_level = level;
        self
    }

    pub(super) fn file(&self) -> Option<PathBuf> {
        let from_environment = || {
            std::env::var_os("HYDRANT_CONFIG")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        self.common.config.clone().or_else(from_environment)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// The common settings, validated.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) app: String,
    pub(super) worker: String,
    pub(super) memory: u64,
    pub(super) drain_timeout: Duration,
    pub(super) workers: Option<usize>,
    pub(super) io_threads: usize,
    pub(super) file_mode: FileMode,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) log_level: Targets,
    pub(super) log_format: LogFormat,
}

impl Common {
    pub(super) fn read(setup: &Setup, layers: &Layers, problems: &mut Problems) -> Common {
        let mut flags = Flags::of(&setup.common);
        let metrics = flags.split_off(&[("metrics", "listen")]);
        let log = flags.split_off(&[("log-level", "level"), ("log-format", "format")]);
        let mut root = layers.section(ROOT, &flags);
        root.path("config");
        let app = root.parsed("app", name_of);
        let worker = root.parsed("worker-name", name_of);
        let memory = root.bytes_within("memory", MEMORY_DEFAULT, MEMORY_MIN..=1 << 42);
        let drain_timeout = root.duration_within(
            "drain-timeout",
            DRAIN_TIMEOUT_DEFAULT,
            Duration::ZERO..=DRAIN_TIMEOUT_MAX,
        );
        let workers = root.optional_number("workers", 1..=1024);
        let io_threads = root.number("io-threads", IO_THREADS_DEFAULT, 1..=256);
        let mode_text = root.text_such_as("file-mode", "it in quotes, such as `\"0640\"`");
        let file_mode = mode_text.and_then(|text| {
            let mode = FileMode::parse(&text);
            if mode.is_none() {
                let message =
                    format!("`{text}` is not a file mode: write for example `0600` or `0640`");
                root.problem("file-mode", message);
            }
            mode
        });
        root.finish(problems);

        let mut section = layers.section("metrics", &metrics);
        let metrics = section.parsed("listen", |text| {
            text.parse().map_err(|_| {
                format!("`{text}` is not an address: write for example `127.0.0.1:9090`")
            })
        });
        section.finish(problems);

        let mut section = layers.section("log", &log);
        let log_level = section.parsed("level", parse_level);
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log_format = section.choice("format", &formats, LogFormat::Text);
        section.finish(problems);

        Common {
            app: app.unwrap_or_else(|| setup.name.to_owned()),
            worker: worker.unwrap_or_else(host_name),
            memory,
            drain_timeout,
            workers: workers.and_then(|count| usize::try_from(count).ok()),
            io_threads: usize::try_from(io_threads).unwrap_or(usize::MAX),
            file_mode: file_mode.unwrap_or_default(),
            metrics,
            log_level: log_level
                .or_else(|| parse_level(setup.log_level).ok())
                .unwrap_or_default(),
            log_format,
        }
    }
}

/// Reads the command line. Help and version go to standard output with exit code 0, mistakes go to standard error with
/// exit code 64.
pub fn parse<A: clap::Parser>() -> Result<A, ExitCode> {
    let mut command = with_short_help(A::command());
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = parsed.and_then(|mut matches| A::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| {
        match wrong_value(&error) {
            Some(message) => complain(&message),
            // A closed standard error changes nothing.
            None => drop(error.print()),
        }
        ExitCode::from(if error.use_stderr() { REFUSED } else { DONE })
    })
}

/// The same commands with a shorter help: `-h` leaves the common options out, and the help of a subcommand names the
/// command that lists them.
fn with_short_help(command: Command) -> Command {
    let is_common = |arg: &Arg| arg.get_help_heading() == Some(COMMON);
    let common = command.get_arguments().filter(|arg| is_common(arg));
    let hidden: Vec<Arg> = common.map(|arg| arg.clone().hide(true)).collect();
    let all = format!(
        "Common options, such as --config and --log-level: {} --help",
        command.get_name()
    );
    command
        .mut_args(|arg| match is_common(&arg) {
            true => arg.hide_short_help(true).allow_negative_numbers(true),
            false => with_negative_numbers(arg),
        })
        .mut_subcommands(|sub| with_hidden(sub, &hidden, &all))
}

fn with_hidden(command: Command, hidden: &[Arg], all: &str) -> Command {
    // A command may define an option with the name of a common one.
    let is_free = |arg: &&Arg| {
        command
            .get_arguments()
            .all(|own| own.get_id() != arg.get_id())
    };
    let hidden_here: Vec<Arg> = hidden.iter().filter(is_free).cloned().collect();
    command
        .mut_args(with_negative_numbers)
        .args(hidden_here)
        .after_help(all.to_owned())
        .mut_subcommands(|sub| with_hidden(sub, hidden, all))
}

/// Reads a negative number as a value, so that it is refused as a value and not as an unknown flag.
fn with_negative_numbers(arg: Arg) -> Arg {
    let takes_values = arg.get_action().takes_values();
    arg.allow_negative_numbers(takes_values)
}

/// The refusal of a value as one line, worded as in the configuration.
fn wrong_value(error: &clap::Error) -> Option<String> {
    let why =
        std::error::Error::source(error).filter(|_| error.kind() == ErrorKind::ValueValidation)?;
    let Some(ContextValue::String(written)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = written.split(' ').next().unwrap_or_default();
    let place = match name.starts_with('-') {
        true => format!("flag `{name}`"),
        false => format!(
            "argument `{}`",
            name.trim_matches(['<', '>', '[', ']', '.'])
        ),
    };
    Some(format!("{place}: {why}"))
}

/// Parses a level, or levels by module. A word alone is a level, never a module: a mistyped level would otherwise
/// silence all modules.
fn parse_level(text: &str) -> Result<Targets, String> {
    let is_level = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    let levels = text.split(',').all(is_level).then(|| text.parse().ok());
    levels.flatten().ok_or_else(|| {
        format!(
            "`{text}` is not a level: write `error`, `warn`, `info`, `debug`, `trace`, `off`, or a filter such as \
             `info,hydrant_sink=debug`"
        )
    })
}

/// Returns the name of the host as far as it is a name, else `worker`.
fn host_name() -> String {
    let host = rustix::system::uname();
    as_name(&host.nodename().to_string_lossy())
}

/// Returns the longest name in a text, with `-` for what a name cannot hold; `worker` where there is none.
fn as_name(text: &str) -> String {
    let fitting = |char: char| match char {
        '.' | '_' => char,
        char if char.is_ascii_alphanumeric() => char,
        _ => '-',
    };
    let text = text.trim_start_matches(|char: char| !char.is_ascii_alphanumeric());
    match text.chars().take(NAME_MAX).map(fitting).collect::<String>() {
        name if name.is_empty() => "worker".to_owned(),
        name => name,
    }
}

fn name_of(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{text}` is not a name: write 1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit"
    ))
}

/// Whether a text can be part of a path, of a key and of a metric label.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= NAME_MAX
        && text.bytes().all(allowed)
        && text
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_named_by_what_is_a_name_in_its_hosts() {
        for (host, name) in [
            ("ip-10-0-0-7", "ip-10-0-0-7"),
            ("db1.eu_west", "db1.eu_west"),
            ("-größe 1", "gr--e-1"),
            ("", "worker"),
            ("...", "worker"),
            (&"h".repeat(99), &"h".repeat(NAME_MAX)),
        ] {
            assert_eq!(as_name(host), name);
            assert!(is_name(&as_name(host)), "{host}");
        }
        assert!(is_name(&host_name()));
    }
}
