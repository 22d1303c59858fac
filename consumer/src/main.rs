//! `hydrant-consumer`: copies a stream to standard output, a file or another stream.

use std::process::ExitCode;

use clap::Parser;
use hydrant_consumer::config::{Config, ConsumerArgs};
use hydrant_consumer::wire;
use hydrant_process::{CommonArgs, Setup};

/// Copies the records of a stream to standard output, a file or another stream
///
/// Into another stream each record comes exactly once, to standard output and into a file at least once. A copy into
/// a stream continues where its --app is (hydrant-consumer, unless you name another one). A copy to standard output
/// or into a file keeps no progress, starts from the start, and takes only a file that is absent or empty, unless you
/// name an --app: then it continues where the app is, and appends to the file. Workers of one --app share the shards.
/// Copies into several outputs at the same time need a name each.
#[derive(Debug, Parser)]
#[command(name = "hydrant-consumer", version)]
struct ConsumerCli {
    #[command(flatten)]
    consumer: ConsumerArgs,
    /// Print the final summary as JSON, unless records are printed
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    let cli: ConsumerCli = match hydrant_process::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    hydrant_process::main(
        Setup::new(wire::NAME, &cli.common),
        |layers, problems| {
            let streams = wire::streams(layers, problems);
            Config::read(&cli.consumer, &streams, layers, problems)
        },
        async |process, config| wire::run(process, config, cli.json).await,
    )
}
