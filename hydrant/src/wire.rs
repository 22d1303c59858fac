//! Connects the stages, streams and lakes of one process.

use std::path::Path;
use std::sync::Arc;

use hydrant_consumer::runtime::{self, FinishOrder, Summary};
use hydrant_core::transform::Transform;
use hydrant_core::{Context, Error, Result, Shutdown};
use hydrant_pii::Policy;
use hydrant_process::Process;
use hydrant_process::config::{Layers, Problems};
use hydrant_sink::lake::Lakes;
use hydrant_sink::verify;
use hydrant_sink::wire::SinkReport;
use hydrant_stream::Streams;
use hydrant_transform::{FusedStage, PiiTransform};

/// The app name of a stage of the process `app`. By default it is that of the stage's own binary, so that the binary and
/// this process can take over from each other.
fn app_of(app: &str, stage: &str) -> String {
    format!("{app}-{stage}")
}

/// What opens the streams and lakes that the process names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections {
    pub(crate) streams: Streams,
    pub(crate) lakes: Lakes,
}

impl Connections {
    /// Reads the tables of all kinds.
    pub(crate) fn read(layers: &Layers, problems: &mut Problems) -> Self {
        let streams = hydrant_consumer::wire::streams(layers, problems);
        let (lakes, readings) = Lakes::read(Arc::new(layers.clone()));
        problems.take(readings);
        Connections { streams, lakes }
    }
}

/// Runs the transform between two streams, with the names of the process: its app and its worker.
pub(crate) async fn transform(
    config: &hydrant_transform::config::Config,
    (app, worker): (&str, String),
    context: &Context,
    shutdown: Shutdown,
    finish: FinishOrder,
) -> Result<Summary> {
    let (app, context) = (app_of(app, "transform"), context.clone());
    let mut spec = hydrant_transform::wire::prepare(app, context, shutdown, config).await?;
    spec.worker = worker;
    spec.finish = finish;
    runtime::run(spec).await
}

/// Runs the sink, behind a transform in the same process when there is one.
pub(crate) async fn sink(
    config: &hydrant_sink::config::Config,
    transform: Option<&hydrant_transform::config::Config>,
    (app, worker): (&str, String),
    context: &Context,
    shutdown: Shutdown,
    finish: FinishOrder,
) -> Result<SinkReport> {
    let behind = transform.map(|config| -> Arc<dyn Transform> {
        Arc::new(PiiTransform::new(Arc::clone(config.policy())))
    });
    let parts = hydrant_sink::wire::SinkParts {
        app: app_of(app, "sink"),
        context: context.clone(),
        shutdown,
        behind: behind.clone(),
    };
    let (mut spec, table) = hydrant_sink::wire::prepare(parts, config).await?;
    spec.worker = worker;
    spec.finish = finish;
    if let Some(transform) = behind {
        let (input, context) = (spec.stream.id().clone(), context.clone());
        spec.pin = Some(transform.digest().to_owned());
        let stage = FusedStage::new(
            &app_of(app, "transform"),
            input,
            transform,
            spec.stage,
            context,
        );
        spec.stage = Arc::new(stage);
    }
    let report = SinkReport::try_new(runtime::run(spec).await, &table.totals(), config)?;
    table.registry().check_again().await?;
    Ok(report)
}

/// Whether the sink's table holds records that it read directly from the stream `from`, when that is not the stream
/// that the sink reads now.
pub(crate) async fn has_taken_from(
    sink: &hydrant_sink::config::Config,
    from: &str,
    context: &Context,
) -> Result<bool> {
    let streams = sink.input().streams();
    let stream = if_there(streams.open(from, context).await)?;
    let lake = if_there(sink.lakes().open_read(sink.to(), context).await)?;
    match (stream, lake) {
        (Some(stream), Some(lake)) => {
            let read = if_there(streams.open(sink.input().from(), context).await)?;
            if read.is_some_and(|read| read.id() == stream.id()) {
                return Ok(false);
            }
            verify::has_taken_from(&lake, sink.names(), stream.id()).await
        }
        _ => Ok(false),
    }
}

/// Whether there is no such stream yet.
pub(crate) async fn is_missing(streams: &Streams, url: &str, context: &Context) -> bool {
    matches!(
        streams.open(url, context).await,
        Err(Error::NotFound { .. })
    )
}

fn if_there<T>(opened: Result<T>) -> Result<Option<T>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The policy of a file, or the built-in one, with the keys of the configuration.
pub(crate) fn policy(process: &Process, file: Option<&Path>) -> Result<Arc<Policy>> {
    let mut problems = Problems::new();
    let policy = hydrant_transform::policy::load(&process.layers, file, &mut problems);
    problems.into_result()?;
    policy.ok_or_else(|| Error::fatal("the policy was refused without a reason: report this"))
}
