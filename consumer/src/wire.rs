//! Connects a copy to concrete streams and targets.

use std::sync::Arc;

use hydrant_core::disk::is_special;
use hydrant_core::lease::OutputId;
use hydrant_core::stage::Stage;
use hydrant_core::transform::Transform;
use hydrant_core::{Context, Result, Shutdown, places};
use hydrant_process::config::{Layers, Problems};
use hydrant_process::{Process, Stdout, count_text, counted};
use hydrant_stream::Streams;
use hydrant_stream::delivery::{Keys, deliver};
use serde::Serialize;

use crate::config::{Config, CopyTarget};
use crate::copy::{
    self, CopyCounts, CopyTally, DeviceText, FileText, PrintStage, Printer, RecordFilter,
};
use crate::runtime::{self, RunSpec, Summary};
use crate::transform_stage::TransformStage;

/// The name of the binary, and of its app unless another one is given.
pub const NAME: &str = "hydrant-consumer";

/// The streams of a process, as its configuration says.
pub fn streams(layers: &Layers, problems: &mut Problems) -> Streams {
    let (streams, readings) = Streams::read(Arc::new(layers.clone()));
    problems.take(readings);
    streams
}

/// The parts of a run apart from its configuration.
#[derive(Clone, Debug)]
pub struct CopyParts {
    /// The name under which progress is kept in the input. Without one, a copy into a stream uses [`NAME`]; other
    /// copies keep no progress and start at the start each time.
    pub app: Option<String>,
    /// Disk, time, chance, computation and memory.
    pub context: Context,
    /// The shutdown of the process.
    pub shutdown: Shutdown,
    /// Standard output.
    pub stdout: Stdout,
}

/// Opens input and target, and returns the run, with the counts of what it copies.
///
/// # Errors
///
/// The input does not appear in time, or the target cannot be used.
pub async fn prepare(parts: CopyParts, config: Config) -> Result<(RunSpec, Arc<CopyTally>)> {
    let CopyParts {
        app,
        context,
        shutdown,
        stdout,
    } = parts;
    let filter = RecordFilter::new(config.filters, config.on_poison);
    let tally = Arc::clone(&filter.tally);
    let input = config.input.open(&shutdown, &context).await?;
    let mut pin = None;
    let keeps_progress = app.is_some() || matches!(config.to, CopyTarget::Stream(_));
    let app = app.unwrap_or_else(|| NAME.to_owned());
    let (stream, format) = (input.id().clone(), config.format);
    let print = |output, printer, filter| PrintStage {
        output,
        printer,
        stream: stream.clone(),
        filter,
        format,
        context: context.clone(),
        overdraft: Arc::default(),
    };
    let stage: Arc<dyn Stage> = match config.to {
        CopyTarget::Stdout => {
            let printer = Printer::start(move || Ok(stdout)).await?;
            Arc::new(print(OutputId::stdout(), printer, filter))
        }
        CopyTarget::File(path) => {
            places::check_new_file(&*context.disk, &path).await?;
            // Leases know the output by its place.
            let place = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
            let output = OutputId::of_device(&place.display().to_string());
            let (file, shutdown) = (None, shutdown.clone());
            let printer = match is_special(&path) {
                true => {
                    Printer::start(move || {
                        Ok(DeviceText {
                            path,
                            file,
                            shutdown,
                        })
                    })
                    .await?
                }
                false => {
                    Printer::start(move || FileText::open(&path, format, keeps_progress)).await?
                }
            };
            Arc::new(print(output, printer, filter))
        }
        CopyTarget::Stream(to) => {
            pin = Some(filter.digest().to_owned());
            let streams = config.input.streams();
            let output = streams
                .open_or_create_like(&input, &to, None, &context)
                .await?;
            let delivery = deliver(&input, &output, Keys::Kept, &context).await?;
            Arc::new(TransformStage {
                name: copy::STAGE,
                app: app.clone(),
                input: stream,
                tally: Arc::clone(&tally),
                transform: Arc::new(filter),
                delivery,
                context: context.clone(),
            })
        }
    };
    let spec = RunSpec {
        keeps_progress,
        lease_time: config.lease_time,
        pin,
        ..config.input.run(context, input, app, stage, shutdown)
    };
    Ok((spec, tally))
}

/// Runs a copy until its end.
///
/// # Errors
/// As [`prepare`] and the runtime.
pub async fn run(process: Process, config: Config, json: bool) -> Result<()> {
    let parts = CopyParts {
        app: (process.app != NAME).then(|| process.app.clone()),
        context: process.context.clone(),
        shutdown: process.shutdown.clone(),
        stdout: process.stdout.clone(),
    };
    let (from, to) = (config.input.from().to_owned(), config.to.clone());
    let (mut spec, tally) = prepare(parts, config).await?;
    spec.worker = process.worker.clone();
    process.ready.set();
    let read = runtime::run(spec).await?;
    let counts = tally.counts();
    let copied = CopyReport { counts, read };
    match to {
        // Standard output holds the records and nothing else.
        CopyTarget::Stdout => tracing::info!("{}", copied.summary(&from, &to)),
        _ if json => process.stdout.json(&copied)?,
        _ => process.stdout.line(copied.summary(&from, &to))?,
    }
    Ok(())
}

/// The summary of a copy.
#[derive(Debug, Serialize)]
struct CopyReport {
    #[serde(flatten)]
    counts: CopyCounts,
    #[serde(flatten)]
    read: Summary,
}

impl CopyReport {
    fn summary(&self, from: &str, to: &CopyTarget) -> String {
        let CopyReport { counts, read } = self;
        let mut summary = format!(
            "{} from {} of `{from}` written to {to}",
            counted(counts.written, "record"),
            counted(read.shards.len() as u64, "shard"),
        );
        let others = [
            ("already there", counts.duplicates),
            ("dropped by the filters", counts.filtered),
            ("dead letters, which cannot be copied", counts.dead_letters),
        ];
        for (what, count) in others.into_iter().filter(|(_, count)| *count > 0) {
            summary.push_str(&format!("; {what}: {}", count_text(count)));
        }
        if read.gaps > 0 {
            summary.push_str(&format!(
                "; {}: records were removed before they were read",
                counted(read.gaps, "gap")
            ));
        }
        summary
    }
}
