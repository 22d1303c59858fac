//! `hydrant-producer`: device telemetry into a stream.

use std::process::ExitCode;

use clap::Parser;
use hydrant_core::process::{self, CommonArgs, Setup};
use hydrant_producer::config::{Config, ProducerArgs};
use hydrant_producer::wire;

/// Sends simulated device records, or the lines of a file or of standard input, into a stream
///
/// With --name and --ledger a restart goes on where the last run ended and every record is stored
/// exactly once, also after `kill -9`. Lines piped through standard input (`--input -`) must then be
/// piped again from their start: those that are stored already are passed over.
#[derive(Debug, Parser)]
#[command(name = "hydrant-producer", version)]
struct Cli {
    #[command(flatten)]
    producer: ProducerArgs,
    /// Print the final report to standard output as JSON, instead of a table to standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    let cli: Cli = match process::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    process::main(
        Setup::new("hydrant-producer", &cli.common),
        |layers, problems| Config::read(&cli.producer, layers, problems),
        async |process, config| wire::produce(process, config, cli.json).await,
    )
}
