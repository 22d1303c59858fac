//! Where a closed shard ends, as the manifest says it.

use hydrant_core::mutant::{self, Mutant};
use serde::{Deserialize, Serialize};

use super::control::ControlSlot;
use super::segment::{self, ListedSegment};

/// Where a closed shard ends. What lies beyond was never acknowledged there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardEnd {
    /// The number of its last segment.
    pub(crate) segment: u64,
    /// The offset of that segment's first slot.
    pub(crate) base: u64,
    /// Bytes of that segment.
    pub(crate) bytes: u64,
    /// The offset after the last slot.
    pub(crate) next_offset: u64,
    /// Records appended over the shard's life.
    pub(crate) records: u64,
    /// When the newest frame was appended, microseconds since 1970; 0 when there is none.
    pub(crate) newest_arrival: i64,
}

impl ShardEnd {
    /// At the durable end that a control file says, whose segment begins at `base`.
    pub(crate) fn at(control: &ControlSlot, base: u64) -> Self {
        ShardEnd {
            segment: control.active,
            base,
            bytes: control.durable_bytes,
            next_offset: control.next_offset,
            records: control.records,
            newest_arrival: control.newest_arrival,
        }
    }

    /// Whether all up to a durable end lies before this end, as far as can be said without reading.
    pub(crate) fn covers(&self, control: &ControlSlot, base: u64) -> bool {
        (self.segment, self.base) == (control.active, base) && control.durable_bytes <= self.bytes
    }

    /// Whether a segment holds something of the shard.
    pub(crate) fn includes(&self, listed: &ListedSegment) -> bool {
        listed.number < self.segment || (listed.number, listed.base) == (self.segment, self.base)
    }

    /// What the control file should say, given what it says; of these segments, where no slot of it is intact.
    pub(crate) fn control(
        &self,
        said: Option<ControlSlot>,
        segments: &[ListedSegment],
        incarnation: u128,
    ) -> ControlSlot {
        let said = said.unwrap_or_else(|| ControlSlot {
            first_offset: segment::kept_from(segments).unwrap_or(self.next_offset),
            ..ControlSlot::default()
        });
        let end = ControlSlot {
            counter: said.counter,
            incarnation,
            sealing: true,
            sealed: true,
            active: self.segment,
            durable_bytes: self.bytes,
            next_offset: self.next_offset,
            first_offset: said.first_offset.min(self.next_offset),
            records: self.records,
            newest_arrival: self.newest_arrival,
        };
        match mutant::is(Mutant::EndedAtControl) && said.next_offset < self.next_offset {
            true => ControlSlot {
                sealing: true,
                sealed: true,
                ..said
            },
            false => end,
        }
    }
}
