//! Connects the sink to concrete streams and lakes.

use std::fmt;
use std::sync::Arc;

use hydrant_consumer::runtime::{self, RunSpec, Summary};
use hydrant_core::stage::Stage;
use hydrant_core::transform::Transform;
use hydrant_core::{Context, Disposition, Position, Result, Shutdown};
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

/// Prepares a run: opens input and lake, and returns what to run and the sink. With [`SinkParts::behind`] the
/// caller puts the transform in front of the stage; at the end it calls [`Registry::check_again`](crate::schema::registry::Registry::check_again).
///
/// # Errors
/// The input does not appear in time, the lake cannot be opened, or the table contradicts the configuration.
pub async fn prepare(parts: SinkParts, config: &Config) -> Result<(RunSpec, Arc<TableSink>)> {
    hydrant_process::telemetry::describe(METRICS);
    let (context, behind) = (parts.context, parts.behind);
    // The lake is opened first: a mistake in its URL must not wait for the input.
    let (lakes, names) = (config.lakes(), config.names());
    lakes.check_table(config.to(), names, &context).await?;
    let lake = lakes.open(config.to(), &context).await?;
    let input = config.input().open(&parts.shutdown, &context).await?;
    let mut rules = config.rules.clone();
    let digest = behind.as_ref().map(|transform| transform.digest());
    rules.policy = digest.map(str::to_owned);
    let rebuild = Arc::new(SourceRebuild::new(&input, &lake, &context, names, behind));
    let (flush, stream) = (config.flush, input.id().clone());
    let stage =
        TableSink::open(&lake, &context, &stream, names, rules, flush, Some(rebuild)).await?;
    let stage = stage.at(&lakes.locate(config.to(), &context).await?);
    let table = Arc::new(stage);
    let stage = Arc::clone(&table) as Arc<dyn Stage>;
    let spec = config
        .input()
        .run(context, input, parts.app, stage, parts.shutdown);
    Ok((spec, table))
}

/// What a sink did, as its summary prints it.
#[derive(Clone, Debug, Serialize)]
pub struct SinkReport {
    table: String,
    #[serde(flatten)]
    summary: Summary,
    lake: Published,
    #[serde(skip)]
    from: String,
    #[serde(skip)]
    to: String,
}

impl SinkReport {
    /// What the sink read.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Tells of a run that ended. Logs that nothing is lost when it failed.
    ///
    /// # Errors
    /// That of the run.
    pub fn try_new(ended: Result<Summary>, totals: &Totals, config: &Config) -> Result<Self> {
        let lake = totals.published();
        let summary = ended.inspect_err(|error| {
            if error.disposition() != Disposition::Refused {
                tracing::warn!(
                    rows = lake.rows,
                    "the sink stops: the rows that it published stay, and the next start reads all other records again"
                );
            }
        })?;
        Ok(SinkReport {
            table: config.names().table().to_owned(),
            summary,
            lake,
            from: config.input().from().to_owned(),
            to: config.to().to_owned(),
        })
    }
}

impl fmt::Display for SinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (summary, lake) = (&self.summary, &self.lake);
        let shards = counted(summary.shards.len() as u64, "shard");
        let place = format!("table `{}` in {}", self.table, self.to);
        let mut positions = summary.shards.values().map(|shard| shard.to);
        if summary.records == 0 && lake.commits == 0 {
            return match positions.any(|to| to > Position::Begin) {
                true => write!(
                    f,
                    "no new records in {shards} of {}: all are stored in {place} already",
                    self.from
                ),
                false => write!(f, "no records in {shards} of {}", self.from),
            };
        }
        let own = lake.dead_letters.saturating_sub(lake.upstream_dead_letters);
        let mut became = vec![counted(lake.rows, "row"), counted(own, "dead letter")];
        if lake.duplicates > 0 {
            became.push(counted(lake.duplicates, "duplicate"));
        }
        let last = became.pop().unwrap_or_default();
        write!(
            f,
            "{} from {shards} of {}: {} and {last} in {} of {place}",
            counted(summary.records, "record"),
            self.from,
            became.join(", "),
            counted(lake.files, "file"),
        )?;
        for (count, one, what) in [
            (lake.rescued_values, "value", " in `_rescued`"),
            (lake.untimed_rows, "row", " without an event time"),
            (
                lake.upstream_dead_letters,
                "dead letter",
                " of the transform beside them",
            ),
            (lake.dropped, "record", " dropped by a rule before"),
        ] {
            if count > 0 {
                write!(f, "; {}{what}", counted(count, one))?;
            }
        }
        Ok(())
    }
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
    let (mut spec, table) = prepare(parts, &config).await?;
    spec.worker = process.worker.clone();
    process.ready.set();
    let report = SinkReport::try_new(runtime::run(spec).await, &table.totals(), &config)?;
    table.registry().check_again().await?;
    if json {
        process.stdout.json(&report)
    } else {
        process.stdout.line(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_adds_up_and_names_apart_what_others_made() {
        let mut report = SinkReport {
            table: "t".to_owned(),
            summary: Summary::default(),
            lake: Published::default(),
            from: "local:in".to_owned(),
            to: "file:lake".to_owned(),
        };
        assert_eq!(report.to_string(), "no records in 0 shards of local:in");
        let shard = hydrant_core::ShardId::new("000000");
        let summary = report.summary.shards.entry(shard).or_default();
        summary.to = Position::offset(9);
        assert_eq!(
            report.to_string(),
            "no new records in 1 shard of local:in: all are stored in table `t` in file:lake already"
        );
        report.summary.records = 10;
        report.lake = Published {
            rows: 6,
            untimed_rows: 2,
            rescued_values: 1,
            dead_letters: 6,
            upstream_dead_letters: 3,
            dropped: 5,
            duplicates: 1,
            files: 4,
            commits: 1,
            bytes: 1,
        };
        assert_eq!(
            report.to_string(),
            "10 records from 1 shard of local:in: 6 rows, 3 dead letters and 1 duplicate in 4 files of table `t` in \
             file:lake; 1 value in `_rescued`; 2 rows without an event time; 3 dead letters of the transform beside them; \
             5 records dropped by a rule before"
        );
    }
}
