//! The figures of the local log.

use std::time::Duration;

use hydrant_core::ShardId;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The figures of one shard that this process appends to.
#[derive(Clone)]
pub(super) struct ShardMetrics {
    bytes: Counter,
    records: Counter,
    duplicates: Counter,
    syncs: Counter,
    sync_seconds: Histogram,
    group_appends: Histogram,
    recoveries: Counter,
    origins: Gauge,
    queued_bytes: Gauge,
}

impl std::fmt::Debug for ShardMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShardMetrics")
    }
}

impl ShardMetrics {
    pub(super) fn new(stream: &str, shard: &ShardId) -> Self {
        let labels = [
            ("stream", stream.to_owned()),
            ("shard", shard.as_str().to_owned()),
        ];
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

    pub(super) fn appended(&self, appends: usize, records: u64, bytes: u64, duplicates: u64) {
        self.bytes.increment(bytes);
        self.records.increment(records);
        self.duplicates.increment(duplicates);
        self.group_appends.record(appends as f64);
    }

    pub(super) fn synced(&self, took: Duration) {
        self.syncs.increment(1);
        self.sync_seconds.record(took.as_secs_f64());
    }

    pub(super) fn recovered(&self) {
        self.recoveries.increment(1);
    }

    pub(super) fn origins(&self, count: usize) {
        self.origins.set(count as f64);
    }

    pub(super) fn queued(&self, bytes: u64) {
        self.queued_bytes.set(bytes as f64);
    }
}

/// Counts a shard that this process has closed since the holder of its lock does not go on.
pub(super) fn fenced(stream: &str, shard: &ShardId) {
    let labels = [
        ("stream", stream.to_owned()),
        ("shard", shard.as_str().to_owned()),
    ];
    counter!("hydrant_local_fences_total", &labels).increment(1);
}

/// The figures of one shard that this process reads.
#[derive(Clone)]
pub(super) struct ReadMetrics {
    bytes: Counter,
    records: Counter,
    gaps: Counter,
    lag: Gauge,
}

impl std::fmt::Debug for ReadMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadMetrics")
    }
}

impl ReadMetrics {
    pub(super) fn new(stream: &str, shard: &ShardId) -> Self {
        let labels = [
            ("stream", stream.to_owned()),
            ("shard", shard.as_str().to_owned()),
        ];
        ReadMetrics {
            bytes: counter!("hydrant_local_read_bytes_total", &labels),
            records: counter!("hydrant_local_read_records_total", &labels),
            gaps: counter!("hydrant_local_gaps_total", &labels),
            lag: gauge!("hydrant_local_read_lag_offsets", &labels),
        }
    }

    pub(super) fn read(&self, records: u64, bytes: u64, lag: u64) {
        self.bytes.increment(bytes);
        self.records.increment(records);
        self.lag.set(lag as f64);
    }

    pub(super) fn gap(&self) {
        self.gaps.increment(1);
    }
}
