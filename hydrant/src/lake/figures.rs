//! `hydrant lake cat`, `stats` and `schema --suggest`: what a table holds.

use clap::Args;
use hydrant_core::lake::SharedLake;
use hydrant_core::{Context, Result};
use hydrant_process::config::parse_whole;
use hydrant_sink::inspect::{self, CONDITION_GRAMMAR, RowFilter, RowsRead, Suggestion, TableStats};
use hydrant_sink::lake::{Lakes, RescuedCount, TableNames};
use hydrant_sink::verify;

use super::TableArgs;
use crate::output::{CommandOutput, bytes_text, count_text, counted, path_text, table};

/// How many partitions, columns and paths are shown to people; `--json` has all.
const SHOWN_MAX: usize = 40;

/// The arguments of `cat`.
#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    place: TableArgs,
    /// Which rows, such as `region = 'eu' AND temp >= 20 AND _rescued IS NOT NULL`
    #[arg(long = "where", value_name = "CONDITION", long_help = where_help())]
    filter: Option<RowFilter>,
    /// The most rows to print
    #[arg(long, value_name = "N", default_value = "1000", value_parser = |text: &str| parse_whole(text, 0..=u64::MAX))]
    rows: u64,
}

fn where_help() -> String {
    format!(
        "Which rows, such as `region = 'eu' AND meta.at >= '2026-11-30 09:30' AND _rescued IS NOT NULL`: {CONDITION_GRAMMAR}. \
         Times are read in the forms that event times have, in UTC without a zone"
    )
}

/// Prints rows as JSON lines.
pub(super) async fn cat(
    args: &CatArgs,
    lakes: &Lakes,
    context: &Context,
    output: &CommandOutput,
) -> Result<()> {
    let (lake, names) = args.place.open(lakes, context).await?;
    let read = print_rows(&lake, &names, args.filter.as_ref(), args.rows, output).await?;
    if read.is_cut {
        output.note(&format!(
            "stopped after {}, the most that `--rows` allows: there are more rows to look at",
            counted(read.rows, "row")
        ));
    }
    Ok(())
}

/// Prints up to so many rows of a table that exists.
pub(super) async fn print_rows(
    lake: &SharedLake,
    names: &TableNames,
    filter: Option<&RowFilter>,
    most: u64,
    output: &CommandOutput,
) -> Result<RowsRead> {
    verify::check_table(lake, names).await?;
    let stdout = output.stdout();
    let mut take = |row: &str| stdout.line(row);
    inspect::rows(lake, names, filter, most, &mut take).await
}

/// Prints the figures of a table.
pub(super) async fn stats(
    place: &TableArgs,
    lakes: &Lakes,
    context: &Context,
    output: &CommandOutput,
) -> Result<()> {
    let (lake, names) = place.open(lakes, context).await?;
    verify::check_table(&lake, &names).await?;
    let stats = inspect::stats(&lake, &names).await?;
    output.print(&stats, || stats_text(&stats))
}

fn stats_text(stats: &TableStats) -> String {
    let mut text = format!(
        "{} in {}, {}; {} smaller than {}\n",
        counted(stats.rows, "row"),
        counted(stats.files, "file"),
        bytes_text(stats.bytes),
        count_text(stats.small_files),
        bytes_text(stats.small_file_bytes),
    );
    let mut add = |header: &[&str], what: &str, rows: Vec<Vec<String>>| {
        if rows.is_empty() {
            return;
        }
        let more = rows.len().saturating_sub(SHOWN_MAX);
        text.push_str(&table(header, rows.into_iter().take(SHOWN_MAX)));
        text.push('\n');
        if more > 0 {
            let more = counted(more as u64, what);
            text.push_str(&format!("and {more} more, which `--json` shows\n"));
        }
    };
    let mut partitions: Vec<_> = stats.partitions.iter().collect();
    partitions.sort_by_key(|partition| std::cmp::Reverse(partition.small_files));
    let partitions = partitions.into_iter().map(|partition| {
        vec![
            partition.path.clone(),
            count_text(partition.rows),
            count_text(partition.files),
            count_text(partition.small_files),
            bytes_text(partition.bytes),
        ]
    });
    let header = ["partition", ">rows", ">files", ">small", ">size"];
    add(&header, "partition", partitions.collect());
    let columns = stats.columns.iter().map(|column| {
        let share = column
            .null_share
            .map(|share| format!("{:.1} %", share * 100.0));
        vec![
            column.path.clone(),
            count_text(column.values),
            share.unwrap_or_default(),
            bytes_text(column.bytes),
        ]
    });
    add(
        &["column", ">values", ">null", ">size"],
        "column",
        columns.collect(),
    );
    add(&RESCUED, "path", rescued_rows(&stats.rescued));
    text
}

/// The columns of the table of rescued values.
const RESCUED: [&str; 3] = ["rescued from", "reason", ">values"];

fn rescued_rows(rescued: &[RescuedCount]) -> Vec<Vec<String>> {
    let rows = rescued.iter().map(|rescued| {
        let (path, reason) = (path_text(&rescued.path), rescued.reason.clone());
        vec![path, reason, count_text(rescued.values)]
    });
    rows.collect()
}

/// The most frequent rescued values, for people.
pub(super) fn rescued_text(rescued: &[RescuedCount]) -> String {
    table(&RESCUED, rescued_rows(rescued).into_iter().take(SHOWN_MAX))
}

/// The declarations that a table suggests, as the lines of a configuration file.
pub(super) fn suggestions_text(suggestions: &[Suggestion]) -> String {
    if suggestions.is_empty() {
        return "# nothing to declare: the columns hold what their types say".to_owned();
    }
    let mut text =
        "# For a new table: files that are there keep their types.\n[sink.columns]\n".to_owned();
    for Suggestion { path, kind, why } in suggestions {
        let line = toml::Table::from_iter([(path.clone(), kind.as_str().into())]).to_string();
        text.push_str(&format!("{}  # {why}\n", line.trim_end()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggested_declarations_are_toml_whatever_the_names_hold() {
        let paths = [
            "plain",
            "a.b",
            "\"geo.time\"",
            "it's",
            "\"it's\"\"[]\"",
            "ä\\n\u{7f}#",
            "l[]",
        ];
        let suggestions = paths.map(|path| Suggestion {
            path: path.to_owned(),
            kind: "TIMESTAMP".to_owned(),
            why: "all are times".to_owned(),
        });
        let text = suggestions_text(&suggestions);
        let read: toml::Table = text.parse().unwrap();
        let columns = read["sink"]["columns"].as_table().unwrap();
        let mut wanted = paths.to_vec();
        wanted.sort_unstable();
        let mut found: Vec<&str> = columns.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "{text}");
    }
}
