//! The figures of the local log.

use hydrant_core::ShardId;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The figures of one shard that this process appends to.
#[derive(Clone, Debug)]
pub(super) struct ShardMetrics {
    pub(super) bytes: Counter,
    pub(super) records: Counter,
    pub(super) duplicates: Counter,
    pub(super) syncs: Counter,
    pub(super) sync_seconds: Histogram,
    pub(super) group_appends: Histogram,
    pub(super) recoveries: Counter,
    pub(super) origins: Gauge,
    pub(super) queued_bytes: Gauge,
}

fn labels(stream: &str, shard: &ShardId) -> [(&'static str, String); 2] {
    let shard = shard.as_str().to_owned();
    [("stream", stream.to_owned()), ("shard", shard)]
}

impl ShardMetrics {
    pub(super) fn new(stream: &str, shard: &ShardId) -> Self {
        let labels = labels(stream, shard);
        ShardMetrics {
            bytes: counter!("hydrant_local_append_bytes_total", &labels),
            records: counter!("hydrant_local_append_records_total", &labels),
            duplicates: counter!("hydrant_local_append_duplicates_total", &labels),
            syncs: counter!("hydrant_local_syncs_total", &labels),
            sync_seconds: histogram!("hydrant_local_sync_seconds", &labels),
            group_appends: histogram!("hydrant_local_group_appends", &labels),
            recoveries: counter!("hydrant_local_recoveries_total", &labels),
            origins: gauge!("hydrant_local_origins", &labels),
            queued_bytes: gauge!("hydrant_local_queued_bytes", &labels),
        }
    }
}

/// Counts a shard that this process has closed since the holder of its lock does not go on.
pub(super) fn fenced(stream: &str, shard: &ShardId) {
    counter!("hydrant_local_fences_total", &labels(stream, shard)).increment(1);
}

/// The figures of one shard that this process reads.
#[derive(Clone, Debug)]
pub(super) struct ReadMetrics {
    pub(super) bytes: Counter,
    pub(super) records: Counter,
    pub(super) gaps: Counter,
    pub(super) lag: Gauge,
}

impl ReadMetrics {
    pub(super) fn new(stream: &str, shard: &ShardId) -> Self {
        let labels = labels(stream, shard);
        ReadMetrics {
            bytes: counter!("hydrant_local_read_bytes_total", &labels),
            records: counter!("hydrant_local_read_records_total", &labels),
            gaps: counter!("hydrant_local_gaps_total", &labels),
            lag: gauge!("hydrant_local_read_lag_offsets", &labels),
        }
    }
}
