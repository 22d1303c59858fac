//! `hydrant run`: the stages of a configuration file in one process.
//!
//! The table `[run]` names the stages and the directory that holds all state. Each stage reads its own table; what that
//! table leaves out lies in the directory. A signal stops the stages in the order of the flow, and each publishes what
//! it holds; the next start continues with what is still in a stream.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use hydrant_consumer::runtime::{FinishOrder, Summary};
use hydrant_core::settings::path_in_url;
use hydrant_core::shutdown::Phase;
use hydrant_core::{Context, Error, Result, Shutdown};
use hydrant_process::Process;
use hydrant_process::config::{Flags, Layers, Problems};
use hydrant_producer::config::ProducerArgs;
use hydrant_producer::{Counters, RunReport};
use hydrant_sink::config::SinkArgs;
use hydrant_sink::wire::SinkReport;
use hydrant_transform::config::TransformArgs;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::output::{CommandOutput, bytes_text, count_text, table};
use crate::wire::{self, Connections};

/// The directory of the state when the configuration names none.
const DIR_DEFAULT: &str = "hydrant-data";

/// How long a stage waits for more records once its input has ended: time to look once or twice.
const IDLE_AT_END: Duration = Duration::from_millis(50);

/// The stages that a process can run.
const STAGES: [&str; 3] = ["producer", "transform", "sink"];

/// The stages to run, with their configurations.
#[derive(Clone, Debug)]
pub(crate) struct RunPlan {
    pub(crate) producer: Option<hydrant_producer::Config>,
    pub(crate) transform: Option<hydrant_transform::config::Config>,
    pub(crate) sink: Option<hydrant_sink::config::Config>,
    /// Transform and sink are one stage: no clean stream between them.
    pub(crate) inline: bool,
    /// The process ends when the producer's input has ended and all its records are in the lake.
    pub(crate) exit_at_end: bool,
    /// The directory of the producer's ledger, unless the producer's table names another place.
    pub(crate) state: Option<PathBuf>,
}

impl RunPlan {
    /// Reads `[run]` and the tables of the stages; `None` with a problem.
    pub(crate) fn read(layers: &Layers, problems: &mut Problems) -> Option<RunPlan> {
        // The stages have flags in their own binaries, not here.
        let layers = &layers.without_flags();
        let mut section = layers.section("run", &Flags::new());
        let dir = section.path("dir");
        let dir = dir.and_then(|dir| match path_in_url(&dir) {
            Ok(_) => Some(dir),
            Err(error) => {
                section.problem("dir", error.to_string());
                None
            }
        });
        let dir = dir.unwrap_or_else(|| PathBuf::from(DIR_DEFAULT));
        let inline = section.flag("inline", false);
        let exit_at_end = section.flag("exit-at-end", false);
        let mut stages = section.list("stages");
        if stages.is_empty() && !section.is_given("stages") {
            stages = STAGES.map(str::to_owned).to_vec();
        }
        for (index, stage) in stages.iter().enumerate() {
            if stages[..index].contains(stage) {
                section.problem("stages", format!("names `{stage}` twice: name it once"));
            }
            if !STAGES.contains(&stage.as_str()) {
                let known = STAGES.join("`, `");
                section.problem(
                    "stages",
                    format!("`{stage}` is not a stage: choose from `{known}`"),
                );
            }
        }
        let runs = |stage: &str| stages.iter().any(|named| named == stage);
        if stages.is_empty() {
            section.problem(
                "stages",
                "names no stage: leave the key out to run all stages",
            );
        }
        if inline && !(runs("transform") && runs("sink")) {
            section.problem(
                "inline",
                "runs transform and sink as one stage: name both in `stages`",
            );
        }
        let usable = !section.has_problems();
        section.finish(problems);
        let connections = Connections::read(layers, problems);
        let place = StateDir::new(&dir, layers, &connections);
        let producer = runs("producer").then(|| place.producer(problems)).flatten();
        let transform = runs("transform")
            .then(|| place.transform(problems))
            .flatten();
        let from = match (inline, &transform) {
            (true, Some(transform)) => transform.input().from(),
            (true, None) => &place.raw,
            (false, _) => &place.clean,
        };
        let sink = runs("sink").then(|| place.sink(from, problems)).flatten();
        // A stage that is named and has no configuration has a problem.
        let is_complete = runs("producer") == producer.is_some()
            && runs("transform") == transform.is_some()
            && runs("sink") == sink.is_some();
        (usable && is_complete).then(|| RunPlan {
            state: (producer.is_some() && place.keeps_ledger()).then_some(dir),
            producer,
            transform,
            sink,
            inline,
            exit_at_end,
        })
    }
}

/// The directory of the state: it supplies what the stages' tables leave out.
struct StateDir<'a> {
    layers: &'a Layers,
    connections: &'a Connections,
    raw: String,
    clean: String,
    lake: String,
    ledger: PathBuf,
}

impl<'a> StateDir<'a> {
    fn new(dir: &Path, layers: &'a Layers, connections: &'a Connections) -> Self {
        StateDir {
            layers,
            connections,
            raw: format!("local:{}", dir.join("raw").display()),
            clean: format!("local:{}", dir.join("clean").display()),
            lake: format!("file:{}", dir.join("lake").display()),
            ledger: dir.join("producer.json"),
        }
    }

    fn default(&self, section: &'static str, key: &'static str, value: &str) -> Option<String> {
        let given = self.layers.section(section, &Flags::new()).is_given(key);
        (!given).then(|| value.to_owned())
    }

    /// Whether the producer's ledger lies in this directory.
    fn keeps_ledger(&self) -> bool {
        let mut section = self.layers.section("producer", &Flags::new());
        let says = ["name", "ledger"].iter().any(|key| section.is_given(key));
        !says && !section.list("input").iter().any(|input| input == "-")
    }

    fn producer(&self, problems: &mut Problems) -> Option<hydrant_producer::Config> {
        let remember = self.keeps_ledger();
        let args = ProducerArgs {
            to: self.default("producer", "to", &self.raw),
            // The ledger lies in the directory, so that a restart continues where the producer stopped.
            name: remember.then(|| "hydrant-run".to_owned()),
            ledger: remember.then(|| self.ledger.display().to_string()),
            ..ProducerArgs::default()
        };
        let streams = &self.connections.streams;
        hydrant_producer::Config::read(&args, streams, self.layers, problems)
    }

    fn transform(&self, problems: &mut Problems) -> Option<hydrant_transform::config::Config> {
        let args = TransformArgs {
            from: self.default("transform", "from", &self.raw),
            to: self.default("transform", "to", &self.clean),
            ..TransformArgs::default()
        };
        let streams = &self.connections.streams;
        hydrant_transform::config::Config::read(&args, streams, self.layers, problems)
    }

    fn sink(&self, from: &str, problems: &mut Problems) -> Option<hydrant_sink::config::Config> {
        let args = SinkArgs {
            from: self.default("sink", "from", from),
            to: self.default("sink", "to", &self.lake),
            ..SinkArgs::default()
        };
        let Connections { streams, lakes } = self.connections;
        hydrant_sink::config::Config::read(&args, (streams, lakes), self.layers, problems)
    }
}

/// What the stages did, for the result of the run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Done {
    /// The producer's report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) producer: Option<RunReport>,
    /// What the transform read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transform: Option<Summary>,
    /// What the sink read and published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sink: Option<SinkReport>,
}

impl Done {
    fn is_empty(&self) -> bool {
        self.producer.is_none() && self.transform.is_none() && self.sink.is_none()
    }

    fn note(&mut self, result: StageResult) {
        match result {
            StageResult::Produced(report) => self.producer = Some(report),
            StageResult::Transformed(summary) => self.transform = Some(summary),
            StageResult::Stored(summary) => self.sink = Some(summary),
        }
    }
}

/// What a stage did.
enum StageResult {
    Produced(RunReport),
    Transformed(Summary),
    Stored(SinkReport),
}

struct StageTask {
    name: &'static str,
    shutdown: Shutdown,
    finish: FinishOrder,
    task: JoinHandle<Result<StageResult>>,
}

impl StageTask {
    fn spawn<W>(name: &'static str, work: impl FnOnce(Shutdown, FinishOrder) -> W) -> Self
    where
        W: Future<Output = Result<StageResult>> + Send + 'static,
    {
        let (shutdown, finish) = (Shutdown::new(), FinishOrder::default());
        StageTask {
            name,
            task: tokio::spawn(work(shutdown.clone(), finish.clone())),
            shutdown,
            finish,
        }
    }

    /// Waits for the end of the stage.
    async fn ended(&mut self) -> Result<StageResult> {
        let panicked = |_| Error::panicked(format!("the {}", self.name));
        (&mut self.task).await.map_err(panicked)?
    }

    /// Stops the stage and notes what it did, unless it was still waiting for its input.
    async fn drain(&mut self, done: &mut Done) -> Result<()> {
        self.shutdown.advance(Phase::Draining);
        match self.ended().await {
            Ok(result) => done.note(result),
            Err(Error::Stopped { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The running stages of this process, in the order of the flow.
pub(crate) struct Pipeline {
    stages: Vec<StageTask>,
}

impl Pipeline {
    /// Starts the stages of a plan.
    pub(crate) fn start(process: &Process, plan: RunPlan, counters: &Arc<Counters>) -> Self {
        let (app, worker, context) = (&process.app, &process.worker, &process.context);
        let (between, inside) = match plan.inline {
            true => (None, plan.transform),
            false => (plan.transform, None),
        };
        let producer = plan.producer.map(|config| {
            let (context, counters) = (context.clone(), Arc::clone(counters));
            StageTask::spawn("producer", |shutdown, _| async move {
                let run = hydrant_producer::run(config, &context, shutdown, Some(counters));
                run.await.map(StageResult::Produced)
            })
        });
        let transform = between.map(|config| {
            let (app, worker, context) = (app.clone(), worker.clone(), context.clone());
            StageTask::spawn("transform", |shutdown, finish| async move {
                let names = (app.as_str(), worker);
                let run = wire::transform(&config, names, &context, shutdown, finish);
                run.await.map(StageResult::Transformed)
            })
        });
        let sink = plan.sink.map(|config| {
            let (app, worker, context) = (app.clone(), worker.clone(), context.clone());
            StageTask::spawn("sink", |shutdown, finish| async move {
                let (inside, names) = (inside.as_ref(), (app.as_str(), worker));
                let run = wire::sink(&config, inside, names, &context, shutdown, finish);
                run.await.map(StageResult::Stored)
            })
        });
        let stages = [producer, transform, sink];
        Pipeline {
            stages: stages.into_iter().flatten().collect(),
        }
    }

    /// Waits for the end of a stage, and notes what it did. Without stages it never returns. Cancel-safe.
    async fn ended(&mut self, done: &mut Done) -> Result<()> {
        if self.stages.is_empty() {
            return std::future::pending().await;
        }
        let ends = self.stages.iter_mut().map(|stage| Box::pin(stage.ended()));
        let (ended, stage, _) = select_all(ends).await;
        self.stages.remove(stage);
        done.note(ended?);
        Ok(())
    }

    /// Resolves only when a stage fails.
    pub(crate) async fn failed(&mut self) -> Result<()> {
        let mut done = Done::default();
        loop {
            self.ended(&mut done).await?;
        }
    }

    /// Stops the stages in the order of the flow, and answers the errors of those that fail. Each publishes what it
    /// holds.
    pub(crate) async fn drain(mut self, done: &mut Done) -> Vec<Error> {
        let mut errors = Vec::new();
        for stage in &mut self.stages {
            errors.extend(stage.drain(done).await.err());
        }
        errors
    }

    /// Stops the producer and carries everything in the streams to the lake. When this call is dropped, the rest can
    /// still be drained.
    pub(crate) async fn finish(&mut self, done: &mut Done) -> Result<()> {
        while let Some(stage) = self.stages.first_mut() {
            let ended = if stage.name == "producer" {
                stage.drain(done).await
            } else {
                stage.finish.give(IDLE_AT_END);
                stage.ended().await.map(|result| done.note(result))
            };
            self.stages.remove(0);
            ended?;
        }
        Ok(())
    }
}

/// Creates the directory of the state, and refuses a table that an earlier run has filled the other way: with transform
/// and sink as one stage, or as two. The two ways keep their progress in different streams, so this run would store
/// everything still in the input a second time.
async fn prepare(plan: &RunPlan, context: &Context) -> Result<()> {
    if let Some(dir) = &plan.state {
        let made = context.disk.create_dir_all(dir).await;
        made.map_err(|error| Error::io("make", dir, error))?;
    }
    if let (Some(producer), None, Some(sink)) = (&plan.producer, &plan.transform, &plan.sink) {
        let (to, from) = (&producer.to, sink.input().from());
        let is_missing = || wire::is_missing(&producer.streams, from, context);
        if to != from && is_missing().await {
            tracing::warn!(
                "no stage of this run fills `{from}`, which the sink reads: name `transform` in `stages`, or write \
                 `from = \"{to}\"` in [sink]"
            );
        }
    }
    let (Some(transform), Some(sink)) = (&plan.transform, &plan.sink) else {
        return Ok(());
    };
    let other = if plan.inline {
        transform.to()
    } else {
        transform.input().from()
    };
    if !wire::has_taken_from(sink, other, context).await? {
        return Ok(());
    }
    let (table, lake) = (sink.names().table(), sink.to());
    let advice = if plan.inline {
        "leave `inline` out of `[run]`"
    } else {
        "set `inline = true` in `[run]`"
    };
    Err(Error::refused(format!(
        "table `{table}` of `{lake}` was filled from `{other}`: this run would store its records a second time; \
         {advice}, or name another table in `[sink]`"
    )))
}

/// Runs a plan until a signal, a failure, or the end that the plan asks for.
pub(crate) async fn run(process: &Process, plan: RunPlan, output: &CommandOutput) -> Result<()> {
    let (exit_at_end, has_input) = (plan.exit_at_end, plan.producer.is_some());
    prepare(&plan, &process.context).await?;
    let mut pipeline = Pipeline::start(process, plan, &Arc::new(Counters::default()));
    process.ready.set();
    let mut done = Done::default();
    let work = async {
        // Without a producer, the streams hold everything already.
        let mut is_all = exit_at_end && !has_input;
        while !is_all {
            pipeline.ended(&mut done).await?;
            let is_input = done.transform.is_none() && done.sink.is_none();
            let Some(report) = done.producer.as_ref().filter(|_| is_input) else {
                return Ok(());
            };
            tracing::info!(records = report.stored, "the input has ended");
            is_all = exit_at_end;
        }
        pipeline.finish(&mut done).await
    };
    let worked = tokio::select! {
        biased;
        () = process.shutdown.draining() => Ok(()),
        worked = work => worked,
    };
    let drained = pipeline.drain(&mut done).await;
    let mut errors = worked.err().into_iter().chain(drained);
    let ended = errors.next().map_or(Ok(()), Err);
    for error in errors {
        tracing::error!("{}", error.report());
    }
    // A run that fails before any stage has done something has no result.
    if ended.is_ok() || !done.is_empty() {
        output.print(&done, || text_of(&done))?;
    }
    ended
}

fn text_of(done: &Done) -> String {
    let producer = done.producer.as_ref();
    let producer = producer.map(|report| ("producer", report.accepted, report.bytes));
    let transform = done
        .transform
        .as_ref()
        .map(|summary| ("transform", summary));
    let sink = done.sink.as_ref().map(|report| ("sink", report.summary()));
    let others = transform.into_iter().chain(sink);
    let others = others.map(|(name, summary)| (name, summary.records, summary.bytes));
    let rows = producer.into_iter().chain(others);
    let rows = rows.map(|(name, records, bytes)| {
        vec![name.to_owned(), count_text(records), bytes_text(bytes)]
    });
    let mut text = table(&["stage", ">records", ">size"], rows);
    if let Some(report) = &done.sink {
        text += &format!("\n{report}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(
        name: &'static str,
        work: impl Future<Output = Result<StageResult>> + Send + 'static,
    ) -> StageTask {
        StageTask::spawn(name, |_, _| work)
    }

    #[tokio::test]
    async fn the_message_of_a_panic_is_withheld() {
        let mut stage = stage("producer", async {
            let record = r#"{"name":"Zoë"}"#;
            panic!("byte index 12 is not a char boundary of {record}");
        });
        let Err(error) = stage.ended().await else {
            panic!("the stage panicked");
        };
        let text = error.report();
        assert!(text.contains("the producer panicked"), "{text}");
        assert!(!text.contains("Zoë"), "{text}");
    }

    #[tokio::test]
    async fn a_drain_keeps_the_error_of_each_stage() {
        let failing = |name| {
            stage(
                name,
                async move { Err(Error::fatal(format!("the {name}'s"))) },
            )
        };
        let stages = ["transform", "sink"].map(failing).into();
        let errors = Pipeline { stages }.drain(&mut Done::default()).await;
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["the transform's", "the sink's"]);
    }
}
