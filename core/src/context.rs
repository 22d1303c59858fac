//! The context: what is injected into every part of a process.

use std::path::Path;
use std::sync::Arc;

use crate::budget::Budget;
use crate::clock::{SharedClock, SystemClock};
use crate::disk::SharedDisk;
use crate::disk::real::RealDisk;
use crate::error::Result;
use crate::random::Random;
use crate::workers::Workers;

/// Disk, time, chance, computation and memory of one process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where files lie.
    pub disk: SharedDisk,
    /// Wall time.
    pub clock: SharedClock,
    /// Random numbers.
    pub random: Random,
    /// Where computation runs.
    pub workers: Workers,
    /// Memory for everything that can grow.
    pub budget: Budget,
}

impl Context {
    /// The context of a real machine: its disk and clock, a worker thread per core, a budget of `budget_bytes`.
    pub fn system(budget_bytes: u64) -> Result<Self> {
        Ok(Context {
            disk: Arc::new(RealDisk::new()),
            clock: Arc::new(SystemClock),
            random: Random::system(),
            workers: Workers::per_core()?,
            budget: Budget::new(budget_bytes),
        })
    }

    /// The same context for files in `place`, such as the directory of a stream; see
    /// [`Disk::apart`](crate::disk::Disk).
    pub fn apart(&self, place: &Path) -> Self {
        let disk = self.disk.apart(place);
        Context {
            disk: disk.unwrap_or_else(|| Arc::clone(&self.disk)),
            ..self.clone()
        }
    }

    /// The same context for results that other users read: tables, copies and reports. Its files get the mode that the
    /// umask leaves; all other files belong to their owner alone.
    pub fn for_results(&self) -> Self {
        let disk = self.disk.by_umask();
        Context {
            disk: disk.unwrap_or_else(|| Arc::clone(&self.disk)),
            ..self.clone()
        }
    }
}
