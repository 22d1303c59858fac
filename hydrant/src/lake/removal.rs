//! `hydrant lake expire` and `hydrant lake retention`: what leaves a table on purpose.

use std::time::Duration;

use clap::Args;
use hydrant_core::lake::SharedLake;
use hydrant_core::{Context, Error, Result};
use hydrant_process::config::parse_duration_within;
use hydrant_sink::inspect::RowFilter;
use hydrant_sink::lake::{
    ExpiredFiles, GivenUpFiles, Lakes, TableNames, TableRetention, WhatExpires, expire,
    give_up_missing,
};
use hydrant_sink::table::event_time::parse_rfc3339;
use hydrant_sink::verify;
use serde::Serialize;
use serde_json::json;

use super::TableArgs;
use crate::output::{CommandOutput, bytes_text, counted, moment_text, printable, table};

/// The shortest retention: event times are believed up to a day ahead.
const RETENTION_MIN: Duration = Duration::from_secs(86_400);

/// What to remove.
#[derive(Debug, Args)]
pub(crate) struct ExpireArgs {
    #[command(flatten)]
    place: TableArgs,
    #[command(flatten)]
    what: ExpireWhat,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Confirms a `--before` that leaves no row in the table
    #[arg(long, requires = "before")]
    yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ExpireWhat {
    /// Remove files of which all rows are older than this day or time (UTC), and such dead letters
    #[arg(long, value_name = "DATE", value_parser = time_of)]
    before: Option<i64>,
    /// Remove the files of this partition, such as `date=2026-11-01`; of several, those with all of these values.
    /// Rows without a value lie in `COLUMN=__HIVE_DEFAULT_PARTITION__` and stay: they are counted
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = value_of)]
    partition: Vec<(String, String)>,
    /// Remove what is past the declared retention
    #[arg(long)]
    past_retention: bool,
    /// Accept that files were removed by hand; run it before a sink starts
    #[arg(long)]
    missing: bool,
}

/// What to declare.
#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    #[command(flatten)]
    place: TableArgs,
    /// Declare that rows may be gone when they are older than this, such as `90d`
    #[arg(long, value_name = "TIME", value_parser = retention_of, conflicts_with = "clear")]
    set: Option<Duration>,
    /// Declare that rows are kept for ever
    #[arg(long)]
    clear: bool,
}

fn time_of(text: &str) -> Result<i64, String> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    parse_rfc3339(whole.as_bytes()).ok_or_else(|| {
        format!("`{text}` is not a day or a time: write `2026-11-01` or `2026-11-01T12:00:00Z`")
    })
}

fn value_of(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => Ok((column.to_owned(), value.to_owned())),
        _ => Err(format!(
            "`{text}` is not a partition: write `date=2026-11-01`"
        )),
    }
}

fn retention_of(text: &str) -> Result<Duration, String> {
    let retention = parse_duration_within(text, &(RETENTION_MIN..=Duration::MAX));
    let retention = retention.map_err(|error| error.to_string())?;
    Ok(Duration::from_secs(retention.as_secs()))
}

impl TableArgs {
    /// Opens an existing table for writing: a mistake in the URL must not make a lake.
    async fn open_to_change(
        &self,
        lakes: &Lakes,
        context: &Context,
    ) -> Result<(SharedLake, TableNames)> {
        let (lake, names) = self.open(lakes, context).await?;
        verify::check_table(&lake, &names).await?;
        Ok((lakes.open(&self.url, context).await?, names))
    }
}

#[derive(Serialize)]
struct Removal<T: Serialize> {
    table: String,
    dry_run: bool,
    #[serde(flatten)]
    removed: T,
}

/// Removes files of a table, or accepts that they were removed.
pub(super) async fn remove(
    args: &ExpireArgs,
    lakes: &Lakes,
    context: &Context,
    output: &CommandOutput,
) -> Result<()> {
    let (what, dry_run) = (&args.what, args.dry_run);
    let (lake, names) = match dry_run {
        true => {
            let (lake, names) = args.place.open(lakes, context).await?;
            verify::check_table(&lake, &names).await?;
            (lake, names)
        }
        false => args.place.open_to_change(lakes, context).await?,
    };
    let table = names.table().to_owned();
    if what.missing {
        let removed = give_up_missing(&lake, &names, dry_run, context).await?;
        let removal = Removal {
            table,
            dry_run,
            removed,
        };
        return output.print(&removal, || given_up_text(&removal));
    }
    let expires = match (what.before, what.past_retention) {
        (Some(before), _) => WhatExpires::Before(before),
        (None, true) => WhatExpires::Before(past(&lake, &names, context).await?),
        (None, false) => WhatExpires::Partition(what.partition.clone()),
    };
    if what.before.is_some() && !dry_run && !args.yes {
        let would = expire(&lake, &names, &expires, true, context).await?;
        if would.rows > 0 && would.kept_files == 0 {
            return Err(Error::refused(format!(
                "this removes all {} of table `{table}`, for good: add `--yes` if that is meant; `--dry-run` shows what goes",
                counted(would.rows, "row")
            )));
        }
    }
    let removed = expire(&lake, &names, &expires, dry_run, context).await?;
    let removal = Removal {
        table,
        dry_run,
        removed,
    };
    output.print(&removal, || {
        let mut text = expired_text(&removal, &expires);
        if removal.removed.default_rows > 0 {
            text.push_str(&default_rows_text(removal.removed.default_rows, args));
        }
        text
    })
}

/// What to do about rows that may be meant by a partition, but lie in the default one.
fn default_rows_text(rows: u64, args: &ExpireArgs) -> String {
    let TableArgs { url, table } = &args.place;
    let mut text = format!(
        "{} in the default partition stay, which may be meant: a value that a directory cannot give back, such as text where \
         the column is BIGINT, or a key in other case, is in `_rescued`. Look at them with\n",
        counted(rows, "row"),
    );
    for (column, _) in &args.what.partition {
        let condition = RowFilter::is_null(column).replace('\'', "'\\''");
        text.push_str(&format!(
            "  hydrant lake cat {url} --table {table} --where '{condition}'\n"
        ));
    }
    text.push_str("and remove them all with COLUMN=__HIVE_DEFAULT_PARTITION__ as the partition\n");
    text
}

/// The time before which rows are past the declared retention.
async fn past(lake: &SharedLake, names: &TableNames, context: &Context) -> Result<i64> {
    let retention = TableRetention::read(lake, names).await?;
    let Some(retention) = retention.current() else {
        return Err(Error::refused(format!(
            "no retention is declared for table `{}`: declare one with `hydrant lake retention {} --table {} --set 90d`",
            names.table(),
            lake.url(),
            names.table(),
        )));
    };
    let kept = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
    Ok(context.clock.wall_micros().saturating_sub(kept))
}

/// How many partitions and values are named.
const NAMED_MAX: usize = 10;

/// The first names of some, and how many more there are.
fn named<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let names = names.take(NAMED_MAX).map(|name| printable(name));
    let names = names.collect::<Vec<_>>().join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

fn expired_text(removal: &Removal<ExpiredFiles>, what: &WhatExpires) -> String {
    let removed = &removal.removed;
    let would = if removal.dry_run {
        "would remove"
    } else {
        "removed"
    };
    let mut text = format!(
        "{would} {} ({}) of table `{}` with {} and {}\n",
        counted(removed.files, "file"),
        bytes_text(removed.bytes),
        removal.table,
        counted(removed.rows, "row"),
        counted(removed.dead_letters, "dead letter"),
    );
    for absent in &removed.not_found {
        let (column, value) = (&absent.column, &absent.value);
        text.push_str(&match absent.there_are.is_empty() {
            true => format!("no file lies in {column}={value}: the table has no files\n"),
            false => format!(
                "no file lies in {column}={value}; there are: {}\n",
                named(absent.there_are.iter())
            ),
        });
    }
    if let WhatExpires::Partition(values) = what
        && removed.files == 0
        && removed.not_found.is_empty()
    {
        let values = values
            .iter()
            .map(|(column, value)| format!("{column}={value}"));
        let values = values.collect::<Vec<_>>().join(" and ");
        text.push_str(&format!("no file lies in {values} at once\n"));
    }
    if removed.mixed_files > 0 {
        let places = removed
            .mixed_partitions
            .iter()
            .filter(|path| !path.is_empty());
        let places: Vec<&String> = places.collect();
        let (places, way_out) = match places.is_empty() {
            true => (String::new(), ""),
            false => (
                format!(" (in {})", named(places.into_iter())),
                ", or `--partition` removes a partition with all that is in it",
            ),
        };
        text.push_str(&format!(
            "{}{places} may hold such rows besides newer ones and stay, because files are removed whole: a later time removes \
             them once all that they hold is older{way_out}\n",
            counted(removed.mixed_files, "file")
        ));
    }
    if removed.uploads > 0 {
        text.push_str(&format!(
            "removed {} that dead sinks had left\n",
            counted(removed.uploads, "upload")
        ));
    }
    text
}

fn given_up_text(removal: &Removal<GivenUpFiles>) -> String {
    let removed = &removal.removed;
    let would = if removal.dry_run {
        "would accept"
    } else {
        "accepted"
    };
    let mut text = format!(
        "{would} that {} of table `{}` with {} and {} are gone\n",
        counted(removed.files, "file"),
        removal.table,
        counted(removed.rows, "row"),
        counted(removed.dead_letters, "dead letter"),
    );
    if removed.unfinished_files > 0 {
        text.push_str(&format!(
            "{} not visible yet: start the sink, which finishes that\n",
            are(removed.unfinished_files)
        ));
    }
    if removed.rebuilt_files > 0 {
        text.push_str(&format!(
            "{} being made again by a sink: remove them with `hydrant lake expire`\n",
            are(removed.rebuilt_files)
        ));
    }
    text
}

fn are(files: u64) -> String {
    let are = if files == 1 { "is" } else { "are" };
    format!("{} {are}", counted(files, "file"))
}

/// Declares the retention of a table, and shows it.
pub(super) async fn retain(
    args: &RetentionArgs,
    lakes: &Lakes,
    context: &Context,
    output: &CommandOutput,
) -> Result<()> {
    let (lake, names) = match args.set.is_some() || args.clear {
        true => {
            let (lake, names) = args.place.open_to_change(lakes, context).await?;
            let now = context.clock.wall_micros();
            TableRetention::declare(&lake, &names, args.set, now, &context.random).await?;
            (lake, names)
        }
        false => {
            let (lake, names) = args.place.open(lakes, context).await?;
            verify::check_table(&lake, &names).await?;
            (lake, names)
        }
    };
    let retention = TableRetention::read(&lake, &names).await?;
    let (current, since) = (retention.current(), retention.since());
    let shown = json!({
        "table": names.table(),
        "retention_seconds": current.map(|current| current.as_secs()),
        "since": since.map(|since| moment_text(Some(since))),
    });
    output.print(&shown, || {
        let kept = match current {
            None => "for ever".to_owned(),
            Some(current) => {
                let days = current.as_secs() as f64 / 86_400.0;
                format!("{days} days by event time")
            }
        };
        table(
            &["table", "rows are kept", "declared"],
            [vec![names.table().to_owned(), kept, moment_text(since)]],
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_times_and_partitions_are_read_or_refused_with_what_to_write() {
        assert_eq!(time_of("1970-01-02"), Ok(86_400_000_000));
        assert_eq!(time_of("1970-01-01T01:00:00+01:00"), Ok(0));
        for text in ["", "tomorrow", "2026-13-01", "2026-11-01T", "ä-ö-ü-ß-12"] {
            assert!(
                time_of(text).unwrap_err().contains("write `2026-11-01`"),
                "{text}"
            );
        }
        let value = ("region".to_owned(), "a=b".to_owned());
        assert_eq!(value_of("region=a=b"), Ok(value));
        assert!(value_of("=x").is_err() && value_of("x").is_err());
        assert_eq!(retention_of("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert!(retention_of("23h").unwrap_err().contains("1d"));
    }
}
