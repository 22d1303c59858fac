//! Joins the producer to a process: progress line, report, exit.

use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::{Context, Error, Result, clock, disk};
use hydrant_process::Process;
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::Config;
use crate::input::files::own_files::OwnFiles;
use crate::report::{Counters, RunReport};

/// How often the progress line changes.
const PROGRESS: Duration = Duration::from_millis(200);

/// Runs the producer of a process and reports at its end: a table on standard error, or JSON on
/// standard output.
///
/// # Errors
/// As [`crate::run()`]; also when the report cannot be written.
pub async fn produce(process: Process, config: Config, json: bool) -> Result<()> {
    let counters = Arc::new(Counters::default());
    let bar = bar(&config);
    let report_path = config.report.clone();
    if let Some(path) = &report_path {
        if OwnFiles::belongs_to_ledger(&config, path) {
            return Err(Error::refused(format!(
                "the report `{}` would take the place of the ledger: name another file",
                path.display()
            )));
        }
        // Found out now rather than after hours of work.
        check_directory(&process.context, path).await?;
    }
    process.ready.set();
    let running = crate::run(
        config,
        &process.context,
        process.shutdown.clone(),
        Some(Arc::clone(&counters)),
    );
    let ticking = async {
        loop {
            show(&bar, &counters);
            clock::sleep(PROGRESS).await;
        }
    };
    let report = tokio::select! {
        biased;
        report = running => report,
        () = ticking => unreachable!("the progress line has no end of its own"),
    };
    bar.finish_and_clear();
    let report = report?;
    if let Some(path) = report_path {
        write_report(&process.context, &path, &report).await?;
    }
    if json {
        process.stdout.json(&report)
    } else {
        // When standard error is closed, the table is not wanted.
        drop(std::io::Write::write_all(
            &mut std::io::stderr().lock(),
            report.table().as_bytes(),
        ));
        Ok(())
    }
}

fn bar(config: &Config) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match config.records() {
        Some(records) => (
            ProgressBar::new(records),
            "{bar:30} {human_pos}/{human_len} records stored, {per_sec}, {msg}, {eta} left",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {human_pos} records stored, {per_sec}, {msg}",
        ),
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.with_style(style)
}

fn show(bar: &ProgressBar, counters: &Counters) {
    bar.set_position(counters.durable());
    bar.set_message(format!(
        "{} MB, {} refused",
        counters.bytes() / 1_000_000,
        counters.refused()
    ));
}

async fn check_directory(context: &Context, path: &std::path::Path) -> Result<()> {
    match context.disk.stat(path).await {
        Ok(Some(stat)) if stat.is_dir => {
            return Err(Error::refused(format!(
                "the report `{}` is a directory: name a file in it",
                path.display()
            )));
        }
        // What else is wrong with the path is said below, or when the report is written.
        Ok(_) | Err(_) => {}
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => return Ok(()),
    };
    match context.disk.stat(parent).await {
        Ok(Some(stat)) if stat.is_dir => Ok(()),
        Ok(_) => Err(Error::refused(format!(
            "the directory of the report `{}` does not exist: create it first",
            path.display()
        ))),
        Err(error) => Err(Error::io("look at", parent, error)),
    }
}

async fn write_report(context: &Context, path: &std::path::Path, report: &RunReport) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(report)
        .map_err(|error| Error::fatal(format!("cannot write the report as JSON: {error}")))?;
    text.push(b'\n');
    if disk::is_special(path) {
        // A device is written to; a file that was renamed over it would take its place.
        return std::fs::OpenOptions::new()
            .append(true)
            .open(path)
            .and_then(|mut device| device.write_all(&text))
            .map_err(|error| Error::io("write to", path, error));
    }
    let nonce = context.random.identity();
    disk::replace_file(
        &*context.for_results().disk,
        path,
        Bytes::from(text),
        &nonce,
    )
    .await
    .map_err(|error| Error::io("write", path, error))
}
