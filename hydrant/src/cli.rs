//! The command line of `hydrant`.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use hydrant_core::{Error, Result};
use hydrant_process::config::{Layers, Problems};
use hydrant_process::{CommonArgs, Process};

use crate::demo::{self, DemoArgs};
use crate::lake::{self, LakeCommand};
use crate::output::CommandOutput;
use crate::pii::{self, PiiCommand};
use crate::run::{self, RunPlan};
use crate::stream::{self, StreamCommand};
use crate::wire::Connections;

/// Carries device telemetry through a sharded stream, strips personal data in flight, and lands it exactly once as
/// Parquet in a data lake
#[derive(Debug, Parser)]
#[command(name = "hydrant", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Print results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Whether `--config` names a second configuration beside that of `run`.
    #[arg(skip)]
    is_configured_twice: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the whole pipeline on simulated devices for some seconds, then verifies the lake
    Demo(DemoArgs),
    /// Runs the stages that a configuration file names, until a signal stops them
    Run {
        /// The configuration, such as `hydrant.toml`
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Creates, reads, reshards and repairs streams
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Lists, verifies and reads tables of a lake
    #[command(subcommand)]
    Lake(LakeCommand),
    /// Strips personal data from lines, checks policies, lists detectors
    #[command(subcommand)]
    Pii(PiiCommand),
    /// Prints shell completions
    Completions {
        /// The shell: `bash`, `elvish`, `fish`, `powershell` or `zsh`
        #[arg(hide_possible_values = true)]
        shell: Shell,
    },
}

/// A command with its configuration.
#[derive(Debug)]
pub(crate) enum ConfiguredCommand {
    /// Run stages.
    Run(Box<RunPlan>),
    /// A command that needs no configuration of stages.
    Command(Command, Connections),
}

impl Cli {
    /// Makes the file that `run` names the configuration of the process.
    pub(crate) fn with_run_file(mut self) -> Self {
        if let Command::Run { file } = &self.command {
            let other = self.common.config.replace(file.clone());
            self.is_configured_twice = other.is_some();
        }
        self
    }

    /// Reads the configuration that the command needs.
    pub(crate) fn configure(
        self,
        layers: &Layers,
        problems: &mut Problems,
    ) -> Option<ConfiguredCommand> {
        if self.is_configured_twice {
            problems.push(
                "flag `--config`",
                "cannot be combined with FILE, which is already the configuration of `run`: leave `--config` out",
            );
        }
        match self.command {
            Command::Run { .. } => {
                RunPlan::read(layers, problems).map(|plan| ConfiguredCommand::Run(Box::new(plan)))
            }
            command @ (Command::Stream(_) | Command::Lake(_)) => {
                let connections = Connections::read(layers, problems);
                Some(ConfiguredCommand::Command(command, connections))
            }
            other => Some(ConfiguredCommand::Command(other, Connections::default())),
        }
    }

    /// The default log level: commands that print a result log warnings only.
    pub(crate) fn log_level(&self) -> &'static str {
        match self.command {
            Command::Run { .. } => "info",
            _ => "warn",
        }
    }
}

/// Runs a command.
pub(crate) async fn work(process: Process, work: ConfiguredCommand, json: bool) -> Result<()> {
    let output = CommandOutput::new(process.stdout.clone(), json);
    match work {
        ConfiguredCommand::Run(plan) => run::run(&process, *plan, &output).await,
        ConfiguredCommand::Command(Command::Demo(args), _) => {
            demo::run(&process, args, &output).await
        }
        ConfiguredCommand::Command(Command::Stream(command), connections) => {
            stream::run(command, &connections.streams, &process, &output).await
        }
        ConfiguredCommand::Command(Command::Lake(command), connections) => {
            lake::run(command, &connections.lakes, &process.context, &output).await
        }
        ConfiguredCommand::Command(Command::Pii(command), _) => {
            pii::run(command, &process, &output).await
        }
        ConfiguredCommand::Command(Command::Completions { shell }, _) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hydrant", &mut script);
            process.stdout.bytes(&script)
        }
        ConfiguredCommand::Command(Command::Run { .. }, _) => Err(Error::fatal(
            "`run` reached its command without a configuration: report this",
        )),
    }
}
