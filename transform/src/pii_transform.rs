//! The PII engine behind the seam of transforms: a batch in, a batch and what became of the rest out.
//!
//! Owns what the engine leaves to its caller: engines per thread, batches, keys, letters, counters. Promises: a record
//! goes on only with a verdict of its own, key and payload; unchanged records keep their bytes in place and changed ones
//! share one new segment; a panic inside the engine quarantines the record that caused it and no other. Letters,
//! logs and metrics hold codes and lengths, never a value. A key leaves without what was found in its payload; beside a
//! payload that could not be scanned it does not leave at all.

mod scan;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hydrant_core::batch::Batch;
use hydrant_core::transform::{Source, Transform, Transformed};
use hydrant_core::workers::{INTERNAL_FAULT, contain};
use hydrant_pii::{Engine, Policy, Verdict};
use scan::Scan;

/// The stage that letters of this transform name.
const STAGE: &str = "transform";
/// Engines kept for the next batch: more batches than cores are not worked on at once.
const ENGINES_MAX: usize = 64;

/// What became of a payload or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is as it was.
    Clean,
    /// The new bytes were appended.
    Redacted,
    /// It must not go on, for this reason.
    Quarantined(&'static str),
    /// This rule drops it.
    Dropped(Arc<str>),
}

/// What scans one record after the other.
pub(crate) trait Scanner: Send {
    /// Processes a payload; appends to `out` only for [`Fate::Redacted`].
    fn payload(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Fate;
    /// Processes a partition key, by the same rule.
    fn key(&mut self, key: &[u8], out: &mut Vec<u8>) -> Fate;
    /// Processes the partition key of the payload of the last call, if something that was found there lies in it too;
    /// otherwise it is [`Fate::Clean`], and has to be processed by itself. Its findings join those of the payload.
    fn key_beside(&mut self, key: &[u8], out: &mut Vec<u8>) -> Fate;
    /// Tells detector and action of each finding of the last call.
    fn findings(&self, tell: &mut dyn FnMut(&'static str, &'static str));
}

/// The engine with the names of the rules that dropped something.
struct PiiScanner {
    engine: Engine,
    rules: Vec<(u16, Arc<str>)>,
}

impl PiiScanner {
    fn fate(&mut self, verdict: Verdict) -> Fate {
        match verdict {
            Verdict::Clean => Fate::Clean,
            Verdict::Redacted => Fate::Redacted,
            Verdict::Quarantined { reason } => Fate::Quarantined(reason.code()),
            Verdict::Dropped { rule } => {
                if let Some((_, name)) = self.rules.iter().find(|(known, _)| *known == rule) {
                    return Fate::Dropped(Arc::clone(name));
                }
                let name: Arc<str> = self.engine.policy().rule_name(rule).into();
                self.rules.push((rule, Arc::clone(&name)));
                Fate::Dropped(name)
            }
        }
    }
}

impl Scanner for PiiScanner {
    fn payload(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Fate {
        let verdict = self.engine.process(payload, out);
        self.fate(verdict)
    }

    fn key(&mut self, key: &[u8], out: &mut Vec<u8>) -> Fate {
        let verdict = self.engine.process_key(key, out);
        self.fate(verdict)
    }

    fn key_beside(&mut self, key: &[u8], out: &mut Vec<u8>) -> Fate {
        let verdict = self.engine.process_key_beside(key, out);
        self.fate(verdict)
    }

    fn findings(&self, tell: &mut dyn FnMut(&'static str, &'static str)) {
        for finding in self.engine.findings() {
            tell(finding.detector(), finding.action);
        }
    }
}

type Make = dyn Fn() -> Box<dyn Scanner> + Send + Sync;

/// Strips personal data from batches by a policy.
pub struct PiiTransform {
    make: Box<Make>,
    idle: Mutex<Vec<Box<dyn Scanner>>>,
    digest: String,
    name: String,
}

impl fmt::Debug for PiiTransform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PiiTransform({})", self.name)
    }
}

impl PiiTransform {
    /// With a compiled and proved policy.
    pub fn new(policy: Arc<Policy>) -> Self {
        let digest = policy
            .digest()
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let name = policy.name().to_owned();
        let make = move || -> Box<dyn Scanner> {
            Box::new(PiiScanner {
                engine: Engine::new(Arc::clone(&policy)),
                rules: Vec::new(),
            })
        };
        PiiTransform::with(Box::new(make), digest, name)
    }

    pub(crate) fn with(make: Box<Make>, digest: String, name: String) -> Self {
        PiiTransform {
            make,
            idle: Mutex::new(Vec::new()),
            digest,
            name,
        }
    }

    fn scanner(&self) -> Box<dyn Scanner> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        idle.unwrap_or_else(|| (self.make)())
    }

    fn put_back(&self, scanner: Box<dyn Scanner>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < ENGINES_MAX {
            idle.push(scanner);
        }
    }

    /// All records in one go, or `None` when one of them panicked.
    fn scan_together<'a>(&self, batch: &'a Batch) -> Option<Scan<'a>> {
        let mut scanner = self.scanner();
        let mut scan = Scan::new(batch);
        contain(|| {
            for (index, entry) in batch.records.iter().enumerate() {
                scan.record(&mut *scanner, index as u32, entry);
            }
        })?;
        self.put_back(scanner);
        Some(scan)
    }

    /// Each record by itself; those that panic are quarantined.
    fn scan_apart<'a>(&self, batch: &'a Batch, source: Source<'_>) -> Scan<'a> {
        let mut scanner = self.scanner();
        let mut scan = Scan::new(batch);
        for (index, entry) in batch.records.iter().enumerate() {
            let index = index as u32;
            let written = scan.written();
            if contain(|| scan.record(&mut *scanner, index, entry)).is_none() {
                // Whatever the panic left half done is thrown away: the scanner, its output, what was remembered.
                scanner = (self.make)();
                scan.roll_back(written);
                scan.quarantine(index, INTERNAL_FAULT);
                let (sequence, sub) = batch.position(index as usize);
                tracing::error!(
                    shard = %source.shard, %sequence, sub,
                    "the scan of a record panicked, which is a fault of hydrant: the record is a dead letter `internal_fault`",
                );
            }
        }
        self.put_back(scanner);
        scan
    }
}

impl Transform for PiiTransform {
    fn apply(&self, batch: Batch, source: Source<'_>) -> Transformed {
        let scan = match self.scan_together(&batch) {
            Some(scan) => scan,
            None => self.scan_apart(&batch, source),
        };
        let scanned = scan.finish();
        scanned.tell(source);
        scanned.into_transformed(batch, source)
    }

    fn digest(&self) -> &str {
        &self.digest
    }
}

#[cfg(test)]
mod tests;
