//! Connects the sink to concrete streams and lakes.

use std::sync::Arc;

use hydrant_consumer::runtime::{self, RunSpec, Summary};
use hydrant_core::transform::Transform;
use hydrant_core::{Context, Result, Shutdown};
use hydrant_process::{Process, counted};
use serde::Serialize;

use crate::config::Config;
use crate::shard::rebuild::SourceRebuild;
use crate::shard::totals::{METRICS, Published, Totals};
use crate::table_sink::TableSink;

/// The parts of a run that are not configuration.
#[derive(Clone, Debug)]
pub struct SinkParts {
    /// The name under which progress is kept.
    pub app: String,
    /// Disk, clock, randomness, workers and memory budget.
    pub context: Context,
    /// When to stop.
    pub shutdown: Shutdown,
    /// The transform that records go through in this process before they reach the sink; `None` when the input is read
    /// as it is. A file that vanished before it was visible is rebuilt through this transform and no other: what it
    /// redacts must not come back with a rebuild.
    pub behind: Option<Arc<dyn Transform>>,
}

/// Prepares a run: opens input and lake, and returns what to run and the counters of the sink. With
/// [`SinkParts::behind`] the caller puts the transform in front of the stage.
///
/// # Errors
/// The input does not appear in time, the lake cannot be opened, or the table contradicts the configuration.
pub async fn prepare(parts: SinkParts, config: &Config) -> Result<(RunSpec, Arc<Totals>)> {
    hydrant_process::telemetry::describe(METRICS);
    let (context, behind) = (parts.context, parts.behind);
    // The lake is opened first: a mistake in its URL must not wait for the input.
    let lake = config.lakes().open(config.to(), &context).await?;
    let input = config.input().open(&parts.shutdown, &context).await?;
    let mut rules = config.rules.clone();
    let digest = behind.as_ref().map(|transform| transform.digest());
    rules.policy = digest.map(str::to_owned);
    let names = config.names();
    let rebuild = Arc::new(SourceRebuild::new(&input, &lake, &context, names, behind));
    let (flush, stream) = (config.flush, input.id().clone());
    let stage =
        TableSink::open(&lake, &context, &stream, names, rules, flush, Some(rebuild)).await?;
    let stage = stage.at(&config.lakes().locate(config.to(), &context).await?);
    let totals = stage.totals();
    let stage = Arc::new(stage);
    let spec = config
        .input()
        .run(context, input, parts.app, stage, parts.shutdown);
    Ok((spec, totals))
}

/// The summary that `hydrant-sink` prints.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    table: &'a str,
    #[serde(flatten)]
    summary: &'a Summary,
    lake: Published,
}

/// Runs the sink of a process until its end.
///
/// # Errors
/// As [`prepare`] and the runtime.
pub async fn run(process: Process, config: Config, json: bool) -> Result<()> {
    let parts = SinkParts {
        app: process.app.clone(),
        context: process.context.clone(),
        shutdown: process.shutdown.clone(),
        behind: None,
    };
    let (mut spec, totals) = prepare(parts, &config).await?;
    spec.worker = process.worker.clone();
    process.ready.set();
    let summary = runtime::run(spec).await?;
    let published = totals.published();
    if json {
        let table = config.names().table();
        process.stdout.json(&Printed {
            table,
            summary: &summary,
            lake: published,
        })
    } else {
        process.stdout.line(format!(
            "{} from {} of {}: {} and {} in {} of table `{}` in {}",
            counted(summary.records, "record"),
            counted(summary.shards.len() as u64, "shard"),
            config.input().from(),
            counted(published.rows, "row"),
            counted(published.dead_letters, "dead letter"),
            counted(published.files, "file"),
            config.names().table(),
            config.to(),
        ))
    }
}
