//! Metrics and health of a process.
//!
//! Stages record through the `metrics` facade (`hydrant_<stage>_<what>_<unit>`, labels of low cardinality: stream,
//! shard, stage, reason). Without `--metrics` no recorder is installed and recording costs nothing. With it, [`Metrics`]
//! aggregates and [`server::Server`] answers `/metrics`, `/healthz` and `/readyz`.

mod histogram;
pub mod server;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use hydrant_core::budget::Budget;
use hydrant_core::clock::{self, Instant};
use hydrant_core::error::{Error, Result};

use histogram::{CountingRecorder, Histograms};

/// Something that becomes true once and stays so; cheap to clone, and each clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Latch(Arc<AtomicBool>);

impl Latch {
    /// Makes it true.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is true.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Describes metrics to the recorder, for their `# HELP` lines: in each line of `all` the name and one sentence. Each
/// stage calls it once at start.
pub fn describe(all: &'static str) {
    metrics::with_recorder(|recorder| {
        for (name, help) in all.lines().filter_map(|line| line.split_once(' ')) {
            // The recorder keeps the sentences by name, whatever kind of metric has it.
            recorder.describe_histogram(name.into(), None, help.into());
        }
    });
}

const METRICS: &str = "\
hydrant_process_budget_held_bytes Bytes of the memory budget in use.
hydrant_process_budget_total_bytes Size of the memory budget in bytes.
hydrant_process_budget_waiting 1 while a request waits for bytes of the memory budget.
hydrant_process_resident_bytes Resident memory of the process in bytes.
hydrant_process_uptime_seconds Time since the process started.
";

/// The metrics of a process.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    histograms: Histograms,
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
        static INSTALLED: Mutex<Option<(PrometheusHandle, Histograms)>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let recorders = match &*installed {
            Some(recorders) => recorders.clone(),
            None => {
                let recorder = recorder();
                let recorders = (recorder.others.handle(), recorder.histograms.clone());
                metrics::set_global_recorder(recorder)
                    .map_err(|_| Error::fatal("another metrics recorder is installed"))?;
                installed.insert(recorders).clone()
            }
        };
        drop(installed);
        describe(METRICS);
        Ok(Metrics::over(recorders, budget))
    }

    fn over((handle, histograms): (PrometheusHandle, Histograms), budget: &Budget) -> Self {
        Metrics {
            handle,
            histograms,
            budget: budget.clone(),
            started: clock::now(),
        }
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let pressed = if self.budget.is_pressed() { 1.0 } else { 0.0 };
        metrics::gauge!("hydrant_process_budget_held_bytes").set(self.budget.held_bytes() as f64);
        metrics::gauge!("hydrant_process_budget_total_bytes").set(self.budget.total_bytes() as f64);
        metrics::gauge!("hydrant_process_budget_waiting").set(pressed);
        metrics::gauge!("hydrant_process_uptime_seconds").set(self.started.elapsed().as_secs_f64());
        if let Some(resident) = resident_bytes() {
            metrics::gauge!("hydrant_process_resident_bytes").set(resident as f64);
        }
        let mut text = self.handle.render();
        self.histograms.render(&mut text);
        text
    }

    /// The sum of a counter or gauge over all its labels; 0 when nothing was recorded.
    pub fn total(&self, name: &str) -> f64 {
        let text = self.handle.render();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = rest
                .starts_with(['{', ' '])
                .then(|| rest.rsplit(' ').next());
            value??.parse::<f64>().ok()
        });
        values.sum()
    }
}

fn recorder() -> CountingRecorder {
    CountingRecorder {
        others: PrometheusBuilder::new().build_recorder(),
        histograms: Histograms::default(),
    }
}

/// Returns the memory that the kernel counts, where it tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_the_buckets_of_their_units() {
        let recorder = recorder();
        let budget = Budget::new(1 << 20);
        let recorders = (recorder.others.handle(), recorder.histograms.clone());
        let metrics = Metrics::over(recorders, &budget);
        let held = budget.try_acquire(4096).unwrap();
        let text = metrics::with_local_recorder(&recorder, || {
            describe(METRICS);
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
