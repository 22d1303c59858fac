//! `hydrant-producer`: device telemetry into a stream.

use std::process::ExitCode;

use clap::Parser;
use hydrant_core::process::{self, CommonArgs, Setup};
use hydrant_producer::config::{Config, ProducerArgs};
use hydrant_producer::wire;

/// Sends simulated device records, or those of files or of standard input, into a stream
///
/// With --name and --ledger a restart goes on in each file where the last run ended and every record is stored exactly
/// once, also after `kill -9` and across rotation. What is piped through standard input (`--input -`) must then be piped
/// again from its start: what is stored already is passed over. With --follow files are followed until a signal comes.
///
/// Inputs hold a JSON record a line, an array, or documents one after another (`--format`), plain, gzip or zstd, in
/// UTF-8, UTF-16 or UTF-32. A record may have 8 MiB with its key, 64 levels, and field names of 256 bytes.
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
