//! `hydrant demo`: runs the whole pipeline on simulated devices and verifies the lake.
//!
//! One directory holds everything: streams, lake, key, policy, and the configuration with which `hydrant run` does the
//! same. The demo succeeds only if the lake verifies and each record sent is a row or a dead letter, exactly once.

mod directory;
mod sample;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hydrant_core::{Error, Result, clock};
use hydrant_process::Process;
use hydrant_process::config::parse_whole;
use hydrant_process::telemetry::Metrics;
use hydrant_producer::Counters;
use hydrant_sink::lake::{Lakes, TableNames};
use hydrant_sink::schema::QueryEngine;
use hydrant_sink::verify::{self, Depth};
use serde::Serialize;

use crate::lake::{location, text_of};
use crate::output::{CommandOutput, counted};
use crate::run::{Done, Pipeline};
use directory::DemoDir;
use sample::Sample;
use view::{Numbers, View};

/// The table of the demo.
const TABLE: &str = "events";

/// The arguments of the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many seconds the devices send
    #[arg(long, value_name = "N", default_value = "10", value_parser = |text: &str| parse_whole(text, 1..=86_400))]
    seconds: u64,
    /// Where everything goes: a new or empty directory [default: a new temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Records per second
    #[arg(long, value_name = "N", default_value = "50000", value_parser = |text: &str| parse_whole(text, 1..=1_000_000_000))]
    rate: u64,
    /// Number of devices
    #[arg(long, value_name = "N", default_value = "1000", value_parser = |text: &str| parse_whole(text, 1..=10_000_000))]
    devices: u64,
}

/// The result of the demo.
#[derive(Debug, Serialize)]
struct DemoReport<'a> {
    verified: bool,
    sent: u64,
    rows: u64,
    dead_letters: u64,
    dropped: u64,
    findings: u64,
    files: u64,
    bytes: u64,
    seconds: f64,
    dir: &'a str,
    lake: &'a str,
    query: &'a str,
    samples: &'a [Sample],
}

/// Runs the demo.
pub(crate) async fn run(process: &Process, args: DemoArgs, output: &CommandOutput) -> Result<()> {
    let context = &process.context;
    let place = DemoDir::prepare(args.dir, context).await?;
    let plan = place.plan(args.rate, args.devices)?;
    let metrics = Metrics::install(&context.budget)?;
    let counters = Arc::new(Counters::default());
    let mut view = View::new(output, &place, args.seconds)?;

    let started = clock::now();
    let until = started + Duration::from_secs(args.seconds);
    let mut pipeline = Pipeline::start(process, plan, &counters);
    process.ready.set();
    tokio::select! {
        biased;
        () = process.shutdown.draining() => {}
        () = clock::sleep_until(Some(until)) => {}
        ended = pipeline.failed() => ended?,
        () = view.watch(&counters, &metrics, started) => {}
    }
    view.carrying_on();
    let mut done = Done::default();
    tokio::select! {
        biased;
        finished = pipeline.finish(&mut done) => finished?,
        () = view.watch(&counters, &metrics, started) => {}
    }
    let seconds = (clock::now() - started).as_secs_f64();
    view.end();

    let lake = Lakes::default()
        .open_read(&place.lake_url(), context)
        .await?;
    let names = TableNames::try_new(TABLE)?;
    let report = verify::verify(&lake, &names, Depth::default()).await?;
    let sent = done.producer.as_ref().map_or(0, |report| report.stored);
    let accounted = report.units.rows + report.units.dead_letters + report.units.dropped;
    let verified = report.is_good() && accounted == sent && sent > 0;
    let samples = sample::collect(&place, TABLE, context).await?;
    let location = location(&place.lake_url(), TABLE)?;
    let schema = verify::schema(&lake, &names).await?;
    let query = format!(
        "duckdb -c \"{}\"",
        schema.render(QueryEngine::DuckDb, &location)
    );
    let findings = Numbers::read(&counters, &metrics).findings;
    let (dir, lake_url) = (place.dir.display().to_string(), place.lake_url());
    let result = DemoReport {
        verified,
        sent,
        rows: report.units.rows,
        dead_letters: report.units.dead_letters,
        dropped: report.units.dropped,
        findings,
        files: report.files,
        bytes: report.bytes,
        seconds,
        dir: &dir,
        lake: &lake_url,
        query: &query,
        samples: &samples,
    };
    output.print(&result, || {
        let mut text = text_of(&report);
        text.push_str(&format!(
            "\n{} sent, {} of personal data replaced, in {seconds:.1} s\n\n",
            counted(sent, "record"),
            counted(findings, "finding"),
        ));
        text.push_str("before and after stripping:\n");
        for sample in &samples {
            text.push_str(&format!("  - {}\n  + {}\n", sample.before, sample.after));
        }
        text.push_str(&format!(
            "\n{}\n\nask the lake:\n  {query}\n",
            place.contents()
        ));
        text
    })?;
    if verified {
        Ok(())
    } else {
        Err(Error::fatal(format!(
            "the lake does not verify: {} sent, {accounted} accounted for, {}",
            counted(sent, "record"),
            counted(report.problem_count(), "problem"),
        )))
    }
}
