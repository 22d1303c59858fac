//! `hydrant stream ...`: what an operator does to a stream.

mod admin;
mod past_corrupt;
mod records;
mod reprocess;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hydrant_core::Result;
use hydrant_core::process::Process;

use crate::output::Output;

/// What to do to a stream.
#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// Makes a stream
    Create(CreateArgs),
    /// Lists the streams in a directory
    List {
        /// The directory
        dir: PathBuf,
    },
    /// Shows shards, tips, sizes and the progress of each app
    Describe {
        /// The stream, such as `local:data/raw`
        url: String,
    },
    /// Appends the lines of standard input
    Put {
        /// The stream
        url: String,
        /// The partition key of each line: a field (`a.b`) or a template (`{a}-{b.c}`)
        #[arg(long)]
        key: Option<String>,
    },
    /// Prints one record
    Get {
        /// The stream
        url: String,
        /// The shard, as `describe` names it
        shard: String,
        /// The position, as dead letters and `--format json` print it
        position: String,
    },
    /// Prints records as they arrive, without leaving a trace in the stream
    Tail {
        /// The stream
        url: String,
        /// Where to start: `earliest`, `latest`, or a time such as `2026-11-21T10:00:00Z`
        #[arg(long, default_value = "latest")]
        start: String,
        /// How to print a record: `ndjson`, `json` or `raw`
        #[arg(long, default_value = "json")]
        format: String,
        /// End when the tip is reached instead of waiting for more
        #[arg(long)]
        exit_at_end: bool,
    },
    /// Splits a shard in two
    Split {
        /// The stream
        url: String,
        /// The shard
        shard: String,
        /// The first hash of the upper half (default: the middle)
        #[arg(long)]
        at: Option<u128>,
    },
    /// Merges two neighbouring shards
    Merge {
        /// The stream
        url: String,
        /// One shard
        a: String,
        /// Its neighbour
        b: String,
    },
    /// Removes old data
    Trim(TrimArgs),
    /// Has an app send records of the stream again, as new ones, into the stream that it writes
    Reprocess {
        /// The stream that the app reads
        url: String,
        /// The app, as `describe` names it; all its workers are stopped
        #[arg(long)]
        app: String,
        /// The first record that is sent again, in all shards: `earliest`, `latest` (none), or a time; or in one shard
        /// only: `SHARD:POSITION`, which may be repeated
        #[arg(long, default_value = "earliest")]
        from: Vec<String>,
    },
    /// Skips corrupt data that stops a shard; readers are told of the gap
    Repair {
        /// The stream
        url: String,
        /// The shard
        shard: String,
        /// Confirms that the records in the corrupt place are given up
        #[arg(long, required = true)]
        skip: bool,
    },
    /// Removes a stream and everything in it
    Delete {
        /// The stream
        url: String,
        /// Confirms that its records are given up
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// How a stream is made.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The stream, such as `local:data/raw`
    url: String,
    /// Number of shards
    #[arg(long, default_value_t = 4)]
    shards: u32,
    /// Records older than this are removed, such as `7d` (default: kept)
    #[arg(long, value_parser = humantime::parse_duration)]
    retention: Option<Duration>,
    /// The oldest records of a shard beyond this size are removed, such as `10GiB` (default: kept)
    #[arg(long)]
    retention_bytes: Option<bytesize::ByteSize>,
    /// Compression of the log: `lz4`, `zstd` or `none`
    #[arg(long, default_value = "lz4")]
    codec: String,
}

/// What to remove.
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false)]
pub(crate) struct TrimWhat {
    /// Everything up to this position that can go
    #[arg(long, group = "what", requires = "shard")]
    after: Option<String>,
    /// Everything that arrived longer ago than this, such as `7d`
    #[arg(long, group = "what", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// The oldest data beyond this size a shard, such as `10GiB`
    #[arg(long, group = "what")]
    to_bytes: Option<bytesize::ByteSize>,
}

/// Where and what to remove.
#[derive(Debug, Args)]
pub(crate) struct TrimArgs {
    /// The stream
    url: String,
    /// Only this shard (default: all)
    #[arg(long)]
    shard: Option<String>,
    #[command(flatten)]
    what: TrimWhat,
}

/// Runs one command.
pub(crate) async fn run(command: StreamCommand, process: &Process, output: &Output) -> Result<()> {
    let context = &process.context;
    match command {
        StreamCommand::Create(args) => admin::create(&args, context, output).await,
        StreamCommand::List { dir } => admin::list(&dir, context, output).await,
        StreamCommand::Describe { url } => admin::describe(&url, context, output).await,
        StreamCommand::Put { url, key } => records::put(url, key, process, output).await,
        StreamCommand::Get {
            url,
            shard,
            position,
        } => records::get(&url, &shard, &position, process, output).await,
        StreamCommand::Tail {
            url,
            start,
            format,
            exit_at_end,
        } => records::tail(&url, &start, &format, exit_at_end, process).await,
        StreamCommand::Split { url, shard, at } => {
            admin::split(&url, &shard, at, context, output).await
        }
        StreamCommand::Merge { url, a, b } => admin::merge(&url, &a, &b, context, output).await,
        StreamCommand::Reprocess { url, app, from } => {
            reprocess::run(&url, &app, &from, context, output).await
        }
        StreamCommand::Trim(args) => admin::trim(&args, context, output).await,
        StreamCommand::Repair { url, shard, .. } => {
            admin::repair(&url, &shard, context, output).await
        }
        StreamCommand::Delete { url, .. } => admin::delete(&url, context, output).await,
    }
}
