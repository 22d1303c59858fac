//! Inputs of the benchmarks: the same simulated records for every stage.

use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::batch::{Batch, Entry, RunBuilder, Span, Step};
use hydrant_core::{Position, Sequence};
use hydrant_producer::simulate::{Fleet, FleetSpec, PiiShares};

/// The kind of the records of a benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Its name in the results.
    pub name: &'static str,
    /// Whether the records hold personal data.
    pub pii: bool,
}

/// The inputs of every benchmark that depends on the contents of records.
pub const INPUTS: &[Input] = &[
    Input {
        name: "clean",
        pii: false,
    },
    Input {
        name: "personal",
        pii: true,
    },
];

/// Records of a simulated fleet in one segment of memory.
#[derive(Clone, Debug)]
pub struct Records {
    /// The records, one after another.
    pub bytes: Bytes,
    /// The spans of key and payload of each record.
    pub entries: Vec<Entry>,
}

impl Records {
    /// The first `count` records of the default fleet, none of them malformed.
    ///
    /// # Errors
    /// Those of the simulator's specification.
    pub fn simulate(input: Input, count: u64) -> hydrant_core::Result<Self> {
        let pii = if input.pii {
            FleetSpec::default().pii
        } else {
            PiiShares::NONE
        };
        let spec = FleetSpec {
            malformed_share: 0.0,
            pii,
            ..FleetSpec::default()
        };
        let fleet = Fleet::try_new(&spec)?;
        let mut bytes = Vec::new();
        let mut entries = Vec::new();
        for index in 0..count {
            let start = bytes.len();
            let meta = fleet.record(index, &mut bytes);
            let span = |range: std::ops::Range<usize>| {
                Span::new(range.start as u32, (range.end - range.start) as u32)
            };
            let (key, payload) = (Some(span(meta.key)), span(start..bytes.len()));
            entries.push(Entry {
                segment: 0,
                key,
                payload,
                stamp: 0,
            });
        }
        Ok(Records {
            bytes: bytes.into(),
            entries,
        })
    }

    /// The payloads in order.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| {
            let start = entry.payload.start as usize;
            &self.bytes[start..start + entry.payload.len as usize]
        })
    }

    /// All records as a batch of a shard whose offsets start at 0.
    pub fn batch(&self) -> Batch {
        let mut runs = RunBuilder::default();
        for offset in 0..self.entries.len() as u64 {
            runs.push(Sequence::from(offset), 0, Step::Sequence, 0);
        }
        Batch {
            segments: Arc::from([self.bytes.clone()]),
            records: self.entries.clone(),
            runs: runs.finish(),
            to: Position::offset(self.entries.len().saturating_sub(1) as u64),
            ..Batch::default()
        }
    }
}
