//! `hydrant stream ...`: creates, reads, reshards and repairs streams.

mod admin;
mod records;
mod reprocess;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hydrant_core::stream::SharedStream;
use hydrant_core::{Error, Position, Result, ShardId};
use hydrant_process::Process;
use hydrant_process::config::{parse_bytes, parse_duration, parse_whole};
use hydrant_stream::Streams;

use crate::output::CommandOutput;

/// The most shards that a new stream may have.
const SHARDS_MAX: u64 = 4096;
/// A message lists at most this many shards one by one.
const SHARDS_LISTED: usize = 16;

/// What to do to a stream.
#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// Creates a stream
    Create(CreateArgs),
    /// Lists the local streams in a directory of this machine
    List {
        /// The directory that holds them, such as `data`
        dir: PathBuf,
    },
    /// Shows shards, tips, sizes and the progress of each app
    Describe {
        /// The stream, such as `local:data/raw`
        url: String,
    },
    /// Appends the lines of standard input
    Put {
        /// The stream, such as `local:data/raw`
        url: String,
        /// The partition key of each line: a field (`a.b`) or a template (`{a}-{b.c}`)
        #[arg(long, value_name = "FIELD|TEMPLATE")]
        key: Option<String>,
    },
    /// Prints one record
    Get {
        /// The stream, such as `local:data/raw`
        url: String,
        /// The shard, as `describe` names it
        shard: String,
        /// The position, as dead letters and `--format json` print it
        position: String,
    },
    /// Prints records as they arrive, and keeps no progress
    Tail(TailArgs),
    /// Splits a shard in two
    Split {
        /// The stream, such as `local:data/raw`
        url: String,
        /// The shard
        shard: String,
        /// The first hash of the upper half [default: the middle]
        #[arg(long, value_name = "HASH", value_parser = parse_hash)]
        at: Option<u128>,
    },
    /// Merges two neighbouring shards
    Merge {
        /// The stream, such as `local:data/raw`
        url: String,
        /// One shard
        a: String,
        /// Its neighbour
        b: String,
    },
    /// Removes old data
    Trim(TrimArgs),
    /// Makes an app send records of the stream again, as new records of its output stream
    Reprocess {
        /// The stream that the app reads
        url: String,
        /// The app, as `describe` names it; stop all its workers first
        #[arg(long, value_name = "NAME")]
        app: String,
        /// The first record to send again, in all shards: `earliest`, `latest` (none), or a time; in one shard only:
        /// `SHARD:POSITION`, which may be repeated
        #[arg(long, value_name = "FROM", default_value = "earliest")]
        from: Vec<String>,
    },
    /// Skips corrupt data that stops a shard; readers report a gap
    Repair {
        /// The stream, such as `local:data/raw`
        url: String,
        /// The shard
        shard: String,
        /// Confirms that the records in the corrupt data are lost
        #[arg(long, required = true)]
        skip: bool,
    },
    /// Removes a stream and everything in it
    Delete {
        /// The stream, such as `local:data/raw`
        url: String,
        /// Confirms that its records are deleted
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// The arguments of `stream create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The stream, such as `local:data/raw`
    url: String,
    /// Number of shards
    #[arg(long, value_name = "N", default_value = "4", value_parser = |text: &str| parse_whole(text, 1..=SHARDS_MAX))]
    shards: u64,
    /// Remove records older than this, such as `7d` [default: keep them]
    #[arg(long, value_name = "DURATION")]
    retention: Option<String>,
    /// Remove the oldest records of a shard beyond this size, such as `10GiB` [default: keep them]
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<String>,
    /// Compression of the log: `lz4`, `zstd` or `none` [default: lz4]
    #[arg(long, value_name = "CODEC")]
    codec: Option<String>,
}

/// The arguments of `stream tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// The stream, such as `local:data/raw`
    url: String,
    /// Where to start: `earliest`, `latest`, or a time such as `2026-11-21T10:00:00Z`
    #[arg(long, value_name = "START", default_value = "latest")]
    start: String,
    /// How to print a record: `ndjson` (its payload, one a line), `json` (one object a line, with position and key)
    /// or `raw` (the bytes of its payload and nothing else) [default: json]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// End at the tip instead of waiting for more records
    #[arg(long)]
    exit_at_end: bool,
}

/// What `stream trim` removes.
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false)]
pub(crate) struct TrimWhat {
    /// Whole segments that hold nothing after this position
    #[arg(long, value_name = "POSITION", group = "what", requires = "shard")]
    up_to: Option<Position>,
    /// Whole segments that arrived longer ago than this, such as `7d`
    #[arg(long, value_name = "DURATION", group = "what", value_parser = parse_duration)]
    older_than: Option<Duration>,
    /// The oldest data of each shard beyond this size, such as `10GiB`
    #[arg(long, value_name = "BYTES", group = "what", value_parser = parse_bytes)]
    to_bytes: Option<u64>,
}

fn parse_hash(text: &str) -> std::result::Result<u128, String> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is not a hash: write a whole number within the range of the shard, which `hydrant stream \
             describe --json` shows"
        )
    })
}

/// Finds the shard of a stream by its name.
async fn shard_of(stream: &SharedStream, name: &str) -> Result<ShardId> {
    let shard = ShardId::new(name);
    let map = stream.shards().await?;
    if map.get(&shard).is_some() {
        return Ok(shard);
    }
    let known: Vec<&str> = map.all().iter().map(|shard| shard.id.as_str()).collect();
    Err(Error::refused(format!(
        "`{}` has no shard `{name}`: it has {}",
        stream.url(),
        some_of(&known),
    )))
}

/// Names for people: all names if they are few, else the first and the last.
fn some_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [first, .., last] if names.len() > SHARDS_LISTED => format!("{first} to {last}"),
        names => names.join(", "),
    }
}

/// The arguments of `stream trim`.
#[derive(Debug, Args)]
pub(crate) struct TrimArgs {
    /// The stream, such as `local:data/raw`
    url: String,
    /// Only this shard [default: all]
    #[arg(long, value_name = "SHARD")]
    shard: Option<String>,
    #[command(flatten)]
    what: TrimWhat,
}

/// What commands reach streams and print results with.
struct StreamCommands<'a> {
    streams: &'a Streams,
    process: &'a Process,
    output: &'a CommandOutput,
}

impl StreamCommands<'_> {
    async fn open(&self, url: &str) -> Result<SharedStream> {
        self.streams.open(url, &self.process.context).await
    }
}

/// Runs one command.
pub(crate) async fn run(
    command: StreamCommand,
    streams: &Streams,
    process: &Process,
    output: &CommandOutput,
) -> Result<()> {
    let commands = StreamCommands {
        streams,
        process,
        output,
    };
    match command {
        StreamCommand::Create(args) => commands.create(&args).await,
        StreamCommand::List { dir } => commands.list(&dir).await,
        StreamCommand::Describe { url } => commands.describe(&url).await,
        StreamCommand::Put { url, key } => commands.put(url, key).await,
        StreamCommand::Get {
            url,
            shard,
            position,
        } => commands.get(&url, &shard, &position).await,
        StreamCommand::Tail(args) => commands.tail(args).await,
        StreamCommand::Split { url, shard, at } => commands.split(&url, &shard, at).await,
        StreamCommand::Merge { url, a, b } => commands.merge(&url, &a, &b).await,
        StreamCommand::Reprocess { url, app, from } => commands.reprocess(&url, &app, &from).await,
        StreamCommand::Trim(args) => commands.trim(&args).await,
        StreamCommand::Repair { url, shard, .. } => commands.repair(&url, &shard).await,
        StreamCommand::Delete { url, .. } => commands.delete(&url).await,
    }
}
