//! Runs the PII engine over batches: a batch in, a batch and the dead letters and drops of the rest out.
//!
//! Owns what the engine leaves to its caller: engines per thread, batches, keys, dead letters, counters. Promises: a record
//! is passed on only with a verdict of its own, key and payload; unchanged records keep their bytes in place and changed ones
//! share one new segment; a panic inside the engine quarantines the record that caused it and no other. Dead
//! letters, logs and metrics hold codes and lengths, never a value. A key leaves without what was found in its payload; beside a
//! payload that could not be scanned it does not leave at all. A tombstone has no payload: its key is scanned by itself. No
//! header is scanned, so none is passed on.

mod scan;
mod scanner;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hydrant_core::transform::{Source, Transform, Transformed};
use hydrant_core::{Batch, Result};
use hydrant_pii::Policy;
use scan::Scanned;
use scanner::{PiiScanner, Scanner};

/// The name of the stage in dead letters.
pub(crate) const STAGE: &str = "transform";
/// Engines kept for the next batch: more batches than cores are not worked on at once.
const ENGINES_MAX: usize = 64;

type MakeScanner = dyn Fn() -> Box<dyn Scanner> + Send + Sync;

/// Strips personal data from batches by a policy.
pub struct PiiTransform {
    make: Box<MakeScanner>,
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
        let make = move || -> Box<dyn Scanner> { Box::new(PiiScanner::new(Arc::clone(&policy))) };
        PiiTransform::with(Box::new(make), digest, name)
    }

    pub(crate) fn with(make: Box<MakeScanner>, digest: String, name: String) -> Self {
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

    /// All records in one go; when one of them panics, each by itself with new scanners.
    fn scan(&self, batch: &Batch, source: Source<'_>) -> Scanned {
        let mut scanner = self.scanner();
        let scanned = scan::together(batch, &mut *scanner).unwrap_or_else(|| {
            let (scanned, last) = scan::apart(batch, source, &self.make);
            scanner = last;
            scanned
        });
        self.put_back(scanner);
        scanned
    }

    fn put_back(&self, scanner: Box<dyn Scanner>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < ENGINES_MAX {
            idle.push(scanner);
        }
    }
}

impl Transform for PiiTransform {
    fn apply(&self, batch: Batch, source: Source<'_>) -> Result<Transformed> {
        let scanned = self.scan(&batch, source);
        scanned.count_metrics(&batch, source);
        Ok(scanned.into_transformed(batch, source))
    }

    fn digest(&self) -> &str {
        &self.digest
    }
}

#[cfg(test)]
mod tests;
