//! The processes of the pipeline: the libraries as the binaries wire them, on a simulated disk.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hydrant_consumer::runtime::{self, LeaseSettings, RunSpec};
use hydrant_core::stage::Stage;
use hydrant_core::stream::SharedStream;
use hydrant_core::transform::Transform;
use hydrant_core::{Context, Error, Result, Shutdown};
use hydrant_pii::Policy;
use hydrant_producer::config::{Config, Origin};
use hydrant_producer::simulate::{FleetSpec, PiiShares};
use hydrant_sink::lake::TableNames;
use hydrant_sink::spec::TableRules;
use hydrant_sink::{FlushRules, SinkStage, SourceRebuild};
use hydrant_stream::delivery::{Delivery, Routing, deliver};
use hydrant_stream::{Codec, CreateOptions};
use hydrant_transform::{FusedStage, PiiTransform, TransformStage};

use super::plan::{Log, Role, Shape};
use super::witness::{Acks, Told};

pub(super) const LAKE: &str = "/lake";
const LEDGER: &str = "/ledger.json";
const NAME: &str = "fleet";

impl Log {
    pub(super) fn url(self) -> &'static str {
        match self {
            Log::Raw => "local:/raw",
            Log::Clean => "local:/clean",
        }
    }
}

pub(super) fn table() -> TableNames {
    TableNames::try_new("events").expect("a plain name")
}

/// What the devices of a run say.
pub(super) fn fleet(shape: &Shape) -> FleetSpec {
    FleetSpec {
        seed: shape.devices,
        devices: shape.devices,
        malformed_share: 0.03,
        late_share: 0.05,
        conflict_share: 0.02,
        pii: PiiShares {
            partition_keys: 0.2,
            ..PiiShares::default()
        },
        ..FleetSpec::default()
    }
}

/// How a process is to run.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) name: String,
    pub(super) role: Role,
    /// Whether to end when there is nothing more to do, and not to wait for more.
    pub(super) to_the_end: bool,
    pub(super) shutdown: Shutdown,
}

/// Makes the streams.
pub(super) async fn create(shape: &Shape, context: &Context) -> Result<()> {
    for log in [Log::Raw, Log::Clean] {
        let options = CreateOptions {
            shards: shape.shards,
            codec: Codec::Lz4,
            segment_bytes: shape.segment_bytes,
            linger: shape.linger,
            ..CreateOptions::default()
        };
        hydrant_stream::open_or_create(log.url(), options, context).await?;
    }
    Ok(())
}

/// Runs a process until it ends by itself.
pub(super) async fn run(
    orders: Orders,
    shape: &Shape,
    context: &Context,
    told: &Told,
) -> Result<()> {
    match orders.role {
        Role::Producer => produce(orders, shape, context, told).await,
        Role::Transform => {
            let (raw, clean) = (
                open(Log::Raw, context).await?,
                open(Log::Clean, context).await?,
            );
            let Delivery::Lanes(lanes) = deliver(&raw, &clean, Routing::Keyed, context).await?
            else {
                return Err(Error::fatal("two local streams are joined by lanes"));
            };
            let transform = strict();
            let stage = TransformStage::new(
                "transform",
                raw.id().clone(),
                Arc::clone(&transform),
                lanes,
                context.clone(),
            );
            let pin = Some(transform.digest().to_owned());
            consume(orders, context, raw, "transform", Arc::new(stage), pin).await
        }
        Role::Sink => {
            let clean = open(Log::Clean, context).await?;
            let stage = sink(shape, context, &clean).await?;
            consume(orders, context, clean, "sink", Arc::new(stage), None).await
        }
        Role::Fused => {
            let raw = open(Log::Raw, context).await?;
            let sink = Arc::new(sink(shape, context, &raw).await?);
            let id = raw.id().clone();
            let stage = FusedStage::new("fused", id, strict(), sink, context.clone());
            consume(orders, context, raw, "fused", Arc::new(stage), None).await
        }
    }
}

pub(super) async fn open(log: Log, context: &Context) -> Result<SharedStream> {
    hydrant_stream::open(log.url(), context).await
}

/// The built-in policy, compiled once: it is pure.
fn strict() -> Arc<dyn Transform> {
    static POLICY: OnceLock<Arc<Policy>> = OnceLock::new();
    let policy = POLICY.get_or_init(|| Arc::new(Policy::strict()));
    Arc::new(PiiTransform::new(Arc::clone(policy)))
}

async fn produce(orders: Orders, shape: &Shape, context: &Context, told: &Told) -> Result<()> {
    let origin = Origin::Simulator {
        spec: fleet(shape),
        records: Some(shape.records),
    };
    let mut config = Config::new(Log::Raw.url(), origin)
        .with_ledger(NAME, LEDGER)
        .with_batches(2 << 10, Duration::from_millis(10));
    if !orders.to_the_end {
        config = config.with_rate(shape.rate);
    }
    let stream = open(Log::Raw, context).await?;
    let stream: SharedStream = Arc::new(Acks::new(stream, told.clone()));
    let counters = Arc::default();
    hydrant_producer::run_into(stream, &config, context, &orders.shutdown, counters).await?;
    Ok(())
}

async fn sink(shape: &Shape, context: &Context, from: &SharedStream) -> Result<SinkStage> {
    let lake = hydrant_sink::lake::open(&format!("file:{LAKE}"), context).await?;
    let rules = TableRules {
        provenance: true,
        ..TableRules::default()
    };
    let flush = FlushRules {
        bytes: shape.flush_bytes,
        interval: shape.flush_interval,
    };
    let names = table();
    let rebuild = Arc::new(SourceRebuild::new(from, &lake, context, &names));
    SinkStage::open(
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
    let spec = RunSpec {
        worker: orders.name,
        exit_at_end: orders.to_the_end,
        idle: Duration::from_millis(500),
        leases: LeaseSettings {
            lease_time: Duration::from_secs(2),
            observe: Duration::from_millis(500),
            handover: Duration::from_secs(3),
        },
        pin,
        checkpoint: Duration::from_millis(200),
        ..RunSpec::new(context.clone(), stream, app, stage, orders.shutdown)
    };
    runtime::run(spec).await.map(drop)
}

/// Splits a shard, or merges it with its neighbour.
pub(super) async fn reshard(log: Log, merge: bool, which: u64, context: &Context) -> Result<()> {
    let stream = open(log, context).await?;
    let Some(admin) = stream.admin() else {
        return Ok(());
    };
    let map = stream.shards().await?;
    let mut open: Vec<_> = map.open().collect();
    open.sort_by_key(|shard| shard.range.first);
    let at = which as usize % open.len().max(1);
    match open.get(at..at + 2) {
        Some([low, high]) if merge => admin.merge(&low.id, &high.id).await.map(drop),
        _ => match open.get(at) {
            Some(shard) => admin.split(&shard.id, None).await.map(drop),
            None => Err(Error::fatal("no shard is open")),
        },
    }
}

/// The directory of the lake.
pub(super) fn lake_dir() -> &'static Path {
    Path::new(LAKE)
}
