//! The two streams of the pipeline: embedded logs on the machine's disk, or a service outside of the machine whose
//! readers deduplicate.

use std::path::Path;
use std::sync::Arc;

use hydrant_core::stream::SharedStream;
use hydrant_core::{Context, Error, Random, Result};
use hydrant_stream::{Codec, CreateOptions, Streams};
use hydrant_testing::clock::ManualClock;
use hydrant_testing::layer::Layered;
use hydrant_testing::memory::{MemoryStream, StreamFaults};

use super::network::Remote;
use super::plan::{Log, PipelineShape};
use super::roles;

/// Where the streams of a run are; cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum SimStreams {
    /// On the machine's disk.
    Embedded,
    /// In a service outside of the machine.
    Service(Arc<Service>),
}

/// A service with both streams.
#[derive(Debug)]
pub(super) struct Service {
    raw: MemoryStream,
    clean: MemoryStream,
}

impl SimStreams {
    /// The streams of a run.
    pub(super) fn of(shape: &PipelineShape, seed: u64, clock: &ManualClock) -> Self {
        if shape.service.is_none() {
            return SimStreams::Embedded;
        }
        let stream = |log: Log, salt| {
            let clock = Arc::new(clock.clone());
            let random = Random::seeded(seed ^ salt);
            MemoryStream::storing(log.name(), shape.shards, clock, random)
        };
        SimStreams::Service(Arc::new(Service {
            raw: stream(Log::Raw, 0x005e_4a11),
            clean: stream(Log::Clean, 0x00c1_ea11),
        }))
    }

    /// Whether readers deduplicate, so that their records depend on their marks.
    pub(super) fn dedup_at_readers(&self) -> bool {
        matches!(self, SimStreams::Service(_))
    }

    /// Creates the streams that do not exist yet.
    pub(super) async fn create(&self, shape: &PipelineShape, context: &Context) -> Result<()> {
        if self.dedup_at_readers() {
            return Ok(());
        }
        for log in [Log::Raw, Log::Clean] {
            let options = CreateOptions {
                shards: shape.shards,
                codec: Codec::Lz4,
                segment_bytes: shape.segment_bytes,
                linger: shape.linger,
                retention_time: shape.retention_time,
                ..CreateOptions::default()
            };
            hydrant_stream::local::create(log.dir(), &options, context).await?;
        }
        Ok(())
    }

    pub(super) async fn open(&self, log: Log, context: &Context) -> Result<SharedStream> {
        match self {
            SimStreams::Embedded => Streams::default().open(log.url(), context).await,
            SimStreams::Service(service) => {
                let stream: SharedStream = Arc::new(service.stream(log).clone());
                Ok(Arc::new(Layered(Remote::new(stream, &context.disk))))
            }
        }
    }

    /// Sets the faults of requests to the service from now on. Without faults, all requests under way land.
    pub(super) fn set_faults(&self, faults: Option<StreamFaults>) {
        if let SimStreams::Service(service) = self {
            for log in [Log::Raw, Log::Clean] {
                service.stream(log).set_faults(faults.unwrap_or_default());
                if faults.is_none() {
                    service.stream(log).land_everything();
                }
            }
        }
    }

    /// Splits a shard, or merges it with its neighbour.
    pub(super) async fn reshard(
        &self,
        log: Log,
        merge: bool,
        which: u64,
        context: &Context,
    ) -> Result<()> {
        let stream = self.open(log, context).await?;
        let admin = stream.admin();
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

    /// Makes all workers of the stage after `log` appear dead to each other, so that each shard may have two owners for a
    /// while.
    pub(super) async fn disown(&self, log: Log, context: &Context) -> Result<()> {
        if let SimStreams::Service(service) = self {
            service.stream(log).disown_workers();
            return Ok(());
        }
        let dir = log.dir();
        for listed in context.disk.list(dir).await.unwrap_or_default() {
            for app in ["transform", "fused", "sink"] {
                let apps = dir.join(&listed.name).join("_apps");
                roles::remove_files(&apps.join(app).join("workers"), context).await?;
            }
        }
        Ok(())
    }
}

impl Service {
    fn stream(&self, log: Log) -> &MemoryStream {
        match log {
            Log::Raw => &self.raw,
            Log::Clean => &self.clean,
        }
    }
}

impl Log {
    pub(super) fn name(self) -> &'static str {
        match self {
            Log::Raw => "raw",
            Log::Clean => "clean",
        }
    }

    /// The directory of the log.
    pub(super) fn dir(self) -> &'static Path {
        Path::new(match self {
            Log::Raw => "/raw",
            Log::Clean => "/clean",
        })
    }

    pub(super) fn url(self) -> &'static str {
        match self {
            Log::Raw => "local:/raw",
            Log::Clean => "local:/clean",
        }
    }
}
