//! Counts what a producer does, and reports it at the end.
//!
//! `accepted = stored + duplicates` when everything accepted was answered; refused records are none of
//! these. Latency runs from the moment at which a batch's first record came (or was due, with a rate)
//! until the batch was known to be durable, weighted by records.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::HumanCount;
use serde::Serialize;

use crate::batcher::{Refusal, RefusedRecord};

/// Refused records that are logged one by one.
const LOGGED_REFUSALS: u64 = 10;

/// An hour, the longest latency that is measured.
const LATENCY_MICROS_MAX: u64 = 3_600_000_000;

/// Counts of a running producer, for a display of its progress.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    durable: AtomicU64,
    bytes: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    /// Records taken from the input to be sent.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Records that are durable in the stream, duplicates included.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Relaxed)
    }

    /// Key and payload bytes of the durable records.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Records that are not sent.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Why a producer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// The input has ended.
    #[default]
    Input,
    /// It was asked to stop; what had been accepted was stored first.
    Drained,
}

/// How long records took to become durable, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the records took at most this.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// All.
    pub max: f64,
}

/// What a producer did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunReport {
    /// The stream's URL.
    pub url: String,
    /// The stream's name and incarnation.
    pub stream: String,
    /// The producer's name, where it has one.
    pub name: Option<String>,
    /// Why it ended.
    pub ended: EndCause,
    /// Records taken from the input to be sent.
    pub accepted: u64,
    /// Records that this run added to the stream.
    pub stored: u64,
    /// Records that the stream had already.
    pub duplicates: u64,
    /// Records that were not sent, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Records sent without a partition key.
    pub keyless: u64,
    /// Key and payload bytes accepted.
    pub bytes: u64,
    /// From the first record to the last confirmation.
    pub seconds: f64,
    /// Accepted records a second.
    pub records_per_second: f64,
    /// Accepted megabytes (10^6 bytes) a second.
    pub megabytes_per_second: f64,
    /// From record to durable.
    pub latency_ms: Latency,
    /// The input's index below which every record is stored or refused; of several files, the sum of theirs.
    pub next_index: u64,
}

/// Counts for the final report, and for metrics and progress on the way.
pub(crate) struct RunTally {
    counters: std::sync::Arc<Counters>,
    report: RunReport,
    latency: Histogram<u64>,
    /// The key that records should have, until it is known whether any has.
    wanted_key: Option<String>,
}

impl RunTally {
    /// Counts into a report that names the stream and the producer.
    pub(crate) fn new(counters: std::sync::Arc<Counters>, report: RunReport) -> Self {
        for metrics in [METRICS, hydrant_stream::METRICS] {
            hydrant_process::telemetry::describe(metrics);
        }
        RunTally {
            counters,
            report,
            latency: Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3)
                .expect("the bounds are constants that fit"),
            wanted_key: None,
        }
    }

    /// Warns when none of the first records has this key.
    pub(crate) fn wanting_key(mut self, key: Option<&str>) -> Self {
        self.wanted_key = key.map(str::to_owned);
        self
    }

    /// What is to be said when so many first records lack the key that they should have.
    fn about_first(&mut self, records: u64, keyless: u64) -> Option<String> {
        let key = self.wanted_key.take_if(|_| records > 0)?;
        (keyless == records).then(|| {
            format!(
                "none of the first {records} records has the field of `--key {key}`: they have no key, and records of one device \
                 are in no order"
            )
        })
    }

    pub(crate) fn accepted(&mut self, records: u64, keyless: u64, bytes: u64) {
        self.counters.accepted.fetch_add(records, Ordering::Relaxed);
        if let Some(said) = self.about_first(records, keyless) {
            tracing::warn!("{said}");
        }
        self.report.keyless += keyless;
        self.report.bytes += bytes;
        metrics::counter!("hydrant_producer_records_total").increment(records);
        metrics::counter!("hydrant_producer_bytes_total").increment(bytes);
        if keyless > 0 {
            metrics::counter!("hydrant_producer_keyless_total").increment(keyless);
        }
    }

    pub(crate) fn refused(&mut self, input: &str, refused: &[RefusedRecord]) {
        for one in refused {
            let before = self.counters.refused.fetch_add(1, Ordering::Relaxed);
            *self.report.refused.entry(one.reason.name()).or_default() += 1;
            metrics::counter!("hydrant_producer_refused_total", "reason" => one.reason.name())
                .increment(1);
            if one.reason == Refusal::InternalFault {
                tracing::error!(
                    input,
                    line = one.line,
                    "a record is not sent: {}",
                    one.reason.why()
                );
            } else if before < LOGGED_REFUSALS {
                tracing::warn!(
                    input,
                    line = one.line,
                    bytes = one.length,
                    "a record is not sent: {}",
                    one.reason.why()
                );
            } else if before == LOGGED_REFUSALS {
                tracing::warn!("more records are not sent: the report only counts them");
            }
        }
    }

    pub(crate) fn durable(&mut self, records: u64, bytes: u64, took: Duration) {
        self.counters.durable.fetch_add(records, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.latency.saturating_record_n(micros, records);
        metrics::histogram!("hydrant_producer_durable_seconds").record(took.as_secs_f64());
    }

    #[allow(clippy::cast_precision_loss, reason = "rates for people")]
    pub(crate) fn report(
        self,
        ended: EndCause,
        duplicates: u64,
        elapsed: Duration,
        next_index: u64,
    ) -> RunReport {
        let accepted = self.counters.accepted();
        let seconds = elapsed.as_secs_f64();
        let a_second = |amount: f64| {
            if seconds > 0.0 { amount / seconds } else { 0.0 }
        };
        let millis = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        let latency_ms = if self.latency.is_empty() {
            Latency::default()
        } else {
            Latency {
                p50: millis(0.5),
                p90: millis(0.9),
                p99: millis(0.99),
                p999: millis(0.999),
                max: self.latency.max() as f64 / 1e3,
            }
        };
        RunReport {
            ended,
            accepted,
            stored: self.counters.durable().saturating_sub(duplicates),
            duplicates,
            seconds,
            records_per_second: a_second(accepted as f64),
            megabytes_per_second: a_second(self.report.bytes as f64 / 1e6),
            latency_ms,
            next_index,
            ..self.report
        }
    }
}

impl RunReport {
    /// The report for people: a name and a value in each line.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people"
    )]
    pub fn table(&self) -> String {
        let refused: u64 = self.refused.values().sum();
        let grouped = |number| HumanCount(number).to_string();
        let reasons = self.refused.iter();
        let reasons: Vec<String> = reasons
            .map(|(reason, count)| format!("{reason} {}", grouped(*count)))
            .collect();
        let latency = &self.latency_ms;
        // A name, a number that is aligned with the others, and what follows it.
        let count = |name, number| (name, grouped(number), String::new());
        let said = |name, text| (name, String::new(), text);
        let why = if refused == 0 {
            String::new()
        } else {
            format!(" ({}): not in the stream", reasons.join(", "))
        };
        let mut rows = vec![
            said("stream", self.stream.clone()),
            count("accepted", self.accepted),
            count("stored", self.stored),
            count("duplicates", self.duplicates),
            ("refused", grouped(refused), why),
            count("without key", self.keyless),
            count("bytes", self.bytes),
            count("next index", self.next_index),
            said(
                "rate",
                format!(
                    "{} records/s, {:.1} MB/s over {:.2} s",
                    grouped(self.records_per_second.round() as u64),
                    self.megabytes_per_second,
                    self.seconds
                ),
            ),
            said(
                "until durable",
                format!(
                    "p50 {:.1} ms, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}",
                    latency.p50, latency.p90, latency.p99, latency.p999, latency.max
                ),
            ),
        ];
        if let Some(name) = &self.name {
            rows.insert(1, said("name", name.clone()));
        }
        let width = rows.iter().map(|row| row.1.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, number, more) in rows {
            let width = if number.is_empty() { 0 } else { width };
            text.push_str(&format!("{name:>14}  {number:>width$}{more}\n"));
        }
        text
    }
}

const METRICS: &str = "\
hydrant_producer_records_total Records accepted from the input.
hydrant_producer_bytes_total Key and payload bytes of the accepted records.
hydrant_producer_keyless_total Records sent without a partition key.
hydrant_producer_refused_total Records that were not sent, by reason.
hydrant_producer_durable_seconds Seconds from the first record of a batch until the batch is durable.
";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn latencies_are_weighted_by_records() {
        let named = RunReport {
            stream: "raw@1".to_owned(),
            name: Some("edge".to_owned()),
            ..RunReport::default()
        };
        let mut tally = RunTally::new(Arc::default(), named);
        tally.accepted(1_000, 3, 5_000);
        tally.durable(990, 4_950, Duration::from_millis(2));
        tally.durable(10, 50, Duration::from_millis(500));
        let refusals = [
            Refusal::LineTooLong,
            Refusal::RecordTooLarge,
            Refusal::LineTooLong,
        ];
        tally.refused(
            "in",
            &refusals.map(|reason| RefusedRecord {
                index: 4,
                line: 5,
                length: 9,
                reason,
            }),
        );
        let report = tally.report(EndCause::Input, 100, Duration::from_secs(2), 1_003);
        assert_eq!(
            (report.accepted, report.stored, report.duplicates),
            (1_000, 900, 100)
        );
        assert_eq!(report.refused["line_too_long"], 2);
        assert!((report.records_per_second - 500.0).abs() < 1e-9);
        let latency = report.latency_ms;
        assert!((1.9..2.1).contains(&latency.p90) && (1.9..2.1).contains(&latency.p99));
        assert!((490.0..510.0).contains(&latency.p999) && latency.max >= 500.0);
        let table = report.table();
        for text in [
            "edge",
            "accepted  1,000\n",
            "stored    900\n",
            "refused      3 (line_too_long 2, record_too_large 1): not in the stream\n",
            "500 records/s",
        ] {
            assert!(table.contains(text), "`{text}` is not in\n{table}");
        }
    }

    #[test]
    fn a_key_that_no_first_record_has_is_told_once() {
        let tally = || RunTally::new(Arc::default(), RunReport::default()).wanting_key(Some("id"));
        let (mut none, mut some) = (tally(), tally());
        assert_eq!(none.about_first(0, 0), None);
        let said = none.about_first(7, 7).unwrap();
        assert!(
            said.contains("first 7 records") && said.contains("`--key id`"),
            "{said}"
        );
        assert_eq!(none.about_first(7, 7), None);
        assert_eq!(some.about_first(7, 6), None);
        assert_eq!(some.about_first(7, 7), None);
    }

    #[test]
    fn a_producer_that_did_nothing_reports_zeros() {
        let tally = RunTally::new(Arc::default(), RunReport::default());
        let report = tally.report(EndCause::Drained, 0, Duration::ZERO, 7);
        assert_eq!(report.latency_ms, Latency::default());
        assert_eq!(
            serde_json::to_value(&report).unwrap()["records_per_second"],
            0.0
        );
        assert!(report.table().contains("accepted  0\n"));
    }
}
