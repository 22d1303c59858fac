//! `hydrant pii ...`: runs the PII engine on lines, without streams.

mod check;
mod input;
mod run;

use std::path::PathBuf;

use clap::Subcommand;
use hydrant_core::{Error, Result};
use hydrant_process::Process;

use crate::output::CommandOutput;
use crate::wire;

/// What to do with the engine.
#[derive(Debug, Subcommand)]
pub(crate) enum PiiCommand {
    /// Strips personal data from the lines of standard input
    Run {
        /// The policy, a TOML file [default: the built-in `strict`]
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// File to write one JSON line per finding to; findings never hold the value
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Checks a policy: prints every mistake in it, or its name, key and digest
    Check {
        /// The policy, a TOML file
        file: PathBuf,
    },
    /// Lists the detectors
    Detectors,
}

/// Runs one command.
pub(crate) async fn run(
    command: PiiCommand,
    process: &Process,
    output: &CommandOutput,
) -> Result<()> {
    match command {
        PiiCommand::Run { policy, report } => {
            let policy = wire::policy(process, policy.as_deref())?;
            let shutdown = process.shutdown.clone();
            let strip = move || run::strip(policy, report.as_deref(), &shutdown);
            let summary = process.context.workers.run(strip).await??;
            if output.is_json() {
                eprint_line(&serde_json::to_string(&summary).unwrap_or_default());
            } else {
                eprint_line(&summary.text());
            }
            Ok(())
        }
        PiiCommand::Check { file } => {
            let policy = wire::policy(process, Some(&file))?;
            check::check(&policy, output)
        }
        PiiCommand::Detectors => check::detectors(output),
    }
}

/// Prints the summary of `pii run` to standard error, because standard output holds the lines.
#[allow(
    clippy::print_stderr,
    reason = "a result for people beside the lines on standard output"
)]
fn eprint_line(text: &str) {
    eprintln!("{text}");
}

/// The error of a failed write of `what`.
fn write_error(what: &str, error: &std::io::Error) -> Error {
    Error::fatal(format!("cannot write {what}: {error}"))
}
