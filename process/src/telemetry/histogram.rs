//! Histograms that count each sample when it is recorded.
//!
//! Owns the buckets of all histograms of a process and their text form. Promises that a sample costs one addition to a
//! bucket, however many rows it stands for, and that memory does not grow with samples. The exporter would keep each
//! sample with its time until the next scrape.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::PrometheusRecorder;

/// Upper bounds of histograms whose names end in `_seconds`: from a local fsync to a stream that stopped for an hour.
const SECONDS_BUCKETS: &[f64] = &[
    0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0,
];

fn bounds_of(name: &str) -> Vec<f64> {
    match name.rsplit('_').next() {
        Some("seconds") => SECONDS_BUCKETS.to_vec(),
        // From a record to a large file: 256 bytes to 1 GiB.
        Some("bytes") => (4..=15).map(|n| 4_f64.powi(n)).collect(),
        // Records or files: up to ten million.
        _ => (0..=7).map(|n| 10_f64.powi(n)).collect(),
    }
}

/// One histogram.
#[derive(Debug)]
struct Buckets {
    bounds: Vec<f64>,
    /// Samples up to each bound and above the one before; the last is for those above all bounds.
    counts: Box<[AtomicU64]>,
    /// The sum of all samples, as the bits of a number.
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: Vec<f64>) -> Self {
        Buckets {
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            bounds,
            sum: AtomicU64::new(0f64.to_bits()),
        }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        debug_assert_eq!(self.counts.len(), self.bounds.len() + 1);
        self.counts[at].fetch_add(count as u64, Ordering::Relaxed);
        let more = value * count as f64;
        let add = |sum: u64| Some((f64::from_bits(sum) + more).to_bits());
        // The closure never refuses.
        let _before = self
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// All histograms by name, and each by its labels in their text form.
#[derive(Debug, Default)]
struct Named {
    help: BTreeMap<String, SharedString>,
    histograms: BTreeMap<String, BTreeMap<String, Arc<Buckets>>>,
}

/// The histograms of a process; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Histograms {
    named: Arc<Mutex<Named>>,
}

impl Histograms {
    fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, key: &Key) -> Arc<Buckets> {
        let mut labels = String::new();
        for label in key.labels() {
            let comma = if labels.is_empty() { "" } else { "," };
            let value = escaped(label.value());
            write!(labels, "{comma}{}=\"{value}\"", label.key())
                .expect("a string takes every text");
        }
        let mut named = self.named();
        let same_name = named.histograms.entry(key.name().to_owned()).or_default();
        let buckets = same_name
            .entry(labels)
            .or_insert_with(|| Arc::new(Buckets::new(bounds_of(key.name()))));
        Arc::clone(buckets)
    }

    /// Adds them in Prometheus' text format.
    pub(super) fn render(&self, text: &mut String) {
        let named = self.named();
        for (name, histograms) in &named.histograms {
            if let Some(help) = named.help.get(name) {
                line(text, format_args!("# HELP {name} {help}"));
            }
            line(text, format_args!("# TYPE {name} histogram"));
            for (labels, buckets) in histograms {
                let comma = if labels.is_empty() { "" } else { "," };
                let mut count = 0;
                let bounds = buckets.bounds.iter().map(f64::to_string);
                let bounds = bounds.chain(["+Inf".to_owned()]);
                for (bound, more) in bounds.zip(&buckets.counts) {
                    count += more.load(Ordering::Relaxed);
                    let labels = format_args!("{labels}{comma}le=\"{bound}\"");
                    line(text, format_args!("{name}_bucket{{{labels}}} {count}"));
                }
                let sum = f64::from_bits(buckets.sum.load(Ordering::Relaxed));
                let labels = match labels.as_str() {
                    "" => String::new(),
                    labels => format!("{{{labels}}}"),
                };
                line(text, format_args!("{name}_sum{labels} {sum}"));
                line(text, format_args!("{name}_count{labels} {count}"));
            }
            text.push('\n');
        }
    }
}

fn line(text: &mut String, line: fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes every text");
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Records histograms here and everything else with the exporter.
pub(super) struct CountingRecorder {
    pub(super) others: PrometheusRecorder,
    pub(super) histograms: Histograms,
}

impl Recorder for CountingRecorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.others.describe_counter(key, unit, help);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.others.describe_gauge(key, unit, help);
    }

    /// Keeps the sentence for every kind: [`super::describe`] does not know the kinds.
    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        let mut named = self.histograms.named();
        named.help.insert(key.as_str().to_owned(), help.clone());
        self.others.describe_gauge(key, unit, help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.others.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.others.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.histograms.register(key))
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_sample_counts_for_many_and_falls_into_its_bucket() {
        let histograms = Histograms::default();
        let recorder = CountingRecorder {
            others: PrometheusBuilder::new().build_recorder(),
            histograms: histograms.clone(),
        };
        metrics::with_local_recorder(&recorder, || {
            let seconds = metrics::histogram!("hydrant_test_seconds", "shard" => "a\"b\\");
            seconds.record_many(0.25, 3_000_000_000);
            metrics::histogram!("hydrant_test_seconds", "shard" => "a\"b\\").record(4000.0);
            metrics::histogram!("hydrant_test_rows").record(7.0);
        });
        let mut text = String::new();
        histograms.render(&mut text);
        let labels = "shard=\"a\\\"b\\\\\"";
        for line in [
            "# TYPE hydrant_test_seconds histogram".to_owned(),
            format!("hydrant_test_seconds_bucket{{{labels},le=\"0.1\"}} 0"),
            format!("hydrant_test_seconds_bucket{{{labels},le=\"0.25\"}} 3000000000"),
            format!("hydrant_test_seconds_bucket{{{labels},le=\"3600\"}} 3000000000"),
            format!("hydrant_test_seconds_bucket{{{labels},le=\"+Inf\"}} 3000000001"),
            format!("hydrant_test_seconds_sum{{{labels}}} 750004000"),
            format!("hydrant_test_seconds_count{{{labels}}} 3000000001"),
            "hydrant_test_rows_bucket{le=\"10\"} 1".to_owned(),
            "hydrant_test_rows_sum 7".to_owned(),
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "`{line}` is not in\n{text}"
            );
        }
    }
}
