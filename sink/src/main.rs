//! `hydrant-sink`: lands a stream in a data lake as Parquet, exactly once.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use hydrant_process::{CommonArgs, Setup};
use hydrant_sink::config::{Config, MORE_KEYS, SinkArgs};
use hydrant_sink::lake::Lakes;
use hydrant_sink::wire;

/// Lands the records of a stream as Parquet in a table of a data lake, each exactly once
///
/// Readers just list the directory of the table. Records that cannot become rows become dead letters beside it, in the
/// same commit. Start as many workers of one --app as you like; even two that believe they own the same shard are safe.
#[derive(Debug, Parser)]
#[command(name = "hydrant-sink", version, after_help = MORE_KEYS)]
struct SinkCli {
    #[command(flatten)]
    sink: SinkArgs,
    /// Print the final summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    let cli: SinkCli = match hydrant_process::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    hydrant_process::main(
        Setup::new("hydrant-sink", &cli.common),
        |layers, problems| {
            let streams = hydrant_consumer::wire::streams(layers, problems);
            let (lakes, readings) = Lakes::read(Arc::new(layers.clone()));
            problems.take(readings);
            Config::read(&cli.sink, (&streams, &lakes), layers, problems)
        },
        async |process, config| wire::run(process, config, cli.json).await,
    )
}
