//! The provenance columns of an interval: where each row came from in the stream.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow_buffer::{Buffer, OffsetBuffer};

use super::column::end_of;

/// The facts about a record that are not in its payload.
#[derive(Clone, Copy, Debug)]
pub struct RowOrigin<'a> {
    /// The producer's stamp, in microseconds since 1970.
    pub stamp_micros: Option<i64>,
    /// When the stream took the record, in microseconds since 1970.
    pub arrival_micros: i64,
    /// The sequence number as decimal text; looked at with provenance on only.
    pub sequence: &'a str,
    /// The sub-sequence number.
    pub sub: i64,
}

/// The growing provenance columns; empty with provenance off.
#[derive(Debug, Default)]
pub(super) struct ProvenanceColumns {
    pub(super) sequences: String,
    pub(super) sequence_ends: Vec<i32>,
    pub(super) subs: Vec<i64>,
    pub(super) stamps: Vec<i64>,
}

impl ProvenanceColumns {
    /// Drops the rows from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.sequence_ends.truncate(rows);
        self.sequences.truncate(end_of(&self.sequence_ends));
        self.subs.truncate(rows);
        self.stamps.truncate(rows);
    }

    /// The columns that differ from row to row.
    pub(super) fn finish(self) -> Vec<ArrayRef> {
        let mut offsets = self.sequence_ends;
        offsets.insert(0, 0);
        let offsets = OffsetBuffer::new(offsets.into());
        let sequences =
            StringArray::try_new(offsets, Buffer::from_vec(self.sequences.into_bytes()), None)
                .expect("texts end where characters do");
        vec![
            Arc::new(sequences),
            Arc::new(Int64Array::from(self.subs)),
            Arc::new(TimestampMicrosecondArray::from(self.stamps).with_timezone("UTC")),
        ]
    }
}
