//! Records what each shard of a run has read and published. The end of the run, the metrics and the summary are derived
//! from it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hydrant_core::clock::Instant;
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{Behind, Start};
use serde::Serialize;
use tokio::sync::Notify;

/// The work of a run in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShardSummary {
    /// Records read; records read again after a failure count again.
    pub records: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Batches read.
    pub batches: u64,
    /// Publishes that succeeded.
    pub published: u64,
    /// Gaps met: records that retention removed before they were read, or that an operator skipped.
    pub gaps: u64,
    /// The position up to which everything is published.
    pub to: Position,
    /// Records between `to` and the newest record of the shard when the lag was last measured, where the stream counts
    /// them.
    pub lag: Option<u64>,
}

/// The work of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Records read; records read again after a failure count again.
    pub records: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Batches read.
    pub batches: u64,
    /// Publishes that succeeded.
    pub published: u64,
    /// Gaps met.
    pub gaps: u64,
    /// Each shard that this worker has read, by name.
    pub shards: BTreeMap<ShardId, ShardSummary>,
}

/// The status of a shard while a task works on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardStatus {
    pub(crate) summary: ShardSummary,
    /// Where the app began in the shard, where the stream keeps that as it was asked for.
    pub(crate) began: Option<Start>,
    /// When the reader ran out of records; `None` while it has some.
    pub(crate) idle_since: Option<Instant>,
    /// Everything that was pushed is published and in the ledger.
    pub(crate) checkpointed: bool,
    /// Bytes pushed since the last publish. A stage that publishes beside the pushes may hold more, and publishes by
    /// itself when memory is short.
    pub(crate) held_bytes: u64,
    /// A task works on the shard now.
    pub(crate) active: bool,
    /// The shard has ended, or is another worker's to measure.
    pub(crate) left: bool,
    /// How far the shard was behind when it was last measured.
    behind: Option<Behind>,
}

impl ShardStatus {
    /// Whether nothing more is to be read, published or written into the ledger.
    pub(crate) fn is_quiet(&self) -> bool {
        self.checkpointed && self.idle_since.is_some()
    }
}

/// The statuses of all shards of a run, written once a batch.
#[derive(Debug, Default)]
pub(crate) struct ProgressBoard {
    shards: Mutex<BTreeMap<ShardId, ShardStatus>>,
    /// Notified when a shard has become idle with everything in the ledger.
    pub(crate) became_quiet: Notify,
}

impl ProgressBoard {
    /// Changes the status of a shard.
    pub(crate) fn update<T>(&self, shard: &ShardId, edit: impl FnOnce(&mut ShardStatus) -> T) -> T {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let status = shards.entry(shard.clone()).or_default();
        let before = status.is_quiet();
        let answer = edit(status);
        if !before && status.is_quiet() {
            self.became_quiet.notify_one();
        }
        answer
    }

    /// Whether the stage holds something for `shard`, and no more for any other shard of this run.
    pub(crate) fn holds_most(&self, shard: &ShardId) -> bool {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = shards.get(shard).map_or(0, |status| status.held_bytes);
        mine > 0 && shards.values().all(|other| other.held_bytes <= mine)
    }

    /// Whether no shard that is worked on has anything to read.
    pub(crate) fn all_idle(&self) -> bool {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards
            .values()
            .all(|status| !status.active || status.idle_since.is_some())
    }

    /// Returns the status of each shard of this run.
    pub(crate) fn statuses(&self) -> BTreeMap<ShardId, ShardStatus> {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.clone()
    }

    /// Notes that no task works on a shard any more; `left` as in [`ShardStatus::left`], and then nothing lags here.
    pub(crate) fn stopped(&self, stream: &str, shard: &ShardId, left: bool) {
        let behind = self.update(shard, |status| {
            (status.active, status.left, status.held_bytes) = (false, left, 0);
            if left {
                let ended = status.summary.to == Position::End;
                status.summary.lag = ended.then_some(0);
            }
            status.behind.take_if(|_| left)
        });
        if let Some(behind) = behind {
            gauge_lag(
                stream,
                shard,
                match behind {
                    Behind::Time(_) => Behind::Time(Duration::ZERO),
                    Behind::Done | Behind::Records(_) => Behind::Done,
                },
            );
        }
    }

    /// Notes how far a shard is behind.
    pub(crate) fn measured(&self, stream: &str, shard: &ShardId, behind: Behind) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(status) = shards.get_mut(shard) else {
            return;
        };
        if status.left {
            return;
        }
        status.summary.lag = match behind {
            Behind::Done => Some(0),
            Behind::Records(records) => Some(records),
            Behind::Time(_) => None,
        };
        if status.active {
            status.behind = Some(behind);
            gauge_lag(stream, shard, behind);
        }
    }

    /// Returns the counts so far.
    pub(crate) fn summary(&self) -> Summary {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Summary::default();
        for (id, status) in shards.iter() {
            let shard = &status.summary;
            all.records += shard.records;
            all.bytes += shard.bytes;
            all.batches += shard.batches;
            all.published += shard.published;
            all.gaps += shard.gaps;
            all.shards.insert(id.clone(), shard.clone());
        }
        all
    }
}

fn gauge_lag(stream: &str, shard: &ShardId, behind: Behind) {
    let labels = [("stream", stream.to_owned()), ("shard", shard.to_string())];
    let records = match behind {
        Behind::Time(time) => {
            metrics::gauge!("hydrant_consumer_lag_seconds", &labels).set(time.as_secs_f64());
            return;
        }
        Behind::Done => 0,
        Behind::Records(records) => records,
    };
    metrics::gauge!("hydrant_consumer_lag_records", &labels).set(records as f64);
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_shard_that_was_left_does_not_lag() {
        let (board, shard) = (ProgressBoard::default(), "a".into());
        let lag = || board.summary().shards[&shard].lag;
        for (name, behind) in [
            ("lag_records", Behind::Records(7)),
            ("lag_seconds", Behind::Time(Duration::from_secs(7))),
        ] {
            for left in [false, true] {
                let recorder = PrometheusBuilder::new().build_recorder();
                let value = if left { 0 } else { 7 };
                let line = format!("hydrant_consumer_{name}{{stream=\"s\",shard=\"a\"}} {value}\n");
                let lags = || recorder.handle().render().contains(&line);
                metrics::with_local_recorder(&recorder, || {
                    board.update(&shard, |status| {
                        (status.active, status.left) = (true, false)
                    });
                    board.measured("s", &shard, behind);
                    board.stopped("s", &shard, left);
                    assert!(lags(), "no `{line}`");
                    board.measured("s", &shard, Behind::Records(9));
                    assert_eq!(lag(), (!left).then_some(9));
                    assert!(lags(), "it was measured elsewhere");
                });
            }
        }
    }
}
