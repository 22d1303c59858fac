//! `hydrant lake ...`: lists, verifies and reads the tables of a lake.

mod figures;
mod removal;

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Args, Subcommand};
use hydrant_core::error::OrCannot as _;
use hydrant_core::lake::SharedLake;
use hydrant_core::{Context, Error, Result};
use hydrant_process::config::parse_whole;
use hydrant_sink::inspect;
use hydrant_sink::lake::{Lakes, RescuedCount, TableNames};
use hydrant_sink::schema::{
    Column, ColumnType, PROVENANCE_COLUMNS, QueryEngine, RESCUED_COLUMN, TableSchema, registry,
};
use hydrant_sink::table::event_time::UntimedReason;
use hydrant_sink::table::spec::Spec;
use hydrant_sink::verify::{self, Depth, LISTED_MAX, ProblemKind, TableProblem, TableReport};
use serde::Serialize;
use serde_json::json;

use self::figures::CatArgs;
use self::removal::{ExpireArgs, RetentionArgs};
use crate::output::{CommandOutput, bytes_text, count_text, counted, printable, table};

/// What to do with a lake.
#[derive(Debug, Subcommand)]
pub(crate) enum LakeCommand {
    /// Lists tables, or the partitions of one
    Ls {
        /// The lake, such as `file:data/lake`
        url: String,
        /// The table whose partitions are listed
        #[arg(long, value_name = "NAME")]
        table: Option<String>,
    },
    /// Checks that a table holds exactly what its commit records list
    Verify {
        #[command(flatten)]
        place: TableArgs,
        /// Compare names and sizes only, without reading files
        #[arg(long)]
        quick: bool,
    },
    /// Shows the schema of a table, or code that reads the table
    Schema {
        #[command(flatten)]
        place: TableArgs,
        /// Print what to paste into `duckdb`, `polars`, `pyarrow`, `spark` or `athena`
        #[arg(long = "for", value_name = "READER")]
        reader: Option<QueryEngine>,
        /// Print the declarations for `[sink.columns]` that the values suggest
        #[arg(long, conflicts_with = "reader")]
        suggest: bool,
    },
    /// Prints rows of a table as JSON lines, all or those that meet a condition
    Cat(CatArgs),
    /// Shows rows, bytes, nulls and small files of a table, and what no column took
    Stats {
        #[command(flatten)]
        place: TableArgs,
    },
    /// Removes files of a table for good, such as a day or a partition
    Expire(ExpireArgs),
    /// Shows or declares how long the rows of a table are kept
    Retention(RetentionArgs),
    /// Prints the first rows of a table as JSON lines
    Head {
        #[command(flatten)]
        place: TableArgs,
        /// How many rows
        #[arg(long, value_name = "N", default_value = "10", value_parser = |text: &str| parse_whole(text, 0..=u64::MAX))]
        rows: u64,
    },
}

/// The arguments that name a table of a lake.
#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// The lake, such as `file:data/lake`
    url: String,
    /// The table
    #[arg(long, value_name = "NAME", default_value = "events")]
    table: String,
}

impl TableArgs {
    async fn open(&self, lakes: &Lakes, context: &Context) -> Result<(SharedLake, TableNames)> {
        Ok((
            lakes.open_read(&self.url, context).await?,
            TableNames::try_new(&self.table)?,
        ))
    }

    /// The path or URL at which readers find the table.
    fn location(&self) -> Result<String> {
        location(&self.url, &self.table)
    }
}

/// The path or URL at which readers find a table. A path is absolute: Spark would look for another one in its warehouse.
pub(crate) fn location(url: &str, table: &str) -> Result<String> {
    let root = match url.strip_prefix("file:") {
        None => url.to_owned(),
        Some(path) => {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            let root = path.canonicalize().or_cannot("find", path)?;
            root.display().to_string()
        }
    };
    Ok(format!("{}/{table}", root.trim_end_matches('/')))
}

/// Runs one command.
pub(crate) async fn run(
    command: LakeCommand,
    lakes: &Lakes,
    context: &Context,
    output: &CommandOutput,
) -> Result<()> {
    match command {
        LakeCommand::Ls { url, table: None } => {
            let tables = verify::tables(&lakes.open_read(&url, context).await?).await?;
            if tables.is_empty() {
                return Err(Error::NotFound {
                    message: format!(
                        "`{url}` has no tables: it is not a lake, or no sink has published to it yet"
                    ),
                });
            }
            output.print(&tables, || {
                let rows = tables.iter().map(|summary| {
                    vec![
                        summary.table.clone(),
                        count_text(summary.partitions),
                        count_text(summary.files),
                        bytes_text(summary.bytes),
                    ]
                });
                table(&["table", ">partitions", ">files", ">size"], rows)
            })
        }
        LakeCommand::Ls {
            url,
            table: Some(name),
        } => {
            let lake = lakes.open_read(&url, context).await?;
            let partitions = verify::partitions(&lake, &TableNames::try_new(&name)?).await?;
            output.print(&partitions, || {
                let rows = partitions.iter().map(|partition| {
                    let (files, bytes) = (count_text(partition.files), bytes_text(partition.bytes));
                    vec![partition.path.clone(), files, bytes]
                });
                table(&["partition", ">files", ">size"], rows)
            })
        }
        LakeCommand::Verify { place, quick } => {
            let (lake, names) = place.open(lakes, context).await?;
            let report = verify::verify(
                &lake,
                &names,
                Depth {
                    contents: !quick,
                    now: Some(context.clock.wall_micros()),
                },
            )
            .await?;
            let verified = Verified {
                ok: report.is_good(),
                report: &report,
            };
            output.print(&verified, || text_of(&report))?;
            if verified.ok {
                return Ok(());
            }
            let problems = counted(report.problem_count(), "problem");
            Err(Error::fatal(format!(
                "table `{}` failed verification: {problems}, listed above",
                place.table
            )))
        }
        LakeCommand::Cat(args) => figures::cat(&args, lakes, context, output).await,
        LakeCommand::Stats { place } => figures::stats(&place, lakes, context, output).await,
        LakeCommand::Schema {
            place,
            reader,
            suggest,
        } => {
            let (lake, names) = place.open(lakes, context).await?;
            let schema = verify::schema(&lake, &names).await?;
            if suggest {
                let now = context.clock.wall_micros();
                let suggestions = inspect::suggestions(&lake, &names, &schema, now).await?;
                return output.print(&suggestions, || figures::suggestions_text(&suggestions));
            }
            if let Some(reader) = reader {
                let mut line = schema.render(reader, &place.location()?);
                if matches!(reader, QueryEngine::Spark | QueryEngine::Athena) {
                    let widened = registry::widened(&lake, &names, &schema).await?;
                    if reader == QueryEngine::Spark && Spec::any_modern(&lake, &names).await? {
                        line.insert_str(
                            0,
                            "-- files of this table are of the profile `modern`, which Spark up to 4.1 reads only after:\n\
                             SET spark.sql.parquet.enableVectorizedReader=false;\n",
                        );
                    }
                    if !widened.is_empty() {
                        let columns = Vec::from_iter(widened).join(", ");
                        line += &format!(
                            "\n-- Spark, Trino and Athena do not read these columns, which are BIGINT in older files: {columns}; \
                             declare them as DOUBLE in a new table"
                        );
                    }
                }
                return output.print(&json!({ "line": line }), || line.clone());
            }
            let rescued = inspect::rescued(&lake, &names).await?;
            let report = SchemaReport {
                schema: &schema,
                rescued_column: RESCUED_COLUMN,
                rescued: &rescued,
            };
            output.print(&report, || {
                let columns = columns_text(&schema);
                match rescued.is_empty() {
                    true => columns,
                    false => format!("{columns}\n{}", figures::rescued_text(&rescued)),
                }
            })
        }
        LakeCommand::Expire(args) => removal::remove(&args, lakes, context, output).await,
        LakeCommand::Retention(args) => removal::retain(&args, lakes, context, output).await,
        LakeCommand::Head { place, rows } => {
            let (lake, names) = place.open(lakes, context).await?;
            figures::print_rows(&lake, &names, None, rows, output).await?;
            Ok(())
        }
    }
}

/// The columns of a table for people. The fields of a struct follow it, indented, a row each. After the columns of the
/// records come those that say where a row came from, and those that readers take from the directories.
fn columns_text(schema: &TableSchema) -> String {
    let mut rows = Vec::new();
    add_columns(&mut rows, &schema.columns, "");
    let rescued = "VARCHAR (values that no column took, as JSON text)".to_owned();
    rows.push(vec![RESCUED_COLUMN.to_owned(), rescued]);
    if schema.provenance {
        for (name, kind) in PROVENANCE_COLUMNS {
            let kind = format!("{kind} (provenance)");
            rows.push(vec![name.to_owned(), kind]);
        }
    }
    for column in &schema.partition_columns {
        let kind = format!("{}, of the directory", column.kind);
        rows.push(vec![column.name.clone(), kind]);
    }
    table(&["column", "type"], rows)
}

fn add_columns(rows: &mut Vec<Vec<String>>, columns: &[Column], indent: &str) {
    for column in columns {
        let (mut kind, mut lists) = (&column.kind, 0);
        while let ColumnType::List(item) = kind {
            (kind, lists) = (&item.kind, lists + 1);
        }
        let brackets = "[]".repeat(lists);
        let name = format!("{indent}{}", column.name);
        match kind {
            ColumnType::Struct(fields) => {
                let count = counted(fields.len() as u64, "field");
                rows.push(vec![name, format!("STRUCT{brackets}, {count}")]);
                add_columns(rows, fields, &format!("{indent}  "));
            }
            kind => {
                let why = column.why.as_ref().map(|why| format!(" ({why})"));
                rows.push(vec![
                    name,
                    format!("{kind}{brackets}{}", why.unwrap_or_default()),
                ]);
            }
        }
    }
}

#[derive(Serialize)]
struct SchemaReport<'a> {
    #[serde(flatten)]
    schema: &'a TableSchema,
    /// The column behind those of the records, a VARCHAR that every table has.
    rescued_column: &'static str,
    rescued: &'a [RescuedCount],
}

#[derive(Serialize)]
struct Verified<'a> {
    ok: bool,
    #[serde(flatten)]
    report: &'a TableReport,
}

/// A verification for people.
pub(crate) fn text_of(report: &TableReport) -> String {
    let records = report.chains.iter().map(|chain| chain.records).sum();
    let mut rows = vec![
        ("records in", report.units.input),
        ("rows", report.units.rows),
    ];
    for (reason, count) in &report.untimed_rows {
        let name = match reason {
            UntimedReason::Missing => "  without an event time",
            UntimedReason::Unreadable => "  with an unreadable event time",
            UntimedReason::TooEarly => "  with an event time before 2000",
            UntimedReason::TooLate => "  with an event time ahead",
        };
        rows.push((name, *count));
    }
    if report.rescued_values > 0 {
        rows.push(("  values in `_rescued`", report.rescued_values));
    }
    let (expired, lost) = (report.expired, report.lost);
    let gone = |rows: &mut Vec<_>, expired: u64, lost: u64| {
        let gone = [("  expired since", expired), ("  lost", lost)];
        rows.extend(gone.into_iter().filter(|(_, count)| *count > 0));
    };
    gone(&mut rows, expired.rows, lost.rows);
    rows.push(("dead letters", report.units.dead_letters));
    gone(&mut rows, expired.dead_letters, lost.dead_letters);
    rows.extend([
        ("dropped by rule", report.units.dropped),
        ("duplicates", report.units.duplicates),
        ("files", report.files),
        ("commit records", records),
    ]);
    let rows = rows.into_iter();
    let rows = rows.map(|(name, count)| vec![name.to_owned(), count_text(count)]);
    let counts = table(&["", ">count"], rows);
    let mut text = format!(
        "table `{}` ({})\n{counts}\n",
        report.table,
        bytes_text(report.bytes)
    );
    let mut list = |what: &str, problems: &[TableProblem], counts: &BTreeMap<ProblemKind, u64>| {
        for problem in problems {
            let (kind, place, detail) = (problem.kind, &problem.place, &problem.detail);
            let line = format!("{what}: {kind}: {place}: {detail}");
            text.push_str(&printable(&line));
            text.push('\n');
        }
        for (kind, count) in counts {
            let more = count.saturating_sub(LISTED_MAX as u64);
            if more > 0 {
                let more = count_text(more);
                text.push_str(&format!("{what}: {kind}: and {more} more\n"));
            }
        }
    };
    list("warning", &report.warnings, &report.warning_counts);
    list("problem", &report.problems, &report.problem_counts);
    for remedy in &report.remedies {
        text.push_str(&format!("what to do: {}\n", printable(remedy)));
    }
    let gaps = report.warning_counts.get(&ProblemKind::Gap).copied();
    let once = "every record that was read is a row, a dead letter or dropped by a rule, once";
    let lost = lost.rows.saturating_add(lost.dead_letters);
    let verdict = match gaps.unwrap_or_default() {
        _ if !report.is_good() => "NOT sound".to_owned(),
        _ if lost > 0 => format!(
            "sound, but {} lost with files that vanished, see above; each other one that was read is a row, a dead letter \
             or dropped by a rule, once",
            counted(lost, "record")
        ),
        0 => format!("sound: {once}"),
        gaps => format!(
            "sound, but records were removed from the stream before they were read, in {}: {once}",
            counted(gaps, "gap")
        ),
    };
    text.push_str(&verdict);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: &str) -> Column {
        Column::new(name, kind.parse().unwrap())
    }

    #[test]
    fn a_wide_schema_fits_and_names_every_field() {
        let fields: Vec<String> = (0..100)
            .map(|n| format!("\"notify {n} with quite a long name of its own\" VARCHAR[]"))
            .collect();
        let columns = [
            column("plain", "DECIMAL(9,2)"),
            column("notify", &format!("STRUCT({})[]", fields.join(", "))),
            column(&"x".repeat(300), "STRUCT(a STRUCT(b BIGINT))"),
        ];
        let mut rows = Vec::new();
        add_columns(&mut rows, &columns, "");
        let text = table(&["column", "type"], rows);
        assert!(
            text.lines().all(|line| line.chars().count() <= 120),
            "{text}"
        );
        assert!(text.contains("STRUCT[], 100 fields"), "{text}");
        assert!(text.contains("STRUCT, 1 field "), "{text}");
        assert!(text.contains("  notify 99 with quite"), "{text}");
        assert!(text.contains("    b "), "{text}");
    }
}
