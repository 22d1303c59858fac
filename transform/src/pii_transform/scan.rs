//! Scans one batch: decides which bytes stay, writes the changed ones, and notes the outcome of each record.
//!
//! A record's bytes lie in one segment, so a change of key or payload takes both into the new segment. Keys are
//! remembered within the batch, because the devices of a fleet send many records each.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::batch::{Batch, Entry, Span};
use hydrant_core::origin::{DeadLetter, Texts};
use hydrant_core::transform::{Source, Transformed};
use hydrant_core::workers::{INTERNAL_FAULT, contain_each};
use hydrant_pii::{Policy, ScanVerdict};

use super::STAGE;
use super::scanner::Scanner;

/// The reason of a dead letter for which the new segment of its batch has no room.
const NO_ROOM: &str = "too_large";
/// The most bytes of changed records of one batch; ranges have 32 bits.
const SEGMENT_BYTES_MAX: usize = 1 << 30;
/// The most keys of one batch that are remembered at once.
const KNOWN_KEYS_MAX: usize = 4096;

/// In each line the name of a metric and a sentence about it.
pub(super) const METRICS: &str = "\
hydrant_transform_records_total Records processed, by outcome.
hydrant_transform_findings_total Findings, by detector and action.
hydrant_transform_quarantined_records_total Records that became dead letters, by reason.
hydrant_transform_headers_dropped_total Records that lost headers.
";

/// Scans all records, and quarantines those at which the scanner panics. Answers also the scanner for the next batch:
/// after a panic, one that `make` made.
pub(super) fn scan(
    batch: &Batch,
    source: Source<'_>,
    scanner: Box<dyn Scanner>,
    make: impl Fn() -> Box<dyn Scanner>,
) -> (Scanned, Box<dyn Scanner>) {
    let mut scan = BatchScan::new(batch, scanner);
    let step = |scan: &mut BatchScan<'_>, index| {
        scan.record(index);
        ControlFlow::<()>::Continue(())
    };
    let faulted = |scan: &mut BatchScan<'_>, index| {
        // Whatever the panic left half done is thrown away: the scanner, its output, what was remembered.
        scan.scanner = make();
        scan.forget_output_after(scan.written);
        scan.quarantine(index, INTERNAL_FAULT);
        let (sequence, sub) = batch.position(index);
        tracing::error!(
            shard = %source.shard, %sequence, sub,
            "the scan of a record panicked, which is a fault of hydrant: the record is a dead letter `internal_fault`",
        );
    };
    let done = contain_each(&mut scan, 0..batch.len(), step, faulted);
    debug_assert!(done.is_continue(), "no record ends the scan");
    scan.finish()
}

/// What the scan of a batch found so far.
struct BatchScan<'a> {
    batch: &'a Batch,
    scanner: Box<dyn Scanner>,
    /// The devices of a fleet send many records each, so that few keys stand in a batch.
    known_keys: HashMap<&'a [u8], ScannedKey>,
    scanned: Scanned,
    /// The length of the new segment before the present record.
    written: usize,
}

/// What became of a key of the batch.
struct ScannedKey {
    verdict: ScanVerdict,
    /// Where it stands in the new segment.
    placed: Option<Span>,
    findings: Vec<(&'static str, &'static str)>,
}

/// What the scan of a batch found.
#[derive(Default)]
pub(super) struct Scanned {
    /// The new segment.
    out: Vec<u8>,
    /// Records that are passed on; those in the new segment have its number to come.
    records: Vec<Entry>,
    sources: Vec<u32>,
    rekeyed: Vec<bool>,
    /// Records that cannot be processed, and why.
    quarantined: Vec<(u32, &'static str)>,
    /// Records that are dropped, and by which rule.
    dropped: Vec<(u32, u16)>,
    redacted: u64,
    findings: BTreeMap<(&'static str, &'static str), u64>,
}

/// The segment number of records in the new segment until its number is known.
const NEW: u32 = u32::MAX;

impl<'a> BatchScan<'a> {
    fn new(batch: &'a Batch, scanner: Box<dyn Scanner>) -> Self {
        let scanned = Scanned {
            records: Vec::with_capacity(batch.len()),
            sources: Vec::with_capacity(batch.len()),
            rekeyed: Vec::with_capacity(batch.len()),
            ..Scanned::default()
        };
        BatchScan {
            batch,
            scanner,
            known_keys: HashMap::new(),
            scanned,
            written: 0,
        }
    }

    fn finish(self) -> (Scanned, Box<dyn Scanner>) {
        let scanned = self.scanned;
        let records = scanned.records.len();
        debug_assert_eq!(
            records + scanned.quarantined.len() + scanned.dropped.len(),
            self.batch.len(),
            "each record has one outcome"
        );
        debug_assert!(scanned.sources.len() == records && scanned.rekeyed.len() == records);
        (scanned, self.scanner)
    }

    /// Scans a record. What it found is noted after the last call of the scanner, so that a panic notes nothing.
    fn record(&mut self, index: usize) {
        self.written = self.scanned.out.len();
        let entry = &self.batch.records[index];
        let mut new_key = match self.key(entry) {
            Ok(key) => key,
            Err(verdict) => return self.stop(index, verdict),
        };
        let payload = self.batch.payload(entry);
        let start = self.scanned.out.len();
        let tombstone = self.batch.is_tombstone(index);
        let verdict = if tombstone {
            ScanVerdict::Clean
        } else {
            self.scanner.payload(payload, &mut self.scanned.out)
        };
        let end = self.scanned.out.len();
        if verdict == ScanVerdict::Redacted
            && let Some(bytes) = self.batch.key(entry)
        {
            match self.scanner.key_beside(bytes, &mut self.scanned.out) {
                ScanVerdict::Clean => {}
                ScanVerdict::Redacted => new_key = Some(span(end, self.scanned.out.len())),
                verdict => {
                    self.scanned.out.truncate(start);
                    return self.stop(index, verdict);
                }
            }
        }
        if !tombstone {
            self.scanned.note(&*self.scanner);
        }
        match (verdict, new_key) {
            (ScanVerdict::Clean, None) => self.keep(index, *entry, false),
            (ScanVerdict::Clean, Some(_)) => {
                self.scanned.out.extend_from_slice(payload);
                let payload = span(start, self.scanned.out.len());
                self.keep_range(index, new_key, payload, true);
            }
            (ScanVerdict::Redacted, _) => {
                let key = new_key.or_else(|| self.batch.key(entry).map(|key| self.copied(key)));
                self.keep_range(index, key, span(start, end), new_key.is_some());
            }
            (verdict, _) => {
                self.scanned.out.truncate(start);
                self.stop(index, verdict);
            }
        }
    }

    /// Notes what became of a record that is not passed on.
    fn stop(&mut self, index: usize, verdict: ScanVerdict) {
        match verdict {
            ScanVerdict::Dropped { rule } => self.scanned.dropped.push((index as u32, rule)),
            ScanVerdict::Quarantined { reason } => self.quarantine(index, reason.code()),
            ScanVerdict::Clean | ScanVerdict::Redacted => self.quarantine(index, INTERNAL_FAULT),
        }
    }

    /// Scans the key of a record, or remembers what became of it: where it stands if it was changed.
    fn key(&mut self, entry: &Entry) -> Result<Option<Span>, ScanVerdict> {
        let Some(key) = self.batch.key(entry) else {
            return Ok(None);
        };
        if self.known_keys.len() >= KNOWN_KEYS_MAX {
            self.known_keys.clear();
        }
        let known = self.known_keys.entry(key).or_insert_with(|| {
            let start = self.scanned.out.len();
            let verdict = self.scanner.key(key, &mut self.scanned.out);
            let end = self.scanned.out.len();
            ScannedKey {
                verdict,
                placed: (verdict == ScanVerdict::Redacted).then(|| span(start, end)),
                findings: findings(&*self.scanner).collect(),
            }
        });
        for (detector, action) in &known.findings {
            self.scanned.count(detector, action);
        }
        match known.verdict {
            ScanVerdict::Clean => Ok(None),
            ScanVerdict::Redacted => Ok(known.placed),
            verdict => Err(verdict),
        }
    }

    /// Where an unchanged key stands in the new segment, once for all records with a changed payload.
    fn copied(&mut self, key: &'a [u8]) -> Span {
        let out = &mut self.scanned.out;
        let mut copy = || {
            let start = out.len();
            out.extend_from_slice(key);
            span(start, out.len())
        };
        match self.known_keys.get_mut(key) {
            Some(known) => *known.placed.get_or_insert_with(copy),
            None => copy(),
        }
    }

    fn keep(&mut self, index: usize, entry: Entry, rekeyed: bool) {
        self.scanned.records.push(entry);
        self.scanned.sources.push(index as u32);
        self.scanned.rekeyed.push(rekeyed);
    }

    /// Keeps a record whose payload is a range of the new segment.
    fn keep_range(&mut self, index: usize, key: Option<Span>, payload: Span, rekeyed: bool) {
        if self.scanned.out.len() > SEGMENT_BYTES_MAX {
            self.forget_output_after(payload.start as usize);
            return self.quarantine(index, NO_ROOM);
        }
        self.scanned.redacted += 1;
        let entry = Entry {
            segment: NEW,
            key,
            payload,
            stamp: self.batch.records[index].stamp,
        };
        self.keep(index, entry, rekeyed);
    }

    /// Cuts the new segment, and forgets the keys that may have stood there.
    fn forget_output_after(&mut self, written: usize) {
        self.scanned.out.truncate(written);
        self.known_keys.clear();
    }

    fn quarantine(&mut self, index: usize, reason: &'static str) {
        self.scanned.quarantined.push((index as u32, reason));
    }
}

/// The findings of the scanner's last call.
fn findings(scanner: &dyn Scanner) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
    (0..).map_while(|index| scanner.finding(index))
}

/// A range of the new segment, which [`SEGMENT_BYTES_MAX`] and the limit of one record keep below 32 bits.
pub(super) fn span(start: usize, end: usize) -> Span {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span::new(number(start), number(end - start))
}

impl Scanned {
    /// Counts the findings of the scanner's last call.
    fn note(&mut self, scanner: &dyn Scanner) {
        for (detector, action) in findings(scanner) {
            self.count(detector, action);
        }
    }

    fn count(&mut self, detector: &'static str, action: &'static str) {
        *self.findings.entry((detector, action)).or_default() += 1;
    }

    /// Adds this batch to the metrics.
    pub(super) fn count_metrics(&self, batch: &Batch, source: Source<'_>) {
        let headers = self.headers_dropped(batch);
        let stream = source.stream.name.to_string();
        let outcomes = [
            ("clean", self.records.len() as u64 - self.redacted),
            ("redacted", self.redacted),
            ("quarantined", self.quarantined.len() as u64),
            ("dropped", self.dropped.len() as u64),
        ];
        for (outcome, count) in outcomes {
            metrics::counter!("hydrant_transform_records_total", "stream" => stream.clone(), "outcome" => outcome)
                .increment(count);
        }
        for ((detector, action), count) in &self.findings {
            metrics::counter!("hydrant_transform_findings_total", "detector" => *detector, "action" => *action)
                .increment(*count);
        }
        if headers > 0 {
            metrics::counter!("hydrant_transform_headers_dropped_total", "stream" => stream)
                .increment(headers);
        }
        for (_, reason) in &self.quarantined {
            metrics::counter!("hydrant_transform_quarantined_records_total", "reason" => *reason)
                .increment(1);
        }
    }

    /// How many of the records that go on had headers.
    fn headers_dropped(&self, batch: &Batch) -> u64 {
        if batch.headers.is_empty() {
            return 0;
        }
        let sources = self.sources.iter().map(|source| *source as usize);
        sources
            .filter(|source| !batch.headers(*source).is_empty())
            .count() as u64
    }

    /// What passes of the batch. Headers are not scanned, so none pass.
    pub(super) fn into_transformed(
        self,
        mut batch: Batch,
        source: Source<'_>,
        policy: &Policy,
    ) -> Transformed {
        let mut records = self.records;
        let stream: Arc<str> = Arc::from(source.stream.to_string());
        let mut texts = Texts::default();
        let dead_letters = self.quarantined.into_iter().map(|(index, reason)| {
            let (sequence, sub) = batch.position(index as usize);
            let letter = DeadLetter {
                stream: Arc::clone(&stream),
                shard: source.shard.clone(),
                sequence,
                sub,
                // Whether a key is personal can only be decided beside its payload.
                key: None,
                stage: texts.share(STAGE),
                reason: texts.share(reason),
                detail: String::new(),
                length: u64::from(batch.records[index as usize].payload.len),
                time: source.now,
            };
            (index, letter)
        });
        let dead_letters = dead_letters.collect();
        let dropped = self.dropped.into_iter();
        let dropped = dropped.map(|(index, rule)| (index, texts.share(policy.rule_name(rule))));
        // There was room for all.
        records.shrink_to_fit();
        let input = batch.len() as u32;
        batch.segments = new_segments(&batch.segments, &mut records, self.out);
        batch.replace(&self.sources, records);
        Transformed {
            batch,
            sources: self.sources,
            rekeyed: self.rekeyed,
            dead_letters,
            dropped: dropped.collect(),
            input,
        }
    }
}

/// The old segments and the new one; the old ones go when no record points into them, so that a batch of which all
/// was changed holds one copy.
fn new_segments(old: &Arc<[Bytes]>, records: &mut [Entry], out: Vec<u8>) -> Arc<[Bytes]> {
    let changed = records.iter().any(|entry| entry.segment == NEW);
    let kept = records.iter().any(|entry| entry.segment != NEW);
    if kept && !changed {
        return Arc::clone(old);
    }
    let mut segments = if kept { old.to_vec() } else { Vec::new() };
    let number = segments.len() as u32;
    if changed {
        segments.push(Bytes::from(out));
    }
    for entry in records.iter_mut().filter(|entry| entry.segment == NEW) {
        entry.segment = number;
    }
    segments.into()
}
