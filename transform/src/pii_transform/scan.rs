//! Scans one batch: decides which bytes stay, writes the changed ones, and notes the outcome of each record.
//!
//! A record's bytes lie in one segment, so a change of key or payload takes both into the new segment. Keys are
//! remembered within the batch, because the devices of a fleet send many records each.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::batch::{Batch, Entry, Span};
use hydrant_core::origin::{DeadLetter, Texts};
use hydrant_core::transform::{Source, Transformed};
use hydrant_core::workers::{INTERNAL_FAULT, contain};

use super::STAGE;
use super::scanner::{ScanOutcome, Scanner};

/// The reason of a dead letter for which the new segment of its batch has no room.
const NO_ROOM: &str = "too_large";
/// The most bytes of changed records of one batch; ranges have 32 bits.
const SEGMENT_BYTES_MAX: usize = 1 << 30;
/// Slots of the memo of keys at most.
const MEMO_SLOTS_MAX: usize = 4096;

/// A key as it is passed on.
enum OutgoingKey {
    /// The record has none.
    None,
    /// In its old segment.
    Kept,
    /// In the new segment.
    New(Span),
}

/// Scans all records in one go; `None` when one of them panicked.
pub(super) fn together(batch: &Batch, scanner: &mut dyn Scanner) -> Option<Scanned> {
    let mut scan = BatchScan::new(batch);
    contain(|| {
        for (index, entry) in batch.records.iter().enumerate() {
            scan.record(scanner, index as u32, entry);
        }
    })?;
    Some(scan.finish())
}

/// Scans each record by itself and quarantines those that panic, after each of which `make` makes a new scanner.
/// Answers also the last scanner.
pub(super) fn apart(
    batch: &Batch,
    source: Source<'_>,
    make: &dyn Fn() -> Box<dyn Scanner>,
) -> (Scanned, Box<dyn Scanner>) {
    let mut scanner = make();
    let mut scan = BatchScan::new(batch);
    for (index, entry) in batch.records.iter().enumerate() {
        let index = index as u32;
        let written = scan.scanned.out.len();
        if contain(|| scan.record(&mut *scanner, index, entry)).is_none() {
            // Whatever the panic left half done is thrown away: the scanner, its output, what was remembered.
            scanner = make();
            scan.roll_back(written);
            scan.quarantine(index, INTERNAL_FAULT);
            let (sequence, sub) = batch.position(index as usize);
            tracing::error!(
                shard = %source.shard, %sequence, sub,
                "the scan of a record panicked, which is a fault of hydrant: the record is a dead letter `internal_fault`",
            );
        }
    }
    (scan.finish(), scanner)
}

/// What the scan of a batch found so far.
struct BatchScan<'a> {
    batch: &'a Batch,
    memo: KeyMemo<'a>,
    scanned: Scanned,
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
    dropped: Vec<(u32, Arc<str>)>,
    redacted: u64,
    findings: Vec<(&'static str, &'static str, u64)>,
}

/// The segment number of records in the new segment until its number is known.
const NEW: u32 = u32::MAX;

impl<'a> BatchScan<'a> {
    fn new(batch: &'a Batch) -> Self {
        let scanned = Scanned {
            records: Vec::with_capacity(batch.len()),
            sources: Vec::with_capacity(batch.len()),
            rekeyed: Vec::with_capacity(batch.len()),
            ..Scanned::default()
        };
        BatchScan {
            batch,
            memo: KeyMemo::new(batch.len()),
            scanned,
        }
    }

    fn finish(self) -> Scanned {
        let scanned = self.scanned;
        let records = scanned.records.len();
        debug_assert_eq!(
            records + scanned.quarantined.len() + scanned.dropped.len(),
            self.batch.len(),
            "each record has one outcome"
        );
        debug_assert!(scanned.sources.len() == records && scanned.rekeyed.len() == records);
        scanned
    }

    /// Scans a record. What it found is noted after the last call of the scanner, so that a panic notes nothing.
    fn record(&mut self, scanner: &mut dyn Scanner, index: u32, entry: &Entry) {
        let mut key = match self.key(scanner, entry) {
            Ok(key) => key,
            Err(fate) => return self.stop(index, fate),
        };
        if self.batch.is_tombstone(index as usize) {
            return self.tombstone(index, entry, key);
        }
        let payload = self.batch.payload(entry);
        let start = self.scanned.out.len();
        let fate = scanner.payload(payload, &mut self.scanned.out);
        let end = self.scanned.out.len();
        if fate == ScanOutcome::Redacted
            && let Some(bytes) = self.batch.key(entry)
        {
            match scanner.key_beside(bytes, &mut self.scanned.out) {
                ScanOutcome::Clean => {}
                ScanOutcome::Redacted => key = OutgoingKey::New(span(end, self.scanned.out.len())),
                fate => {
                    self.scanned.out.truncate(start);
                    return self.stop(index, fate);
                }
            }
        }
        self.scanned.note(scanner);
        match (fate, key) {
            (ScanOutcome::Clean, OutgoingKey::None | OutgoingKey::Kept) => {
                self.keep(index, *entry, false)
            }
            (ScanOutcome::Clean, OutgoingKey::New(key)) => {
                self.scanned.out.extend_from_slice(payload);
                let payload = span(start, self.scanned.out.len());
                self.keep_range(index, entry, Some(key), payload, true);
            }
            (ScanOutcome::Redacted, OutgoingKey::None) => {
                self.keep_range(index, entry, None, span(start, end), false);
            }
            (ScanOutcome::Redacted, OutgoingKey::New(key)) => {
                self.keep_range(index, entry, Some(key), span(start, end), true);
            }
            (ScanOutcome::Redacted, OutgoingKey::Kept) => {
                let Some(key) = self.batch.key(entry) else {
                    return self.quarantine(index, INTERNAL_FAULT);
                };
                let placed = self.memo.placed(key).unwrap_or_else(|| {
                    self.scanned.out.extend_from_slice(key);
                    span(end, self.scanned.out.len())
                });
                self.memo.place(key, placed);
                self.keep_range(index, entry, Some(placed), span(start, end), false);
            }
            (fate, _) => {
                self.scanned.out.truncate(start);
                self.stop(index, fate);
            }
        }
    }

    /// Passes on a record without payload: only its key was there to be scanned.
    fn tombstone(&mut self, index: u32, entry: &Entry, key: OutgoingKey) {
        match key {
            OutgoingKey::None | OutgoingKey::Kept => self.keep(index, *entry, false),
            OutgoingKey::New(key) => {
                let end = self.scanned.out.len();
                self.keep_range(index, entry, Some(key), span(end, end), true);
            }
        }
    }

    /// Notes what became of a record that is not passed on.
    fn stop(&mut self, index: u32, fate: ScanOutcome) {
        match fate {
            ScanOutcome::Dropped(rule) => self.scanned.dropped.push((index, rule)),
            ScanOutcome::Quarantined(reason) => self.quarantine(index, reason),
            ScanOutcome::Clean | ScanOutcome::Redacted => self.quarantine(index, INTERNAL_FAULT),
        }
    }

    /// Scans a key, or remembers what became of it.
    fn key(
        &mut self,
        scanner: &mut dyn Scanner,
        entry: &Entry,
    ) -> Result<OutgoingKey, ScanOutcome> {
        let Some(key) = self.batch.key(entry) else {
            return Ok(OutgoingKey::None);
        };
        if self.memo.get(key).is_none() {
            let start = self.scanned.out.len();
            let fate = scanner.key(key, &mut self.scanned.out);
            let mut findings = Vec::new();
            findings.extend((0..).map_while(|index| scanner.finding(index)));
            let placed =
                (fate == ScanOutcome::Redacted).then(|| span(start, self.scanned.out.len()));
            self.memo.put(ScannedKey {
                key,
                fate,
                placed,
                findings,
            });
        }
        let Some(known) = self.memo.get(key) else {
            return Err(ScanOutcome::Quarantined(INTERNAL_FAULT));
        };
        for (detector, action) in &known.findings {
            self.scanned.count(detector, action);
        }
        match (&known.fate, known.placed) {
            (ScanOutcome::Clean, _) => Ok(OutgoingKey::Kept),
            (ScanOutcome::Redacted, Some(span)) => Ok(OutgoingKey::New(span)),
            (fate, _) => Err(fate.clone()),
        }
    }

    fn keep(&mut self, index: u32, entry: Entry, rekeyed: bool) {
        self.scanned.records.push(entry);
        self.scanned.sources.push(index);
        self.scanned.rekeyed.push(rekeyed);
    }

    /// Keeps a record whose payload is a range of the new segment.
    fn keep_range(
        &mut self,
        index: u32,
        entry: &Entry,
        key: Option<Span>,
        payload: Span,
        rekeyed: bool,
    ) {
        if self.scanned.out.len() > SEGMENT_BYTES_MAX {
            self.scanned.out.truncate(payload.start as usize);
            self.memo = KeyMemo::new(self.batch.len());
            return self.quarantine(index, NO_ROOM);
        }
        self.scanned.redacted += 1;
        let entry = Entry {
            segment: NEW,
            key,
            payload,
            stamp: entry.stamp,
        };
        self.keep(index, entry, rekeyed);
    }

    /// Throws away what a record left half done: its output after `written`, and what was remembered.
    fn roll_back(&mut self, written: usize) {
        self.scanned.out.truncate(written);
        self.memo = KeyMemo::new(self.batch.len());
    }

    fn quarantine(&mut self, index: u32, reason: &'static str) {
        self.scanned.quarantined.push((index, reason));
    }
}

/// A range of the new segment, which [`SEGMENT_BYTES_MAX`] and the limit of one record keep below 32 bits.
pub(super) fn span(start: usize, end: usize) -> Span {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span::new(number(start), number(end - start))
}

impl Scanned {
    /// Counts the findings of the scanner's last call.
    fn note(&mut self, scanner: &dyn Scanner) {
        let findings = (0..).map_while(|index| scanner.finding(index));
        for (detector, action) in findings {
            self.count(detector, action);
        }
    }

    fn count(&mut self, detector: &'static str, action: &'static str) {
        let known = self
            .findings
            .iter_mut()
            .find(|(d, a, _)| *d == detector && *a == action);
        match known {
            Some((_, _, count)) => *count += 1,
            None => self.findings.push((detector, action, 1)),
        }
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
        for (detector, action, count) in &self.findings {
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
    pub(super) fn into_transformed(self, mut batch: Batch, source: Source<'_>) -> Transformed {
        let Scanned {
            out,
            mut records,
            sources,
            rekeyed,
            quarantined,
            dropped,
            ..
        } = self;
        let stream: Arc<str> = Arc::from(source.stream.to_string());
        let mut texts = Texts::default();
        let letters = quarantined.into_iter().map(|(index, reason)| {
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
        let letters = letters.collect();
        // There was room for all.
        records.shrink_to_fit();
        let input = batch.len() as u32;
        batch.segments = new_segments(&batch.segments, &mut records, out);
        batch.replace(&sources, records);
        Transformed {
            batch,
            sources,
            rekeyed,
            letters,
            dropped,
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

/// A key of the batch and what became of it.
struct ScannedKey<'a> {
    key: &'a [u8],
    fate: ScanOutcome,
    /// Where it stands in the new segment.
    placed: Option<Span>,
    findings: Vec<(&'static str, &'static str)>,
}

/// Remembers keys within a batch: the devices of a fleet send many records each.
struct KeyMemo<'a> {
    slots: Vec<Option<ScannedKey<'a>>>,
}

impl<'a> KeyMemo<'a> {
    fn new(records: usize) -> Self {
        let slots = records.clamp(1, MEMO_SLOTS_MAX).next_power_of_two();
        KeyMemo {
            slots: std::iter::repeat_with(|| None).take(slots).collect(),
        }
    }

    fn slot(&self, key: &[u8]) -> usize {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish() as usize & (self.slots.len() - 1)
    }

    fn get(&self, key: &[u8]) -> Option<&ScannedKey<'a>> {
        self.slots[self.slot(key)]
            .as_ref()
            .filter(|known| known.key == key)
    }

    fn put(&mut self, known: ScannedKey<'a>) {
        let slot = self.slot(known.key);
        self.slots[slot] = Some(known);
    }

    fn placed(&self, key: &[u8]) -> Option<Span> {
        self.get(key)?.placed
    }

    fn place(&mut self, key: &[u8], span: Span) {
        let slot = self.slot(key);
        if let Some(known) = self.slots[slot].as_mut().filter(|known| known.key == key) {
            known.placed = Some(span);
        }
    }
}
