//! Metrics and health of a process.
//!
//! Stages record through the `metrics` facade (`hydrant_<stage>_<what>_<unit>`, labels of low cardinality: stream,
//! shard, stage, reason). Without `--metrics` no recorder is installed and recording costs nothing. With it, [`Metrics`]
//! aggregates and [`server::Server`] answers `/metrics`, `/healthz` and `/readyz`.

pub mod server;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::Unit;
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::budget::Budget;
use crate::clock::{self, Instant};
use crate::error::{Error, Result};

/// Upper bounds of histograms whose names end in `_seconds`: from a local fsync to a stream that stood still.
const SECONDS_BUCKETS: &[f64] = &[
    0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0,
];

/// Upper bounds of histograms whose names end in `_bytes`: from a record to a large file.
const BYTES_BUCKETS: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

/// Upper bounds of all other histograms: counts of records or files.
const COUNT_BUCKETS: &[f64] = &[
    1.0,
    10.0,
    100.0,
    1_000.0,
    10_000.0,
    100_000.0,
    1_000_000.0,
    10_000_000.0,
];

/// How often samples are folded into their histograms when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Whether a process can take work; cheap to clone. Not ready at first.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    ready: Arc<AtomicBool>,
}

impl Readiness {
    /// Tells whether the process can take work now.
    pub fn set(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Whether the process can take work now.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution.
    Histogram,
}

/// What a metric means, for `# HELP` lines.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit, when it has one.
    pub unit: Option<Unit>,
    /// One sentence.
    pub help: &'static str,
}

/// Tells the recorder what metrics mean; each stage calls it once at start.
pub fn describe(all: &[Described]) {
    metrics::with_recorder(|recorder| {
        for one in all {
            let (name, help) = (one.name.into(), one.help.into());
            match one.kind {
                Kind::Counter => recorder.describe_counter(name, one.unit, help),
                Kind::Gauge => recorder.describe_gauge(name, one.unit, help),
                Kind::Histogram => recorder.describe_histogram(name, one.unit, help),
            }
        }
    });
}

const PROCESS: &[Described] = &[
    Described {
        name: "hydrant_process_budget_held_bytes",
        kind: Kind::Gauge,
        unit: Some(Unit::Bytes),
        help: "Bytes of the memory budget that buffers hold.",
    },
    Described {
        name: "hydrant_process_budget_total_bytes",
        kind: Kind::Gauge,
        unit: Some(Unit::Bytes),
        help: "The memory budget.",
    },
    Described {
        name: "hydrant_process_budget_waiting",
        kind: Kind::Gauge,
        unit: None,
        help: "1 while a request waits for bytes of the memory budget.",
    },
    Described {
        name: "hydrant_process_resident_bytes",
        kind: Kind::Gauge,
        unit: Some(Unit::Bytes),
        help: "Memory of the process as the kernel counts it.",
    },
    Described {
        name: "hydrant_process_uptime_seconds",
        kind: Kind::Gauge,
        unit: Some(Unit::Seconds),
        help: "Time since the process started.",
    },
];

/// The metrics of a process.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    budget: Budget,
    started: Instant,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Makes this process record metrics. A second call shares the recorder of the first.
    pub fn install(budget: &Budget) -> Result<Self> {
        static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = match &*installed {
            Some(handle) => handle.clone(),
            None => {
                let recorder = recorder()?;
                let handle = recorder.handle();
                metrics::set_global_recorder(recorder)
                    .map_err(|_| Error::fatal("another metrics recorder is installed"))?;
                installed.insert(handle).clone()
            }
        };
        drop(installed);
        describe(PROCESS);
        Ok(Metrics::over(handle, budget))
    }

    fn over(handle: PrometheusHandle, budget: &Budget) -> Self {
        Metrics {
            handle,
            budget: budget.clone(),
            started: clock::now(),
        }
    }

    /// All metrics in Prometheus' text format.
    #[allow(clippy::cast_precision_loss, reason = "gauges are floating point")]
    pub fn render(&self) -> String {
        let pressed = if self.budget.is_pressed() { 1.0 } else { 0.0 };
        metrics::gauge!("hydrant_process_budget_held_bytes").set(self.budget.held_bytes() as f64);
        metrics::gauge!("hydrant_process_budget_total_bytes").set(self.budget.total_bytes() as f64);
        metrics::gauge!("hydrant_process_budget_waiting").set(pressed);
        metrics::gauge!("hydrant_process_uptime_seconds").set(self.started.elapsed().as_secs_f64());
        if let Some(resident) = resident_bytes() {
            metrics::gauge!("hydrant_process_resident_bytes").set(resident as f64);
        }
        self.handle.render()
    }

    /// The sum of a counter or gauge over all its labels; 0 when nothing was recorded.
    pub fn total(&self, name: &str) -> f64 {
        let text = self.handle.render();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let labelled = rest.starts_with('{') || rest.starts_with(' ');
            let value = rest.rsplit(' ').next()?;
            if labelled {
                value.parse::<f64>().ok()
            } else {
                None
            }
        });
        values.sum()
    }

    /// Folds samples into histograms without end, so that a process that nobody scrapes stays small.
    pub async fn keep_up(self) {
        loop {
            clock::sleep(UPKEEP).await;
            self.handle.run_upkeep();
        }
    }
}

fn recorder() -> Result<PrometheusRecorder> {
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    let build = || {
        PrometheusBuilder::new()
            .set_buckets(COUNT_BUCKETS)?
            .set_buckets_for_metric(suffix("_seconds"), SECONDS_BUCKETS)?
            .set_buckets_for_metric(suffix("_bytes"), BYTES_BUCKETS)
    };
    match build() {
        Ok(builder) => Ok(builder.build_recorder()),
        Err(error) => Err(Error::fatal(format!("cannot set up metrics: {error}"))),
    }
}

#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_the_buckets_of_their_units() {
        let recorder = recorder().unwrap();
        let budget = Budget::new(1 << 20);
        let metrics = Metrics::over(recorder.handle(), &budget);
        let held = budget.try_acquire(4096).unwrap();
        let text = metrics::with_local_recorder(&recorder, || {
            describe(PROCESS);
            metrics::histogram!("hydrant_test_wait_seconds", "shard" => "0").record(0.02);
            metrics::histogram!("hydrant_test_file_bytes").record(5000.0);
            metrics::histogram!("hydrant_test_batch_records").record(50.0);
            metrics::counter!("hydrant_test_records_total").increment(3);
            metrics.render()
        });
        drop(held);
        for line in [
            "hydrant_test_wait_seconds_bucket{shard=\"0\",le=\"0.025\"} 1",
            "hydrant_test_file_bytes_bucket{le=\"4096\"} 0",
            "hydrant_test_file_bytes_bucket{le=\"16384\"} 1",
            "hydrant_test_batch_records_bucket{le=\"100\"} 1",
            "hydrant_test_records_total 3",
            "hydrant_process_budget_held_bytes 4096",
            "hydrant_process_budget_total_bytes 1048576",
            "# HELP hydrant_process_uptime_seconds Time since the process started.",
        ] {
            assert!(text.contains(line), "`{line}` is not in\n{text}");
        }
    }
}
