use std::sync::Arc;
use std::time::Duration;

use hydrant_core::Shutdown;
use hydrant_core::clock;
use hydrant_core::position::Position;
use hydrant_core::stage::Stage;
use hydrant_testing::layer::Layered;
use hydrant_testing::memory::{MemoryLeases, MemoryStream};

use super::RunSpec;
use super::testing::{
    Exact, NamedStage, OutputLog, PlainStage, RunningWorker, Together, context, memory_stream,
};

mod answers;
mod basics;
mod broker;
mod doubles;
mod failed_push;
mod marks;
mod memory;
mod outputs;
mod pins;
mod reports;
mod schedules;
mod shared_table;
mod sharing;
mod tipless;
mod waits;

/// A stream, its leases and the records that came out.
struct World {
    leases: MemoryLeases,
    stream: Arc<MemoryStream>,
    log: Arc<OutputLog>,
    seed: u64,
}

impl World {
    /// `sees_deaths` says whether the lease store notices that a worker died, as a local one does.
    fn new(shards: u8, sees_deaths: bool) -> Self {
        let stream = memory_stream(shards);
        let leases = stream.leases("app");
        leases.change_faults(|faults| faults.changes_unseen = !sees_deaths);
        World {
            leases,
            stream,
            log: Arc::default(),
            seed: 7,
        }
    }

    fn spec(&mut self, stage: impl Stage + 'static) -> RunSpec {
        self.seed += 1;
        let context = context(self.seed, 1 << 20);
        let stream = Arc::clone(&self.stream) as _;
        let mut spec = RunSpec::new(context, stream, "app", Arc::new(stage), Shutdown::new());
        spec.worker = format!("w{}", self.seed);
        spec
    }

    fn plain(&mut self) -> RunSpec {
        self.spec(PlainStage::new(&Arc::clone(&self.log)))
    }

    fn exact(&mut self) -> RunSpec {
        self.spec(Exact::new(&Arc::clone(&self.log)))
    }

    /// Checks that each record came out once.
    fn assert_exact(&self) {
        let counts = self.log.counts();
        for record in self.stream.all() {
            assert_eq!(counts.get(&record), Some(&1), "{record:?}");
        }
        assert_eq!(counts.len(), self.stream.all().len());
    }

    /// Checks that each record came out.
    fn assert_complete(&self) {
        let counts = self.log.counts();
        for record in self.stream.all() {
            assert!(counts.contains_key(&record), "{record:?} is lost");
        }
    }
}

async fn pass(time: Duration) {
    clock::sleep(time).await;
}

/// Waits until `reached`, a minute at most.
async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = clock::now() + Duration::from_secs(60);
    while !reached() {
        assert!(clock::now() < deadline, "{what} was not reached");
        pass(Duration::from_millis(10)).await;
    }
}

fn p(offset: u64) -> Position {
    Position::offset(offset)
}
