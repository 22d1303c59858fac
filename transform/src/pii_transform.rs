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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hydrant_core::transform::{Source, Transform, Transformed};
use hydrant_core::{Batch, Result};
use hydrant_pii::{Engine, Policy};
use scanner::Scanner;

/// The name of the stage in dead letters.
pub(crate) const STAGE: &str = "transform";
/// Engines kept for the next batch: more batches than cores are not worked on at once.
const ENGINES_MAX: usize = 64;

/// Strips personal data from batches by a policy.
pub struct PiiTransform {
    policy: Arc<Policy>,
    make: fn(Arc<Policy>) -> Box<dyn Scanner>,
    idle: Mutex<Vec<Box<dyn Scanner>>>,
}

impl fmt::Debug for PiiTransform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PiiTransform({})", self.policy.name())
    }
}

impl PiiTransform {
    /// With a compiled and proved policy.
    pub fn new(policy: Arc<Policy>) -> Self {
        PiiTransform::with(policy, |policy| Box::new(Engine::new(policy)))
    }

    pub(crate) fn with(policy: Arc<Policy>, make: fn(Arc<Policy>) -> Box<dyn Scanner>) -> Self {
        hydrant_process::telemetry::describe(scan::METRICS);
        PiiTransform {
            policy,
            make,
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Box<dyn Scanner>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transform for PiiTransform {
    fn apply(&self, batch: Batch, source: Source<'_>) -> Result<Transformed> {
        let make = || (self.make)(Arc::clone(&self.policy));
        let idle = self.idle().pop();
        let (scanned, scanner) = scan::scan(&batch, source, idle.unwrap_or_else(make), make);
        let mut idle = self.idle();
        if idle.len() < ENGINES_MAX {
            idle.push(scanner);
        }
        drop(idle);
        scanned.count_metrics(&batch, source);
        Ok(scanned.into_transformed(batch, source, &self.policy))
    }

    fn digest(&self) -> &str {
        self.policy.digest()
    }
}

#[cfg(test)]
mod tests;
