//! `hydrant-consumer`: copies a stream to standard output, a file or another stream.

use std::process::ExitCode;

use clap::Parser;
use hydrant_consumer::config::{Config, ConsumerArgs};
use hydrant_consumer::wire;
use hydrant_core::process::{self, CommonArgs, Setup};

/// Copies the records of a stream to standard output, a file or another stream
///
/// Into a file and into another stream each record comes exactly once, to standard output at least once. Without
/// --app no progress is kept in the stream: a file goes on where it ends, standard output starts anew.
#[derive(Debug, Parser)]
#[command(name = "hydrant-consumer", version)]
struct Cli {
    #[command(flatten)]
    consumer: ConsumerArgs,
    /// Print the final summary as JSON, unless records are printed
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
        Setup::new(wire::NAME, &cli.common),
        |layers, problems| Config::read(&cli.consumer, layers, problems),
        async |process, config| wire::run(process, config, cli.json).await,
    )
}
