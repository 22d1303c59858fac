//! The processes of the pipeline: the libraries as the binaries wire them, on a simulated disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hydrant_consumer::TransformStage;
use hydrant_consumer::runtime::{self, RunSpec};
use hydrant_core::stage::Stage;
use hydrant_core::stream::SharedStream;
use hydrant_core::transform::Transform;
use hydrant_core::{Context, Error, Result, Shutdown};
use hydrant_pii::Policy;
use hydrant_producer::config::{Config, InputSpec, Remembered};
use hydrant_producer::simulate::{FleetSpec, PiiShares};
use hydrant_sink::encode::{Compression, EncodeOptions};
use hydrant_sink::lake::Lakes;
use hydrant_sink::lake::{Rebuild, TableNames};
use hydrant_sink::table::spec::{OnConflict, TableRules};
use hydrant_sink::{FlushRules, SourceRebuild, TableSink};
use hydrant_stream::delivery::{Keys, deliver};
use hydrant_transform::{FusedStage, PiiTransform};

use super::broken::BrokenVariant;
use super::plan::{Log, PipelineShape, Role};
use super::streams::SimStreams;
use super::witness::{AckWitness, Acks};

pub(super) const LAKE: &str = "/lake";
const LEDGER: &str = "/ledger.json";
const NAME: &str = "fleet";

pub(super) fn table() -> TableNames {
    TableNames::try_new("events").expect("a plain name")
}

/// The fleet of devices of a run.
pub(super) fn fleet(shape: &PipelineShape) -> FleetSpec {
    FleetSpec {
        seed: shape.devices,
        devices: shape.devices,
        malformed_share: 0.08,
        late_share: 0.05,
        conflict_share: 0.1,
        pii: PiiShares {
            partition_keys: 0.2,
            ..PiiShares::default()
        },
        ..FleetSpec::default()
    }
}

/// How a process runs.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) name: String,
    pub(super) role: Role,
    /// Whether it ends at the end of its input instead of waiting for more.
    pub(super) to_the_end: bool,
    pub(super) shutdown: Shutdown,
    pub(super) broken: Option<BrokenVariant>,
}

/// Runs a process until it ends by itself.
pub(super) async fn run(
    orders: Orders,
    shape: &PipelineShape,
    context: &Context,
    acked: &AckWitness,
    streams: &SimStreams,
) -> Result<()> {
    match orders.role {
        Role::Producer => produce(orders, shape, context, acked, streams).await,
        Role::Transform => {
            let (raw, clean) = (
                streams.open(Log::Raw, context).await?,
                streams.open(Log::Clean, context).await?,
            );
            let clean: SharedStream = Arc::new(Acks::new(clean, None, shape.loss, &context.random));
            let delivery = deliver(&raw, &clean, Keys::Replaced, context).await?;
            let transform = strict();
            let pin = Some(transform.digest().to_owned());
            let stage = TransformStage {
                name: "transform",
                app: "transform".to_owned(),
                input: raw.id().clone(),
                transform,
                delivery,
                tally: Arc::default(),
                context: context.clone(),
            };
            consume(orders, context, raw, "transform", Arc::new(stage), pin).await
        }
        Role::Sink => {
            let clean = streams.open(Log::Clean, context).await?;
            let stage = sink(&orders, shape, context, &clean, None).await?;
            consume(orders, context, clean, "sink", Arc::new(stage), None).await
        }
        Role::Fused => {
            let raw = streams.open(Log::Raw, context).await?;
            let transform = strict();
            let inside = Some(Arc::clone(&transform));
            let sink = sink(&orders, shape, context, &raw, inside).await?;
            let id = raw.id().clone();
            let stage = FusedStage::new("fused", id, transform, Arc::new(sink), context.clone());
            consume(orders, context, raw, "fused", Arc::new(stage), None).await
        }
    }
}

/// The built-in policy; compiled once, because it has no state.
fn strict() -> Arc<dyn Transform> {
    static POLICY: OnceLock<Arc<Policy>> = OnceLock::new();
    let policy = POLICY.get_or_init(|| Arc::new(Policy::strict()));
    Arc::new(PiiTransform::new(Arc::clone(policy)))
}

async fn produce(
    orders: Orders,
    shape: &PipelineShape,
    context: &Context,
    acked: &AckWitness,
    streams: &SimStreams,
) -> Result<()> {
    let origin = InputSpec::Simulator {
        spec: fleet(shape),
        records: Some(shape.records),
    };
    let config = Config {
        remembered: Some(Remembered {
            name: NAME.to_owned(),
            ledger: LEDGER.into(),
        }),
        batch_bytes: Some(2 << 10),
        linger: Duration::from_millis(10),
        rate: (!orders.to_the_end).then_some(shape.rate),
        ..Config::new(Log::Raw.url(), origin)
    };
    let stream = streams.open(Log::Raw, context).await?;
    let stream: SharedStream = Arc::new(Acks::new(
        stream,
        Some(acked.clone()),
        shape.loss,
        &context.random,
    ));
    let counters = Arc::default();
    hydrant_producer::run_into(stream, &config, context, &orders.shutdown, counters).await?;
    Ok(())
}

async fn sink(
    orders: &Orders,
    shape: &PipelineShape,
    context: &Context,
    from: &SharedStream,
    transform: Option<Arc<dyn Transform>>,
) -> Result<TableSink> {
    let mut lake = Lakes::default()
        .open(&format!("file:{LAKE}"), context)
        .await?;
    if let Some(broken) = orders.broken {
        lake = broken.lake(lake);
    }
    let mut rules = TableRules {
        provenance: true,
        policy: transform
            .as_ref()
            .map(|transform| transform.digest().to_owned()),
        encode: EncodeOptions {
            compression: Compression::Snappy,
            ..EncodeOptions::default()
        },
        // In half of the runs values that fit no column make dead letters of their records.
        on_conflict: match shape.records % 2 {
            0 => OnConflict::DeadLetter,
            _ => OnConflict::Rescue,
        },
        ..TableRules::default()
    };
    if let Some(rows_max) = shape.rows_max {
        rules.partition = vec!["device_id".to_owned()];
        rules.rows_max = rows_max;
    }
    let flush = FlushRules {
        bytes: shape.flush_bytes,
        interval: shape.flush_interval,
    };
    let names = table();
    let rebuild = SourceRebuild::new(from, &lake, context, &names, transform);
    let rebuild: Arc<dyn Rebuild> = Arc::new(rebuild);
    TableSink::open(
        &lake,
        context,
        from.id(),
        &names,
        rules,
        flush,
        Some(rebuild),
    )
    .await
}

async fn consume(
    orders: Orders,
    context: &Context,
    stream: SharedStream,
    app: &str,
    stage: Arc<dyn Stage>,
    pin: Option<String>,
) -> Result<()> {
    let (stream, stage) = match orders.broken {
        Some(broken) => (broken.stream(stream), broken.stage(stage, &orders.name)),
        None => (stream, stage),
    };
    let spec = RunSpec {
        worker: orders.name,
        exit_at_end: orders.to_the_end,
        idle: Duration::from_millis(500),
        lease_time: Some(Duration::from_secs(2)),
        handover: Duration::from_secs(3),
        pin,
        checkpoint: Some(Duration::from_millis(200)),
        ..RunSpec::new(context.clone(), stream, app, stage, orders.shutdown)
    };
    runtime::run(spec).await.map(drop)
}

/// Removes the uploads in the lake, as a cleaner of temporary files would.
pub(super) async fn sweep(context: &Context) -> Result<()> {
    remove_files(&PathBuf::from(format!("{LAKE}/_hydrant/staging")), context).await
}

pub(super) async fn remove_files(top: &Path, context: &Context) -> Result<()> {
    let mut left = vec![top.to_owned()];
    while let Some(dir) = left.pop() {
        // A missing directory needs no removal.
        for listed in context.disk.list(&dir).await.unwrap_or_default() {
            let path = dir.join(&listed.name);
            if listed.is_dir {
                left.push(path);
            } else {
                let removed = context.disk.remove(&path).await;
                removed.map_err(|error| Error::io("remove", &path, error))?;
            }
        }
    }
    Ok(())
}
