//! Generates chunks of simulated records.

use std::sync::Arc;

use hydrant_core::{Context, Result, clock, hash};

use super::indexer::Indexer;
use super::{LineBlock, RecordRange};
use crate::batcher::InputChunk;
use crate::ledger::InputIdentity;
use crate::simulate::{Fleet, FleetSpec};

/// Room for the record that crosses the end of a chunk.
const LAST_RECORD_BYTES: usize = 4 << 10;

/// The simulated fleet as a source of chunks.
pub(crate) struct FleetSource {
    fleet: Arc<Fleet>,
    indexer: Arc<Indexer>,
    next: u64,
    end: u64,
    context: Context,
}

impl FleetSource {
    pub(crate) fn open(
        spec: &FleetSpec,
        records: Option<u64>,
        indexer: Indexer,
        context: &Context,
    ) -> Result<Self> {
        Ok(FleetSource {
            fleet: Arc::new(Fleet::try_new(spec)?),
            indexer: Arc::new(indexer),
            next: 0,
            end: records.unwrap_or(u64::MAX),
            context: context.clone(),
        })
    }

    pub(crate) fn start(&mut self, index: u64) {
        self.next = index;
    }

    pub(crate) async fn take(&mut self, most: u64) -> Result<Option<InputChunk>> {
        let first = self.next;
        let count = most.min(self.end.saturating_sub(first));
        if count == 0 {
            return Ok(None);
        }
        let room = (self.indexer.limits.chunk_bytes + LAST_RECORD_BYTES) as u64;
        let mut permit = self.context.budget.acquire(room).await;
        let produced = clock::now();
        let (fleet, indexer) = (Arc::clone(&self.fleet), Arc::clone(&self.indexer));
        let generate = move || generate(&fleet, &indexer, first, count);
        let mut chunk = self.context.workers.run(generate).await?;
        permit.shrink_to(chunk.memory_bytes());
        chunk.permit = permit;
        chunk.produced = produced;
        self.next = chunk.end;
        Ok(Some(chunk))
    }
}

/// At most `count` records from `first` on, until they are a chunk.
fn generate(fleet: &Fleet, indexer: &Indexer, first: u64, count: u64) -> InputChunk {
    let bytes_target = indexer.limits.chunk_bytes;
    let mut bytes = Vec::with_capacity(bytes_target + LAST_RECORD_BYTES);
    let mut block = LineBlock::default();
    let mut keys = Vec::new();
    let mut index = first;
    while index - first < count && bytes.len() < bytes_target {
        let start = bytes.len();
        let key = fleet.record(index, &mut bytes).key;
        keys.push(key.start - start..key.end - start);
        block.lines.push(RecordRange {
            range: start..bytes.len(),
            number: index + 1,
            index,
        });
        index += 1;
    }
    block.bytes = bytes.into();
    indexer.chunk(block, Some(&keys), index, 0)
}

/// The identity of a fleet that the ledger keeps.
pub(super) fn identity(spec: &FleetSpec, key: Option<String>) -> InputIdentity {
    InputIdentity::Simulator {
        seed: spec.seed,
        devices: spec.devices,
        fleet: digest(spec),
        key,
    }
}

/// Everything that shapes records besides seed and devices.
fn digest(spec: &FleetSpec) -> String {
    let shape = FleetSpec {
        seed: 0,
        devices: 0,
        ..spec.clone()
    };
    let shape = serde_json::to_vec(&shape).expect("numbers can be written as JSON");
    format!("{:032x}", hash::identity(&[&shape]))
}
