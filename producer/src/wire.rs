//! Joins the producer to concrete streams, files and the terminal.

use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hydrant_core::stream::SharedStream;
use hydrant_core::{Context, Error, Result, clock, disk};
use hydrant_process::Process;
use hydrant_stream::{CreateOptions, StreamUrl};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::{Config, Files, Origin, SHARDS_DEFAULT};
use crate::input::{file, glob};
use crate::report::{Counters, Report};
use crate::{ledger, source};

/// How often the progress line changes.
const PROGRESS: Duration = Duration::from_millis(200);

/// Opens the stream; a local one is made when it does not exist, and what it is made for does.
///
/// # Errors
/// When the URL is not one of a stream, or the stream is not there and cannot be made, or would be made for an input or
/// a ledger that does not fit.
pub async fn open(config: &Config, context: &Context) -> Result<SharedStream> {
    match hydrant_stream::open(config.to(), context).await {
        Err(Error::NotFound { .. }) if config.to().starts_with("local:") => {
            check(config, context).await?;
            let options = CreateOptions {
                shards: config.shards.unwrap_or(SHARDS_DEFAULT as u32),
                ..CreateOptions::default()
            };
            tracing::info!(
                url = config.to(),
                shards = options.shards,
                "the stream does not exist and is made"
            );
            // Another producer may make it at the same time.
            hydrant_stream::open_or_create(config.to(), options, context).await
        }
        Ok(stream) => {
            if config.shards.is_some() {
                tracing::info!(
                    url = config.to(),
                    "the stream exists already: `--shards` has no effect"
                );
            }
            Ok(stream)
        }
        Err(error) => Err(error),
    }
}

/// Refuses what does not fit, before a stream is made for it: files that are not there, and a ledger that is, since it
/// is about another stream.
async fn check(config: &Config, context: &Context) -> Result<()> {
    if let Origin::Files(files) = &config.origin {
        let files = files.clone();
        context.workers.run(move || check_files(&files)).await??;
    }
    if let Some(who) = &config.remembered {
        let StreamUrl::Local { dir } = StreamUrl::parse(config.to())?;
        let input = source::identity(config);
        ledger::check_without_stream(context, &who.ledger, &who.name, &input, &dir).await?;
    }
    Ok(())
}

fn check_files(files: &Files) -> Result<()> {
    let paths = files.inputs.iter().filter(|input| input.as_os_str() != "-");
    for path in paths {
        if !files.follow && (path.exists() || !glob::is_pattern(path)) {
            file::check(path)?;
        }
    }
    Ok(())
}

/// Runs the producer of a process and reports at its end: a table on standard error, or JSON on
/// standard output.
///
/// # Errors
/// As [`crate::run()`]; also when the report cannot be written.
pub async fn produce(process: Process, config: Config, json: bool) -> Result<()> {
    let counters = Arc::new(Counters::default());
    let bar = bar(&config);
    let report_path = config.report().cloned();
    if let Some(path) = &report_path {
        // Found out now rather than after hours of work.
        check_directory(&process.context, path).await?;
    }
    process.ready.set(true);
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
            "the directory of the report `{}` does not exist: make it first",
            path.display()
        ))),
        Err(error) => Err(Error::io("look at", parent, error)),
    }
}

async fn write_report(context: &Context, path: &std::path::Path, report: &Report) -> Result<()> {
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
