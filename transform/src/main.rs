//! `hydrant-transform`: strips personal data from a stream into another.

use std::process::ExitCode;

use clap::Parser;
use hydrant_process::{CommonArgs, Setup};
use hydrant_transform::config::{Config, MORE_KEYS, TransformArgs};
use hydrant_transform::wire;

/// Strips personal data from the records of a stream and writes them to another, each exactly once
///
/// A record is passed on only when all of it was scanned. What cannot be processed becomes a dead letter
/// without payload, which ends in the lake's dead letters. Start as many workers of one --app as you like.
#[derive(Debug, Parser)]
#[command(name = "hydrant-transform", version, after_help = MORE_KEYS)]
struct TransformCli {
    #[command(flatten)]
    transform: TransformArgs,
    /// Print the final summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    let cli: TransformCli = match hydrant_process::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    hydrant_process::main(
        Setup::new("hydrant-transform", &cli.common),
        |layers, problems| {
            let streams = hydrant_consumer::wire::streams(layers, problems);
            Config::read(&cli.transform, &streams, layers, problems)
        },
        async |process, config| wire::run(process, config, cli.json).await,
    )
}
