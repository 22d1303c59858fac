//! The live view: shows what each stage has done, how fast, and how far behind it is.

use std::time::Duration;

use hydrant_core::clock::{self, Instant};
use hydrant_core::{Error, Result};
use hydrant_process::telemetry::Metrics;
use hydrant_producer::Counters;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::directory::DemoDir;
use crate::output::{CommandOutput, bytes_text, count_text};

/// The time between two updates of the view.
const EVERY: Duration = Duration::from_millis(250);

/// What the stages have done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    sent: u64,
    sent_bytes: u64,
    transformed: u64,
    quarantined: u64,
    pub(super) findings: u64,
    rows: u64,
    files: u64,
    lake_bytes: u64,
}

impl Numbers {
    /// Reads counters and metrics.
    pub(super) fn read(counters: &Counters, metrics: &Metrics) -> Self {
        let total = |name: &str| metrics.total(name) as u64;
        Numbers {
            sent: counters.durable(),
            sent_bytes: counters.bytes(),
            transformed: total("hydrant_transform_records_total"),
            quarantined: total("hydrant_transform_quarantined_records_total"),
            findings: total("hydrant_transform_findings_total"),
            rows: total("hydrant_sink_rows_total"),
            files: total("hydrant_sink_files_total"),
            lake_bytes: total("hydrant_sink_bytes_total"),
        }
    }
}

/// Three lines on the terminal; nothing where standard error is not a terminal.
pub(super) struct View {
    lines: Option<[ProgressBar; 3]>,
    before: (Duration, Numbers),
}

impl View {
    /// Starts the view.
    pub(super) fn new(output: &CommandOutput, place: &DemoDir, seconds: u64) -> Result<Self> {
        use std::io::IsTerminal;
        let mut view = View {
            lines: None,
            before: (Duration::ZERO, Numbers::default()),
        };
        if output.is_json() {
            return Ok(view);
        }
        let dir = place.dir.display();
        output.stdout().line(format!(
            "simulated devices -> raw stream -> personal data stripped -> clean stream -> Parquet, for {seconds} s\n\
             everything goes to {dir}"
        ))?;
        if !std::io::stderr().is_terminal() {
            return Ok(view);
        }
        let style = ProgressStyle::with_template("{prefix:>10} {msg}")
            .map_err(|error| Error::fatal(error.to_string()))?;
        let all = MultiProgress::new();
        let line = |name: &'static str| {
            all.add(
                ProgressBar::new_spinner()
                    .with_style(style.clone())
                    .with_prefix(name),
            )
        };
        view.lines = Some([line("producer"), line("transform"), line("sink")]);
        Ok(view)
    }

    /// Shows the numbers again and again, and never returns.
    pub(super) async fn watch(&mut self, counters: &Counters, metrics: &Metrics, started: Instant) {
        loop {
            self.show(&Numbers::read(counters, metrics), clock::now() - started);
            clock::sleep(EVERY).await;
        }
    }

    /// Shows the numbers `elapsed` after the start.
    fn show(&mut self, now: &Numbers, elapsed: Duration) {
        let (then, before) = std::mem::replace(&mut self.before, (elapsed, *now));
        let Some([producer, transform, sink]) = &self.lines else {
            return;
        };
        let seconds = (elapsed - then).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| {
            count_text((now.saturating_sub(before) as f64 / seconds) as u64)
        };
        producer.set_message(format!(
            "{:>14} records   {:>10}/s   {} stored",
            count_text(now.sent),
            rate(now.sent, before.sent),
            bytes_text(now.sent_bytes),
        ));
        transform.set_message(format!(
            "{:>14} records   {:>10}/s   {} behind, {} findings replaced, {} quarantined",
            count_text(now.transformed),
            rate(now.transformed, before.transformed),
            count_text(now.sent.saturating_sub(now.transformed)),
            count_text(now.findings),
            count_text(now.quarantined),
        ));
        sink.set_message(format!(
            "{:>14} rows      {:>10}/s   {} behind, {} files, {}",
            count_text(now.rows),
            rate(now.rows, before.rows),
            count_text(now.transformed.saturating_sub(now.rows + now.quarantined)),
            count_text(now.files),
            bytes_text(now.lake_bytes),
        ));
    }

    /// Freezes the line of the producer: the devices have stopped, and the rest is on its way to the lake.
    pub(super) fn carrying_on(&self) {
        if let Some([producer, ..]) = &self.lines {
            producer.abandon();
        }
    }

    /// Leaves the last numbers on the terminal.
    pub(super) fn end(&self) {
        for line in self.lines.iter().flatten() {
            line.abandon();
        }
    }
}
