//! Generates chunks of simulated records.

use std::sync::Arc;

use hydrant_core::batch::{Entry, Span};
use hydrant_core::{Context, Result, clock, hash};

use super::indexer::{ChunkLimits, within};
use crate::batcher::{FilePart, InputChunk, Refusal, RefusedRecord};
use crate::key::{KeyTemplate, RecordKey};
use crate::ledger::InputIdentity;
use crate::simulate::{Fleet, FleetSpec};

/// Room for the record that crosses the end of a chunk.
const LAST_RECORD_BYTES: usize = 4 << 10;

/// The simulated fleet as a source of chunks.
pub(crate) struct FleetSource {
    job: FleetJob,
    end: u64,
    context: Context,
}

impl FleetSource {
    pub(crate) fn open(
        spec: &FleetSpec,
        records: Option<u64>,
        key: Option<KeyTemplate>,
        context: &Context,
        limits: ChunkLimits,
    ) -> Result<Self> {
        Ok(FleetSource {
            job: FleetJob {
                fleet: Arc::new(Fleet::try_new(spec)?),
                key: key.map(Arc::new),
                first: 0,
                limits,
            },
            end: records.unwrap_or(u64::MAX),
            context: context.clone(),
        })
    }

    pub(crate) fn start(&mut self, index: u64) {
        self.job.first = index;
    }

    pub(crate) async fn take(&mut self, most: u64) -> Result<Option<InputChunk>> {
        let count = most.min(self.end.saturating_sub(self.job.first));
        if count == 0 {
            return Ok(None);
        }
        let room = (self.job.limits.chunk_bytes + LAST_RECORD_BYTES) as u64;
        let mut permit = self.context.budget.acquire(room).await;
        let produced = clock::now();
        let (job, stamp) = (self.job.clone(), self.context.clock.wall_micros());
        let workers = &self.context.workers;
        let mut chunk = workers.run(move || job.run(count, stamp)).await?;
        permit.shrink_to(chunk.memory_bytes());
        chunk.permit = permit;
        chunk.produced = produced;
        self.job.first = chunk.end;
        Ok(Some(chunk))
    }
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
    let FleetSpec {
        seed: _,
        devices: _,
        malformed_share,
        late_share,
        conflict_share,
        pii,
        start_micros,
        interval_micros,
    } = spec;
    let shares = [
        malformed_share,
        late_share,
        conflict_share,
        &pii.values,
        &pii.nested,
        &pii.text,
        &pii.object_keys,
        &pii.partition_keys,
    ];
    let mut bytes: Vec<u8> = shares
        .iter()
        .flat_map(|share| share.to_bits().to_be_bytes())
        .collect();
    bytes.extend_from_slice(&start_micros.to_be_bytes());
    bytes.extend_from_slice(&interval_micros.to_be_bytes());
    format!("{:032x}", hash::identity(&[&bytes]))
}

/// What makes the records of a fleet from an index on.
#[derive(Clone)]
struct FleetJob {
    fleet: Arc<Fleet>,
    key: Option<Arc<KeyTemplate>>,
    first: u64,
    limits: ChunkLimits,
}

impl FleetJob {
    fn run(self, count: u64, stamp: i64) -> InputChunk {
        let bytes_target = self.limits.chunk_bytes;
        let mut bytes = Vec::with_capacity(bytes_target + LAST_RECORD_BYTES);
        let mut records = Vec::with_capacity(count.min(1_024) as usize);
        let mut runs = Vec::new();
        let mut refused = Vec::new();
        let mut made = Vec::new();
        let mut index = self.first;
        let mut broken = true;
        while index - self.first < count && bytes.len() < bytes_target {
            let start = bytes.len();
            let meta = self.fleet.record(index, &mut bytes);
            let payload = Span::new(start as u32, (bytes.len() - start) as u32);
            let key = match &self.key {
                None => {
                    let key = meta.key;
                    Ok(Some(Span::new(key.start as u32, key.len() as u32)))
                }
                Some(template) => {
                    made.clear();
                    let found = template.try_extract(&bytes[start..], &mut made);
                    found.map(|key| {
                        Some(match key? {
                            RecordKey::Record(range) => within(payload, &range),
                            RecordKey::Made(_) => {
                                let start = bytes.len() as u32;
                                bytes.extend_from_slice(&made);
                                Span::new(start, made.len() as u32)
                            }
                        })
                    })
                }
            };
            let refusal = match &key {
                Ok(key) => {
                    let key = key.map(|key| &bytes[key.start as usize..][..key.len as usize]);
                    self.limits.refusal(key, payload.len as usize)
                }
                Err(_) => Some(Refusal::InternalFault),
            };
            if let Some(reason) = refusal {
                bytes.truncate(start);
                refused.push(RefusedRecord {
                    index,
                    line: index + 1,
                    length: u64::from(payload.len),
                    reason,
                });
                broken = true;
            } else {
                if std::mem::take(&mut broken) {
                    runs.push((records.len() as u32, index));
                }
                records.push(Entry {
                    segment: 0,
                    key: key.unwrap_or_default(),
                    payload,
                    stamp,
                });
            }
            index += 1;
        }
        InputChunk {
            segments: vec![bytes.into()],
            records,
            runs,
            refused,
            end: index,
            produced: clock::now(),
            permit: hydrant_core::Permit::default(),
            part: FilePart::default(),
        }
    }
}
