//! `hydrant-producer`: sends device telemetry into a stream.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use hydrant_process::{CommonArgs, Setup};
use hydrant_producer::config::{Config, ProducerArgs};
use hydrant_producer::wire;
use hydrant_stream::Streams;

/// Sends the records of files, of standard input, or of a simulated fleet of devices into a stream
///
/// With --name and --ledger, a restart continues in each file where the last run ended, and every record is stored exactly
/// once, even after `kill -9` and across rotation. Standard input (`--input -`) must then be piped again from its start:
/// what is already stored is passed over. With --follow, files are followed until a signal comes (SIGTERM or Ctrl-C).
///
/// An input holds one JSON record a line, a JSON array, or JSON documents one after another (see --format). It may be
/// compressed (gzip, zstd), and is UTF-8, UTF-16 or UTF-32. A record may have up to 8 MiB with its key (see
/// --record-bytes), nest 64 levels deep, and have field names of up to 256 bytes.
#[derive(Debug, Parser)]
#[command(name = "hydrant-producer", version)]
struct ProducerCli {
    #[command(flatten)]
    producer: ProducerArgs,
    /// Print the final report to standard output as JSON, instead of a table to standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    let cli: ProducerCli = match hydrant_process::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    hydrant_process::main(
        Setup::new("hydrant-producer", &cli.common),
        |layers, problems| {
            let (streams, readings) = Streams::read(Arc::new(layers.clone()));
            problems.take(readings);
            Config::read(&cli.producer, &streams, layers, problems)
        },
        async |process, config| wire::produce(process, config, cli.json).await,
    )
}
