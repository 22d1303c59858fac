//! `hydrant lake ...`: what lies in a lake, and whether it is right.

use clap::{Args, Subcommand};
use hydrant_core::lake::SharedLake;
use hydrant_core::{Context, Error, Result};
use hydrant_sink::lake::{TableNames, open_read};
use hydrant_sink::schema::Reader;
use hydrant_sink::verify::{self, Depth, Problem, Report};
use serde::Serialize;

use crate::output::{Output, bytes_text, count_text, table};

/// What to do with a lake.
#[derive(Debug, Subcommand)]
pub(crate) enum LakeCommand {
    /// Lists tables, or the partitions of one
    Ls {
        /// The lake, such as `file:data/lake`
        url: String,
        /// The table whose partitions are listed
        #[arg(long)]
        table: Option<String>,
    },
    /// Checks that a table holds exactly what its commit records say
    Verify {
        #[command(flatten)]
        place: Place,
        /// Compare names and sizes only, and read no file
        #[arg(long)]
        quick: bool,
    },
    /// Shows the schema of a table, or the line that reads it
    Schema {
        #[command(flatten)]
        place: Place,
        /// Print the line to paste into `duckdb`, `polars` or `pyarrow`
        #[arg(long = "for", value_name = "READER", value_parser = parse_reader)]
        reader: Option<Reader>,
    },
    /// Prints the first rows of a table as JSON lines
    Head {
        #[command(flatten)]
        place: Place,
        /// How many rows
        #[arg(long, default_value_t = 10)]
        rows: usize,
    },
}

/// A table of a lake.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The lake, such as `file:data/lake`
    url: String,
    /// The table
    #[arg(long, default_value = "events")]
    table: String,
}

impl Place {
    async fn open(&self, context: &Context) -> Result<(SharedLake, TableNames)> {
        Ok((
            open_read(&self.url, context).await?,
            TableNames::try_new(&self.table)?,
        ))
    }

    /// Where readers find the table.
    fn location(&self) -> String {
        let root = self.url.strip_prefix("file:").unwrap_or(&self.url);
        let root = root.strip_prefix("//").unwrap_or(root);
        format!("{}/{}", root.trim_end_matches('/'), self.table)
    }
}

fn parse_reader(text: &str) -> std::result::Result<Reader, String> {
    text.parse()
}

/// Runs one command.
pub(crate) async fn run(command: LakeCommand, context: &Context, output: &Output) -> Result<()> {
    match command {
        LakeCommand::Ls { url, table: None } => {
            let tables = verify::tables(&open_read(&url, context).await?).await?;
            output.print(&tables, || {
                let mut text = table(&["table", "partitions", "files", "size"]);
                for summary in &tables {
                    text.add_row(vec![
                        summary.table.clone(),
                        count_text(summary.partitions),
                        count_text(summary.files),
                        bytes_text(summary.bytes),
                    ]);
                }
                text.to_string()
            })
        }
        LakeCommand::Ls {
            url,
            table: Some(name),
        } => {
            let lake = open_read(&url, context).await?;
            let partitions = verify::partitions(&lake, &TableNames::try_new(&name)?).await?;
            output.print(&partitions, || {
                let mut text = table(&["partition", "files", "size"]);
                for partition in &partitions {
                    text.add_row(vec![
                        partition.path.clone(),
                        count_text(partition.files),
                        bytes_text(partition.bytes),
                    ]);
                }
                text.to_string()
            })
        }
        LakeCommand::Verify { place, quick } => {
            let (lake, names) = place.open(context).await?;
            let report = verify::verify(&lake, &names, Depth { contents: !quick }).await?;
            let verified = Verified {
                ok: report.is_good(),
                report: &report,
            };
            output.print(&verified, || text_of(&report))?;
            if verified.ok {
                return Ok(());
            }
            let count = report.problems.len();
            Err(Error::fatal(format!(
                "table `{}` is not sound: {count} problems",
                place.table
            )))
        }
        LakeCommand::Schema { place, reader } => {
            let (lake, names) = place.open(context).await?;
            let schema = verify::schema(&lake, &names).await?;
            if let Some(reader) = reader {
                return output
                    .stdout()
                    .line(schema.render(reader, &place.location()));
            }
            if output.is_json() {
                return output
                    .stdout()
                    .line(String::from_utf8_lossy(&schema.to_json()));
            }
            let mut text = table(&["column", "type"]);
            for column in schema.columns() {
                text.add_row(vec![column.name.clone(), column.kind.to_string()]);
            }
            output.stdout().line(text)
        }
        LakeCommand::Head { place, rows } => {
            let (lake, names) = place.open(context).await?;
            for row in verify::head(&lake, &names, rows).await? {
                output.stdout().line(row)?;
            }
            Ok(())
        }
    }
}

#[derive(Serialize)]
struct Verified<'a> {
    ok: bool,
    #[serde(flatten)]
    report: &'a Report,
}

/// A verification for people.
pub(crate) fn text_of(report: &Report) -> String {
    let mut counts = table(&["", "count"]);
    let rows: [(&str, u64); 7] = [
        ("units in", report.input),
        ("rows", report.rows),
        ("dead letters", report.dead_letters),
        ("dropped by rule", report.dropped),
        ("duplicates", report.duplicates),
        ("files", report.files),
        (
            "commit records",
            report.chains.iter().map(|chain| chain.records).sum(),
        ),
    ];
    for (name, count) in rows {
        counts.add_row(vec![name.to_owned(), count_text(count)]);
    }
    let mut text = format!(
        "table `{}` ({})\n{counts}\n",
        report.table,
        bytes_text(report.bytes)
    );
    let mut list = |what: &str, problems: &[Problem]| {
        for problem in problems {
            let (kind, place) = (problem.kind.as_str(), &problem.place);
            text.push_str(&format!("{what}: {kind}: {place}: {}\n", problem.detail));
        }
    };
    list("warning", &report.warnings);
    list("problem", &report.problems);
    text.push_str(if report.is_good() {
        "sound: every unit is a row, a dead letter or dropped by a rule, once"
    } else {
        "NOT sound"
    });
    text
}
