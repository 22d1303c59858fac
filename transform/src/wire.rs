//! Joins the transform to concrete streams and the runtime.

use std::sync::Arc;

use hydrant_consumer::TransformStage;
use hydrant_consumer::runtime::{self, RunSpec, Summary};
use hydrant_core::transform::Transform;
use hydrant_core::{Context, Result, Shutdown};
use hydrant_process::{Process, counted};
use hydrant_stream::delivery::{Keys, deliver};

use crate::config::Config;
use crate::pii_transform::{PiiTransform, STAGE};

/// Prepares the run that keeps its progress under the name `app`: opens input and output, and says what to run.
///
/// # Errors
/// The input does not appear in time, the output cannot be made, or both are one stream.
pub async fn prepare(
    app: String,
    context: Context,
    shutdown: Shutdown,
    config: &Config,
) -> Result<RunSpec> {
    let input = config.input().open(&shutdown, &context).await?;
    let streams = config.input().streams();
    let output = streams
        .open_or_create_like(&input, config.to(), config.shards, &context)
        .await?;
    let transform = PiiTransform::new(Arc::clone(config.policy()));
    let digest = transform.digest().to_owned();
    let stage = TransformStage {
        name: STAGE,
        app: app.clone(),
        input: input.id().clone(),
        transform: Arc::new(transform),
        delivery: deliver(&input, &output, Keys::Replaced, &context).await?,
        tally: Arc::default(),
        context: context.clone(),
    };
    Ok(RunSpec {
        pin: Some(digest),
        ..config
            .input()
            .run(context, input, app, Arc::new(stage), shutdown)
    })
}

/// Runs the transform of a process until its end.
///
/// # Errors
/// As [`prepare`] and the runtime.
pub async fn run(process: Process, config: Config, json: bool) -> Result<()> {
    let (app, context) = (process.app.clone(), process.context.clone());
    let mut spec = prepare(app, context, process.shutdown.clone(), &config).await?;
    spec.worker = process.worker.clone();
    process.ready.set();
    let summary = runtime::run(spec).await?;
    if json {
        process.stdout.json(&summary)
    } else {
        process.stdout.line(text_of(&summary, &config))
    }
}

fn text_of(summary: &Summary, config: &Config) -> String {
    format!(
        "{} from {} of {} processed by policy `{}` into {}",
        counted(summary.records, "record"),
        counted(summary.shards.len() as u64, "shard"),
        config.input().from(),
        config.policy().name(),
        config.to(),
    )
}
